"""Bucket: GridFS itself, method by method, on a server."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo.errors
import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.read_concern import ReadConcern

from gridproxy import BadOption, BadSource, Bucket, FileInfo, FileMissing

from ..naming import shown
from ..observing import Database, contents, orphans
from .revisions import all_files

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


# Putting in, taking out


async def test_an_upload_is_read_back_whole_in_part_and_in_blocks(bucket: Bucket) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    info = await bucket.upload(DATA, filename="a.txt", metadata={"owner": 7})
    assert (info.filename, info.length, info.chunk_size, info.content_type) == ("a.txt", 1024, 100, "text/plain")
    assert info.metadata["owner"] == 7
    assert info.upload_date is not None
    assert before <= info.upload_date <= datetime.now(UTC)
    assert await bucket.stat(info.id) == info

    assert await bucket.read(info.id) == DATA
    assert await bucket.read(info.id, 150, 350) == DATA[150:350]
    assert await bucket.read(info.id, 1000, 5000) == DATA[1000:]
    assert await bucket.read(info.id, 5000) == b""
    assert await bucket.read_ranges(info.id, [(990, 2000), (0, 1), (5, 5)]) == [DATA[990:], DATA[:1], b""]
    blocks = [block async for block in bucket.stream(info.id, 50, 260)]
    assert blocks == [DATA[50:100], DATA[100:200], DATA[200:260]]


async def test_what_is_stored_is_plain_gridfs(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(DATA[:250], filename="a", content_type="a/b", id="my id")
    record = await database["fs.files"].find_one({"_id": "my id"})
    assert record is not None
    # The last key is for ids of the caller's only (see `file_info.UPLOAD_ID`). GridFS readers pass over such keys.
    assert list(record) == ["_id", "length", "chunkSize", "uploadDate", "filename", "metadata", "upload_id"]
    assert record["metadata"] == {"content_type": "a/b", "sha256": info.sha256}
    assert await database["fs.files"].count_documents({"length": {"$type": "long"}}) == 1
    chunks = await database["fs.chunks"].find().sort("n").to_list()
    assert [(chunk["files_id"], chunk["n"], chunk["data"]) for chunk in chunks] == [
        ("my id", 0, DATA[:100]),
        ("my id", 1, DATA[100:200]),
        ("my id", 2, DATA[200:250]),
    ]
    assert all(set(chunk) == {"_id", "files_id", "n", "data", "upload_id"} for chunk in chunks)
    assert all(chunk["upload_id"] == record["upload_id"] for chunk in chunks)
    assert info.extra == {}


async def test_an_empty_file_is_a_record_without_chunks(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"")
    assert (info.length, info.filename) == (0, None)
    assert await contents(database) == (1, 0)
    assert await bucket.read(info.id) == b""
    assert [block async for block in bucket.stream(info.id)] == []
    assert await bucket.verify(info.id) == info


async def test_an_upload_is_written_bit_by_bit(bucket: Bucket, database: Database) -> None:
    async with bucket.open_upload(filename="a.txt", metadata={"owner": 7}) as upload:
        assert await upload.write(DATA[:10]) == 10
        upload.write("text")
        await upload.writelines([b"x", "y"])
        assert upload.info is None
        assert await contents(database) == (0, 0)
    assert upload.info is not None
    assert upload.info == await bucket.stat(upload.id)
    assert await bucket.read(upload.id) == DATA[:10] + b"textxy"

    with pytest.raises(LookupError):
        async with bucket.open_upload() as upload:
            await upload.write(DATA)
            raise LookupError
    assert len(await all_files(bucket)) == 1
    assert await orphans(database) == []


async def test_without_a_checksum_none_is_stored(database: Database) -> None:
    info = await Bucket(database, checksum=None).upload(DATA)
    assert info.sha256 is None
    assert info.metadata == {}
    assert await Bucket(database).verify(info.id) == info


async def test_every_operation_on_a_missing_file_raises_file_missing(bucket: Bucket) -> None:
    for id in (ObjectId(), "a", None, 5):
        for asked in (
            bucket.stat(id),
            bucket.read(id),
            bucket.read(id, 5, 10),
            bucket.read_ranges(id, [(0, 1)]),
            bucket.stream(id).receive(),
            bucket.rename(id, "b"),
            bucket.update_metadata(id, a=1),
            bucket.update_metadata(id),
            bucket.copy(id),
            bucket.verify(id),
            bucket.delete(id),
        ):
            with pytest.raises(FileMissing) as caught:
                await asked
            assert caught.value.id == id


async def test_offsets_must_be_valid_numbers(bucket: Bucket) -> None:
    info = await bucket.upload(DATA)
    for start, stop in ((-1, None), (0, -1), (1.5, None), ("0", None), (0, "1"), (True, None)):
        with pytest.raises(BadOption, match="from the file's start"):
            await bucket.read(info.id, start, stop)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(BadOption, match="from the file's start"):
            bucket.stream(info.id, start, stop)  # type: ignore[arg-type]


# Expiry and dates


async def test_an_expired_file_is_missing_to_every_open_and_stat(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, filename="a", expires_after=3600)
    assert info.expires_at is not None
    assert await bucket.read(info.id) == DATA
    await bucket.store.files.update_one({"_id": info.id}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    for asked in (
        bucket.stat(info.id),
        bucket.read(info.id),
        bucket.read_ranges(info.id, [(0, 1)]),
        bucket.stream(info.id).receive(),
        bucket.verify(info.id),
        bucket.copy(info.id),
        bucket.by_name("a"),
        bucket.file(info.id).read(),
    ):
        with pytest.raises(FileMissing):
            await asked
    assert await bucket.stat_many([info.id]) == {}
    assert not await bucket.file(info.id).exists()
    await bucket.delete(info.id)


async def test_an_expiry_is_stored_in_utc_at_the_top_of_the_record(bucket: Bucket, database: Database) -> None:
    moment = datetime(2999, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
    info = await bucket.upload(DATA, expires_at=moment)
    assert info.expires_at == moment
    record = await database["fs.files"].find_one({})
    assert record is not None
    assert record["expires_at"] == moment.replace(tzinfo=None)


@pytest.mark.parametrize("tz_aware", [False, True])
async def test_dates_are_aware_with_any_codec_options(database: Database, tz_aware: bool) -> None:
    options = database.codec_options.with_options(tz_aware=tz_aware)
    bucket = Bucket(database.with_options(codec_options=options))
    stored = await bucket.upload(DATA, filename="a", expires_after=timedelta(hours=1))
    loaded = await bucket.stat(stored.id)
    assert loaded == stored
    for moment in (loaded.upload_date, loaded.expires_at):
        assert moment is not None
        assert moment.tzinfo is UTC
    assert [info.upload_date for info in await all_files(bucket)] == [stored.upload_date]
    assert (await bucket.by_name("a")).upload_date == stored.upload_date


# Bad input stores nothing


async def test_a_source_that_fails_midway_leaves_nothing(bucket: Bucket, database: Database) -> None:
    async def failing(last: object) -> AsyncIterator[object]:
        for _ in range(10):
            yield bytes(1024 * 1024)
        if isinstance(last, Exception):
            raise last
        yield last

    with pytest.raises(ConnectionError, match="gone"):
        await bucket.upload(failing(ConnectionError("gone")), chunk_size=255 * 1024)  # type: ignore[arg-type]  # that is the point
    for item in ("text", 5, None):
        with pytest.raises(BadSource, match="async_generator returned"):
            await bucket.upload(failing(item), chunk_size=255 * 1024)  # type: ignore[arg-type]
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("source", [None, 5, {"a": 1}, io.StringIO("text"), object()], ids=lambda x: type(x).__name__)
async def test_an_invalid_source_is_named_and_nothing_is_stored(
    bucket: Bucket, database: Database, source: Any
) -> None:
    for call in (bucket.upload, bucket.stage):
        with pytest.raises(BadSource, match=type(source).__name__):
            await call(source)
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"filename": "a\0b"},
        {"metadata": {"$set": 1}},
        {"metadata": {"a.b": 1}},
        {"metadata": {"a": object()}},
        {"metadata": {"text": "x" * 17_000_000}},
        {"encoding": "klingon"},
        {"content_type": 5},
        {"expires_at": datetime(2026, 1, 1, tzinfo=UTC), "expires_after": 5},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
async def test_invalid_upload_options_are_refused_before_anything_is_sent(
    bucket: Bucket, database: Database, arguments: dict[str, Any]
) -> None:
    read = []

    async def source() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"a"

    with pytest.raises(BadOption):
        await bucket.upload(source(), **arguments)
    with pytest.raises(BadOption):
        await bucket.open_upload(**arguments).start()
    assert read == []
    assert await contents(database) == (0, 0)


async def test_progress_reports_the_bytes_done_and_in_all(bucket: Bucket) -> None:
    told: list[tuple[int, int | None]] = []
    data = bytes(9 * 1024 * 1024)
    await bucket.upload(data, chunk_size=255 * 1024, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(data), len(data))
    assert told == sorted(told, key=lambda each: each[0])
    assert {total for _, total in told} == {len(data)}


# A closed client


async def test_a_closed_client_raises(mongodb_uri: str, database: Database) -> None:
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri)
    bucket = Bucket(client[database.name])
    info = await bucket.upload(DATA)
    await client.close()
    for call in (bucket.upload(DATA), bucket.read(info.id), bucket.stat(info.id), bucket.delete(info.id)):
        with pytest.raises(pymongo.errors.InvalidOperation, match="after close"):
            await call
    assert await Bucket(database).read(info.id) == DATA


def test_a_second_event_loop_is_an_error_of_the_drivers_and_stores_nothing(mongodb_uri: str) -> None:
    name = f"gridproxy_test_{uuid.uuid4().hex}"
    client = AsyncMongoClient[dict[str, Any]](mongodb_uri)

    async def first() -> FileInfo:
        return await Bucket(client[name]).upload(DATA)

    async def second() -> None:
        with pytest.raises(RuntimeError, match="different event loop"):
            await Bucket(client[name]).upload(DATA)
        async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as other:
            assert await contents(other[name]) == (1, 1)
            await other.drop_database(name)

    with asyncio.Runner() as runner:
        runner.run(first())
        with asyncio.Runner() as other:
            other.run(second())
        runner.run(client.close())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"write_concern": "majority"}, r"WriteConcern.*'majority'"),
        ({"write_concern": 1}, "WriteConcern.*1"),
        ({"write_concern": {"w": 2}}, "WriteConcern.*'w'"),
        ({"read_concern": "local"}, r"ReadConcern.*'local'"),
        ({"read_preference": "secondary"}, r"ReadPreference.*'secondary'"),
        ({"read_preference": ReadPreference}, "ReadPreference"),
    ],
    ids=shown,
)
async def test_a_concern_that_is_not_one_of_pymongos_is_refused_by_name(
    database: Database, given: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(BadOption, match=f"{next(iter(given))} is .*{wanted}"):
        Bucket(database, **given)


async def test_the_concerns_of_pymongo_are_accepted(database: Database) -> None:
    bucket = Bucket(
        database,
        write_concern=WriteConcern("majority"),
        read_concern=ReadConcern("local"),
        read_preference=ReadPreference.SECONDARY_PREFERRED,
    )
    assert bucket.store.files.write_concern == WriteConcern("majority")


async def test_revisions_of_the_same_date_are_ordered_by_id(database: Database) -> None:
    bucket = Bucket(database)
    for number in (3, 1, 4, 2, 0):
        await bucket.upload(b"", filename="a", id=number)
    await bucket.store.files.update_many({}, {"$set": {"uploadDate": datetime(2026, 1, 1, tzinfo=UTC)}})
    assert [(await bucket.by_name("a", each)).id for each in range(5)] == [0, 1, 2, 3, 4]
    assert [(await bucket.by_name("a", each)).id for each in range(-5, 0)] == [0, 1, 2, 3, 4]
