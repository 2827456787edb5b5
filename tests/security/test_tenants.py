"""Tenants in databases of their own: an object of one tenant never becomes the other tenant's file of the same id."""

from __future__ import annotations

import copy
import pickle
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from fastapi import Depends, FastAPI
from pymongo.asynchronous.database import AsyncDatabase

import gridproxy
from gridproxy import AsyncGridFile, BadId, Bucket, FileInfo, FileOptions, NotConnected, prefetch
from gridproxy.adapters.starlette import GridFileResponse
from gridproxy.fields import assign
from tests.web.asgi import Exchange

Database = AsyncDatabase[dict[str, Any]]

OURS = b"our marmot, whose life is long"
THEIRS = b"their secret, as long as ours!"


@pytest.fixture
async def theirs(database: Database) -> AsyncIterator[Database]:
    """Yield the database of another tenant. It has a file under the same id, and so has the default database."""
    other = database.client[f"gridproxy_test_{uuid.uuid4().hex}"]
    await Bucket(database).upload(OURS, id="x", filename="ours.txt", chunk_size=10)
    await Bucket(other).upload(THEIRS, id="x", filename="theirs.txt", chunk_size=10)
    gridproxy.connect(other)
    yield other
    gridproxy.disconnect()
    await database.client.drop_database(other.name)


async def loaded_by_stat(file: AsyncGridFile) -> AsyncGridFile:
    await file.stat()
    return file


async def half_read(file: AsyncGridFile) -> AsyncGridFile:
    assert await file.read(3) == OURS[:3]
    await file.seek(0)
    return file


async def streamed(file: AsyncGridFile) -> AsyncGridFile:
    async for _ in file.stream(0, 5):
        break
    return file


async def prefetched(file: AsyncGridFile) -> AsyncGridFile:
    await prefetch([{"file": file}], "file", content=True)
    return file


async def range_read(file: AsyncGridFile) -> AsyncGridFile:
    await file.read_range(0, 5)
    return file


async def copied(file: AsyncGridFile) -> AsyncGridFile:
    await file.stat()
    return copy.deepcopy(copy.copy(file))


async def replaced(file: AsyncGridFile) -> AsyncGridFile:
    await file.replace(OURS, id="y")
    return file


async def written(file: AsyncGridFile) -> AsyncGridFile:
    async with file.new_file(replace=True):
        file.write(OURS)
    return file


async def a_copy_of_the_server(file: AsyncGridFile) -> AsyncGridFile:
    return await file.copy()


async def renamed(file: AsyncGridFile) -> AsyncGridFile:
    await file.rename("ours too.txt")
    return file


LOADING = [
    loaded_by_stat,
    half_read,
    streamed,
    prefetched,
    range_read,
    copied,
    replaced,
    written,
    a_copy_of_the_server,
    renamed,
]


@pytest.mark.parametrize("load", LOADING)
async def test_a_loaded_file_stays_with_its_database_after_the_block(
    database: Database, theirs: Database, load: Callable[[AsyncGridFile], Awaitable[AsyncGridFile]]
) -> None:
    with gridproxy.using(database):
        file = await load(AsyncGridFile("x"))
    assert file.state.store().database.name == database.name
    assert await file.read() == OURS
    assert await file.exists()
    assert b"".join([block async for block in file]) == OURS
    assert (await Exchange().run(GridFileResponse(file))).body == OURS
    await file.update_metadata(seen=True)
    await file.replace(b"ours again")
    await file.delete()
    assert not file
    assert await Bucket(theirs).read("x") == THEIRS
    assert (await Bucket(theirs).stat("x")).metadata.keys() == {"content_type", "sha256"}


@pytest.mark.parametrize("load", LOADING)
async def test_a_loaded_file_refuses_the_block_of_another_database(
    database: Database, theirs: Database, load: Callable[[AsyncGridFile], Awaitable[AsyncGridFile]]
) -> None:
    with gridproxy.using(database):
        file = await load(AsyncGridFile("x"))
    works: list[Callable[[], Awaitable[object]]] = [
        file.read,
        file.stat,
        file.delete,
        file.copy,
        lambda: file.replace(b"x"),
        lambda: file.update_metadata(a=1),
        lambda: AsyncGridFile().put(file),
        lambda: prefetch([{"file": file.thumbnail}, {"file": copy.copy(file)}], "file", content=True),
    ]
    with gridproxy.using(theirs):
        for work in works[:-1]:
            with pytest.raises(NotConnected, match=f"loaded from the database '{database.name}'"):
                await work()
        with pytest.raises(NotConnected):
            GridFileResponse(file)
    with gridproxy.using(database):  # another block of the same database
        assert await file.read() == OURS
    assert await Bucket(theirs).read("x") == THEIRS


