"""The quickstart, run as it is written, and what it implies."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from gridproxy import AsyncGridFile, FileAlreadyStored
from gridproxy.adapters.document import Document, FileField, StringField

from ..observing import Database, contents, orphans

JPEG = b"\xff\xd8\xff\xe0" + b"a marmot, whistling" * 40_000
PNG = b"\x89PNG\r\n" + b"another marmot" * 40_000

MODEL = """
class Animal(Document):
    genus = StringField()
    family = StringField()
    photo = FileField()
"""

PUT = """
marmot = Animal(genus='Marmota', family='Sciuridae')
marmot_photo = open('marmot.jpg', 'rb')
await marmot.photo.put(marmot_photo, content_type='image/jpeg')
await marmot.save()
"""

READ = """
marmot = await Animal.objects(genus='Marmota').first()
photo = await marmot.photo.read()
content_type = marmot.photo.metadata['content_type']
"""

WRITE = """
await marmot.photo.new_file()                    # on an empty field
await marmot.photo.write('some_image_data')      # str is encoded (utf-8 unless told otherwise)
await marmot.photo.write('some_more_image_data')
await marmot.photo.close()
await marmot.save()
"""

WRITE_IN_A_BLOCK = """
async with marmot.photo.new_file():              # new_file() is awaitable AND an async context manager
    marmot.photo.write(b'some-data')             # un-awaited write is legal: the bytes are taken at the call
await marmot.save()
"""

DELETE = """
await marmot.photo.delete()
"""

REPLACE = """
await marmot.photo.replace(another_marmot, content_type='image/png')
"""


class Animal(Document):
    genus = StringField()
    family = StringField()
    photo = FileField()


pytestmark = pytest.mark.usefixtures("connected")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("marmot.jpg").write_bytes(JPEG)
    Path("another_marmot.png").write_bytes(PNG)


async def run(fragment: str, names: dict[str, Any]) -> None:
    """Run a fragment as if it stood in a coroutine."""
    result = eval(compile(fragment, "the chapter", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(result):
        await result


async def saved_marmot() -> Animal:
    """As another process would find it."""
    return await Animal.objects(genus="Marmota").get()


@pytest.fixture
def names() -> dict[str, Any]:
    return {
        "Document": Document,
        "StringField": StringField,
        "FileField": FileField,
        "__name__": "the_chapter",
    }


@pytest.mark.usefixtures("pictures")
async def test_the_model_put_and_read_of_the_quickstart_run(names: dict[str, Any]) -> None:
    await run(MODEL, names)
    await run(PUT, names)
    assert not names["marmot_photo"].closed
    names["marmot_photo"].close()
    names.pop("marmot")

    await run(READ, names)

    assert names["photo"] == JPEG
    assert names["content_type"] == "image/jpeg"
    assert names["marmot"].photo.filename == "marmot.jpg"


async def test_new_file_write_and_close_of_the_quickstart_run(names: dict[str, Any], database: Database) -> None:
    await run(MODEL, names)
    names["marmot"] = names["Animal"](genus="Marmota")

    await run(WRITE, names)

    assert await (await saved_marmot()).photo.read() == b"some_image_datasome_more_image_data"
    assert await contents(database) == (1, 1)


async def test_the_block_of_the_quickstart_with_an_unawaited_write_runs(names: dict[str, Any]) -> None:
    await run(MODEL, names)
    names["marmot"] = names["Animal"](genus="Marmota")

    await run(WRITE_IN_A_BLOCK, names)

    assert await (await saved_marmot()).photo.read() == b"some-data"


@pytest.mark.usefixtures("pictures")
async def test_delete_and_replace_of_the_quickstart_run(names: dict[str, Any], database: Database) -> None:
    await run(MODEL, names)
    await run(PUT, names)
    names["marmot_photo"].close()

    await run(DELETE, names)

    assert not names["marmot"].photo
    assert await contents(database) == (0, 0)
    with open("another_marmot.png", "rb") as another_marmot:
        names["another_marmot"] = another_marmot
        await run(REPLACE, names)
    await names["marmot"].save()
    photo = (await saved_marmot()).photo
    assert await photo.read() == PNG
    assert photo.content_type == "image/png"


@pytest.mark.usefixtures("pictures")
async def test_replace_of_the_quickstart_runs_on_a_stored_picture(names: dict[str, Any], database: Database) -> None:
    await run(MODEL, names)
    await run(PUT, names)
    names["marmot_photo"].close()
    with open("another_marmot.png", "rb") as another_marmot:
        names["another_marmot"] = another_marmot
        await run(REPLACE, names)

    assert await (await saved_marmot()).photo.read() == JPEG
    await names["marmot"].save()
    assert await (await saved_marmot()).photo.read() == PNG
    assert (await contents(database))[0] == 1
    assert await orphans(database) == []


async def test_as_binds_the_proxy() -> None:
    marmot = Animal(genus="Marmota")
    async with marmot.photo.new_file() as photo:
        assert photo is marmot.photo
        assert not photo.closed
        photo.write(b"some-data")
    assert photo.closed
    assert await photo.read() == b"some-data"


async def test_an_awaited_new_file_can_be_entered_too() -> None:
    marmot = Animal(genus="Marmota")
    async with await marmot.photo.new_file(content_type="image/webp") as photo:
        assert photo is marmot.photo
        await photo.write(b"some-")
        photo.write(b"data")
    await marmot.save()
    found = await saved_marmot()
    assert await found.photo.read() == b"some-data"
    assert found.photo.metadata["content_type"] == "image/webp"


async def test_write_copies_the_bytes_at_the_call() -> None:
    marmot = Animal(genus="Marmota")
    buffer = bytearray(b"before")
    async with marmot.photo.new_file():
        marmot.photo.write(buffer)
        buffer[:] = b"after!"
    assert await marmot.photo.read() == b"before"


async def test_a_str_is_encoded_with_the_given_encoding() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        photo.write("Zürich")
    assert await photo.read() == "Zürich".encode()
    async with photo.new_file(replace=True, encoding="latin-1"):
        photo.write("Zürich")
    assert await photo.read() == b"Z\xfcrich"


async def test_new_file_on_a_stored_picture_raises_and_keeps_it(database: Database) -> None:
    marmot = Animal(genus="Marmota")
    await marmot.photo.put(b"the picture")
    with pytest.raises(FileAlreadyStored, match="replace=True"):
        await marmot.photo.new_file()
    with pytest.raises(FileAlreadyStored, match="replace=True"):
        async with marmot.photo.new_file():
            marmot.photo.write(b"never")
    assert marmot.photo.closed
    assert await marmot.photo.read() == b"the picture"
    assert await contents(database) == (1, 1)


async def test_new_file_with_replace_keeps_the_old_picture_until_the_save(database: Database) -> None:
    marmot = Animal(genus="Marmota")
    await marmot.photo.put(b"the old picture")
    await marmot.save()
    async with marmot.photo.new_file(replace=True):
        marmot.photo.write(b"the new picture")
    assert await (await saved_marmot()).photo.read() == b"the old picture"
    await marmot.save()
    assert await (await saved_marmot()).photo.read() == b"the new picture"
    assert await contents(database) == (1, 1)
