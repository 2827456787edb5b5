"""Hostile records, chunks and snapshots raise a typed error, soon and with little memory."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import anyio
import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidDocument
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadMetadata,
    BadOption,
    Bucket,
    CorruptFile,
    FileInfo,
    FileMissing,
    GridProxyError,
    Tally,
    prefetch,
)
from gridproxy.adapters.starlette import GridFileResponse
from gridproxy.file.options import FileOptions
from gridproxy.file.values import from_stored, parse_input, stored_form, stored_value
from gridproxy.http import describe
from tests.observing import contents
from tests.web.asgi import Exchange

Database = AsyncDatabase[dict[str, Any]]

LAST = 2**63 - 1


async def plant(database: Database, **record: Any) -> None:
    """Build a hostile record."""
    usual = {"_id": "planted", "length": 6, "chunkSize": 1000, "uploadDate": datetime(2026, 1, 1, tzinfo=UTC)}
    await database["fs.files"].insert_one({**usual, **record})


READING: dict[str, Callable[[Bucket], Awaitable[object]]] = {
    "read": lambda bucket: bucket.read("planted"),
    "a range": lambda bucket: bucket.read("planted", 2**39, 2**39 + 5),
    "ranges": lambda bucket: bucket.read_ranges("planted", [(0, 5), (LAST - 5, LAST)]),
    "verify": lambda bucket: bucket.verify("planted"),
    "copy": lambda bucket: bucket.copy("planted"),
    "read_many": lambda bucket: bucket.read_many(["planted", "nothing"]),
    "readline": lambda bucket: bucket.file("planted").readline(),
    "stream": lambda bucket: bucket.stream("planted").receive(),
    "as a source": lambda bucket: bucket.upload(bucket.file("planted")),
}


@pytest.mark.parametrize(
    "record",
    [
        {"length": LAST, "chunkSize": 1},
        {"length": Int64(2**62), "chunkSize": 1},
        {"length": 2.0**62, "chunkSize": 2**31 - 1},
        {"length": LAST, "chunkSize": Int64(LAST)},
        {"length": 2**40, "chunkSize": 261120, "metadata": {"sha256": "0" * 64}},
        {"length": -1},
        {"length": 1e300},
        {"length": float("nan")},
        {"length": Decimal128("6")},
        {"length": "6"},
        {"length": True},
        {"length": {"$gt": 0}},
        {"length": None},
        {"chunkSize": 0},
        {"chunkSize": -5},
        {"chunkSize": 0.5},
        {"chunkSize": [1000]},
    ],
    ids=str,
)
async def test_a_length_that_cannot_be(bucket: Bucket, database: Database, record: dict[str, Any]) -> None:
    await plant(database, **record)
    with anyio.fail_after(60):  # to look for 2**63 chunks takes longer than a lifetime
        for read in READING.values():
            with pytest.raises((CorruptFile, BadOption)):
                await read(bucket)
    assert await contents(database) == (1, 0)


async def test_upkeep_gets_past_such_records(bucket: Bucket, database: Database) -> None:
    records: list[dict[str, Any]] = [{"length": LAST, "chunkSize": 1}, {"length": "x"}, {"chunkSize": 0}]
    for at, record in enumerate(records):
        await plant(database, _id=at, **record)
    await database["animals"].insert_one(
        {"photo": {"_id": {"$gt": ""}, "length": LAST}, "more": [[{}], None, {"_id": []}]}
    )
    found = {
        (each.kind, repr(each.id))
        async for each in bucket.check(references=[("animals", "photo"), ("animals", "more")])
    }
    assert {("missing", "0"), ("unreadable", "1"), ("unreadable", "2")} < found
    report = await bucket.collect_garbage(
        timedelta(hours=1), False, unreferenced=True, references=[("animals", "photo"), ("animals", "more")]
    )
    assert report.unreferenced.ids == 3
    assert await contents(database) == (0, 0)


async def test_a_document_that_points_everywhere_removes_nothing(bucket: Bucket, database: Database) -> None:
    """A client that can write documents can keep files, but cannot have any deleted."""
    info = await bucket.upload(b"kept", metadata={"variant_of": "nobody", "thumbnail_id": "nobody"})
    hostile = [{"$ne": None}, {"$gt": ""}, bson.Regex("."), {"_id": {"$ne": info.id}}, [[[[info.id]]]]]
    await database["animals"].insert_many([{"photo": each} for each in hostile])
    await database["fs.files"].update_one({"_id": info.id}, {"$set": {"uploadDate": datetime(2020, 1, 1, tzinfo=UTC)}})
    report = await bucket.collect_garbage(
        timedelta(hours=1), False, unreferenced=True, references=[("animals", "photo")]
    )
    assert report.removed == Tally()
    assert await bucket.read(info.id) == b"kept"


async def test_orphans_with_ids_like_operators_take_no_other_chunks_along(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"kept")
    old = ObjectId.from_datetime(datetime(2020, 1, 1, tzinfo=UTC)).binary
    ids: list[Any] = [{"a": {"b": 1}}, [info.id], bson.Regex("."), None, {}, [], "", 0]
    await database["fs.chunks"].insert_many(
        [
            {"_id": ObjectId(old[:-1] + bytes([at])), "files_id": id, "n": n, "data": b"x"}
            for at, (id, n) in enumerate([(id, 7) for id in ids])
        ]
    )
    await bucket.collect_garbage(timedelta(hours=1), False)
    assert await bucket.read(info.id) == b"kept"
    assert await database["fs.chunks"].count_documents({"files_id": info.id, "n": 0}) == 1


@pytest.mark.parametrize(
    "chunk",
    [
        {"n": 0, "data": "secret"},
        {"n": 0, "data": None},
        {"n": "0", "data": b"secret"},
        {"n": float("inf"), "data": b"secret"},
        {"n": 0, "data": Binary(b"secret", 128), "more": "x" * 100},
        {"n": 2**62, "data": b"secret"},
        {"n": 0},
    ],
    ids=str,
)
async def test_chunks_that_are_none(bucket: Bucket, database: Database, chunk: dict[str, Any]) -> None:
    await plant(database)
    await database["fs.chunks"].insert_one({"files_id": "planted", **chunk})
    try:
        assert await bucket.read("planted") == b"secret"
    except CorruptFile:
        pass
    else:
        assert isinstance(chunk["data"], bytes)
    _ = [finding async for finding in bucket.check()]


async def test_a_wrong_digest_is_found_and_an_invalid_one_ignored(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"secret")
    files = database["fs.files"]
    await files.update_one({"_id": info.id}, {"$set": {"metadata.sha256": "0" * 64}})
    with pytest.raises(CorruptFile):
        await bucket.verify(info.id)
    for value in ('"\r\nSet-Cookie: a=b', "0" * 63, "0" * 64 + "\n", {"$gt": ""}, 5, "\u0660" * 64):
        await files.update_one({"_id": info.id}, {"$set": {"metadata.sha256": value}})
        fresh = await bucket.verify(info.id)
        assert (fresh.sha256, len(fresh.etag)) == (None, 34)


async def test_records_with_keys_of_other_kinds_than_ours(bucket: Bucket, database: Database) -> None:
    deep: dict[str, Any] = {}
    for _ in range(80):
        deep = {"a": [deep]}
    await plant(
        database,
        filename={"$gt": ""},
        metadata=[1, 2],
        contentType=7,
        aliases=deep,
        expires_at="never",
        uploadDate="today",
        thumbnail_id={"$ne": None},
    )
    info = await bucket.stat("planted")
    assert (info.filename, info.content_type, info.upload_date, info.expires_at) == (None, None, None, None)
    assert info.metadata == {}
    assert repr(bucket.file("planted"))
    assert (await bucket.file("planted").stat()).etag
    other = await bucket.upload(b"other")
    await bucket.delete("planted")
    assert await bucket.read(other.id) == b"other"


@pytest.mark.parametrize("metadata", [False, "text", [1], 5, [{"a": 1}]], ids=repr)
async def test_metadata_that_are_no_document_are_not_edited(
    bucket: Bucket, database: Database, metadata: object
) -> None:
    """The fuzz test found an error of the server's here."""
    await plant(database, metadata=metadata, length=0)
    for call in (bucket.update_metadata("planted", {"a": 1}), bucket.file("planted").update_metadata(a=1)):
        with pytest.raises(BadMetadata, match="not a document"):
            await call
    assert (await database["fs.files"].find_one({}) or {})["metadata"] == metadata
    assert (await bucket.rename("planted", "b")).metadata == {}


