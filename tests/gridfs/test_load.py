"""Two hundred tasks at once on one client: no error, every byte as it was put, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
)

from gridproxy import AsyncGridFile, Bucket, DownloadStream, FileMissing, Staged
from gridproxy.gridfs.download.download import Download
from gridproxy.gridfs.upload.batch_sender import BatchSender
from gridproxy.gridfs.upload.undo_log import UndoLog
from gridproxy.gridfs.upload.upload import Upload
from gridproxy.runtime import tasks

from ..faults.whole import stored_files

CHUNK = 16 * 1024
SIZES = [0, 1, 1000, CHUNK, 3 * CHUNK + 5, 8 * CHUNK]
POOL = 20


class Connections(ConnectionPoolListener):
    """How many connections of a client are open, and in use."""

    def __init__(self) -> None:
        self.open = self.most = self.in_use = 0

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self.open += 1
        self.most = max(self.most, self.open)

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        self.open -= 1

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        self.in_use += 1

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        self.in_use -= 1


# Every event of the interface has to be there; the others tell nothing that is counted.
for _name in (
    "pool_created",
    "pool_ready",
    "pool_cleared",
    "pool_closed",
    "connection_ready",
    "connection_check_out_started",
    "connection_check_out_failed",
):
    setattr(Connections, _name, lambda self, event: None)


@asynccontextmanager
async def loaded_bucket(uri: str, pool: int) -> AsyncIterator[tuple[Bucket, Connections]]:
    connections = Connections()
    name = f"gridproxy_test_{uuid.uuid4().hex}"
    # With retryable writes the embedded server takes one insert after the other.
    async with AsyncMongoClient[dict[str, Any]](
        uri, retryWrites=False, maxPoolSize=pool, event_listeners=[connections]
    ) as client:
        bucket = Bucket(client[name], chunk_size=CHUNK)
        await bucket.ensure_indexes()
        yield bucket, connections
        await client.drop_database(name)


async def there_and_back(bucket: Bucket, random: Random) -> int:
    """Let one file live in one of the possible ways, and return how many bytes it had."""
    data = random.randbytes(random.choice(SIZES))
    file = AsyncGridFile(bucket=bucket)
    if random.random() < 0.5:
        await file.put(data)
    else:
        async with file.new_file():
            for at in range(0, len(data), 30_000):
                await file.write(data[at : at + 30_000])
    start, stop = sorted(random.choices(range(len(data) + 10), k=2))
    whole, some, middle = await asyncio.gather(
        bucket.read(file.id), file.read_range(start, stop), first_block(file, start)
    )
    assert whole == data
    assert some == data[start:stop]
    assert data[start:].startswith(middle)
    if random.random() < 0.3:
        data = data[::-1]
        await file.replace(data)
        assert await file.read() == data
    id = file.id
    await file.delete()
    with pytest.raises(FileMissing):
        await bucket.stat(id)
    return len(data)


async def first_block(file: AsyncGridFile, start: int) -> bytes:
    """Read the beginning of a stream, and give the stream up."""
    async with file.stream(start) as stream:
        return await anext(stream, b"")


async def load(bucket: Bucket, count: int, seconds: float) -> int:
    """Work at once, each task for this long and once at least; how many bytes went there and back."""
    end = time.monotonic() + seconds

    async def work(number: int) -> int:
        random, size = Random(number), 0
        while True:
            size += await there_and_back(bucket, random)
            if time.monotonic() >= end:
                return size

    return sum(await asyncio.gather(*(work(number) for number in range(count))))


def ours() -> list[object]:
    """Return how many of our objects for single calls are alive."""
    gc.collect()
    kinds = (AsyncGridFile, Upload, BatchSender, UndoLog, Download, DownloadStream, Staged)
    return [each for each in gc.get_objects() if type(each) in kinds]


async def test_two_hundred_tasks_get_their_bytes_back_and_leave_nothing(mongodb_uri: str) -> None:
    async with loaded_bucket(mongodb_uri, POOL) as (bucket, connections):
        await load(bucket, 2 * POOL, 0)  # connections are made, caches filled
        objects, blocks = len(ours()), sys.getallocatedblocks()
        assert await load(bucket, 200, 1) > 1_000_000
        await asyncio.sleep(0)
        assert not tasks._running
        assert len(ours()) == objects
        # A task's worth of what it takes is some hundred blocks.
        assert sys.getallocatedblocks() - blocks < 200 * 50
        assert connections.in_use == 0
        assert 1 < connections.most <= POOL
        assert await stored_files(bucket.database) == {}


@pytest.mark.parametrize("pool", [1, 2])
async def test_a_small_pool_never_deadlocks(mongodb_uri: str, pool: int) -> None:
    async with loaded_bucket(mongodb_uri, pool) as (bucket, connections):
        async with asyncio.timeout(120):
            await load(bucket, 30, 0)
        assert connections.in_use == 0
        assert connections.most <= pool
        assert await stored_files(bucket.database) == {}
