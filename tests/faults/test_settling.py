"""What a cancelled write leaves behind, if the server answers too late or never: no file without its chunks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pymongo
import pytest
from beanie import Document as BeanieDocument
from beanie import init_beanie
from odmantic import Model as ODManticModel
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError, WaitQueueTimeoutError

import gridproxy
from gridproxy import AsyncGridFile, Bucket
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.document import Document, FileField
from gridproxy.adapters.odmantic import AsyncEngine, FileModel
from gridproxy.embedded import EmbeddedServer
from gridproxy.runtime import tasks

from ..observing import Commands
from .conftest import CHUNK
from .deadlines import used_up
from .link import Break, Link
from .stopping import stop_process
from .whole import Database, files_and_orphans

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

LARGE = bytes(20_000)
# Nothing here takes so long, unless it waits for the server where it must not.
SOON = 20.0


class Animal(Document):
    photo = FileField(on_delete="delete")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the server longer than the test allows, where the package waits for it at all."""
    monkeypatch.setattr(tasks, "SETTLE_SECONDS", 100.0)


@contextmanager
def soon() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SOON


async def cancelled(work: Callable[[], Awaitable[object]], after: float = 0.3) -> BaseException | None:
    """Cancel the work, and return what it raised."""
    try:
        async with asyncio.timeout(after):
            await work()
    except TimeoutError as error:
        return error.__cause__
    return None


@pytest.fixture
def own_server(tmp_path: Any) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(storage_path=tmp_path / "data", sync_on_commit=False) as server:
        yield server


@pytest.mark.usefixtures("short", "small_batches")
async def test_what_a_stopped_server_carries_out_later_is_whole(own_server: EmbeddedServer) -> None:
    async with AsyncMongoClient[dict[str, Any]](own_server.uri) as client:
        database = client["zoo"]
        bucket = Bucket(database, chunk_size=CHUNK)
        ids = [(await bucket.upload(LARGE)).id for _ in range(4)]
        with gridproxy.using(bucket.database):
            animals = [await Animal(photo=b"old").save() for _ in range(3)]
        animals[0].photo = b"new"
        works: list[Callable[[], Awaitable[object]]] = [
            lambda: bucket.upload(b"small"),
            lambda: bucket.upload(LARGE),
            lambda: bucket.upload(LARGE, id="mine"),
            lambda: bucket.upload_many([b"one", b"two"]),
            lambda: bucket.copy(ids[0]),
            lambda: bucket.file(ids[1]).replace(b"new"),
            lambda: bucket.delete(ids[2]),
            lambda: bucket.delete_many(ids[3:]),
            animals[0].save,
            animals[1].delete,
            lambda: in_transaction(client, bucket),
        ]
        assert own_server.pid is not None
        with gridproxy.using(bucket.database):
            stop_process(own_server.pid)
            try:
                with soon():
                    errors = await asyncio.gather(*(cancelled(work) for work in works))
            finally:
                os.kill(own_server.pid, signal.SIGCONT)
        assert all(isinstance(error, asyncio.CancelledError) for error in errors), errors
        await quiet(client)
        files, _ = await files_and_orphans(database)  # fails for a record without its chunks
        documents = [each async for each in database["animal"].find()]
        assert {each["photo"] for each in documents} <= files.keys()
        assert len(documents) >= 2


@pytest.mark.usefixtures("long", "small_batches")
async def test_a_deadline_ends_a_read_from_a_stopped_server_at_once(own_server: EmbeddedServer) -> None:
    async with AsyncMongoClient[dict[str, Any]](own_server.uri) as client:
        bucket = Bucket(client["zoo"], chunk_size=CHUNK)
        id = (await bucket.upload(LARGE)).id
        for _ in range(3):
            await bucket.upload(b"small")
        with gridproxy.using(bucket.database):
            for _ in range(102):  # the first batch has 101
                await Animal().save()
            animals = aiter(Animal.objects())
            await anext(animals)
        found = bucket.find(batch_size=2)
        await anext(found)
        stream = bucket.stream(id)
        await anext(stream)
        works: list[Callable[[], Awaitable[object]]] = [
            lambda: used_up(found),
            lambda: used_up(stream),
            lambda: used_up(animals),
            lambda: used_up(bucket.check()),
            lambda: bucket.read(id),
            lambda: bucket.stat(id),
            lambda: bucket.by_name("name"),
        ]
        assert own_server.pid is not None
        stop_process(own_server.pid)
        try:
            with soon():
                assert all(await asyncio.gather(*(cancelled(work) for work in works)))
        finally:
            os.kill(own_server.pid, signal.SIGCONT)


