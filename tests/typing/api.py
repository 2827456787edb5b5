"""What a type checker sees of the public API; never run, but read by mypy and by pyright, both strict."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, assert_type

import odmantic
from anyio.abc import ByteReceiveStream
from beanie import Document as BeanieDocument
from beanie import PydanticObjectId
from bson import ObjectId
from PIL import Image
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.results import DeleteResult
from starlette.requests import Request
from starlette.responses import Response

import gridproxy
from gridproxy import (
    AssignableFile,
    AsyncGridFile,
    Bucket,
    DownloadStream,
    FileInfo,
    FileOptions,
    Finding,
    GarbageReport,
    ImageOptions,
    Reader,
    Staged,
    Tally,
    Transaction,
    Writer,
    sync,
    wrap_field,
)
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.document import (
    BooleanField,
    DateTimeField,
    Document,
    FileField,
    FloatField,
    ImageField,
    IntField,
    ListField,
    QuerySet,
    StringField,
)
from gridproxy.adapters.odmantic import AsyncEngine, AsyncSession, AsyncTransaction, FileModel
from gridproxy.adapters.starlette import FilesApp, Grant, GridFileResponse, RequestBody, SignedLinks
from gridproxy.embedded import EmbeddedServer
from gridproxy.testing import FieldHarness, check_field_adapter


class Animal(Document):
    genus = StringField()
    legs = IntField()
    weight = FloatField()
    wild = BooleanField()
    born = DateTimeField()
    photo = FileField(max_size=10_000_000, content_types=["image/*"], on_delete="delete")
    portrait = ImageField(
        size=(800, 600), thumbnail_size=(100, 100, True), variants={"small": (200, 200)}, max_frames=9, timeout=5
    )
    album = ListField(FileField())


class Nest(FileDocument, BeanieDocument):
    genus: str
    photo: AssignableFile = AssignableFile()
    scan: Annotated[AssignableFile, FileOptions(max_size=10)] = AssignableFile()


async def assigned(path: Path) -> None:
    nest = Nest(genus="Pica", photo=path, scan=b"content")
    nest.photo = b"content"
    nest.scan = path
    nest.scan = None
    assert_type(nest.photo, AsyncGridFile)
    assert_type(await nest.scan.read(), bytes)
    assert_type(await Nest.find_one(Nest.photo == nest.photo), Nest | None)


class Bird(FileDocument, BeanieDocument):
    photo: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = AsyncGridFile()


class Fish(FileModel, odmantic.Model):
    photo: Annotated[AsyncGridFile, FileOptions(bucket="fishes", image=ImageOptions(size=(800, 600)))]


@dataclass
class User:
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id", as_="id", max_size=1_000_000)


class Attachment:
    async def read(self, *, use_cached: bool = False) -> bytes:
        return b"data"


async def a_file(file: AsyncGridFile) -> None:
    assert_type(await file.put(b"data", content_type="image/png", reviewed=True), FileInfo)
    assert_type(await file.replace("text", filename="a.txt"), FileInfo)
    assert_type(await file.replace(Attachment()), FileInfo)
    assert_type(await file.read(), bytes)
    assert_type(await file.readline(), bytes)
    assert_type(await file.readlines(), list[bytes])
    assert_type(await file.read_text("latin-1"), str)
    assert_type([line async for line in file.lines()], list[str])
    assert_type([line async for line in file.open()], list[bytes])
    assert_type(await file.seek(0), int)
    assert_type(file.tell(), int)
    assert_type(await file.read_range(0, 10), bytes)
    assert_type(await file.read_ranges([(0, 1), (2, 3)]), list[bytes])
    assert_type(await file.stat(), FileInfo)
    assert_type(await file.exists(), bool)
    assert_type(await file.verify(), FileInfo)
    assert_type(await file.copy(filename="b"), AsyncGridFile)
    assert_type(await file.update_metadata({"a": 1}, unset=["b"], c=2), FileInfo)
    assert_type(await file.rename("c"), FileInfo)
    assert_type(await file.save_to("path"), FileInfo)
    assert_type(await file.delete(), None)
    assert_type(await file.finalize(), None)
    assert_type(await file.revert(), None)
    assert_type(file.filename, str | None)
    assert_type(file.content_type, str | None)
    assert_type(file.length, int)
    assert_type(file.chunk_size, int | None)
    assert_type(file.upload_date, datetime | None)
    assert_type(file.metadata, Mapping[str, Any])
    assert_type(file.sha256, str | None)
    assert_type(file.etag, str | None)
    assert_type(file.info, FileInfo | None)
    assert_type(file.closed, bool)
    assert_type(file.id, object)


async def writing(file: AsyncGridFile) -> None:
    async with file.new_file(replace=True) as bound:
        assert_type(bound, AsyncGridFile)
        later: Awaitable[int] = file.write(b"data")
        count: int = file.write(b"data")
        assert_type(await later + count, int)
        assert_type(await file.writelines(["a", b"b"]), int)
    await file.new_file()
    assert_type(await file.close(), None)
    assert_type(await file.abort(), None)


async def reading(file: AsyncGridFile) -> None:
    async with file.open() as reader:
        assert_type(reader, Reader)
        assert_type(await reader.read(1), bytes)
    stream = file.stream(1, 2)
    assert_type(stream, DownloadStream)
    async for block in stream:
        assert_type(block, bytes)
    async for block in file:
        assert_type(block, bytes)


async def a_bucket(database: AsyncDatabase[dict[str, Any]]) -> None:
    bucket = Bucket(database, "photos", checksum=None)
    assert_type(await bucket.upload(b"data"), FileInfo)
    assert_type(await bucket.upload_many({"a": b"1"}), list[FileInfo])
    assert_type(await bucket.read(1), bytes)
    assert_type(await bucket.stat_many([1]), dict[object, FileInfo])
    assert_type(await bucket.read_many([1]), dict[object, bytes])
    assert_type(bucket.find({"filename": "a"}), AsyncIterator[FileInfo])
    assert_type(await bucket.by_name("a"), AsyncGridFile)
    assert_type(bucket.file(1), AsyncGridFile)
    assert_type(await bucket.delete_many([1]), int)
    staged = await bucket.stage(b"data")
    assert_type(staged, Staged)
    assert_type(await bucket.publish(staged), FileInfo)
    async with bucket.open_upload(filename="a") as upload:
        assert_type(upload, Writer)
        assert_type(await upload.close(), FileInfo)


async def documents(client: AsyncMongoClient[dict[str, Any]]) -> None:
    gridproxy.connect(client["zoo"])
    animal = Animal(genus="Marmota")
    assert_type(animal.photo, AsyncGridFile)
    assert_type(animal.genus, str | None)
    assert_type(animal.legs, int | None)
    assert_type(Animal.objects, QuerySet[Animal])
    assert_type(await Animal.objects(genus="Marmota").first(), Animal | None)
    assert_type(await Animal.objects.get(), Animal)
    assert_type(await animal.save(), Animal)
    async for found in Animal.objects.order_by("-genus"):
        assert_type(found, Animal)
    with gridproxy.using(client["other"]):
        pass


async def upkeep(bucket: Bucket) -> None:
    async for finding in bucket.check(references=[("animals", "photo")]):
        assert_type(finding, Finding)
        assert_type(finding.id, object)
        assert_type(finding.since, datetime | None)
        assert_type(finding.as_dict(), dict[str, Any])
    report = await bucket.collect_garbage(older_than=timedelta(days=1), dry_run=True)
    assert_type(report, GarbageReport)
    assert_type(report.removed, Tally)
    assert_type(report.bytes, int)
    assert_type(report.by_reason, Mapping[str, Tally])


async def transactions(client: AsyncMongoClient[dict[str, Any]], animal: Animal) -> None:
    async with gridproxy.transaction(client) as tx:
        assert_type(tx, Transaction)
        assert_type(tx.session, AsyncClientSession)
        await animal.photo.replace(b"data", session=tx.session)
        assert_type(await animal.save(session=tx.session), Animal)

    async def work(tx: Transaction) -> int:
        return 1

    assert_type(await gridproxy.with_transaction(client, work), int)


async def pictures(animal: Animal) -> None:
    assert_type(animal.portrait, AsyncGridFile)
    assert_type(animal.portrait.width, int | None)
    assert_type(animal.portrait.height, int | None)
    assert_type(animal.portrait.format, str | None)
    assert_type(animal.portrait.thumbnail, AsyncGridFile)
    assert_type(animal.portrait.variants, Mapping[str, AsyncGridFile])


async def fields(database: AsyncDatabase[dict[str, Any]], animal: Animal, user: User) -> None:
    animal.photo = b"data"
    animal.photo = Path("marmot.jpg")
    animal.photo = None
    assert_type(animal.album, list[Any])  # since content may be appended to it
    assert_type(animal.weight, float | None)
    assert_type(animal.wild, bool | None)
    assert_type(animal.born, datetime | None)
    assert_type(user.avatar, AsyncGridFile)
    assert_type(await gridproxy.prefetch([animal, user], "photo", "avatar", content=True), None)
    assert_type(await gridproxy.rewrite_references(database["animal"], "photo", store="snapshot"), int)


async def beanie(bird: Bird) -> None:
    assert_type(bird.photo, AsyncGridFile)
    assert_type(await bird.insert(), Bird)
    assert_type(await bird.save(), Bird)
    assert_type(await bird.save_changes(), Bird | None)
    assert_type(await bird.replace(), Bird)
    assert_type(await bird.update({"$set": {"seen": True}}), Bird)
    assert_type(await bird.delete(), DeleteResult | None)
    assert_type(await Bird.get(bird.id), Bird | None)
    assert_type(await Bird.find_one({}), Bird | None)


async def of_any_kind(document: FileDocument) -> None:
    assert_type(document.id, PydanticObjectId | None)
    assert_type(await document.save(), FileDocument)


async def in_odmantic(client: AsyncMongoClient[dict[str, Any]], fish: Fish) -> None:
    engine = AsyncEngine(client, "zoo")
    assert_type(await engine.save(fish), Fish)
    assert_type(await engine.find_one(Fish), Fish | None)  # pyright: ignore[reportUnknownMemberType]  # says ODMantic
    assert_type(await engine.find(Fish), list[Fish])
    async for found in engine.find(Fish, sort=Fish.id):
        assert_type(found.photo, AsyncGridFile)
    async with engine.session() as session:
        assert_type(session, AsyncSession)
    async with engine.transaction() as tx:
        assert_type(tx, AsyncTransaction)
        await engine.save(fish, session=tx)


async def served(request: Request, file: AsyncGridFile) -> Response:
    await file.put(RequestBody(request, filename="upload"))
    return GridFileResponse(file, cache_control="no-cache", content_disposition_type="attachment")


async def may(request: Request, action: str, info: FileInfo | None) -> bool | Grant:
    return action == "read" or Grant(max_size=1000, metadata={"owner": 7})


async def may_photo(request: Request, action: str, fish: Fish | None) -> bool:
    return fish is not None


async def mounted(bucket: Bucket, engine: AsyncEngine) -> None:
    links = SignedLinks(keys=["a secret of at least 16 bytes"])
    apps = [
        FilesApp(bucket, authorize=may, options=FileOptions(max_size=1000), by="filename", listing=True, max_uploads=5),
        FilesApp(bucket, authorize=links),
        FilesApp.for_field(Fish, "photo", authorize=may_photo, engine=engine, cache_control="no-cache"),
    ]
    assert_type(apps, list[FilesApp])
    assert_type(links.url("/files", bucket.file(7), expires_in=60, disposition="inline", app=apps[1]), str)


async def inspected(bucket: Bucket) -> None:
    async def scan(info: FileInfo, stream: ByteReceiveStream) -> bool:
        return await stream.receive(5) != b"virus"

    await AsyncGridFile(options=FileOptions(bucket, inspect=scan)).put(b"content")
    assert_type(await bucket.find_one({"filename": "a"}), FileInfo | None)
    assert_type(await bucket.exists({"filename": "a"}), bool)
    assert_type(await bucket.prune("a", keep=3), int)
    assert_type(await bucket.set_expiry(7, None), FileInfo)
    assert_type([info async for info in bucket.revisions("a")], list[FileInfo])


def blocking(uri: str, content: Image.Image) -> None:
    with sync.Client(uri, timeoutMS=5000) as client:
        bucket = client.bucket("zoo", "uploads", chunk_size=1024)
        assert_type(bucket, sync.Bucket)
        info = bucket.upload(b"data", filename="a.txt", expires_after=60, metadata={"owner": 7})
        assert_type(info, FileInfo)
        assert_type(bucket.read(info.id, 0, 4), bytes)
        assert_type(bucket.read_many([info.id]), dict[object, bytes])
        assert_type(bucket.stage(b"data"), Staged)
        assert_type(bucket.by_name("a.txt"), sync.GridFile)
        assert_type(next(bucket.find({"metadata.owner": 7})), FileInfo)
        assert_type(next(bucket.check()), Finding)
        assert_type(bucket.collect_garbage(), GarbageReport)
        with bucket.stream(info.id) as stream:
            assert_type(stream, sync.DownloadStream)
            assert_type(next(stream), bytes)
        with bucket.open(info.id) as reader, io.TextIOWrapper(reader) as text:
            assert_type(reader, sync.Reader)
            assert_type(reader.read(), bytes)
            assert_type(list(csv.reader(text)), list[list[str]])
        with bucket.create(filename="a.zip") as writer, zipfile.ZipFile(writer, "w"):
            assert_type(writer, sync.Writer)
            content.save(writer, "PNG")
        assert_type(writer.info, FileInfo | None)
        file = bucket.file(info.id)
        assert_type(file.put(b"data", content_type="text/plain", owner=7), FileInfo)
        assert_type(file.copy(filename="b.txt"), sync.GridFile)
        assert_type(file.read(4), bytes)
        assert_type(file.write("text"), int)
        with file.new_file(filename="a.txt") as same:
            assert_type(same, sync.GridFile)
        with client.transaction() as tx:
            assert_type(tx, Transaction)
            bucket.upload(file, session=tx.session)


async def trials(harness: FieldHarness) -> None:
    assert_type(await check_field_adapter(harness), list[str])
    with EmbeddedServer() as server:
        assert_type(server, EmbeddedServer)
        assert_type(server.uri, str)


def unknown_names() -> object:
    """Return a name that does not exist. Some others are imported at their first use."""
    return gridproxy.nothing  # type: ignore[attr-defined]
