"""AsyncGridFile read like a binary file: read, readline, seek, tell, and open()."""

from __future__ import annotations

import array
import asyncio
import csv
import gc
import io
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, BadOption, FileClosed, FileMissing, FileVanished, InfoNotLoaded, Reader
from gridproxy.file.connection import get_database
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.capabilities import Feature

from ..observing import Database, observed

LINES = b"first\nsecond line\n\nfourth" + b"x" * 50 + b"\nlast without an end"


pytestmark = pytest.mark.usefixtures("connected")


async def stored(data: bytes, chunk_size: int = 7, **more: Any) -> AsyncGridFile:
    file = AsyncGridFile()
    await file.put(data, chunk_size=chunk_size, **more)
    return file


# Positions


async def test_read_returns_the_rest_and_then_nothing() -> None:
    file = await stored(LINES)
    assert await file.read() == LINES
    assert await file.read() == b""
    assert file.tell() == len(LINES)


@pytest.mark.parametrize("size", [-1, None])
async def test_a_negative_size_or_none_is_all_the_rest(size: int | None) -> None:
    file = await stored(LINES)
    assert await file.read(5) == LINES[:5]
    assert await file.read(size) == LINES[5:]


async def test_read_returns_fewer_bytes_only_at_the_end() -> None:
    file = await stored(b"0123456789", chunk_size=3)
    assert [await file.read(4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]


async def test_the_position_is_at_the_start_after_put_replace_and_close() -> None:
    file = await stored(b"0123456789")
    assert file.tell() == 0
    await file.read(4)
    assert file.tell() == 4
    await file.replace(b"abcdefghij")
    assert file.tell() == 0
    assert await file.read(4) == b"abcd"
    async with file.new_file(replace=True):
        file.write(b"ABCDEFGHIJ")
    assert file.tell() == 0
    assert await file.read(4) == b"ABCD"
    await file.close()
    assert file.tell() == 0
    await file.read(4)
    await file.delete()
    assert file.tell() == 0


async def test_seek_accepts_the_three_origins_of_io() -> None:
    file = await stored(b"0123456789", chunk_size=3)
    assert await file.seek(4) == 4
    assert await file.read(2) == b"45"
    assert await file.seek(-3, os.SEEK_CUR) == 3
    assert await file.read(2) == b"34"
    assert await file.seek(-1, os.SEEK_END) == 9
    assert await file.read() == b"9"
    assert await file.seek(100) == 100
    assert await file.read() == b""
    assert await file.readline() == b""
    assert await file.seek(0) == 0
    assert await file.read(1) == b"0"


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-1, 1), (-11, 2), (0, 3)])
async def test_a_seek_before_the_start_or_from_nowhere_is_refused_and_moves_nothing(offset: int, whence: int) -> None:
    file = await stored(b"0123456789")
    with pytest.raises(BadOption):
        await file.seek(offset, whence)
    assert file.tell() == 0


async def test_readline_returns_lines_with_their_ends() -> None:
    file = await stored(LINES)
    lines = []
    while line := await file.readline():
        lines.append(line)
    assert lines == LINES.splitlines(keepends=True)


operations = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("tell")),
    st.tuples(st.just("seek"), st.integers(0, 140), st.just(os.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(0, 30), st.just(os.SEEK_CUR)),
    st.tuples(st.just("seek"), st.integers(-20, 20), st.just(os.SEEK_END)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"efgh\nij", b"0123456789"]), max_size=20),
    chunk_size=st.integers(1, 12),
    steps=st.lists(operations, max_size=25),
)
async def test_any_sequence_of_reads_and_seeks_equals_that_of_a_binary_file(
    client: AsyncMongoClient[dict[str, Any]], pieces: list[bytes], chunk_size: int, steps: list[tuple[Any, ...]]
) -> None:
    data = b"".join(pieces)
    file, model = await stored(data, chunk_size), io.BytesIO(data)
    for name, *arguments in steps:
        if arguments[1:] == [os.SEEK_END]:
            arguments[0] = max(-len(data), arguments[0])  # before the start BytesIO goes to 0, and a file refuses
        expected = getattr(model, name)(*arguments)
        result = getattr(file, name)(*arguments)
        assert (result if name == "tell" else await result) == expected, (name, arguments)
        assert file.tell() == model.tell()


async def test_a_seek_inside_the_fetched_range_sends_no_query(mongodb_uri: str, database: Database) -> None:
    file = await stored(b"0123456789" * 100, chunk_size=10)
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            assert await file.read(10) == b"0123456789"
            before = len(commands.seen)
            await file.seek(3)
            assert await file.read(4) == b"3456"
            assert len(commands.seen) == before


