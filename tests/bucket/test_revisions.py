"""Revisions of a name, and files that expire earlier or later than they were to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from gridproxy import AsyncGridFile, BadFilename, BadOption, Bucket, FileMissing, FileOptions, ImageOptions
from tests.observing import contents

PAST = datetime(2020, 1, 1, tzinfo=UTC)


async def store(bucket: Bucket, count: int, name: str = "a") -> list[Any]:
    return [(await bucket.upload(bytes(number), filename=name)).id for number in range(count)]


async def test_revisions_come_from_the_oldest_to_the_newest(bucket: Bucket) -> None:
    ids = await store(bucket, 4)
    await store(bucket, 1, "b")
    # Dates may be equal, and then the ids decide.
    await bucket.store.files.update_many({}, {"$set": {"uploadDate": PAST}})
    assert [info.id async for info in bucket.revisions("a")] == ids
    assert [(await bucket.by_name("a", number)).id for number in range(4)] == ids
    assert [info async for info in bucket.revisions("c")] == []


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (3, [2, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])])
async def test_prune_keeps_the_newest_revisions(bucket: Bucket, keep: int, left: list[int]) -> None:
    ids = await store(bucket, 5)
    await store(bucket, 2, "b")
    assert await bucket.prune("a", keep=keep) == 5 - len(left)
    assert [info.id async for info in bucket.revisions("a")] == [ids[number] for number in left]
    assert (await contents(bucket.database))[0] == len(left) + 2


async def test_expired_revisions_do_not_count(bucket: Bucket) -> None:
    ids = await store(bucket, 3)
    expired = await bucket.upload(b"", filename="a", expires_at=PAST)
    assert await bucket.prune("a", keep=2) == 1
    assert [info.id async for info in bucket.revisions("a")] == [*ids[1:], expired.id]
    assert await bucket.prune("missing", keep=1) == 0


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, None])
async def test_prune_keeps_at_least_one(bucket: Bucket, keep: Any) -> None:
    await store(bucket, 2)
    with pytest.raises(BadOption, match="keep is a number of revisions"):
        await bucket.prune("a", keep=keep)
    assert (await contents(bucket.database))[0] == 2


async def test_names_of_revisions_are_names(bucket: Bucket) -> None:
    with pytest.raises(BadFilename):
        bucket.revisions({"$gt": ""})  # type: ignore[arg-type]  # that is the test
    with pytest.raises(BadFilename):
        await bucket.prune("a\0", keep=1)


async def test_one_file_is_found_and_expired_ones_are_left_out(bucket: Bucket) -> None:
    ids = await store(bucket, 3)
    await bucket.upload(bytes(9), filename="a", expires_at=PAST)
    newest = await bucket.find_one({"filename": "a"}, sort="-uploadDate")
    assert newest is not None
    assert newest.id == ids[-1]
    largest = await bucket.find_one(sort="-length")
    assert largest is not None
    assert largest.length == 2
    assert await bucket.find_one({"filename": "b"}) is None
    assert await bucket.find_one({"length": 9}) is None


@pytest.mark.parametrize(
    ("filter", "there"), [({}, True), ({"filename": "a"}, True), ({"filename": "b"}, False), ({"length": 9}, False)]
)
async def test_exists_says_whether_a_file_matches(bucket: Bucket, filter: dict[str, Any], there: bool) -> None:
    await store(bucket, 2)
    await bucket.upload(bytes(9), filename="a", expires_at=PAST)
    assert await bucket.exists(filter) is there


async def test_exists_takes_no_id(bucket: Bucket) -> None:
    with pytest.raises(BadOption, match="takes a filter"):
        await bucket.exists("a")  # type: ignore[arg-type]  # that is the test


async def test_the_expiry_of_a_file_is_changed(bucket: Bucket) -> None:
    info = await bucket.upload(b"1", expires_after=3600)
    later = datetime.now(UTC) + timedelta(days=7)
    changed = await bucket.set_expiry(info.id, later)
    assert changed.expires_at is not None
    assert abs(changed.expires_at - later) < timedelta(milliseconds=1)
    assert await bucket.stat(info.id) == changed
    assert (await bucket.set_expiry(info.id, None)).expires_at is None
    assert "expires_at" not in (await bucket.store.files.find_one({}) or {})
    await bucket.set_expiry(info.id, PAST.replace(tzinfo=None))
    with pytest.raises(FileMissing):
        await bucket.stat(info.id)
    # The garbage collector may have begun to remove it.
    with pytest.raises(FileMissing):
        await bucket.set_expiry(info.id, None)
    with pytest.raises(FileMissing):
        await bucket.set_expiry("missing", None)
    with pytest.raises(BadOption, match="expires_at is a datetime"):
        await bucket.set_expiry(info.id, "tomorrow")  # type: ignore[arg-type]  # that is the test


async def test_the_variants_of_a_picture_expire_with_it(bucket: Bucket) -> None:
    picture = BytesIO()
    Image.new("RGB", (100, 100), "red").save(picture, "PNG")
    file = AsyncGridFile(options=FileOptions(bucket, image=ImageOptions(thumbnail_size=(10, 10))))
    await file.put(picture.getvalue(), expires_after=3600)
    # A file that is only named, as another client could do, keeps its own expiry.
    other = await bucket.upload(b"other")
    await bucket.update_metadata(file.id, variants={"stolen": other.id})
    await bucket.set_expiry(file.id, None)
    await file.stat()
    assert (await file.thumbnail.stat()).expires_at is None
    await bucket.set_expiry(file.id, PAST)
    assert await bucket.exists({"_id": other.id})
    report = await bucket.collect_garbage(dry_run=False)
    assert report.expired.ids == 2
