"""Pictures: decoded, turned and made smaller on their way in, and stored, replaced and removed as one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pillow_heif
import pytest
from bson import ObjectId
from PIL import Image
from pymongo.errors import OperationFailure

import gridproxy
from gridproxy import (
    AsyncGridFile,
    BadMetadata,
    BadOption,
    Bucket,
    ContentTypeRefused,
    FileInfo,
    FileMissing,
    FileOptions,
    FileRefused,
    ImageOptions,
    InfoNotLoaded,
    OutcomeUnknown,
    PictureRefused,
    TooLarge,
)
from gridproxy.gridfs.content.decoding import tiff_compression
from gridproxy.gridfs.store.collections import Store

from ..observing import Database, contents, observed

pytestmark = pytest.mark.usefixtures("connected")

ALL = ImageOptions(
    size=(300, 200), thumbnail_size=(40, 40, True), variants={"small": (100, 100), "wide": (80, 20, True)}
)


def picture(kind: str = "JPEG", size: tuple[int, int] = (400, 300), mode: str = "RGB", **saved: Any) -> bytes:
    target = BytesIO()
    Image.new(mode, size, 1 if mode == "P" else "red").save(target, kind, **saved)
    return target.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def file_of_pictures(image: ImageOptions = ALL, **options: Any) -> AsyncGridFile:
    return AsyncGridFile(options=FileOptions(image=image, **options))


async def test_a_picture_comes_with_all_that_belongs_to_it(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture(), filename="marmot.jpg", mood="calm")
    assert (photo.width, photo.height, photo.format) == (267, 200, "JPEG")
    assert (photo.content_type, photo.metadata["mood"]) == ("image/jpeg", "calm")
    assert opened(await photo.read()).size == (267, 200)
    assert opened(await photo.thumbnail.read()).size == (40, 40)
    assert (photo.thumbnail.width, photo.thumbnail.height, photo.thumbnail.format) == (40, 40, "JPEG")
    assert photo.metadata["thumbnail_id"] == photo.thumbnail.id
    assert list(photo.variants) == ["small", "wide"]
    assert photo.metadata["variants"]["small"] == photo.variants["small"].id
    assert opened(await photo.variants["small"].read()).size == (100, 75)
    assert opened(await photo.variants["wide"].read()).size == (80, 20)
    # A file with all its members, and a position of its own
    thumbnail = photo.thumbnail
    await thumbnail.seek(0)
    assert await thumbnail.read(2) == b"\xff\xd8"
    assert photo.thumbnail.tell() == 2
    assert (await thumbnail.verify()).metadata["variant_of"] == photo.id
    assert await contents(database) == (4, 4)
    # They are no revisions of it
    assert (await Bucket(database).by_name("marmot.jpg", 0)).id == photo.id


async def test_another_process_finds_them(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture())
    other = AsyncGridFile(photo.id)
    with pytest.raises(InfoNotLoaded):
        other.thumbnail  # noqa: B018  # the property is what is tried
    await other.stat()
    assert other.width == photo.width
    assert await other.thumbnail.read() == await photo.thumbnail.read()
    assert await other.variants["wide"].read() == await photo.variants["wide"].read()


async def test_a_plain_file_has_no_picture_size_and_no_variants() -> None:
    file = AsyncGridFile()
    await file.put(b"no picture")
    assert (file.width, file.height, file.format, file.variants) == (None, None, None, {})
    assert not file.thumbnail
    with pytest.raises(FileMissing):
        await file.thumbnail.read()


async def test_a_picture_of_mongoengine_is_read_and_removed(database: Database) -> None:
    files = database["fs.files"]
    bucket = Bucket(database)
    thumbnail, photo = [(await bucket.upload(data)).id for data in (b"thumbnail", b"photo")]
    measures = {"width": 4, "height": 3, "format": "PNG", "thumbnail_id": thumbnail}
    await files.update_one({"_id": photo}, {"$set": measures})
    await files.update_one({"_id": thumbnail}, {"$set": {"width": 2, "height": 1, "format": "PNG"}})
    file = AsyncGridFile(photo)
    await file.stat()
    assert (file.width, file.height, file.format) == (4, 3, "PNG")
    assert await file.thumbnail.read() == b"thumbnail"
    await file.delete()
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("way", ["delete", "replace", "bucket", "many", "by name"])
async def test_they_go_with_the_picture(way: str, database: Database) -> None:
    photo, bucket = file_of_pictures(), Bucket(database)
    await photo.put(picture(), filename="marmot.jpg")
    await bucket.upload(b"a plain one")
    left = 1
    if way == "delete":
        await photo.delete()
    elif way == "replace":
        first = photo.thumbnail.id
        await photo.replace(picture("PNG"))
        assert photo.thumbnail.id != first
        assert await contents(database) == (5, 5)
        await photo.delete()
    elif way == "bucket":
        await bucket.delete(photo.id)
    elif way == "many":
        left = 0
        assert await bucket.delete_many([info.id async for info in bucket.find({"metadata.variant_of": None})]) == 2
    else:
        await bucket.delete_by_name("marmot.jpg")
    assert await contents(database) == (left, left)


async def test_removing_a_plain_file_needs_no_further_requests(mongodb_uri: str, database: Database) -> None:
    ids = [info.id for info in await Bucket(database).upload_many([b"1", b"2", b"3"])]
    async with observed(mongodb_uri, database.name) as (other, commands):
        bucket = Bucket(other)
        await bucket.delete(ids[0])
        assert [name for name, _ in commands.seen] == ["findAndModify", "delete"]
        commands.clear()
        await bucket.delete_many(ids[1:])
        assert [name for name, _ in commands.seen] == ["find", "delete", "delete"]


@pytest.mark.parametrize("many", [True, False])
async def test_files_that_a_record_only_mentions_are_kept(many: bool, database: Database) -> None:
    bucket = Bucket(database)
    victim = await bucket.upload(b"somebody else's")
    claim = await bucket.upload(b"mine", metadata={"thumbnail_id": victim.id, "variants": {"a": victim.id, "b": None}})
    odd = await bucket.upload(b"odd", metadata={"thumbnail_id": {"$gt": 0}, "variants": [1]})
    if many:
        assert await bucket.delete_many([claim.id, odd.id]) == 2
    else:
        await bucket.delete(claim.id)
        await bucket.delete(odd.id)
    assert await bucket.read(victim.id) == b"somebody else's"
    assert await contents(database) == (1, 1)


async def test_legacy_metadata_of_null_are_no_hindrance(database: Database) -> None:
    bucket = Bucket(database)
    info = await bucket.upload(b"old")
    await database["fs.files"].update_one({}, {"$set": {"metadata": None}})
    await bucket.delete(info.id)
    assert await contents(database) == (0, 0)


# Refusals


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", picture()[:900], b"GIF89a" + bytes(9), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
)
async def test_an_undecodable_picture_is_refused(data: bytes, database: Database) -> None:
    with pytest.raises(PictureRefused, match="not a picture") as caught:
        await file_of_pictures().put(data, filename="marmot.jpg")
    assert isinstance(caught.value, FileRefused)
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("limit", [70_000, 50_000])
async def test_pillows_limit_against_bombs_is_kept(
    limit: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # of 120000, which is a warning first, and then an error
    with pytest.raises(PictureRefused, match="pixels") as caught:
        await file_of_pictures().put(picture("PNG"))
    assert caught.value.limit == limit
    assert await contents(database) == (0, 0)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
async def test_the_limit_is_no_warning_where_warnings_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70_000)
    with pytest.raises(PictureRefused) as caught:
        await file_of_pictures().put(picture("PNG"))
    assert caught.value.actual == 120_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    await file_of_pictures().put(picture("PNG"))


async def test_all_frames_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    with pytest.raises(PictureRefused) as caught:
        await file_of_pictures().put(animated())
    assert caught.value.actual == 3 * 40 * 30


async def test_limits_check_received_bytes_and_validators_stored_ones(database: Database) -> None:
    seen: list[FileInfo] = []
    data = picture()
    photo = file_of_pictures(
        max_size=len(data), content_types="image/jpeg", validators=lambda info, head: seen.append(info)
    )
    with pytest.raises(TooLarge):
        await photo.put(data + b"x")
    with pytest.raises(ContentTypeRefused):
        await photo.put(picture("GIF"), filename="marmot.jpg")
    with pytest.raises(ContentTypeRefused):
        await file_of_pictures(content_types="image/*").put(b"no picture" * 10_000, filename="marmot.jpg")
    assert seen == []
    await photo.put(data, filename="marmot.jpg")
    assert [(info.id, info.metadata["width"], info.filename) for info in seen] == [(photo.id, 267, "marmot.jpg")]
    with pytest.raises(FileRefused, match="too small"):
        await file_of_pictures(validators=[at_least_500]).put(data)
    assert await contents(database) == (4, 4)


def at_least_500(info: FileInfo, head: bytes) -> None:
    if info.metadata["width"] < 500:
        raise ValueError("too small")


async def test_without_a_limit_of_its_own_a_picture_has_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridproxy.gridfs.operations.pictures.MAX_PICTURE_BYTES", 100)
    with pytest.raises(TooLarge, match="100 bytes"):
        await file_of_pictures().put(picture())


async def test_the_content_type_is_that_of_the_stored_bytes() -> None:
    photo = file_of_pictures()
    await photo.put(picture("PNG"), filename="marmot.jpg", content_type="image/jpeg")
    assert photo.content_type == "image/png"


async def test_a_picture_is_not_written_bit_by_bit_and_not_staged(database: Database) -> None:
    photo, bucket = file_of_pictures(), Bucket(database)
    with pytest.raises(BadOption, match="put"):
        photo.new_file()
    staged = await bucket.stage(picture())
    with pytest.raises(BadOption, match="staged"):
        await photo.put(staged)
    await bucket.discard(staged)
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("key", ["width", "thumbnail_id", "variants", "variant_of"])
async def test_its_own_keys_cannot_be_given(key: str) -> None:
    with pytest.raises(BadMetadata, match=key):
        await file_of_pictures().put(picture(), metadata={key: 1})


@pytest.mark.parametrize(
    "options",
    [
        {"size": 100},
        {"size": (100,)},
        {"size": (100, 0)},
        {"size": (100, True)},
        {"thumbnail_size": (1, 2, 3)},
        {"thumbnail_size": [1, 2]},
        {"variants": [(1, 2)]},
        {"variants": {"a": None}},
        {"variants": {"a.b": (1, 2)}},
        {"variants": {7: (1, 2)}},
        {"variants": {"": (1, 2)}},
    ],
)
async def test_sizes_that_are_none_are_refused_when_they_are_declared(options: Any) -> None:
    with pytest.raises(BadOption):
        ImageOptions(**options)


async def test_options_are_options_and_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadOption, match="ImageOptions"):
        FileOptions(image=(100, 100))  # type: ignore[arg-type]  # what is refused
    assert hash(FileOptions(image=ALL)) == hash(FileOptions(image=ALL))
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(BadOption, match=r"gridproxy-mongo\[images\]"):
        ImageOptions()


# What becomes of the pixels


def animated(kind: str = "GIF") -> bytes:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    target = BytesIO()
    frames[0].save(target, kind, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=2)
    return target.getvalue()


async def test_a_picture_that_needs_no_change_is_stored_unchanged() -> None:
    for data in (picture(), picture("JPEG", progressive=True), animated(), picture("PNG", mode="P")):
        photo = file_of_pictures(ImageOptions(size=(500, 500)))
        await photo.put(data)
        assert await photo.read() == data


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
async def test_an_animation_keeps_its_frames(kind: str) -> None:
    photo = file_of_pictures(ImageOptions(size=(20, 20), thumbnail_size=(8, 8, True)))
    await photo.put(animated(kind))
    for data, size in ((await photo.read(), (20, 15)), (await photo.thumbnail.read(), (8, 8))):
        image: Any = opened(data)
        assert (image.format, image.size, image.n_frames, image.info["loop"]) == (kind, size, 3, 2)
        durations, colours = [], []
        for at in range(3):
            image.seek(at)
            image.load()
            durations.append(image.info["duration"])
            colours.append(max(range(3), key=lambda n: image.convert("RGB").getpixel((3, 3))[n]))  # called at once
        assert (durations, colours) == ([100, 200, 300], [0, 1, 2])


async def test_every_page_of_a_tiff_is_kept() -> None:
    target = BytesIO()
    pages = [Image.new("RGB", (400, 300), colour) for colour in ("red", "green")]
    pages[0].save(target, "TIFF", save_all=True, append_images=pages[1:])
    photo = file_of_pictures()
    await photo.put(target.getvalue())
    image: Any = opened(await photo.read())
    assert (image.n_frames, image.size) == (2, (267, 200))


async def test_a_progressive_jpeg_stays_one_and_another_does_not_become_one() -> None:
    for progressive in (True, False):
        photo = file_of_pictures()
        await photo.put(picture(progressive=progressive))
        for data in (await photo.read(), await photo.thumbnail.read()):
            assert bool(opened(data).info.get("progressive")) is progressive


def turned() -> bytes:
    """400 by 300, red at the left; a viewer is told to turn it to the right."""
    image = Image.new("RGB", (400, 300), "blue")
    image.paste("red", (0, 0, 200, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Marmot Cameras"
    target = BytesIO()
    image.save(target, "JPEG", exif=exif, icc_profile=b"a profile")
    return target.getvalue()


async def test_a_picture_is_turned_upright() -> None:
    photo = file_of_pictures(ImageOptions(thumbnail_size=(30, 40)))
    await photo.put(turned())
    image, thumbnail = opened(await photo.read()), opened(await photo.thumbnail.read())
    assert (photo.width, photo.height) == image.size == (300, 400)
    for each in (image, thumbnail):
        assert each.getexif().get(0x0112, 1) == 1
        top, bottom = (each.getpixel((each.width // 2, y)) for y in (1, each.height - 2))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert (top[0] > 200, top[2] > 50) == (True, False)
        assert (bottom[2] > 200, bottom[0] > 50) == (True, False)
        assert each.info["icc_profile"] == b"a profile"
    assert image.getexif()[0x010F] == "Marmot Cameras"
    assert 0x010F not in thumbnail.getexif()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("JPEG2000", "RGB"),
        ("WEBP", "RGBA"),
    ],
)
async def test_kinds_of_pictures(kind: str, mode: str) -> None:
    target = BytesIO()
    Image.new(mode, (400, 300)).save(target, kind)
    photo = file_of_pictures()
    await photo.put(target.getvalue())
    image = opened(await photo.read())
    assert (image.format, image.size) == (kind, (267, 200))
    assert (photo.format, photo.content_type) == (kind, Image.MIME[kind])


async def test_a_transparent_palette_stays_transparent() -> None:
    image = Image.new("P", (400, 300), 1)
    target = BytesIO()
    image.save(target, "PNG", transparency=1)
    photo = file_of_pictures()
    await photo.put(target.getvalue())
    assert opened(await photo.thumbnail.read()).mode == "RGBA"


async def test_a_phones_two_pictures_in_one_file_are_a_jpeg() -> None:
    target = BytesIO()
    second = Image.new("RGB", (40, 30))
    Image.new("RGB", (400, 300)).save(target, "MPO", save_all=True, append_images=[second])
    photo = file_of_pictures()
    await photo.put(target.getvalue())
    assert (photo.format, photo.content_type) == ("JPEG", "image/jpeg")


# Failures


@pytest.mark.parametrize("failing", range(4))
async def test_a_failure_anywhere_leaves_none_of_them(
    failing: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = file_of_pictures()
    await photo.put(picture("PNG"))
    before = photo.id
    real, calls = Store.insert_small_files, iter(range(10))

    async def refused(self: Store, *arguments: Any) -> None:
        if next(calls) == failing:
            raise OperationFailure("not today", 1)
        await real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert_small_files", refused)
        with pytest.raises(OperationFailure, match="not today"):
            await photo.replace(picture())
    assert photo.id == before
    assert photo.format == "PNG"
    assert await contents(database) == (4, 4)
    assert await photo.thumbnail.exists()


@pytest.mark.parametrize("cancelled_at", range(4))
async def test_a_cancellation_anywhere_leaves_none_of_them(
    cancelled_at: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Store.insert_small_files, iter(range(10))

    async def cancelling(self: Store, *arguments: Any) -> None:
        if next(calls) == cancelled_at:
            putting.cancel()
        await real(self, *arguments)

    monkeypatch.setattr(Store, "insert_small_files", cancelling)
    putting = asyncio.ensure_future(file_of_pictures().put(picture()))
    await asyncio.wait({putting})
    assert putting.cancelled()
    assert await contents(database) == (0, 0)


async def test_a_clean_up_that_fails_is_noted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Store.insert_small_files, iter(range(10))

    async def refused(self: Store, *arguments: Any) -> None:
        if next(calls) == 3:
            raise OperationFailure("not today", 1)
        await real(self, *arguments)

    async def fails(*arguments: Any) -> None:
        raise OperationFailure("nor this", 1)

    monkeypatch.setattr(Store, "insert_small_files", refused)
    monkeypatch.setattr(Store, "delete_records", fails)
    with pytest.raises(OperationFailure, match="not today") as caught:
        await file_of_pictures().put(picture())
    assert any("nor this" in note for note in caught.value.__notes__)


async def unanswered(database: Database, monkeypatch: pytest.MonkeyPatch, which: int) -> OutcomeUnknown:
    real, calls = Store.insert_small_files, iter(range(10))

    async def unknown(self: Store, chunks: Any, records: Any) -> None:
        await real(self, chunks, records)
        if next(calls) == which:
            raise OutcomeUnknown(records[0]["_id"])

    monkeypatch.setattr(Store, "insert_small_files", unknown)
    with pytest.raises(OutcomeUnknown) as caught:
        await file_of_pictures().put(picture())
    return caught.value


async def test_a_picture_with_unknown_outcome_keeps_its_variants(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await unanswered(database, monkeypatch, 3)
    photo = AsyncGridFile(error.id)
    await photo.stat()
    assert await photo.thumbnail.exists()
    assert await contents(database) == (4, 4)


async def test_a_variant_that_may_be_there_is_all_that_is_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await unanswered(database, monkeypatch, 1)
    assert await contents(database) == (1, 1)
    assert (await Bucket(database).stat(error.id)).metadata["variant_of"]


async def test_an_id_in_use_keeps_the_file_and_leaves_no_variants(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture(), id="marmot")
    with pytest.raises(gridproxy.FileAlreadyStored):
        await file_of_pictures().put(picture(), id="marmot")
    assert await contents(database) == (4, 4)
    assert await photo.thumbnail.exists()


async def test_a_copy_has_copies_of_all_that_belongs_to_it(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture(), mood="calm")
    wide = photo.variants["wide"]
    await photo.variants["small"].delete()
    copy = await photo.copy(filename="copy.jpg")
    await photo.delete()
    assert (copy.width, copy.format, copy.metadata["mood"]) == (267, "JPEG", "calm")
    assert not await copy.variants["small"].exists()
    assert opened(await copy.thumbnail.read()).size == (40, 40)
    assert copy.variants["wide"].id != wide.id
    assert await contents(database) == (3, 3)
    await copy.delete()
    assert await contents(database) == (0, 0)


async def test_a_copy_takes_nothing_that_is_only_named(database: Database) -> None:
    bucket = Bucket(database)
    other = await bucket.upload(b"somebody else's")
    claim = await bucket.upload(b"mine", metadata={"thumbnail_id": other.id})
    assert (await bucket.copy(claim.id)).metadata["thumbnail_id"] == other.id
    odd = await bucket.upload(b"odd", metadata={"thumbnail_id": {"$gt": 0}, "variants": [1]})
    assert (await bucket.copy(odd.id)).metadata["variants"] == [1]
    await bucket.update_metadata(other.id, variant_of=claim.id)
    assert "variant_of" not in (await bucket.copy(other.id)).metadata
    assert (await bucket.copy(claim.id, metadata={"a": 1})).metadata.keys() == {"a", "sha256"}
    assert await contents(database) == (7, 7)


@pytest.mark.parametrize("failing", range(4))
async def test_a_copy_that_fails_leaves_none_of_them(
    failing: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = file_of_pictures()
    await photo.put(picture())
    real, calls = Store.insert_record, iter(range(10))

    async def refused(self: Store, *arguments: Any) -> None:
        if next(calls) == failing:
            raise OperationFailure("not today", 1)
        await real(self, *arguments)

    monkeypatch.setattr(Store, "insert_record", refused)
    with pytest.raises(OperationFailure, match="not today"):
        await photo.copy()
    assert await contents(database) == (4, 4)


async def test_a_copy_with_unknown_outcome_keeps_its_variants(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = file_of_pictures(ImageOptions(thumbnail_size=(9, 9)))
    await photo.put(picture())
    real, calls = Store.insert_record, iter(range(10))

    async def unknown(self: Store, record: Any, *arguments: Any) -> None:
        await real(self, record, *arguments)
        if next(calls) == 1:
            raise OutcomeUnknown(record["_id"])

    monkeypatch.setattr(Store, "insert_record", unknown)
    with pytest.raises(OutcomeUnknown) as caught:
        await photo.copy()
    copy = AsyncGridFile(caught.value.id)
    await copy.stat()
    assert await copy.thumbnail.read() == await photo.thumbnail.read()
    assert await contents(database) == (4, 4)


async def test_a_page_of_thumbnails_is_prefetched(mongodb_uri: str, database: Database) -> None:
    photos = [file_of_pictures(ImageOptions(thumbnail_size=(9, 9), variants={"small": (20, 20)})) for _ in range(3)]
    for photo in photos:
        await photo.put(picture())
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            found = [AsyncGridFile(photo.id) for photo in photos]
            documents = [{"photo": file} for file in [*found, AsyncGridFile(ObjectId()), AsyncGridFile()]]
            await gridproxy.prefetch(documents, "photo.thumbnail", "photo.variants.small", content=True)
            assert [name for name, _ in commands.seen] == ["find", "find", "find"]
            commands.clear()
            for file in found:
                assert opened(await file.thumbnail.read()).size == (9, 7)
                assert opened(await file.variants["small"].read()).size == (20, 15)
            assert not commands.seen


async def test_pictures_expire_as_one(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture(), expires_after=-1)
    assert await database["fs.files"].count_documents({"expires_at": photo.state.known("it").expires_at}) == 4


async def test_a_transaction_that_is_aborted_leaves_no_record_of_them(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture("PNG"))
    async with database.client.start_session() as session:
        await session.start_transaction()
        other = AsyncGridFile(photo.id)
        await other.delete(session=session)
        assert await database["fs.files"].count_documents({}, session=session) == 0
        new = file_of_pictures()
        await new.put(picture(), session=session)
        assert await database["fs.files"].count_documents({}, session=session) == 4
        await session.abort_transaction()
    assert (await contents(database))[0] == 4
    assert await photo.thumbnail.read()
    assert opened(await photo.read()).format == "PNG"


async def test_in_a_transaction_of_ours_they_come_and_go_with_it(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture("PNG"))
    with pytest.raises(ZeroDivisionError):
        async with gridproxy.transaction(database.client) as tx:
            await photo.replace(picture(), session=tx.session)
            assert photo.format == "JPEG"
            raise ZeroDivisionError
    assert photo.format == "PNG"
    assert opened(await photo.thumbnail.read()).format == "PNG"
    assert await contents(database) == (4, 4)
    async with gridproxy.transaction(database.client) as tx:
        await photo.replace(picture(), session=tx.session)
    assert opened(await photo.thumbnail.read()).format == "JPEG"
    assert await contents(database) == (4, 4)
    async with gridproxy.transaction(database.client) as tx:
        assert await Bucket(database).delete_many([photo.id], session=tx.session) == 1
    assert await contents(database) == (0, 0)


async def test_the_check_counts_variants_as_referenced(database: Database) -> None:
    photo = file_of_pictures()
    await photo.put(picture())
    await database["zoo"].insert_one({"photo": photo.id})
    findings = [each async for each in Bucket(database).check(references=[("zoo", "photo")])]
    assert findings == []
    await database["zoo"].update_one({}, {"$set": {"photo": None}})
    findings = [each async for each in Bucket(database).check(references=[("zoo", "photo")])]
    assert {each.kind for each in findings} == {"unreferenced"}
    assert len(findings) == 4  # the picture, and what nothing but it points to


async def test_the_sweep_takes_an_expired_picture_and_all_of_it(database: Database) -> None:
    await file_of_pictures().put(picture(), expires_after=-1)
    await Bucket(database).collect_garbage(dry_run=False)
    assert await contents(database) == (0, 0)


# Formats and limits


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize(
    "compression",
    [
        *("raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate"),
        *("packbits", "lzma", "zstd", "webp"),
    ],
)
async def test_a_tiff_of_every_compression_that_pillow_writes_is_resized(compression: str, mode: str) -> None:
    try:
        data = picture("TIFF", mode=mode, compression=compression)
    except (OSError, SystemError):
        pytest.skip("Pillow cannot write it")
    photo = file_of_pictures()
    await photo.put(data)
    assert (photo.width, photo.height, photo.format) == (267, 200, "TIFF")
    opened(await photo.read()).load()
    assert opened(await photo.thumbnail.read()).size == (40, 40)
    small = file_of_pictures(ImageOptions())
    await small.put(data)
    assert await small.read() == data


@pytest.mark.parametrize("compression", ["tiff_thunderscan", "tiff_sgilog", "tiff_sgilog24", "tiff_raw_16", None])
async def test_a_compression_that_can_only_be_decoded_is_replaced(compression: str | None) -> None:
    assert tiff_compression(compression, [Image.new("RGB", (1, 1))]) == "tiff_adobe_deflate"


@pytest.fixture
def heif_opener() -> Iterator[None]:
    kept = dict(Image.OPEN), dict(Image.SAVE), list(Image.ID), dict(Image.MIME), dict(Image.EXTENSION)
    pillow_heif.register_heif_opener()
    yield
    Image.OPEN, Image.SAVE, Image.ID, Image.MIME, Image.EXTENSION = kept


def high_efficiency() -> bytes:
    target = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (400, 300), "red")).save(target)
    return target.getvalue()


@pytest.mark.usefixtures("heif_opener")
@pytest.mark.parametrize("encoder", [True, False])
async def test_heic_is_a_picture_if_an_opener_is_registered(encoder: bool) -> None:
    if not encoder:
        del Image.SAVE["HEIF"]
    photo = file_of_pictures(ImageOptions(thumbnail_size=(40, 30)))
    await photo.put(high_efficiency(), filename="a.heic")
    assert (photo.width, photo.format, photo.content_type) == (400, "HEIF", "image/heic")
    await photo.thumbnail.stat()
    expected = ("HEIF", "image/heif") if encoder else ("JPEG", "image/jpeg")
    assert (photo.thumbnail.format, photo.thumbnail.content_type) == expected
    assert opened(await photo.thumbnail.read()).size == (40, 30)
    resized = file_of_pictures(ImageOptions(size=(200, 200)), content_types="image/heic")
    await resized.put(high_efficiency())
    assert (resized.width, resized.format) == (200, expected[0])


async def test_heic_without_an_opener_is_refused_by_its_name() -> None:
    with pytest.raises(PictureRefused) as caught:
        await file_of_pictures().put(high_efficiency())
    assert "although it looks like a HEIC image" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"II*\0" + bytes(9)])
async def test_a_refusal_has_no_address_in_it(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="not a picture that can be decoded") as caught:
        await file_of_pictures().put(data)
    assert "0x" not in str(caught.value)
    with pytest.raises(PictureRefused, match=r"'a\.png' is not a picture"):
        await file_of_pictures().put(data, filename="a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16", "CMYK"])
@pytest.mark.parametrize(
    ("asked", "kind", "content_type"),
    [
        ("webp", "WEBP", "image/webp"),
        ("AVIF", "AVIF", "image/avif"),
        ("jpg", "JPEG", "image/jpeg"),
        ("PNG", "PNG", "image/png"),
    ],
)
async def test_variants_have_the_format_of_the_options(mode: str, asked: str, kind: str, content_type: str) -> None:
    original = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    data = picture(original, mode=mode)
    photo = file_of_pictures(
        ImageOptions(thumbnail_size=(40, 30), variants={"full": (999, 999)}, format=asked, quality=50)
    )
    await photo.put(data)
    assert (photo.format, await photo.read()) == (original, data)
    await photo.thumbnail.stat()
    assert (photo.thumbnail.format, photo.thumbnail.content_type) == (kind, content_type)
    assert opened(await photo.thumbnail.read()).format == kind
    assert opened(await photo.variants["full"].read()).size == (400, 300)


async def test_an_animation_is_a_still_variant_in_a_format_without_frames() -> None:
    photo = file_of_pictures(ImageOptions(thumbnail_size=(20, 20), format="JPEG"))
    await photo.put(animated())
    assert (photo.format, (await photo.thumbnail.stat()).metadata["format"]) == ("GIF", "JPEG")


async def test_quality_makes_variants_smaller() -> None:
    noise = BytesIO()
    Image.effect_noise((200, 200), 90).save(noise, "PNG")
    sizes = []
    for quality in (90, 20):
        photo = file_of_pictures(ImageOptions(thumbnail_size=(150, 150), format="WEBP", quality=quality))
        await photo.put(noise.getvalue())
        sizes.append((await photo.thumbnail.stat()).length)
    assert sizes[1] < sizes[0] / 2


async def test_max_pixels_is_a_limit_of_its_own(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PictureRefused, match="120000 pixels in all frames, more than the 119999 allowed here"
    ) as caught:
        await file_of_pictures(ImageOptions(max_pixels=119_999)).put(picture("PNG"))
    assert (caught.value.limit, caught.value.actual) == (119_999, 120_000)
    assert await contents(database) == (0, 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    await file_of_pictures(ImageOptions(max_pixels=120_000)).put(picture("PNG"))


async def test_the_pages_of_a_tiff_are_measured_one_by_one() -> None:
    target = BytesIO()
    pages = [Image.new("L", (300, 300)) for _ in range(3)]
    Image.new("L", (1, 1)).save(target, "TIFF", save_all=True, append_images=pages)
    with pytest.raises(PictureRefused) as caught:
        await file_of_pictures(ImageOptions(max_pixels=200_000)).put(target.getvalue())
    assert caught.value.actual == 270_001


@pytest.mark.parametrize(
    "options",
    [
        {"max_pixels": 0},
        {"max_pixels": True},
        {"max_pixels": 1.5},
        {"max_frames": 0},
        {"max_frames": None},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": None},
        {"quality": 0},
        {"quality": 101},
        {"quality": "90"},
        {"format": "EPS"},
        {"format": "image/webp"},
        {"format": 7},
    ],
)
async def test_a_limit_a_quality_or_a_format_that_is_not_valid_is_refused(options: Any) -> None:
    with pytest.raises(BadOption, match=next(iter(options))):
        ImageOptions(**options)
