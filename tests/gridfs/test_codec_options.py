"""Codec options of the application: GridFS documents are decoded without its types, as pymongo's GridFS does."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import SON, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeEncoder, TypeRegistry
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, Bucket

from ..observing import Database

DATA = bytes(range(256)) * 4


class Wrapped:
    """What the application makes of every value of one type. It cannot be encoded again."""

    def __init__(self, value: object) -> None:
        self.value = value


def one_way(kind: type) -> TypeRegistry:
    class Decoder(TypeDecoder):
        bson_type = kind

        def transform_bson(self, value: object) -> Wrapped:
            return Wrapped(value)

    return TypeRegistry([Decoder()])


class Amount:
    """The application's type for amounts of money."""

    def __init__(self, text: str) -> None:
        self.text = text


class AmountEncoder(TypeEncoder):
    python_type = Amount

    def transform_python(self, value: Amount) -> Decimal128:
        return Decimal128(value.text)


DECODED = [str, bytes, int, float, bool, datetime, ObjectId, Int64, list, dict]
OPTIONS: dict[str, dict[str, Any]] = {
    **{f"decoder of {kind.__name__}": {"type_registry": one_way(kind)} for kind in DECODED},
    "tz_aware": {"tz_aware": True},
    "OrderedDict": {"document_class": OrderedDict},
    "SON": {"document_class": SON},
    "RawBSONDocument": {"document_class": RawBSONDocument},
    "UUIDs": {"uuid_representation": UuidRepresentation.STANDARD},
    "ignored Unicode errors": {"unicode_decode_error_handler": "ignore"},
    "dates in milliseconds": {"datetime_conversion": DatetimeConversion.DATETIME_MS},
    "clamped dates": {"datetime_conversion": DatetimeConversion.DATETIME_CLAMP},
}


async def use_every_operation(database: Database) -> None:
    bucket = Bucket(database, chunk_size=100)
    info = await bucket.upload(DATA, filename="a", metadata={"n": 1, "nested": {"x": "y"}}, expires_after=3600)
    assert await bucket.stat(info.id) == info
    assert type(info.metadata["nested"]) is dict
    assert await bucket.read(info.id) == DATA
    assert await bucket.file(info.id).read_range(90, 210) == DATA[90:210]
    small = await bucket.upload_many({"b": b"b", "c": b"c"})
    assert list((await bucket.read_many(each.id for each in small)).values()) == [b"b", b"c"]
    await bucket.verify(info.id)
    copied = await bucket.copy(info.id, filename="copy")
    assert (await bucket.verify(copied.id)).filename == "copy"
    assert (await bucket.rename(info.id, "renamed")).filename == "renamed"
    assert (await bucket.update_metadata(info.id, more=5)).metadata["more"] == 5
    assert {found.filename async for found in bucket.find()} == {"renamed", "b", "c", "copy"}
    assert [finding async for finding in bucket.check()] == []
    assert (await bucket.set_expiry(info.id, None)).expires_at is None
    found = await bucket.find_one({"filename": "renamed"})
    assert found is not None
    assert [each async for each in bucket.revisions("renamed")] == [found]
    assert await bucket.exists({"metadata.more": 5})
    assert await bucket.prune("renamed", keep=1) == 0
    await bucket.publish(await bucket.stage(b"staged"))
    await bucket.upload(b"under an id", id="fixed")
    await bucket.delete("fixed")
    await bucket.upload(b"again", id="fixed")
    file = await bucket.by_name("renamed")
    await file.replace(b"another")
    assert await file.read() == b"another"
    await bucket.delete_many([file.id, copied.id])
    assert (await bucket.collect_garbage(timedelta(hours=1))).files == 0


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_every_operation_works_with_options_of_the_database(database: Database, options: dict[str, Any]) -> None:
    codec_options: CodecOptions[Any] = database.codec_options.with_options(**options)
    await use_every_operation(database.with_options(codec_options=codec_options))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.__name__)
async def test_and_with_decoders_of_the_client(database: Database, mongodb_uri: str, kind: type) -> None:
    async with AsyncMongoClient[Any](mongodb_uri, type_registry=one_way(kind)) as client:
        await use_every_operation(client[database.name])


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.__name__)
async def test_a_transaction_works_with_decoders(database: Database, kind: type) -> None:
    codec_options: CodecOptions[Any] = database.codec_options.with_options(type_registry=one_way(kind))
    bucket = Bucket(database.with_options(codec_options=codec_options))
    async with gridproxy.transaction(database.client) as tx:
        info = await bucket.upload(DATA, session=tx.session)
    assert await bucket.read(info.id) == DATA


async def test_the_types_of_the_application_are_encoded_and_come_back_plain(database: Database) -> None:
    options = database.codec_options.with_options(type_registry=TypeRegistry([AmountEncoder()]))
    bucket = Bucket(database.with_options(codec_options=options))
    info = await bucket.upload(DATA, metadata={"price": Amount("1.5")})
    assert (await bucket.stat(info.id)).metadata["price"] == Decimal128("1.5")
    assert (await bucket.update_metadata(info.id, price=Amount("2"))).metadata["price"] == Decimal128("2")
    (found,) = [each async for each in bucket.find({"metadata.price": Amount("2")})]
    assert found.id == info.id


@pytest.mark.usefixtures("connected")
async def test_references_are_rewritten_as_they_were_stored(database: Database) -> None:
    info = await AsyncGridFile().put(DATA)
    await database["animal"].insert_one({"_id": ObjectId(), "photo": info.id})
    options = database.codec_options.with_options(type_registry=one_way(ObjectId))
    animals = database["animal"].with_options(codec_options=options)
    assert await gridproxy.rewrite_references(animals, "photo", store="snapshot") == 1
    stored = await database["animal"].find_one()
    assert stored is not None
    assert stored["photo"]["_id"] == info.id


async def test_the_collector_knows_references_that_the_application_decodes(database: Database) -> None:
    options = database.codec_options.with_options(type_registry=one_way(ObjectId))
    bucket = Bucket(database.with_options(codec_options=options))
    info = await bucket.upload(DATA)
    await database["animal"].insert_one({"photo": info.id})
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    await database["fs.files"].update_one({"_id": info.id}, {"$set": {"uploadDate": long_ago}})
    for references in ([("animal", "photo")], [(bucket.database["animal"], "photo")]):
        report = await bucket.collect_garbage(dry_run=False, unreferenced=True, references=references)
        assert report.files == 0
        assert await bucket.read(info.id) == DATA