# Empty, gone


@pytest.mark.parametrize("call", ["read", "readline", "stat", "verify", "rename", "update_metadata", "copy", "seek"])
async def test_reading_an_empty_proxy_raises_file_missing(call: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"rename": ("x",), "seek": (0,)}
    with pytest.raises(FileMissing, match="empty"):
        await getattr(AsyncGridFile(), call)(*arguments.get(call, ()))


@pytest.mark.parametrize("call", ["open", "stream", "__aiter__"])
async def test_opening_an_empty_proxy_raises_file_missing_at_once(call: str) -> None:
    with pytest.raises(FileMissing, match="empty"):
        getattr(AsyncGridFile(), call)()


async def test_reading_a_missing_id_raises_file_missing() -> None:
    with pytest.raises(FileMissing) as caught:
        await AsyncGridFile("nowhere").read()
    assert caught.value.id == "nowhere"


async def test_an_id_that_looks_like_an_operator_is_a_value() -> None:
    await AsyncGridFile().put(b"somebody's")
    for id in ({"$gt": ""}, {"$ne": None}, {"$exists": True}):
        file = AsyncGridFile(id)
        with pytest.raises(FileMissing):
            await file.read()
        assert not await file.exists()
        await file.delete()
    assert await gridproxy.Bucket(get_database()).store.files.count_documents({}) == 1


async def test_a_file_deleted_under_a_reader_raises_instead_of_ending_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridproxy.gridfs.records.chunks._BATCH_CHUNKS", 2)
    file = await stored(bytes(3_000_000), chunk_size=100_000)
    async with file.open() as reader:
        assert await reader.read(5) == bytes(5)
        await AsyncGridFile(file.id).delete()
        with pytest.raises(FileVanished, match="deleted while"):
            await reader.read()


# A reader of its own


async def test_open_returns_a_reader_with_its_own_position() -> None:
    file = await stored(b"0123456789")
    await file.seek(5)
    async with file.open() as reader:
        assert isinstance(reader, Reader)
        assert await reader.read(3) == b"012"
        assert await file.read(3) == b"567"
        assert await reader.readline() == b"3456789"
        assert (reader.tell(), file.tell()) == (10, 8)


async def test_open_can_be_awaited_and_closed_by_hand() -> None:
    file = await stored(b"0123456789")
    reader = await file.open()
    assert reader.info == file.info
    assert await reader.read() == b"0123456789"
    await reader.aclose()
    with pytest.raises(FileClosed):
        await reader.read()