async def test_dates_that_python_cannot_say_end_no_listing(bucket: Bucket) -> None:
    # The embedded server refuses such a date, so this decodes it with the options of the collection.
    raw = bson.encode({"_id": 1, "length": 0, "uploadDate": DatetimeMS(2**62), "expires_at": DatetimeMS(-(2**62))})
    info = FileInfo.from_record(bson.decode(raw, codec_options=bucket.store.files.codec_options))
    assert info.upload_date is not None
    assert info.upload_date.year == 9999
    assert info.expired()


# Documents' snapshots


@pytest.mark.parametrize(
    "lie",
    [
        {"length": LAST, "chunk_size": 1},
        {"length": 1, "chunk_size": LAST},
        {"length": 0, "chunk_size": 0},
        {"length": 3, "chunk_size": 2**40, "metadata": {"sha256": "0" * 64}},
        {"length": -1, "chunk_size": "x"},
    ],
    ids=str,
)
async def test_nothing_is_read_by_what_a_snapshot_claims(bucket: Bucket, lie: dict[str, Any]) -> None:
    info = await bucket.upload(b"0123456789", chunk_size=4, content_type="text/plain")
    snapshot = {**info.snapshot(), **lie, "content_type": "text/html", "filename": "../x"}

    def held() -> AsyncGridFile:
        return from_stored(AsyncGridFile, snapshot, FileOptions(bucket=bucket))

    assert await held().read() == b"0123456789"
    assert await held().read_range(3, 9) == b"345678"
    assert b"".join([block async for block in held().stream(2)]) == b"23456789"
    async with held().open() as reader:
        await reader.seek(-3, 2)
        assert await reader.read() == b"789"
    assert (await held().verify()).length == 10
    file = held()
    assert (await file.stat()).content_type == file.content_type == "text/plain"
    copied = await bucket.upload(held())
    assert (copied.length, await bucket.read(copied.id)) == (10, b"0123456789")
    assert (await held().copy()).length == 10


