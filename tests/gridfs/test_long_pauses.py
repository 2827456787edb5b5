"""Chunks that are gone before their record comes, after a long pause or by their id: no file is made of the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect
from pymongo.read_concern import ReadConcern

import gridproxy
from gridproxy import Bucket, CorruptFile, FileClosed, FileMissing, OutcomeUnknown, Tally
from gridproxy.gridfs.records.chunks import longest_pause
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.undo_log import UndoLog
from tests.observing import contents, observed

Database = AsyncDatabase[dict[str, Any]]

CHUNK = 1000
HOUR = timedelta(hours=1)

Ago = Callable[[timedelta], None]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database, chunk_size=CHUNK)


@pytest.fixture
def chunks_made(monkeypatch: pytest.MonkeyPatch) -> Ago:
    """Says how long ago the chunks that are sent from now on were made."""
    ago = timedelta(0)

    def made_then(self: UndoLog) -> ObjectId:
        id = aged_id(datetime.now(UTC) - ago)
        self._chunk_ids += id.binary
        return id

    def say(how_long: timedelta) -> None:
        nonlocal ago
        ago = how_long

    monkeypatch.setattr(UndoLog, "new_chunk_id", made_then)
    return say


def aged_id(moment: datetime) -> ObjectId:
    """Return an id that was made at that moment."""
    return ObjectId(ObjectId.from_datetime(moment).binary[:4] + ObjectId().binary[4:])


async def old_staged(bucket: Bucket, chunks_made: Ago, **options: Any) -> Staged:
    chunks_made(2 * HOUR)
    staged = await bucket.stage(bytes(3 * CHUNK), **options)
    chunks_made(0 * HOUR)
    return staged


# Staged


async def test_chunks_that_the_garbage_collector_removed_are_not_published(
    bucket: Bucket, database: Database, chunks_made: Ago
) -> None:
    staged = await old_staged(bucket, chunks_made)
    assert (await bucket.collect_garbage(HOUR, dry_run=False)).orphans == Tally(1, 3, 3 * CHUNK)
    with pytest.raises(CorruptFile, match="3 of its 3 chunks are gone"):
        await bucket.publish(staged)
    assert await contents(database) == (0, 0)
    with pytest.raises(FileClosed):
        await bucket.publish(staged)


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_of_half_a_file_nothing_stays(bucket: Bucket, database: Database, chunks_made: Ago, gone: int) -> None:
    staged = await old_staged(bucket, chunks_made)
    await database["fs.chunks"].delete_one({"n": gone})
    with pytest.raises(CorruptFile, match="1 of its 3 chunks are gone"):
        await gridproxy.AsyncGridFile(bucket=bucket).put(staged)
    assert await contents(database) == (0, 0)


async def test_chunks_that_the_garbage_collector_kept_are_published_as_new(
    bucket: Bucket, database: Database, chunks_made: Ago
) -> None:
    staged = await old_staged(bucket, chunks_made)
    staged.record["uploadDate"] -= 2 * HOUR
    assert (await bucket.collect_garbage(3 * HOUR, dry_run=False)).young.chunks == 3
    info = await bucket.publish(staged)
    await bucket.verify(info.id)
    await database["animals"].insert_one({"photo": None})
    report = await bucket.collect_garbage(HOUR, False, unreferenced=True, references=[("animals", "photo")])
    assert report.removed == Tally()  # between publish and save it is no old file
    await bucket.verify(info.id)


async def test_a_collector_at_that_very_moment(
    bucket: Bucket, database: Database, chunks_made: Ago, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen no record, and removes while the record is inserted."""
    staged = await old_staged(bucket, chunks_made)
    insert = Store.insert_record

    async def beside(self: Store, record: Any, session: Any = None) -> None:
        await insert(self, record, session)
        await self.delete_chunks_by_id(staged.id, [(await self.first_chunk_id(staged.id))])  # type: ignore[list-item]  # an ObjectId here

    monkeypatch.setattr(Store, "insert_record", beside)
    with pytest.raises(CorruptFile, match="1 of its 3 chunks are gone"):
        await bucket.publish(staged)
    assert await contents(database) == (0, 0)


