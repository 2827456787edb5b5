"""Transactions that end badly: conflicts, unanswered commits, and blocks that end the transaction themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import (
    AutoReconnect,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from gridproxy import AsyncGridFile, Bucket, CommitUnknown, FileClosed, UploadInProgress, transaction
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.transactions import transactions

from ..observing import Commands
from .failing import FailingServer
from .whole import Database, stored_files

OLD = b"the old file" * 100
NEW = bytes(range(256)) * 22
UNKNOWN = "UnknownTransactionCommitResult"
TRANSIENT = "TransientTransactionError"

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop after the second commit, each of which has enough time on a busy machine."""
    monkeypatch.setattr(transactions, "COMMIT_SECONDS", 0.6)
    monkeypatch.setattr(transactions, "_PAUSE", 0.25)


@pytest.fixture
async def replaced(bucket: Bucket) -> AsyncGridFile:
    file = AsyncGridFile(bucket=bucket)
    await file.put(OLD)
    return file


def committing(
    monkeypatch: pytest.MonkeyPatch, *errors: Exception, commits: bool = True, hang: bool = False
) -> list[int]:
    """Make commits raise these errors in order, then the last one repeatedly. `commits` really commits before."""
    commit, calls = AsyncClientSession.commit_transaction, list[int]()

    async def unanswered(self: AsyncClientSession) -> None:
        calls.append(1)
        if commits:
            await commit(self)
        if hang:
            await asyncio.sleep(3600)
        raise errors[min(len(calls), len(errors)) - 1]

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", unanswered)
    return calls


def unknown() -> AutoReconnect:
    error = AutoReconnect("no answer")
    error._error_labels.add(UNKNOWN)
    return error


# The commit


