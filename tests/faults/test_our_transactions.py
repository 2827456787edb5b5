"""After the commit or abort of our own transaction the files match its outcome, and no chunk is left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, FileMissing, UploadInProgress

from .whole import Database, stored_files

OLD = b"the old file" * 100
NEW = bytes(range(256)) * 22

pytestmark = pytest.mark.usefixtures("collected")


class Aborted(Exception):
    """The error that ends the block."""


@asynccontextmanager
async def explicit(bucket: Bucket) -> AsyncIterator[AsyncClientSession | None]:
    async with gridproxy.transaction(bucket.database.client) as tx:
        yield tx.session


@asynccontextmanager
async def bound(bucket: Bucket) -> AsyncIterator[AsyncClientSession | None]:
    if not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")
    async with gridproxy.transaction(bucket.database.client) as tx, tx.session.bind(end_session=False):
        yield None


WAYS = pytest.mark.parametrize("begin", [explicit, bound])
ENDS = pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])


@asynccontextmanager
async def ended(bucket: Bucket, begin: Any, commit: bool) -> AsyncIterator[AsyncClientSession | None]:
    """Commit a transaction, or end it with an exception."""
    try:
        async with begin(bucket) as session:
            yield session
            if not commit:
                raise Aborted
    except Aborted:
        assert not commit


@pytest.fixture(autouse=True)
async def _with_indexes(bucket: Bucket) -> None:
    await bucket.ensure_indexes()


# The file


@WAYS
@ENDS
async def test_a_put_follows_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    async with ended(bucket, begin, commit) as session:
        info = await file.put(NEW, session=session)
        assert await file.read(session=session) == NEW
        async with bucket.database.client.start_session() as other:
            with pytest.raises(FileMissing):
                await bucket.stat(info.id, session=other)
    assert await stored_files(bucket.database) == ({info.id: NEW} if commit else {})
    assert (file.id, file.info) == ((info.id, info) if commit else (None, None))


@WAYS
@ENDS
async def test_a_replace_follows_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD)
    async with ended(bucket, begin, commit) as session:
        new = await file.replace(NEW, session=session)
        assert file.id == new.id
    assert await stored_files(bucket.database) == ({new.id: NEW} if commit else {old.id: OLD})
    assert (file.id, file.info) == ((new.id, new) if commit else (old.id, old))
    assert await file.read() == (NEW if commit else OLD)


@WAYS
@ENDS
async def test_two_replaces_follow_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD)
    async with ended(bucket, begin, commit) as session:
        await file.replace(b"in between", session=session)
        await file.replace(NEW, session=session)
    assert await stored_files(bucket.database) == ({file.id: NEW} if commit else {old.id: OLD})


@WAYS
@ENDS
async def test_a_written_file_follows_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD)
    async with ended(bucket, begin, commit) as session, file.new_file(replace=True, session=session):
        await file.write(NEW[:3000])
        file.write(NEW[3000:])
    assert await stored_files(bucket.database) == ({file.id: NEW} if commit else {old.id: OLD})
    assert file.id != old.id if commit else file.id == old.id


@WAYS
@ENDS
async def test_a_delete_follows_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD)
    async with ended(bucket, begin, commit) as session:
        await file.delete(session=session)
        assert not file
    assert await stored_files(bucket.database) == ({} if commit else {old.id: OLD})
    assert (file.id, file.info) == ((None, None) if commit else (old.id, old))


@WAYS
@ENDS
async def test_a_put_and_a_delete_of_the_same_file_follow_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    async with ended(bucket, begin, commit) as session:
        await file.put(NEW, session=session)
        await file.delete(session=session)
    assert await stored_files(bucket.database) == {}
    assert not file


@WAYS
@ENDS
async def test_edits_of_the_record_follow_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD, filename="old", owner=1)
    async with ended(bucket, begin, commit) as session:
        await file.rename("new", session=session)
        info = await file.update_metadata(owner=2, session=session)
        assert (info.filename, file.info) == ("new", info)
    assert file.info == (info if commit else old)
    assert await bucket.stat(file.id) == file.info


@WAYS
async def test_an_abort_drops_what_the_proxy_read_inside(bucket: Bucket, begin: Any) -> None:
    file = AsyncGridFile(bucket=bucket)
    old = await file.put(OLD, filename="old")
    unknown = bucket.file(old.id)
    async with ended(bucket, begin, False) as session:
        await bucket.rename(old.id, "new", session=session)
        for each in (file, unknown):
            assert (await each.stat(session=session)).filename == "new"
        assert await unknown.read(session=session) == OLD
        assert (await file.verify(session=session)).filename == "new"
    assert file.info == old
    assert unknown.info is None


@ENDS
async def test_changes_by_others_to_a_file_that_was_only_read_stay(bucket: Bucket, commit: bool) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(OLD)
    async with ended(bucket, explicit, commit) as session:
        await file.stat(session=session)
        await file.replace(NEW)
    assert await stored_files(bucket.database) == {file.id: NEW}


# The bucket


@WAYS
@ENDS
async def test_operations_of_a_bucket_follow_the_outcome(bucket: Bucket, begin: Any, commit: bool) -> None:
    ids = [(await bucket.upload(OLD, id=id, filename="a name")).id for id in (1, "two", {"three": 3}, 4, 5)]
    before = await stored_by_text(bucket)
    async with ended(bucket, begin, commit) as session:
        await bucket.delete(1, session=session)
        await bucket.delete({"three": 3}, session=session)
        assert await bucket.delete_many([4, 5, "absent"], session=session) == 2
        put = await bucket.upload(NEW, id="new", session=session)
        many = await bucket.upload_many([b"a", NEW], session=session)
        async with bucket.open_upload(session=session) as written:
            await written.write(b"written")
        assert await bucket.rename_by_name("a name", "another", session=session) == 1
        assert [info.id async for info in bucket.find({"filename": "another"}, session=session)] == ["two"]
        assert (await bucket.by_name("another", session=session)).id == "two"
    after = {"'two'": OLD, "'new'": NEW, repr(many[0].id): b"a", repr(many[1].id): NEW, repr(written.id): b"written"}
    assert await stored_by_text(bucket) == (after if commit else before)
    assert len(ids) == len(before) == 5
    assert put.length == len(NEW)


async def stored_by_text(bucket: Bucket) -> dict[str, bytes]:
    """Return the same as `stored_files`, with ids as text because some are not hashable."""
    found = {}
    async for record in bucket.database["fs.files"].find():
        found[repr(record["_id"])] = await bucket.read(record["_id"])
    chunks = await bucket.database["fs.chunks"].count_documents({})
    assert chunks == sum(-(-len(data) // 1024) for data in found.values())
    return found


@ENDS
async def test_a_delete_by_name_follows_the_outcome(bucket: Bucket, commit: bool) -> None:
    await bucket.upload_many({"a": OLD, "b": OLD})
    async with ended(bucket, explicit, commit) as session:
        assert await bucket.delete_by_name("a", session=session) == 1
    assert len(await stored_files(bucket.database)) == (1 if commit else 2)


async def test_a_delete_of_a_missing_id_does_not_remove_a_later_file(bucket: Bucket) -> None:
    async with gridproxy.transaction(bucket.database.client) as tx:
        with pytest.raises(FileMissing):
            await bucket.delete("mine", session=tx.session)
        assert await bucket.delete_many(["mine", "nobody's"], session=tx.session) == 0
        await bucket.upload(NEW, id="mine")
    assert await stored_files(bucket.database) == {"mine": NEW}


@ENDS
async def test_an_empty_file_is_replaced_by_another_under_the_same_id(bucket: Bucket, commit: bool) -> None:
    await bucket.upload(b"", id="mine")
    async with ended(bucket, explicit, commit) as session:
        await bucket.delete("mine", session=session)
        await bucket.upload(NEW, id="mine", session=session)
    assert await stored_files(bucket.database) == {"mine": NEW if commit else b""}


@ENDS
async def test_the_id_of_a_deleted_file_with_chunks_is_refused_until_the_commit(bucket: Bucket, commit: bool) -> None:
    await bucket.upload(OLD, id="mine")
    async with ended(bucket, explicit, commit) as session:
        await bucket.delete("mine", session=session)
        with pytest.raises(UploadInProgress, match="deleted in this transaction"):
            await bucket.upload(NEW, id="mine", session=session)
    if commit:
        await bucket.upload(NEW, id="mine")
    assert await stored_files(bucket.database) == {"mine": NEW if commit else OLD}


async def test_two_files_under_the_same_id(bucket: Bucket) -> None:
    async with gridproxy.transaction(bucket.database.client) as tx:
        await bucket.upload(OLD, id="mine", session=tx.session)
        with pytest.raises(FileAlreadyStored):
            await bucket.upload(NEW, id="mine", session=tx.session)
        with pytest.raises(UploadInProgress):
            await bucket.upload(NEW, id="mine")
    assert await stored_files(bucket.database) == {"mine": OLD}


# Staged


@ENDS
async def test_a_staged_file_is_published_inside_and_again_after_an_abort(bucket: Bucket, commit: bool) -> None:
    staged = await bucket.stage(NEW)
    file = AsyncGridFile(bucket=bucket)
    async with ended(bucket, explicit, commit) as session:
        await bucket.publish(staged, session=session)
        await file.put(staged, session=session)
        with pytest.raises(UploadInProgress, match="not over"):
            await bucket.discard(staged)
        await file.delete(session=session)
        await file.put(staged, session=session)
    assert bool(file) is commit
    await file.replace(staged)
    assert await stored_files(bucket.database) == {staged.id: NEW}
    with pytest.raises(FileAlreadyStored):
        await bucket.discard(staged)


async def test_a_staged_file_can_be_discarded_after_an_abort(bucket: Bucket) -> None:
    staged = await bucket.stage(NEW)
    async with ended(bucket, explicit, False) as session:
        await bucket.publish(staged, session=session)
    await bucket.discard(staged)
    assert await stored_files(bucket.database) == {}


async def test_a_staged_file_whose_id_is_in_use_is_refused(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(b"", id="mine")
    await bucket.upload(NEW, id="mine")
    async with gridproxy.transaction(bucket.database.client) as tx:
        with pytest.raises(FileAlreadyStored):
            await bucket.publish(staged, session=tx.session)
    assert await stored_files(database) == {"mine": NEW}


# Chunks are written outside with majority, and calls wait for each other


async def test_chunks_have_write_concern_majority_and_are_not_in_the_transaction(
    server: Any, failing: Bucket, commands: Any
) -> None:
    commands.clear()
    await failing.stage(NEW)
    async with gridproxy.transaction(failing.database.client) as tx:
        await failing.upload(NEW, session=tx.session)
    inserts = commands.of("insert")
    chunks = [insert for insert in inserts if insert["insert"] == "fs.chunks"]
    records = [insert for insert in inserts if insert["insert"] == "fs.files"]
    assert len(chunks) == 6
    assert all(insert["writeConcern"]["w"] == "majority" and "autocommit" not in insert for insert in chunks)
    assert [insert["autocommit"] for insert in records] == [False]
    assert [commit["writeConcern"] for commit in commands.of("commitTransaction")] == [{"w": "majority"}]


@ENDS
async def test_calls_in_one_transaction_wait_for_each_other(bucket: Bucket, commit: bool) -> None:
    files = [AsyncGridFile(bucket=bucket) for _ in range(8)]
    await files[0].put(OLD)
    before = await stored_files(bucket.database)

    async def work(file: AsyncGridFile) -> None:
        await file.replace(NEW, session=session)
        await file.rename("renamed", session=session)
        assert await file.read(session=session) == NEW

    async with ended(bucket, explicit, commit) as session:
        await asyncio.gather(*map(work, files))
    after = {file.id: NEW for file in files}
    assert await stored_files(bucket.database) == (after if commit else before)