async def test_published_again_it_is_left_as_it_is(bucket: Bucket, database: Database, chunks_made: Ago) -> None:
    staged = await old_staged(bucket, chunks_made)
    assert await bucket.publish(staged) == await bucket.publish(staged)
    await database["fs.chunks"].delete_one({"n": 1})  # damaged since: its record and the rest are not ours to remove
    with pytest.raises(CorruptFile):
        await bucket.publish(staged)
    assert await contents(database) == (1, 2)


async def test_publishing_again_after_a_delete_makes_no_empty_file(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    await bucket.delete((await bucket.publish(staged)).id)
    with pytest.raises(CorruptFile):
        await bucket.publish(staged)
    assert await contents(database) == (0, 0)


async def test_in_a_transaction(bucket: Bucket, database: Database, chunks_made: Ago) -> None:
    whole, gone = await old_staged(bucket, chunks_made), await old_staged(bucket, chunks_made)
    await database["fs.chunks"].delete_one({"files_id": gone.id, "n": 2})
    with pytest.raises(CorruptFile):
        async with gridproxy.transaction(database.client) as tx:
            await bucket.publish(whole, session=tx.session)
            await bucket.publish(gone, session=tx.session)
    with pytest.raises(FileMissing):
        await bucket.stat(whole.id)
    async with gridproxy.transaction(database.client) as tx:
        await bucket.publish(whole, session=tx.session)
    await bucket.verify(whole.id)
    assert await contents(database) == (1, 3)


async def test_a_collector_at_that_very_moment_of_a_transaction(
    bucket: Bucket, database: Database, chunks_made: Ago, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await old_staged(bucket, chunks_made)
    counts = iter([3, 2])

    async def count_chunks(self: Store, id: object, chunk_ids: object) -> int:
        return next(counts)

    monkeypatch.setattr(Store, "count_chunks", count_chunks)
    async with gridproxy.transaction(database.client) as tx:
        with pytest.raises(CorruptFile):
            await bucket.publish(staged, session=tx.session)
    assert await contents(database) == (0, 0)


async def test_a_clean_up_that_fails_is_noted(
    bucket: Bucket, database: Database, chunks_made: Ago, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await old_staged(bucket, chunks_made)
    await database["fs.chunks"].delete_one({"n": 1})

    async def cut_off(self: Store, id: object, chunk_ids: object) -> None:
        raise AutoReconnect("cut off")

    monkeypatch.setattr(Store, "delete_chunks_by_id", cut_off)
    with pytest.raises(CorruptFile) as caught:
        await bucket.publish(staged)
    assert "collect_garbage" in caught.value.__notes__[0]


# Writers


async def test_a_writer_that_paused_and_went_on(
    bucket: Bucket, database: Database, chunks_made: Ago, small_batches: None
) -> None:
    """Its last chunks are young, and hide what the collector took during the pause."""
    chunks_made(2 * HOUR)
    writer = await bucket.open_upload()
    await writer.write(bytes(4 * CHUNK))
    await writer.upload._sender.drain()
    assert (await bucket.collect_garbage(HOUR, dry_run=False)).orphans.chunks == 4
    chunks_made(0 * HOUR)
    await writer.write(bytes(4 * CHUNK))
    with pytest.raises(CorruptFile, match="4 of its 8 chunks are gone"):
        await writer.close()
    assert await contents(database) == (0, 0)


async def test_a_pause_costs_two_round_trips_and_a_quick_upload_none(
    mongodb_uri: str, database: Database, chunks_made: Ago, small_batches: None
) -> None:
    async with observed(mongodb_uri, database.name) as (observing, commands):
        bucket = Bucket(observing, chunk_size=CHUNK)
        await bucket.ensure_indexes()
        counted = []
        for ago in (timedelta(minutes=29), timedelta(minutes=31)):
            commands.clear()
            chunks_made(ago)
            async with bucket.open_upload() as writer:
                await writer.write(bytes(5 * CHUNK))
            await bucket.verify(writer.id)
            counted.append(len([each for each in commands.of("aggregate") if "_id" in each["pipeline"][0]["$match"]]))
        assert counted == [0, 2]


async def test_a_server_that_says_nothing_after_the_insert(
    bucket: Bucket, database: Database, chunks_made: Ago, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be whole, so nothing is removed."""
    monkeypatch.setattr("gridproxy.gridfs.upload.commit._PAUSE", 0)
    count, asked = Store.count_chunks, 0

    async def once(self: Store, id: object, chunk_ids: Any) -> int:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise AutoReconnect("cut off")
        return await count(self, id, chunk_ids)

    monkeypatch.setattr(Store, "count_chunks", once)
    chunks_made(HOUR)
    with pytest.raises(OutcomeUnknown):
        async with bucket.open_upload() as writer:
            await writer.write(bytes(5 * CHUNK))
    await bucket.verify(writer.id)
    assert await contents(database) == (1, 5)


async def test_many_files_are_as_old_as_their_sending(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that takes hours must not make chunks of the ones before it that are garbage when they land."""
    made: list[ObjectId] = []

    def new() -> ObjectId:
        made.append(ObjectId())
        return made[-1]

    monkeypatch.setattr("gridproxy.gridfs.store.collections.ObjectId", new)
    await bucket.upload_many([b"one", b"two"])
    stored = [chunk["_id"] async for chunk in bucket.store.chunks.find({}, {"_id": 1})]
    assert sorted(stored) == made[-2:]


# Deleted by its id


@pytest.mark.parametrize("remove", ["delete", "discard"])
async def test_an_upload_whose_id_is_deleted_stores_no_file(
    bucket: Bucket, database: Database, small_batches: None, remove: str
) -> None:
    """Who sees chunks without a record, and takes them for an orphan's, damages nobody's file."""
    writer = await bucket.open_upload()
    await writer.write(bytes(4 * CHUNK))
    await writer.upload._sender.drain()
    with suppress(FileMissing):
        await getattr(bucket, remove)(writer.id)
    await writer.write(bytes(4 * CHUNK))
    with pytest.raises(CorruptFile, match="its first chunk is gone"):
        await writer.close()
    assert await contents(database) == (0, 0)


async def test_staged_content_whose_id_is_discarded_stores_no_file(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    await bucket.discard(staged.id)
    with pytest.raises(CorruptFile, match="its first chunk is gone"):
        await bucket.publish(staged)
    assert await contents(database) == (0, 0)


async def test_an_upload_in_a_transaction_whose_id_is_deleted_stores_no_file(
    bucket: Bucket, database: Database, small_batches: None
) -> None:
    with pytest.raises(CorruptFile, match="its first chunk is gone"):
        async with gridproxy.transaction(database.client) as tx:
            writer = await bucket.open_upload(session=tx.session)
            await writer.write(bytes(4 * CHUNK))
            await writer.upload._sender.drain()
            await bucket.discard(writer.id)
            await writer.write(bytes(4 * CHUNK))
            await writer.close()
    assert await contents(database) == (0, 0)


async def test_chunks_without_a_majority_are_found(mongodb_uri: str, database: Database, small_batches: None) -> None:
    """A bucket that reads by "majority" and writes by less would miss its own chunks, when the record is in."""
    async with observed(mongodb_uri, database.name) as (observing, commands):
        bucket = Bucket(observing, chunk_size=CHUNK, read_concern=ReadConcern("majority"))
        await bucket.upload(bytes(5 * CHUNK))
        looks = [each for each in commands.of("find") if each["filter"].get("n") == {"$in": [0, 4]}]
        assert [each["readConcern"]["level"] for each in looks] == ["local"]


async def test_a_look_that_gets_no_answer_leaves_the_file(
    bucket: Bucket, database: Database, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object) -> object:
        raise AutoReconnect("cut off")

    monkeypatch.setattr(Store, "end_chunk_ids", cut_off)
    info = await bucket.upload(bytes(5 * CHUNK))
    await bucket.verify(info.id)
    assert await contents(database) == (1, 5)


# The arithmetic


def test_the_longest_pause() -> None:
    def at(*seconds: int) -> bytes:
        return b"".join(aged_id(datetime.fromtimestamp(each, UTC)).binary for each in seconds)

    assert longest_pause(b"", 100) == 0
    assert longest_pause(at(100), 103.5) == 3.5
    assert longest_pause(at(100, 100, 5000, 5001), 5002) == 4900
    assert longest_pause(bytearray(at(100, 200)), 0) == 200  # a clock that was set back