class Cat(FileDocument, BeanieDocument):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()


class Dog(FileModel, ODManticModel):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()


@pytest.mark.usefixtures("long")
async def test_a_deadline_ends_a_save_at_once_after_the_server_has_gone(own_server: EmbeddedServer) -> None:
    client = AsyncMongoClient[dict[str, Any]](own_server.uri)
    await init_beanie(database=client["zoo"], document_models=[Cat])
    engine = AsyncEngine(client, "zoo")
    cats = [await Cat(photo=b"old").insert() for _ in range(3)]
    dogs: list[Any] = [await engine.save(Dog.model_validate({"photo": b"old"})) for _ in range(2)]
    dogs[0].name = "new"
    own_server.stop()
    with anyio.fail_after(30):
        while client.topology_description.has_writable_server():  # noqa: ASYNC110  # the driver has no event
            await asyncio.sleep(0.05)  # the driver has no event for it
    works: list[Callable[[], Awaitable[object]]] = [
        cats[0].save,
        cats[1].delete,
        lambda: cats[2].update({"$set": {"name": "new"}}),
        lambda: engine.save(dogs[0]),
        lambda: engine.delete(dogs[1]),
    ]
    with soon():
        assert all(await asyncio.gather(*(cancelled(work) for work in works)))
    with anyio.move_on_after(1):  # it would look for a server for 30 seconds
        await client.close()


async def in_transaction(client: AsyncMongoClient[dict[str, Any]], bucket: Bucket) -> None:
    async with gridproxy.transaction(client) as tx:
        await bucket.upload(LARGE, session=tx.session)


async def quiet(client: AsyncMongoClient[dict[str, Any]]) -> None:
    """Wait until the server has carried out everything that it was sent."""
    before: object = None
    while before != (now := [await client["zoo"][each].count_documents({}) for each in ("fs.files", "fs.chunks")]):
        before = now
        await asyncio.sleep(0.5)


@pytest.mark.usefixtures("short")
async def test_chunks_stay_if_the_record_may_have_been_inserted(link: Link, bucket: Bucket) -> None:
    await bucket.ensure_indexes()
    async with AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll") as client:
        through = Bucket(client[bucket.database.name], chunk_size=CHUNK)
        await through.ensure_indexes()
        for content in (b"small", LARGE):
            # The server inserts the record, and the client never learns of it.
            only = "insert fs.files" if content is LARGE else "bulkWrite 1"
            link.strike(Break.STALL_AFTER, times=None, only=only)
            task = asyncio.create_task(through.upload(content))
            assert await link.hit_by(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert "collect_garbage()" in caught.value.__notes__[0]
        link.heal()
    files, orphans = await files_and_orphans(bucket.database)
    assert (sorted(files.values(), key=len), orphans) == ([b"small", LARGE], [])


@pytest.fixture
async def silent() -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Yield a client of a server that accepts connections and says nothing, not even hello."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = AsyncMongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}", connectTimeoutMS=500)
        yield client
        with anyio.move_on_after(5):
            await client.close()


@pytest.mark.usefixtures("long")
async def test_a_deadline_ends_an_operation_at_once_if_nothing_was_sent(
    silent: AsyncMongoClient[dict[str, Any]],
) -> None:
    bucket = Bucket(silent["zoo"])
    works: list[Callable[[], Awaitable[object]]] = [
        lambda: bucket.upload(b"small"),
        lambda: bucket.upload(b"small", id="mine"),
        lambda: bucket.upload_many([b"one"]),
        lambda: bucket.delete(1),
        lambda: bucket.delete_many([1, 2]),
        lambda: bucket.rename(1, "new"),
        lambda: bucket.rename_by_name("old", "new"),
        lambda: bucket.update_metadata(1, a=1),
        lambda: bucket.discard(1),
        bucket.drop,
        lambda: Animal(photo=b"new").save(),
        lambda: Animal().save(),
        lambda: bucket.file(1).delete(),
    ]
    with soon(), gridproxy.using(bucket.database):
        assert all(await asyncio.gather(*(cancelled(work) for work in works)))
        with pymongo.timeout(0.3):
            for error in await asyncio.gather(*(work() for work in works), return_exceptions=True):
                assert isinstance(error, PyMongoError), error
                assert error.timeout


