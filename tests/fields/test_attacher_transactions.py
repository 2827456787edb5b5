"""Attacher: the save and the delete of any object in a transaction of this package."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

import gridproxy
from gridproxy import AsyncGridFile, CommitUnknown, FileMissing, FileOptions, transaction
from gridproxy.fields import Attacher
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.transactions import transactions

from ..faults.whole import stored_files
from ..observing import Database

pytestmark = pytest.mark.usefixtures("connected")

ENDS = pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
BOUND = pytest.mark.parametrize("bound", [False, True], ids=["explicit", "bound"])


class Thing:
    """A document of an ODM that knows of files only by `Attacher`."""

    def __init__(self, database: Database) -> None:
        self.id = object()
        self._collection = database["thing"]
        self._key: Any = None
        self.photo = AsyncGridFile(options=FileOptions(on_delete="delete"))
        self.thumbnail = AsyncGridFile()
        self._attacher = Attacher(self, self._files)
        self._attacher.attach()

    def _files(self) -> list[tuple[str, AsyncGridFile]]:
        return [("photo", self.photo), ("thumbnail", self.thumbnail)]

    async def save(self, session: Session | None = None, *, thumbnail: bytes | None = None) -> None:
        async def write() -> None:
            if thumbnail is not None:  # as a hook does, in the midst of the ODM's own save
                await asyncio.gather(self.thumbnail.replace(thumbnail, session=session), self._find(session))
            values = {"photo": self.photo.id}
            if self._key is None:
                self._key = (await self._collection.insert_one(values, session=session)).inserted_id
            else:
                await self._collection.replace_one({"_id": self._key}, values, session=session)

        await self._attacher.save(write, session)

    async def _find(self, session: Session | None) -> None:
        await self.photo.stat(session=session)

    async def delete(self, session: Session | None = None) -> None:
        async def write() -> bool:
            return bool((await self._collection.delete_one({"_id": self._key}, session=session)).deleted_count)

        await self._attacher.delete(write, session)


class Aborted(Exception):
    """What the block is left by."""


async def in_transaction(client: AsyncMongoClient[dict[str, Any]], work: Any, *, commit: bool, bound: bool) -> None:
    if bound and not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")
    try:
        async with transaction(client) as tx:
            if bound:
                async with tx.session.bind(end_session=False):
                    await work(None)
            else:
                await work(tx.session)
            if not commit:
                raise Aborted
    except Aborted:
        assert not commit


async def contents(database: Database) -> list[bytes]:
    return sorted((await stored_files(database)).values())


@pytest.fixture
async def thing(database: Database) -> Thing:
    thing = Thing(database)
    thing.photo.state.content = b"the old"
    await thing.save()
    return thing


@ENDS
@BOUND
async def test_a_save(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing, commit: bool, bound: bool
) -> None:
    old = thing.photo.id

    async def work(session: Session | None) -> None:
        await thing.photo.replace(b"in between", session=session)
        await thing.save(session)
        await thing.photo.replace(b"the new", session=session)
        await thing.save(session)

    await in_transaction(client, work, commit=commit, bound=bound)
    assert await contents(database) == [b"the new" if commit else b"the old"]
    assert (thing.photo.id == old) is not commit
    raw = await database["thing"].find_one({})
    assert raw is not None
    assert raw["photo"] == thing.photo.id
    await thing.photo.replace(b"the last")
    await thing.save()
    assert await contents(database) == [b"the last"]


@ENDS
@BOUND
async def test_a_delete(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing, commit: bool, bound: bool
) -> None:
    await in_transaction(client, thing.delete, commit=commit, bound=bound)
    assert await contents(database) == ([] if commit else [b"the old"])
    assert bool(thing.photo) is not commit
    assert await database["thing"].count_documents({}) == (not commit)


@ENDS
@BOUND
async def test_content_stored_by_a_hook_during_a_save(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing, commit: bool, bound: bool
) -> None:
    async def work(session: Session | None) -> None:
        await thing.save(session, thumbnail=b"small")

    await in_transaction(client, work, commit=commit, bound=bound)
    assert await contents(database) == ([b"small", b"the old"] if commit else [b"the old"])
    assert bool(thing.thumbnail) is commit


class Overlaps(CommandListener):
    """Which commands of a transaction began while another one was running."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.seen: list[str] = []
        self.found: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if "autocommit" in event.command:
            self.seen.append(event.command_name)
            if self.running:
                self.found.append(event.command_name)
            self.running.add(event.request_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.running.discard(event.request_id)

    def failed(self, event: CommandFailedEvent) -> None:
        self.running.discard(event.request_id)


async def test_tasks_of_a_hook_take_turns_in_the_session(mongodb_uri: str, database: Database) -> None:
    """A server may see the second command of a transaction before the one that starts it."""
    overlaps = Overlaps()
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[overlaps]) as client:
        there = client[database.name]
        await there.create_collection("thing")
        with gridproxy.using(there):
            thing = Thing(there)
            await thing.photo.put(b"photo")
            files = [AsyncGridFile() for _ in range(4)]

            async def write() -> None:
                async with asyncio.TaskGroup() as tasks:
                    for file in files:
                        tasks.create_task(file.put(b"a file of the hook", session=tx.session))
                        tasks.create_task(thing.photo.stat(session=tx.session))

            async with transaction(client) as tx:
                await Attacher(thing, thing._files).save(write, tx.session)
    assert overlaps.seen.count("insert") == 4
    assert overlaps.found == []


