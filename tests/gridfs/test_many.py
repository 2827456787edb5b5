"""Many files at once: round trips shared, the bytes of each one its own, all or nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from gridproxy import BadId, BadSource, Bucket, CorruptFile
from gridproxy.runtime.capabilities import Feature

from ..observing import Commands, Database, contents, without


async def test_many_small_files_are_stored_and_read_in_a_handful_of_commands(
    mongodb_uri: str, database: Database
) -> None:
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[commands]) as client:
        bucket = Bucket(client[database.name])
        await bucket.ensure_indexes()
        parts = [os.urandom(number * 7) for number in range(150)]
        commands.clear()
        infos = await bucket.upload_many(parts, metadata={"batch": 7})
        assert len(commands.seen) <= 2
        commands.clear()
        found = await bucket.read_many([info.id for info in infos])
        assert len(commands.seen) <= 3
    assert [found[info.id] for info in infos] == parts
    assert {info.metadata["batch"] for info in infos} == {7}
    for info in infos[:3]:
        await bucket_of(database).verify(info.id)


def bucket_of(database: Database) -> Bucket:
    return Bucket(database)


async def test_small_and_large_sources_of_any_kind_come_back_in_order(database: Database, tmp_path: Path) -> None:
    bucket = Bucket(database, chunk_size=100_000)
    path = tmp_path / "named.txt"
    path.write_bytes(b"from a path")
    large = os.urandom(9_000_000)

    async def parts() -> AsyncIterator[bytes]:
        yield large[:5_000_000]
        yield large[5_000_000:]

    expected = [b"", b"from a path", large, b"\x00" * 3_000_000, b"text", b"x" * 2_000_000]
    infos = await bucket.upload_many([b"", path, parts(), expected[3], "text", [expected[5]]])
    assert [info.length for info in infos] == [len(each) for each in expected]
    assert infos[1].filename == "named.txt"
    found = await bucket.read_many(info.id for info in infos)
    assert list(found.values()) == expected
    assert list(found) == [info.id for info in infos]
    for info in infos:
        await bucket.verify(info.id)


async def test_a_mapping_names_its_files(database: Database) -> None:
    infos = await Bucket(database).upload_many({"a.txt": b"1", "b.png": b"22"})
    assert [(info.filename, info.content_type) for info in infos] == [("a.txt", "text/plain"), ("b.png", "image/png")]


@pytest.mark.parametrize("bulk_write", [True, False])
async def test_one_bad_source_takes_all_of_the_call_back(database: Database, bulk_write: bool) -> None:
    bucket = Bucket(database)
    if not bulk_write:
        without(bucket, Feature.BULK_WRITE)
    sources: list[Any] = [b"a", os.urandom(5_000_000), b"b", 17]
    with pytest.raises(BadSource, match="int"):
        await bucket.upload_many(sources)
    assert await contents(bucket.database, bucket.name) == (0, 0)


async def test_a_source_that_fails_in_the_middle_takes_all_of_the_call_back(database: Database) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield os.urandom(6_000_000)
        raise OSError("the disk is gone")

    bucket = Bucket(database)
    with pytest.raises(OSError, match="the disk is gone"):
        await bucket.upload_many([b"a", breaks(), b"b"])
    assert await contents(bucket.database, bucket.name) == (0, 0)


async def test_a_cancelled_call_leaves_nothing(database: Database) -> None:
    bucket = Bucket(database)
    await bucket.ensure_indexes()
    sources = [os.urandom(1_500_000) for _ in range(12)]
    for steps in range(0, 120, 3):
        task = asyncio.create_task(bucket.upload_many(sources))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await contents(bucket.database, bucket.name) == (0, 0)


async def test_without_a_bulk_write_the_same_files_are_stored(database: Database) -> None:
    bucket = Bucket(database)
    without(bucket, Feature.BULK_WRITE)
    infos = await bucket.upload_many([b"a", b"b", b""])
    assert list((await bucket.read_many([info.id for info in infos])).values()) == [b"a", b"b", b""]


async def test_missing_ids_are_left_out_and_ids_that_cannot_be_keys_are_refused(database: Database) -> None:
    bucket = Bucket(database)
    info = await bucket.upload(b"here")
    assert await bucket.read_many([ObjectId(), info.id, "no"]) == {info.id: b"here"}
    assert await bucket.read_many([]) == {}
    with pytest.raises(BadId):
        await bucket.read_many([{"$gt": ""}])


async def test_a_corrupt_one_among_many_is_named(database: Database) -> None:
    bucket = Bucket(database)
    infos = await bucket.upload_many([b"first", b"second"])
    await database.fs.chunks.delete_many({"files_id": infos[1].id})
    with pytest.raises(CorruptFile) as caught:
        await bucket.read_many([info.id for info in infos])
    assert caught.value.id == infos[1].id


async def test_progress_tells_the_bytes_of_all_files_so_far(database: Database) -> None:
    told: list[tuple[int, int | None]] = []
    await Bucket(database).upload_many([b"abc", os.urandom(5_000_000), b"d"], progress=lambda *so: told.append(so))
    assert told[-1] == (5_000_004, None)


# Records of many ids


async def test_stat_many_returns_existing_files_by_id(bucket: Bucket) -> None:
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
    info = await bucket.upload(b"data", id=naive)
    assert await bucket.stat_many([naive]) == {naive.replace(tzinfo=UTC): await bucket.stat(naive)}
    assert info.length == 4


async def test_stat_many_takes_a_pattern_for_a_value(bucket: Bucket) -> None:
    info = await bucket.upload(b"data", id="a")
    assert await bucket.stat_many([re.compile(".*"), "a"]) == {"a": info}
    assert await bucket.stat_many([re.compile("a"), (1, 2)]) == {}


async def test_stat_many_refuses_unhashable_ids(bucket: Bucket) -> None:
    class Frozen(dict[str, int]):
        def __hash__(self) -> int:  # type: ignore[override]  # as the frozen dicts of some libraries
            return 1

    for id in ({"a": 1}, {"$gt": ""}, [1], bson.Regex("a"), Frozen(a=1)):
        with pytest.raises(BadId, match="cannot be a key"):
            await bucket.stat_many(["a", id])