@pytest.mark.usefixtures("long")
async def test_a_first_upload_keeps_its_own_deadline_and_leaves_the_indexes_to_the_others(
    link: Link, bucket: Bucket
) -> None:
    async with AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll") as client:
        await client.admin.command("ping")
        through = Bucket(client[bucket.database.name])
        link.strike(Break.STALL_BEFORE, times=None, only="listIndexes fs.files")
        patient = asyncio.create_task(through.upload(b"patient"))
        with soon():
            assert await cancelled(lambda: through.upload(b"one"))
            with pymongo.timeout(0.3), pytest.raises(PyMongoError) as caught:
                await through.upload(b"two")
            assert caught.value.timeout
            with anyio.move_on_after(0.3):
                await through.upload(b"three")
        assert not patient.done()
        link.heal()
        assert (await patient).length == 7
        assert len(await bucket.database["fs.files"].index_information()) == 2
    files, orphans = await files_and_orphans(bucket.database)
    assert (list(files.values()), orphans) == ([b"patient"], [])


@pytest.mark.usefixtures("long")
async def test_the_indexes_are_looked_for_again_after_every_caller_has_left(link: Link, bucket: Bucket) -> None:
    async with AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll") as client:
        through = Bucket(client[bucket.database.name])
        link.strike(Break.STALL_BEFORE, times=None, only="listIndexes fs.files")
        with soon():
            assert all(await asyncio.gather(*(cancelled(lambda: through.upload(b"some")) for _ in range(3))))
            assert through.store.state.indexing == {}
            link.heal()
            await through.upload(b"content")
        assert len(await bucket.database["fs.files"].index_information()) == 2


@pytest.mark.usefixtures("long")
async def test_waiting_for_a_connection_respects_the_deadline_of_the_driver(link: Link, bucket: Bucket) -> None:
    id = (await bucket.upload(LARGE)).id
    async with AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll", maxPoolSize=2) as client:
        through = Bucket(client[bucket.database.name])
        await through.stat(id)
        link.strike(Break.STALL_BEFORE, times=None, only="find fs.chunks")
        hanging = asyncio.create_task(through.read(id))
        await link.hit_by(hanging)
        with soon(), pymongo.timeout(0.3), pytest.raises(WaitQueueTimeoutError):
            await through.read(id)
        hanging.cancel()
        await asyncio.wait({hanging})


async def test_an_abort_deletes_any_number_of_chunks_with_one_command(
    database: Database, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.gridfs.records.chunks._BATCH_CHUNKS", 100)
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[commands]) as client:
        bucket = Bucket(client[database.name], chunk_size=1)
        for id in (None, "mine"):
            writer = await bucket.open_upload(id=id)
            await writer.write(bytes(600))
            assert len(commands.of("insert")) >= 4  # of six batches, as many as are sent at once
            commands.clear()
            await writer.abort()
            assert len(commands.of("delete")) == 1
    assert await files_and_orphans(database) == ({}, [])


SCRIPT = """
import asyncio, os, signal, sys
from pymongo import AsyncMongoClient
from gridproxy import Bucket
from gridproxy.runtime import tasks
from tests.faults.stopping import stop_process

tasks.SETTLE_SECONDS = 1.0

async def main():
    bucket = Bucket(AsyncMongoClient(sys.argv[1])["ctrl_c"])
    await bucket.upload(b"first")
    stop_process(int(sys.argv[2]))
    asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGINT)
    await bucket.upload(b"second")

try:
    asyncio.run(main())
except KeyboardInterrupt as error:
    print("interrupted", "collect_garbage()" in "".join(error.__context__.__notes__))
"""


def test_the_first_ctrl_c_ends_a_script_although_the_server_is_stopped(own_server: EmbeddedServer) -> None:
    assert own_server.pid is not None
    try:
        with soon():
            run = subprocess.run(
                [sys.executable, "-c", SCRIPT, own_server.uri, str(own_server.pid)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    assert run.stdout == "interrupted True\n", (run.returncode, run.stderr)
