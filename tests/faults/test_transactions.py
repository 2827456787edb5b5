"""In a transaction of the caller only the record takes part, and the chunks are written outside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, FileMissing

from .cancelling import Work, cancelled_everywhere
from .whole import stored_files

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

SMALL = b"one request" * 150
LARGE = bytes(range(256)) * 22

# The value to pass as `session=`, and the session itself.
Given = tuple[AsyncClientSession | None, AsyncClientSession]


@asynccontextmanager
async def explicit(bucket: Bucket) -> AsyncIterator[Given]:
    async with bucket.database.client.start_session() as session:
        await session.start_transaction()
        yield session, session
        if session.in_transaction:
            await session.abort_transaction()


@asynccontextmanager
async def bound(bucket: Bucket) -> AsyncIterator[Given]:
    if not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")
    async with bucket.database.client.start_session() as session, session.bind():
        await session.start_transaction()
        yield None, session
        if session.in_transaction:
            await session.abort_transaction()


Transaction = Callable[[Bucket], AbstractAsyncContextManager[Given]]
TRANSACTIONS = pytest.mark.parametrize("transaction", [explicit, bound])
SIZES = pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["nothing", "a small file", "several batches"])


async def chunks_seen_outside(bucket: Bucket) -> int:
    async with bucket.database.client.start_session() as session:
        return await bucket.database["fs.chunks"].count_documents({}, session=session)


@pytest.fixture(autouse=True)
async def _with_indexes(bucket: Bucket) -> None:
    await bucket.ensure_indexes()


@TRANSACTIONS
@SIZES
async def test_a_committed_file_is_whole(bucket: Bucket, transaction: Transaction, data: bytes) -> None:
    file = AsyncGridFile(bucket=bucket)
    async with transaction(bucket) as (given, session):
        await file.put(data, session=given)
        assert (await chunks_seen_outside(bucket) > 0) is bool(data)
        assert await file.read(session=given) == data
        await session.commit_transaction()
    assert await stored_files(bucket.database) == {file.id: data}


@TRANSACTIONS
@SIZES
async def test_an_aborted_file_is_missing(bucket: Bucket, transaction: Transaction, data: bytes) -> None:
    async with transaction(bucket) as (given, session):
        info = await bucket.upload(data, session=given)
        await session.abort_transaction()
    with pytest.raises(FileMissing):
        await bucket.stat(info.id)
    # Its chunks were not part of the transaction, so `discard` or the garbage collector has to remove them.
    await bucket.discard(info.id)
    assert await stored_files(bucket.database) == {}


@TRANSACTIONS
async def test_only_the_record_of_a_written_file_takes_part(bucket: Bucket, transaction: Transaction) -> None:
    file = AsyncGridFile(bucket=bucket)
    async with transaction(bucket) as (given, session):
        async with file.new_file(session=given):
            await file.write(LARGE)
            file.write(SMALL)
        await session.commit_transaction()
    assert await stored_files(bucket.database) == {file.id: LARGE + SMALL}


@TRANSACTIONS
async def test_tasks_started_inside_write_their_chunks_outside(bucket: Bucket, transaction: Transaction) -> None:
    async with transaction(bucket) as (given, session):
        task = asyncio.create_task(bucket.upload(LARGE, session=given))
        info = await task
        await session.abort_transaction()
    assert await chunks_seen_outside(bucket) == info.chunk_count


@TRANSACTIONS
async def test_an_aborted_delete_keeps_the_file(bucket: Bucket, transaction: Transaction) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(LARGE)
    async with transaction(bucket) as (given, session):
        await bucket.delete(file.id, session=given)
        await session.abort_transaction()
    assert await file.read() == LARGE


@TRANSACTIONS
async def test_an_id_in_use_is_refused_and_its_file_stays(bucket: Bucket, transaction: Transaction) -> None:
    await bucket.upload(SMALL, id="mine")
    async with transaction(bucket) as (given, _):
        with pytest.raises(FileAlreadyStored):
            await bucket.upload(LARGE, id="mine", session=given)
    assert await stored_files(bucket.database) == {"mine": SMALL}


@TRANSACTIONS
async def test_a_failed_upload_leaves_no_chunk_and_the_transaction_continues(
    bucket: Bucket, transaction: Transaction
) -> None:
    def broken() -> Any:
        yield LARGE
        raise OSError("the disk is gone")

    async with transaction(bucket) as (given, session):
        kept = await bucket.upload(SMALL, session=given)
        with pytest.raises(OSError, match="the disk is gone"):
            await bucket.upload(broken(), session=given)
        await session.commit_transaction()
    assert await stored_files(bucket.database) == {kept.id: SMALL}


async def test_an_upload_after_the_server_ended_the_transaction_leaves_no_chunk(bucket: Bucket) -> None:
    async with explicit(bucket) as (given, session):
        await bucket.upload(b"", session=given)
        # As after 60 seconds: the server has ended the transaction, and the client does not know it.
        await bucket.database.client.admin.command("killSessions", [session.session_id])
        with pytest.raises(OperationFailure):
            await bucket.upload(LARGE, session=given)
    assert await stored_files(bucket.database) == {}


@pytest.mark.parametrize("bind", [False, True], ids=["explicit", "bound"])
async def test_a_cancelled_upload_leaves_no_chunk_and_no_record(bucket: Bucket, bind: bool) -> None:
    if bind and not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")

    async def make() -> Work:
        session = bucket.database.client.start_session()
        await session.start_transaction()

        async def run() -> None:
            if bind:
                async with session.bind(end_session=False):
                    await bucket.upload(LARGE)
            else:
                await bucket.upload(LARGE, session=session)

        async def check(returned: bool) -> None:
            await session.commit_transaction()
            await session.end_session()
            files = await stored_files(bucket.database)
            assert list(files.values()) == ([LARGE] if returned else [])
            await bucket.delete_many(files)

        return Work(run, check)

    await cancelled_everywhere(make, stride=6)
