"""Ids on a server: values of any type, never operators. A used id is refused."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import bson
import pytest
from bson.binary import Binary, UuidRepresentation
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from gridproxy import AsyncGridFile, BadId, Bucket, FileAlreadyStored, FileMissing, UploadInProgress

from ..observing import Database, contents, orphans

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
async def test_an_id_of_any_bson_type_is_the_id_of_one_file(database: Database, id: object) -> None:
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


async def test_a_used_id_is_refused_and_its_file_kept(bucket: Bucket, database: Database) -> None:
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


async def test_chunks_without_a_record_reserve_an_id_until_they_are_discarded(
    bucket: Bucket, database: Database
) -> None:
    await database["fs.chunks"].insert_one({"files_id": "a", "n": 0, "data": b"cut off"})
    with pytest.raises(UploadInProgress, match=r"bucket\.discard\(id\)"):
        await bucket.upload(DATA, id="a")
    await bucket.discard("a")
    info = await bucket.upload(DATA, id="a")
    with pytest.raises(FileAlreadyStored, match="delete"):
        await bucket.discard("a")
    assert await bucket.stat("a") == info
    assert await bucket.read("a") == DATA
