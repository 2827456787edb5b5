"""How many shards each operation reaches in a sharded cluster: the table in `docs/sharding.md` is what is sent here."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient, WriteConcern

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileMissing
from gridproxy.adapters.document import Document, FileField

from ..observing import Database
from ..sharding import Router, Shards, reached, sharded_keys

SMALL = b"a small file"
LARGE = bytes(5 * 1024 * 1024)  # more than one batch
PAGE = Path(__file__).resolve().parents[2] / "docs" / "sharding.md"
SHOWN = {None: "", Shards.ONE: "one", Shards.SEVERAL: "those of the files", Shards.ALL: "**all**"}


class Animal(Document):
    photo = FileField()


class Scene:
    """A bucket whose client is observed, with some files in it. `router` forgets what was sent for them."""

    def __init__(self, bucket: Bucket, router: Router, folder: Path) -> None:
        self.bucket = bucket
        self.router = router
        self.folder = folder
        self.orphan = ObjectId()

    async def fill(self) -> None:
        await self.bucket.ensure_indexes(force=True)
        self.small = await self.bucket.upload(SMALL, filename="small")
        self.other = await self.bucket.upload(SMALL, filename="other")
        self.large = await self.bucket.upload(LARGE, filename="large")
        self.staged = await self.bucket.stage(SMALL)
        self.to_discard = await self.bucket.stage(SMALL)
        old = ObjectId("5f" * 12)
        chunk = {"_id": old, "files_id": self.orphan, "n": 0, "data": b"orphan"}
        await self.bucket.database["fs.chunks"].insert_one(chunk)
        await self.bucket.database["fs.files"].insert_one({"_id": "old", "length": 0, "chunkSize": 1, "filename": "a"})
        await self.bucket.database["animal"].insert_one({"photo": self.small.id})
        self.router.clear()

    @property
    def file(self) -> AsyncGridFile:
        return self.bucket.file(self.large.id)


Row = Callable[[Scene], Awaitable[object]]
ROWS: dict[str, Row] = {}


def row(label: str) -> Callable[[Row], Row]:
    def add(work: Row) -> Row:
        ROWS[label] = work
        return work

    return add


@row("`ensure_indexes`, and the first upload of a client to a bucket")
async def ensure(scene: Scene) -> None:
    await scene.bucket.drop()
    scene.router.clear()
    await scene.bucket.ensure_indexes()


@row("`upload`, `put` of a small or a large file, with or without an `id`")
async def upload(scene: Scene) -> None:
    for content in (SMALL, LARGE):
        await scene.bucket.upload(content)
        await scene.bucket.upload(content, id=f"mine {len(content)}")
        await AsyncGridFile(bucket=scene.bucket).put(content)


@row("`open_upload`, `new_file`, `write`, `writelines`, `close`, `abort`")
async def write(scene: Scene) -> None:
    async with scene.bucket.open_upload() as writer:
        await writer.write(LARGE)
    file = AsyncGridFile(bucket=scene.bucket)
    await file.new_file()
    await file.write(LARGE)
    await file.writelines([b"a", b"b"])
    await file.close()
    other = AsyncGridFile(bucket=scene.bucket)
    await other.new_file(id="aborted")
    await other.write(LARGE)
    await other.abort()


@row("an upload that fails, and its clean-up")
async def failing(scene: Scene) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield LARGE
        raise OSError("the source is gone")

    for id in (None, "mine"):
        with pytest.raises(OSError, match="the source is gone"):
            await scene.bucket.upload(blocks(), id=id)


@row("`upload_many`")
async def upload_many(scene: Scene) -> None:
    await scene.bucket.upload_many([SMALL, SMALL, LARGE])


@row("`stage`, `publish`, `discard`")
async def stage(scene: Scene) -> None:
    await scene.bucket.stage(LARGE)
    await scene.bucket.publish(scene.staged)
    await scene.bucket.discard(scene.to_discard)
    await scene.bucket.discard(scene.orphan)


@row("`copy`")
async def copy(scene: Scene) -> None:
    await scene.bucket.copy(scene.large.id)
    await scene.bucket.copy(scene.small.id, new_id="mine")
    await scene.file.copy()


@row("`replace`, `finalize`, `revert`")
async def replace(scene: Scene) -> None:
    await scene.file.replace(SMALL)
    with gridproxy.using(scene.bucket.database):
        animal = await Animal.objects.get()
        await animal.photo.replace(LARGE)
        await animal.photo.revert()
        await animal.photo.replace(LARGE)
        await animal.photo.finalize()


@row("`read`, `read_range`, `read_ranges`, `stream`, `open`, `save_to`")
async def read(scene: Scene) -> None:
    await scene.bucket.read(scene.large.id)
    await scene.bucket.read(scene.large.id, 5, 10)
    await scene.bucket.read_ranges(scene.large.id, [(0, 5), (600_000, 600_005)])
    await scene.file.read_range(300_000, 600_000)
    await scene.file.read_ranges([(0, 5), (600_000, 600_005)])
    for stream in (scene.bucket.stream(scene.large.id), scene.file.stream(100)):
        async with stream:
            assert [block async for block in stream]
    async with scene.file.open() as reader:
        await reader.read()
    await scene.file.save_to(scene.folder / "saved")


@row("`readline`, `readlines`, `readinto`, `read_text`, `lines`, `seek`")
async def read_lines(scene: Scene) -> None:
    file = scene.bucket.file(scene.small.id)
    await file.readline()
    await file.seek(0)
    await file.readlines()
    await file.seek(0)
    await file.readinto(bytearray(10))
    await file.read_text()
    assert [line async for line in file.lines()]


@row("`stat`, `get`, `exists`, `verify`")
async def stat(scene: Scene) -> None:
    await scene.bucket.stat(scene.small.id)
    await scene.bucket.verify(scene.large.id)
    await scene.file.stat()
    await scene.file.get()
    await scene.file.exists()
    await scene.file.verify()
    with pytest.raises(FileMissing):
        await scene.bucket.stat("missing")


@row("`stat_many`, `read_many`, `prefetch`")
async def many(scene: Scene) -> None:
    ids = [scene.small.id, scene.other.id, scene.large.id]
    await scene.bucket.stat_many(ids)
    await scene.bucket.read_many(ids)
    with gridproxy.using(scene.bucket.database):
        animals = [Animal(photo=id) for id in ids]
        await gridproxy.prefetch(animals, "photo", content=True)


@row("`update_metadata`, `rename`, `set_expiry`")
async def edit(scene: Scene) -> None:
    await scene.bucket.set_expiry(scene.small.id, None)
    await scene.bucket.update_metadata(scene.small.id, {"a": 1})
    await scene.bucket.rename(scene.small.id, "new")
    await scene.file.update_metadata(a=1)
    await scene.file.rename("new")


@row("`delete`, also of an id without a file")
async def delete(scene: Scene) -> None:
    await scene.bucket.delete(scene.small.id)
    await scene.file.delete()
    for id in (scene.orphan, "missing"):
        with pytest.raises(FileMissing):
            await scene.bucket.delete(id)


@row("`delete_many`")
async def delete_many(scene: Scene) -> None:
    await scene.bucket.delete_many([scene.small.id, scene.large.id, scene.orphan, "missing"])


@row("`find`, `find_one`, `exists`, `by_name`, `revisions`")
async def find(scene: Scene) -> None:
    assert await scene.bucket.find_one({"filename": "small"})
    assert await scene.bucket.exists({"filename": "small"})
    assert [info async for info in scene.bucket.revisions("small")]
    assert [info async for info in scene.bucket.find({"filename": "small"})]
    await scene.bucket.by_name("large")


@row("`rename_by_name`, `delete_by_name`, `prune`")
async def by_name(scene: Scene) -> None:
    await scene.bucket.prune("small", keep=2)
    await scene.bucket.rename_by_name("small", "other")
    assert await scene.bucket.delete_by_name("other") == 2


@row("a transaction with `put`, `replace` and `delete`, committed or aborted")
async def transaction(scene: Scene) -> None:
    for commits in (False, True):
        try:
            async with gridproxy.transaction(scene.bucket.database.client) as tx:
                await AsyncGridFile(bucket=scene.bucket).put(LARGE, session=tx.session)
                await scene.file.replace(SMALL, session=tx.session)
                await scene.bucket.delete(scene.small.id, session=tx.session)
                if not commits:
                    raise RuntimeError
        except RuntimeError:
            assert not commits


@row("`check`")
async def check(scene: Scene) -> None:
    assert [finding async for finding in scene.bucket.check(references=[("animal", "photo")])]


@row("`collect_garbage`")
async def collect(scene: Scene) -> None:
    for dry_run in (True, False):
        await scene.bucket.collect_garbage(
            timedelta(hours=1), dry_run, unreferenced=True, references=[("animal", "photo")]
        )


@row("`drop`")
async def drop(scene: Scene) -> None:
    await scene.bucket.drop()


@asynccontextmanager
async def scene_in(uri: str, name: str, folder: Path) -> AsyncIterator[Scene]:
    router = Router()
    async with AsyncMongoClient[dict[str, Any]](uri, event_listeners=[router]) as client:
        database = client.get_database(name, write_concern=WriteConcern("majority"))
        scene = Scene(Bucket(database), router, folder)
        await scene.fill()
        yield scene


async def table(uri: str, database: Database, folder: Path) -> list[str]:
    lines = ["| | `fs.chunks` | `fs.files` |", "|---|---|---|"]
    for number, (label, work) in enumerate(ROWS.items()):
        name = f"{database.name}_{number}"
        try:
            async with scene_in(uri, name, folder) as scene:
                await work(scene)
                assert scene.router.weak == [], label
        finally:
            await database.client.drop_database(name)
        cells = [SHOWN[scene.router.most.get(f"fs.{suffix}")] for suffix in ("chunks", "files")]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


async def test_the_page_shows_how_many_shards_each_operation_reaches_and_all_writes_wait_for_a_majority(
    mongodb_uri: str, database: Database, tmp_path: Path
) -> None:
    made = "\n".join(await table(mongodb_uri, database, tmp_path))
    assert f"\n\n{made}\n\n" in PAGE.read_text(encoding="utf-8"), made


def test_every_operation_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(ROWS)))
    without_io = {"file", "tell", "as_source"}
    methods = {
        name
        for kind in (Bucket, AsyncGridFile)
        for name, value in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }
    assert methods - without_io - named == set()


@pytest.mark.parametrize(
    ("name", "command", "shards"),
    [
        ("find", {"find": "fs.chunks", "filter": {"files_id": 1, "n": {"$gte": 0}}}, Shards.ONE),
        ("find", {"find": "fs.chunks", "filter": {"files_id": {"$eq": {"a": 1}}}}, Shards.ONE),
        ("find", {"find": "fs.chunks", "filter": {"files_id": {"$in": [1]}}}, Shards.ONE),
        ("find", {"find": "fs.chunks", "filter": {"files_id": {"$in": [1, 2]}}}, Shards.SEVERAL),
        ("find", {"find": "fs.chunks", "filter": {"files_id": {"$gte": 1}}}, Shards.ALL),
        ("find", {"find": "fs.chunks", "filter": {"_id": 1}}, Shards.ALL),
        ("find", {"find": "fs.files", "filter": {"$and": [{"a": 1}, {"_id": 1}]}}, Shards.ONE),
        ("count", {"count": "fs.files"}, Shards.ALL),
        ("aggregate", {"aggregate": "fs.chunks", "pipeline": [{"$match": {"files_id": 1}}]}, Shards.ONE),
        ("aggregate", {"aggregate": "fs.chunks", "pipeline": []}, Shards.ALL),
        ("insert", {"insert": "fs.chunks", "documents": [{"files_id": 1}, {"files_id": 1}]}, Shards.ONE),
        ("insert", {"insert": "fs.chunks", "documents": [{"files_id": 1}, {"files_id": "1"}]}, Shards.SEVERAL),
        ("delete", {"delete": "fs.files", "deletes": [{"q": {"_id": 1}}, {"q": {"filename": "a"}}]}, Shards.ALL),
        ("drop", {"drop": "fs.files"}, Shards.ALL),
    ],
)
def test_a_router_sends_by_the_value_of_the_shard_key(name: str, command: dict[str, Any], shards: Shards) -> None:
    assert max(each for _, each in reached(name, command, sharded_keys())) is shards


def test_commands_that_the_router_answers_reach_no_shard_and_unknown_ones_have_to_be_classified() -> None:
    assert list(reached("hello", {"hello": 1}, sharded_keys())) == []
    assert list(reached("find", {"find": "animals", "filter": {}}, sharded_keys())) == []
    with pytest.raises(AssertionError, match="distinct"):
        list(reached("distinct", {"distinct": "fs.files"}, sharded_keys()))
