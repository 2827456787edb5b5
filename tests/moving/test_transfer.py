"""Transfers: what arrives, what is left alone, what an interruption leaves, and when a source is removed."""

from __future__ import annotations

import logging
import os
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from bson import Binary, Decimal128, ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure

from gridproxy import BadOption, Bucket, FileInfo, OutcomeUnknown, transfer
from gridproxy.gridfs.records.file_info import utc_now
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.store.loose_chunks import Loose
from gridproxy.moving import receiver
from gridproxy.runtime.capabilities import Feature
from tests.observing import Database, answer_lost, contents, observed, orphans
from tests.traffic import watched

from .conftest import every_way

SMALL = bytes(range(256))  # 3 chunks of 100
LARGE = bytes(range(256)) * 30  # 77 chunks, which is too many for a group


async def infos(bucket: Bucket) -> dict[str, FileInfo]:
    return {repr(info.id): info async for info in bucket.find()}


async def many_kinds(bucket: Bucket, database: Database) -> None:
    """Store files of every kind: small, empty and large ones, odd ids, those of other drivers, and an expired one."""
    await bucket.upload_many({"a.txt": SMALL, "b/c.png": b"x" * 100, "empty": b""}, metadata={"owner": 7})
    for id in ("text", 7, 7.5, True, {"a": 1}, Decimal128("1.5"), Binary(b"0123456789abcdef", 4)):
        await bucket.upload(SMALL, id=id, metadata={"ratio": float("nan"), "at": datetime(9999, 1, 1, tzinfo=UTC)})
    await bucket.upload(LARGE, filename="large", expires_after=3600)
    await bucket.upload(b"old", filename="expired", expires_after=-1)
    theirs = {"_id": ObjectId(), "length": 2, "chunkSize": 100, "contentType": "a/b", "aliases": ["c"], "md5": "0f"}
    await database["fs.files"].insert_one(theirs)
    await database["fs.chunks"].insert_one({"files_id": theirs["_id"], "n": 0, "data": b"ab"})
    await database["fs.files"].insert_one({"_id": "no chunk size", "length": 0, "filename": None})


@every_way
async def test_files_of_every_kind_arrive_as_they_were_and_a_repetition_skips_them(
    bucket: Bucket, target: Bucket, database: Database
) -> None:
    await many_kinds(bucket, database)
    progress: list[tuple[int, int | None]] = []
    report = await transfer(bucket, target, progress=lambda done, total: progress.append((done, total)))
    assert (report.ok, report.transferred, report.skipped) == (True, 13, 0), report
    expected = {key: info for key, info in (await infos(bucket)).items() if info.filename != "expired"}
    assert {key: str(info) for key, info in (await infos(target)).items()} == {
        key: str(info) for key, info in expected.items()
    }
    for info in expected.values():
        await target.verify(info.id)
        assert await target.read(info.id) == await bucket.read(info.id)
    assert report.bytes == sum(info.length for info in expected.values())
    assert progress[-1][0] == report.bytes
    assert progress == sorted(progress)
    assert [finding async for finding in target.check()] == []
    marks = await target.store.chunks.distinct("upload_id")
    assert all(mark.binary.startswith(receiver._MARK) for mark in marks), "by which a repetition knows what is left"
    again = await transfer(bucket, target)
    assert (again.ok, again.transferred, again.skipped, again.bytes) == (True, 0, 13, 0)


async def test_no_byte_passes_through_the_client_inside_one_server(
    bucket: Bucket, other: Database, mongodb_uri: str
) -> None:
    await bucket.upload_many([SMALL] * 5)
    await bucket.upload(LARGE)
    async with watched(mongodb_uri, bucket.database.name) as (same, traffic):
        report = await transfer(Bucket(same), Bucket(same.client[other.name], "target"), delete=True)
        assert (report.transferred, report.removed, traffic.sent, traffic.fetched) == (6, 6, 0, 0)
        assert len(traffic.of("aggregate")) == 3, "one for the small files, and two for the chunks of the large one"


