"""Uploads in several parts: what they store, what they refuse, and what upkeep knows about them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anyio.abc import ByteReceiveStream
from bson import ObjectId

from gridproxy import (
    BadMetadata,
    BadOption,
    Bucket,
    ContentTypeRefused,
    CorruptFile,
    FileAlreadyStored,
    FileInfo,
    FileMissing,
    FileOptions,
    FileRefused,
    ImageOptions,
    ResumableUpload,
    TooLarge,
    UploadInProgress,
    UploadMissing,
    WrongLength,
    WrongOffset,
)
from gridproxy.gridfs.resumable import digests, lease
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

DATA = bytes(range(256)) * 5  # thirteen chunks of 100 bytes
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0"


@pytest.fixture(params=["kept digests", "no digests"])
def digests_kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test as one process, and as a new process for each append."""
    if request.param == "no digests":
        monkeypatch.setattr(digests, "keep_digest", lambda *_: None)
        monkeypatch.setattr("gridproxy.gridfs.resumable.append.keep_digest", lambda *_: None)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Let time pass for the package."""
    real, passed = Store.now, timedelta(0)

    def now(self: Store) -> datetime:
        return real(self) + passed

    def let_pass(more: timedelta) -> None:
        nonlocal passed
        passed += more

    monkeypatch.setattr(Store, "now", now)
    return let_pass


async def left(bucket: Bucket) -> dict[str, int]:
    names = ("files", "chunks", "uploads")
    return {name: await bucket.database[f"{bucket.name}.{name}"].count_documents({}) for name in names}


NOTHING = {"files": 0, "chunks": 0, "uploads": 0}


async def failing(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
    raise OSError("the network is gone")


@pytest.mark.usefixtures("digests_kept", "small_batches")
@pytest.mark.parametrize("cuts", [[], [0], [1], [100], [99, 100, 101], [250, 1000, 1000, 1250], [1280]], ids=str)
async def test_parts_become_the_file_that_one_upload_would_be(bucket: Bucket, cuts: list[int]) -> None:
    upload = await bucket.resumable(filename="a.txt", metadata={"place": "Alps"}, length=len(DATA), expires_after=3600)
    for start, stop in zip([0, *cuts], [*cuts, len(DATA)], strict=True):
        upload = await bucket.resume(upload.id)
        assert upload.offset == start
        assert await upload.append(io.BytesIO(DATA[start:stop]), at=start) == stop
        assert await bucket.database["fs.files"].count_documents({}) == 0
    info = await upload.finish()
    assert await bucket.read(info.id) == DATA
    assert (info.filename, info.content_type, info.metadata["place"]) == ("a.txt", "text/plain", "Alps")
    assert info.sha256 == hashlib.sha256(DATA).hexdigest()
    assert info.upload_date is not None
    assert info.expires_at == info.upload_date + timedelta(hours=1)
    assert await bucket.stat(info.id) == info
    assert [finding async for finding in bucket.check()] == []
    again = await bucket.resume(info.id)
    assert (again.is_finished, again.offset, await again.finish()) == (True, len(DATA), info)
    await bucket.delete(info.id)
    assert (await left(bucket))["chunks"] == 0
    with pytest.raises(FileMissing):
        await again.finish()


async def test_an_upload_describes_itself(bucket: Bucket) -> None:
    upload = await bucket.resumable(id="mine", length=5, annotations={"owner": 7}, chunk_size=50, lifetime=60)
    assert (upload.id, upload.offset, upload.length, upload.is_finished) == ("mine", 0, 5, False)
    assert repr(upload) == f"<ResumableUpload 'mine' to {bucket.store!r}: 0 of 5 bytes>"
    assert timedelta(seconds=50) < upload.expires_at - bucket.store.now() <= timedelta(seconds=60)
    await upload.append("löw")
    found = await bucket.resume("mine")
    assert (found.annotations, found.offset, found.info.length) == ({"owner": 7}, 4, 4)
    await found.append(b"e")
    info = await found.finish()
    assert (info.id, info.chunk_size, await bucket.read("mine")) == ("mine", 50, "löwe".encode())


async def test_without_a_checksum_and_with_another_one_of_the_same_id(bucket: Bucket) -> None:
    plain = Bucket(bucket.database, chunk_size=100, checksum=None)
    upload = await plain.resumable(id="mine")
    with pytest.raises(UploadInProgress):
        await plain.resumable(id="mine")
    await upload.append(DATA)
    assert (await upload.finish()).sha256 is None
    with pytest.raises(FileAlreadyStored):
        await plain.resumable(id="mine")


async def test_appends_that_do_not_fit_store_nothing(bucket: Bucket) -> None:
    upload = await bucket.resumable(length=300)
    await upload.append(DATA[:150])
    stale = await bucket.resume(upload.id)
    await upload.append(DATA[150:200])
    for wrong in (stale.append(DATA[150:200]), stale.append(DATA[:150], at=0), upload.append(b"", at=250)):
        with pytest.raises(WrongOffset) as refused:
            await wrong
        assert refused.value.offset == 200
    assert stale.offset == 200  # it has learned that
    with pytest.raises(WrongLength):
        await upload.append(DATA[200:301])
    with pytest.raises(WrongLength) as short:
        await upload.finish()
    assert (short.value.length, short.value.actual) == (300, 200)
    with pytest.raises(WrongLength):
        await upload.append(part for part in (DATA[200:300], b"x"))
    assert await upload.append(iter([DATA[200:300]]), at=200) == 300
    info = await upload.finish()
    assert await bucket.read(info.id) == DATA[:300]
    for late in (upload.append(b""), stale.append(b"", at=300)):
        with pytest.raises(FileAlreadyStored):
            await late


async def test_the_length_is_announced_once(bucket: Bucket) -> None:
    upload = await bucket.resumable(options=FileOptions(max_size=100))
    await upload.append(b"0123456789")
    for wrong, error in ((9, WrongLength), (101, TooLarge), (-1, BadOption)):
        with pytest.raises(error):
            await upload.announce(wrong)
    for _ in range(2):
        await upload.announce(10)
    with pytest.raises(WrongLength):
        await upload.announce(11)
    assert (await upload.finish()).length == 10
    gone = await bucket.resumable()
    await gone.abort()
    with pytest.raises(UploadMissing):
        await gone.announce(1)


async def test_digests_are_kept_for_a_bounded_number_of_uploads(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_MOST", 1)
    first, second = await bucket.resumable(), await bucket.resumable()
    for upload in (first, second):
        await upload.append(DATA)
    kept = digests._digests.get(bucket.database.client)
    assert kept is not None
    assert len(kept) == 1
    for upload in (first, second):
        assert (await upload.finish()).sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.usefixtures("small_batches")
async def test_a_source_that_fails_keeps_what_arrived_unless_it_is_whole(bucket: Bucket) -> None:
    upload = await bucket.resumable()
    with pytest.raises(OSError, match="gone"):
        await upload.append(failing(DATA[:150], DATA[150:777]))
    assert upload.offset == (await bucket.resume(upload.id)).offset == 777
    with pytest.raises(OSError, match="gone"):
        await upload.append(failing(DATA[777:1000]), whole=True)
    assert upload.offset == (await bucket.resume(upload.id)).offset == 777
    assert await bucket.database["fs.chunks"].count_documents({}) == 7
    await upload.append(DATA[777:])
    assert await bucket.read((await upload.finish()).id) == DATA


@pytest.mark.parametrize("whole", [False, True], ids=["in parts", "whole"])
async def test_a_long_append_renews_its_lease(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    monkeypatch.setattr(lease.Lease, "is_due", property(lambda _: True))
    upload = await bucket.resumable(options=FileOptions(content_types="text/plain"))
    seen = []
    content = b"a marmot " * 10_000

    async def blocks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 20_000):
            yield content[at : at + 20_000]
            seen.append((await bucket.resume(upload.id)).offset)

    await upload.append(blocks(), whole=whole)
    assert seen == ([0] * 5 if whole else [20_000, 40_000, 60_000, 80_000, 90_000])
    monkeypatch.setattr(digests, "_digests", WeakIdentityMap())
    info = await upload.finish()
    assert info.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [10, 70_000], ids=["short", "longer than the head"])
async def test_the_type_is_judged_as_soon_as_the_head_is_there(bucket: Bucket, size: int) -> None:
    options = FileOptions(content_types=["image/png"], max_size=100_000)
    upload = await bucket.resumable(filename="a.png", options=options)
    content = b"<script>" + b"x" * size
    refused: list[ResumableUpload] = []
    with pytest.raises(ContentTypeRefused):
        for at in range(0, len(content), 25_000):
            upload = await bucket.resume(upload.id)
            await upload.append(content[at : at + 25_000])
            refused.append(upload)
        await upload.finish()
    assert refused[-1].offset == (18 if size == 10 else 50_000)  # the third append was refused, or the end
    assert await left(bucket) == NOTHING
    with pytest.raises(UploadMissing):
        await upload.append(b"", at=upload.offset)

    good = await bucket.resumable(filename="photo", options=options)
    await good.append(PNG + bytes(size))
    assert (await good.finish()).content_type == "image/png"


async def test_a_head_that_was_read_by_an_append_of_which_nothing_is_kept_is_read_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "is_due", property(lambda _: True))
    upload = await bucket.resumable(filename="a.png", options=FileOptions(content_types=["image/png"]))
    with pytest.raises(OSError, match="gone"):
        await upload.append(failing(PNG + bytes(70_000), b"more"), whole=True)
    assert upload.offset == 0
    with pytest.raises(ContentTypeRefused):
        await upload.append(b"<script>" + bytes(70_000))


async def test_limits_are_stored_and_validators_have_to_be_given_again(bucket: Bucket) -> None:
    async def no_lions(info: FileInfo, head: bytes) -> None:
        if b"lion" in head:
            raise ValueError("this is a lion")

    options = FileOptions(max_size=100, validators=[no_lions])
    with pytest.raises(TooLarge):
        await bucket.resumable(length=101, options=options)
    upload = await bucket.resumable(options=options)
    with pytest.raises(BadOption, match="validators"):
        await bucket.resume(upload.id)
    again = await bucket.resume(upload.id, options=FileOptions(max_size=10**9, validators=[no_lions]))
    with pytest.raises(TooLarge):
        await again.append(bytes(101))
    assert await left(bucket) == NOTHING
    upload = await bucket.resumable(options=options)
    await upload.append(b"a lion")
    with pytest.raises(FileRefused, match="this is a lion"):
        await upload.finish()
    assert await left(bucket) == NOTHING


@pytest.mark.parametrize("verdict", [True, False])
async def test_an_inspector_sees_the_whole_content_before_the_file_exists(
    bucket: Bucket, verdict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "is_due", property(lambda _: True))
    seen = []

    async def scan(info: FileInfo, stream: ByteReceiveStream) -> bool:
        assert (await left(bucket))["files"] == 0
        seen.append((info.sha256, b"".join([block async for block in stream])))
        return verdict

    options = FileOptions(inspect=scan)
    upload = await bucket.resumable(options=options)
    await upload.append(DATA)
    with pytest.raises(BadOption, match="inspect"):
        await bucket.resume(upload.id)
    upload = await bucket.resume(upload.id, options=options)
    if verdict:
        await upload.finish()
        assert (await bucket.resume(upload.id)).is_finished
    else:
        with pytest.raises(FileRefused, match="scan refuses"):
            await upload.finish()
        assert await left(bucket) == NOTHING
    assert seen == [(hashlib.sha256(DATA).hexdigest(), DATA)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"length": -1}, BadOption),
        ({"length": "5"}, BadOption),
        ({"length": True}, BadOption),
        ({"lifetime": 0}, BadOption),
        ({"lifetime": "1 day"}, BadOption),
        ({"lifetime": float("nan")}, BadOption),
        ({"lifetime": float("inf")}, BadOption),
        ({"lifetime": timedelta(days=4000)}, BadOption),
        ({"chunk_size": 9 * 1024 * 1024}, BadOption),
        ({"annotations": {"a": object()}}, BadMetadata),
        ({"annotations": {"a": bytes(16_777_000)}}, BadMetadata),
        ({"metadata": {"a": object()}}, BadMetadata),
        ({"options": FileOptions(image=ImageOptions())}, BadOption),
        ({"name": "a"}, TypeError),
    ],
    ids=lambda value: f"{next(iter(value))}" if isinstance(value, dict) else value.__name__,
)
async def test_wrong_options_are_refused_before_anything_is_stored(
    bucket: Bucket, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await bucket.resumable(**options)
    assert await left(bucket) == NOTHING


async def test_an_aborted_upload_is_gone(bucket: Bucket) -> None:
    upload, other = await bucket.resumable(), await bucket.resumable()
    await upload.append(DATA)
    await other.append(DATA)
    for _ in range(2):
        await upload.abort()
    assert await left(bucket) == {"files": 0, "chunks": 12, "uploads": 1}
    for missing in (upload.append(b""), upload.finish(), bucket.resume(upload.id), bucket.resume({"$ne": None})):
        with pytest.raises(UploadMissing):
            await missing
    info = await other.finish()
    with pytest.raises(FileAlreadyStored):
        await other.abort()
    assert await bucket.read(info.id) == DATA


async def test_an_append_to_an_upload_that_is_aborted_removes_its_chunks(bucket: Bucket) -> None:
    upload = await bucket.resumable()

    async def blocks() -> AsyncIterator[bytes]:
        yield DATA
        await (await bucket.resume(upload.id)).abort()
        yield DATA

    with pytest.raises(UploadMissing):
        await upload.append(blocks())
    assert await left(bucket) == NOTHING


@pytest.mark.parametrize("removed", ["delete", "discard", "a chunk"])
async def test_an_upload_without_all_of_its_chunks_becomes_no_file(bucket: Bucket, removed: str) -> None:
    upload = await bucket.resumable()
    await upload.append(DATA)
    if removed == "delete":
        with pytest.raises(FileMissing):
            await bucket.delete(upload.id)
    elif removed == "discard":
        await bucket.discard(upload.id)
    else:
        await bucket.database["fs.chunks"].delete_one({"n": 3})
    with pytest.raises(CorruptFile):
        await upload.finish()
    await upload.abort()
    assert await left(bucket) == NOTHING


async def test_chunks_that_vanish_while_the_file_is_stored_become_no_file(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await bucket.resumable()
    await upload.append(DATA)
    insert = Store.insert_record

    async def insert_record(store: Store, *args: Any) -> None:
        await insert(store, *args)
        await bucket.database["fs.chunks"].delete_one({"n": 3})

    monkeypatch.setattr(Store, "insert_record", insert_record)
    with pytest.raises(CorruptFile):
        await upload.finish()
    assert (await left(bucket))["files"] == 0


async def test_another_file_under_the_id_is_not_touched(bucket: Bucket) -> None:
    upload = await bucket.resumable(id="mine")
    await upload.append(b"short")  # no chunk yet
    await bucket.upload(DATA, id="mine")
    for attempt in (upload.finish(), upload.append(DATA)):
        with pytest.raises((UploadInProgress, FileAlreadyStored)):
            await attempt
    await upload.abort()
    assert await bucket.read("mine") == DATA
    assert await left(bucket) == {"files": 1, "chunks": 13, "uploads": 0}


async def test_upkeep_knows_uploads_that_live_and_removes_expired_ones(
    bucket: Bucket, later: Callable[[timedelta], None]
) -> None:
    lives, rests, ends = [await bucket.resumable(lifetime=timedelta(days=3)) for _ in range(3)]
    for upload in (lives, rests, ends):
        await upload.append(DATA)
    info = await ends.finish()
    # Chunks of an age that the garbage collector removes.
    for chunk in await bucket.database["fs.chunks"].find({"files_id": {"$ne": info.id}}).to_list():
        await bucket.database["fs.chunks"].delete_one({"_id": chunk["_id"]})
        old = ObjectId(
            ObjectId.from_datetime(datetime.now(UTC) - timedelta(days=2)).binary[:4] + chunk["_id"].binary[4:]
        )
        await bucket.database["fs.chunks"].insert_one({**chunk, "_id": old})
    assert [finding async for finding in bucket.check()] == []
    assert (await bucket.collect_garbage(dry_run=False)).removed.ids == 0

    later(timedelta(days=2))
    await lives.append(b"more")
    later(timedelta(days=2))
    [finding] = [finding async for finding in bucket.check()]
    assert (finding.kind, finding.id, finding.chunks, finding.bytes) == ("orphan", rests.id, 12, 1200)
    assert "expired" in finding.reason
    for dry_run in (True, False):
        report = await bucket.collect_garbage(dry_run=dry_run)
        assert (report.orphans.ids, report.orphans.chunks, report.orphans.bytes) == (1, 12, 1200)
    for missing in (rests.append(b""), bucket.resume(rests.id)):
        with pytest.raises(UploadMissing):
            await missing
    assert [finding async for finding in bucket.check()] == []
    assert await left(bucket) == {"files": 1, "chunks": 13 + 12, "uploads": 1}
    await lives.append(b"end")
    assert await bucket.read((await lives.finish()).id) == DATA + b"moreend"
    assert await bucket.read(info.id) == DATA


async def test_an_expired_upload_is_missing_and_an_append_that_runs_is_not_collected(
    bucket: Bucket, later: Callable[[timedelta], None]
) -> None:
    upload = await bucket.resumable(lifetime=5)

    async def slow() -> AsyncIterator[bytes]:
        yield DATA
        later(timedelta(seconds=10))
        assert (await bucket.collect_garbage(dry_run=False)).removed.ids == 0
        yield DATA

    await upload.append(slow())
    later(timedelta(seconds=6))
    for missing in (upload.append(b""), upload.finish(), bucket.resume(upload.id)):
        with pytest.raises(UploadMissing):
            await missing


async def test_an_append_and_the_garbage_collector_do_not_both_win(
    bucket: Bucket, later: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is continued after the collector has seen that it expired."""
    upload = await bucket.resumable(lifetime=60)
    await upload.append(DATA)
    from gridproxy.upkeep.collect_garbage import _Collector

    remove = _Collector._remove_upload

    async def continued(self: _Collector, found: Any) -> bool:
        later(timedelta(seconds=-30))
        await upload.append(b"!")
        later(timedelta(seconds=30))
        return await remove(self, found)

    monkeypatch.setattr(_Collector, "_remove_upload", continued)
    later(timedelta(seconds=61))
    assert (await bucket.collect_garbage(dry_run=False)).removed.ids == 0
    later(timedelta(seconds=-61))
    assert await bucket.read((await upload.finish()).id) == DATA + b"!"


async def test_drop_removes_uploads(bucket: Bucket) -> None:
    await (await bucket.resumable()).append(DATA)
    await bucket.drop()
    assert await left(bucket) == NOTHING
