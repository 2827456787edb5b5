"""Every public operation, called on a server that accepts commands and answers none, under every kind of deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import beanie
import odmantic
import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

import gridproxy
from gridproxy import AsyncGridFile, Bucket, CommitUnknown, OutcomeUnknown
from gridproxy.adapters import beanie as files_in_beanie
from gridproxy.adapters import odmantic as files_in_odmantic
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.transactions.transactions import Transaction

__all__ = ["KINDS", "OPERATIONS", "Call", "Cell", "Kind", "Place", "Prepare", "cell_of"]

Call = Callable[[], Awaitable[object]]

LARGE = bytes(20_000)  # of chunks of 1,024 bytes, two to a batch
# The deadline of each call, in seconds.
DEADLINE = 0.3


class Animal(Document):
    photo = FileField(on_delete="delete")


class BeanieAnimal(files_in_beanie.FileDocument, beanie.Document):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()


class OdmanticAnimal(files_in_odmantic.FileModel, odmantic.Model):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()


def odmantic_animal(photo: Any) -> OdmanticAnimal:
    values: dict[str, Any] = {"photo": photo}
    return OdmanticAnimal(**values)


@dataclass(frozen=True)
class Place:
    """A bucket on the way that falls silent, with one small and one large file in it."""

    bucket: Bucket
    small: object
    large: object
    folder: Path
    animal: object
    beanie_animal: Any
    odmantic_animal: object

    @property
    def client(self) -> AsyncMongoClient[Any]:
        return self.bucket.database.client

    def file(self, *, large: bool = False) -> AsyncGridFile:
        return self.bucket.file(self.large if large else self.small)

    def new(self) -> AsyncGridFile:
        return AsyncGridFile(bucket=self.bucket)

    async def stored(self) -> Animal:
        """Return the built-in document that is stored."""
        animal: Animal = await Animal.objects(id=self.animal).get()
        return animal

    @property
    def engine(self) -> files_in_odmantic.AsyncEngine:
        return files_in_odmantic.AsyncEngine(self.client, self.bucket.database.name)


Prepare = Callable[[Place], Awaitable[Call]]
OPERATIONS: dict[str, Prepare] = {}


def operation(name: str) -> Callable[[Prepare], Prepare]:
    def add(prepare: Prepare) -> Prepare:
        OPERATIONS[name] = prepare
        return prepare

    return add


def at_once(name: str, call: Callable[[Place], Awaitable[object]]) -> None:
    """Add an operation that needs nothing to be made ready."""

    async def prepare(place: Place) -> Call:
        return lambda: call(place)

    OPERATIONS[name] = prepare


async def used_up(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


at_once("Bucket.upload", lambda place: place.bucket.upload(b"small"))
at_once("Bucket.upload, with an id", lambda place: place.bucket.upload(b"small", id="mine"))
at_once("Bucket.upload, many batches", lambda place: place.bucket.upload(LARGE))
at_once("Bucket.upload_many", lambda place: place.bucket.upload_many([b"one", b"two"]))
at_once("Bucket.stage", lambda place: place.bucket.stage(LARGE))
at_once("Bucket.resumable", lambda place: place.bucket.resumable())
at_once("Bucket.discard", lambda place: place.bucket.discard("mine"))
at_once("Bucket.copy", lambda place: place.bucket.copy(place.small))
at_once("Bucket.read", lambda place: place.bucket.read(place.small))
at_once("Bucket.read_ranges", lambda place: place.bucket.read_ranges(place.large, [(0, 5), (9000, 9001)]))
at_once("Bucket.read_many", lambda place: place.bucket.read_many([place.small, place.large]))
at_once("Bucket.stat", lambda place: place.bucket.stat(place.small))
at_once("Bucket.stat_many", lambda place: place.bucket.stat_many([place.small]))
at_once("Bucket.find", lambda place: used_up(place.bucket.find()))
at_once("Bucket.by_name", lambda place: place.bucket.by_name("name"))
at_once("Bucket.find_one", lambda place: place.bucket.find_one())
at_once("Bucket.exists", lambda place: place.bucket.exists({"filename": "name"}))
at_once("Bucket.revisions", lambda place: used_up(place.bucket.revisions("name")))
at_once("Bucket.prune", lambda place: place.bucket.prune("name", keep=1))
at_once("Bucket.set_expiry", lambda place: place.bucket.set_expiry(place.small, None))
at_once("Bucket.rename", lambda place: place.bucket.rename(place.small, "new"))
at_once("Bucket.rename_by_name", lambda place: place.bucket.rename_by_name("name", "new"))
at_once("Bucket.update_metadata", lambda place: place.bucket.update_metadata(place.small, a=1))
at_once("Bucket.delete", lambda place: place.bucket.delete(place.small))
at_once("Bucket.delete_by_name", lambda place: place.bucket.delete_by_name("name"))
at_once("Bucket.delete_many", lambda place: place.bucket.delete_many([place.small, place.large]))
at_once("Bucket.ensure_indexes", lambda place: Bucket(place.bucket.database, "other").ensure_indexes())
at_once("Bucket.verify", lambda place: place.bucket.verify(place.large))
at_once("Bucket.check", lambda place: used_up(place.bucket.check()))
at_once("Bucket.collect_garbage", lambda place: place.bucket.collect_garbage(dry_run=False))
at_once("Bucket.drop", lambda place: Bucket(place.bucket.database, "other").drop())


@operation("Bucket.find, next batch")
async def _(place: Place) -> Call:
    found = place.bucket.find(batch_size=1)
    await anext(found)
    return lambda: used_up(found)


@operation("Bucket.resume")
async def _(place: Place) -> Call:
    begun = await place.bucket.resumable()
    return lambda: place.bucket.resume(begun.id)


@operation("ResumableUpload.append")
async def _(place: Place) -> Call:
    upload = await place.bucket.resumable()
    return lambda: upload.append(LARGE)


@operation("ResumableUpload.finish")
async def _(place: Place) -> Call:
    upload = await place.bucket.resumable()
    await upload.append(b"small")
    return upload.finish


@operation("ResumableUpload.abort")
async def _(place: Place) -> Call:
    upload = await place.bucket.resumable()
    return upload.abort


@operation("Bucket.publish")
async def _(place: Place) -> Call:
    staged = await place.bucket.stage(b"staged")
    return lambda: place.bucket.publish(staged)


@operation("Bucket.stream, in the middle")
async def _(place: Place) -> Call:
    stream = place.bucket.stream(place.large)
    await anext(stream)
    return lambda: used_up(stream)


@operation("Bucket.open_upload, write")
async def _(place: Place) -> Call:
    async def call() -> None:
        async with place.bucket.open_upload() as writer:
            await writer.write(LARGE)
            await writer.write(LARGE)

    return call


@operation("Bucket.open_upload, close")
async def _(place: Place) -> Call:
    writer = await place.bucket.open_upload()
    writer.write(b"small")
    return writer.close


@operation("Bucket.open_upload, abort")
async def _(place: Place) -> Call:
    writer = await place.bucket.open_upload()
    await writer.write(LARGE)
    return writer.abort


at_once("AsyncGridFile.put", lambda place: place.new().put(b"small"))
at_once("AsyncGridFile.put, many batches", lambda place: place.new().put(LARGE))
at_once("AsyncGridFile.replace", lambda place: place.file().replace(b"small"))
at_once("AsyncGridFile.get", lambda place: place.file().get())
at_once("AsyncGridFile.read", lambda place: place.file().read())
at_once("AsyncGridFile.readline", lambda place: place.file().readline())
at_once("AsyncGridFile.readlines", lambda place: place.file().readlines())
at_once("AsyncGridFile.readinto", lambda place: place.file().readinto(bytearray(10)))
at_once("AsyncGridFile.read_text", lambda place: place.file().read_text())
at_once("AsyncGridFile.lines", lambda place: used_up(place.file().lines()))
at_once("AsyncGridFile.seek, from the end", lambda place: place.file().seek(-1, 2))
at_once("AsyncGridFile.stream", lambda place: used_up(place.file().stream()))
at_once("AsyncGridFile.read_range", lambda place: place.file().read_range(0, 3))
at_once("AsyncGridFile.read_ranges", lambda place: place.file().read_ranges([(0, 3)]))
at_once("AsyncGridFile.save_to", lambda place: place.file().save_to(place.folder / "saved"))
at_once("AsyncGridFile.stat", lambda place: place.file().stat())
at_once("AsyncGridFile.exists", lambda place: place.file().exists())
at_once("AsyncGridFile.verify", lambda place: place.file().verify())
at_once("AsyncGridFile.update_metadata", lambda place: place.file().update_metadata(a=1))
at_once("AsyncGridFile.rename", lambda place: place.file().rename("new"))
at_once("AsyncGridFile.copy", lambda place: place.file().copy())
at_once("AsyncGridFile.delete", lambda place: place.file().delete())


@operation("AsyncGridFile.open")
async def _(place: Place) -> Call:
    async def call() -> None:
        await place.file().open()

    return call


@operation("AsyncGridFile.new_file, write, close")
async def _(place: Place) -> Call:
    async def call() -> None:
        async with place.new().new_file() as file:
            await file.write(LARGE)

    return call


@operation("AsyncGridFile.abort")
async def _(place: Place) -> Call:
    file = place.new()
    await file.new_file()
    await file.write(LARGE)
    return file.abort


@operation("AsyncGridFile.finalize")
async def _(place: Place) -> Call:
    file = (await place.stored()).photo
    await file.replace(b"new")
    return file.finalize


@operation("AsyncGridFile.revert")
async def _(place: Place) -> Call:
    file = (await place.stored()).photo
    await file.replace(b"new")
    return file.revert


@operation("prefetch")
async def _(place: Place) -> Call:
    animal = await place.stored()
    return lambda: gridproxy.prefetch([animal], "photo")


@operation("transaction, put")
async def _(place: Place) -> Call:
    async def call() -> None:
        async with gridproxy.transaction(place.client) as tx:
            await place.new().put(LARGE, session=tx.session)

    return call


@operation("with_transaction, delete")
async def _(place: Place) -> Call:
    async def callback(tx: Transaction) -> None:
        await place.bucket.delete(place.small, session=tx.session)

    return lambda: gridproxy.with_transaction(place.client, callback)


at_once("Document.save, new", lambda place: Animal(photo=b"new").save())


@operation("Document.save")
async def _(place: Place) -> Call:
    animal = await place.stored()
    await animal.photo.replace(b"new")
    return animal.save


@operation("Document.delete")
async def _(place: Place) -> Call:
    animal = await place.stored()
    return animal.delete


@operation("Document.reload")
async def _(place: Place) -> Call:
    animal = await place.stored()
    return animal.reload


at_once("Beanie: insert", lambda place: BeanieAnimal(photo=b"new").insert())


@operation("Beanie: save")
async def _(place: Place) -> Call:
    animal = await BeanieAnimal.get(place.beanie_animal)
    assert animal is not None
    animal.name, animal.photo = "new", b"new"  # type: ignore[assignment]  # content for the next save
    return animal.save


@operation("Beanie: delete")
async def _(place: Place) -> Call:
    animal = await BeanieAnimal.get(place.beanie_animal)
    assert animal is not None
    return animal.delete


@operation("ODMantic: engine.save")
async def _(place: Place) -> Call:
    return lambda: place.engine.save(odmantic_animal(b"new"))


@operation("ODMantic: engine.delete")
async def _(place: Place) -> Call:
    animal = await place.engine.find_one(OdmanticAnimal, OdmanticAnimal.id == place.odmantic_animal)
    assert animal is not None
    return lambda: place.engine.delete(animal)


# Kinds of deadlines


Kind = Callable[[Call], Awaitable[object]]
KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Kind], Kind]:
    def add(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return add


@kind("`asyncio.timeout`")
async def _(call: Call) -> None:
    async with asyncio.timeout(DEADLINE):
        await call()


@kind("`anyio.fail_after`")
async def _(call: Call) -> None:
    with anyio.fail_after(DEADLINE):
        await call()


@kind("`anyio.move_on_after`")
async def _(call: Call) -> None:
    with anyio.move_on_after(DEADLINE):
        await call()


@kind("`task.cancel()`, once")
async def _(call: Call) -> None:
    await cancelled(call, 1)


@kind("`task.cancel()`, twice")
async def _(call: Call) -> None:
    await cancelled(call, 2)


@kind("`pymongo.timeout`")
async def _(call: Call) -> None:
    with pymongo.timeout(DEADLINE):
        await call()


@kind("`timeoutMS`")
async def _(call: Call) -> None:
    await call()  # the client has it


async def cancelled(call: Call, times: int) -> None:
    async def awaited() -> None:
        await call()

    task = asyncio.create_task(awaited())
    for _ in range(times):
        await asyncio.sleep(DEADLINE / times)
        task.cancel()
    await asyncio.wait({task})
    task.result()


@dataclass(frozen=True)
class Cell:
    """What one call did under one kind of deadline."""

    error: str
    waited: bool

    def __str__(self) -> str:
        return f"{self.error}, 10 s" if self.waited else self.error


def has_waited(error: BaseException) -> bool:
    """Whether the error says that the operation waited for the server after its time."""
    seen: BaseException | None = error
    while seen is not None:
        if any("collect_garbage()" in text for text in (str(seen), *getattr(seen, "__notes__", ()))):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


async def cell_of(kind: Kind, call: Call) -> Cell:
    """Call the operation and return what came out."""
    raised: list[BaseException] = []

    async def watched() -> object:
        try:
            return await call()
        except BaseException as error:
            raised.append(error)
            raise

    try:
        await kind(watched)
        error = "returns"
    except PyMongoError as caught:
        if not (caught.timeout or isinstance(caught, OutcomeUnknown | CommitUnknown)):
            raise
        # Which one, and whether there is anything to remove, depends on whether a connection was free.
        return Cell("`PyMongoError`", False)
    except (asyncio.CancelledError, TimeoutError) as caught:
        error = f"`{type(caught).__name__}`"
    return Cell(error, any(map(has_waited, raised)))
