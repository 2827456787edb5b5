"""A server that fails midway: the error comes out plain, nothing stays behind, and the next try works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from gridproxy import AsyncGridFile, Bucket, OutcomeUnknown, publish
from gridproxy.store import Record, Session, Store
from tests.observing import Commands

from .conftest import CHUNK
from .failing import FailingServer, failing_server
from .whole import Database, stored_files

SMALL = b"one request" * 150  # a chunk and a half
LARGE = bytes(range(256)) * 22  # five chunks and a half: three batches
BATCHES = 3
UNAUTHORIZED = 13
COMMAND_NOT_FOUND = 59


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_PAUSE", 0)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def server(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], commands: Commands
) -> AsyncIterator[FailingServer]:
    async with failing_server(mongodb_uri, client, commands) as server:
        yield server


@pytest.fixture
async def failing(server: FailingServer, database: Database, small_batches: None) -> Bucket:
    """A bucket of the failing client, its indexes there already."""
    bucket = Bucket(server.client[database.name], chunk_size=CHUNK)
    await bucket.ensure_indexes()
    return bucket


async def assert_untouched(bucket: Bucket, database: Database, server: FailingServer, file: AsyncGridFile) -> None:
    """Nothing lies in the bucket, the proxy is empty, and another try stores the file."""
    await server.recover()
    assert await stored_files(database) == {}
    assert not file
    assert file.closed
    await file.put(LARGE)
    assert await stored_files(database) == {file.id: LARGE}
    await bucket.delete(file.id)


async def put(file: AsyncGridFile) -> None:
    await file.put(LARGE)


async def write_awaited(file: AsyncGridFile) -> None:
    async with file.new_file():
        for at in range(0, len(LARGE), 1000):
            await file.write(LARGE[at : at + 1000])


async def write_unawaited(file: AsyncGridFile) -> None:
    async with file.new_file():
        for at in range(0, len(LARGE), 1000):
            file.write(LARGE[at : at + 1000])


async def replace(file: AsyncGridFile) -> None:
    await file.replace(LARGE)


CALLS = pytest.mark.parametrize("call", [put, write_awaited, write_unawaited, replace])
Call = Callable[[AsyncGridFile], Awaitable[None]]


@CALLS
@pytest.mark.parametrize("skip", range(BATCHES + 1), ids=["first batch", "second batch", "third batch", "record"])
async def test_an_error_of_any_insert_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, call: Call, skip: int
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=skip, times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as caught:
        await call(file)
    assert caught.value.code == UNAUTHORIZED
    assert not hasattr(caught.value, "__notes__")
    await assert_untouched(failing, database, server, file)


@CALLS
async def test_a_connection_that_breaks_with_every_batch_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, call: Call
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", closeConnection=True)
    with pytest.raises(ConnectionFailure) as caught:
        await call(file)
    assert not isinstance(caught.value, OutcomeUnknown)
    await assert_untouched(failing, database, server, file)


async def test_a_connection_that_breaks_once_goes_unnoticed(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    for skip in range(BATCHES + 1):
        await server.fail("insert", skip=skip, times=1, closeConnection=True)
        info = await failing.upload(LARGE)
        await server.recover()
        assert await stored_files(database) == {info.id: LARGE}
        await failing.delete(info.id)


async def test_a_record_that_landed_without_the_wished_durability_is_taken_back(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=BATCHES, times=1, writeConcernError={"code": 64, "errmsg": "too few nodes"})
    with pytest.raises(WriteConcernError):
        await file.put(LARGE)
    await assert_untouched(failing, database, server, file)


async def test_an_error_of_the_one_request_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("bulkWrite", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as caught:
        await file.put(SMALL)
    assert caught.value.code == UNAUTHORIZED
    assert len(commands.of("bulkWrite")) == 1
    await assert_untouched(failing, database, server, file)


async def test_the_two_steps_store_what_the_one_request_could_not(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    await server.fail("bulkWrite", closeConnection=True)
    info = await failing.upload(SMALL)
    assert await stored_files(database) == {info.id: SMALL}
    assert failing.store.state.bulk_write  # a broken connection says nothing about what the server knows


async def test_a_request_whose_answer_was_lost_is_found_to_have_landed(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_whole = Store.insert_whole

    async def unanswered(store: Store, *documents: list[Record]) -> None:
        await insert_whole(store, *documents)
        raise AutoReconnect("the answer was lost")

    monkeypatch.setattr(Store, "insert_whole", unanswered)
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

    monkeypatch.setattr(Store, "insert_whole", torn)
    info = await failing.upload(SMALL, id="mine")
    assert await stored_files(database) == {info.id: SMALL}


# The record, and what became of it


@pytest.mark.parametrize("data", [b"", LARGE], ids=["nothing", "several batches"])
async def test_a_record_that_lands_at_the_second_attempt_is_a_success(
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
        failing.store.state.bulk_write = False
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

    failing.store.state.bulk_write = False
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


async def test_no_server_at_all_is_no_unknown_outcome(failing: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any) -> None:
        raise ServerSelectionTimeoutError("nothing was sent")

    monkeypatch.setattr(Store, "insert_record", unreachable)
    monkeypatch.setattr(Store, "insert_whole", unreachable)
    for data in (b"", SMALL, LARGE):
        with pytest.raises(ServerSelectionTimeoutError, match="nothing was sent"):
            await failing.upload(data)


# Writes after a failure


async def test_the_first_failure_sticks_to_later_writes_and_to_close(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await file.new_file()
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as first:
        while True:
            await file.write(b"x" * CHUNK)
    with pytest.raises(OperationFailure) as later:
        file.write(b"more")
    assert later.value is first.value
    with pytest.raises(OperationFailure) as at_close:
        await file.close()
    assert at_close.value is first.value
    await assert_untouched(failing, database, server, file)


async def test_a_block_whose_writes_failed_unseen_raises_at_its_end_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=1, times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        async with file.new_file():
            try:
                while True:
                    await file.write(b"x" * CHUNK)
            except OperationFailure:
                pass
    await assert_untouched(failing, database, server, file)


async def test_a_writer_that_failed_says_so_again_at_a_second_close(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    writer = await failing.open_upload()
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    writer.write(LARGE)
    for _ in range(2):
        with pytest.raises(OperationFailure):
            await writer.close()
    assert await stored_files(database) == {}


async def test_a_clean_up_that_fails_too_adds_a_note_to_the_error(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    class FailingMidway:
        """Gives two batches, and then an error while the server has become deaf to deletes."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield LARGE
            await server.fail("delete", errorCode=UNAUTHORIZED)
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        await failing.upload(FailingMidway())
    (note,) = caught.value.__notes__
    assert "clean-up failed too" in note
    assert "collect_garbage" in note
    await server.recover()
    assert await database["fs.chunks"].count_documents({})


