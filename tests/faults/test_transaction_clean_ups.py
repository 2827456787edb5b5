"""The clean-up after a transaction covers several buckets, and its failure does not hide the outcome."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect

from gridproxy import AsyncGridFile, Bucket, CommitUnknown, transaction
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.transactions import transactions

from .whole import Database, stored_files

OLD = b"the old file" * 100
NEW = bytes(range(256)) * 22

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture
async def replaced(bucket: Bucket) -> AsyncGridFile:
    file = AsyncGridFile(bucket=bucket)
    await file.put(OLD)
    return file


async def test_the_clean_up_covers_several_buckets(bucket: Bucket, database: Database) -> None:
    other = Bucket(database, "other")
    for each in (bucket, other):
        await each.upload_many([OLD, NEW])
        await each.upload(b"kept", id="kept")
    ids = [info.id async for info in bucket.find({"_id": {"$ne": "kept"}})]
    others = [info.id async for info in other.find({"_id": {"$ne": "kept"}})]
    async with transaction(database.client) as tx:
        await bucket.delete(ids[0], session=tx.session)
        await other.delete_many(others, session=tx.session)
        await bucket.delete(ids[1], session=tx.session)
    assert await stored_files(database) == await stored_files(database, "other") == {"kept": b"kept"}


async def test_a_failed_clean_up_after_a_commit_says_that_it_is_committed(
    replaced: AsyncGridFile, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replaced.id

    async def broken(*_: Any) -> int:
        raise AutoReconnect("gone")

    with monkeypatch.context() as patched, pytest.raises(AutoReconnect) as caught:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
            patched.setattr(Store, "delete_chunks", broken)
    assert "committed" in caught.value.__notes__[0]
    assert await replaced.read() == NEW
    await bucket.discard(old)
    assert await stored_files(database) == {replaced.id: NEW}


async def test_a_failed_clean_up_after_an_abort_does_not_hide_its_cause(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AsyncGridFile(bucket=bucket)

    async def broken(*_: Any) -> int:
        raise AutoReconnect("gone")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="why") as caught:
        async with transaction(database.client) as tx:
            info = await file.put(NEW, session=tx.session)
            patched.setattr(Store, "delete_chunks", broken)
            raise OSError("why")
    assert "collect_garbage" in caught.value.__notes__[0]
    assert not file
    await bucket.discard(info.id)


async def test_a_failed_clean_up_is_noted_on_the_error_of_a_block_that_committed(
    replaced: AsyncGridFile, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replaced.id

    async def broken(*_: Any) -> int:
        raise AutoReconnect("gone")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="why") as caught:
        async with transaction(database.client) as tx:
            await replaced.replace(NEW, session=tx.session)
            await tx.session.commit_transaction()
            patched.setattr(Store, "delete_chunks", broken)
            raise OSError("why")
    assert "gone" in caught.value.__notes__[0]
    await bucket.discard(old)
    assert await stored_files(database) == {replaced.id: NEW}


async def test_an_unknown_outcome_is_raised_even_after_an_error(
    replaced: AsyncGridFile, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replaced.id

    async def unanswered(_: AsyncClientSession) -> None:
        raise AutoReconnect("no answer")

    with monkeypatch.context() as patched, pytest.raises(CommitUnknown) as caught:
        async with transaction(database.client) as tx:
            new = await replaced.replace(NEW, session=tx.session)
            await tx.session.commit_transaction()
            patched.setattr(AsyncClientSession, "commit_transaction", unanswered)
            patched.setattr(transactions, "_is_unknown", lambda _: True)
            patched.setattr(transactions, "COMMIT_SECONDS", 0.05)
            raise OSError("why")
    assert isinstance(caught.value.__cause__, AutoReconnect)
    assert isinstance(caught.value.__context__, OSError)
    assert (replaced.id, caught.value.ids) == (new.id, [new.id, old])
    await bucket.discard(old)
    assert await stored_files(database) == {new.id: NEW}


async def test_an_unexpected_error_of_the_commit_removes_nothing_and_frees_the_proxies(
    replaced: AsyncGridFile, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replaced.id

    async def broken(_: AsyncClientSession) -> None:
        raise RuntimeError("a fault of the program")

    with monkeypatch.context() as patched:
        patched.setattr(AsyncClientSession, "commit_transaction", broken)
        with pytest.raises(RuntimeError, match="a fault"):
            async with transaction(database.client) as tx:
                new = await replaced.replace(NEW, session=tx.session)
    await bucket.discard(new.id)
    assert await stored_files(database) == {old: OLD}
    await replaced.delete()
