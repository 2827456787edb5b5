"""One id that several clients delete, discard, collect and store: no file loses a chunk, no false success."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pymongo
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

import gridproxy
from gridproxy import Bucket, CorruptFile, FileAlreadyStored, FileInfo, FileMissing, FileVanished, UploadInProgress
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.upload.staging import Staged

from .conftest import CHUNK
from .link import Break, Link
from .operation import Scene
from .trial import collected
from .whole import Database, files_and_orphans, stored_files

SECONDS = float(os.environ.get("GRIDPROXY_STRESS_SECONDS", "4"))
ID = "mine"
OLD, NEW = b"old" * 700, b"new" * 1000  # three chunks each, of which the last one is short
REFUSED = (FileAlreadyStored, UploadInProgress, CorruptFile, FileMissing)

Remove = Callable[[Bucket], Awaitable[object]]


async def delete_many(bucket: Bucket) -> None:
    await bucket.delete_many([ID, "another"])


async def in_transaction(bucket: Bucket) -> None:
    async with gridproxy.transaction(bucket.database.client) as tx:
        await bucket.delete_many([ID], session=tx.session)


REMOVALS: dict[str, Remove] = {
    "delete": lambda bucket: bucket.delete(ID),
    "delete_many": delete_many,
    "discard": lambda bucket: bucket.discard(ID),
    "transaction": in_transaction,
}


async def refused(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except (*REFUSED, OperationFailure) as error:
        return error
    return None


@pytest.mark.parametrize("before", ["nothing", "chunks", "a file"])
@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("removal", REMOVALS)
async def test_an_upload_between_any_two_commands_of_a_removal_is_whole_or_refused(
    link: Link, scene: Scene, removal: str, size: str, before: str
) -> None:
    """The rival deletes and uploads under the id before each command in turn."""
    well, number, came = scene.well, 0, True
    while came:
        if before == "chunks":
            await well.stage(OLD, id=ID)
        elif before == "a file":
            await well.upload(OLD, id=ID)
        succeeded: list[FileInfo] = []

        async def delete_and_store(succeeded: list[FileInfo] = succeeded) -> None:
            await refused(well.delete(ID))
            await refused(well.discard(ID))
            if await refused(stored(well, size)) is None:
                succeeded.append(await well.stat(ID))

        tasks: list[asyncio.Task[None]] = []

        async def rival(tasks: list[asyncio.Task[None]] = tasks) -> None:
            tasks.append(asyncio.create_task(delete_and_store()))
            # It may wait for the end of the transaction.
            await asyncio.wait(tasks, timeout=0.2)

        link.before(number, rival)
        error = await refused(REMOVALS[removal](scene.bucket))
        for task in tasks:
            await task
        came = link.hit.is_set()
        link.heal()
        files, orphans = await files_and_orphans(well.database)
        if files:
            assert files == ({ID: NEW} if succeeded else {ID: OLD}), (number, error)
        assert len(orphans) <= 1
        for name in ("fs.files", "fs.chunks"):
            await well.database[name].delete_many({})
        number += 1
    assert number > 1


async def stored(bucket: Bucket, size: str) -> None:
    if size == "small":
        await bucket.upload(NEW, id=ID)
        return
    async with bucket.open_upload(id=ID) as upload:
        for at in range(0, len(NEW), 1000):
            await upload.write(NEW[at : at + 1000])


@pytest.mark.parametrize("removal", ["delete", "delete_many", "discard", "collect"])
@pytest.mark.parametrize("way", ["upload", "publish", "transaction"])
async def test_a_removal_between_any_two_commands_of_an_upload_leaves_a_whole_file_or_none(
    link: Link, scene: Scene, removal: str, way: str
) -> None:
    well, number, came = scene.well, 0, True

    async def rival() -> None:
        if removal == "collect":
            await collected(well)
        else:
            await refused(REMOVALS[removal](well))

    async def work(staged: Staged | None) -> None:
        if way == "upload":
            await scene.bucket.upload(NEW, id=ID)
        elif way == "publish":
            assert staged is not None
            await scene.bucket.publish(staged)
        else:
            async with gridproxy.transaction(scene.bucket.database.client) as tx:
                if staged is not None:
                    await scene.bucket.publish(staged, session=tx.session)

    while came:
        staged = None
        if way != "upload":
            there = await well.stage(NEW, id=ID)
            staged = Staged(scene.bucket.store, there.record, there.chunk_ids)
        link.before(number, rival)
        error: Exception | None = None
        try:
            await work(staged)
        except (*REFUSED, PyMongoError) as caught:
            error = caught
        came = link.hit.is_set()
        link.heal()
        files, _ = await files_and_orphans(well.database)
        # The rival runs within the upload: after its last command nothing is removed.
        assert files == ({ID: NEW} if error is None and files else {}), (number, error)
        if removal in ("discard", "collect"):
            assert (error is None) == bool(files), (number, error)
        for name in ("fs.files", "fs.chunks"):
            await well.database[name].delete_many({})
        number += 1
    assert number > 1


async def test_a_delete_that_is_late_does_not_remove_the_chunks_of_the_next_file(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its two commands another client deletes the rest and stores the id again."""
    for remove in (
        lambda: bucket.delete(ID),
        lambda: bucket.delete_many([ID, "another"]),
        lambda: in_transaction(bucket),
    ):
        await bucket.upload(OLD, id=ID)
        for name in ("delete_chunks", "delete_chunks_of_all"):
            delete = getattr(Store, name)

            async def late(store: Store, *deleted: Any, delete: Any = delete) -> Any:
                monkeypatch.undo()
                await store.chunks.delete_many({})
                await bucket.upload(NEW, id=ID)
                return await delete(store, *deleted)

            monkeypatch.setattr(Store, name, late)
        await remove()
        assert await stored_files(database) == {ID: NEW}
        await bucket.delete(ID)


