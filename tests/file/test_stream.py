"""AsyncGridFile.stream, ranges, and save_to: bytes as they come, and just those that are wanted."""

from __future__ import annotations

import asyncio
import gc
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest
from anyio.abc import ByteReceiveStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, BadOption, BadSource, FileMissing
from gridproxy.gridfs.store.collections import Store

from ..observing import Database, observed

DATA = bytes(range(256)) * 8


pytestmark = pytest.mark.usefixtures("connected")


async def stored(data: bytes = DATA, chunk_size: int = 100, **more: Any) -> AsyncGridFile:
    file = AsyncGridFile()
    await file.put(data, chunk_size=chunk_size, **more)
    return file


# Streams


@pytest.mark.usefixtures("small_batches")
async def test_a_stream_yields_blocks_and_keeps_the_position() -> None:
    file = await stored()
    await file.seek(5)
    blocks = [block async for block in file.stream()]
    assert b"".join(blocks) == DATA
    assert len(blocks) > 1
    assert all(blocks)
    assert file.tell() == 5


async def test_async_for_yields_blocks_not_lines() -> None:
    data = b"a\nb\nc\n" * 50
    file = await stored(data, chunk_size=100)
    assert [block async for block in file] == [data[:100], data[100:200], data[200:]]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 0), (5, 5), (7, 3), (100, 200), (99, 101), (2047, 5000), (3000, None)]
)
async def test_a_stream_can_start_and_stop_anywhere(start: int, stop: int | None) -> None:
    file = await stored()
    assert b"".join([block async for block in file.stream(start, stop)]) == DATA[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, -1), ("0", None), (0, 1.5)])
async def test_a_stream_refuses_invalid_offsets(start: Any, stop: Any) -> None:
    file = await stored()
    with pytest.raises(BadOption):
        file.stream(start, stop)


async def test_a_stream_is_a_byte_receive_stream() -> None:
    file = await stored()
    async with file.stream() as stream:
        assert isinstance(stream, ByteReceiveStream)
        assert (await stream.info()).length == len(DATA)
        gathered = b""
        with pytest.raises(anyio.EndOfStream):
            while True:
                piece = await stream.receive(30)
                assert 0 < len(piece) <= 30
                gathered += piece
        assert gathered == DATA
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        with pytest.raises(BadOption):
            await stream.receive(0)
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()
    await stream.aclose()


