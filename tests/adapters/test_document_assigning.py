"""FileField: what can be assigned, content and references, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest
from bson import ObjectId
from starlette.datastructures import UploadFile

import gridproxy
from gridproxy import AsyncGridFile, BadId, BadSource, Bucket, UploadInProgress, ValidationError

from ..observing import Database, contents, observed
from .zoo import Animal, found, stored

pytestmark = pytest.mark.usefixtures("connected")


# Assigning content


async def async_pieces() -> AsyncIterator[bytes]:
    yield b"con"
    yield b"tent"


CONTENT: dict[str, Any] = {
    "bytes": lambda path: b"content",
    "bytearray": lambda path: bytearray(b"content"),
    "memoryview": lambda path: memoryview(b"content"),
    "a path": lambda path: path,
    "an open file": lambda path: io.BytesIO(b"content"),
    "an upload": lambda path: UploadFile(io.BytesIO(b"content")),
    "an async file": lambda path: anyio.wrap_file(io.BytesIO(b"content")),
    "a list": lambda path: [b"con", b"tent"],
    "a generator": lambda path: (piece for piece in (b"con", b"tent")),
    "an async generator": lambda path: async_pieces(),
}


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.parametrize("in_constructor", [False, True])
async def test_content_can_be_assigned_and_is_stored_by_the_save(
    kind: str, in_constructor: bool, tmp_path: Path, mongodb_uri: str, database: Database
) -> None:
    path = tmp_path / "marmot.jpg"
    path.write_bytes(b"content")
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            content = CONTENT[kind](path)
            animal = Animal(photo=content) if in_constructor else Animal()
            if not in_constructor:
                animal.photo = content
            assert not animal.photo
            await asyncio.sleep(0)
            assert commands.seen == []
            await animal.save()
    assert await animal.photo.read() == b"content"
    assert await (await found()).photo.read() == b"content"
    if kind == "a path":
        assert (animal.photo.filename, animal.photo.content_type) == ("marmot.jpg", "image/jpeg")


async def test_an_aiofiles_file_can_be_assigned(tmp_path: Path) -> None:
    (tmp_path / "marmot.jpg").write_bytes(b"content")
    async with aiofiles.open(tmp_path / "marmot.jpg", "rb") as file:
        animal = await stored(photo=file)
    assert await animal.photo.read() == b"content"


async def test_a_staged_upload_can_be_assigned(database: Database) -> None:
    staged = await Bucket(database).stage(b"staged", filename="staged.txt")
    animal = await stored(photo=staged)
    assert animal.photo.id == staged.id
    assert await animal.photo.read() == b"staged"


async def test_a_bytearray_is_copied_on_assignment() -> None:
    buffer = bytearray(b"before")
    animal = Animal(photo=buffer)
    buffer[:] = b"after!"
    await animal.save()
    assert await animal.photo.read() == b"before"


@pytest.mark.parametrize("value", [7, 7.5, "no id", "", {"$gt": ""}, {"_id": ObjectId()}, object(), io.StringIO("x")])
async def test_a_value_that_is_not_a_file_is_refused_and_changes_nothing(value: Any) -> None:
    animal = await stored(photo=b"the photo")
    with pytest.raises(ValidationError) as caught:
        animal.photo = value
    assert caught.value.field == "photo"
    assert isinstance(caught.value.__cause__, (BadId, BadSource))
    assert await animal.photo.read() == b"the photo"


async def test_assigned_content_cannot_be_read_before_it_is_saved() -> None:
    animal = await stored(photo=b"the old")
    animal.photo = b"the new"
    for call in (animal.photo.read, animal.photo.stat, animal.photo.copy):
        with pytest.raises(UploadInProgress, match="save the document, or put"):
            await call()
    with pytest.raises(UploadInProgress):
        animal.photo.stream()
    await animal.save()
    assert await animal.photo.read() == b"the new"


async def test_assigned_content_replaces_the_file_which_is_removed_after_the_save(database: Database) -> None:
    animal = await stored(photo=b"the old")
    photo = animal.photo
    animal.photo = b"never stored"
    animal.photo = b"the new"
    assert animal.photo is photo
    assert await (await found()).photo.read() == b"the old"
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_a_put_after_an_assignment_wins(database: Database) -> None:
    animal = Animal(photo=b"assigned")
    await animal.photo.put(b"put")
    await animal.save()
    assert await (await found()).photo.read() == b"put"
    assert await contents(database) == (1, 1)


async def test_content_is_refused_while_the_file_is_being_written() -> None:
    animal = Animal()
    async with animal.photo.new_file():
        with pytest.raises(UploadInProgress):
            animal.photo = b"content"
        animal.photo.write(b"written")
    await animal.save()
    assert await animal.photo.read() == b"written"


async def test_content_whose_source_fails_stores_nothing_and_can_be_assigned_again(database: Database) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half of it"
        raise OSError("the disk is gone")

    animal = await stored(photo=b"the old", genus="Marmota")
    animal.genus = "Pika"
    animal.photo = broken()
    with pytest.raises(OSError, match="the disk is gone"):
        await animal.save()
    with pytest.raises(BadSource, match="assign it again"):
        await animal.save()
    assert (await found()).genus == "Marmota"
    assert await (await found()).photo.read() == b"the old"
    assert await contents(database) == (1, 1)
    animal.photo = b"whole"
    await animal.save()
    assert await (await found()).photo.read() == b"whole"
    assert await contents(database) == (1, 1)


async def test_an_open_file_read_in_part_by_a_failed_save_is_never_stored_in_part(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = Animal(photo=io.BytesIO(b"0123456789"), genus="Marmota")
    with monkeypatch.context() as patched:
        patched.setattr("gridproxy.gridfs.upload.sources._READ_BYTES", 4)
        patched.setattr("gridproxy.gridfs.upload.upload.Upload.flow", _fails)
        with pytest.raises(OSError, match="the network is gone"):
            await animal.save()
    with pytest.raises(BadSource, match="BytesIO"):
        await animal.save()
    assert await Animal.objects.count() == 0
    assert await contents(database) == (0, 0)


async def _fails(*_: Any) -> None:
    raise OSError("the network is gone")


async def test_content_that_no_save_has_read_yet_can_be_saved_again(database: Database) -> None:
    animal = Animal(photo=iter([b"once"]), genus="Marmota")
    gridproxy.disconnect()
    with pytest.raises(gridproxy.NotConnected):
        await animal.save()
    gridproxy.connect(database)
    await animal.save()
    assert await animal.photo.read() == b"once"


# Assigning references


async def test_an_id_or_its_hex_or_none_moves_the_reference_and_removes_nothing(database: Database) -> None:
    info = await Bucket(database).upload(b"another")
    animal = await stored(photo=b"the photo")
    first = animal.photo.id
    for value in (info.id, str(info.id)):
        animal.photo = value
        assert animal.photo.id == info.id
        await animal.save()
        assert await (await found()).photo.read() == b"another"
    animal.photo = None
    assert not animal.photo
    await animal.save()
    assert not (await found()).photo
    assert await AsyncGridFile(first).exists()
    assert await AsyncGridFile(info.id).exists()


async def test_a_file_can_be_assigned_and_is_the_same_object(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the photo")
    animal = await stored(photo=photo)
    assert animal.photo is photo
    assert await (await found()).photo.read() == b"the photo"
    assert await contents(database) == (1, 1)


async def test_a_file_of_another_bucket_is_refused() -> None:
    photo = AsyncGridFile()
    await photo.put(b"x")
    animal = Animal(sound=b"a whistle")
    for value in (photo, AsyncGridFile(photo.id), AsyncGridFile(photo.id, bucket="sounds", alias="elsewhere")):
        with pytest.raises(ValidationError, match="is in bucket") as caught:
            animal.sound = value
        assert caught.value.field == "sound"
    await animal.save()
    assert await animal.sound.read() == b"a whistle"


async def test_a_file_of_the_same_bucket_with_other_options_is_accepted(database: Database) -> None:
    await Bucket(database).upload(b"by name", filename="marmot.jpg")
    photo = await Bucket(database).by_name("marmot.jpg")
    animal = await stored(photo=photo)
    assert animal.photo is photo
    assert await (await found()).photo.read() == b"by name"
    animal.photo = AsyncGridFile(photo.id, bucket="fs", alias="default")
    with pytest.raises(ValidationError, match="is in bucket"):
        animal.sound = photo
    gridproxy.disconnect()
    with pytest.raises(ValidationError, match="is in bucket"):
        animal.photo = AsyncGridFile(photo.id, bucket=Bucket(database))


async def test_a_file_of_a_document_that_was_never_stored_can_move_to_another(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old")
    with pytest.raises(ValidationError, match="genus"):
        Animal(photo=photo, genus=7)
    gc.collect()
    animal = await stored(photo=photo)
    await photo.replace(b"the new")
    await animal.save()
    assert await animal.photo.read() == b"the new"
    assert await contents(database) == (2, 2)  # a file that was assigned may be another document's


async def test_a_file_of_a_stored_document_is_shared_after_that_document_is_collected() -> None:
    photo = (await stored(photo=b"the old")).photo
    old = photo.id
    gc.collect()
    animal = await Animal(photo=photo).save()
    await photo.replace(b"the new")
    await animal.save()
    assert await AsyncGridFile(old).exists()


async def test_an_empty_file_gets_the_bucket_of_the_field(database: Database) -> None:
    sound = AsyncGridFile()
    animal = Animal(sound=sound)
    await sound.put(b"a whistle")
    await animal.save()
    assert await contents(database, "sounds") == (1, 1)
    assert await (await found()).sound.read() == b"a whistle"


async def test_an_empty_file_that_another_field_holds_stays_with_that_field() -> None:
    animal = Animal()
    with pytest.raises(ValidationError, match="is in bucket 'fs'"):
        animal.sound = animal.photo


async def test_a_file_being_put_elsewhere_is_refused() -> None:
    photo = AsyncGridFile()
    task = asyncio.create_task(photo.put(b"x"))
    await asyncio.sleep(0)
    with pytest.raises(ValidationError, match="is in bucket"):
        Animal(sound=photo)
    await task
