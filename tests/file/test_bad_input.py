"""What a file cannot be made of: each a typed error, with nothing stored and nothing lost."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest
from bson import ObjectId
from bson.regex import Regex
from pymongo import AsyncMongoClient
from pymongo.errors import InvalidOperation

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadMetadata,
    BadOption,
    BadSource,
    Bucket,
    FileAlreadyStored,
    FileMissing,
    GridProxyError,
    UploadInProgress,
)

from ..naming import shown
from ..observing import Database, contents

DATA = bytes(range(256)) * 50


pytestmark = pytest.mark.usefixtures("connected")


def raising() -> Iterator[bytes]:
    yield DATA
    raise OSError("the disk is gone")


async def raising_later() -> AsyncIterator[bytes]:
    yield DATA
    raise OSError("the network is gone")


async def yielding_str() -> AsyncIterator[Any]:
    yield b"some bytes"
    yield "and a str"


class GivesStr:
    def read(self, size: int) -> Any:
        return "text"


class GivesNone:
    def read(self, size: int) -> Any:
        return None


@pytest.mark.parametrize(
    ("source", "error", "named"),
    [
        (7, BadSource, "int"),
        (7.5, BadSource, "float"),
        (None, BadSource, "NoneType"),
        (True, BadSource, "bool"),
        (object(), BadSource, "object"),
        ({"a": 1}, BadSource, "dict"),
        (bytes, BadSource, "type"),
        (ObjectId(), BadSource, "ObjectId"),
        (io.StringIO("text"), BadSource, "StringIO"),
        ([b"bytes", "text"], BadSource, "str"),
        ([b"bytes", 7], BadSource, "int"),
        ([b"bytes", None], BadSource, "NoneType"),
        (yielding_str, BadSource, "str"),
        (GivesStr(), BadSource, "str"),
        (GivesNone(), BadSource, "None"),
        (raising, OSError, "the disk is gone"),
        (raising_later, OSError, "the network is gone"),
        (Path("/no/such/marmot.jpg"), FileNotFoundError, "marmot"),
        (Path("/"), IsADirectoryError, "directory"),
        (AsyncGridFile(), FileMissing, "empty"),
        (AsyncGridFile("nowhere"), FileMissing, "nowhere"),
    ],
    ids=shown,
)
async def test_a_bad_source_is_a_typed_error_and_nothing_is_stored_or_lost(
    source: Any, error: type[Exception], named: str, database: Database
) -> None:
    def fresh() -> Any:
        return source() if callable(source) and source is not bytes else source

    file = AsyncGridFile()
    with pytest.raises(error, match=named):
        await file.put(fresh(), chunk_size=100)
    assert not file
    assert await contents(database) == (0, 0)
    await file.put(b"the old")
    with pytest.raises(error, match=named):
        await file.replace(fresh(), chunk_size=100)
    assert await file.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_a_text_mode_file_is_refused_by_name(tmp_path: Path, database: Database) -> None:
    (tmp_path / "marmot.txt").write_text("marmot")
    file = AsyncGridFile()
    with open(tmp_path / "marmot.txt") as text, pytest.raises(BadSource, match="'rb'"):
        await file.put(text)  # type: ignore[arg-type]
    async with await anyio.open_file(tmp_path / "marmot.txt") as anyio_text:
        with pytest.raises(BadSource, match="str"):
            await file.put(anyio_text)  # type: ignore[arg-type]
    async with aiofiles.open(tmp_path / "marmot.txt") as aiofiles_text:
        with pytest.raises(BadSource, match="str"):
            await file.put(aiofiles_text)  # type: ignore[arg-type]
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("data", [7, None, [b"list"], object()])
async def test_a_bad_write_is_refused_and_the_file_can_be_finished(data: Any) -> None:
    file = AsyncGridFile()
    async with file.new_file():
        file.write(b"before ")
        with pytest.raises(BadSource, match=type(data).__name__):
            file.write(data)
        file.write(b"after")
    assert await file.read() == b"before after"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunk_size": 0}, BadOption),
        ({"chunk_size": -1}, BadOption),
        ({"chunk_size": 16 * 1024 * 1024}, BadOption),
        ({"chunk_size": 1.5}, BadOption),
        ({"chunk_size": True}, BadOption),
        ({"filename": "nul\0inside"}, BadOption),
        ({"filename": 7}, BadOption),
        ({"content_type": 7}, BadOption),
        ({"metadata": {"content_type": 7}}, BadOption),
        ({"encoding": "no such"}, BadOption),
        ({"encoding": 7}, BadOption),
        ({"expires_at": "tomorrow"}, BadOption),
        ({"expires_after": "an hour"}, BadOption),
        ({"id": {"$gt": ""}}, BadId),
        ({"id": ["a", "list"]}, BadId),
        ({"id": Regex("^a")}, BadId),
        ({"id": object()}, BadId),
        ({"metadata": ["a", "list"]}, BadMetadata),
        ({"metadata": {"a.b": 1}}, BadMetadata),
        ({"metadata": {"$set": 1}}, BadMetadata),
        ({"metadata": {7: 1}}, BadMetadata),
        ({"sha256": "0" * 64}, BadMetadata),
        ({"owner": object()}, BadMetadata),
        ({"owner": 2**64}, BadMetadata),
        ({"owner": "x" * 17_000_000}, BadMetadata),
    ],
    ids=lambda value: shown(value)[:40],
)
async def test_a_bad_option_is_a_typed_error_and_nothing_is_stored_or_lost(
    options: dict[str, Any], error: type[Exception], database: Database
) -> None:
    file = AsyncGridFile()
    with pytest.raises(error) as caught:
        await file.put(b"x", **options)
    assert isinstance(caught.value, GridProxyError)
    with pytest.raises(error):
        async with file.new_file(**options):
            file.write(b"x")
    assert await contents(database) == (0, 0)
    await file.put(b"the old")
    with pytest.raises(error):
        await file.replace(b"x", **options)
    assert await file.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_the_largest_chunk_size_fits_and_the_next_does_not(database: Database) -> None:
    largest = 16 * 1024 * 1024 - 256
    file = AsyncGridFile()
    data = bytes(largest + 1)
    with pytest.raises(BadOption):
        await file.put(data, chunk_size=largest + 1)
    await file.put(data, chunk_size=largest)
    assert await contents(database) == (1, 2)
    assert len(await file.read()) == largest + 1


async def test_a_taken_id_leaves_the_existing_file_whole(database: Database) -> None:
    taken = AsyncGridFile()
    await taken.put(DATA, id="taken", chunk_size=1000)
    for data in (b"", b"x", DATA):
        with pytest.raises(FileAlreadyStored) as caught:
            await AsyncGridFile().put(data, id="taken", chunk_size=1000)
        assert caught.value.id == "taken"
    await taken.verify()
    assert await contents(database) == (1, 13)


async def test_an_id_with_chunks_but_no_record_is_in_progress(database: Database) -> None:
    await database["fs.chunks"].insert_one({"files_id": "cut off", "n": 0, "data": b"x"})
    with pytest.raises(UploadInProgress, match="discard"):
        await AsyncGridFile().put(b"x", id="cut off")
    assert await contents(database) == (0, 1)
    await Bucket(database).discard("cut off")
    await AsyncGridFile().put(b"x", id="cut off")


async def test_a_filename_with_slashes_never_becomes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = AsyncGridFile()
    await file.put(b"x", filename="../../etc/passwd")
    assert file.filename == "../../etc/passwd"
    await file.save_to("here")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


async def test_a_closed_client_raises(mongodb_uri: str, database: Database) -> None:
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri)
    file = AsyncGridFile(bucket=Bucket(client[database.name]))
    await file.put(b"x")
    await client.close()
    with pytest.raises(InvalidOperation):
        await file.read()
    with pytest.raises(InvalidOperation):
        await file.replace(b"y")
    assert await AsyncGridFile(file.id).read() == b"x"
    assert await contents(database) == (1, 1)


async def test_a_client_of_another_event_loop_raises(database: Database) -> None:
    file = AsyncGridFile()
    await file.put(b"x")
    failures: list[BaseException] = []

    def elsewhere() -> None:
        for call in (lambda: AsyncGridFile(file.id).read(), lambda: AsyncGridFile().put(b"y")):
            try:
                asyncio.run(call())
            except Exception as error:  # noqa: BLE001  # looked at below
                failures.append(error)

    await asyncio.to_thread(elsewhere)
    assert len(failures) == 2
    assert all(isinstance(error, RuntimeError) for error in failures)
    assert await file.read() == b"x"
    assert await contents(database) == (1, 1)