@every_way
async def test_what_differs_in_the_target_is_listed_and_not_changed(
    bucket: Bucket, target: Bucket, database: Database
) -> None:
    one, two, _ = await bucket.upload_many({"one": SMALL, "two": SMALL, "three": SMALL})
    await transfer(bucket, target)
    await target.rename(one.id, "other")
    await target.store.chunks.delete_one({"files_id": two.id, "n": 1})
    before = await infos(target)
    report = await transfer(bucket, target, delete=True)
    assert [(each.id, each.filename) for each in report.different] == [(one.id, "one"), (two.id, "two")]
    assert report.different[0].reason.endswith("differs in filename")
    assert report.different[1].reason.endswith("damaged there: chunk 1 of 3 is missing")
    assert (report.ok, report.skipped, report.removed, report.failed) == (False, 1, 1, ())
    assert await infos(target) == before
    assert report.as_dict()["different"][0]["id"] == one.id


@every_way
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_damaged_files_fail_alone_and_nothing_of_them_arrives(
    bucket: Bucket, target: Bucket, database: Database, data: bytes
) -> None:
    whole = await bucket.upload(data)
    short, taken, odd = [await bucket.upload(data) for _ in range(3)]
    await bucket.store.chunks.delete_one({"files_id": short.id, "n": 1})
    await bucket.store.files.insert_one({"_id": "odd", "length": "long"})
    await target.store.chunks.insert_one({"files_id": taken.id, "n": 0, "data": b"x"})
    await target.store.files.create_index("metadata.unique", unique=True, sparse=True)
    await target.upload(b"x", metadata={"unique": 1})
    await bucket.store.files.update_one({"_id": odd.id}, {"$set": {"metadata.unique": 1}})
    report = await transfer(bucket, target, delete=True)
    assert {each.id for each in report.failed} == {short.id, taken.id, odd.id, "odd"}
    reasons = {each.id: each.reason for each in report.failed}
    assert "missing" in reasons[short.id] or "instead of" in reasons[short.id]
    assert "an upload under this id is running" in reasons[taken.id]
    assert "already has" in reasons[odd.id]
    assert (report.transferred, report.removed) == (1, 1)
    await target.verify(whole.id)
    assert await orphans(target.database, "target") == [taken.id]
    assert not await bucket.file(whole.id).exists()


@pytest.mark.parametrize("target", ["without $merge", "two clients"], indirect=True)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_bytes_that_have_another_digest_do_not_arrive(bucket: Bucket, target: Bucket, data: bytes) -> None:
    info = await bucket.upload(data)
    await bucket.store.chunks.update_one({"files_id": info.id, "n": 0}, {"$set": {"data": bytes(100)}})
    report = await transfer(bucket, target)
    assert [each.id for each in report.failed] == [info.id]
    assert f"instead of {info.sha256}" in report.failed[0].reason
    assert await contents(target.database, "target") == (0, 0)


# Interruptions


async def test_what_a_killed_transfer_left_is_cleared_and_other_chunks_are_not(bucket: Bucket, target: Bucket) -> None:
    ours, small = await bucket.upload_many([LARGE, SMALL])
    mark = receiver._new_upload_id()
    for info in (ours, small):
        chunks = [{"files_id": info.id, "n": n, "data": b"half", "upload_id": mark} for n in range(2)]
        await target.store.chunks.insert_many(chunks)
    report = await transfer(bucket, target)
    assert (report.ok, report.transferred) == (True, 2)
    await target.verify(ours.id)
    assert [finding async for finding in target.check()] == []


