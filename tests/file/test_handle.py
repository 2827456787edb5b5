"""AsyncGridFile as a value: what it knows without I/O, its bucket, and its sessions."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, BadOption, BadSource, Bucket, FileMissing, FileOptions, NotConnected

from ..observing import Commands, Database, contents, observed

# A value, without any connection


def test_an_invalid_alias_is_refused() -> None:
    with pytest.raises(BadOption):
        AsyncGridFile("x", alias=7)  # type: ignore[arg-type]


def copies() -> list[Callable[[AsyncGridFile], AsyncGridFile]]:
    return [copy.copy, copy.deepcopy, lambda file: pickle.loads(pickle.dumps(file))]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("copied", copies())
async def test_copies_keep_id_info_and_options_and_drop_live_handles(
    copied: Callable[[AsyncGridFile], AsyncGridFile],
) -> None:
    file = AsyncGridFile(options=FileOptions(max_size=100, bucket="photos"))
    await file.put(b"0123456789", filename="digits", owner=7)
    await file.read(4)
    other = copied(file)
    assert other == file
    assert other.info == file.info
    assert other.options == file.options
    assert other.tell() == 0
    assert await other.read() == b"0123456789"
    async with file.new_file(replace=True):
        during = copied(file)
        assert during.closed
        assert await during.read() == b"0123456789"


# No I/O by attribute access


async def test_attribute_access_sends_no_query(mongodb_uri: str, database: Database) -> None:
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            stored = AsyncGridFile()
            await stored.put(b"x", filename="x")
            commands.clear()
            for file in (stored, AsyncGridFile("x"), AsyncGridFile()):
                for name in dir(file):
                    try:
                        getattr(file, name)
                    except gridproxy.InfoNotLoaded:
                        assert file is not stored
                for look in (repr, str, bool, copy.copy, copy.deepcopy, pickle.dumps):
                    look(file)
                _ = file == stored
                file.tell()
            await asyncio.sleep(0)
            assert commands.seen == []


# Where the bucket is


async def test_every_operation_without_a_database_raises_not_connected() -> None:
    file = AsyncGridFile("x")
    for call in (file.read, file.stat, file.exists, file.delete, lambda: AsyncGridFile().put(b"x")):
        with pytest.raises(NotConnected, match="connect"):
            await call()
    with pytest.raises(NotConnected, match="archive"):
        await AsyncGridFile("x", alias="archive").read()


async def test_the_bucket_is_looked_up_at_each_operation(database: Database) -> None:
    elsewhere = database.client[f"{database.name}_elsewhere"]
    file = AsyncGridFile(bucket="photos")
    try:
        with gridproxy.using(database):
            await file.put(b"here", id="the id")
            assert await contents(database, "photos") == (1, 1)
        unloaded = AsyncGridFile("the id", bucket="photos")
        with gridproxy.using(elsewhere):
            assert not await unloaded.exists()
            other = AsyncGridFile(bucket="photos")
            await other.put(b"there", id="the id")
            assert await unloaded.read() == b"there"
            assert unloaded.length == 5
        with gridproxy.using(database):
            assert await file.read() == b"here"
            await file.delete()
        with gridproxy.using(elsewhere):
            assert await other.read() == b"there"
    finally:
        await database.client.drop_database(elsewhere.name)


async def test_an_alias_names_another_database(database: Database) -> None:
    elsewhere = database.client[f"{database.name}_elsewhere"]
    gridproxy.connect(database)
    gridproxy.connect(elsewhere, alias="archive")
    try:
        file = AsyncGridFile(alias="archive")
        await file.put(b"archived")
        assert await contents(elsewhere) == (1, 1)
        assert await contents(database) == (0, 0)
        assert await file.read() == b"archived"
    finally:
        gridproxy.disconnect()
        gridproxy.disconnect("archive")
        await database.client.drop_database(elsewhere.name)


async def test_a_file_with_a_bucket_needs_no_connection(database: Database) -> None:
    file = AsyncGridFile(bucket=Bucket(database, "photos"))
    await file.put(b"x")
    assert await file.read() == b"x"


async def test_a_file_keeps_its_bucket_in_a_copy(database: Database) -> None:
    file = AsyncGridFile(bucket=Bucket(database, "photos"))
    await file.put(b"x")
    copied = await file.copy()
    assert await copied.read() == b"x"
    assert await contents(database, "photos") == (2, 2)


# Sessions


@pytest.mark.usefixtures("connected")
async def test_every_method_takes_a_session(
    client: AsyncMongoClient[dict[str, Any]], tmp_path: Path, database: Database
) -> None:
    async with client.start_session() as session:
        file = AsyncGridFile()
        await file.put(b"first\nsecond", session=session)
        await file.replace(b"other\nlines", session=session)
        async with file.new_file(replace=True, session=session):
            file.write(b"first\nsecond")
        assert await file.readline(session=session) == b"first\n"
        assert await file.read(session=session) == b"second"
        assert await file.seek(0, session=session) == 0
        async with file.open(session=session) as reader:
            assert await reader.read() == b"first\nsecond"
        assert b"".join([block async for block in file.stream(session=session)]) == b"first\nsecond"
        assert await file.read_range(0, 5, session=session) == b"first"
        assert await file.read_ranges([(0, 5)], session=session) == [b"first"]
        await file.save_to(tmp_path / "saved", session=session)
        assert await file.exists(session=session)
        await file.stat(session=session)
        await file.verify(session=session)
        await file.rename("renamed", session=session)
        await file.update_metadata(owner=7, session=session)
        copied = await file.copy(session=session)
        await copied.delete(session=session)
        await file.delete(session=session)
    assert await contents(database) == (0, 0)


def sessions(commands: Commands, collection: str) -> list[Any]:
    """Return the sessions of the commands on a collection, each once."""
    found: list[Any] = []
    for name, command in commands.seen:
        if command.get(name) == collection and command.get("lsid") not in found:
            found.append(command.get("lsid"))
    return found


async def test_only_the_record_is_written_in_the_session(mongodb_uri: str, database: Database) -> None:
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            await Bucket(watched).ensure_indexes()
            async with watched.client.start_session() as session:
                await watched.command("ping", session=session)  # only now it has an id of its own
                commands.clear()
                file = AsyncGridFile()
                await file.put(b"x" * 100, chunk_size=10, session=session)
                await file.read(session=session)
                await file.replace(b"y" * 100, chunk_size=10, session=session)
                await file.rename("renamed", session=session)
                await file.delete(session=session)
                mine = session.session_id
    assert mine in sessions(commands, "fs.files")
    chunk_sessions = sessions(commands, "fs.chunks")
    assert chunk_sessions
    assert mine not in chunk_sessions
    writes = [
        command
        for name, command in commands.seen
        if name in ("insert", "delete", "update", "findAndModify") and command[name] == "fs.files"
    ]
    assert len(writes) >= 4
    assert all(command["lsid"] == mine for command in writes)


async def test_a_record_put_in_a_transaction_is_seen_after_the_commit_only(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    with gridproxy.using(database):
        await Bucket(database).ensure_indexes()
        file = AsyncGridFile()
        async with client.start_session() as session:
            async with await session.start_transaction():
                await file.put(b"0123456789", chunk_size=3, session=session)
                assert await file.read(session=session) == b"0123456789"
                assert not await AsyncGridFile(file.id).exists()
            assert await AsyncGridFile(file.id).read() == b"0123456789"
            with pytest.raises(OSError, match="aborted"):
                async with await session.start_transaction():
                    await file.delete(session=session)
                    raise OSError("aborted")
    with gridproxy.using(database):
        assert await database["fs.chunks"].count_documents({}) == 4
        assert await database["fs.files"].count_documents({}) == 1


@pytest.mark.usefixtures("connected")
async def test_a_file_put_in_a_transaction_can_be_the_source_of_another_in_it(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    await Bucket(database).ensure_indexes()
    file, other = AsyncGridFile(), AsyncGridFile()
    async with client.start_session() as session, await session.start_transaction():
        await file.put(b"0123456789", filename="digits", session=session)
        await other.put(file, session=session)
    assert await other.read() == b"0123456789"
    assert other.filename == "digits"


@pytest.mark.usefixtures("connected")
async def test_copy_is_refused_inside_a_transaction(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    file = AsyncGridFile()
    await file.put(b"x")
    async with client.start_session() as session, await session.start_transaction():
        with pytest.raises(BadOption, match="transaction"):
            await file.copy(session=session)
    assert await contents(database) == (1, 1)


async def test_content_that_can_be_read_once_cannot_be_copied(database: Database) -> None:
    from gridproxy.adapters.document import Document, FileField

    class Holder(Document):
        photo = FileField()

    holder = Holder(photo=iter([b"once"]))
    with pytest.raises(BadSource, match="read only once"):
        copy.copy(holder.photo)
    other = Holder(photo=b"as often as you like")
    with gridproxy.using(database):
        await other.save()
        assert await copy.copy(other.photo).read() == b"as often as you like"
        with pytest.raises(FileMissing):
            await AsyncGridFile().read()
