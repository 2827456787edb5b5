"""Anything that holds bytes becomes one stream of blocks; whatever does not is named."""

from __future__ import annotations

import array
import asyncio
import bz2
import io
import mmap
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import httpx
import pytest
from anyio.abc import ByteReceiveStream
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile

from gridproxy import AsyncGridFile, BadSource, FileMissing
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.upload.sources import Source, as_bytes, open_source

from ..naming import shown

DATA = bytes(range(256)) * 40


async def drained(source: Source) -> bytes:
    """Everything that a source gives, read and closed as an upload does it."""
    gathered = b""
    try:
        await source.prepare()
        while block := await source.read():
            assert len(block) <= BATCH_BYTES + len(DATA)
            gathered += block
        assert not await source.read(), "the end stays the end"
    finally:
        await source.aclose()
    return gathered


async def content(source: object) -> bytes:
    return await drained(open_source(source))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "marmot.bin"
    file.write_bytes(DATA)
    return file


class ShortReads:
    """A binary file that gives seven bytes at most, whatever it is asked for."""

    def __init__(self, data: bytes = DATA) -> None:
        self._file = io.BytesIO(data)
        self.threads: set[int] = set()

    def read(self, size: int) -> bytes:
        self.threads.add(threading.get_ident())
        return self._file.read(min(size, 7))


class AsyncShortReads(ShortReads):
    async def read(self, size: int) -> bytes:  # type: ignore[override]  # the same, asynchronously
        await asyncio.sleep(0)
        return super().read(size)


class HiddenAwaitable(ShortReads):
    """Asynchronous without looking so: its `read` is a plain function that returns a coroutine."""

    def read(self, size: int) -> Any:
        async def later() -> bytes:
            return data

        data = super().read(size)
        return later()


# Bytes


@pytest.mark.parametrize(
    "source",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        memoryview(DATA).cast("I"),
        array.array("B", DATA),
        array.array("H", DATA),
        DATA.decode("latin-1").encode("utf-8").decode("utf-8"),
    ],
    ids=lambda source: type(source).__name__,
)
async def test_whatever_is_bytes_like_or_a_str_is_its_bytes(source: Any) -> None:
    expected = source.encode() if isinstance(source, str) else bytes(memoryview(source).cast("B"))
    opened = open_source(source)
    assert opened.size == len(expected)
    assert opened.name is None
    assert await drained(opened) == expected


async def test_a_view_with_gaps_is_the_bytes_that_it_shows() -> None:
    assert await content(memoryview(DATA)[::3]) == DATA[::3]
    assert await content(memoryview(DATA)[::-1]) == DATA[::-1]


@pytest.mark.parametrize("source", ["", b"", bytearray(), memoryview(b""), [], (), iter([]), io.BytesIO()], ids=shown)
async def test_nothing_is_an_empty_source(source: object) -> None:
    assert await content(source) == b""


async def test_a_str_is_encoded_with_the_given_encoding() -> None:
    assert await content("mårmot") == "mårmot".encode()
    assert await drained(open_source("mårmot", encoding="latin-1")) == "mårmot".encode("latin-1")
    with pytest.raises(UnicodeEncodeError):
        open_source("mårmot", encoding="ascii")


async def test_a_source_is_a_copy_of_mutable_data() -> None:
    changing, numbers = bytearray(DATA), array.array("B", DATA)
    sources = [open_source(changing), open_source(memoryview(changing)), open_source(numbers)]
    changing[:] = b"x" * 5000
    numbers[0] = 99
    changing.clear()  # a view that is still held would forbid it
    assert [await drained(source) for source in sources] == [DATA] * 3


async def test_long_bytes_come_in_blocks() -> None:
    data = bytes(2 * BATCH_BYTES + 5)
    source = open_source(data)
    lengths = []
    while block := await source.read():
        lengths.append(len(block))
    assert lengths == [BATCH_BYTES, BATCH_BYTES, 5]


@settings(deadline=None)
@given(data=st.one_of(st.binary(), st.text()))
def test_as_bytes_gives_bytes_of_its_own(data: str | bytes) -> None:
    assert as_bytes(data, "utf-8") == (data.encode() if isinstance(data, str) else data)
    if isinstance(data, bytes):
        assert as_bytes(bytearray(data), "utf-8") == as_bytes(memoryview(data), "utf-8") == data