async def test_saves_of_several_tasks_queue(client: AsyncMongoClient[dict[str, Any]], database: Database) -> None:
    things = [Thing(database) for _ in range(5)]
    for number, thing in enumerate(things):
        thing.photo.state.content = b"%d" % number
    await database.create_collection("thing")
    async with transaction(client) as tx:
        await asyncio.gather(*(thing.save(tx.session) for thing in things))
    assert await contents(database) == [b"%d" % number for number in range(5)]
    assert await database["thing"].count_documents({}) == 5


@BOUND
async def test_in_a_foreign_transaction_the_old_file_is_left_to_the_garbage_collector(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing, bound: bool
) -> None:
    if bound and not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")
    async with client.start_session() as session, await session.start_transaction():
        if bound:
            async with session.bind(end_session=False):
                await thing.photo.replace(b"the new")
                await thing.save()
        else:
            await thing.photo.replace(b"the new", session=session)
            await thing.photo.finalize(session=session)
            await thing.save(session)
    assert await contents(database) == [b"the new", b"the old"]


async def test_a_document_is_not_saved_with_a_file_that_was_not_committed(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(_: AsyncClientSession) -> None:
        raise AutoReconnect("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(AsyncClientSession, "commit_transaction", unanswered)
        patched.setattr(transactions, "COMMIT_SECONDS", 0.0)
        patched.setattr(transactions, "_is_unknown", lambda _: True)
        with pytest.raises(CommitUnknown):
            async with transaction(client) as tx:
                await thing.photo.replace(b"the new", session=tx.session)
                await thing.save(tx.session)
    with pytest.raises(FileMissing):
        await thing.save()
    raw = await database["thing"].find_one({})
    assert raw is not None
    assert await AsyncGridFile(raw["photo"]).read() == b"the old"


async def test_a_failing_hook_cleans_up_while_the_save_holds_the_lock(
    client: AsyncMongoClient[dict[str, Any]], database: Database, thing: Thing
) -> None:
    def broken() -> Any:
        yield b"some bytes"
        raise OSError("the disk is gone")

    async def write() -> None:
        with pytest.raises(OSError, match="the disk"):
            await thing.thumbnail.put(broken(), session=tx.session)
        await gridproxy.Bucket(database).upload(b"another", session=tx.session)

    async with transaction(client) as tx:
        await Attacher(thing, thing._files).save(write, tx.session)
    assert await contents(database) == [b"another", b"the old"]
