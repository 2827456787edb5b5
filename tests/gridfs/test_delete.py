"""Files taken away: one, many, every revision of a name, a whole bucket."""

from __future__ import annotations

import re

import pytest
from bson import ObjectId

from gridproxy import Bucket, FileMissing

from ..bucket.revisions import all_files, dated
from ..observing import Database, contents, orphans

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


# Many


async def test_delete_many_counts_the_removed_files(bucket: Bucket, database: Database) -> None:
    for id in ("a", 1, 2, "stays"):
        await bucket.upload(DATA, id=id)
    await bucket.upload(DATA, id={"a": 1})
    await database["fs.chunks"].insert_one({"files_id": "stray", "n": 0, "data": b"x"})
    removed = await bucket.delete_many(["a", 1, 2, "missing", "stray", {"a": 1}, {"$gt": ""}, re.compile(".*")])
    assert removed == 4
    assert [info.id for info in await all_files(bucket)] == ["stays"]
    assert await contents(database) == (1, 11)
    assert await bucket.delete_many([]) == 0


async def test_delete_many_removes_more_than_one_request_takes(bucket: Bucket, database: Database) -> None:
    ids = [ObjectId() for _ in range(250)]
    await bucket.store.files.insert_many([{"_id": id, "length": 1, "chunkSize": 100} for id in ids])
    await bucket.store.chunks.insert_many([{"files_id": id, "n": 0, "data": b"x"} for id in ids])
    assert await bucket.delete_many(iter(ids)) == 250
    assert await contents(database) == (0, 0)


# By name


async def test_deleting_by_name_removes_every_revision(bucket: Bucket, database: Database) -> None:
    await dated(bucket, "a", 3)
    kept = await bucket.upload(DATA, filename="b")
    assert await bucket.delete_by_name("a") == 3
    assert await all_files(bucket) == [kept]
    assert await orphans(database) == []
    with pytest.raises(FileMissing, match=r"no file in .* has the name 'a'"):
        await bucket.delete_by_name("a")


async def test_a_malformed_record_can_be_deleted(bucket: Bucket, database: Database) -> None:
    for id in (1, 2):
        await database["fs.files"].insert_one({"_id": id, "filename": "bad", "length": "long"})
    await bucket.delete(1)
    assert await bucket.delete_by_name("bad") == 1
    assert await contents(database) == (0, 0)


# Deleting


async def test_delete_removes_the_record_and_every_chunk(bucket: Bucket, database: Database) -> None:
    kept, gone = await bucket.upload(DATA), await bucket.upload(DATA)
    await bucket.delete(gone.id)
    assert await contents(database) == (1, 11)
    assert await bucket.read(kept.id) == DATA


async def test_delete_of_an_absent_id_clears_stray_chunks_and_raises(bucket: Bucket, database: Database) -> None:
    await database["fs.chunks"].insert_many([{"files_id": "a", "n": n, "data": b"x"} for n in range(3)])
    with pytest.raises(FileMissing) as caught:
        await bucket.delete("a")
    assert caught.value.id == "a"
    assert await contents(database) == (0, 0)


async def test_drop_removes_the_bucket_and_forgets_its_indexes(bucket: Bucket, database: Database) -> None:
    other = Bucket(database, "other")
    await bucket.upload(DATA)
    kept = await other.upload(DATA)
    await bucket.drop()
    assert sorted(await database.list_collection_names()) == ["other.chunks", "other.files"]
    assert await other.read(kept.id) == DATA
    await bucket.upload(DATA)
    assert "files_id_1_n_1" in await database["fs.chunks"].index_information()
    await bucket.drop()
    await bucket.drop()
