"""`Bucket.collect_garbage` deletes garbage that is old enough, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from bson import ObjectId
from pymongo import WriteConcern
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import AsyncGridFile, BadOption, Bucket, CorruptFile, GarbageReport, Tally
from gridproxy.gridfs.upload.undo_log import UndoLog
from gridproxy.upkeep.bucket_scanner import BucketScanner
from tests.observing import contents, observed, orphans

Database = AsyncDatabase[dict[str, Any]]

CHUNK = 1000
ANIMALS = [("animals", "photo")]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database, chunk_size=CHUNK)


def aged_id(moment: datetime) -> ObjectId:
    """Return an id that was made at that moment."""
    return ObjectId(ObjectId.from_datetime(moment).binary[:4] + ObjectId().binary[4:])


async def leave_chunks(bucket: Bucket, id: object, *ages: timedelta, size: int = 10) -> None:
    """Chunks without a file, each as old as it is said."""
    now = datetime.now(UTC)
    await bucket.database[f"{bucket.name}.chunks"].insert_many(
        [{"_id": aged_id(now - age), "files_id": id, "n": n, "data": bytes(size)} for n, age in enumerate(ages)]
    )


async def collect(bucket: Bucket, hours_from_now: float = 0, **options: Any) -> GarbageReport:
    """Run the garbage collector with another clock."""
    server_time = BucketScanner.server_time

    async def later(scanner: BucketScanner) -> datetime:
        return await server_time(scanner) + timedelta(hours=hours_from_now)

    with patch.object(BucketScanner, "server_time", later):
        return await bucket.collect_garbage(**{"dry_run": False, **options})


DAYS = timedelta(days=2)


# Chunks without a file


async def test_old_chunks_without_a_file_are_deleted_and_files_kept(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(bytes(3 * CHUNK))
    await leave_chunks(bucket, "gone", DAYS, DAYS, DAYS)
    await leave_chunks(bucket, {"a": 1}, DAYS)
    report = await bucket.collect_garbage(dry_run=False)
    assert report.orphans == Tally(2, 4, 40)
    assert (report.files, report.chunks, report.bytes, report.dry_run) == (0, 4, 40, False)
    assert await contents(database) == (1, 3)
    await bucket.verify(info.id)
    assert (await bucket.collect_garbage(dry_run=False)).removed == Tally()


async def test_a_dry_run_is_the_default_and_reports_the_same(bucket: Bucket, database: Database) -> None:
    await leave_chunks(bucket, "gone", DAYS, DAYS)
    await bucket.upload(bytes(2 * CHUNK), expires_after=-10)
    told = await bucket.collect_garbage()
    assert (told.dry_run, told.files, told.chunks, told.bytes) == (True, 1, 4, 2020)
    assert await contents(database) == (1, 4)
    done = await bucket.collect_garbage(timedelta(days=1), False)
    assert dataclasses.replace(done, dry_run=True) == told
    assert await contents(database) == (0, 0)


async def test_the_age_is_that_of_the_youngest_chunk(bucket: Bucket, database: Database) -> None:
    await leave_chunks(bucket, "running", DAYS, timedelta(minutes=1), DAYS)
    report = await bucket.collect_garbage(dry_run=False)
    assert (report.removed, report.young) == (Tally(), Tally(1, 3, 30))
    assert (await collect(bucket, 23)).young == Tally(1, 3, 30)
    assert (await collect(bucket, 25)).orphans == Tally(1, 3, 30)
    assert await contents(database) == (0, 0)


async def test_chunks_whose_ids_contain_no_time_are_kept_and_counted(bucket: Bucket, database: Database) -> None:
    await leave_chunks(bucket, "mixed", DAYS)
    await database["fs.chunks"].insert_one({"_id": "theirs", "files_id": "mixed", "n": 1, "data": b"x"})
    report = await collect(bucket, 10_000)
    assert (report.removed, report.unknown_age) == (Tally(), Tally(1, 2, 11))
    await bucket.discard("mixed")
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("older_than", [timedelta(minutes=59), timedelta(0), timedelta(-1), 86_400, None])
async def test_less_than_an_hour_is_refused(bucket: Bucket, database: Database, older_than: Any) -> None:
    await leave_chunks(bucket, "gone", DAYS)
    with pytest.raises(BadOption, match="older_than"):
        await bucket.collect_garbage(older_than=older_than, dry_run=False)
    assert await contents(database) == (0, 1)
    assert (await bucket.collect_garbage(timedelta(hours=1), False)).orphans.ids == 1


async def test_a_slow_upload_runs_while_the_collector_works(
    bucket: Bucket, database: Database, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is sent forty minutes after the previous one, and the garbage collector runs in between."""
    await leave_chunks(bucket, "gone", DAYS)
    hours = 0.0

    def made_then(self: UndoLog) -> ObjectId:
        id = aged_id(datetime.now(UTC) + timedelta(hours=hours))
        self._chunk_ids += id.binary
        return id

    monkeypatch.setattr(UndoLog, "new_chunk_id", made_then)
    async with bucket.open_upload(filename="slow") as upload:
        for part in range(5):
            await upload.write(bytes([part]) * (4 * CHUNK))
            while await database["fs.chunks"].count_documents({"files_id": upload.id}) < 4 * part + 4:  # noqa: ASYNC110 (the server tells nobody)
                await anyio.sleep(0.01)
            report = await collect(bucket, hours + 0.6, older_than=timedelta(hours=1))
            assert report.young == Tally(1, 4 * part + 4, (4 * part + 4) * CHUNK)
            assert report.orphans.ids == (1 if part == 0 else 0)
            hours += 0.66
        # All parts but the last one are old enough to be deleted.
        assert hours > 3
    info = await bucket.verify(upload.id)
    assert info.length == 20 * CHUNK
    assert (await collect(bucket, 100)).removed == Tally()


