"""Bucket: GridFS itself, method by method, on a server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pymongo.errors
import pytest
from bson import ObjectId
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import TypeDecoder, TypeRegistry
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadMetadata,
    BadOption,
    BadSource,
    Bucket,
    CorruptFile,
    DuplicateKey,
    FileAlreadyStored,
    FileClosed,
    FileInfo,
    FileMissing,
    FileVanished,
    UnacknowledgedBucket,
    UploadInProgress,
)
from tests.observing import contents, orphans
from tests.traffic import watched

Database = AsyncDatabase[dict[str, Any]]

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100
OPERATORS = [
    {"$gt": ""},
    {"$ne": None},
    {"$exists": True},
    bson.SON([("$gt", "")]),
    RawBSONDocument(bson.encode({"$gt": ""})),
    re.compile(".*"),
    bson.Regex(".*"),
    [{"$gt": ""}],
    ("a", "b"),
]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database, chunk_size=100)


async def all_files(bucket: Bucket, *args: Any, **more: Any) -> list[FileInfo]:
    return [info async for info in bucket.find(*args, **more)]


async def dated(bucket: Bucket, filename: str, count: int) -> list[object]:
    """So many revisions of one name, a day between each, and their ids."""
    ids: list[object] = []
    for number in range(count):
        info = await bucket.upload(f"revision {number}", filename=filename)
        day = datetime(2026, 1, 1 + number, tzinfo=UTC)
        await bucket.store.files.update_one({"_id": info.id}, {"$set": {"uploadDate": day}})
        ids.append(info.id)
    return ids


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
    assert list(record) == ["_id", "length", "chunkSize", "uploadDate", "filename", "metadata"]
    assert record["metadata"] == {"content_type": "a/b", "sha256": info.sha256}
    assert await database["fs.files"].count_documents({"length": {"$type": "long"}}) == 1
    chunks = await database["fs.chunks"].find().sort("n").to_list()
    assert [(chunk["files_id"], chunk["n"], chunk["data"]) for chunk in chunks] == [
        ("my id", 0, DATA[:100]),
        ("my id", 1, DATA[100:200]),
        ("my id", 2, DATA[200:250]),
    ]
    assert all(set(chunk) == {"_id", "files_id", "n", "data"} for chunk in chunks)


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


async def test_what_is_asked_of_a_file_that_is_not_there_is_missing(bucket: Bucket) -> None:
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


async def test_a_place_in_a_file_is_a_number_from_its_start(bucket: Bucket) -> None:
    info = await bucket.upload(DATA)
    for start, stop in ((-1, None), (0, -1), (1.5, None), ("0", None), (0, "1"), (True, None)):
        with pytest.raises(BadOption, match="from the file's start"):
            await bucket.read(info.id, start, stop)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(BadOption, match="from the file's start"):
            bucket.stream(info.id, start, stop)  # type: ignore[arg-type]


# Ids


@pytest.mark.parametrize(
    "id",
    [
        "text",
        "$gt",
        "",
        7,
        Int64(2**40),
        1.5,
        True,
        b"bytes",
        Binary(b"bytes", 5),
        datetime(2026, 3, 4, tzinfo=UTC),
        uuid.UUID(int=7),
        {"tenant": 5, "name": "a"},
        {"nested": {"a": 1}},
        {},
        Decimal128("1.5"),
        bson.Timestamp(1, 2),
        bson.MinKey(),
    ],
    ids=repr,
)
async def test_an_id_of_any_bson_kind_names_one_file(database: Database, id: object) -> None:
    options = database.codec_options.with_options(uuid_representation=UuidRepresentation.STANDARD, tz_aware=True)
    bucket = Bucket(database.with_options(codec_options=options), chunk_size=100)
    other = await bucket.upload(b"another one")
    info = await bucket.upload(DATA, id=id)
    assert info.id == id
    assert await bucket.stat(id) == info
    assert await bucket.read(id) == DATA
    assert await bucket.read(id, 500, 600) == DATA[500:600]
    with pytest.raises(FileAlreadyStored):
        await bucket.upload(b"x", id=id)
    assert await bucket.verify(id) == info
    copy = await bucket.copy(id)
    assert await bucket.read(copy.id) == DATA
    assert (await bucket.rename(id, "b")).filename == "b"
    await bucket.delete(id)
    assert {info.id async for info in bucket.find()} == {other.id, copy.id}
    assert await orphans(database) == []


@pytest.mark.parametrize("id", OPERATORS, ids=lambda id: f"{type(id).__name__}")
async def test_an_id_that_looks_like_an_operator_or_a_pattern_matches_nothing(
    bucket: Bucket, database: Database, id: object
) -> None:
    info = await bucket.upload(DATA, id="a")
    for missing in (
        lambda: bucket.stat(id),
        lambda: bucket.read(id),
        lambda: bucket.read(id, 5, 10),
        lambda: bucket.verify(id),
        lambda: bucket.rename(id, "b"),
        lambda: bucket.update_metadata(id, b=1),
        lambda: bucket.copy(id),
        lambda: bucket.delete(id),
        lambda: AsyncGridFile(id, bucket=bucket).read(),
    ):
        with pytest.raises(FileMissing):
            await missing()
    await bucket.discard(id)
    assert await bucket.delete_many([id]) == 0
    assert not await AsyncGridFile(id, bucket=bucket).exists()
    await AsyncGridFile(id, bucket=bucket).delete()
    try:
        assert await bucket.stat_many([id]) == {}
    except BadId:
        with pytest.raises(TypeError):
            hash(id)
    assert await bucket.stat("a") == info
    assert await bucket.read("a") == DATA
    assert await contents(database) == (1, 11)


@pytest.mark.parametrize("id", OPERATORS, ids=lambda id: f"{type(id).__name__}")
async def test_an_id_that_looks_like_an_operator_or_a_pattern_is_refused_for_a_new_file(
    bucket: Bucket, database: Database, id: object
) -> None:
    info = await bucket.upload(DATA, id="a")
    with pytest.raises(BadId):
        await bucket.upload(DATA, id=id)
    with pytest.raises(BadId):
        bucket.open_upload(id=id)
    with pytest.raises(BadId):
        await bucket.stage(DATA, id=id)
    with pytest.raises(BadId):
        await bucket.copy("a", new_id=id)
    assert await contents(database) == (1, 11)
    assert await bucket.stat("a") == info


async def test_an_id_that_bson_cannot_hold_is_refused_before_anything_is_sent(
    bucket: Bucket, database: Database
) -> None:
    for id in (object(), uuid.uuid4(), 2**70):
        with pytest.raises(BadId, match="cannot be a file's id"):
            await bucket.upload(DATA, id=id)
    assert await contents(database) == (0, 0)


async def test_a_taken_id_is_left_as_it_is(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(DATA, id="a", filename="first")
    for again in (
        lambda: bucket.upload(b"other", id="a"),
        lambda: bucket.stage(b"other", id="a"),
        lambda: bucket.open_upload(id="a").start(),
        lambda: bucket.copy("a", new_id="a"),
    ):
        with pytest.raises(FileAlreadyStored) as caught:
            await again()
        assert caught.value.id == "a"
    assert await bucket.stat("a") == info
    assert await bucket.read("a") == DATA
    assert await contents(database) == (1, 11)


async def test_chunks_without_a_record_hold_an_id_until_they_are_discarded(bucket: Bucket, database: Database) -> None:
    await database["fs.chunks"].insert_one({"files_id": "a", "n": 0, "data": b"cut off"})
    with pytest.raises(UploadInProgress, match=r"bucket\.discard\(id\)"):
        await bucket.upload(DATA, id="a")
    await bucket.discard("a")
    info = await bucket.upload(DATA, id="a")
    with pytest.raises(FileAlreadyStored, match="delete"):
        await bucket.discard("a")
    assert await bucket.stat("a") == info
    assert await bucket.read("a") == DATA


# Many


async def test_stat_many_gives_what_is_there_by_id(bucket: Bucket) -> None:
    infos = [await bucket.upload(b"x" * number, id=number) for number in range(5)]
    await bucket.upload(b"", id="expired", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    found = await bucket.stat_many([3, "missing", 1, 3, "expired", None, ObjectId()])
    assert found == {1: infos[1], 3: infos[3]}
    assert await bucket.stat_many(iter([0])) == {0: infos[0]}
    assert await bucket.stat_many([]) == {}


async def test_stat_many_asks_for_more_ids_than_one_query_takes(bucket: Bucket) -> None:
    wanted = [ObjectId() for _ in range(450)]
    await bucket.store.files.insert_many([{"_id": id, "length": 0, "chunkSize": 100} for id in wanted])
    assert set(await bucket.stat_many(wanted)) == set(wanted)


async def test_stat_many_gives_a_file_whose_id_is_decoded_to_another_value(database: Database) -> None:
    options = database.codec_options.with_options(tz_aware=True)
    bucket = Bucket(database.with_options(codec_options=options))
    naive = datetime(2026, 3, 4)  # noqa: DTZ001  # that is the point
    info = await bucket.upload(DATA, id=naive)
    assert await bucket.stat_many([naive]) == {naive.replace(tzinfo=UTC): await bucket.stat(naive)}
    assert info.length == 1024


async def test_stat_many_takes_a_pattern_for_a_value(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, id="a")
    assert await bucket.stat_many([re.compile(".*"), "a"]) == {"a": info}
    assert await bucket.stat_many([re.compile("a"), (1, 2)]) == {}


async def test_stat_many_refuses_what_no_dict_can_have_as_a_key(bucket: Bucket) -> None:
    class Frozen(dict[str, int]):
        def __hash__(self) -> int:  # type: ignore[override]  # as the frozen dicts of some libraries
            return 1

    for id in ({"a": 1}, {"$gt": ""}, [1], bson.Regex("a"), Frozen(a=1)):
        with pytest.raises(BadId, match="cannot be a key"):
            await bucket.stat_many(["a", id])


async def test_delete_many_removes_what_is_there_and_counts_it(bucket: Bucket, database: Database) -> None:
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


# Finding


async def test_find_sorts_skips_and_limits(bucket: Bucket) -> None:
    for number, name in enumerate(["c", "a", "d", "b"]):
        await bucket.upload(b"x" * number, filename=name, metadata={"odd": bool(number % 2)})

    async def names(*args: Any, **more: Any) -> str:
        return "".join([info.filename or "" async for info in bucket.find(*args, **more)])

    assert sorted(await names()) == ["a", "b", "c", "d"]
    assert await names(sort="filename") == "abcd"
    assert await names(sort="-filename") == "dcba"
    assert await names(sort=[("metadata.odd", 1), ("filename", -1)]) == "dcba"
    assert await names(sort="length", skip=1) == "adb"
    assert await names(sort="length", limit=2) == "ca"
    assert await names(sort="length", skip=1, limit=2) == "ad"
    assert await names({"metadata.odd": True}, sort="filename") == "ab"
    assert await names({"filename": {"$in": ["a", "d"]}}, sort="filename") == "ad"
    assert await names({"filename": "x"}) == ""


async def test_find_shows_expired_files_too_and_may_be_left_half_way(bucket: Bucket) -> None:
    await bucket.upload(b"", filename="expired", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    await bucket.upload(b"", filename="a")
    found = bucket.find(sort="filename")
    assert (await anext(found)).filename == "a"
    assert (await anext(found)).expired()
    await found.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_find_says_which_record_cannot_be_read(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": "bad", "length": "long"})
    with pytest.raises(CorruptFile, match=r"'bad'.*length='long'"):
        await all_files(bucket)


# Names and revisions


async def test_revisions_count_from_the_oldest_and_from_the_newest(bucket: Bucket) -> None:
    ids = await dated(bucket, "a", 3)
    await bucket.upload(b"", filename="other")
    for revision, id in ((0, ids[0]), (1, ids[1]), (2, ids[2]), (-1, ids[2]), (-2, ids[1]), (-3, ids[0])):
        file = await bucket.by_name("a", revision)
        assert file.id == id
        assert file.info == await bucket.stat(id)
    newest = await bucket.by_name("a")
    assert await newest.read() == b"revision 2"
    assert newest == bucket.file(ids[2])


@pytest.mark.parametrize(("filename", "revision"), [("a", 3), ("a", -4), ("b", 0)])
async def test_a_revision_that_is_not_there_is_missing(bucket: Bucket, filename: str, revision: int) -> None:
    await dated(bucket, "a", 3)
    with pytest.raises(FileMissing, match=f"the name {filename!r} and the revision {revision}"):
        await bucket.by_name(filename, revision)


@pytest.mark.parametrize("filename", ["b", ""])
async def test_the_newest_file_of_no_name_is_missing_without_a_word_on_revisions(bucket: Bucket, filename: str) -> None:
    await dated(bucket, "a", 3)
    with pytest.raises(FileMissing, match=f"^no file has the name {filename!r}$"):
        await bucket.by_name(filename)


@pytest.mark.parametrize("revision", ["0", 1.0, None, True], ids=repr)
async def test_a_revision_is_a_whole_number(bucket: Bucket, revision: Any) -> None:
    with pytest.raises(BadOption, match="revision is a whole number"):
        await bucket.by_name("a", revision)


async def test_an_expired_revision_does_not_count(bucket: Bucket, database: Database) -> None:
    ids = await dated(bucket, "a", 3)
    await database["fs.files"].update_one({"_id": ids[2]}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    await database["fs.files"].update_one({"_id": ids[0]}, {"$set": {"expires_at": datetime(2999, 1, 1, tzinfo=UTC)}})
    assert (await bucket.by_name("a")).id == ids[1]
    assert (await bucket.by_name("a", -2)).id == ids[0]
    with pytest.raises(FileMissing):
        await bucket.by_name("a", -3)


async def test_a_name_is_a_value_and_no_pattern(bucket: Bucket) -> None:
    await bucket.upload(b"", filename="a")
    await bucket.upload(b"", filename="a/b/../c.txt")
    await bucket.upload(b"", filename="$set")
    assert (await bucket.by_name("a/b/../c.txt")).filename == "a/b/../c.txt"
    assert (await bucket.by_name("$set")).filename == "$set"
    with pytest.raises(FileMissing):
        await bucket.by_name(".*")
    for name in ({"$gt": ""}, re.compile(".*"), None, "a\0"):
        for call in (bucket.by_name, bucket.delete_by_name):
            with pytest.raises(BadOption, match="filename"):
                await call(name)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(BadOption, match="filename"):
            await bucket.rename_by_name(name, "b")  # type: ignore[arg-type]
        with pytest.raises(BadOption, match="filename"):
            await bucket.rename_by_name("a", name)  # type: ignore[arg-type]
    assert len(await all_files(bucket)) == 3


async def test_renaming_changes_one_file_or_every_revision(bucket: Bucket) -> None:
    ids = await dated(bucket, "a", 3)
    info = await bucket.rename(ids[0], "b")
    assert (info.id, info.filename) == (ids[0], "b")
    assert await bucket.stat(ids[0]) == info
    assert await bucket.rename_by_name("a", "c") == 2
    assert [info.id for info in await all_files(bucket, {"filename": "c"}, sort="uploadDate")] == ids[1:]
    assert await bucket.rename_by_name("c", "c") == 2
    with pytest.raises(FileMissing, match="no file has the name 'a'"):
        await bucket.rename_by_name("a", "c")
    with pytest.raises(BadOption, match="NUL"):
        await bucket.rename(ids[0], "a\0b")


async def test_deleting_by_name_removes_every_revision(bucket: Bucket, database: Database) -> None:
    await dated(bucket, "a", 3)
    kept = await bucket.upload(DATA, filename="b")
    assert await bucket.delete_by_name("a") == 3
    assert await all_files(bucket) == [kept]
    assert await orphans(database) == []
    with pytest.raises(FileMissing, match="no file has the name 'a'"):
        await bucket.delete_by_name("a")


async def test_a_record_that_is_no_file_can_be_deleted_all_the_same(bucket: Bucket, database: Database) -> None:
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


# Editing


async def test_metadata_are_set_and_unset_in_one_step(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, metadata={"a": 1, "b": {"c": 1}})
    edited = await bucket.update_metadata(info.id, {"a": 2, "d": [1]}, unset=["b"], e=None)
    assert edited.metadata == {"a": 2, "d": [1], "e": None, "sha256": info.sha256}
    assert await bucket.stat(info.id) == edited
    assert (edited.length, edited.upload_date, edited.filename) == (info.length, info.upload_date, info.filename)
    assert await bucket.update_metadata(info.id) == edited
    assert (await bucket.update_metadata(info.id, unset=iter(["a", "never there"]))).metadata.keys() == {
        "d",
        "e",
        "sha256",
    }
    assert (await bucket.update_metadata(info.id, content_type="a/b")).content_type == "a/b"


@pytest.mark.parametrize("metadata", [..., None, {}], ids=repr)
async def test_metadata_that_are_null_or_not_there_can_be_edited(
    bucket: Bucket, database: Database, metadata: object
) -> None:
    legacy = {"_id": 1, "length": 0, "chunkSize": 100, "metadata": metadata}
    await database["fs.files"].insert_one({key: value for key, value in legacy.items() if value is not ...})
    assert (await bucket.update_metadata(1, unset=["a"])).metadata == {}
    assert (await bucket.update_metadata(1, a=1)).metadata == {"a": 1}


async def test_a_value_that_looks_like_an_expression_is_a_value(bucket: Bucket) -> None:
    values = {"path": "$filename", "object": {"$add": [1, 2]}, "list": ["$$ROOT"], "variable": "$$NOW"}
    info = await bucket.upload(b"", metadata=values, filename="a")
    edited = await bucket.update_metadata(info.id, {f"again_{key}": value for key, value in values.items()})
    assert edited.metadata == {**info.metadata, **{f"again_{key}": value for key, value in values.items()}}
    assert (await bucket.rename(info.id, "$filename")).filename == "$filename"
    copy = await bucket.copy(info.id)
    assert copy.metadata == edited.metadata


async def test_an_edit_that_cannot_be_stored_changes_nothing(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, metadata={"a": 1})
    for refused, match in (
        ({"changes": {"a.b": 1}}, "a.b"),
        ({"changes": {"$set": 1}}, "set"),
        ({"unset": ["a.b"]}, "a.b"),
        ({"unset": ["sha256"]}, "sha256"),
        ({"sha256": "00"}, "sha256"),
        ({"unset": "a"}, "iterable of keys"),
        ({"changes": {"a": 2}, "unset": ["a"]}, "set and unset at once"),
        ({"value": object()}, "cannot be stored"),
        ({"value": uuid.uuid4()}, "cannot be stored"),
        ({"value": 2**70}, "cannot be stored"),
        ({"value": "\udc80"}, "cannot be stored"),
    ):
        with pytest.raises(BadMetadata, match=match):
            await bucket.update_metadata(info.id, **refused)
    with pytest.raises(DuplicateKey):
        await bucket.update_metadata(info.id, {"a": 2}, a=2)
    assert await bucket.stat(info.id) == info


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


async def test_an_expiry_stands_at_the_top_of_the_record_in_utc(bucket: Bucket, database: Database) -> None:
    moment = datetime(2999, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
    info = await bucket.upload(DATA, expires_at=moment)
    assert info.expires_at == moment
    record = await database["fs.files"].find_one({})
    assert record is not None
    assert record["expires_at"] == moment.replace(tzinfo=None)


@pytest.mark.parametrize("tz_aware", [False, True])
async def test_dates_are_aware_whatever_the_codec_options_say(database: Database, tz_aware: bool) -> None:
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


# Copying


async def test_a_copy_keeps_what_is_not_given(bucket: Bucket, database: Database) -> None:
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


async def test_a_copy_takes_what_is_given(bucket: Bucket) -> None:
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


async def test_a_copy_keeps_what_other_writers_left(bucket: Bucket, database: Database) -> None:
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
        assert len(traffic.of("aggregate")) >= 2
        assert await Bucket(same).read(copy.id) == data
        assert traffic.fetched >= len(data), "and reading it does, which shows that this is counted"


# Verifying


async def test_verify_finds_flipped_bytes(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(DATA)
    assert await bucket.verify(info.id) == info
    await database["fs.chunks"].update_one({"n": 5}, {"$set": {"data": bytes(100)}})
    with pytest.raises(CorruptFile, match=f"SHA-256 [0-9a-f]{{64}} instead of {info.sha256}"):
        await bucket.verify(info.id)
    assert await bucket.read(info.id) == DATA[:500] + bytes(100) + DATA[600:], "reading does not hash"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda chunks: chunks.delete_one({"n": 3}), "chunk 3 of 11 is missing"),
        (
            lambda chunks: chunks.update_one({"n": 3}, {"$set": {"data": b"short"}}),
            "chunk 3 has 5 bytes instead of 100",
        ),
        (lambda chunks: chunks.insert_one({"files_id": 1, "n": 11, "data": b"x"}), "surplus chunk 11 of 1 bytes"),
        (lambda chunks: chunks.delete_many({}), "chunk 0 of 11 is missing"),
    ],
    ids=["missing", "short", "surplus", "none"],
)
async def test_verify_names_what_is_wrong_with_the_chunks(
    bucket: Bucket, database: Database, change: Any, reason: str
) -> None:
    await bucket.upload(DATA, id=1)
    await change(database["fs.chunks"])
    with pytest.raises(CorruptFile) as caught:
        await bucket.verify(1)
    assert reason in caught.value.reason


# Staging


async def test_what_is_staged_is_no_file_until_it_is_published(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(DATA, filename="a.txt", metadata={"owner": 7}, id="a")
    assert await contents(database) == (0, 11)
    with pytest.raises(FileMissing):
        await bucket.stat("a")
    assert repr(staged) == f"<Staged 'a' in {database.name}.fs: 1024 bytes>"
    info = await bucket.publish(staged)
    assert info == staged.info == await bucket.stat("a")
    assert await bucket.publish(staged) == info, "it may be repeated"
    assert await contents(database) == (1, 11)
    assert await bucket.read("a") == DATA
    with pytest.raises(FileAlreadyStored, match="delete"):
        await bucket.discard(staged)
    assert await bucket.verify("a") == info


async def test_what_is_staged_can_be_uploaded_or_discarded(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(await bucket.stage(b"a", filename="a"))
    assert await bucket.read(info.id) == b"a"
    with pytest.raises(BadOption, match="give them to stage"):
        await bucket.upload(await bucket.stage(b"a", id="b"), filename="b")
    with pytest.raises(BadOption, match="cannot become a file of"):
        await Bucket(database, "other").upload(await bucket.stage(b"a", id="c"))
    await bucket.discard("b")
    await bucket.discard("c")

    staged = await bucket.stage(DATA)
    await bucket.discard(staged)
    await bucket.discard(staged)
    with pytest.raises(FileClosed, match="was discarded"):
        await bucket.publish(staged)
    assert await contents(database) == (1, 1)
    await bucket.discard("never there")


# Indexes


async def test_indexes_are_created_as_the_specification_says(bucket: Bucket, database: Database) -> None:
    await bucket.ensure_indexes()
    files = await database["fs.files"].index_information()
    assert files["filename_1_uploadDate_1"]["key"] == [("filename", 1), ("uploadDate", 1)]
    assert "unique" not in files["filename_1_uploadDate_1"]
    chunks = await database["fs.chunks"].index_information()
    assert chunks["files_id_1_n_1"]["key"] == [("files_id", 1), ("n", 1)]
    assert chunks["files_id_1_n_1"]["unique"]


async def test_indexes_are_looked_for_once_for_a_bucket_and_a_client(database: Database, mongodb_uri: str) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        await asyncio.gather(*(Bucket(same).upload(b"a") for _ in range(3)))
        await Bucket(same).upload(b"b")
        assert len(traffic.of("listIndexes")) == 2
        assert len(traffic.of("createIndexes")) == 2
        await Bucket(same, "other").upload(b"c")
        assert len(traffic.of("createIndexes")) == 4
        await Bucket(same).ensure_indexes(force=True)
        assert len(traffic.of("listIndexes")) == 6
        assert len(traffic.of("createIndexes")) == 4


async def test_a_bucket_with_files_in_it_gets_no_index_unless_forced(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 100})
    await bucket.upload(DATA)
    assert list(await database["fs.chunks"].index_information()) == ["_id_"]
    await bucket.ensure_indexes(force=True)
    assert set(await database["fs.chunks"].index_information()) == {"_id_", "files_id_1_n_1"}
    assert set(await database["fs.files"].index_information()) == {"_id_", "filename_1_uploadDate_1"}


@pytest.mark.parametrize("unique", [True, False])
async def test_an_index_that_an_old_driver_made_is_left_as_it_is(
    bucket: Bucket, database: Database, unique: bool
) -> None:
    # By command, since pymongo's own helper refuses the doubles that other drivers sent.
    old: dict[str, Any] = {"key": {"files_id": 1.0, "n": 1.0}, "name": "old", "unique": unique}
    older: dict[str, Any] = {"key": {"filename": 1.0, "uploadDate": 1.0}, "name": "older"}
    await database.command("createIndexes", "fs.chunks", indexes=[old])
    await database.command("createIndexes", "fs.files", indexes=[older])
    for force in (False, True):
        await bucket.ensure_indexes(force=force)
        assert set(await database["fs.chunks"].index_information()) == {"_id_", "old"}
        assert set(await database["fs.files"].index_information()) == {"_id_", "older"}
    info = await bucket.upload(DATA)
    assert await bucket.read(info.id) == DATA


# Concerns, preferences, codec options


async def test_the_buckets_concerns_and_preference_are_used(database: Database, mongodb_uri: str) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        bucket = Bucket(
            same,
            write_concern=WriteConcern("majority", j=True, wtimeout=4321),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.SECONDARY_PREFERRED,
        )
        small = await bucket.upload(b"a", filename="a")
        large = await bucket.upload(bytes(5 * 1024 * 1024))
        await bucket.rename(small.id, "b")
        await bucket.rename_by_name("b", "c")
        await bucket.update_metadata(small.id, a=1)
        copied = await bucket.copy(small.id)
        await bucket.delete(copied.id)
        writing = [
            command
            for name in ("insert", "bulkWrite", "update", "findAndModify", "delete")
            for command in traffic.of(name)
        ]
        merges = [command for command in traffic.of("aggregate") if "$merge" in command["pipeline"][-1]]
        assert len(writing) >= 8
        assert len(merges) == 1
        for command in [*writing, *merges]:
            assert command["writeConcern"] == {"w": "majority", "j": True, "wtimeout": 4321}

        traffic.clear()
        await bucket.read(large.id)
        await bucket.stat(large.id)
        await bucket.stat_many([large.id])
        await bucket.by_name("c")
        await all_files(bucket)
        reads = traffic.of("find")
        assert len(reads) >= 6
        for command in reads:
            assert command["readConcern"]["level"] == "majority"
            assert command["$readPreference"]["mode"] == "secondaryPreferred"


async def test_concerns_and_preference_default_to_the_databases(database: Database, mongodb_uri: str) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        strict = same.with_options(
            write_concern=WriteConcern("majority", wtimeout=4321), read_preference=ReadPreference.NEAREST
        )
        info = await Bucket(strict).upload(b"a")
        await Bucket(strict).read(info.id)
        written = traffic.of("bulkWrite") or traffic.of("insert")
        assert [command["writeConcern"] for command in written] == [{"w": "majority", "wtimeout": 4321}] * len(written)
        assert {command["$readPreference"]["mode"] for command in traffic.of("find")[-2:]} == {"nearest"}


async def test_concerns_and_a_preference_of_its_own_do_not_keep_a_bucket_out_of_a_transaction(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    bucket = Bucket(
        database,
        write_concern=WriteConcern("majority", j=True),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.SECONDARY_PREFERRED,
    )
    await bucket.upload(DATA, id="there", filename="a")
    async with client.start_session() as session, await session.start_transaction():
        info = await bucket.upload(DATA, id="new", filename="a", session=session)
        assert await bucket.read("new", session=session) == DATA
        assert set(await bucket.stat_many(["there", "new"], session=session)) == {"there", "new"}
        assert (await bucket.by_name("a", session=session)).id == "new"
        assert await bucket.rename_by_name("a", "b", session=session) == 2
        assert (await bucket.update_metadata("new", a=1, session=session)).metadata["a"] == 1
        with pytest.raises(BadOption, match="copy before it"):
            await bucket.copy("new", session=session)
        with pytest.raises(FileMissing):
            await bucket.stat("new")
        assert await bucket.delete_many(["there"], session=session) == 1
    assert (await bucket.stat("new")).upload_date == info.upload_date
    with pytest.raises(FileMissing):
        await bucket.stat("there")


async def test_an_unacknowledged_write_concern_is_refused(database: Database) -> None:
    unacknowledged = WriteConcern(w=0)
    with pytest.raises(UnacknowledgedBucket, match="whether a file is stored could not be known"):
        Bucket(database, write_concern=unacknowledged)
    with pytest.raises(pymongo.errors.ConfigurationError):
        Bucket(database.with_options(write_concern=unacknowledged))
    info = await Bucket(database.with_options(write_concern=unacknowledged), write_concern=WriteConcern(1)).upload(b"a")
    assert await Bucket(database).read(info.id) == b"a"


class Amount:
    """What an application makes of every decimal."""

    def __init__(self, value: Decimal128) -> None:
        self.value = value


class AmountDecoder(TypeDecoder):
    bson_type = Decimal128

    def transform_bson(self, value: Decimal128) -> Amount:
        return Amount(value)


async def test_a_type_registry_of_the_database_reads_the_metadata(database: Database) -> None:
    options = database.codec_options.with_options(type_registry=TypeRegistry([AmountDecoder()]))
    bucket = Bucket(database.with_options(codec_options=options), chunk_size=100)
    info = await bucket.upload(DATA, metadata={"price": Decimal128("1.5")})
    loaded = await bucket.stat(info.id)
    assert isinstance(loaded.metadata["price"], Amount)
    assert await bucket.read(info.id) == DATA
    assert (await bucket.rename(info.id, "b")).filename == "b"
    await bucket.verify(info.id)
    await bucket.delete(info.id)


async def test_a_database_of_raw_documents_works(mongodb_uri: str, database: Database) -> None:
    async with AsyncMongoClient(mongodb_uri, document_class=RawBSONDocument) as client:
        bucket = Bucket(client[database.name])
        small = await bucket.upload(DATA, filename="a", metadata={"nested": {"a": 1}})
        info = await bucket.upload(bytes(5 * 1024 * 1024), filename="a", metadata={"nested": {"a": 1}})
        for stored in (small, info):
            assert await bucket.stat(stored.id) == stored
            assert hashlib.sha256(await bucket.read(stored.id)).hexdigest() == stored.sha256
        assert (await bucket.update_metadata(info.id, a=1)).metadata["nested"] == {"a": 1}
        copy = await bucket.copy(info.id)
        assert await bucket.verify(copy.id) == copy
        assert len(await all_files(bucket)) == 3
        assert (await bucket.by_name("a")).id == copy.id
        assert await bucket.delete_by_name("a") == 3


# Names and sizes of a bucket


@pytest.mark.parametrize("name", ["fs", "user.photos", "a.b.c", "mit Leerzeichen", "ümläut"])
async def test_a_bucket_of_any_name_holds_files(database: Database, name: str) -> None:
    bucket = Bucket(database, name)
    info = await bucket.upload(DATA)
    assert await bucket.read(info.id) == DATA
    assert sorted(await database.list_collection_names()) == [f"{name}.chunks", f"{name}.files"]
    assert repr(bucket) == f"<Bucket {database.name}.{name}>"


@pytest.mark.parametrize("name", ["", "a$b", "$", "a\0b", ".a", "a..b", "a.", None, 5, b"fs"], ids=repr)
def test_a_name_that_no_collection_can_have_is_refused(name: Any) -> None:
    with pytest.raises(BadOption, match="bucket's name"):
        Bucket(AsyncMongoClient("mongodb://127.0.0.1:1", connect=False)["zoo"], name)


def test_a_bucket_needs_a_database_and_a_checksum_that_is_known() -> None:
    client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)
    for wrong in (client, client["zoo"]["fs"], "zoo", None):
        with pytest.raises(BadOption, match="a database of pymongo's AsyncMongoClient is needed"):
            Bucket(wrong)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(BadOption, match="checksum is 'sha256' or None, not 'md5'"):
        Bucket(client["zoo"], checksum="md5")  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk_size", [0, -1, 16 * 1024 * 1024, 1.5, "1", True], ids=repr)
async def test_a_chunk_size_that_no_chunk_can_have_is_refused(database: Database, chunk_size: Any) -> None:
    bucket = Bucket(database)
    for refused in (
        lambda: Bucket(database, chunk_size=chunk_size),
        lambda: bucket.open_upload(chunk_size=chunk_size),
    ):
        with pytest.raises(BadOption, match="chunk_size"):
            refused()
    with pytest.raises(BadOption, match="chunk_size"):
        await bucket.upload(DATA, chunk_size=chunk_size)
    assert await contents(database) == (0, 0)


async def test_the_largest_chunk_size_that_is_allowed_really_stores(database: Database) -> None:
    largest = 16 * 1024 * 1024 - 256
    data = bytes(largest) + b"one more"
    bucket = Bucket(database, chunk_size=largest)
    info = await bucket.upload(data, id="a rather long id of 40 characters in all")
    assert (info.chunk_size, info.chunk_count) == (largest, 2)
    assert await bucket.read(info.id) == data
    copy = await bucket.copy(info.id)
    assert await bucket.verify(copy.id) == copy


async def test_the_smallest_chunk_size_stores_too(database: Database) -> None:
    bucket = Bucket(database, chunk_size=1)
    info = await bucket.upload(DATA[:300])
    assert await contents(database) == (1, 300)
    assert await bucket.read(info.id) == DATA[:300]
    assert await bucket.read(info.id, 200, 201) == DATA[200:201]
    copy = await bucket.copy(info.id)
    assert await bucket.verify(copy.id) == copy


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
        with pytest.raises(BadSource, match="async_generator gave"):
            await bucket.upload(failing(item), chunk_size=255 * 1024)  # type: ignore[arg-type]
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("source", [None, 5, {"a": 1}, io.StringIO("text"), object()], ids=lambda x: type(x).__name__)
async def test_what_is_no_source_is_named_and_nothing_is_stored(
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
async def test_a_request_that_cannot_be_met_is_refused_before_anything_is_sent(
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


async def test_progress_tells_bytes_done_and_in_all(bucket: Bucket) -> None:
    told: list[tuple[int, int | None]] = []
    data = bytes(9 * 1024 * 1024)
    await bucket.upload(data, chunk_size=255 * 1024, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(data), len(data))
    assert told == sorted(told, key=lambda each: each[0])
    assert {total for _, total in told} == {len(data)}


# A closed client


async def test_a_closed_client_says_so(mongodb_uri: str, database: Database) -> None:
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
