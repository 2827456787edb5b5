"""Motor, the synchronous driver and an event loop other than asyncio's: one sentence says what to use instead."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorGridFSBucket
from pymongo import AsyncMongoClient, MongoClient

import gridproxy
from gridproxy import AsyncGridFile, AsyncioRequired, BadOption, Bucket, FileOptions
from gridproxy.adapters.document import FileField
from gridproxy.adapters.odmantic import AsyncEngine
from gridproxy.fields import DefaultDatabase

from ..observing import Database

NOWHERE = "mongodb://127.0.0.1:1"
MOTOR = "which is Motor's: replace Motor's client by pymongo's AsyncMongoClient"
SYNCHRONOUS = "which is synchronous: replace MongoClient by AsyncMongoClient"


def motor() -> Any:
    return AsyncIOMotorClient(NOWHERE)


def synchronous() -> Any:
    return MongoClient(NOWHERE, connect=False)


# Each is made inside its test, because Motor looks for the running event loop.
OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "Motor's client": (motor, MOTOR),
    "Motor's database": (lambda: motor()["zoo"], MOTOR),
    "Motor's collection": (lambda: motor()["zoo"]["fs"], MOTOR),
    "Motor's bucket": (lambda: AsyncIOMotorGridFSBucket(motor()["zoo"]), MOTOR),
    "synchronous client": (synchronous, SYNCHRONOUS),
    "synchronous database": (lambda: synchronous()["zoo"], SYNCHRONOUS),
    "synchronous collection": (lambda: synchronous()["zoo"]["fs"], SYNCHRONOUS),
}


async def use_factory(database: Any) -> None:
    with gridproxy.using(lambda: database):
        await AsyncGridFile().put(b"x")


async def use(database: Any) -> None:
    with gridproxy.using(database):
        pass


async def open_transaction(client: Any) -> None:
    async with gridproxy.transaction(client):
        pass


async def nothing(_: object) -> None:
    pass


async def calling(function: Callable[[Any], object], argument: Any) -> None:
    function(argument)


ENTRY_POINTS: dict[str, Callable[[Any], Coroutine[Any, Any, object]]] = {
    "connect": lambda each: calling(gridproxy.connect, each),
    "using": use,
    "a factory": use_factory,
    "Bucket": lambda each: calling(Bucket, each),
    "transaction": open_transaction,
    "with_transaction": lambda each: gridproxy.with_transaction(each, nothing),
    "rewrite_references": lambda each: gridproxy.rewrite_references(each, "photo"),
    "AsyncEngine": lambda each: calling(AsyncEngine, each),
    "DefaultDatabase": lambda each: calling(lambda one: DefaultDatabase(one).options(FileOptions()), each),
    "references": lambda each: Bucket(AsyncMongoClient[Any](NOWHERE, connect=False)["zoo"]).collect_garbage(
        unreferenced=True, references=[(each, "photo")]
    ),
}


@pytest.mark.parametrize(("other", "advice"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("entry", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
async def test_an_object_of_another_driver_is_refused_at_once(
    entry: Callable[[Any], Coroutine[Any, Any, object]], other: Callable[[], Any], advice: str
) -> None:
    with pytest.raises(BadOption) as caught:
        await entry(other())
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("other", "advice"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    "entry",
    [FileOptions, lambda each: AsyncGridFile(bucket=each), lambda each: FileField(bucket=each)],
    ids=["FileOptions", "AsyncGridFile", "FileField"],
)
async def test_so_it_is_as_a_bucket(entry: Callable[[Any], object], other: Callable[[], Any], advice: str) -> None:
    with pytest.raises(BadOption, match="bucket is a Bucket, a bucket's name or None, not ") as caught:
        entry(other())
    assert advice in str(caught.value)


async def test_a_factory_may_be_any_callable(database: Database) -> None:
    for factory in (lambda: database, MagicMock(return_value=database)):
        with gridproxy.using(factory):
            assert (await AsyncGridFile().put(b"x")).length == 1


class FakeMotorSession:
    """A session of Motor's, which cannot be made without a server."""

    __module__ = "motor.motor_asyncio"
    __hash__ = None  # type: ignore[assignment]  # as Motor's