EDGES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "0001-01-01", "9999-12-31T23:59:59.999999"]


@pytest.mark.parametrize("text", EDGES)
async def test_a_date_at_the_edge_ends_no_listing(bucket: Bucket, text: str) -> None:
    """G9: a time zone moved it beyond what a datetime can hold, which was an OverflowError."""
    info = await bucket.upload(b"x")
    year = 1 if text.startswith("0") else 9999
    for date in (text, datetime.fromisoformat(text)):
        snapshot = {**info.snapshot(), "upload_date": date}
        for make in (from_stored, parse_input):
            file = make(AsyncGridFile, snapshot, FileOptions(bucket=bucket, store="snapshot"))
            assert file.upload_date is not None
            assert (file.upload_date.year, file.upload_date.tzinfo) == (year, UTC)
            assert file.etag
            assert stored_form(snapshot, file.options) == stored_value(file)
            assert await file.read() == b"x"
    record = FileInfo.from_record({"_id": 1, "length": 0, "uploadDate": datetime.fromisoformat(text)})
    assert record.upload_date is not None
    assert describe(record)["last-modified"].endswith("GMT")


async def reaches_nothing(bucket: Bucket, file: AsyncGridFile) -> None:
    works: list[Callable[[], Awaitable[object]]] = [
        file.read,
        file.stat,
        file.verify,
        file.copy,
        partial(file.read_range, 0, 3),
        partial(file.read_ranges, [(0, 3)]),
        lambda: file.stream().receive(),
        partial(file.rename, "taken over"),
        partial(file.update_metadata, owner=2),
        partial(bucket.upload, file),
    ]
    for work in works:
        with pytest.raises(FileMissing):
            await work()
    assert not await file.exists()
    assert (await Exchange().run(GridFileResponse(file))).status == 404
    await prefetch([{"file": file}], "file", content=True)
    assert file.info is None