async def test_a_pickle_refuses_a_database_of_another_name(database: Database, theirs: Database) -> None:
    with gridproxy.using(database):
        file = AsyncGridFile("x")
        await file.stat()
        again: AsyncGridFile = pickle.loads(pickle.dumps(copy.deepcopy(file)))
        assert await again.read() == OURS
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(file))))
    assert again == file
    assert again.filename == "ours.txt"
    for work in (again.read, again.delete, again.stat):
        with pytest.raises(NotConnected, match="another file"):
            await work()
    with gridproxy.using(database):
        assert await again.read() == OURS
    assert pickle.loads(pickle.dumps(AsyncGridFile("x"))) == AsyncGridFile("x")


async def test_a_file_of_the_default_database_keeps_it_inside_a_block(database: Database, theirs: Database) -> None:
    file = AsyncGridFile("x")
    await file.stat()
    with gridproxy.using(database):
        assert await file.read() == THEIRS
        copied = AsyncGridFile()
        await copied.put(file)  # from the default database to that of the block
    assert copied.state.store().database.name == database.name
    gridproxy.connect(database)  # replaces the default for all objects
    assert await file.read() == OURS


async def test_an_unloaded_file_is_looked_up_at_each_operation(database: Database, theirs: Database) -> None:
    with gridproxy.using(database):
        file = AsyncGridFile("x")
    assert await file.exists()
    assert file.filename == "theirs.txt"


async def test_the_position_of_a_half_read_file_is_in_its_own_database(database: Database, theirs: Database) -> None:
    with gridproxy.using(database):
        file = AsyncGridFile("x")
        assert await file.read(12) == OURS[:12]
    assert await file.read() == OURS[12:]


async def test_a_response_is_sent_from_the_database_of_the_block_that_made_it(
    database: Database, theirs: Database
) -> None:
    app = FastAPI()

    async def tenant() -> AsyncIterator[None]:
        with gridproxy.using(database):
            yield

    @app.get("/block")
    async def block() -> GridFileResponse:
        with gridproxy.using(database):
            return GridFileResponse(AsyncGridFile("x"))

    @app.get("/dependency", dependencies=[Depends(tenant)])
    async def dependency() -> GridFileResponse:
        return GridFileResponse(AsyncGridFile("x"))

    @app.get("/default")
    async def default() -> GridFileResponse:
        return GridFileResponse(AsyncGridFile("x"))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tenants") as browser:
        for path, body in (("/block", OURS), ("/dependency", OURS), ("/default", THEIRS)):
            assert (await browser.get(path)).content == body


async def test_a_synchronous_dependency_with_using_is_refused(database: Database, theirs: Database) -> None:
    """FastAPI runs it in a thread with a context of its own, so the file would be that of the default database."""
    app = FastAPI()

    def tenant() -> Iterator[None]:
        with gridproxy.using(database):
            yield

    @app.get("/", dependencies=[Depends(tenant)])
    async def default() -> GridFileResponse:
        return GridFileResponse(AsyncGridFile("x"))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tenants") as browser:
        with pytest.raises(NotConnected, match=r"synchronous dependency .*tenant.*`async def`"):
            await browser.get("/")


async def test_using_has_its_effect_in_a_worker_thread(database: Database, theirs: Database) -> None:
    @contextmanager
    def tenant() -> Iterator[None]:
        with gridproxy.using(database):
            yield

    def work() -> bytes:
        with tenant():
            return anyio.from_thread.run(AsyncGridFile("x").read)

    assert await anyio.to_thread.run_sync(work) == OURS
    ran: list[str] = []

    def in_a_thread() -> None:
        with tenant():
            ran.append(AsyncGridFile("x").state.store().database.name)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert ran == [database.name]


async def test_a_field_does_not_take_the_file_of_another_tenant(database: Database, theirs: Database) -> None:
    options = FileOptions(max_size=1000)
    with gridproxy.using(database):
        file = AsyncGridFile("x")
        await file.stat()
    with pytest.raises((BadId, NotConnected)):
        assign(AsyncGridFile(options=options), file, options)
    with gridproxy.using(theirs), pytest.raises((BadId, NotConnected)):
        assign(AsyncGridFile(options=options), file, options)
    with gridproxy.using(database):
        assert assign(AsyncGridFile(options=options), file, options) is file


async def test_a_transaction_that_is_aborted_gives_the_database_back(database: Database, theirs: Database) -> None:
    with gridproxy.using(database):
        file = AsyncGridFile("x")
        with pytest.raises(LookupError):
            async with gridproxy.transaction(database.client) as tx:
                await file.replace(b"new", session=tx.session)
                raise LookupError
    # The record was not loaded before the transaction, so the file is looked up again.
    assert file.state.home is None
    assert (await file.stat()).filename == "theirs.txt"


async def test_variants_are_in_the_database_of_their_picture(database: Database) -> None:
    info = FileInfo.from_record({"_id": "x", "length": 0, "metadata": {"thumbnail_id": "t", "variants": {"v": "w"}}})
    file = AsyncGridFile("x", info=info)
    with gridproxy.using(database):
        file.state.home = file.state.store().origin
    for variant in (file.thumbnail, file.variants["v"]):
        assert variant.state.store().database.name == database.name
