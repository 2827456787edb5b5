"""Everything that a file can be made of, put once each, end to end."""

from __future__ import annotations

import array
import asyncio
import gzip
import io
import mmap
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from starlette.datastructures import UploadFile

from gridproxy import AsyncGridFile, BadOption, Bucket

from ..observing import Database, contents

DATA = bytes(range(256)) * 50

Opened = Callable[[Path, AsyncExitStack], Awaitable[Any]]


pytestmark = pytest.mark.usefixtures("connected")


def pieces() -> Iterator[bytes]:
    for start in range(0, len(DATA), 1000):
        yield DATA[start : start + 1000]


async def async_pieces() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece
        await asyncio.sleep(0)


class ShortReads(io.RawIOBase):
    """Gives one byte, then two, then three: as a pipe may."""

    def __init__(self) -> None:
        self._inner = io.BytesIO(DATA)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._count += 1
        data = self._inner.read(min(len(buffer), self._count))
        buffer[: len(data)] = data
        return len(data)


async def memory_stream(path: Path, stack: AsyncExitStack) -> Any:
    send, receive = anyio.create_memory_object_stream[bytes](100)
    async with send:
        for piece in pieces():
            await send.send(piece)
    return await stack.enter_async_context(receive)


async def stream_reader(path: Path, stack: AsyncExitStack) -> Any:
    reader = asyncio.StreamReader()
    reader.feed_data(DATA)
    reader.feed_eof()
    return reader


async def buffered_stream(path: Path, stack: AsyncExitStack) -> Any:
    return BufferedByteReceiveStream(await memory_stream(path, stack))


async def httpx_body(path: Path, stack: AsyncExitStack) -> Any:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=DATA))
    client = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
    response = await stack.enter_async_context(client.stream("GET", "http://marmots.example/"))
    return response.aiter_bytes()


async def spooled(path: Path, stack: AsyncExitStack) -> Any:
    file = stack.enter_context(tempfile.SpooledTemporaryFile())  # noqa: SIM115  # the stack closes it
    file.write(DATA)
    file.seek(0)
    return file


async def mapped(path: Path, stack: AsyncExitStack) -> Any:
    with open(path, "rb") as file:
        return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


async def upload_file(path: Path, stack: AsyncExitStack) -> Any:
    upload = UploadFile(io.BytesIO(DATA), filename="marmot.jpg")
    stack.push_async_callback(upload.close)
    return upload


async def stored_file(path: Path, stack: AsyncExitStack) -> Any:
    other = AsyncGridFile(bucket="elsewhere")
    await other.put(DATA, chunk_size=999)
    await other.read(10)  # its position plays no part
    return other


async def gzipped(path: Path, stack: AsyncExitStack) -> Any:
    with gzip.open(path.with_suffix(".gz"), "wb") as file:
        file.write(DATA)
    return stack.enter_context(gzip.open(path.with_suffix(".gz"), "rb"))


def plain(make: Callable[[Path], Any]) -> Opened:
    async def opened(path: Path, stack: AsyncExitStack) -> Any:
        source = make(path)
        if isinstance(source, io.IOBase):
            stack.enter_context(source)
        return source

    return opened


async def entered(path: Path, stack: AsyncExitStack) -> Any:
    return await stack.enter_async_context(aiofiles.open(path, "rb"))


async def anyio_file(path: Path, stack: AsyncExitStack) -> Any:
    return await stack.enter_async_context(await anyio.open_file(path, "rb"))


SOURCES: dict[str, Opened] = {
    "bytes": plain(lambda _: DATA),
    "bytearray": plain(lambda _: bytearray(DATA)),
    "memoryview": plain(lambda _: memoryview(DATA)),
    "a strided memoryview": plain(lambda _: memoryview(bytes(byte for byte in DATA for _ in range(2)))[::2]),
    "an array": plain(lambda _: array.array("B", DATA)),
    "str": plain(lambda _: DATA.decode("latin-1")),
    "a path": plain(lambda path: path),
    "anyio's path": plain(anyio.Path),
    "an open file": plain(lambda path: path.open("rb")),
    "an unbuffered file": plain(lambda path: path.open("rb", buffering=0)),
    "BytesIO": plain(lambda _: io.BytesIO(DATA)),
    "a file with short reads": plain(lambda _: ShortReads()),
    "a spooled file": spooled,
    "a mapped file": mapped,
    "a gzipped file": gzipped,
    "anyio's file": anyio_file,
    "aiofiles' file": entered,
    "UploadFile": upload_file,
    "StreamReader": stream_reader,
    "a list": plain(lambda _: list(pieces())),
    "a tuple of bytes-likes": plain(lambda _: (bytearray(DATA[:100]), memoryview(DATA[100:200]), DATA[200:])),
    "a generator": plain(lambda _: pieces()),
    "a generator with empty items": plain(lambda _: (item for piece in pieces() for item in (b"", piece))),
    "an async generator": plain(lambda _: async_pieces()),
    "httpx's body": httpx_body,
    "anyio's object stream": memory_stream,
    "anyio's byte stream": buffered_stream,
    "another file": stored_file,
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_file_can_be_put_from(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "marmot.bin"
    path.write_bytes(DATA)
    file = AsyncGridFile()
    async with AsyncExitStack() as stack:
        source = await SOURCES[kind](path, stack)
        await file.put(source, encoding="latin-1", chunk_size=1000)
        opened = source.file if isinstance(source, UploadFile) else source
        if isinstance(opened, io.IOBase):
            assert not opened.closed  # what the caller opened is the caller's to close
    assert await file.read() == DATA
    await file.verify()


@pytest.mark.parametrize(
    "empty",
    [b"", "", io.BytesIO(), [], iter(()), [b"", b""], array.array("B")],
    ids=lambda empty: type(empty).__name__,
)
async def test_an_empty_source_makes_an_empty_file(empty: Any) -> None:
    file = AsyncGridFile()
    await file.put(empty)
    assert file.length == 0
    assert await file.read() == b""


async def test_an_open_file_is_read_from_its_position_and_left_open() -> None:
    source = io.BytesIO(b"0123456789")
    source.seek(4)
    file = AsyncGridFile()
    await file.put(source)
    assert await file.read() == b"456789"
    assert not source.closed
    assert source.tell() == 10


async def test_a_stored_file_as_a_source_keeps_its_name_and_type() -> None:
    other = AsyncGridFile(bucket="elsewhere")
    await other.put(b"x", filename="marmot", content_type="image/x-marmot", owner=7)
    file = AsyncGridFile()
    await file.put(other)
    assert (file.filename, file.content_type) == ("marmot", "image/x-marmot")
    assert "owner" not in file.metadata


async def test_a_staged_upload_becomes_a_file_of_its_own_bucket_alone(database: Database) -> None:
    bucket = Bucket(database, "photos")
    staged = await bucket.stage(DATA, filename="marmot.jpg", metadata={"owner": 7}, chunk_size=1000)
    assert (await contents(database, "photos"))[0] == 0
    with pytest.raises(BadOption, match=r"photos.*fs"):
        await AsyncGridFile().put(staged)
    with pytest.raises(BadOption, match="stage"):
        await AsyncGridFile(bucket=bucket).put(staged, filename="another.jpg")
    file = AsyncGridFile(bucket="photos")
    await file.put(staged)
    assert file.id == staged.id
    assert (file.filename, file.metadata["owner"]) == ("marmot.jpg", 7)
    assert await file.read() == DATA
    assert await contents(database, "photos") == (1, 13)
