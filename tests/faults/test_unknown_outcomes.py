"""An answer that never came: what became of the record is found out, or said to be unknown and nothing is removed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, ConnectionFailure, ServerSelectionTimeoutError

from gridproxy import AsyncGridFile, Bucket, OutcomeUnknown
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.capabilities import Feature

from ..observing import Commands, without
from .failing import FailingServer
from .whole import Database, stored_files

SMALL = b"one request" * 150  # a chunk and a half
LARGE = bytes(range(256)) * 22  # five chunks and a half: three batches
BATCHES = 3


async def test_two_requests_store_the_file_if_one_failed(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    await server.fail("bulkWrite", closeConnection=True)
    info = await failing.upload(SMALL)
    assert await stored_files(database) == {info.id: SMALL}
    assert not failing.capabilities.missing  # a broken connection says nothing about what the server knows


async def test_a_request_whose_answer_was_lost_is_found_to_have_landed(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_small_files = Store.insert_small_files

    async def unanswered(store: Store, *documents: list[Record]) -> None:
        await insert_small_files(store, *documents)
        raise AutoReconnect("the answer was lost")

    monkeypatch.setattr(Store, "insert_small_files", unanswered)
    info = await failing.upload(SMALL, id="mine")
    assert await stored_files(database) == {info.id: SMALL}


@pytest.mark.parametrize("landed", range(4), ids=["nothing", "a chunk", "both chunks", "the record, too"])
async def test_the_rest_of_a_request_that_landed_in_part_follows(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch, landed: int
) -> None:
    async def torn(_: Store, chunks: list[Record], records: list[Record]) -> None:
        for chunk in chunks[:landed]:
            await database["fs.chunks"].insert_one(chunk)
        if landed > len(chunks):
            await database["fs.files"].insert_many(records)
        raise AutoReconnect("the connection broke in its midst")

    monkeypatch.setattr(Store, "insert_small_files", torn)
    info = await failing.upload(SMALL, id="mine")
    assert await stored_files(database) == {info.id: SMALL}


# The record


@pytest.mark.parametrize("data", [b"", LARGE], ids=["nothing", "several batches"])
async def test_a_record_that_is_inserted_by_the_second_attempt_is_a_success(
    server: FailingServer, failing: Bucket, database: Database, data: bytes
) -> None:
    # pymongo repeats once by itself; the third time it goes well.
    await server.fail("insert", skip=BATCHES if data else 0, times=2, closeConnection=True)
    info = await failing.upload(data)
    assert await stored_files(database) == {info.id: data}


@pytest.mark.parametrize("id", [None, "mine"], ids=["its own id", "the caller's id"])
@pytest.mark.parametrize("data", [b"", LARGE], ids=["nothing", "several batches"])
async def test_a_record_whose_answer_was_lost_is_found_to_have_landed(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch, data: bytes, id: object
) -> None:
    insert_record = Store.insert_record

    async def unanswered(store: Store, record: Record, session: Session | None = None) -> None:
        await insert_record(store, record, session)
        raise AutoReconnect("the answer was lost")

    monkeypatch.setattr(Store, "insert_record", unanswered)
    info = await failing.upload(data, id=id)
    assert await stored_files(database) == {info.id: data}


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["nothing", "a small file", "several batches"])
async def test_an_outcome_that_stays_unknown_removes_nothing_and_says_which_id(
    server: FailingServer, failing: Bucket, database: Database, data: bytes
) -> None:
    file = AsyncGridFile(bucket=failing)
    skip = BATCHES if data is LARGE else 1 if data is SMALL else 0
    if data is SMALL:
        without(failing, Feature.BULK_WRITE)
    await server.fail("insert", skip=skip, closeConnection=True)
    with pytest.raises(OutcomeUnknown) as caught:
        await file.put(data)
    await server.recover()
    assert not file
    assert isinstance(caught.value.__cause__, ConnectionFailure)
    chunks = [chunk async for chunk in database["fs.chunks"].find(sort=[("n", 1)])]
    assert b"".join(chunk["data"] for chunk in chunks) == data
    assert {chunk["files_id"] for chunk in chunks} <= {caught.value.id}
    await failing.discard(caught.value.id)
    assert await stored_files(database) == {}


async def test_a_small_file_whose_outcome_stays_unknown_says_so_too(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    await server.fail("bulkWrite", "insert", closeConnection=True)
    with pytest.raises(OutcomeUnknown):
        await failing.upload(SMALL)
    await server.recover()
    assert await stored_files(database) == {}


@pytest.mark.parametrize("small", [False, True], ids=["several batches", "a small file"])
async def test_a_cancellation_does_not_hide_that_the_outcome_is_unknown(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    trying, records = asyncio.Event(), []

    async def unanswered(store: Store, record: Record, session: Session | None = None) -> None:
        records.append(record)
        trying.set()
        await asyncio.sleep(0)
        raise AutoReconnect("no answer")

    without(failing, Feature.BULK_WRITE)
    monkeypatch.setattr(Store, "insert_record", unanswered)
    upload = asyncio.create_task(failing.upload(SMALL if small else LARGE))
    await trying.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    # What the server was still at work on comes true in the end: the file is whole then.
    await database["fs.files"].insert_one(records[0])
    assert await stored_files(database) == {records[0]["_id"]: SMALL if small else LARGE}


async def test_a_cancelled_insert_that_the_server_is_slow_with_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    await server.fail("bulkWrite", times=1, blockConnection=True, blockTimeMS=200)
    upload = asyncio.create_task(failing.upload(SMALL))
    while not commands.of("bulkWrite"):  # a listener's event cannot be awaited
        await asyncio.sleep(0)
        assert not upload.done()
    for _ in range(3):
        upload.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await stored_files(database) == {}


async def test_an_unreachable_server_is_not_an_unknown_outcome(
    failing: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: Any) -> None:
        raise ServerSelectionTimeoutError("nothing was sent")

    monkeypatch.setattr(Store, "insert_record", unreachable)
    monkeypatch.setattr(Store, "insert_small_files", unreachable)
    for data in (b"", SMALL, LARGE):
        with pytest.raises(ServerSelectionTimeoutError, match="nothing was sent"):
            await failing.upload(data)