@pytest.mark.parametrize("data", [None, 5, 1.5, [1], [b"a"], object(), io.BytesIO(b"a")], ids=shown)
def test_as_bytes_refuses_other_types_than_str_and_bytes_like(data: object) -> None:
    with pytest.raises(BadSource, match=f"not .*{type(data).__name__}"):
        as_bytes(data, "utf-8")


# Paths


@pytest.mark.parametrize("kind", [Path, anyio.Path])
async def test_a_path_is_opened_read_and_closed(path: Path, kind: Callable[[Path], Any]) -> None:
    source = open_source(kind(path))
    assert source.name == "marmot.bin"
    await source.prepare()
    assert source.size == len(DATA)
    assert await source.read() == DATA
    await source.aclose()
    with pytest.raises(ValueError, match="closed file"):
        await source.read()


async def test_making_a_source_of_a_path_opens_nothing(tmp_path: Path) -> None:
    source = open_source(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        await source.prepare()
    await source.aclose()
    with pytest.raises(IsADirectoryError):
        await content(tmp_path)


async def test_a_path_of_bytes_is_read_and_has_no_name(path: Path) -> None:
    class BytesPath:
        def __fspath__(self) -> bytes:
            return os.fsencode(path)

    source = open_source(BytesPath())
    assert source.name is None
    assert await drained(source) == DATA


# Files


async def test_a_file_is_read_from_its_position_and_not_closed(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(100)
        source = open_source(file)
        assert source.name == "marmot.bin"
        await source.prepare()
        assert source.size == len(DATA) - 100
        assert file.tell() == 100, "asking for the size moves nothing"
        assert await drained(source) == DATA[100:]
        assert not file.closed
        assert await content(file) == b"", "it stands at its end now"


async def test_files_of_every_kind_are_read_whole(path: Path) -> None:
    with (
        path.open("rb", buffering=0) as raw,
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=1) as mapped,
    ):
        assert await content(raw) == DATA
        mapped.seek(50)
        assert await content(mapped) == DATA[50:]
        assert not mapped.closed
    with tempfile.NamedTemporaryFile() as temporary, tempfile.SpooledTemporaryFile() as spooled:
        for file in (temporary, spooled):
            file.write(DATA)
            file.seek(10)
            assert await content(file) == DATA[10:]
    assert await content(io.BytesIO(DATA)) == DATA
    with bz2.open(path.with_suffix(".bz2"), "wb") as packing:
        packing.write(DATA)
    with bz2.open(path.with_suffix(".bz2")) as packed:
        assert await content(packed) == DATA


async def test_a_size_is_known_if_it_needs_no_read(path: Path) -> None:
    async def size(file: object) -> int | None:
        source = open_source(file)
        await source.prepare()
        return source.size

    memory = io.BytesIO(DATA)
    memory.seek(20_000)
    with path.open("rb") as opened, tempfile.NamedTemporaryFile() as temporary:
        assert await size(opened) == len(DATA)
        temporary.write(DATA)
        temporary.seek(40)
        assert await size(temporary) == len(DATA) - 40
    assert await size(io.BytesIO(DATA)) == len(DATA)
    assert await size(memory) == 0, "it stands behind its end"
    assert await size(ShortReads()) is None
    assert await size([b"ab", b"c"]) == 3
    assert await size(iter([b"ab"])) is None


async def test_a_compressed_file_is_not_unpacked_to_learn_its_size(path: Path) -> None:
    class Counting(bz2.BZ2File):
        seeks = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            self.seeks += 1
            return super().seek(offset, whence)

    path.write_bytes(bz2.compress(DATA))
    with Counting(path) as packed:
        assert await content(packed) == DATA
        assert packed.seeks == 0


async def test_a_pipe_has_no_size_and_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb") as sink:
        sink.write(DATA)
        sink.close()
        opened = open_source(source)
        assert opened.name is None, "its name is the number of a descriptor"
        assert await drained(opened) == DATA
        assert opened.size is None


async def test_short_reads_are_no_end_and_synchronous_files_are_read_beside_the_loop() -> None:
    file = ShortReads()
    assert await content(file) == DATA
    assert threading.get_ident() not in file.threads


async def test_short_reads_of_asynchronous_files_are_no_end_either() -> None:
    file = AsyncShortReads()
    assert await content(file) == DATA
    assert file.threads == {threading.get_ident()}
    assert await content(HiddenAwaitable()) == DATA


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b/c.txt", "c.txt"),
        ("", None),
        ("dir/", None),
        (5, None),
        (b"c.txt", None),
        (None, None),
        (Path("a/b.c"), "b.c"),
    ],
    ids=shown,
)
def test_a_name_is_the_last_part_of_a_str_or_a_path(name: object, expected: str | None) -> None:
    file = ShortReads()
    file.name = name  # type: ignore[attr-defined]  # files have one
    assert open_source(file).name == expected


