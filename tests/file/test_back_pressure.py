"""Bytes on their way into a new file: their order, the memory that they take, and what a failure of theirs ends."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

import gridproxy
from gridproxy import AsyncGridFile, BufferFull
from gridproxy.gridfs.store.collections import Record, Store

from ..observing import Database, contents, orphans

pytestmark = pytest.mark.usefixtures("connected")


async def test_an_unawaited_write_past_64_mb_raises_and_writes_nothing(database: Database) -> None:
    photo = AsyncGridFile()
    megabyte = bytes(1024 * 1024)
    with pytest.raises(BufferFull) as caught:
        async with photo.new_file():
            for _ in range(63):
                photo.write(megabyte)
            with pytest.raises(BufferFull):
                photo.write(megabyte + b"x")
            photo.write(megabyte)  # there was room for it: the one before was not taken
            photo.write(b"x")
    assert caught.value.limit == caught.value.waiting == 64 * 1024 * 1024
    assert caught.value.came == 1
    assert isinstance(caught.value, BufferError)
    assert await contents(database) == (0, 0)


async def test_awaiting_makes_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sent(*_: Any, **__: Any) -> None:
        pass

    monkeypatch.setattr(Store, "insert_chunks", sent)
    photo = AsyncGridFile()
    megabyte = bytes(1024 * 1024)
    with pytest.raises(BufferFull):
        async with photo.new_file():
            for _ in range(60):
                photo.write(megabyte)
            await photo.write(megabyte)
            for _ in range(64):
                photo.write(megabyte)
            photo.write(b"x")
    assert not photo


class ContentCheck:
    """Batches stand before it, and are counted, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.four_wait = asyncio.Event()
        self.waiting = self.most = self.passed = 0
        self.bytes_waiting = 0
        insert_chunks = Store.insert_chunks

        async def held_up(store: Store, documents: list[Record], **options: Any) -> None:
            self.waiting += 1
            self.bytes_waiting += sum(len(document["data"]) for document in documents)
            self.most = max(self.most, self.waiting)
            if self.waiting == 4:
                self.four_wait.set()
            try:
                await self.open.wait()
                await insert_chunks(store, documents, **options)
            finally:
                self.waiting -= 1
                self.passed += 1

        monkeypatch.setattr(Store, "insert_chunks", held_up)


async def spin(turns: int = 200) -> None:
    """Let everything else run as far as it can."""
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("small_batches")
async def test_an_awaited_write_waits_while_four_batches_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = ContentCheck(monkeypatch)
    photo = AsyncGridFile()
    taken = 0

    async def write() -> None:
        nonlocal taken
        async with photo.new_file(chunk_size=4):
            for number in range(100):
                data = number.to_bytes(4, "big") * 2  # one batch
                taken += len(data)
                await photo.write(data)

    task = asyncio.create_task(write())
    await gate.four_wait.wait()
    await spin()
    assert gate.waiting == 4
    assert taken <= gate.bytes_waiting + 2 * 8
    gate.open.set()
    await task
    assert gate.most == 4
    assert await photo.read() == b"".join(number.to_bytes(4, "big") * 2 for number in range(100))


@pytest.mark.usefixtures("small_batches")
async def test_a_source_is_read_only_as_fast_as_the_server_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = ContentCheck(monkeypatch)
    given = 0

    async def blocks() -> Any:
        nonlocal given
        for _ in range(100):
            given += 8
            yield bytes(8)

    photo = AsyncGridFile()
    task = asyncio.create_task(photo.put(blocks(), chunk_size=4))
    await gate.four_wait.wait()
    await spin()
    assert gate.waiting == 4
    assert given <= gate.bytes_waiting + 2 * 8
    gate.open.set()
    assert (await task).length == 100 * 8
    assert gate.most == 4


async def test_the_result_of_write_can_be_gathered_ensured_and_waited_for() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        ensured = asyncio.ensure_future(photo.write(b"1"))
        assert list(await asyncio.gather(photo.write(b"2"), photo.write(b"33"), ensured)) == [1, 2, 1]
        assert await asyncio.wait_for(photo.write(b"4"), 10) == 1
        async with asyncio.TaskGroup() as group:

            async def wrapped(data: bytes) -> None:
                await photo.write(data)

            group.create_task(wrapped(b"5"))
    assert await photo.read() == b"123345"


async def test_awaiting_a_write_twice_writes_it_once() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        written = photo.write(b"once")
        await written
        await written
    assert await photo.read() == b"once"


@pytest.mark.usefixtures("small_batches")
async def test_the_order_is_that_of_the_calls_under_any_mix_of_awaits() -> None:
    choice = random.Random(7)
    photo = AsyncGridFile()
    expected = bytearray()
    async with photo.new_file(chunk_size=50):
        waiting = []
        for number in range(400):
            data = str(number).encode() * choice.randrange(40)
            expected += data
            written = photo.write(data)
            kind = choice.randrange(4)
            if kind == 0:
                await written
            elif kind == 1:
                waiting.append(asyncio.ensure_future(written))
            elif kind == 2:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    assert await photo.read() == expected


@pytest.mark.usefixtures("small_batches")
async def test_after_a_failed_batch_every_write_fails_and_no_file_is_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise OSError("the first failure")

    photo = AsyncGridFile()
    await photo.new_file(chunk_size=4)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert_chunks", refused)
        await photo.write(b"x" * 8)
        await spin()
        with pytest.raises(OSError, match="the first failure"):
            await photo.write(b"y")
    with pytest.raises(OSError, match="the first failure"):
        photo.write(b"z")
    with pytest.raises(OSError, match="the first failure"):
        await photo.close()
    await photo.abort()
    assert photo.closed
    assert not photo
    assert await contents(database) == (0, 0)


@pytest.mark.usefixtures("small_batches")
async def test_a_new_file_dropped_half_way_warns_and_leaves_no_record(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.new_file(chunk_size=4)
    await photo.write(b"x" * 8)
    held = [photo]
    del photo
    with pytest.warns(ResourceWarning, match="collect_garbage"):
        held.clear()
    gc.collect()
    await spin()
    assert (await contents(database))[0] == 0


@pytest.mark.usefixtures("small_batches")
async def test_a_writer_stays_with_the_bucket_that_it_was_opened_on(database: Database) -> None:
    elsewhere = database.client[f"{database.name}_elsewhere"]
    photo = AsyncGridFile()
    try:
        await photo.new_file(chunk_size=4)
        with gridproxy.using(elsewhere):
            await photo.write(b"x" * 8)
            await photo.close()
            assert await contents(elsewhere) == (0, 0)
        assert (await contents(database))[0] == 1
        assert await orphans(database) == []
    finally:
        await database.client.drop_database(elsewhere.name)