async def test_a_stream_read_by_two_tasks_at_once_refuses_the_second() -> None:
    file = await stored()
    async with file.stream() as stream:
        results = await asyncio.gather(stream.receive(), stream.receive(), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["BusyResourceError", "bytes"]


async def test_a_stream_of_a_missing_file_raises_at_its_first_byte() -> None:
    stream = AsyncGridFile("nowhere").stream()
    with pytest.raises(FileMissing):
        await anext(stream)


@pytest.mark.usefixtures("small_batches")
async def test_a_running_stream_of_a_file_that_expires_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    file = await stored(expires_after=3600)
    stream = file.stream()
    first = await anext(stream)
    later = datetime.now(UTC) + timedelta(hours=2)
    monkeypatch.setattr(Store, "now", lambda _: later)
    assert not await file.exists()
    assert first + b"".join([block async for block in stream]) == DATA


async def test_a_stream_of_an_empty_file_ends_at_once() -> None:
    file = await stored(b"")
    assert [block async for block in file] == []


async def other_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that still run after all others have ended."""
    for _ in range(100):
        await asyncio.sleep(0)
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def gone(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)


@pytest.mark.usefixtures("small_batches")
async def test_a_stream_dropped_half_read_leaves_no_task() -> None:
    file = await stored()
    before = await other_tasks()
    stream = file.stream()
    await anext(stream)
    await anext(stream)
    del stream
    gc.collect()
    await gone(await other_tasks() - before)
    async for _ in file:
        break
    gc.collect()
    await gone(await other_tasks() - before)


async def test_receiving_a_large_chunk_in_small_pieces_copies_each_byte_once() -> None:
    class Counting(bytes):
        sliced = 0

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            Counting.sliced += len(found) if isinstance(key, slice) else 0
            return Counting(found) if isinstance(key, slice) else found

    file = AsyncGridFile()
    data = os.urandom(1_000_000)
    await file.put(data, chunk_size=1_000_000)
    async with file.stream() as stream:
        gathered = [await stream.receive(100)]
        stream._pieces = [Counting(piece) for piece in stream._pieces]
        with pytest.raises(anyio.EndOfStream):
            while True:
                gathered.append(await stream.receive(1000))
    assert b"".join(gathered) == data
    assert Counting.sliced <= len(data)


@pytest.mark.usefixtures("small_batches")
async def test_closing_a_half_read_stream_ends_its_queries() -> None:
    file = await stored()
    before = await other_tasks()
    async with file.stream() as stream:
        for _ in range(4):
            await anext(stream)
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} - before
    # pymongo's monitor may be asking the server at any moment.
    monitoring = {task for task in left if "pymongo/" in str(getattr(task.get_coro(), "cr_code", ""))}
    assert left == monitoring


@pytest.mark.usefixtures("small_batches")
async def test_a_stream_fetches_ahead_and_no_further_than_four_ranges(mongodb_uri: str, database: Database) -> None:
    file = await stored(DATA * 4)
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            stream = file.stream()
        for blocks in range(1, 30):
            await anext(stream)
            await other_tasks()
            asked = len([find for find in commands.of("find") if find["find"] == "fs.chunks"])
            assert asked <= blocks / 2 + 5
        await stream.aclose()


# Ranges


places = st.integers(0, 70)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(0, 60),
    chunk_size=st.integers(1, 9),
    start=places,
    stop=st.one_of(st.none(), places),
    ranges=st.lists(st.tuples(places, places), max_size=6),
)
async def test_any_range_equals_the_slice(
    client: AsyncMongoClient[dict[str, Any]],
    length: int,
    chunk_size: int,
    start: int,
    stop: int | None,
    ranges: list[tuple[int, int]],
) -> None:
    content = DATA[:length]
    file = await stored(content, chunk_size)
    assert await file.read_range(start, stop) == content[start:stop]
    assert await file.read_ranges(ranges) == [content[start:stop] for start, stop in ranges]
    assert b"".join([block async for block in file.stream(start, stop)]) == content[start:stop]


def chunks_asked(commands: Any) -> list[dict[str, Any]]:
    lookups = [each["pipeline"][1]["$lookup"]["pipeline"][0]["$match"]["n"] for each in commands.of("aggregate")]
    return lookups + [find["filter"]["n"] for find in commands.of("find") if find["find"] == "fs.chunks"]


async def test_a_range_fetches_only_its_chunks(mongodb_uri: str, database: Database) -> None:
    id = (await stored()).id
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            file = AsyncGridFile(id)
            await file.stat()
            commands.clear()
            assert await file.read_range(850, 1050) == DATA[850:1050]
    (asked,) = chunks_asked(commands)
    assert asked["$gte"] == 8
    assert asked["$lt"] <= 12  # chunks 8, 9 and 10, and at most the one after them


async def test_ranges_that_touch_one_chunk_fetch_it_once(mongodb_uri: str, database: Database) -> None:
    id = (await stored()).id
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            file = AsyncGridFile(id)
            wanted = [(510, 520), (0, 10), (530, 540), (5, 15), (1990, 9999)]
            assert await file.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    asked = chunks_asked(commands)
    assert sorted(places["$gte"] for places in asked) == [0, 5, 19]
    assert sorted(places["$lt"] for places in asked if "$lt" in places) == [1, 6]


async def test_a_range_keeps_the_position_and_loads_the_info() -> None:
    id = (await stored()).id
    file = AsyncGridFile(id)
    await file.read_range(3, 5)
    assert file.tell() == 0
    assert file.length == len(DATA)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (0, -5), (0.5, 1), (None, 3)])
async def test_a_range_refuses_invalid_offsets(start: Any, stop: Any) -> None:
    file = await stored()
    with pytest.raises(BadOption):
        await file.read_range(start, stop)
    with pytest.raises(BadOption):
        await file.read_ranges([(start, stop)])


# save_to


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("spelling", [str, Path])
async def test_save_to_writes_a_path_whole_and_leaves_nothing_beside_it(tmp_path: Path, spelling: Any) -> None:
    file = await stored(filename="ignored/name.txt")
    seen: list[tuple[int, int | None]] = []
    info = await file.save_to(spelling(tmp_path / "copy.bin"), progress=lambda *told: seen.append(told))
    assert info == file.info
    assert (tmp_path / "copy.bin").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["copy.bin"]
    assert seen[-1] == (len(DATA), len(DATA))


async def test_save_to_replaces_a_file_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    file = await stored()
    (tmp_path / "copy.bin").write_bytes(b"the old")

    async def progress(done: int, total: int | None) -> None:
        assert (tmp_path / "copy.bin").read_bytes() == b"the old"
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        await file.save_to(tmp_path / "copy.bin", progress)
    assert (tmp_path / "copy.bin").read_bytes() == b"the old"
    assert [path.name for path in tmp_path.iterdir()] == ["copy.bin"]
    await file.save_to(tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == DATA


async def test_save_to_of_a_missing_file_makes_no_path(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        await AsyncGridFile("nowhere").save_to(tmp_path / "copy.bin")
    assert list(tmp_path.iterdir()) == []


async def test_save_to_writes_into_anything_with_write(tmp_path: Path) -> None:
    file = await stored()
    buffer = io.BytesIO()
    buffer.write(b"before ")
    await file.save_to(buffer)
    assert buffer.getvalue() == b"before " + DATA
    async with await anyio.open_file(tmp_path / "anyio", "wb") as writable:
        await file.save_to(writable)
    async with aiofiles.open(tmp_path / "aiofiles", "wb") as other:
        await file.save_to(other)
    assert (tmp_path / "anyio").read_bytes() == (tmp_path / "aiofiles").read_bytes() == DATA


async def test_save_to_of_an_empty_file_makes_an_empty_file(tmp_path: Path) -> None:
    file = await stored(b"")
    await file.save_to(tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("sink", [7, io.StringIO(), object(), None])
async def test_save_to_refuses_what_cannot_be_written_to(sink: Any) -> None:
    file = await stored()
    with pytest.raises(BadSource):
        await file.save_to(sink)
