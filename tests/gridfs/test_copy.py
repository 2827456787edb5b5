"""Copies inside the server: what they keep, and what no copy is made of."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId

from gridproxy import Bucket, CorruptFile, FileInfo, FileVanished
from gridproxy.gridfs.operations.copy import copy_file

from ..observing import Database, contents, orphans
from ..traffic import watched

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


async def test_a_copy_keeps_options_that_are_not_given(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(
        DATA, filename="a.txt", content_type="image/x-odd", metadata={"owner": 7}, expires_after=3600, chunk_size=64
    )
    copy = await bucket.copy(info.id)
    assert copy.id != info.id
    assert (copy.filename, copy.length, copy.chunk_size, copy.sha256) == ("a.txt", 1024, 64, info.sha256)
    assert copy.metadata == info.metadata
    assert copy.content_type == "image/x-odd"
    assert copy.expires_at is None, "a copy never expires by itself"
    assert await bucket.verify(copy.id) == copy
    await bucket.delete(info.id)
    assert await bucket.read(copy.id) == DATA
    assert await orphans(database) == []


async def test_a_copy_keeps_the_top_level_keys_of_other_writers(bucket: Bucket, database: Database) -> None:
    """MongoEngine stores the size of a picture there, its thumbnail's id and every keyword of `put`."""
    thumbnail = ObjectId()
    await database["fs.files"].insert_one(
        {"_id": thumbnail, "length": 2, "chunkSize": 100, "width": 10, "height": 5, "format": "PNG"}
    )
    await database["fs.chunks"].insert_one({"files_id": thumbnail, "n": 0, "data": b"ab"})
    theirs = {"width": 100, "height": 50, "format": "PNG", "thumbnail_id": thumbnail, "owner": {"id": 7}, "md5": "0f"}
    record = {"_id": 1, "length": 2, "chunkSize": 100, "contentType": "image/png", "referenced_at": None, **theirs}
    await database["fs.files"].insert_one(record)
    await database["fs.chunks"].insert_one({"files_id": 1, "n": 0, "data": b"ab"})
    copy = await bucket.copy(1)
    assert {key: value for key, value in copy.extra.items() if key != "thumbnail_id"} == {
        "contentType": "image/png",
        **{key: value for key, value in theirs.items() if key != "thumbnail_id"},
    }
    small = await bucket.stat(copy.extra["thumbnail_id"])
    assert (small.id != thumbnail, dict(small.extra)) == (True, {"width": 10, "height": 5, "format": "PNG"})
    changed = await bucket.copy(1, content_type="image/x-png")
    assert (changed.content_type, "contentType" in changed.extra) == ("image/x-png", False)
    for each in (copy.id, changed.id):
        await bucket.delete(each)
    assert {record["_id"] async for record in database["fs.files"].find()} == {1, thumbnail}


async def test_a_copy_has_the_given_options(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, filename="a.txt", metadata={"owner": 7})
    copy = await bucket.copy(info.id, new_id="b", filename="b.png", metadata={"x": 1}, expires_after=3600)
    assert (copy.id, copy.filename, copy.content_type) == ("b", "b.png", "text/plain")
    assert copy.metadata == {"x": 1, "content_type": "text/plain", "sha256": info.sha256}
    assert copy.expires_at is not None
    assert (await bucket.copy(info.id, content_type="a/b")).content_type == "a/b"


async def test_a_copy_of_an_empty_file_is_one(bucket: Bucket) -> None:
    info = await bucket.upload(b"", filename="a")
    copy = await bucket.copy(info.id)
    assert (copy.length, copy.filename) == (0, "a")
    assert await bucket.read(copy.id) == b""


async def test_a_copy_of_an_empty_file_without_a_chunk_size_has_one(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": 0})
    copy = await bucket.copy(1)
    assert (copy.length, copy.chunk_size) == (0, 100)


async def test_a_copy_keeps_the_records_of_other_drivers(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one(
        {"_id": 1, "length": 2, "chunkSize": 100, "contentType": "a/b", "metadata": {"dotted": {"a": 1}}}
    )
    await database["fs.chunks"].insert_one({"files_id": 1, "n": 0, "data": b"ab"})
    copy = await bucket.copy(1)
    assert copy.content_type == "a/b"
    assert copy.metadata == {"dotted": {"a": 1}, "content_type": "a/b"}
    assert copy.filename is None
    assert await bucket.read(copy.id) == b"ab"


async def test_nothing_is_made_of_half_a_file(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(DATA)
    await database["fs.chunks"].delete_one({"n": 3})
    with pytest.raises(CorruptFile, match="924 bytes in 10 pieces instead of 1024 in 11"):
        await bucket.copy(info.id)
    assert await contents(database) == (1, 10)


async def test_nothing_is_made_of_a_file_that_is_deleted_while_it_is_copied(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(DATA)
    copy_chunks = bucket.store.copy_chunks

    async def late(*arguments: Any) -> None:
        await bucket.delete(info.id)
        await copy_chunks(*arguments)

    monkeypatch.setattr(bucket.store, "copy_chunks", late)
    with pytest.raises(FileVanished):
        await bucket.copy(info.id)
    assert await contents(database) == (0, 0)


async def test_a_copy_moves_no_byte_through_the_client(bucket: Bucket, database: Database, mongodb_uri: str) -> None:
    data = DATA * 1000
    info = await bucket.upload(data, chunk_size=20_000)
    async with watched(mongodb_uri, database.name) as (same, traffic):
        copy = await Bucket(same).copy(info.id, filename="b")
        assert (traffic.sent, traffic.fetched) == (0, 0)
        assert traffic.of("aggregate")
        assert await Bucket(same).read(copy.id) == data
        assert traffic.fetched >= len(data), "and reading it does, which shows that this is counted"


async def test_a_picture_is_copied_to_another_bucket_with_its_variants(
    bucket: Bucket, database: Database, mongodb_uri: str
) -> None:
    picture = await bucket.upload(DATA * 100, filename="a.bin", chunk_size=200)
    small = await bucket.upload(b"small", metadata={"variant_of": picture.id})
    await bucket.update_metadata(picture.id, thumbnail_id=small.id)
    async with watched(mongodb_uri, database.name) as (same, traffic):
        source, other = Bucket(same), Bucket(same, "other")
        copy = await copy_file(source.store, picture.id, target=other.store)
        assert (traffic.sent, traffic.fetched) == (0, 0)
    there = Bucket(database, "other")
    assert await there.read(copy.id) == DATA * 100
    assert (copy.filename, copy.sha256) == (picture.filename, picture.sha256)
    thumbnail = await there.stat(copy.metadata["thumbnail_id"])
    assert thumbnail.metadata["variant_of"] == copy.id
    assert await there.read(thumbnail.id) == b"small"
    assert [info.id async for info in bucket.find()] == [picture.id, small.id]


async def test_a_failed_copy_to_another_bucket_leaves_nothing_there(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = await bucket.upload(DATA, filename="a.bin")
    small = await bucket.upload(b"small", metadata={"variant_of": picture.id})
    await bucket.update_metadata(picture.id, thumbnail_id=small.id)
    other, copy_chunks = Bucket(database, "other"), bucket.store.copy_chunks

    async def late(source: FileInfo, *arguments: Any) -> None:
        if source.id == picture.id:
            await bucket.delete(picture.id)
        await copy_chunks(source, *arguments)

    monkeypatch.setattr(bucket.store, "copy_chunks", late)
    with pytest.raises(FileVanished):
        await copy_file(bucket.store, picture.id, target=other.store)
    assert await other.store.files.count_documents({}) == 0
    assert await other.store.chunks.count_documents({}) == 0
