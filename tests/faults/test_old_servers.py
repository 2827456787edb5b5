"""A server without client bulk writes: it is asked once per client, and small files take two requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, DuplicateKeyError, InvalidOperation, OperationFailure

from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, OutcomeUnknown
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.capabilities import Feature

from ..observing import Commands, contents, without
from .failing import FailingServer
from .refusing import Profile, command, open_profile, silence
from .whole import Database, stored_files

SMALL = b"one request" * 150  # a chunk and a half
UNAUTHORIZED = 13
COMMAND_NOT_FOUND = 59
COMMAND_NOT_SUPPORTED = 115  # MongoDB 8.0 while its featureCompatibilityVersion is 7.0


async def test_without_bulk_writes_a_small_file_takes_two_steps(
    failing: Bucket, database: Database, commands: Commands
) -> None:
    without(failing, Feature.BULK_WRITE)
    commands.clear()
    info = await failing.upload(SMALL)
    assert not commands.of("bulkWrite")
    assert len(commands.of("insert")) == 2
    assert await stored_files(database) == {info.id: SMALL}


async def test_a_server_that_does_not_know_bulk_writes_is_asked_once_per_client(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    await server.fail("bulkWrite", errorCode=COMMAND_NOT_FOUND)
    infos = [await failing.upload(SMALL), await Bucket(server.client[database.name]).upload(SMALL)]
    assert len(commands.of("bulkWrite")) == 1
    assert await stored_files(database) == {info.id: SMALL for info in infos}
    assert not Bucket(database).capabilities.missing  # another client may well talk to another server


async def test_a_driver_that_refuses_bulk_writes_is_asked_once_per_client(
    server: FailingServer, failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def bulk_write(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise InvalidOperation("MongoClient.bulk_write requires MongoDB server version 8.0+.")

    monkeypatch.setattr(server.client, "bulk_write", bulk_write)
    infos = [await failing.upload(SMALL), await failing.upload(SMALL)]
    assert len(asked) == 1
    assert await stored_files(database) == {info.id: SMALL for info in infos}


async def test_on_an_old_server_an_error_of_the_chunks_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    without(failing, Feature.BULK_WRITE)
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        await file.put(SMALL)
    await server.recover()
    assert not file
    assert await stored_files(database) == {}


async def test_many_small_files_take_two_requests(failing: Bucket, database: Database, commands: Commands) -> None:
    without(failing, Feature.BULK_WRITE)
    commands.clear()
    infos = await failing.upload_many([b"%d" % n for n in range(200)])
    assert [name for name, _ in commands.seen] == ["insert", "insert"]
    assert await stored_files(database) == {info.id: b"%d" % n for n, info in enumerate(infos)}


async def test_a_server_is_asked_for_bulk_writes_with_the_first_of_many_files(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    await server.fail("bulkWrite", errorCode=COMMAND_NOT_SUPPORTED)
    commands.clear()
    infos = await failing.upload_many([b"%d" % n for n in range(600)])
    assert [name for name, _ in commands.seen] == ["bulkWrite", "insert", "insert", "insert", "insert"]
    assert len(await stored_files(database)) == len(infos)


@pytest.mark.parametrize("skip", [0, 1], ids=["of chunks", "of records"])
async def test_many_files_are_stored_once_if_a_request_got_no_answer(
    server: FailingServer, failing: Bucket, database: Database, skip: int
) -> None:
    without(failing, Feature.BULK_WRITE)
    await server.fail("insert", skip=skip, times=1, closeConnection=True)
    infos = await failing.upload_many([b"one", b"two", b""])
    assert await stored_files(database) == dict(zip([info.id for info in infos], [b"one", b"two", b""], strict=True))


@pytest.mark.parametrize("method", ["insert_chunks", "insert_records"])
async def test_many_files_are_stored_once_if_an_answer_was_lost(
    failing: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real = getattr(Store, method)
    lost = [AutoReconnect("no answer")]

    async def lose(*arguments: Any, **options: Any) -> None:
        await real(*arguments, **options)
        if lost:
            raise lost.pop()

    without(failing, Feature.BULK_WRITE)
    monkeypatch.setattr(Store, method, lose)
    infos = await failing.upload_many([b"one", b"two", b""])
    assert not lost
    assert await stored_files(database) == dict(zip([info.id for info in infos], [b"one", b"two", b""], strict=True))


@pytest.mark.parametrize("skip", [0, 1], ids=["of chunks", "of records"])
async def test_many_files_leave_nothing_if_a_request_is_refused(
    server: FailingServer, failing: Bucket, database: Database, skip: int
) -> None:
    without(failing, Feature.BULK_WRITE)
    await server.fail("insert", skip=skip, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        await failing.upload_many([b"one", b"two", b""])
    await server.recover()
    assert await stored_files(database) == {}
    assert await contents(database) == (0, 0)


async def test_many_files_leave_nothing_if_one_record_is_refused(failing: Bucket, database: Database) -> None:
    without(failing, Feature.BULK_WRITE)
    await database["fs.files"].create_index("metadata.key", unique=True)
    with pytest.raises((FileAlreadyStored, DuplicateKeyError)):
        # The second file breaks the application's own index.
        await failing.upload_many([b"one", b"two"], metadata={"key": 1})
    assert await contents(database) == (0, 0)


async def test_many_files_of_an_unknown_outcome_are_left(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    without(failing, Feature.BULK_WRITE)
    await server.fail("insert", skip=1, closeConnection=True)
    with pytest.raises(OutcomeUnknown):
        await failing.upload_many([b"one", b"two"])
    await server.recover()
    assert await contents(database) == (0, 2)


async def test_a_missing_privilege_does_not_count_as_a_missing_command(mongodb_uri: str, database: Database) -> None:
    restricted = Profile("restricted", refusals=(command("bulkWrite", UNAUTHORIZED, "not authorized"),))
    async with open_profile(mongodb_uri, restricted) as (client, _):
        bucket = Bucket(client[database.name])
        with pytest.raises(OperationFailure, match="not authorized"):
            await bucket.upload(SMALL)
        assert bucket.capabilities.missing == {}
    assert await contents(database) == (0, 0)


async def test_a_server_that_ignores_expressions_of_a_projection_has_its_chunks_read(
    mongodb_uri: str, database: Database
) -> None:
    ignoring = Profile("ignoring", ignored=("find.projection.size",))
    async with open_profile(mongodb_uri, ignoring) as (client, _):
        bucket = Bucket(client[database.name])
        info = await bucket.upload(SMALL)
        assert [finding async for finding in bucket.check()] == []
        assert set(bucket.capabilities.missing) == {Feature.BINARY_SIZE}
        assert (await bucket.copy(info.id)).length == len(SMALL)


async def test_a_server_that_never_answers_is_played_too(mongodb_uri: str, database: Database) -> None:
    silent = Profile("silent", refusals=(silence("insert"),), options={"retryWrites": False})
    async with open_profile(mongodb_uri, silent) as (client, link):
        inserting = asyncio.create_task(client[database.name]["some"].insert_one({}))
        assert await client[database.name]["some"].find_one({}) is None
        # The insert opens a connection of its own. To heal before it is sent would leave it without an answer.
        assert await link.hit_by(inserting)
        assert not inserting.done()
        link.heal()  # which cuts the connection
        with pytest.raises(AutoReconnect):
            await inserting