async def test_a_replace_that_cannot_remove_the_old_file_keeps_the_new_one(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await file.put(SMALL)
    old = file.id
    await server.fail("delete", errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        await file.replace(LARGE)
    await server.recover()
    assert await stored_files(database) == {old: SMALL, file.id: LARGE}


# A server before 8.0


async def test_without_bulk_writes_a_small_file_takes_two_steps(
    failing: Bucket, database: Database, commands: Commands
) -> None:
    failing.store.state.bulk_write = False
    commands.clear()
    info = await failing.upload(SMALL)
    assert not commands.of("bulkWrite")
    assert len(commands.of("insert")) == 2
    assert await stored_files(database) == {info.id: SMALL}


async def test_a_server_that_does_not_know_bulk_writes_is_asked_once_per_client(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    await server.fail("bulkWrite", errorCode=COMMAND_NOT_FOUND)
    infos = [await failing.upload(SMALL), await Bucket(server.client[database.name]).upload(SMALL)]
    assert len(commands.of("bulkWrite")) == 1
    assert await stored_files(database) == {info.id: SMALL for info in infos}
    assert Bucket(database).store.state.bulk_write  # another client may well talk to another server


async def test_a_driver_that_refuses_bulk_writes_is_asked_once_per_client(
    server: FailingServer, failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def bulk_write(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise InvalidOperation("MongoClient.bulk_write requires MongoDB server version 8.0+.")

    monkeypatch.setattr(server.client, "bulk_write", bulk_write)
    infos = [await failing.upload(SMALL), await failing.upload(SMALL)]
    assert len(asked) == 1
    assert await stored_files(database) == {info.id: SMALL for info in infos}


async def test_on_an_old_server_an_error_of_the_chunks_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    failing.store.state.bulk_write = False
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        await file.put(SMALL)
    await assert_untouched(failing, database, server, file)
