"""Pictures as fields: MongoEngine's `ImageField` in the built-in Document, `FileOptions(image=...)` anywhere else."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import pytest
from PIL import Image
from pydantic import BaseModel

import gridproxy
from gridproxy import AsyncGridFile, BadOption, Bucket, FileOptions, ImageOptions, PictureRefused
from gridproxy.adapters.document import Document, FileField, ImageField, ListField

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")


class Animal(Document):
    photo = ImageField(size=(300, 200), thumbnail_size=(40, 40, True), max_size=100_000)
    album = ListField(ImageField(variants={"small": (20, 20)}, on_delete="delete"))
    shown = ImageField(thumbnail_size=(10, 10), store="snapshot", on_delete="delete")


def picture(kind: str = "JPEG", size: tuple[int, int] = (400, 300)) -> bytes:
    target = BytesIO()
    Image.new("RGB", size, "green").save(target, kind)
    return target.getvalue()


async def size_of(file: AsyncGridFile) -> tuple[int, int]:
    return Image.open(BytesIO(await file.read())).size


async def test_a_field_of_pictures_reads_as_mongoengines(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "marmot.jpg"
    path.write_bytes(picture())
    marmot = Animal()
    with path.open("rb") as marmot_photo:
        await marmot.photo.put(marmot_photo, content_type="image/jpeg")
    await marmot.save()
    marmot = await Animal.objects.get()
    await marmot.photo.read()
    assert (marmot.photo.width, marmot.photo.height, marmot.photo.format) == (267, 200, "JPEG")
    assert (marmot.photo.filename, marmot.photo.content_type) == ("marmot.jpg", "image/jpeg")
    assert await size_of(marmot.photo.thumbnail) == (40, 40)


@pytest.mark.parametrize("way", ["replace", "assign"])
async def test_the_save_removes_the_old_picture_with_its_thumbnail_and_variants(way: str, database: Database) -> None:
    marmot = await Animal(photo=picture()).save()
    old = marmot.photo.thumbnail
    if way == "replace":
        await marmot.photo.replace(picture("PNG"))
        assert await contents(database, "images") == (4, 4)
        assert await old.exists()
    else:
        marmot.photo = picture("PNG")
    await marmot.save()
    assert marmot.photo.format == "PNG"
    assert not await old.exists()
    assert await contents(database, "images") == (2, 2)
    await marmot.photo.replace(picture("GIF"))
    await marmot.photo.revert()
    assert await contents(database, "images") == (2, 2)
    assert await marmot.photo.thumbnail.exists()


async def test_deleting_a_document_deletes_its_pictures(database: Database) -> None:
    marmot = await Animal(album=[picture(), picture("PNG")], shown=picture()).save()
    assert await contents(database, "images") == (6, 6)
    assert await size_of(marmot.album[1].variants["small"]) == (20, 15)
    await marmot.delete()
    assert await contents(database, "images") == (0, 0)


async def test_a_snapshot_has_the_size_and_the_thumbnail(database: Database) -> None:
    await Animal(shown=picture()).save()
    marmot = await Animal.objects.get()
    assert (marmot.shown.width, marmot.shown.height, marmot.shown.format) == (400, 300, "JPEG")
    assert await size_of(marmot.shown.thumbnail) == (10, 8)


async def test_a_refusal_names_the_field(database: Database) -> None:
    marmot = Animal(photo=b"no picture")
    with pytest.raises(PictureRefused, match=r"^photo: ") as caught:
        await marmot.save()
    assert caught.value.field == "photo"
    with pytest.raises(gridproxy.TooLarge, match=r"^photo: "):
        await marmot.photo.replace(picture("BMP", (800, 600)))
    assert await contents(database, "images") == (0, 0)


async def test_an_image_field_accepts_the_options_of_a_file_field() -> None:
    field = ImageField(size=(9, 9), bucket="photos", max_size=5, required=True)
    assert field.required
    assert field.options == FileOptions(bucket="photos", max_size=5, image=ImageOptions(size=(9, 9)))
    assert isinstance(field, FileField)


# Anywhere else

PICTURE = FileOptions(image=ImageOptions(thumbnail_size=(20, 20), variants={"small": (50, 50)}))


class Post(BaseModel):
    photo: Annotated[AsyncGridFile, PICTURE]
    more: Annotated[list[AsyncGridFile], PICTURE] = []


async def test_in_a_model_of_pydantics(database: Database) -> None:
    post = Post()  # type: ignore[call-arg]  # a field of files is always there
    await post.photo.put(picture())
    assert await size_of(post.photo.thumbnail) == (20, 15)
    again = Post.model_validate(post.model_dump())
    await again.photo.stat()
    assert await size_of(again.photo.variants["small"]) == (50, 38)
    with pytest.raises(PictureRefused):
        await again.photo.replace(b"no picture")
    await again.photo.replace(picture("PNG"))
    await again.photo.finalize()
    assert await contents(database) == (3, 3)


async def test_a_bare_file_with_options(database: Database) -> None:
    file: Any = AsyncGridFile(options=FileOptions(bucket=Bucket(database, "photos"), image=ImageOptions()))
    await file.put(picture())
    assert (file.width, file.thumbnail.id) == (400, None)
    assert await contents(database, "photos") == (1, 1)


class Limited(BaseModel):
    photo: Annotated[AsyncGridFile, FileOptions(max_size=5)]
    more: list[Annotated[AsyncGridFile, FileOptions(max_size=5)]] = []


async def test_a_refusal_names_the_field_of_a_model(database: Database) -> None:
    model = Limited.model_validate({"more": [b"too much", None]})
    with pytest.raises(gridproxy.TooLarge, match=r"^photo: ") as caught:
        await model.photo.put(b"too much")
    assert caught.value.field == "photo"
    with pytest.raises(gridproxy.TooLarge, match=r"^more: "):
        await model.more[1].put(b"too much")
    assert model.photo.options == FileOptions(max_size=5)
    assert await contents(database) == (0, 0)


class Wrapping:
    def __init__(self) -> None:
        self.photo_id: object = None

    photo = gridproxy.wrap_field(
        "photo_id",
        image=ImageOptions(thumbnail_size=(20, 20)),
        content_types="image/*",
        validators=lambda info, head: None,
    )


async def test_a_wrapped_attribute_holds_pictures(database: Database) -> None:
    owner = Wrapping()
    await owner.photo.put(picture())
    assert owner.photo_id == owner.photo.id
    assert await size_of(owner.photo.thumbnail) == (20, 15)
    with pytest.raises(gridproxy.ContentTypeRefused):
        await owner.photo.replace(b"no picture")
    await owner.photo.delete()
    assert await contents(database) == (0, 0)


async def test_an_image_field_takes_every_option_of_pictures() -> None:
    field = ImageField(max_pixels=1000, format="PNG", quality=80)
    assert field.options.image == ImageOptions(max_pixels=1000, format="PNG", quality=80)
    with pytest.raises(BadOption, match="quality"):
        ImageField(quality=101)