async def test_the_thumbnail_of_a_snapshot_is_a_file_that_names_its_picture(bucket: Bucket, connected: None) -> None:
    """G10: whatever id a snapshot of a request named could be read and deleted."""
    victim = await bucket.upload(b"secret", id="victim", metadata={"variant_of": "another picture"})
    mine = await bucket.upload(b"mine")
    own = await bucket.upload(b"small", metadata={"variant_of": mine.id})
    named = {"thumbnail_id": victim.id, "variants": {"a": victim.id, "b": own.id, "c": {"$ne": None}}}
    snapshot = {**mine.snapshot(), "metadata": {**mine.metadata, **named}}
    copies: list[Callable[[AsyncGridFile], AsyncGridFile]] = [
        lambda file: file,
        copy.deepcopy,
        lambda file: cast(AsyncGridFile, pickle.loads(pickle.dumps(file))),
    ]
    for make in (from_stored, parse_input):
        for copied in copies:
            held = make(AsyncGridFile, snapshot, FileOptions(bucket=bucket))
            for file in (held.thumbnail, held.variants["a"], held.variants["c"]):
                await reaches_nothing(bucket, copied(file))
            assert await copied(held.variants["b"]).read() == b"small"
            await copied(held.thumbnail).delete()
            await copied(held.variants["a"]).replace(b"new")
    held = from_stored(AsyncGridFile, snapshot, FileOptions(bucket=bucket))
    assert await bucket.read("victim") == b"secret"
    assert (await bucket.stat("victim")).metadata == victim.metadata
    await held.variants["b"].delete()
    assert not await bucket.file(own.id).exists()


async def test_a_stored_snapshot_without_an_id_is_an_empty_file(bucket: Bucket, connected: None) -> None:
    """Found by the fuzz test: its thumbnail named no picture, and so could be any file."""
    victim = await bucket.upload(b"secret", id="victim")
    snapshot = {"_id": None, "length": 1, "metadata": {"thumbnail_id": victim.id, "variants": {"a": victim.id}}}
    held = from_stored(AsyncGridFile, snapshot, FileOptions(bucket=bucket))
    assert held.info is None
    assert not held.thumbnail
    assert not held.variants


async def test_reads_at_once_do_not_lend_each_other_a_file(bucket: Bucket) -> None:
    """Reads of one bucket share queries."""
    await bucket.upload(b"secret", id="victim")
    mine = await bucket.upload(b"mine")
    forged = FileInfo.from_record({**mine.to_record(), "metadata": {"thumbnail_id": "victim"}})

    async def through_a_snapshot() -> bytes:
        with pytest.raises(FileMissing):
            await AsyncGridFile(mine.id, bucket=bucket, info=forged).thumbnail.read()
        return b"secret"

    reads = [bucket.read("victim") if at % 2 else through_a_snapshot() for at in range(40)]
    assert set(await asyncio.gather(*reads)) == {b"secret"}


async def test_a_top_level_thumbnail_is_removed_only_if_it_is_one(bucket: Bucket, database: Database) -> None:
    """G10: MongoEngine's form has no name of the picture, so the victim has to look like MongoEngine's thumbnail."""
    measures = {"width": 4, "height": 3, "format": "PNG"}
    files = database["fs.files"]
    for name, change in {
        "a file": {},
        "a named one": {**measures, "filename": "a.png"},
        "a picture": {**measures, "thumbnail_id": None},
        "a variant of another picture": {**measures, "metadata.variant_of": 7},
    }.items():
        victim = await bucket.upload(b"kept")
        await files.update_one({"_id": victim.id}, {"$set": change})
        for way in (bucket.delete, lambda id: bucket.delete_many([id])):
            mine = await bucket.upload(b"mine")
            await files.update_one({"_id": mine.id}, {"$set": {**measures, "thumbnail_id": victim.id}})
            copied = await bucket.copy(mine.id)
            assert copied.extra["thumbnail_id"] == victim.id, name
            await way(mine.id)
            await way(copied.id)
            assert await bucket.read(victim.id) == b"kept", name
    assert await contents(database) == (4, 4)


async def test_a_variant_that_is_named_often_is_copied_once(bucket: Bucket, database: Database) -> None:
    """G11: n names of one file made n + 1 copies."""
    mine = await bucket.upload(b"mine")
    small = await bucket.upload(b"small", metadata={"variant_of": mine.id})
    await bucket.update_metadata(
        mine.id, thumbnail_id=small.id, variants={f"v{at}": small.id if at % 2 else f"gone {at}" for at in range(500)}
    )
    copied = await bucket.copy(mine.id)
    assert await contents(database) == (4, 4)
    assert copied.metadata["variants"]["v1"] == copied.metadata["variants"]["v499"] == copied.metadata["thumbnail_id"]
    await bucket.delete(mine.id)
    await bucket.delete_many([copied.id])
    assert await contents(database) == (0, 0)