async def test_chunks_of_killed_and_of_unpublished_uploads_are_reported(bucket: Bucket, database: Database) -> None:
    await bucket.stage(bytes(3 * CHUNK))
    assert (await collect(bucket, 23)).removed == Tally()
    assert (await collect(bucket, 25)).orphans == Tally(1, 3, 3 * CHUNK)
    assert await contents(database) == (0, 0)


async def test_a_transaction_that_was_aborted_leaves_what_the_collector_removes(
    bucket: Bucket, database: Database
) -> None:
    async with database.client.start_session() as session:
        await session.start_transaction()
        await bucket.upload(bytes(CHUNK), session=session)
        # Its record is not visible out here, and its age is what protects it.
        assert (await collect(bucket, 23)).young.ids == 1
        await session.abort_transaction()
    assert (await collect(bucket, 25)).orphans.chunks == 1
    assert await contents(database) == (0, 0)


async def test_more_orphans_than_one_walk_and_more_chunks_than_one_page(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.upkeep.collect_garbage._ORPHANS_PER_SCAN", 2)
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner.IDS_PER_QUERY", 2)
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner._DOCUMENTS_PER_PAGE", 3)
    for number in range(7):
        await leave_chunks(bucket, number, *[DAYS] * 4)
    await leave_chunks(bucket, "young", timedelta(0))
    report = await bucket.collect_garbage(dry_run=False)
    assert (report.orphans, report.young) == (Tally(7, 28, 280), Tally(1, 1, 10))
    assert await orphans(database) == ["young"]


# Concurrent changes


async def test_a_staged_upload_that_is_published_during_the_run_is_kept(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    next_chunks = BucketScanner.next_chunks

    async def published_before(self: BucketScanner, orphan: Any) -> Any:
        found = await next_chunks(self, orphan)
        await bucket.publish(staged)
        return found

    monkeypatch.setattr(BucketScanner, "next_chunks", published_before)
    report = await collect(bucket, 25)
    assert (report.removed, report.contested) == (Tally(), (staged.id,))
    await bucket.verify(staged.id)


async def test_a_file_that_is_published_during_the_deletion_is_refused(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    delete = bucket.store.delete_chunks_by_id

    async def published_beside(id: object, ids: Any) -> None:
        monkeypatch.setattr(bucket.store, "delete_chunks_by_id", delete)
        with pytest.raises(CorruptFile, match="its first chunk is gone"):
            await bucket.publish(staged)
        await delete(id, ids)

    monkeypatch.setattr(bucket.store, "delete_chunks_by_id", published_beside)
    report = await collect(bucket, 25)
    assert (report.orphans.chunks, report.contested) == (3, ())
    assert await contents(database) == (0, 0)


async def test_a_record_that_another_driver_inserts_during_the_deletion_is_contested(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    delete = bucket.store.delete_chunks_by_id

    async def inserted_beside(id: object, ids: Any) -> None:
        await database["fs.files"].insert_one(staged.record)
        await delete(id, ids)

    monkeypatch.setattr(bucket.store, "delete_chunks_by_id", inserted_beside)
    report = await collect(bucket, 25)
    assert (report.orphans.chunks, report.contested) == (3, (staged.id,))


async def test_a_record_inserted_between_the_two_queries_is_not_an_orphan(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    stored = BucketScanner.stored
    published = False

    async def published_after(self: BucketScanner, ids: Any) -> Any:
        nonlocal published
        found = await stored(self, ids)
        if not published:
            published = True
            await bucket.publish(staged)
        return found

    monkeypatch.setattr(BucketScanner, "stored", published_after)
    report = await collect(bucket, 25)
    assert (report.removed, report.contested) == (Tally(), ())
    await bucket.verify(staged.id)


async def test_another_upload_under_the_same_id_loses_nothing(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_chunks(bucket, "again", DAYS, DAYS)
    next_chunks = BucketScanner.next_chunks

    async def begun_again(self: BucketScanner, orphan: Any) -> Any:
        # The client discards the first upload and starts again.
        if await database["fs.chunks"].count_documents({"data": bytes(CHUNK)}) == 0:
            await bucket.discard("again")
            await bucket.stage(bytes(2 * CHUNK), id="again")
        return await next_chunks(self, orphan)

    monkeypatch.setattr(BucketScanner, "next_chunks", begun_again)
    report = await bucket.collect_garbage(dry_run=False)
    assert report.removed == Tally()
    assert await contents(database) == (0, 2)


async def test_a_second_run_continues_after_an_interruption(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner._DOCUMENTS_PER_PAGE", 2)
    await leave_chunks(bucket, "a", *[DAYS] * 5)
    await leave_chunks(bucket, "b", *[DAYS] * 5)
    delete = bucket.store.delete_chunks_by_id
    calls = 0

    async def cut_off(id: object, ids: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError("cut off")
        await delete(id, ids)

    monkeypatch.setattr(bucket.store, "delete_chunks_by_id", cut_off)
    with pytest.raises(ConnectionError, match="cut off"):
        await bucket.collect_garbage(dry_run=False)
    # Chunk 0 is deleted last, because it prevents another upload with this id.
    left = await database["fs.chunks"].find({"files_id": "a"}).sort("n").to_list()
    assert [chunk["n"] for chunk in left] == [0, 1, 2]
    report = await bucket.collect_garbage(dry_run=False)
    assert report.orphans == Tally(2, 8, 80)
    assert await contents(database) == (0, 0)


async def test_a_cancellation_waits_for_the_current_step(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(bytes(2 * CHUNK), expires_after=-10)
    delete = bucket.store.delete_chunks

    async def slow(*deleted: object) -> int:
        scope.cancel()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        return await delete(*deleted)

    monkeypatch.setattr(bucket.store, "delete_chunks", slow)
    with anyio.CancelScope() as scope:
        await bucket.collect_garbage(dry_run=False)
    assert scope.cancelled_caught
    assert await contents(database) == (0, 0)
    assert not await AsyncGridFile(info.id, bucket=bucket).exists()


# Files that have expired


async def test_expired_files_are_deleted_at_any_age(bucket: Bucket, database: Database) -> None:
    await bucket.upload(bytes(2 * CHUNK), expires_after=-1)
    stays = await bucket.upload(b"stays", expires_after=3600)
    await database["fs.files"].insert_one({"_id": "none", "expires_at": datetime(2020, 1, 1, tzinfo=UTC)})
    report = await bucket.collect_garbage(dry_run=False)
    assert report.expired == Tally(2, 2, 2 * CHUNK)
    assert report.files == 2
    assert await contents(database) == (1, 1)
    await bucket.verify(stays.id)
    assert (await collect(bucket, 2)).expired.ids == 1


async def test_a_file_whose_expiry_was_extended_is_kept(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(b"stays", expires_after=-1)
    pages = BucketScanner.pages

    async def put_off(self: BucketScanner, collection: Any, *rest: Any) -> AsyncIterator[Any]:
        async for page in pages(self, collection, *rest):
            await database["fs.files"].update_one({"_id": info.id}, {"$unset": {"expires_at": 1}})
            yield page

    monkeypatch.setattr(BucketScanner, "pages", put_off)
    assert (await bucket.collect_garbage(dry_run=False)).removed == Tally()
    await bucket.verify(info.id)


# Files that no document points to


async def test_unreferenced_files_are_deleted_only_if_requested_and_old(bucket: Bucket, database: Database) -> None:
    kept, stray = await bucket.upload_many([b"kept", b"stray"])
    await database["animals"].insert_many([{"photo": kept.id}, {"photo": None}])
    asked: dict[str, Any] = {"unreferenced": True, "references": ANIMALS}
    assert (await collect(bucket, 100, references=ANIMALS)).removed == Tally()
    assert (await bucket.collect_garbage(dry_run=False, **asked)).removed == Tally()
    assert (await collect(bucket, 23, **asked)).removed == Tally()
    told = await collect(bucket, 25, dry_run=True, **asked)
    assert told.unreferenced == Tally(1, 1, 5)
    assert await contents(database) == (2, 2)
    report = await collect(bucket, 25, **asked)
    assert report.unreferenced == Tally(1, 1, 5)
    assert report.files == 1
    assert not await AsyncGridFile(stray.id, bucket=bucket).exists()
    await bucket.verify(kept.id)


async def test_thumbnails_are_deleted_or_kept_with_their_picture(bucket: Bucket, database: Database) -> None:
    kept_thumbnail, thumbnail = [info.id for info in await bucket.upload_many([b"t", b"u"])]
    kept = await bucket.upload(b"p", metadata={"variants": {"small": kept_thumbnail}})
    await bucket.upload(b"q", metadata={"thumbnail_id": thumbnail})
    await database["animals"].insert_one({"photo": str(kept.id)})
    report = await collect(bucket, 25, unreferenced=True, references=ANIMALS)
    assert report.unreferenced.ids == 2
    assert {record["_id"] async for record in database["fs.files"].find()} == {kept_thumbnail, kept.id}


async def test_documents_are_read_again_before_each_batch_of_unreferenced_files(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.upkeep.collect_garbage._FILES_PER_SCAN", 2)
    monkeypatch.setattr("gridproxy.upkeep.document_paths._CANDIDATES", 5)
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner._DOCUMENTS_PER_PAGE", 4)
    ids = [info.id for info in await bucket.upload_many([b"x"] * 7)]
    await database["animals"].insert_one({"photo": None})
    delete = bucket.store.delete_chunks
    deleted = 0

    async def taken_up_again(*removed: object) -> int:
        # A document points to the last file after the first one was deleted.
        nonlocal deleted
        deleted += 1
        if deleted == 1:
            await database["animals"].insert_one({"photo": ids[3]})
        return await delete(*removed)

    monkeypatch.setattr(bucket.store, "delete_chunks", taken_up_again)
    report = await collect(bucket, 25, unreferenced=True, references=ANIMALS)
    assert report.unreferenced.ids == 6
    assert [record["_id"] async for record in database["fs.files"].find()] == [ids[3]]


async def test_a_file_that_was_stored_anew_under_its_id_stays(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload(b"old", id="name")
    await database["animals"].insert_one({"photo": None})
    pages = BucketScanner.pages

    async def anew(self: BucketScanner, collection: Any, *rest: Any) -> AsyncIterator[Any]:
        async for page in pages(self, collection, *rest):
            if collection.name == "animals":
                await bucket.delete("name")
                await bucket.upload(b"new", id="name")
            yield page

    monkeypatch.setattr(BucketScanner, "pages", anew)
    report = await collect(bucket, 25, unreferenced=True, references=ANIMALS)
    assert report.removed == Tally()
    assert await bucket.read("name") == b"new"


async def test_without_references_nothing_is_unreferenced(bucket: Bucket) -> None:
    with pytest.raises(BadOption, match="needs references"):
        await bucket.collect_garbage(unreferenced=True)
    with pytest.raises(BadOption, match="needs references"):
        await bucket.collect_garbage(unreferenced=True, references=[])


async def test_a_reference_that_looks_mistyped_removes_nothing(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"kept", expires_after=-1)
    await database["animals"].insert_one({"photo": info.id, "rooms": [{"pictures": {"a": 1}}]})
    for references in ([("animal", "photo")], [("animals", "photos")], [*ANIMALS, ("animals", "rooms.picture.*")]):
        with pytest.raises(BadOption, match=r"reference.*\. Nothing was deleted"):
            await collect(bucket, 25, unreferenced=True, references=references)
    assert await contents(database) == (1, 1)
    # A collection that is empty now, a map, and a path that no query can name, are fine.
    await database["zoos"].insert_one({"_id": 1})
    await database["zoos"].delete_one({"_id": 1})
    right = [*ANIMALS, ("zoos", "photo"), ("animals", "rooms.pictures.*"), ("animals", "*.photo")]
    assert (await collect(bucket, 0, unreferenced=True, references=right)).expired.ids == 1


# Memory and queries


async def test_progress_ends_at_its_total(bucket: Bucket, database: Database) -> None:
    calls: list[tuple[int, int | None]] = []
    await bucket.upload_many([b"a", b"b"])
    await database["animals"].insert_one({"photo": None})
    await bucket.collect_garbage(
        unreferenced=True, references=ANIMALS, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (3, 3)


async def test_it_takes_no_part_in_a_bound_transaction_and_writes_as_the_bucket_does(
    mongodb_uri: str, database: Database
) -> None:
    await leave_chunks(Bucket(database), "gone", DAYS)
    await Bucket(database).upload(b"expired", expires_after=-1)
    async with observed(mongodb_uri, database.name) as (mine, commands):
        bucket = Bucket(mine, write_concern=WriteConcern(w=1, j=True))
        async with mine.client.start_session() as session, await session.start_transaction(), session.bind():
            report = await bucket.collect_garbage(dry_run=False)
            await session.abort_transaction()
        assert (report.orphans.ids, report.expired.ids) == (1, 1)
        deletes = commands.of("delete") + commands.of("findAndModify")
        assert len(deletes) == 3
        assert all(command["writeConcern"] == {"w": 1, "j": True} for command in deletes)
        # One transaction of its own, in which it looks for a record that is not committed, and which it aborts.
        inside = [name for name, command in commands.seen if command.get("autocommit") is False]
        assert inside == ["insert", "abortTransaction"]
        # What decides is asked of the primary.
        finds = [command for name, command in commands.seen if name in ("find", "aggregate")]
        assert not any(command.get("$readPreference", {}).get("mode", "primary") != "primary" for command in finds)
    assert await contents(database) == (0, 0)


async def test_without_the_servers_time_the_local_clock_is_used(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridproxy.upkeep.bucket_scanner import open_scanner

    async with open_scanner(bucket.store) as scanner:
        told = await scanner.server_time()
        assert told.tzinfo is not None
        assert abs(told - datetime.now(UTC)) < timedelta(minutes=10)

        async def nothing(*args: Any, **kwargs: Any) -> dict[str, Any]:
            return {}

        monkeypatch.setattr(type(bucket.database), "command", nothing)
        assert abs(await scanner.server_time() - datetime.now(UTC)) < timedelta(minutes=10)


def test_a_report_as_plain_numbers() -> None:
    report = GarbageReport(dry_run=True, orphans=Tally(1, 2, 3), expired=Tally(4, 5, 6), contested=("a",))
    assert dict(report.by_reason) == {"orphan": Tally(1, 2, 3), "expired": Tally(4, 5, 6), "unreferenced": Tally()}
    nothing = {"ids": 0, "chunks": 0, "bytes": 0}
    assert report.as_dict() == {
        "dry_run": True,
        "files": 4,
        "chunks": 7,
        "bytes": 9,
        "orphans": {"ids": 1, "chunks": 2, "bytes": 3},
        "expired": {"ids": 4, "chunks": 5, "bytes": 6},
        "unreferenced": nothing,
        "young": nothing,
        "unknown_age": nothing,
        "contested": ["a"],
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.dry_run = False  # type: ignore[misc]  # what the test is about