# Asynchronous files and streams


async def test_anyios_and_aiofiles_files_are_read_and_never_closed(path: Path) -> None:
    async with await anyio.open_file(path, "rb") as of_anyio, aiofiles.open(path, "rb") as of_aiofiles:
        for file in (of_anyio, of_aiofiles):
            await file.seek(10)
            source = open_source(file)
            assert source.name == "marmot.bin"
            assert await drained(source) == DATA[10:]
            await file.seek(0)
            assert await file.read(5) == DATA[:5]


async def test_starlettes_upload_brings_its_name_and_its_type() -> None:
    upload = UploadFile(
        io.BytesIO(DATA), filename="dir/marmot.png", headers=Headers({"content-type": "image/x-marmot"})
    )
    source = open_source(upload)
    assert (source.name, source.content_type) == ("marmot.png", "image/x-marmot")
    assert await drained(source) == DATA
    assert not upload.file.closed
    await upload.close()
    nameless = open_source(UploadFile(io.BytesIO(DATA)))
    assert (nameless.name, nameless.content_type) == (None, None)


async def test_a_stream_reader_is_read_as_its_bytes_come() -> None:
    reader = asyncio.StreamReader()

    async def feed() -> None:
        for at in range(0, len(DATA), 1000):
            reader.feed_data(DATA[at : at + 1000])
            await asyncio.sleep(0)
        reader.feed_eof()

    feeding = asyncio.create_task(feed())
    assert await content(reader) == DATA
    await feeding


async def test_anyios_receive_streams_are_read_to_their_end() -> None:
    class Bytes(ByteReceiveStream):
        def __init__(self) -> None:
            self.file = io.BytesIO(DATA)
            self.closed = False

        async def receive(self, max_bytes: int = 65536) -> bytes:
            data = self.file.read(min(max_bytes, 777))
            if not data:
                raise anyio.EndOfStream
            return data

        async def aclose(self) -> None:
            self.closed = True

    stream = Bytes()
    assert await content(stream) == DATA
    assert not stream.closed

    send, receive = anyio.create_memory_object_stream[bytes](5)
    async with send, receive:
        for piece in (DATA[:10], b"", DATA[10:]):
            await send.send(piece)
        await send.aclose()
        assert await content(receive) == DATA
        assert receive.statistics().open_receive_streams == 1


async def test_a_response_is_stored_as_it_comes_in() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=DATA))
    async with httpx.AsyncClient(transport=transport) as client, client.stream("GET", "http://zoo/") as response:
        assert await content(response.aiter_bytes(1000)) == DATA


# Iterables


def pieces(data: bytes = DATA) -> Iterator[bytes | bytearray | memoryview]:
    for at, kind in zip(range(0, len(data), 100), (bytes, bytearray, memoryview) * len(data), strict=False):
        yield kind(data[at : at + 100])
        yield b""  # an empty item is no end


async def async_pieces() -> AsyncIterator[bytes | bytearray | memoryview]:
    for piece in pieces():
        yield piece


class Iterable:
    def __iter__(self) -> Iterator[object]:
        return iter(pieces())


class AsyncIterable:
    """Makes a generator of its own at each iteration, which has to be closed by whoever asked for it."""

    def __init__(self) -> None:
        self.finished = False

    async def __aiter__(self) -> AsyncIterator[object]:
        try:
            async for piece in async_pieces():
                yield piece
        finally:
            self.finished = True


async def test_iterables_of_bytes_like_items_are_their_bytes_in_order() -> None:
    assert await content(pieces()) == DATA
    assert await content(list(pieces())) == DATA
    assert await content(tuple(pieces())) == DATA
    assert await content(Iterable()) == DATA
    assert await content([array.array("B", DATA)]) == DATA
    assert await content(async_pieces()) == DATA
    assert await content(AsyncIterable()) == DATA