async def test_a_chain_and_a_ring_of_variants_end(bucket: Bucket, database: Database) -> None:
    """G11: 1,500 records that name each other ended a delete in a RecursionError."""
    date = datetime(2026, 1, 1, tzinfo=UTC)
    usual = {"length": 0, "chunkSize": 1000, "uploadDate": date}

    async def plant_chain() -> None:
        await database["fs.files"].delete_many({})
        await database["fs.files"].insert_many(
            [
                {"_id": at, **usual, "metadata": {"variant_of": at - 1, "thumbnail_id": (at + 1) % 1500}}
                for at in range(1500)
            ]
        )
        await database["fs.files"].update_one({"_id": 0}, {"$set": {"metadata.variant_of": 1499}})

    await plant_chain()
    copied = await bucket.copy(0)
    assert await contents(database) == (1502, 0)
    assert copied.metadata["thumbnail_id"] != 1
    await bucket.delete(0)
    assert await database["fs.files"].count_documents({"_id": {"$in": [0, 1, 2]}}) == 1
    await plant_chain()
    await bucket.delete_many([0])
    assert await contents(database) == (1498, 0)
    file = bucket.file(2)
    await file.stat()
    await file.delete()
    assert await contents(database) == (1496, 0)


async def test_a_long_value_from_outside_makes_a_short_error(bucket: Bucket) -> None:
    """G11: a wrong id of 3 MB came back as an error of 9 MB."""
    long = "\0" * 3_000_000
    deep: list[Any] = []
    deep.append(deep)
    values: list[Any] = [long, long.encode(), {"a": long}, {"$" + long: 1}, 10**5000, [long], deep, {"_id": long}]
    for value in values:
        for call in (
            lambda value=value: bucket.read(value),
            lambda value=value: bucket.upload(b"x", id=value),
            lambda value=value: bucket.file(value).stat(),
            lambda value=value: bucket.upload(b"x", filename=value),
            lambda value=value: bucket.upload(b"x", metadata={"$" + str(value)[:4_000_000]: 1}),
            lambda value=value: bucket.by_name(value),
        ):
            message = ""
            with suppress(InvalidDocument, OverflowError, ValueError, RecursionError):  # of the driver
                try:
                    await call()
                except GridProxyError as error:
                    message = str(error)
            assert len(message) < 3000
    with pytest.raises(BadId) as caught:
        parse_input(AsyncGridFile, long, FileOptions())
    assert len(str(caught.value)) < 500
    with pytest.raises(PydanticValidationError) as refused:
        TypeAdapter(AsyncGridFile).validate_python(long)
    assert len(refused.value.errors()[0]["msg"]) < 500
    assert len(str(refused.value.errors()[0]["ctx"])) < 500
    assert len(repr(AsyncGridFile(long))) < 500
    for length in (10**5000, -(10**5000)):
        with pytest.raises(CorruptFile, match="length"):
            FileInfo.from_record({"_id": long, "length": length})


@pytest.mark.parametrize("start", [2**31, 2**63, 2**64, 2**90, 10**400])
async def test_places_that_no_file_reaches(bucket: Bucket, start: int) -> None:
    """They come out of a query string as easily as any other number."""
    info = await bucket.upload(b"0123456789")
    assert await bucket.read(info.id, start) == b""
    assert await bucket.read(info.id, start, start + 5) == b""
    assert await bucket.read(info.id, 8, start) == b"89"
    assert await bucket.read_ranges(info.id, [(start, start + 1), (8, start)]) == [b"", b"89"]
    assert [block async for block in bucket.stream(info.id, start)] == []
    file = bucket.file(info.id)
    await file.seek(start)
    assert await file.read(5) == await file.readline() == b""
    async with bucket.file(info.id).open() as reader:
        await reader.seek(start)
        assert await reader.read(start) == b""
        await reader.seek(0)
        assert await reader.read(start) == b"0123456789"
    for bad in (-start, float(min(start, 2**64)), str(start)):
        with pytest.raises(GridProxyError):
            await bucket.read(info.id, bad)  # type: ignore[arg-type]  # the error is the test