OPERATIONS: dict[str, Callable[[Bucket, Any], Awaitable[object]]] = {
    "upload": lambda bucket, session: bucket.upload(b"x", session=session),
    "upload_many": lambda bucket, session: bucket.upload_many([b"x"], session=session),
    "stat": lambda bucket, session: bucket.stat(1, session=session),
    "read": lambda bucket, session: bucket.read(1, session=session),
    "find": lambda bucket, session: anext(aiter(bucket.find(session=session))),
    "rename": lambda bucket, session: bucket.rename(1, "x", session=session),
    "delete": lambda bucket, session: bucket.delete(1, session=session),
    "put": lambda bucket, session: AsyncGridFile(bucket=bucket).put(b"x", session=session),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_session_of_another_driver_is_refused(
    bucket: Bucket, mongodb_uri: str, operation: Callable[[Bucket, Any], Awaitable[object]]
) -> None:
    with MongoClient[Any](mongodb_uri) as client, client.start_session() as synchronous:
        for session, advice in (synchronous, SYNCHRONOUS), (FakeMotorSession(), MOTOR):
            with pytest.raises(BadOption, match="session is a session of pymongo's AsyncMongoClient") as caught:
                await operation(bucket, session)
            assert advice in str(caught.value)


# Without asyncio. These calls were seen on trio 0.35, whose tasks have no event loop of asyncio either. Trio itself is
# not here, because its plugin for Hypothesis warns in every session of pytest.


async def iterate(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


async def write(bucket: Bucket) -> None:
    async with bucket.open_upload() as upload:
        await upload.write(b"x")


async def read_opened(bucket: Bucket) -> None:
    async with bucket.file(1).open() as reader:
        await reader.read()


WITHOUT_ASYNCIO: dict[str, Callable[[Bucket], Coroutine[Any, Any, object]]] = {
    "upload": lambda bucket: bucket.upload(b"x"),
    "upload of several batches": lambda bucket: bucket.upload(bytes(10_000_000)),
    "upload under an id": lambda bucket: bucket.upload(b"x", id=1),
    "upload_many": lambda bucket: bucket.upload_many([b"x"]),
    "open_upload": write,
    "put": lambda bucket: AsyncGridFile(bucket=bucket).put(b"x"),
    "stage": lambda bucket: bucket.stage(b"x"),
    "stat": lambda bucket: bucket.stat(1),
    "read": lambda bucket: bucket.read(1),
    "read_many": lambda bucket: bucket.read_many([1]),
    "stream": lambda bucket: iterate(bucket.stream(1)),
    "open": read_opened,
    "find": lambda bucket: iterate(bucket.find()),
    "by_name": lambda bucket: bucket.by_name("x"),
    "file.read": lambda bucket: bucket.file(1).read(),
    "file.delete": lambda bucket: bucket.file(1).delete(),
    "delete": lambda bucket: bucket.delete(1),
    "delete_many": lambda bucket: bucket.delete_many([1]),
    "delete_by_name": lambda bucket: bucket.delete_by_name("x"),
    "rename": lambda bucket: bucket.rename(1, "x"),
    "rename_by_name": lambda bucket: bucket.rename_by_name("x", "y"),
    "update_metadata": lambda bucket: bucket.update_metadata(1, a=1),
    "copy": lambda bucket: bucket.copy(1),
    "verify": lambda bucket: bucket.verify(1),
    "check": lambda bucket: iterate(bucket.check()),
    "collect_garbage": lambda bucket: bucket.collect_garbage(),
    "ensure_indexes": lambda bucket: bucket.ensure_indexes(),
    "drop": lambda bucket: bucket.drop(),
    "transaction": lambda bucket: open_transaction(bucket.database.client),
    "with_transaction": lambda bucket: gridproxy.with_transaction(bucket.database.client, nothing),
}


@pytest.mark.parametrize("operation", WITHOUT_ASYNCIO.values(), ids=WITHOUT_ASYNCIO)
def test_without_asyncio_one_sentence_says_what_is_missing(
    database_without_server: Database, operation: Callable[[Bucket], Coroutine[Any, Any, object]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that was never awaited
        work = operation(Bucket(database_without_server))
        with pytest.raises(AsyncioRequired, match="gridproxy needs asyncio"):
            cast(Any, work).send(None)
        work.close()