async def test_a_long_iterable_comes_in_blocks() -> None:
    source = open_source(bytes(BATCH_BYTES // 4) for _ in range(9))
    lengths = []
    while block := await source.read():
        lengths.append(len(block))
    assert lengths == [BATCH_BYTES, BATCH_BYTES, BATCH_BYTES // 4]


async def test_a_synchronous_iterable_may_block_for_it_runs_beside_the_loop() -> None:
    threads = set()

    def blocking() -> Iterator[bytes]:
        threads.add(threading.get_ident())
        yield b"a"

    assert await content(blocking()) == b"a"
    assert threading.get_ident() not in threads


async def test_a_generator_of_the_callers_is_not_closed_and_one_of_ours_is() -> None:
    given = async_pieces()
    source = open_source(given)
    first = await source.read()
    await source.aclose()
    assert bytes(first) + b"".join([piece async for piece in given]) == DATA

    ours = AsyncIterable()
    source = open_source(ours)
    await source.read()
    await source.aclose()
    assert ours.finished


async def test_an_error_in_the_source_comes_out_as_it_is() -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise LookupError("gone")

    async def failing_later() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError("gone")

    class FailingFile:
        def read(self, size: int) -> bytes:
            raise OSError("disk")

    with pytest.raises(LookupError, match="gone"):
        await content(failing())
    with pytest.raises(LookupError, match="gone"):
        await content(failing_later())
    with pytest.raises(OSError, match="disk"):
        await content(FailingFile())


# A source of our own kind


async def test_a_source_is_a_source() -> None:
    source = open_source(b"a")
    assert open_source(source) is source


def test_an_empty_file_proxy_is_refused_as_a_source() -> None:
    with pytest.raises(FileMissing, match="empty"):
        open_source(AsyncGridFile())


# What bytes cannot be read from


@pytest.mark.parametrize(
    "source", [None, 5, 1.5, True, object(), {}, {"a": b"b"}, bytes, io.BytesIO, len, ShortReads], ids=shown
)
def test_an_unsupported_source_is_refused_by_its_type(source: object) -> None:
    with pytest.raises(BadSource, match=f"{type(source).__name__} cannot be read as bytes"):
        open_source(source)


def test_a_number_of_numpys_is_a_number() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(BadSource, match=r"numpy\.int64"):
        open_source(numpy.int64(5))


async def test_an_array_of_numpys_is_its_bytes() -> None:
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(6, dtype="uint16").reshape(2, 3)
    assert await content(numbers) == numbers.tobytes()
    assert await content(numbers.T) == numbers.T.tobytes()


async def test_a_file_in_text_mode_is_named(path: Path) -> None:
    with path.open() as text:
        for source in (text, io.StringIO("a")):
            with pytest.raises(BadSource, match=r"text-mode file.*'rb'"):
                open_source(source)
    with tempfile.NamedTemporaryFile("w+") as wrapped:
        wrapped.write("text")
        wrapped.seek(0)
        with pytest.raises(BadSource, match="_TemporaryFileWrapper returned a str: open it in binary mode"):
            await content(wrapped)
    path.write_text("text")
    async with await anyio.open_file(path) as of_anyio, aiofiles.open(path) as of_aiofiles:
        for file in (of_anyio, of_aiofiles):
            with pytest.raises(BadSource, match="returned a str"):
                await content(file)


@pytest.mark.parametrize("item", [None, 5, ["a"], object()], ids=shown)
async def test_an_item_that_is_not_bytes_is_refused_by_its_type(item: object) -> None:
    async def later() -> AsyncIterator[object]:
        yield b"a"
        yield item

    named = f"returned {type(item).__name__} instead of bytes"
    with pytest.raises(BadSource, match=f"list {named}"):
        await content([b"a", item])
    with pytest.raises(BadSource, match=f"async_generator {named}"):
        await content(later())
    with pytest.raises(BadSource, match="range returned int"):
        await content(range(3))


async def test_a_str_among_the_items_is_named() -> None:
    with pytest.raises(BadSource, match="list returned a str"):
        await content([b"a", "b"])
    with pytest.raises(BadSource, match="dict_keys returned a str"):
        await content({"a": 1}.keys())


@pytest.mark.parametrize("given", [None, 5, "text"], ids=shown)
async def test_a_file_that_gives_no_bytes_is_named(given: object) -> None:
    class Odd:
        def read(self, size: int) -> object:
            return given

    class AsyncOdd:
        async def read(self, size: int) -> object:
            return given

    for odd in (Odd(), AsyncOdd()):
        with pytest.raises(BadSource, match=type(odd).__name__):
            await content(odd)


async def test_a_non_blocking_file_without_data_is_refused() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with (
        os.fdopen(reading, "rb", buffering=0) as source,
        os.fdopen(writing, "wb"),
        pytest.raises(BadSource, match="non-blocking"),
    ):
        await content(source)
