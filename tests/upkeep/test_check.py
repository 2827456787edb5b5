"""`Bucket.check`: each thing that can be wrong with files and chunks is named once, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.to_thread
import gridfs
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo import MongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import BadOption, Bucket, Finding
from tests.observing import observed

Database = AsyncDatabase[dict[str, Any]]

CHUNK = 1000


async def found(bucket: Bucket, **options: Any) -> list[Finding]:
    return [finding async for finding in bucket.check(**options)]


async def kinds(bucket: Bucket, **options: Any) -> list[tuple[str, object]]:
    return [(finding.kind, finding.id) for finding in await found(bucket, **options)]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database, chunk_size=CHUNK)


@pytest.fixture
def chunks(database: Database) -> Any:
    return database["fs.chunks"]


# Nothing wrong


async def test_an_empty_bucket_has_no_findings(bucket: Bucket) -> None:
    assert await found(bucket) == []


async def test_whole_files_of_every_length_and_every_kind_of_id_have_no_findings(bucket: Bucket) -> None:
    for length in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK):
        await bucket.upload(bytes(length))
    for id in ("name", 7, 7.5, True, {"a": 1, "b": [1, {"c": 2}]}, b"raw", Decimal128("1.5"), float("nan"), 2**40):
        await bucket.upload(bytes(2 * CHUNK), id=id)
    assert await found(bucket) == []


async def test_files_of_pymongo_and_legacy_records_have_no_findings(
    bucket: Bucket, mongodb_uri: str, database: Database, chunks: Any
) -> None:
    def write() -> None:
        with MongoClient[dict[str, Any]](mongodb_uri) as client:
            theirs = gridfs.GridFSBucket(client[database.name])
            for length in (0, 1, CHUNK, 2 * CHUNK + 1):
                theirs.upload_from_stream("theirs", bytes(length), chunk_size_bytes=CHUNK)
            gridfs.GridFS(client[database.name]).put(
                b"abc", filename="old", contentType="text/plain", thumbnail_id=None
            )

    await anyio.to_thread.run_sync(write)
    # A record of double and of no chunk size, an `n` of double, an empty chunk past the end: all of them legal.
    await database["fs.files"].insert_many(
        [{"_id": 1, "length": 4.0, "chunkSize": 4.0}, {"_id": 2, "length": Int64(0)}]
    )
    await chunks.insert_one({"files_id": 1.0, "n": 0.0, "data": Binary(b"four", 2)})
    await chunks.insert_one({"files_id": 1, "n": 1, "data": b""})
    await chunks.insert_one({"files_id": 2, "n": 0, "data": b""})
    assert await found(bucket) == []


# Chunks that are not those that the record promises


async def damaged(bucket: Bucket, length: int = 5 * CHUNK) -> object:
    await bucket.upload(bytes(length))
    return (await bucket.upload(bytes(length))).id


async def test_missing_chunks_are_one_finding_that_names_the_first(bucket: Bucket, chunks: Any) -> None:
    id = await damaged(bucket)
    await chunks.delete_many({"files_id": id, "n": {"$in": [1, 2, 4]}})
    [finding] = await found(bucket)
    assert (finding.kind, finding.id) == ("missing", id)
    assert finding.reason == "chunk 1 of 5 is missing, and 2 more"
    assert str(finding) == f"missing {id!r}: {finding.reason}"
    assert finding.as_dict() == {"kind": "missing", "id": id, "reason": finding.reason}


async def test_a_file_without_any_chunk_is_missing_all_of_them(bucket: Bucket, chunks: Any) -> None:
    id = await damaged(bucket)
    await chunks.delete_many({"files_id": id})
    [finding] = await found(bucket)
    assert finding.reason.endswith("chunk 0 of 5 is missing, and 4 more")


@pytest.mark.parametrize(("data", "kind", "words"), [(b"x", "short", "1 bytes"), (bytes(1001), "long", "1001 bytes")])
async def test_a_chunk_of_the_wrong_size(bucket: Bucket, chunks: Any, data: bytes, kind: str, words: str) -> None:
    id = await damaged(bucket)
    await chunks.update_one({"files_id": id, "n": 3}, {"$set": {"data": data}})
    [finding] = await found(bucket)
    assert (finding.kind, finding.id) == (kind, id)
    assert finding.reason.endswith(f"chunk 3 has {words} instead of 1000")


async def test_a_short_chunk_that_a_long_one_makes_up_for_is_found_all_the_same(bucket: Bucket, chunks: Any) -> None:
    id = await damaged(bucket, 2 * CHUNK + 10)
    await chunks.update_one({"files_id": id, "n": 0}, {"$set": {"data": bytes(CHUNK - 5)}})
    await chunks.update_one({"files_id": id, "n": 2}, {"$set": {"data": bytes(15)}})
    assert await kinds(bucket) == [("short", id), ("long", id)]


@pytest.mark.parametrize("n", [5, 90, -1])
async def test_a_chunk_outside_the_file_is_surplus_unless_it_is_empty(bucket: Bucket, chunks: Any, n: int) -> None:
    id = await damaged(bucket)
    await chunks.insert_one({"files_id": id, "n": n, "data": b""})
    assert await found(bucket) == []
    await chunks.update_one({"files_id": id, "n": n}, {"$set": {"data": b"surplus"}})
    [finding] = await found(bucket)
    assert (finding.kind, finding.id) == ("surplus", id)
    assert finding.reason.endswith(f"chunk {n} of 7 bytes is beyond the 5 chunks of the file")


async def test_a_chunk_that_is_there_twice(bucket: Bucket, chunks: Any) -> None:
    id = await damaged(bucket)
    await chunks.drop_indexes()
    await chunks.insert_one({"files_id": id, "n": 2, "data": bytes(CHUNK)})
    assert await kinds(bucket) == [("double", id)]


async def test_chunks_without_a_number_or_without_bytes(bucket: Bucket, chunks: Any) -> None:
    id = await damaged(bucket)
    await chunks.update_one({"files_id": id, "n": 1}, {"$set": {"data": "text"}})
    await chunks.update_one({"files_id": id, "n": 3}, {"$unset": {"data": 1}})
    await chunks.insert_one({"files_id": id, "n": 9, "data": "text"})
    await chunks.insert_one({"files_id": id, "n": "two", "data": b"x"})
    by_kind = {finding.kind: finding.reason for finding in await found(bucket)}
    assert set(by_kind) == {"unreadable", "surplus"}
    assert "chunk 1 contains no bytes, and 2 more" in by_kind["unreadable"]
    assert "chunk 9 of no bytes" in by_kind["surplus"]


async def test_an_unreadable_record(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_many([{"_id": 1, "length": -3}, {"_id": 2, "length": 5, "chunkSize": 0}])
    assert await kinds(bucket) == [("unreadable", 1), ("unreadable", 2)]


@pytest.mark.requires_mongod  # the embedded server is Python itself, and cannot say such a date either
async def test_a_date_that_python_cannot_say_stops_nothing(bucket: Bucket, database: Database) -> None:
    far = DatetimeMS(2**62)
    await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 1, "uploadDate": far})
    assert await kinds(bucket, references=[("animals", "photo")]) == [("unreferenced", 1)]


async def test_a_file_that_is_deleted_during_the_check_is_not_reported(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [(await bucket.upload(bytes(CHUNK))).id for _ in range(3)]
    real = "gridproxy.upkeep.bucket_scanner.BucketScanner.sizes"
    from gridproxy.upkeep.bucket_scanner import BucketScanner

    sizes = BucketScanner.sizes

    async def deleted_before(self: BucketScanner, wanted: Any, *, primary: bool = False) -> Any:
        if await bucket.store.find_record(ids[1]):
            await bucket.delete(ids[1])
        async for row in sizes(self, wanted, primary=primary):
            yield row

    monkeypatch.setattr(real, deleted_before)
    assert await found(bucket) == []
    # This file is deleted during the second query.
    remaining = [ids[0], ids[2]]

    async def deleted_between(self: BucketScanner, wanted: Any, *, primary: bool = False) -> Any:
        if primary:
            await bucket.delete(remaining[0])
        else:
            await bucket.store.chunks.delete_many({"files_id": remaining[0]})
        async for row in sizes(self, wanted, primary=primary):
            yield row

    monkeypatch.setattr(real, deleted_between)
    assert await found(bucket) == []


# Chunks without a file


async def test_chunks_without_a_file_are_reported_with_number_bytes_and_age(bucket: Bucket, chunks: Any) -> None:
    moments = [datetime(2024, 5, day, tzinfo=UTC) for day in (1, 3, 2)]
    await bucket.upload(b"whole")
    await chunks.insert_many(
        [
            {"_id": ObjectId.from_datetime(moment), "files_id": "gone", "n": n, "data": bytes(10)}
            for n, moment in enumerate(moments)
        ]
    )
    [finding] = await found(bucket)
    assert (finding.kind, finding.id, finding.chunks, finding.bytes) == ("orphan", "gone", 3, 30)
    assert finding.since == moments[1]
    assert finding.reason == "3 chunks without a file, the last of 2024-05-03 00:00:00 UTC"
    assert finding.as_dict() == {
        "kind": "orphan",
        "id": "gone",
        "reason": finding.reason,
        "chunks": 3,
        "bytes": 30,
        "since": moments[1],
    }


async def test_chunks_whose_ids_contain_no_time_are_of_unknown_age(bucket: Bucket, chunks: Any) -> None:
    await chunks.insert_many(
        [{"_id": "theirs", "files_id": "gone", "n": 0, "data": b"x"}, {"files_id": "gone", "n": 1, "data": "text"}]
    )
    [finding] = await found(bucket, older_than=timedelta(days=1))
    assert (finding.kind, finding.since, finding.bytes) == ("orphan", None, 1)
    assert "of unknown age" in finding.reason


async def test_ids_that_are_equal_in_python_are_distinguished(bucket: Bucket, chunks: Any) -> None:
    await bucket.upload(b"one", id=1)
    await chunks.insert_one({"files_id": True, "n": 0, "data": b"stray"})
    await chunks.insert_one({"files_id": {"a": 1}, "n": 0, "data": b"stray"})
    await chunks.insert_one({"files_id": Decimal128("2.5"), "n": 0, "data": b"stray"})
    orphans = await kinds(bucket)
    assert sorted(orphans, key=str) == [("orphan", Decimal128("2.5")), ("orphan", True), ("orphan", {"a": 1})]
    assert not any(id == 1 and id is not True for _, id in orphans)


async def test_a_staged_upload_shows_and_older_than_leaves_it_out(bucket: Bucket) -> None:
    staged = await bucket.stage(bytes(3 * CHUNK))
    assert await kinds(bucket) == [("orphan", staged.id)]
    assert await kinds(bucket, older_than=timedelta(minutes=10)) == []
    await bucket.publish(staged)
    assert await found(bucket) == []


async def test_more_ids_than_one_query_takes(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, chunks: Any) -> None:
    for module in ("bucket_scanner", "check"):
        monkeypatch.setattr(f"gridproxy.upkeep.{module}.IDS_PER_QUERY", 3)
    await bucket.upload_many([b"whole"] * 7)
    await chunks.insert_many([{"files_id": f"gone {number}", "n": 0, "data": b"x"} for number in range(8)])
    assert await kinds(bucket) == [("orphan", f"gone {number}") for number in range(8)]


async def test_pages_continue_through_ids_of_every_type(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, chunks: Any
) -> None:
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner._DOCUMENTS_PER_PAGE", 2)
    monkeypatch.setattr("gridproxy.upkeep.check._BYTES_PER_QUERY", CHUNK)
    ids = [1, 2.5, 3, "a", "b", {"a": 1}, {"a": 2}, b"x", ObjectId(), ObjectId(), True, datetime(2024, 1, 1)]  # noqa: DTZ001 as BSON decodes it
    for id in ids:
        await bucket.upload(b"x", id=id)
    await chunks.delete_many({})
    assert sorted(map(str, (id for _, id in await kinds(bucket)))) == sorted(map(str, ids))


# Expiry


async def test_an_expired_file_is_a_finding_at_its_moment(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(2 * CHUNK), expires_after=-60)
    await bucket.upload(b"not yet", expires_after=60)
    [finding] = await found(bucket)
    assert (finding.kind, finding.id, finding.chunks, finding.bytes) == ("expired", info.id, 2, 2 * CHUNK)
    assert finding.since == info.expires_at
    assert finding.reason.endswith("UTC")


# Memory and queries


async def test_progress_ends_at_its_total(bucket: Bucket) -> None:
    calls: list[tuple[int, int | None]] = []

    async def progress(done: int, total: int | None) -> None:
        calls.append((done, total))

    await bucket.upload_many([b"a", b"b", b"c"])
    assert await found(bucket, progress=progress) == []
    assert calls == [(3, 6), (6, 6), (6, 6)]


async def test_it_takes_no_part_in_a_bound_transaction_and_decides_on_the_primary(
    mongodb_uri: str, database: Database
) -> None:
    await Bucket(database, chunk_size=CHUNK).upload(bytes(CHUNK))
    async with observed(mongodb_uri, database.name) as (mine, commands):
        bucket = Bucket(mine, chunk_size=CHUNK, read_preference=ReadPreference.SECONDARY_PREFERRED)
        async with mine.client.start_session() as session, await session.start_transaction(), session.bind():
            staged = await bucket.stage(b"orphan")
            commands.clear()
            assert await kinds(bucket) == [("orphan", staged.id)]
        sent = [command for name, command in commands.seen if name in ("find", "aggregate", "getMore")]
        assert sent
        assert not any("txnNumber" in command for command in sent)
        assert len({command["lsid"]["id"] for command in sent}) == 1
        # Sizes may be read from a secondary. Suspicious files are read again from the primary.
        elsewhere = [command for command in sent if command.get("$readPreference", {}).get("mode") != "primary"]
        by_preference = [
            command for command in elsewhere if command.get("$readPreference", {}).get("mode") == "secondaryPreferred"
        ]
        assert [command["find"] for command in by_preference] == ["fs.chunks"]


async def test_a_check_that_is_not_finished_leaves_nothing_open(bucket: Bucket, chunks: Any) -> None:
    await chunks.insert_many([{"files_id": number, "n": 0, "data": b"x"} for number in range(5)])
    findings = bucket.check()
    async for finding in findings:
        assert finding.kind == "orphan"
        break
    await findings.aclose()  # type: ignore[attr-defined]  # an async generator, of which an AsyncIterator says nothing
    assert len(await kinds(bucket)) == 5


@pytest.mark.parametrize(
    ("older_than", "message"),
    [
        (timedelta(-1), "older_than must not be negative"),
        (7200, r"a timedelta such as timedelta\(hours=2\), not int 7200"),
        (None, "a timedelta such as .* not NoneType None"),
    ],
)
async def test_an_invalid_age_is_refused(bucket: Bucket, older_than: Any, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        bucket.check(older_than=older_than)


# The large part is on the server's side


async def test_check_transfers_no_content(mongodb_uri: str, database: Database) -> None:
    await Bucket(database).upload(bytes(20 * 1024 * 1024))
    async with observed(mongodb_uri, database.name) as (mine, commands):
        assert await found(Bucket(mine)) == []
    projections = [command.get("projection", {}) for command in commands.of("find")]
    assert not any(projection.get("data") for projection in projections)
