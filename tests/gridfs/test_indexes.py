"""The two indexes of the GridFS spec are checked once and created if they are missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gridproxy import Bucket

from ..observing import Database
from ..traffic import watched

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


async def test_the_indexes_of_the_specification_are_created(bucket: Bucket, database: Database) -> None:
    await bucket.ensure_indexes()
    files = await database["fs.files"].index_information()
    assert files["filename_1_uploadDate_1"]["key"] == [("filename", 1), ("uploadDate", 1)]
    assert "unique" not in files["filename_1_uploadDate_1"]
    chunks = await database["fs.chunks"].index_information()
    assert chunks["files_id_1_n_1"]["key"] == [("files_id", 1), ("n", 1)]
    assert chunks["files_id_1_n_1"]["unique"]


async def test_indexes_are_checked_once_per_bucket_and_client(database: Database, mongodb_uri: str) -> None:
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


async def test_a_bucket_with_files_gets_no_index_unless_forced(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 100})
    await bucket.upload(DATA)
    assert list(await database["fs.chunks"].index_information()) == ["_id_"]
    await bucket.ensure_indexes(force=True)
    assert set(await database["fs.chunks"].index_information()) == {"_id_", "files_id_1_n_1"}
    assert set(await database["fs.files"].index_information()) == {"_id_", "filename_1_uploadDate_1"}


@pytest.mark.parametrize("unique", [True, False])
async def test_an_index_of_an_old_driver_is_not_changed(bucket: Bucket, database: Database, unique: bool) -> None:
    # By command, because pymongo's helper refuses the doubles that other drivers sent.
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