@pytest.mark.parametrize("size", [-1, 1, 20], ids=["the rest", "one byte", "many bytes"])
@pytest.mark.parametrize("held", ["find_head", "find_record", "find_first_chunks", "find_chunks"])
async def test_a_reader_closed_during_a_read_makes_that_read_raise_file_closed(
    size: int, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await stored(bytes(3000), chunk_size=100)
    asked, go = asyncio.Event(), asyncio.Event()
    find: Any = getattr(Store, held)

    async def slow(*args: Any, **more: Any) -> Any:
        asked.set()
        await go.wait()
        return await find(*args, **more)

    reader = file.open()
    # A server without $lookup is asked for the record and the chunks by two commands.
    if held != "find_head":
        reader.store.state.capabilities.replace(Feature.LOOKUP, "it is missing in this test")
    if held == "find_chunks":
        await reader.read(1)  # the record is known then
        await reader.seek(2500)
    monkeypatch.setattr(Store, held, slow)
    before = reader.tell()
    reading = asyncio.create_task(reader.read(size))
    waiting = asyncio.create_task(reader.read(size))
    await asyncio.wait_for(asked.wait(), 10)
    closing = asyncio.create_task(reader.aclose())
    await asyncio.sleep(0)
    go.set()
    await closing
    for each in (reading, waiting):
        with pytest.raises(FileClosed):
            await each
    assert reader.tell() == before


async def test_a_file_closed_during_a_read_makes_that_read_raise_file_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    file = await stored(b"0123456789", chunk_size=3)
    asked, go = asyncio.Event(), asyncio.Event()
    find = Store.find_head

    async def slow(*args: Any, **more: Any) -> Any:
        asked.set()
        await go.wait()
        return await find(*args, **more)

    monkeypatch.setattr(Store, "find_head", slow)
    other = AsyncGridFile(file.id)
    reading = asyncio.create_task(other.read())
    await asyncio.wait_for(asked.wait(), 10)
    await other.close()
    go.set()
    with pytest.raises(FileClosed):
        await reading
    assert await other.read() == b"0123456789"


async def test_opening_a_missing_file_raises_at_the_open() -> None:
    with pytest.raises(FileMissing):
        async with AsyncGridFile("nowhere").open():
            pass


async def test_two_tasks_read_one_proxy_at_once_through_two_readers() -> None:
    data = bytes(range(256)) * 40
    file = await stored(data, chunk_size=100)

    async def read_all(step: int) -> bytes:
        gathered = b""
        async with file.open() as reader:
            while piece := await reader.read(step):
                gathered += piece
                await asyncio.sleep(0)
        return gathered

    assert list(await asyncio.gather(read_all(333), read_all(1000))) == [data, data]


async def test_two_tasks_on_one_position_read_one_after_the_other() -> None:
    data = bytes(range(256)) * 4
    file = await stored(data, chunk_size=100)
    pieces = await asyncio.gather(*(file.read(64) for _ in range(16)))
    assert b"".join(pieces) == data


async def test_a_reader_outlives_its_proxy() -> None:
    file = await stored(b"0123456789")
    reader = file.open()
    del file
    gc.collect()
    assert await reader.read() == b"0123456789"
    await reader.aclose()


async def test_a_new_session_keeps_the_position(client: AsyncMongoClient[dict[str, Any]]) -> None:
    file = await stored(b"0123456789")
    assert await file.read(4) == b"0123"
    async with client.start_session() as session:
        assert await file.read(4, session=session) == b"4567"
    assert await file.read() == b"89"


async def test_an_open_reader_stays_with_the_bucket_that_it_was_opened_on(database: Database) -> None:
    file = await stored(b"0123456789")
    async with file.open() as reader:
        with gridproxy.using(database.client[f"{database.name}_elsewhere"]):
            assert await reader.read() == b"0123456789"
            assert await file.read() == b"0123456789", "its record was loaded from there"
            with pytest.raises(FileMissing):
                await AsyncGridFile(file.id).read()
    await file.seek(0)
    assert await file.read() == b"0123456789"


async def test_an_open_stream_stays_with_the_bucket_that_it_was_opened_on(database: Database) -> None:
    file = await stored(b"0123456789")
    stream = file.stream()
    with gridproxy.using(database.client[f"{database.name}_elsewhere"]):
        assert b"".join([block async for block in stream]) == b"0123456789"


async def test_reading_loads_the_info() -> None:
    id = (await stored(b"0123456789", filename="digits.txt")).id
    file = AsyncGridFile(id)
    with pytest.raises(InfoNotLoaded):
        _ = file.length
    await file.read(1)
    assert (file.filename, file.length) == ("digits.txt", 10)
    other = AsyncGridFile(id)
    async with other.open():
        assert other.length == 10


# Lines and text

TEXT = "one\r\n\ntwo ünïcode\u2028still two\n" + "三" * 40 + "\nlast"
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"]


def lines_of(text: str) -> list[str]:
    """Return the lines as a text file with newline="\\n" has them."""
    return list(io.StringIO(text, newline="\n"))


async def test_a_reader_iterates_lines_and_a_file_iterates_blocks() -> None:
    file = await stored(LINES)
    async with file.open() as reader:
        assert await reader.readline() == b"first\n"
        assert [line async for line in reader] == list(io.BytesIO(LINES))[1:]
        assert [line async for line in reader] == []
        assert reader.tell() == len(LINES)
    assert [line async for line in file.open()] == list(io.BytesIO(LINES))
    assert [len(block) async for block in file][:2] == [7, 7]


@pytest.mark.parametrize("size", [None, -1, 0, 1, 3, 6, 7, 100])
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
async def test_a_line_may_be_limited_to_a_size(size: int | None, chunk_size: int) -> None:
    file = await stored(LINES, chunk_size)
    expected = io.BytesIO(LINES)
    async with file.open() as reader:
        for _ in range(20):
            line = expected.readline(size)
            assert await reader.readline(size) == line == await file.readline(size)
            assert reader.tell() == file.tell() == expected.tell()


@pytest.mark.parametrize("hint", [None, -1, 0, 1, 6, 7, 25, 1000])
async def test_readlines_gives_whole_lines_until_the_hint_is_reached(hint: int | None) -> None:
    file = await stored(LINES)
    expected = io.BytesIO(LINES)
    async with file.open() as reader:
        for _ in range(3):
            lines = expected.readlines(hint)
            assert await reader.readlines(hint) == lines == await file.readlines(hint)


async def test_readinto_fills_a_buffer_and_returns_the_number_of_bytes() -> None:
    file = await stored(b"0123456789")
    buffer = bytearray(6)
    async with file.open() as reader:
        assert (await reader.readinto(buffer), bytes(buffer)) == (6, b"012345")
        assert (await file.readinto(buffer), bytes(buffer), file.tell()) == (6, b"012345", 6)
        assert (await reader.readinto(memoryview(buffer)[1:]), bytes(buffer)) == (4, b"067895")
        assert (await reader.readinto(buffer), bytes(buffer)) == (0, b"067895")
        await reader.seek(0)
        wide = array.array("H", [0, 0])
        assert (await reader.readinto(wide), wide.tobytes()) == (4, b"0123")
        with pytest.raises(BadOption, match="bytes"):
            await reader.readinto(b"read-only")
        assert reader.tell() == 4


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
async def test_text_is_decoded_across_chunks(encoding: str, chunk_size: int) -> None:
    file = await stored(TEXT.encode(encoding), chunk_size)
    assert await file.read_text(encoding) == TEXT
    assert await file.read_text(encoding) == ""
    assert [line async for line in file.lines(encoding)] == lines_of(TEXT)
    assert [line async for line in file.lines(encoding)] == lines_of(TEXT)
    assert file.tell() == len(TEXT.encode(encoding))
    async with file.open() as reader:
        assert [line async for line in reader.lines(encoding)] == lines_of(TEXT)
        await reader.seek(0)
        assert await reader.read_text(encoding) == TEXT


async def test_lines_seeks_and_reads_may_be_mixed() -> None:
    choice = random.Random(7)
    data = b"".join(b"x" * choice.randrange(9) + b"\n" for _ in range(100))
    file = await stored(data, chunk_size=40)
    expected = io.BytesIO(data)
    async with file.open() as reader:
        for _ in range(500):
            kind = choice.randrange(4)
            if kind == 0:
                position = choice.randrange(len(data))
                assert await reader.seek(position) == expected.seek(position)
            elif kind == 1:
                size = choice.randrange(12)
                assert await reader.read(size) == expected.read(size)
            else:
                assert await reader.readline() == expected.readline()
            assert reader.tell() == expected.tell()
        await reader.seek(0)
        assert (
            list(await asyncio.gather(*(reader.readline() for _ in range(60)))) == data.splitlines(keepends=True)[:60]
        )
    with pytest.raises(FileClosed):
        await reader.readline()


async def test_text_and_lines_begin_at_the_position_of_a_reader() -> None:
    file = await stored(b"one\ntwo\nthree\nfour")
    async with file.open() as reader:
        await reader.seek(4)
        async for line in reader.lines():
            assert line == "two\n"
            break
        assert reader.tell() == 8
        assert await reader.readline() == b"three\n"
        assert await reader.read_text() == "four"
    await file.seek(8)
    assert await file.read_text() == "three\nfour"


async def test_a_csv_file_is_read_line_by_line() -> None:
    file = await stored("name;place\r\nMarmota;Àlps\r\n".encode("latin-1"))
    rows = [next(csv.reader([line], delimiter=";")) async for line in file.lines("latin-1")]
    assert rows == [["name", "place"], ["Marmota", "Àlps"]]


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "locale", ""])
async def test_an_unknown_encoding_is_refused_before_a_byte_is_read(encoding: str) -> None:
    file = await stored(b"text")
    for work in (file.read_text(encoding), file.open().read_text(encoding)):
        with pytest.raises(BadOption, match="encoding"):
            await work
    for reading in (file, file.open()):
        with pytest.raises(BadOption, match="encoding"):
            reading.lines(encoding)
    assert file.tell() == 0


async def test_bytes_that_are_no_text_raise_unicode_decode_error_or_follow_errors() -> None:
    file = await stored(b"one\n\xff\xfe two\nthree\xc3")
    with pytest.raises(UnicodeDecodeError):
        await file.read_text()
    await file.seek(0)
    assert await file.read_text(errors="replace") == "one\n\ufffd\ufffd two\nthree\ufffd"
    assert [line async for line in file.lines(errors="ignore")] == ["one\n", " two\n", "three"]
    with pytest.raises(UnicodeDecodeError):
        [line async for line in file.lines()]


async def test_an_empty_file_has_no_lines() -> None:
    file = await stored(b"")
    assert [line async for line in file.lines()] == [] == await file.readlines()
    assert await file.read_text() == ""
    for call in (AsyncGridFile().readlines, AsyncGridFile().read_text):
        with pytest.raises(FileMissing):
            await call()
    with pytest.raises(FileMissing):
        AsyncGridFile().lines()


async def test_many_lines_leave_other_tasks_their_turn() -> None:
    file = await stored(b"x\n" * 200_000, chunk_size=1000)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len([line async for line in file.open()]) == 200_000
    task.cancel()
    assert turns > 100
