"""A client that is closed, or belongs to another event loop: pymongo's own error, and nothing stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import InvalidOperation

from gridproxy import AsyncGridFile, Bucket

from .whole import Database, stored_files

SMALL = b"one request"
LARGE = b"several batches" * 1_000_000

CALLS: dict[str, Callable[[Bucket, AsyncGridFile], Awaitable[object]]] = {
    "upload of a small file": lambda bucket, _: bucket.upload(SMALL),
    "upload of several batches": lambda bucket, _: bucket.upload(LARGE),
    "upload under an id": lambda bucket, _: bucket.upload(SMALL, id="mine"),
    "put": lambda bucket, _: AsyncGridFile(bucket=bucket).put(SMALL),
    "new_file": lambda bucket, _: AsyncGridFile(bucket=bucket).new_file(id="mine")._start(),
    "replace": lambda _, file: file.replace(SMALL),
    "read": lambda _, file: file.read(),
    "stream": lambda _, file: file.stream().receive(),
    "stat": lambda _, file: file.stat(),
    "copy": lambda _, file: file.copy(),
    "rename": lambda _, file: file.rename("new"),
    "delete": lambda _, file: file.delete(),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
Call = Callable[[Bucket, AsyncGridFile], Awaitable[object]]


@EVERY_CALL
async def test_a_closed_client_says_so_and_nothing_is_stored(
    mongodb_uri: str, database: Database, bucket: Bucket, call: Call
) -> None:
    stored = await bucket.upload(SMALL)
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        closed = Bucket(client[database.name])
        await closed.ensure_indexes()
    with pytest.raises(InvalidOperation, match="after close"):
        await call(closed, closed.file(stored.id))
    assert await stored_files(database) == {stored.id: SMALL}


async def test_a_client_that_is_closed_while_a_file_is_written_says_so_and_publishes_nothing(
    mongodb_uri: str, database: Database, bucket: Bucket
) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        file = AsyncGridFile(bucket=Bucket(client[database.name]))
        await file.new_file()
        file.write(SMALL)
    with pytest.raises(InvalidOperation, match="after close"):
        await file.close()
    assert file.closed
    assert not file
    assert await stored_files(database) == {}


@EVERY_CALL
def test_a_client_of_another_loop_says_so_and_nothing_is_stored(mongodb_uri: str, call: Call) -> None:
    name = "gridproxy_test_other_loop"
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri)
    bucket = Bucket(client[name])
    with asyncio.Runner() as first, MongoClient[dict[str, Any]](mongodb_uri) as looking:
        looking.drop_database(name)
        stored = first.run(bucket.upload(SMALL))
        with asyncio.Runner() as second, pytest.raises(RuntimeError, match="different event loop"):
            second.run(_awaited(call, bucket, stored.id))
        assert [record["_id"] for record in looking[name]["fs.files"].find()] == [stored.id]
        assert looking[name]["fs.chunks"].count_documents({}) == 1
        looking.drop_database(name)
        first.run(client.close())


async def _awaited(call: Call, bucket: Bucket, id: object) -> None:
    await call(bucket, bucket.file(id))
