"""What docs/migrating.md claims about pymongo's own AsyncGridFSBucket, shown beside ours.

Each test does the same thing with both. If one fails on a newer pymongo, that has caught up: then the claim has to go.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidOperation

from gridproxy import Bucket
from gridproxy.runtime.capabilities import Feature
from tests.observing import contents
from tests.traffic import Traffic, watched

Database = AsyncDatabase[dict[str, Any]]

CHUNK = 255 * 1024


@pytest.fixture
async def seen(mongodb_uri: str, database: Database) -> AsyncIterator[tuple[Database, Traffic]]:
    """Yield the test's database through a client that is watched."""
    async with watched(mongodb_uri, database.name) as both:
        yield both


class ShortReads(io.BytesIO):
    """A pipe, a socket, a decompressor: gives what it has, and more at the next call."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(700 if size is None or size < 0 else min(size, 700))


class Breaking:
    """A source that fails after 50 MB: the driver sends its first 48 at once."""

    def __init__(self) -> None:
        self.left = 200

    def read(self, size: int) -> bytes:
        self.left -= 1
        if not self.left:
            raise ConnectionResetError("the sender is gone")
        return bytes(min(size, CHUNK))


async def test_a_short_read_ends_an_upload_of_the_driver_but_not_ours(database: Database) -> None:
    data = bytes(range(256)) * 40
    id = await AsyncGridFSBucket(database, "theirs").upload_from_stream("a", ShortReads(data))
    stream = await AsyncGridFSBucket(database, "theirs").open_download_stream(id)
    assert stream.length == 700, "the rest was lost, and nobody was told"

    info = await Bucket(database, "ours").upload(ShortReads(data))
    assert info.length == len(data)
    assert await Bucket(database, "ours").read(info.id) == data


async def test_a_failed_upload_leaves_chunks_behind_there_and_nothing_here(database: Database) -> None:
    with pytest.raises(ConnectionResetError):
        await AsyncGridFSBucket(database, "theirs").upload_from_stream("a", Breaking())
    files, chunks = await contents(database, "theirs")
    assert files == 0
    assert chunks > 100

    with pytest.raises(ConnectionResetError):
        await Bucket(database, "ours").upload(Breaking())
    assert await contents(database, "ours") == (0, 0)


async def test_one_byte_after_a_seek_fetches_megabytes_there_and_one_chunk_here(
    seen: tuple[Database, Traffic],
) -> None:
    database, traffic = seen
    data = bytes(80 * CHUNK)
    info = await Bucket(database).upload(data)

    stream = await AsyncGridFSBucket(database).open_download_stream(info.id)
    traffic.clear()
    await stream.seek(20 * CHUNK + 5)
    assert await stream.read(1) == b"\0"
    theirs = traffic.fetched

    async with Bucket(database).file(info.id).open() as reader:
        traffic.clear()
        await reader.seek(20 * CHUNK + 5)
        assert await reader.read(1) == b"\0"
        ours = traffic.fetched

    assert theirs > 10 * 1024 * 1024
    assert ours == CHUNK
    traffic.clear()
    assert await Bucket(database).read(info.id, 20 * CHUNK + 5, 20 * CHUNK + 6) == b"\0"
    assert traffic.fetched == CHUNK


async def test_a_transaction_is_refused_there_and_works_here(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    bucket = Bucket(database)
    await bucket.ensure_indexes()
    async with client.start_session() as session:
        with pytest.raises(InvalidOperation, match="does not support multi-document transactions"):
            async with await session.start_transaction():
                await AsyncGridFSBucket(database).upload_from_stream("a", b"abc", session=session)

        async with await session.start_transaction():
            info = await bucket.upload(b"abc", session=session)
            assert await bucket.read(info.id, session=session) == b"abc"
            assert not await bucket.file(info.id).exists(), "outside it is not there yet"
        assert await bucket.read(info.id) == b"abc"

        with pytest.raises(LookupError):
            async with await session.start_transaction():
                await bucket.delete(info.id, session=session)
                raise LookupError
        assert await bucket.read(info.id) == b"abc"


async def test_the_buckets_write_concern_is_ignored_by_uploads_there_and_used_here(
    seen: tuple[Database, Traffic],
) -> None:
    database, traffic = seen
    concern = WriteConcern("majority", wtimeout=4321)

    await AsyncGridFSBucket(database, "theirs", write_concern=concern).upload_from_stream("a", b"abc")
    inserts = traffic.of("insert")
    assert len(inserts) == 2
    assert all("writeConcern" not in command for command in inserts)

    traffic.clear()
    await Bucket(database, "ours", write_concern=concern).upload(b"abc")
    inserts = traffic.of("bulkWrite") or traffic.of("insert")
    assert inserts
    assert all(command["writeConcern"] == concern.document for command in inserts)


async def test_a_small_upload_takes_four_round_trips_there_and_one_here(seen: tuple[Database, Traffic]) -> None:
    database, traffic = seen
    theirs, ours = AsyncGridFSBucket(database, "theirs"), Bucket(database, "ours")
    await theirs.upload_from_stream("a", b"abc")
    await ours.upload(b"abc")  # from now on both have their indexes

    traffic.clear()
    await theirs.upload_from_stream("a", b"abc")
    assert [name for name, _ in traffic.seen] == ["find", "find", "insert", "insert"]
    traffic.clear()
    await ours.upload(b"abc")
    sent = [name for name, _ in traffic.seen]
    assert sent == (["insert", "insert"] if Feature.BULK_WRITE in ours.capabilities.missing else ["bulkWrite"])