async def test_what_a_killed_transfer_left_stays_if_a_transaction_makes_a_file_of_it(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(SMALL)
    await target.store.chunks.insert_one({"files_id": info.id, "n": 0, "upload_id": receiver._new_upload_id()})

    async def pending(*arguments: object) -> Loose:
        return Loose.PENDING

    monkeypatch.setattr(receiver, "remove_loose_chunks", pending)
    report = await transfer(bucket, target)
    assert [each.id for each in report.failed] == [info.id]
    assert await contents(target.database, "target") == (0, 1)


@every_way
@pytest.mark.parametrize("method", ["insert_many", "insert_one"])
async def test_a_lost_answer_stores_each_file_once(
    bucket: Bucket, target: Bucket, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload_many([SMALL, SMALL])
    await bucket.upload(LARGE)
    await target.ensure_indexes()
    with answer_lost(monkeypatch, method):
        try:
            report = await transfer(bucket, target)
        except Exception:  # noqa: BLE001  # the chunks of a group are not repeated: the transfer is
            assert await orphans(target.database, "target") == []
            report = await transfer(bucket, target)
    assert report.ok
    assert await contents(target.database, "target") == (3, 3 + 3 + 77)
    assert [finding async for finding in target.check()] == []


@every_way
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_records_of_an_unknown_outcome_keep_their_chunks(
    bucket: Bucket, target: Bucket, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(data)
    await target.ensure_indexes()
    monkeypatch.setattr("gridproxy.gridfs.upload.commit._PAUSE", 0.001)

    async def silent(*arguments: object) -> None:
        raise AutoReconnect("the connection was cut")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert_record", silent)
        patched.setattr(Store, "insert_records", silent)
        with pytest.raises(OutcomeUnknown):
            await transfer(bucket, target)
    assert await contents(target.database, "target") == (0, info.chunk_count)
    report = await transfer(bucket, target)
    assert (report.ok, report.transferred) == (True, 1)
    await target.verify(info.id)


@every_way
async def test_an_upload_that_begins_under_an_id_at_the_same_moment_wins(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = await bucket.upload_many([SMALL, SMALL])
    look = receiver.Receiver._look

    async def late(self: receiver.Receiver, files: Any) -> None:
        await look(self, files)
        await target.store.chunks.insert_one({"files_id": taken.id, "n": 1, "data": b"theirs"})

    await target.ensure_indexes()
    monkeypatch.setattr(receiver.Receiver, "_look", late)
    report = await transfer(bucket, target)
    assert ([each.id for each in report.failed], report.transferred) == ([taken.id], 1)
    await target.verify(free.id)
    left = [chunk["data"] async for chunk in target.store.chunks.find({"files_id": taken.id})]
    assert left == [b"theirs"]


@pytest.mark.parametrize(("code", "error"), [(40324, None), (13, OperationFailure)])
async def test_without_merge_the_content_passes_through_the_client(
    bucket: Bucket, target: Bucket, code: int, error: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload_many([SMALL, SMALL])

    async def refuse(*arguments: object) -> None:
        raise OperationFailure("no", code)

    monkeypatch.setattr(Store, "merge_files", refuse)
    if error is not None:
        with pytest.raises(error):
            await transfer(bucket, target)
        return
    assert (await transfer(bucket, target)).transferred == 2
    assert Feature.MERGE in target.capabilities.missing


async def test_a_record_that_is_not_stored_safely_is_removed(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload_many([SMALL, SMALL])
    insert = Store.insert_records

    async def unsafe(self: Store, records: Any) -> None:
        await insert(self, records)
        raise BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "too slow"}]})

    monkeypatch.setattr(Store, "insert_records", unsafe)
    with pytest.raises(BulkWriteError):
        await transfer(bucket, target, delete=True)
    assert await contents(target.database, "target") == (0, 0)
    assert await contents(bucket.database) == (2, 6)


async def test_a_failure_of_one_page_ends_the_others(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload_many([SMALL] * 8)
    monkeypatch.setattr("gridproxy.moving.transfer._FILES_PER_PAGE", 1)

    def fail(done: int, total: int | None) -> None:
        if done > len(SMALL):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await transfer(bucket, target, progress=fail)
    assert await orphans(target.database, "target") == []
    assert (await transfer(bucket, target)).ok


@pytest.mark.parametrize("marked", [False, True], ids=["removed", "marked"])
async def test_chunks_that_another_client_removes_make_the_file_fail(
    bucket: Bucket, target: Bucket, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, whole = await bucket.upload_many([SMALL, SMALL])
    insert = Store.insert_records

    async def late(self: Store, records: Any) -> None:
        await insert(self, records)
        if marked:
            first = await target.store.first_chunk_id(lost.id)
            assert await target.store.mark_chunk(lost.id, first, ObjectId())
        else:
            await target.store.chunks.delete_one({"files_id": lost.id, "n": 2})

    monkeypatch.setattr(Store, "insert_records", late)
    report = await transfer(bucket, target)
    assert [each.id for each in report.failed] == [lost.id]
    assert await contents(target.database, "target") == (1, 3)
    await target.verify(whole.id)


# Removing the sources


@every_way
async def test_a_source_is_removed_after_its_target_was_verified(
    bucket: Bucket, target: Bucket, database: Database
) -> None:
    await many_kinds(bucket, database)
    expected = await infos(bucket)
    report = await transfer(bucket, target, {"length": {"$lt": 200}}, delete=True)
    assert (report.ok, report.removed) == (True, report.transferred)
    report = await transfer(bucket, target, delete=True)
    assert report.ok
    assert [info.filename for info in (await infos(bucket)).values()] == ["expired"]
    for info in (await infos(target)).values():
        assert str(info) == str(expected[repr(info.id)])
        await target.verify(info.id)
    assert await contents(database) == (1, 1), "and no chunk of another file is left"


@every_way
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_source_stays_if_the_bytes_in_the_target_are_others(
    bucket: Bucket, target: Bucket, data: bytes
) -> None:
    plain = Bucket(bucket.database, chunk_size=100, checksum=None)
    files = [await bucket.upload(data), await plain.upload(data)]
    await transfer(bucket, target)
    for info in files:
        await target.store.chunks.update_one({"files_id": info.id, "n": 1}, {"$set": {"data": bytes(100)}})
    report = await transfer(bucket, target, delete=True)
    assert [each.id for each in report.different] == [info.id for info in files]
    assert report.different[0].reason.endswith(f"instead of {sha256(data).hexdigest()}")
    assert (report.removed, await contents(bucket.database)) == (0, (2, 2 * -(-len(data) // 100)))


@pytest.mark.parametrize("target", ["two clients"], indirect=True)
async def test_a_source_stays_if_its_target_cannot_be_read_again(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(SMALL)
    verify = receiver.Receiver.verify

    async def late(self: receiver.Receiver, *arguments: Any) -> None:
        await target.store.chunks.delete_one({"n": 1})
        await verify(self, *arguments)

    monkeypatch.setattr(receiver.Receiver, "verify", late)
    report = await transfer(bucket, target, delete=True)
    assert "could not be verified in the target" in report.different[0].reason
    await bucket.verify(info.id)


async def test_a_source_that_changes_during_the_transfer_stays(
    bucket: Bucket, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, other = await bucket.upload_many([SMALL, SMALL])
    insert = Store.insert_records

    async def late(self: Store, records: Any) -> None:
        await insert(self, records)
        await bucket.update_metadata(info.id, owner=8)

    monkeypatch.setattr(Store, "insert_records", late)
    report = await transfer(bucket, target, delete=True)
    assert [(each.id, report.removed) for each in report.different] == [(info.id, 1)]
    assert (await bucket.verify(info.id)).metadata["owner"] == 8
    assert not await bucket.file(other.id).exists()


async def test_very_long_records_are_removed_too(bucket: Bucket, target: Bucket) -> None:
    await bucket.upload_many([SMALL] * 3, metadata={"long": "x" * 3_000_000})
    await bucket.upload(SMALL, metadata={"long": "x" * 9_000_000})
    report = await transfer(bucket, target, delete=True)
    assert (report.ok, report.removed) == (True, 4)
    assert await contents(bucket.database) == (0, 0)


async def test_a_bucket_is_not_moved_into_itself_through_another_client(
    bucket: Bucket, second_client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    info = await bucket.upload(SMALL)
    with pytest.raises(BadOption, match="source and target are both the bucket 'fs'"):
        await transfer(bucket, Bucket(second_client[database.name]), delete=True)
    await bucket.verify(info.id)
    assert await contents(database) == (1, 3)


@every_way
async def test_every_file_that_arrives_or_is_removed_is_logged(
    bucket: Bucket, target: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {str((await bucket.upload(data)).id) for data in (SMALL, SMALL, LARGE)}
    with caplog.at_level(logging.INFO, logger="gridproxy"):
        await transfer(bucket, target, delete=True)
    for event, store in (("stored", target.store), ("removed", bucket.store)):
        found = [vars(record) for record in caplog.records if vars(record).get("gridfs_event") == event]
        assert ([each["gridfs_bucket"] for each in found], {each["gridfs_id"] for each in found}) == (
            [repr(store)] * 3,
            ids,
        )


# Pictures


async def picture(bucket: Bucket, *, legacy: bool) -> tuple[FileInfo, FileInfo]:
    """Store a picture and its thumbnail, as this package or as MongoEngine does."""
    small, large = await bucket.upload(b"small"), await bucket.upload(b"large")
    measures = {"width": 4, "height": 3, "format": "PNG"}
    files = bucket.store.files
    if legacy:
        await files.update_one({"_id": large.id}, {"$set": {**measures, "thumbnail_id": small.id}})
        await files.update_one({"_id": small.id}, {"$set": measures})
    else:
        names = {"thumbnail_id": small.id, "variants": {"wide": small.id, "foreign": "elsewhere"}}
        await files.update_one({"_id": large.id}, {"$set": {"metadata": {**measures, **names}}})
        await files.update_one({"_id": small.id}, {"$set": {"metadata": {**measures, "variant_of": large.id}}})
    return await bucket.stat(large.id), await bucket.stat(small.id)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keep", [("id", "metadata"), ("metadata", "upload_date")])
@pytest.mark.parametrize("filtered", [False, True])
async def test_the_variants_of_a_picture_are_moved_with_it(
    bucket: Bucket, target: Bucket, legacy: bool, keep: tuple[str, ...], filtered: bool
) -> None:
    large, small = await picture(bucket, legacy=legacy)
    report = await transfer(bucket, target, {"_id": large.id} if filtered else {}, keep=keep, delete=True)
    assert (report.ok, report.transferred, report.removed) == (True, 2, 2)
    found = list((await infos(target)).values())
    [photo] = [info for info in found if await target.read(info.id) == b"large"]
    [thumbnail] = [info for info in found if await target.read(info.id) == b"small"]
    assert {**photo.extra, **photo.metadata}["thumbnail_id"] == thumbnail.id
    assert ((photo.id, thumbnail.id) == (large.id, small.id)) is ("id" in keep)
    if not legacy:
        assert photo.metadata["variants"] == {"wide": thumbnail.id, "foreign": "elsewhere"}
        assert thumbnail.metadata["variant_of"] == photo.id
    await target.delete(photo.id)
    assert await contents(target.database, "target") == (0, 0)
    assert await contents(bucket.database) == (0, 0)


async def test_a_picture_and_its_variants_stay_together_if_one_of_them_fails(bucket: Bucket, target: Bucket) -> None:
    large, small = await picture(bucket, legacy=False)
    await bucket.store.chunks.delete_one({"files_id": large.id})
    report = await transfer(bucket, target, delete=True)
    assert ([each.id for each in report.failed], report.removed) == ([large.id], 0)
    assert await bucket.read(small.id) == b"small"


async def test_a_variant_without_its_picture_is_moved_as_a_file(bucket: Bucket, target: Bucket) -> None:
    large, small = await picture(bucket, legacy=False)
    report = await transfer(bucket, target, {"_id": small.id})
    assert (report.transferred, list(await infos(target))) == (1, [repr(small.id)])
    report = await transfer(bucket, target, {"_id": large.id})
    assert (report.transferred, report.skipped) == (1, 1)


# What is kept


@every_way
async def test_without_ids_dates_or_metadata_a_repetition_still_finds_its_files(
    bucket: Bucket, target: Bucket, database: Database
) -> None:
    info = await bucket.upload(SMALL, filename="a.txt", metadata={"owner": 7}, content_type="x/y", expires_after=3600)
    begun = utc_now()
    report = await transfer(bucket, target, keep=())
    [new] = (await infos(target)).values()
    assert (new.filename, new.content_type, new.sha256, new.expires_at) == (
        "a.txt",
        "x/y",
        info.sha256,
        info.expires_at,
    )
    assert (new.id != info.id, set(new.metadata)) == (True, {"content_type", "sha256"})
    assert new.upload_date is not None
    assert new.upload_date >= begun
    again = await transfer(bucket, target, keep=())
    assert (report.transferred, again.transferred, again.skipped) == (1, 0, 1)


async def test_codec_options_of_the_application_change_nothing(bucket: Bucket, target: Bucket) -> None:
    import uuid

    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions

    standard = CodecOptions[dict[str, Any]](uuid_representation=UuidRepresentation.STANDARD)
    mine = Bucket(bucket.database.with_options(codec_options=standard))
    id = uuid.uuid4()
    info = await mine.upload(SMALL, id=id, metadata={"also": id})
    assert (await transfer(mine, target)).ok
    theirs = Bucket(target.database.with_options(codec_options=standard), "target")
    assert await theirs.stat(id) == info


# Bad input, and limits


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: {**it, "source": it["source"].store}, "source is a Bucket, not"),
        (lambda it: {**it, "target": "archive"}, "target is a Bucket, not str"),
        (lambda it: {**it, "target": it["source"], "keep": ()}, "are both the bucket 'fs' of the database"),
        (lambda it: {**it, "keep": "id"}, "keep contains some of"),
        (lambda it: {**it, "keep": ["ids"]}, "keep contains some of"),
        (lambda it: {**it, "keep": None}, "keep contains some of"),
        (lambda it: {**it, "filter": "a.txt"}, "filter is a MongoDB query"),
    ],
)
async def test_bad_arguments_are_refused(
    database_without_server: Database, change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    good = {"source": Bucket(database_without_server), "target": Bucket(database_without_server, "target")}
    with pytest.raises(BadOption, match=words):
        await transfer(**change(good))


async def test_it_is_refused_in_a_bound_session(bucket: Bucket, target: Bucket) -> None:
    async with bucket.database.client.start_session() as session, session.bind(end_session=False):
        with pytest.raises(BadOption, match=r"a block of session\.bind\(\)"):
            await transfer(bucket, target)


@pytest.mark.parametrize("target", ["two clients"], indirect=True)
async def test_memory_stays_small_for_large_and_many_files(bucket: Bucket, target: Bucket) -> None:
    mine = Bucket(bucket.database)
    await mine.upload_many([os.urandom(400_000) for _ in range(20)])
    block = os.urandom(8_000_000)
    for _ in range(2):
        await mine.upload([block] * 5)
    tracemalloc.start()
    try:
        report = await transfer(mine, target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (report.ok, report.transferred) == (True, 22)
    assert peak < 48_000_000, peak
    assert peak < 88_000_000 - 30_000_000, "less than the files have"


async def test_many_small_files_take_few_commands(bucket: Bucket, other: Database, mongodb_uri: str) -> None:
    await bucket.upload_many([b"x"] * 300)
    async with observed(mongodb_uri, bucket.database.name) as (same, commands):
        report = await transfer(Bucket(same), Bucket(same.client[other.name], "target"))
        assert report.transferred == 300
        assert len(commands.seen) < 40, [name for name, _ in commands.seen]
