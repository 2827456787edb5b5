"""`with_transaction` repeats its callback, each time from the same state."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure, PyMongoError

import gridproxy
from gridproxy import AsyncGridFile, BadSource, Bucket, NestedTransaction, Transaction, with_transaction
from gridproxy.gridfs.transactions import transactions

from .whole import Database, stored_files

OLD = b"the old file" * 100
NEW = bytes(range(256)) * 22
TRANSIENT = "TransientTransactionError"

pytestmark = pytest.mark.usefixtures("collected")


def conflict() -> OperationFailure:
    return OperationFailure("write conflict", 112, {"errorLabels": [TRANSIENT]})


async def test_the_result_of_the_callback_is_returned(bucket: Bucket, database: Database) -> None:
    async def work(tx: Transaction) -> str:
        await bucket.upload(NEW, id="mine", session=tx.session)
        return "done"

    assert await with_transaction(database.client, work) == "done"
    assert await stored_files(database) == {"mine": NEW}


async def test_a_write_conflict_repeats_the_callback_from_the_same_state(bucket: Bucket, database: Database) -> None:
    file, fresh = AsyncGridFile(bucket=bucket), AsyncGridFile(bucket=bucket)
    old = await file.put(OLD)
    staged = await bucket.stage(b"staged")
    starts = []

    async def work(tx: Transaction) -> None:
        starts.append((file.id, file.info, fresh.id))
        await file.stat(session=tx.session)
        await fresh.put(staged, session=tx.session)
        if len(starts) < 3:
            await bucket.rename(old.id, f"by another, {len(starts)}")  # after the transaction's first read
        await file.replace(NEW, session=tx.session)
        await fresh.update_metadata(attempt=len(starts), session=tx.session)

    await with_transaction(database.client, work)
    assert starts == [(old.id, old, None)] * 3
    assert await stored_files(database) == {file.id: NEW, staged.id: b"staged"}
    assert fresh.metadata["attempt"] == 3


async def test_a_transient_error_of_the_commit_repeats_the_callback(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, runs = AsyncClientSession.commit_transaction, list[int]()

    async def failing_once(self: AsyncClientSession) -> None:
        if len(runs) == 1:
            raise conflict()
        await commit(self)

    async def work(tx: Transaction) -> None:
        runs.append(1)
        await bucket.upload(NEW, id=len(runs), session=tx.session)

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", failing_once)
    await with_transaction(database.client, work)
    assert await stored_files(database) == {2: NEW}


async def test_the_repetition_has_a_time_limit(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "RETRY_SECONDS", 0.05)
    runs = []

    async def work(tx: Transaction) -> None:
        runs.append(await bucket.upload(NEW, session=tx.session))
        raise conflict()

    with pytest.raises(OperationFailure, match="write conflict"):
        await with_transaction(database.client, work)
    assert runs
    assert await stored_files(database) == {}


@pytest.mark.parametrize("error", [OSError("mine"), PyMongoError("another")], ids=["not the server's", "final"])
async def test_any_other_error_is_raised_without_a_repetition(
    bucket: Bucket, database: Database, error: Exception
) -> None:
    runs = []

    async def work(tx: Transaction) -> None:
        runs.append(await bucket.upload(NEW, session=tx.session))
        raise error

    with pytest.raises(type(error)) as caught:
        await with_transaction(database.client, work)
    assert caught.value is error
    assert len(runs) == 1
    assert await stored_files(database) == {}


async def test_nesting_raises(database: Database) -> None:
    async def nothing(_: Transaction) -> None:
        pytest.fail("it began")

    async with gridproxy.transaction(database.client):
        with pytest.raises(NestedTransaction):
            await with_transaction(database.client, nothing)


# Sources that can be read once


class Unread(io.BytesIO):
    """A file that must not be read."""

    def read(self, *_: Any) -> bytes:
        pytest.fail("it was read")


async def blocks() -> AsyncIterator[bytes]:
    pytest.fail("it was read")
    yield b""


ONE_SHOT: dict[str, Any] = {
    "an open file": lambda: Unread(NEW),
    "a generator": lambda: (pytest.fail("it was read") for _ in range(2)),
    "an async generator": blocks,
    "a stream": asyncio.StreamReader,  # reading it would block for ever
    "an iterator": lambda: iter([b"once"]),
}


@pytest.mark.parametrize("source", ONE_SHOT.values(), ids=ONE_SHOT)
async def test_a_source_that_can_be_read_once_is_refused_unread(
    bucket: Bucket, database: Database, source: Any
) -> None:
    file = AsyncGridFile(bucket=bucket)
    given = source()

    async def work(tx: Transaction) -> None:
        for store in (file.put, file.replace, bucket.upload):
            with pytest.raises(BadSource, match=r"stage\("):
                await store(given, session=tx.session)
        with pytest.raises(BadSource, match=r"stage\("):
            await bucket.upload_many([b"first", given], session=tx.session)
        if hasattr(AsyncClientSession, "bind"):
            async with tx.session.bind(end_session=False):
                with pytest.raises(BadSource, match=r"stage\("):
                    await file.put(given)

    await with_transaction(database.client, work)
    assert await stored_files(database) == {}


async def test_many_files_of_an_iterator_are_refused_too(bucket: Bucket, database: Database) -> None:
    async def work(tx: Transaction) -> None:
        with pytest.raises(BadSource, match=r"stage\("):
            await bucket.upload_many((data for data in [b"a"]), session=tx.session)

    await with_transaction(database.client, work)
    assert await stored_files(database) == {}


async def test_a_repeatable_source_is_read_again(bucket: Bucket, database: Database, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(NEW)
    original = AsyncGridFile(bucket=bucket)
    await original.put(NEW)
    runs: list[int] = []

    async def work(tx: Transaction) -> None:
        runs.append(1)
        for source in (NEW, bytearray(NEW), memoryview(NEW), tmp_path / "new", [NEW], original):
            await bucket.upload(source, session=tx.session)
        await bucket.upload("text", session=tx.session)
        await bucket.upload_many({"a": NEW}, session=tx.session)
        if len(runs) == 1:
            raise conflict()

    await with_transaction(database.client, work)
    assert len(runs) == 2
    assert sorted((await stored_files(database)).values()) == sorted([*[NEW] * 8, b"text"])


async def test_a_source_that_can_be_read_once_is_accepted_outside(bucket: Bucket, database: Database) -> None:
    async def work(tx: Transaction) -> None:
        await bucket.publish(staged, session=tx.session)

    staged = await bucket.stage(io.BytesIO(NEW))
    await with_transaction(database.client, work)
    async with gridproxy.transaction(database.client) as tx:
        await bucket.upload(io.BytesIO(NEW), id="mine", session=tx.session)
    assert await stored_files(database) == {staged.id: NEW, "mine": NEW}
