"""A server before 8.0 knows no client bulk writes: it is asked once per client, and small files take two steps."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import InvalidOperation, OperationFailure

from gridproxy import AsyncGridFile, Bucket
from gridproxy.runtime.capabilities import Feature

from ..observing import Commands, without
from .failing import FailingServer
from .whole import Database, stored_files

SMALL = b"one request" * 150  # a chunk and a half
UNAUTHORIZED = 13
COMMAND_NOT_FOUND = 59


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
