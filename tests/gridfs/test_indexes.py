"""The two indexes of the GridFS spec are checked once and created if they are missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from gridproxy import AsyncGridFile, BadOption, Bucket, FileOptions, IndexesNotAllowed
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.store import indexes

from ..faults.failing import failing_server
from ..observing import Commands, Database, contents
from ..traffic import watched

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100
ALL = {"_id_", "filename_1_uploadDate_1", "files_id_1_n_1"}


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


# A bucket that another client dropped


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the indexes again at each upload instead of after a minute."""
    monkeypatch.setattr(indexes, "_SECONDS", -1.0)


async def drop(database: Database) -> None:
    for name in ("fs.files", "fs.chunks"):
        await database[name].drop()


async def names(database: Database) -> set[str]:
    return {*await database["fs.files"].index_information(), *await database["fs.chunks"].index_information()}


@pytest.mark.usefixtures("soon")
async def test_a_bucket_that_another_client_dropped_gets_its_indexes_back(bucket: Bucket, database: Database) -> None:
    await bucket.upload(DATA)
    await drop(database)
    await bucket.upload(DATA)
    assert await names(database) == ALL


@pytest.mark.usefixtures("soon")
async def test_so_does_one_that_was_filled_before_the_next_look(
    bucket: Bucket, database: Database, mongodb_uri: str
) -> None:
    await bucket.upload(DATA)
    await drop(database)
    await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 100})
    await bucket.upload(DATA)
    assert await names(database) == ALL


@pytest.mark.usefixtures("soon")
async def test_so_does_one_that_had_its_indexes_before_this_client_came(
    bucket: Bucket, database: Database, mongodb_uri: str
) -> None:
    await bucket.upload(DATA)
    async with watched(mongodb_uri, database.name) as (same, _):
        late = Bucket(same, chunk_size=100)
        await late.upload(DATA)
        await late.upload(DATA)  # sees the indexes
        await drop(database)
        await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 100})
        await late.upload(DATA)
        assert await names(database) == ALL


@pytest.mark.usefixtures("soon")
async def test_a_bucket_that_never_had_them_is_left_as_it_is(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": 0, "chunkSize": 100})
    for _ in range(3):
        await bucket.upload(DATA)
    assert await names(database) == {"_id_"}


async def test_the_next_look_is_a_minute_later(bucket: Bucket) -> None:
    await bucket.upload(DATA)
    await drop(bucket.database)
    await bucket.upload(DATA)
    assert await names(bucket.database) == {"_id_"}
    bucket.store.state.indexed[bucket.store.key] -= 60
    await bucket.upload(DATA)
    assert await names(bucket.database) == ALL


# Users without the privileges


@pytest.fixture
async def refusing(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], request: pytest.FixtureRequest
) -> AsyncIterator[Callable[..., Awaitable[AsyncMongoClient[dict[str, Any]]]]]:
    """Return a function that makes a client whose user may not use these commands."""
    async with failing_server(mongodb_uri, client, Commands()) as server:

        async def refuse(*commands: str, code: int = 13) -> AsyncMongoClient[dict[str, Any]]:
            await server.fail(*commands, errorCode=code)
            return server.client

        yield refuse


Refuse = Callable[..., Awaitable[AsyncMongoClient[dict[str, Any]]]]


@pytest.mark.parametrize("command", ["listIndexes", "createIndexes"])
@pytest.mark.parametrize("code", [13, 8000, 59, 238])
async def test_a_user_without_the_privilege_reads_how_to_go_on(
    refusing: Refuse, database: Database, command: str, code: int
) -> None:
    client = await refusing(command, code=code)
    restricted = client[database.name]
    for operation in (
        lambda: Bucket(restricted).upload(DATA),
        lambda: AsyncGridFile(bucket=Bucket(restricted)).put(DATA),
        lambda: Bucket(restricted).upload_many([DATA]),
        lambda: Bucket(restricted).stage(DATA),
        lambda: Bucket(restricted).ensure_indexes(),
        lambda: Bucket(restricted, indexes=False).ensure_indexes(),
    ):
        with pytest.raises(IndexesNotAllowed, match=r"Bucket\(\.\.\., indexes=False\)") as caught:
            await operation()
        assert caught.value.code == code
    assert await contents(database) == (0, 0)
    bucket = Bucket(restricted, indexes=False)
    info = await bucket.upload(DATA)
    (other,) = await bucket.upload_many([DATA])
    copied = await bucket.copy(info.id)
    assert set((await bucket.read_many([info.id, other.id, copied.id])).values()) == {DATA}


async def test_an_upload_to_a_bucket_with_files_needs_no_privilege(
    refusing: Refuse, database: Database, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload(DATA)
    client = await refusing("listIndexes", "createIndexes")
    monkeypatch.setattr(indexes, "_SECONDS", -1.0)
    for _ in range(3):
        await Bucket(client[database.name]).upload(DATA)
    assert (await contents(database))[0] == 4


async def test_another_error_of_the_server_stays_its_own(refusing: Refuse, database: Database) -> None:
    client = await refusing("createIndexes", code=14031)
    with pytest.raises(OperationFailure) as caught:
        await Bucket(client[database.name]).upload(DATA)
    assert not isinstance(caught.value, IndexesNotAllowed)
    assert caught.value.code == 14031


async def test_a_bucket_without_indexes_sends_no_command_about_them(database: Database, mongodb_uri: str) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        await Bucket(same, indexes=False).upload(DATA)
        assert not traffic.of("listIndexes")
        assert not traffic.of("createIndexes")
        await Bucket(same, indexes=False).ensure_indexes(force=True)
        assert len(traffic.of("createIndexes")) == 2


@pytest.mark.usefixtures("connected")
async def test_a_field_can_go_without_indexes(database: Database) -> None:
    class Picture(Document):
        photo = FileField(bucket="pictures", indexes=False)

    await Picture(photo=DATA).save()
    await AsyncGridFile(options=FileOptions("pictures", indexes=False)).put(DATA)
    assert list(await database["pictures.chunks"].index_information()) == ["_id_"]


def test_indexes_is_true_or_false(database_without_server: Database) -> None:
    wrong: Any = "no"
    with pytest.raises(BadOption, match="indexes is True or False, not 'no'"):
        Bucket(database_without_server, indexes=wrong)
    with pytest.raises(BadOption, match="indexes is True or False, not 'no'"):
        FileOptions(indexes=wrong)