async def test_a_published_file_that_was_deleted_cannot_be_published_again(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(NEW)
    await bucket.publish(staged)
    await database["fs.files"].delete_one({"_id": staged.id})  # its delete has not come to the chunks yet
    with pytest.raises(CorruptFile, match="was deleted since"):
        await bucket.publish(staged)
    other = await bucket.stage(NEW)
    async with gridproxy.transaction(database.client) as tx:
        await bucket.publish(other, session=tx.session)
    await database["fs.files"].delete_one({"_id": other.id})
    with pytest.raises(CorruptFile, match="was deleted since"):
        await bucket.publish(other)


async def test_files_without_an_id_of_the_callers_are_plain_gridfs(bucket: Bucket, database: Database) -> None:
    await bucket.upload(NEW)
    keys = {frozenset(chunk) async for chunk in database["fs.chunks"].find()}
    assert keys == {frozenset({"_id", "files_id", "n", "data"})}
    record = await database["fs.files"].find_one({})
    assert record is not None
    assert set(record) == {"_id", "length", "chunkSize", "uploadDate", "metadata"}


@pytest.mark.parametrize("leave", ["delete", "discard"])
async def test_a_removal_leaves_alone_what_an_open_transaction_has_published(
    bucket: Bucket, database: Database, leave: str
) -> None:
    staged = await bucket.stage(NEW, id=ID)
    async with gridproxy.transaction(database.client) as tx:
        await bucket.publish(staged, session=tx.session)
        error = await refused(REMOVALS[leave](bucket))
        assert isinstance(error, FileMissing if leave == "delete" else UploadInProgress)
        await collected(bucket)
    assert await stored_files(database) == {ID: NEW}
    assert await bucket.read(ID) == NEW


# Stress


@pytest.fixture
async def clients(mongodb_uri: str, bucket: Bucket) -> AsyncIterator[list[Bucket]]:
    await bucket.ensure_indexes()
    async with AsyncExitStack() as stack:
        yield [
            Bucket(
                (await stack.enter_async_context(AsyncMongoClient[dict[str, Any]](mongodb_uri)))[bucket.database.name],
                chunk_size=CHUNK,
            )
            for _ in range(4)
        ]


async def test_four_clients_that_delete_and_upload_under_one_id(clients: list[Bucket], database: Database) -> None:
    """Every upload that succeeded was whole until its delete, and after each round what is left is whole."""
    end = time.monotonic() + SECONDS
    successes = rounds = 0
    while time.monotonic() < end:
        rounds += 1
        rng = random.Random(rounds)
        results = await asyncio.gather(*(round_of(bucket, number, rng) for number, bucket in enumerate(clients)))
        files, _ = await files_and_orphans(database)
        done = [content for content in results if content is not None]
        successes += len(done)
        assert not files or files[ID] in done, "a file that nobody stored"
        await clients[0].delete_many([ID])
        await refused(clients[0].discard(ID))
    assert successes >= rounds / 2


async def round_of(bucket: Bucket, number: int, rng: random.Random) -> bytes | None:
    """Delete, then upload, once with each kind of content and removal. Return the content if that succeeded."""
    content = bytes([number]) * rng.choice([10, CHUNK + 1, 5 * CHUNK])
    removal = rng.choice(["delete", "delete_many", "discard"])
    size = rng.choice(["small", "large", "transaction"])
    for _ in range(rng.randrange(20)):
        await asyncio.sleep(0)
    await refused(REMOVALS[removal](bucket))
    try:
        if size == "transaction":
            async with gridproxy.transaction(bucket.database.client) as tx:
                await bucket.upload(content, id=ID, session=tx.session)
        elif size == "small":
            await bucket.upload(content, id=ID)
        else:
            async with bucket.open_upload(id=ID) as upload:
                await upload.write(content)
    except (*REFUSED, PyMongoError):
        return None
    return content


async def test_content_that_was_staged_beside_an_empty_file_can_be_discarded(
    bucket: Bucket, database: Database
) -> None:
    empty = await bucket.stage(b"", id=ID)
    beside = await bucket.stage(NEW, id=ID)
    with pytest.raises(UploadInProgress):
        await bucket.publish(empty)
    await bucket.discard(beside)
    empty, beside = await bucket.stage(b"", id=ID), await bucket.stage(NEW, id=ID)
    await database["fs.files"].insert_one(empty.record)  # published between the look and the insert
    with pytest.raises(FileAlreadyStored):
        await bucket.discard(empty)
    await bucket.discard(beside)
    assert await stored_files(database) == {ID: b""}


async def test_a_deadline_that_ends_a_discard_leaves_no_open_transaction(scene: Scene, link: Link) -> None:
    await scene.well.stage(NEW, id=ID)
    link.strike(Break.STALL_AFTER, only="insert fs.files")  # the insert on trial, which locks the id until the abort
    with pytest.raises(PyMongoError) as caught, pymongo.timeout(0.3):
        await scene.bucket.discard(ID)
    assert caught.value.timeout
    assert link.seen[-2:] == ["insert fs.files", "abortTransaction 1"]
    link.heal()
    await scene.bucket.discard(ID)
    await scene.well.upload(OLD, id=ID)
    assert await stored_files(scene.well.database) == {ID: OLD}


async def test_a_download_does_not_mix_two_files_that_had_one_id(bucket: Bucket) -> None:
    one, two = bytes([1]) * 20 * CHUNK, bytes([2]) * 20 * CHUNK
    await bucket.upload(one, id=ID)
    async with bucket.stream(ID) as stream:
        assert set(await stream.receive()) == {1}
        await bucket.delete(ID)
        await bucket.upload(two, id=ID)
        with pytest.raises(FileVanished):
            while True:
                assert set(await stream.receive()) == {1}
    assert await bucket.read(ID) == two
