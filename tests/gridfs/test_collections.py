"""The two collections of a bucket: concerns, read preference, codec options, names and chunk sizes."""

from __future__ import annotations

import hashlib
from typing import Any

import pymongo.errors
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.read_concern import ReadConcern

from gridproxy import BadOption, Bucket, FileMissing, UnacknowledgedWriteConcern

from ..bucket.revisions import all_files
from ..observing import Database, contents
from ..traffic import watched

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


# Concerns, preferences, codec options


async def test_a_bucket_uses_its_own_concerns_and_preference(database: Database, mongodb_uri: str) -> None:
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
        reads = traffic.of("find") + traffic.of("aggregate")
        assert len(reads) >= 6
        for command in reads:
            assert command["readConcern"]["level"] == "majority"
            assert command["$readPreference"]["mode"] == "secondaryPreferred"


async def test_concerns_and_preference_default_to_those_of_the_database(database: Database, mongodb_uri: str) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        strict = same.with_options(
            write_concern=WriteConcern("majority", wtimeout=4321), read_preference=ReadPreference.NEAREST
        )
        info = await Bucket(strict).upload(b"a")
        await Bucket(strict).read(info.id)
        written = traffic.of("bulkWrite") or traffic.of("insert")
        assert [command["writeConcern"] for command in written] == [{"w": "majority", "wtimeout": 4321}] * len(written)
        assert {command["$readPreference"]["mode"] for command in traffic.of("aggregate")} == {"nearest"}


async def test_a_bucket_with_its_own_concerns_works_in_a_transaction(
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
    with pytest.raises(UnacknowledgedWriteConcern, match="could not know whether a file was stored"):
        Bucket(database, write_concern=unacknowledged)
    with pytest.raises(pymongo.errors.ConfigurationError):
        Bucket(database.with_options(write_concern=unacknowledged))
    info = await Bucket(database.with_options(write_concern=unacknowledged), write_concern=WriteConcern(1)).upload(b"a")
    assert await Bucket(database).read(info.id) == b"a"


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
def test_an_invalid_bucket_name_is_refused(name: Any) -> None:
    with pytest.raises(BadOption, match="bucket's name"):
        Bucket(AsyncMongoClient("mongodb://127.0.0.1:1", connect=False)["zoo"], name)


def test_an_invalid_database_or_checksum_is_refused() -> None:
    client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)
    for wrong in (client, client["zoo"]["fs"], "zoo", None):
        with pytest.raises(BadOption, match="a database of pymongo's AsyncMongoClient is needed"):
            Bucket(wrong)  # type: ignore[arg-type]  # the test is about this
    with pytest.raises(BadOption, match="checksum is 'sha256' or None, not 'md5'"):
        Bucket(client["zoo"], checksum="md5")  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk_size", [0, -1, 16 * 1024 * 1024, 1.5, "1", True], ids=repr)
async def test_an_invalid_chunk_size_is_refused(database: Database, chunk_size: Any) -> None:
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


async def test_a_file_with_the_largest_chunk_size_is_stored(database: Database) -> None:
    largest = 16 * 1024 * 1024 - 256
    data = bytes(largest) + b"one more"
    bucket = Bucket(database, chunk_size=largest)
    info = await bucket.upload(data, id="a rather long id of 40 characters in all")
    assert (info.chunk_size, info.chunk_count) == (largest, 2)
    assert await bucket.read(info.id) == data
    copy = await bucket.copy(info.id)
    assert await bucket.verify(copy.id) == copy


async def test_a_file_with_the_smallest_chunk_size_is_stored(database: Database) -> None:
    bucket = Bucket(database, chunk_size=1)
    info = await bucket.upload(DATA[:300])
    assert await contents(database) == (1, 300)
    assert await bucket.read(info.id) == DATA[:300]
    assert await bucket.read(info.id, 200, 201) == DATA[200:201]
    copy = await bucket.copy(info.id)
    assert await bucket.verify(copy.id) == copy
