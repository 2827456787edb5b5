"""On disk it is plain GridFS: pymongo reads what is written here, and what others wrote is read here."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio.to_thread
import gridfs
import gridfs.errors
import pytest
from bson import Binary, ObjectId
from bson.int64 import Int64
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database as SyncDatabase

from gridproxy import AsyncGridFile, Bucket, CorruptFile, FileAlreadyStored, FileMissing
from tests.observing import orphans

Database = AsyncDatabase[dict[str, Any]]

CHUNK = 1000
# Nothing, one byte, and one byte around every boundary.
SIZES = sorted(
    {
        (chunk, length)
        for chunk in (1, 7, CHUNK, 255 * 1024)
        for length in (0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk - 1, 2 * chunk, 2 * chunk + 1)
    }
)
LARGE = 60 * 1024 * 1024


def content(length: int) -> bytes:
    """Bytes in which every place tells where it is, so that no chunk can stand for another."""
    block = b"".join(number.to_bytes(4, "big") for number in range(min(length, 1 << 20) // 4 + 1))
    return (block * (length // len(block) + 1))[:length]


@pytest.fixture
async def sync_database(mongodb_uri: str, database: Database) -> AsyncIterator[SyncDatabase[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[database.name]


def sync_upload(database: SyncDatabase[dict[str, Any]], data: bytes, chunk_size: int | None) -> ObjectId:
    bucket = gridfs.GridFSBucket(database)
    return bucket.upload_from_stream("theirs.bin", data, chunk_size_bytes=chunk_size, metadata={"by": "them"})


def sync_read(database: SyncDatabase[dict[str, Any]], id: object) -> tuple[bytes, str | None, Any]:
    with gridfs.GridFSBucket(database).open_download_stream(id) as stream:
        return stream.read(), stream.filename, stream.metadata


# Both ways, at every length


@pytest.mark.parametrize(("chunk_size", "length"), SIZES)
async def test_a_file_of_pymongo_is_read_here(
    database: Database, sync_database: SyncDatabase[dict[str, Any]], chunk_size: int, length: int
) -> None:
    data = content(length)
    bucket = Bucket(database)
    by_sync = await anyio.to_thread.run_sync(partial(sync_upload, sync_database, data, chunk_size))
    by_async = await AsyncGridFSBucket(database).upload_from_stream("theirs.bin", data, chunk_size_bytes=chunk_size)
    for id in (by_sync, by_async):
        info = await bucket.verify(id)
        assert (info.length, info.filename, info.sha256) == (length, "theirs.bin", None)
        assert info.chunk_size == chunk_size
        assert await bucket.read(id) == data
        assert await bucket.read(id, length // 2, length // 2 + 5) == data[length // 2 : length // 2 + 5]
        assert b"".join([block async for block in bucket.stream(id)]) == data
        async with AsyncGridFile(id, bucket=bucket).open() as reader:
            assert await reader.read(5) + await reader.read() == data
    assert (await bucket.stat(by_sync)).metadata == {"by": "them"}


@pytest.mark.parametrize(("chunk_size", "length"), SIZES)
async def test_pymongo_reads_a_file_of_gridproxy(
    database: Database, sync_database: SyncDatabase[dict[str, Any]], chunk_size: int, length: int
) -> None:
    data = content(length)
    bucket = Bucket(database)
    whole = await bucket.upload(data, filename="ours.bin", metadata={"by": "us"}, chunk_size=chunk_size)
    async with bucket.open_upload(filename="ours.bin", chunk_size=chunk_size) as upload:
        for at in range(0, length, 30_000):
            await upload.write(data[at : at + 30_000])
    staged = await bucket.publish(await bucket.stage(data, filename="ours.bin", chunk_size=chunk_size))
    copy = await bucket.copy(whole.id)
    for id in (whole.id, upload.id, staged.id, copy.id):
        stream = await AsyncGridFSBucket(database).open_download_stream(id)
        assert await stream.read() == data
        assert (stream.filename, stream.length) == ("ours.bin", length)
        read, filename, _ = await anyio.to_thread.run_sync(sync_read, sync_database, id)
        assert (read, filename) == (data, "ours.bin")
    _, _, metadata = await anyio.to_thread.run_sync(sync_read, sync_database, whole.id)
    assert metadata == dict(whole.metadata)


async def test_sixty_megabytes_of_pymongos_are_read_here(
    database: Database, sync_database: SyncDatabase[dict[str, Any]]
) -> None:
    data = content(LARGE)
    id = await anyio.to_thread.run_sync(sync_upload, sync_database, data, None)
    digest = hashlib.sha256()
    async for block in Bucket(database).stream(id):
        digest.update(block)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert await Bucket(database).read(id, LARGE - 10, LARGE + 10) == data[-10:]


async def test_pymongo_reads_sixty_megabytes_that_are_written_here(
    database: Database, sync_database: SyncDatabase[dict[str, Any]]
) -> None:
    data = content(LARGE)
    info = await Bucket(database).upload(data, filename="ours.bin")
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    read, _, _ = await anyio.to_thread.run_sync(sync_read, sync_database, info.id)
    assert read == data


# One bucket, used by both


async def test_pymongo_finds_renames_and_deletes_a_file_of_gridproxy(database: Database) -> None:
    theirs = AsyncGridFSBucket(database, "photos")
    ours = Bucket(database, "photos", chunk_size=10)
    first = await ours.upload(b"first", filename="a")
    await ours.store.files.update_one({"_id": first.id}, {"$set": {"uploadDate": datetime(2026, 1, 1, tzinfo=UTC)}})
    second = await ours.upload(b"second", filename="a")
    stream = await theirs.open_download_stream_by_name("a", revision=0)
    assert await stream.read() == b"first"
    stream = await theirs.open_download_stream_by_name("a")
    assert await stream.read() == b"second"
    await theirs.rename(first.id, "b")
    assert (await ours.stat(first.id)).filename == "b"
    await theirs.delete(second.id)
    with pytest.raises(FileMissing):
        await ours.read(second.id)
    assert await orphans(database, "photos") == []


async def test_files_of_pymongos_are_found_renamed_edited_copied_and_deleted_here(database: Database) -> None:
    theirs, ours = AsyncGridFSBucket(database), Bucket(database)
    id = await theirs.upload_from_stream("a", content(2500), chunk_size_bytes=CHUNK)
    await theirs.upload_from_stream_with_id("given", "b", b"x")
    assert [info.id async for info in ours.find(sort="filename")] == [id, "given"]
    assert (await ours.by_name("a")).id == id
    assert (await ours.rename(id, "c")).filename == "c"
    assert (await ours.update_metadata(id, a=1)).metadata == {"a": 1}
    copy = await ours.copy(id)
    assert await ours.read(copy.id) == content(2500)
    with pytest.raises(FileAlreadyStored):
        await ours.upload(b"y", id="given")
    assert await ours.delete_many([id, "given", copy.id]) == 3
    assert await orphans(database) == []
    with pytest.raises(gridfs.NoFile):
        await theirs.open_download_stream(id)


async def test_pymongos_indexes_are_ours(database: Database) -> None:
    await AsyncGridFSBucket(database).upload_from_stream("a", b"x")
    theirs = [await database[name].index_information() for name in ("fs.files", "fs.chunks")]
    await database["fs.files"].drop()
    await database["fs.chunks"].drop()
    await Bucket(database).upload(b"x")
    assert [await database[name].index_information() for name in ("fs.files", "fs.chunks")] == theirs
    await Bucket(database).ensure_indexes(force=True)
    assert [await database[name].index_information() for name in ("fs.files", "fs.chunks")] == theirs


async def test_the_older_class_of_pymongos_reads_ours_and_is_read(
    database: Database, sync_database: SyncDatabase[dict[str, Any]]
) -> None:
    def old_style() -> tuple[ObjectId, bytes]:
        files = gridfs.GridFS(sync_database)
        id = files.put(
            content(2500), filename="old", content_type="image/x-old", aliases=["o"], chunkSize=CHUNK, owner=7
        )
        return id, files.get(ours.id).read()

    ours = await Bucket(database).upload(content(1500), filename="new", chunk_size=CHUNK)
    id, read = await anyio.to_thread.run_sync(old_style)
    assert read == content(1500)
    info = await Bucket(database).stat(id)
    assert (info.content_type, info.metadata) == ("image/x-old", {})
    assert info.extra == {"contentType": "image/x-old", "aliases": ["o"], "owner": 7}
    assert await Bucket(database).read(id) == content(2500)


# Records that others left


PLAIN = {"length": 25, "chunkSize": 10, "uploadDate": datetime(2012, 3, 4, tzinfo=UTC)}
LEGACY: dict[str, dict[str, Any]] = {
    "neither name nor metadata": PLAIN,
    "null name and metadata": {**PLAIN, "filename": None, "metadata": None},
    "doubles": {**PLAIN, "length": 25.0, "chunkSize": 10.0},
    "64 bits": {**PLAIN, "length": Int64(25), "chunkSize": Int64(10)},
    "md5 and aliases": {**PLAIN, "md5": "d41d8cd98f00b204e9800998ecf8427e", "aliases": None},
    "content type at the top": {**PLAIN, "contentType": "image/png", "filename": "a"},
    "no date": {"length": 25, "chunkSize": 10},
    "keys of an application": {**PLAIN, "encoding": "utf-8", "odd": {"nested": [1]}},
}


@pytest.mark.parametrize("record", LEGACY.values(), ids=LEGACY)
@pytest.mark.parametrize("number", [int, float, Int64])
async def test_a_legacy_file_is_read_edited_copied_and_deleted(
    database: Database, record: dict[str, Any], number: Any
) -> None:
    data = content(25)
    bucket = Bucket(database)
    await database["fs.files"].insert_one({"_id": 1, **record})
    await database["fs.chunks"].insert_many(
        [{"files_id": 1, "n": number(n), "data": data[10 * n : 10 * n + 10]} for n in range(3)]
    )
    info = await bucket.verify(1)
    assert (info.length, info.chunk_size, info.filename) == (25, 10, record.get("filename"))
    assert set(info.extra) == set(record) - {"length", "chunkSize", "uploadDate", "filename", "metadata"}
    assert info.content_type == record.get("contentType")
    assert info.etag.startswith('"')
    assert await bucket.read(1) == data
    assert await bucket.read(1, 12, 24) == data[12:24]
    assert [block async for block in bucket.stream(1, 5)] == [data[5:10], data[10:20], data[20:]]
    async with AsyncGridFile(1, bucket=bucket).open() as reader:
        await reader.seek(-3, 2)
        assert await reader.read() == data[-3:]

    edited = await bucket.update_metadata(1, reviewed=True)
    assert edited.metadata == {"reviewed": True}
    assert (await bucket.rename(1, "b")).extra == info.extra
    copy = await bucket.copy(1)
    assert await bucket.read(copy.id) == data
    assert copy.content_type == info.content_type
    await bucket.delete(1)
    await bucket.delete(copy.id)
    assert await orphans(database) == []


async def test_the_old_binary_subtype_is_read_as_bytes(database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": 4, "chunkSize": 10})
    await database["fs.chunks"].insert_one({"files_id": 1, "n": 0, "data": Binary(b"abcd", 2)})
    read = await Bucket(database).read(1)
    assert (read, type(read)) == (b"abcd", bytes)


async def test_an_empty_chunk_behind_the_end_is_legal_and_one_in_an_empty_file_too(database: Database) -> None:
    await database["fs.files"].insert_many(
        [{"_id": 1, "length": 4, "chunkSize": 4}, {"_id": 2, "length": 0, "chunkSize": 4}]
    )
    await database["fs.chunks"].insert_many(
        [
            {"files_id": 1, "n": 0, "data": b"abcd"},
            {"files_id": 1, "n": 1, "data": b""},
            {"files_id": 2, "n": 0, "data": b""},
        ]
    )
    bucket = Bucket(database)
    assert await bucket.read(1) == b"abcd"
    assert await bucket.read(2) == b""
    await bucket.verify(1)
    await bucket.verify(2)


async def test_metadata_with_keys_that_are_refused_here_are_read_and_copied(database: Database) -> None:
    metadata = {"$odd": 1, "a": {"$b": 1}}
    id = await AsyncGridFSBucket(database).upload_from_stream("a", b"x", metadata={"plain": 1})
    await database["fs.files"].update_one(
        {"_id": id}, [{"$set": {"metadata": {"$literal": {"sha256": "not one", **metadata}}}}]
    )
    bucket = Bucket(database)
    info = await bucket.verify(id)
    assert info.metadata == {"sha256": "not one", **metadata}
    assert info.sha256 is None
    copy = await bucket.copy(id)
    assert copy.metadata == metadata


@pytest.mark.parametrize(
    "record", [{"length": "25"}, {"length": None}, {"length": -1}, {"length": 25, "chunkSize": 0}], ids=repr
)
async def test_a_record_that_no_file_can_have_is_corrupt(database: Database, record: dict[str, Any]) -> None:
    await database["fs.files"].insert_one({"_id": 1, **record})
    bucket = Bucket(database)
    for call in (bucket.stat, bucket.read, bucket.verify, bucket.copy):
        with pytest.raises(CorruptFile, match="its record has") as caught:
            await call(1)
        assert caught.value.id == 1
        assert isinstance(caught.value, gridfs.errors.CorruptGridFile)


@pytest.mark.parametrize("record", [{}, {"chunkSize": 0}], ids=["no chunk size", "zero"])
async def test_an_empty_file_needs_no_size_of_chunks(database: Database, record: dict[str, Any]) -> None:
    bucket = Bucket(database)
    await database["fs.files"].insert_one({"_id": 1, "length": 0, **record})
    assert await bucket.read(1) == b""
    assert await bucket.read(1, 3, 5) == b""
    assert await bucket.read_ranges(1, [(0, 5), (3, 5)]) == [b"", b""]
    assert [block async for block in bucket.stream(1)] == []
    async with AsyncGridFile(1, bucket=bucket).open() as reader:
        assert await reader.read() == b""
        assert await reader.seek(4) == 4
        assert await reader.read(1) == b""
    assert (await bucket.verify(1)).length == 0