async def test_a_commit_whose_connection_is_cut_is_repeated(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    file = AsyncGridFile(bucket=failing)
    await file.put(OLD)
    async with transaction(server.client) as tx:
        await file.replace(NEW, session=tx.session)
        await server.fail("commitTransaction", times=3, closeConnection=True)
    assert len(commands.of("commitTransaction")) == 4
    assert await stored_files(database) == {file.id: NEW}


async def test_a_commit_with_a_retryable_error_is_repeated(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    async with transaction(server.client) as tx:
        await file.put(NEW, session=tx.session)
        await server.fail("commitTransaction", times=3, errorCode=91)
    assert await stored_files(database) == {file.id: NEW}


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("error", [unknown(), WriteConcernError("no majority", 100)], ids=["no answer", "no majority"])
async def test_a_commit_with_an_unknown_outcome_removes_nothing_and_names_the_ids(
    replaced: AsyncGridFile,
    bucket: Bucket,
    database: Database,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
    error: Exception,
) -> None:
    old, other = replaced.id, AsyncGridFile(bucket=bucket)
    calls = committing(monkeypatch, error, commits=committed)
    with pytest.raises(CommitUnknown) as caught:
        async with transaction(database.client) as tx:
            new = await replaced.replace(NEW, session=tx.session)
            staged = await bucket.stage(b"staged")
            await other.put(staged, session=tx.session)
    assert len(calls) > 1
    assert caught.value.__cause__ is error
    assert caught.value.has_error_label(UNKNOWN)
    assert caught.value.ids == [new.id, staged.id, old]
    assert (replaced.id, other.id) == (new.id, staged.id)
    monkeypatch.undo()
    assert await chunks_of(database) == {old: OLD, new.id: NEW, staged.id: b"staged"}
    assert await replaced.exists() is committed
    await bucket.discard(old if committed else new.id)
    await bucket.discard(staged) if not committed else None
    assert await stored_files(database) == ({new.id: NEW, staged.id: b"staged"} if committed else {old: OLD})


async def chunks_of(database: Database) -> dict[Any, bytes]:
    found: dict[Any, bytes] = {}
    async for chunk in database["fs.chunks"].find(sort=[("files_id", 1), ("n", 1)]):
        found[chunk["files_id"]] = found.get(chunk["files_id"], b"") + chunk["data"]
    return found


async def test_a_commit_that_never_returns_has_an_unknown_outcome(
    replaced: AsyncGridFile, database: Database, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    committing(monkeypatch, unknown(), hang=True)
    with pytest.raises(CommitUnknown) as caught:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert len(await chunks_of(database)) == 2


async def test_an_unknown_outcome_stays_unknown_if_a_later_commit_is_refused(
    replaced: AsyncGridFile, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = OperationFailure("not authorized", 13)
    committing(monkeypatch, unknown(), refused)
    with pytest.raises(CommitUnknown) as caught:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
    assert caught.value.__cause__ is refused
    assert len(await chunks_of(database)) == 2


@pytest.mark.parametrize("first", [[], [unknown()]], ids=["at once", "after an unknown outcome"])
async def test_a_commit_of_a_transaction_unknown_to_the_server_is_an_abort(
    replaced: AsyncGridFile, database: Database, monkeypatch: pytest.MonkeyPatch, first: list[Exception]
) -> None:
    old = replaced.id
    failure = OperationFailure("no such transaction", 251, {"errorLabels": [TRANSIENT]})
    committing(monkeypatch, *first, failure, commits=False)
    with pytest.raises(OperationFailure) as caught:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
    assert caught.value is failure
    assert replaced.id == old
    assert await stored_files(database) == {old: OLD}


async def test_a_refused_commit_is_an_abort(server: FailingServer, failing: Bucket, database: Database) -> None:
    file = AsyncGridFile(bucket=failing)
    with pytest.raises(OperationFailure):
        async with transaction(server.client) as tx:
            await file.put(NEW, session=tx.session)
            await server.fail("commitTransaction", times=1, errorCode=13)
    assert not file
    assert await stored_files(database) == {}


# Conflicts


async def test_a_write_conflict_aborts_and_is_raised_unchanged(
    replaced: AsyncGridFile, bucket: Bucket, database: Database
) -> None:
    old, runs = replaced.id, 0
    with pytest.raises(PyMongoError) as caught:
        async with transaction(database.client) as tx:
            runs += 1
            await bucket.stat(old, session=tx.session)
            await bucket.rename(old, "by another")
            await replaced.replace(NEW, session=tx.session)
    assert caught.value.has_error_label(TRANSIENT)
    assert (runs, replaced.id) == (1, old)
    assert await stored_files(database) == {old: OLD}


async def test_an_error_caught_in_the_block_fails_the_commit(
    replaced: AsyncGridFile, bucket: Bucket, database: Database
) -> None:
    old = replaced.id
    with pytest.raises(PyMongoError) as caught:
        async with transaction(database.client) as tx:
            await bucket.stat(old, session=tx.session)
            await bucket.rename(old, "by another")
            with pytest.raises(PyMongoError):
                await replaced.replace(NEW, session=tx.session)
    assert caught.value.has_error_label(TRANSIENT)
    assert replaced.id == old
    assert await stored_files(database) == {old: OLD}


async def test_a_server_that_restarts_in_the_block_keeps_nothing(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    old = await file.put(OLD)
    with pytest.raises(AutoReconnect):
        async with transaction(server.client) as tx:
            await file.replace(b"in between", session=tx.session)
            await server.fail("insert", skip=3, times=1, closeConnection=True)
            await file.replace(NEW, session=tx.session)
    assert file.id == old.id
    assert await stored_files(database) == {old.id: OLD}


# Blocks that end the transaction themselves


@pytest.mark.parametrize("fails", [False, True], ids=["left", "left by an exception"])
async def test_a_block_may_commit_by_itself(replaced: AsyncGridFile, database: Database, fails: bool) -> None:
    try:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
            await tx.session.commit_transaction()
            if fails:
                raise OSError
    except OSError:
        assert fails
    assert await stored_files(database) == {replaced.id: NEW}


@pytest.mark.parametrize("fails", [False, True], ids=["left", "left by an exception"])
async def test_a_block_may_abort_by_itself(replaced: AsyncGridFile, database: Database, fails: bool) -> None:
    old = replaced.id
    try:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
            await tx.session.abort_transaction()
            if fails:
                raise OSError
    except OSError:
        assert fails
    assert replaced.id == old
    assert await stored_files(database) == {old: OLD}


async def test_a_block_that_ends_the_session_aborts_the_transaction(
    replaced: AsyncGridFile, database: Database
) -> None:
    old = replaced.id
    with pytest.raises(InvalidOperation, match="end_session=False"):
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
            await tx.session.end_session()
    assert replaced.id == old
    assert await stored_files(database) == {old: OLD}


async def test_a_block_that_closes_the_client_commits_nothing(mongodb_uri: str, database: Database) -> None:
    client: Any = type(database.client)(mongodb_uri)
    file = AsyncGridFile(bucket=Bucket(client[database.name]))
    with pytest.raises(InvalidOperation) as caught:
        async with transaction(client) as tx:
            lsid = tx.session.session_id
            info = await file.put(NEW, session=tx.session)
            await client.close()
    assert caught.value.__notes__
    assert not file
    with pytest.raises(UploadInProgress, match="in a transaction that is not over"):
        await Bucket(database).discard(info.id)  # the server heard of no abort, and gives up after a minute
    await database.client.admin.command("killSessions", [lsid])
    await Bucket(database).discard(info.id)
    assert await stored_files(database) == {}


# Files that are still being written


async def test_a_file_that_is_still_open_at_the_end_aborts_the_transaction(
    replaced: AsyncGridFile, bucket: Bucket, database: Database
) -> None:
    old, other = replaced.id, AsyncGridFile(bucket=bucket)
    with pytest.raises(UploadInProgress, match="still being written"):
        async with transaction(database.client) as tx:
            await replaced.replace(b"in between", session=tx.session)
            await replaced.new_file(replace=True, session=tx.session)
            await replaced.write(NEW)
            await other.put(NEW, session=tx.session)
    assert (replaced.id, replaced.closed, other.id) == (old, True, None)
    assert await stored_files(database) == {old: OLD}
    await replaced.replace(NEW)


async def test_a_put_that_outlives_its_transaction_stores_nothing(bucket: Bucket, database: Database) -> None:
    file, go_on = AsyncGridFile(bucket=bucket), asyncio.Event()

    async def slow() -> Any:
        yield NEW
        await go_on.wait()
        yield NEW

    with pytest.raises(OSError, match="the block"):
        async with transaction(database.client) as tx:
            put = asyncio.create_task(file.put(slow(), session=tx.session))
            while not await database["fs.chunks"].find_one():  # noqa: ASYNC110  # no event reports an inserted batch
                await asyncio.sleep(0)
            raise OSError("the block")
    go_on.set()
    with pytest.raises(FileClosed):
        await put
    assert not file
    assert await stored_files(database) == {}


async def test_a_put_that_ends_during_the_end_of_its_transaction_stores_nothing(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, insert, inserted, go_on = AsyncGridFile(bucket=bucket), Store.insert_record, asyncio.Event(), asyncio.Event()

    async def slow(store: Store, *args: Any) -> None:
        await insert(store, *args)
        inserted.set()
        await go_on.wait()

    monkeypatch.setattr(Store, "insert_record", slow)
    with pytest.raises(UploadInProgress):
        async with transaction(database.client) as tx:
            put = asyncio.create_task(file.put(NEW, session=tx.session))
            await inserted.wait()
    go_on.set()
    with pytest.raises(FileClosed, match="ended before"):
        await put
    assert not file
    assert await stored_files(database) == {}
