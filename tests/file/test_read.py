"""AsyncGridFile read like a binary file: read, readline, seek, tell, and open()."""

from __future__ import annotations

import asyncio
import gc
import io
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, BadOption, FileClosed, FileMissing, FileVanished, InfoNotLoaded, Reader
from gridproxy.file.connection import get_database

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
            with pytest.raises(FileMissing):
                await file.read()
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
