"""Resumable uploads on bad days: nothing is lost, nothing is doubled, and what was interrupted goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from pymongo import AsyncMongoClient, common
from pymongo.errors import PyMongoError

from gridproxy import Bucket, GridProxyError, ResumableUpload, UploadInProgress, UploadMissing, WrongOffset
from gridproxy.embedded import EmbeddedServer
from gridproxy.gridfs.resumable import append, digests
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.upload import commit
from gridproxy.runtime import tasks

from .cancelling import Work, cancelled_everywhere
from .conftest import CHUNK
from .link import Break, Link
from .whole import stored_files

ROOT = Path(__file__).resolve().parents[2]
CONTENT = bytes(range(256)) * 30  # seven chunks and a half: four batches
FIRST = 1500  # appended before the accident: one chunk, and a tail
PAST = datetime(2000, 1, 1, tzinfo=UTC)
STRIDE = 6  # each step is cancelled in one of the six ways
# What an append and a finish send: the lease, a removal, batches, the offset, the lease, the last chunk, the record ...
COMMANDS = range(14)

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(autouse=True)
def small(small_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "chunks_per_batch", lambda _: 2)
    monkeypatch.setattr(digests, "chunks_per_range", lambda _: 2)
    monkeypatch.setattr(commit, "_PAUSE", 0)


async def blocks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 1300):
        await asyncio.sleep(0)
        yield content[at : at + 1300]


async def begun(bucket: Bucket, id: object = None) -> ResumableUpload:
    upload = await bucket.resumable(length=len(CONTENT), id=id)
    await upload.append(CONTENT[:FIRST])
    return upload


def wait(bucket: Bucket, seconds: float) -> None:
    """Let time pass for one client."""
    bucket.store.state.clock_offset += seconds


async def completed(bucket: Bucket, id: object) -> None:
    """Do what a client does that finds its upload again."""
    upload = await bucket.resume(id)
    if upload.offset < len(CONTENT):
        await upload.append(CONTENT[upload.offset :])
    await upload.finish()
    assert await stored_files(bucket.database) == {id: CONTENT}
    assert (await upload.finish()).length == len(CONTENT)
    assert [finding async for finding in bucket.check()] == []
    await bucket.delete(id)


@pytest.mark.parametrize("whole", [False, True], ids=["in parts", "whole"])
async def test_a_cancelled_append_goes_on_where_it_stopped(bucket: Bucket, whole: bool) -> None:
    async def make() -> Work:
        upload = await begun(bucket)

        async def check(returned: bool) -> None:
            found = await bucket.resume(upload.id)
            assert found.offset == upload.offset
            assert found.offset == len(CONTENT) if returned else found.offset >= FIRST
            if whole and not returned:
                assert found.offset in (FIRST, len(CONTENT))
            await completed(bucket, upload.id)

        return Work(lambda: upload.append(blocks(CONTENT[FIRST:]), whole=whole), check)

    await cancelled_everywhere(make, stride=2 * STRIDE)


@pytest.mark.parametrize("kept", [True, False], ids=["with its digest", "without its digest"])
async def test_a_cancelled_finish_can_be_repeated(bucket: Bucket, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(append, "keep_digest", lambda *_: None)

    async def make() -> Work:
        upload = await begun(bucket)
        await upload.append(CONTENT[FIRST:])
        return Work(upload.finish, lambda _: completed(bucket, upload.id))

    await cancelled_everywhere(make, stride=3 * STRIDE if kept else 5 * STRIDE)


async def test_a_cancelled_beginning_leaves_nothing(bucket: Bucket) -> None:
    async def check(returned: bool) -> None:
        left = await bucket.database["fs.uploads"].delete_many({})
        assert left.deleted_count == returned

    async def make() -> Work:
        return Work(bucket.resumable, check)

    await cancelled_everywhere(make)


async def test_a_cancelled_abort_can_be_repeated(bucket: Bucket) -> None:
    async def make() -> Work:
        upload = await begun(bucket)

        async def check(_: bool) -> None:
            await upload.abort()
            assert await bucket.database["fs.uploads"].count_documents({}) == 0
            assert await stored_files(bucket.database) == {}

        return Work(upload.abort, check)

    await cancelled_everywhere(make, stride=STRIDE)


@pytest.mark.parametrize("kind", [Break.ERROR, Break.CUT_BEFORE, Break.CUT_AFTER], ids=lambda kind: kind.name.lower())
async def test_a_command_that_fails_or_whose_answer_is_lost_loses_and_doubles_nothing(
    link: Link, bucket: Bucket, kind: Break
) -> None:
    await bucket.ensure_indexes()
    async with AsyncMongoClient[dict[str, Any]](link.uri, retryWrites=False, serverMonitoringMode="poll") as client:
        struck = Bucket(client[bucket.database.name], chunk_size=CHUNK)
        number, was_hit = 0, True
        while was_hit:
            upload = await begun(struck)
            link.strike(kind, skip=number)
            for _ in range(3):
                try:
                    found = await struck.resume(upload.id)
                    if found.offset < len(CONTENT):
                        await found.append(blocks(CONTENT[found.offset :]))
                    await found.finish()
                    break
                except UploadMissing:
                    raise
                except (PyMongoError, GridProxyError):
                    wait(struck, 16)  # until the lease of the failed attempt has ended
            was_hit = link.hit.is_set()
            link.heal()
            wait(bucket, 60)
            await completed(bucket, upload.id)
            number += 1
    assert number > len(COMMANDS)


@pytest.mark.parametrize(
    "only", ["findAndModify fs.uploads", "delete fs.chunks", "insert fs.chunks", "insert fs.files"]
)
async def test_a_server_that_never_answers_does_not_hold_up_a_cancelled_call(
    link: Link, bucket: Bucket, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SETTLE_SECONDS", 0.1)
    await bucket.ensure_indexes()
    async with AsyncMongoClient[dict[str, Any]](link.uri, retryWrites=False, serverMonitoringMode="poll") as client:
        struck = Bucket(client[bucket.database.name], chunk_size=CHUNK)
        upload = await begun(struck)
        link.strike(Break.STALL_AFTER, only=only, times=None)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await upload.append(blocks(CONTENT[FIRST:]))
                await upload.finish()
        assert asyncio.get_running_loop().time() - began < 3
        assert link.hit.is_set()
        link.heal()
    wait(bucket, 16)
    await completed(bucket, upload.id)


async def slow(wait: asyncio.Event, reached: asyncio.Event, content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content[:3000]
    reached.set()
    await wait.wait()
    yield content[3000:]


async def test_two_writers_do_not_write_at_once(bucket: Bucket) -> None:
    upload, go_on, reached = await begun(bucket), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(upload.append(slow(go_on, reached, CONTENT[FIRST:])))
    await reached.wait()
    other = await bucket.resume(upload.id)
    for refused in (other.append(CONTENT[FIRST:]), other.finish()):
        with pytest.raises(UploadInProgress, match="15 seconds"):
            await refused
    go_on.set()
    assert await first == len(CONTENT)
    with pytest.raises(WrongOffset) as repeated:
        await other.append(CONTENT[FIRST:], at=FIRST)
    assert repeated.value.offset == other.offset == len(CONTENT)
    await completed(bucket, upload.id)


@pytest.mark.parametrize("whole", [False, True], ids=["in parts", "whole"])
@pytest.mark.parametrize("rest", [FIRST + 100, FIRST + 3000, len(CONTENT)])
async def test_a_writer_that_pauses_too_long_loses_the_upload_and_its_late_chunks(
    bucket: Bucket, mongodb_uri: str, rest: int, whole: bool
) -> None:
    """The other writer has got less far, as far and further."""
    upload, go_on, reached = await begun(bucket), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(upload.append(slow(go_on, reached, CONTENT[FIRST:]), whole=whole))
    await reached.wait()
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        there = Bucket(client[bucket.database.name], chunk_size=CHUNK)
        await there.ensure_indexes()
        wait(there, 16)
        other = await there.resume(upload.id)
        await other.append(CONTENT[FIRST:rest])
        go_on.set()
        with pytest.raises(UploadInProgress):
            await first
        await completed(there, upload.id)


async def test_a_writer_that_lost_the_upload_does_not_take_it_back(bucket: Bucket, mongodb_uri: str) -> None:
    """The new writer has not moved the offset yet."""
    upload, go_on, reached = await begun(bucket), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(upload.append(slow(go_on, reached, CONTENT[FIRST:]), whole=True))
    await reached.wait()
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        there = Bucket(client[bucket.database.name], chunk_size=CHUNK)
        await there.ensure_indexes()
        wait(there, 16)
        other = await there.resume(upload.id)
        # Less than a chunk more, so that no two chunks have one number.
        late = asyncio.create_task(other.append(slow(wait_too := asyncio.Event(), begun_too := asyncio.Event(), b"")))
        await begun_too.wait()
        go_on.set()
        with pytest.raises(UploadInProgress):
            await first
        wait_too.set()
        assert await late == FIRST
        await completed(there, upload.id)


@pytest.mark.parametrize("n", [1, 5, 7, 8], ids=lambda n: f"chunk {n}")
async def test_a_chunk_that_a_dead_writer_sent_late_is_in_the_way_only_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    upload = await begun(bucket)
    delete, document = Store.delete_chunks_from, await bucket.database["fs.uploads"].find_one()
    assert document is not None

    async def too_early(store: Store, *args: Any) -> None:
        await delete(store, *args)
        late = {"files_id": upload.id, "n": n, "data": b"late", "upload_id": document["upload_id"]}
        await bucket.database["fs.chunks"].insert_one(late)
        monkeypatch.setattr(Store, "delete_chunks_from", delete)

    monkeypatch.setattr(Store, "delete_chunks_from", too_early)
    if n < 7:
        with pytest.raises(UploadInProgress):
            await upload.append(CONTENT[FIRST:])
        assert upload.offset == FIRST
    await completed(bucket, upload.id)


@pytest.mark.parametrize("dead", ["the client", "the server"])
async def test_kill_9_loses_nothing_that_counts_and_doubles_nothing(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One upload for each command that an append and a finish send is struck there, then all die at once."""
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    with EmbeddedServer(storage_path=tmp_path / "data") as server:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                AsyncMongoClient[dict[str, Any]](server.uri, serverMonitoringMode="poll")
            )
            bucket = Bucket(client["zoo"], chunk_size=CHUNK)
            links = [await stack.enter_async_context(Link.to(server.uri)) for _ in COMMANDS]
            for number in COMMANDS:
                await begun(bucket, str(number))
            # Not the commands with which a client begins: it looks for the upload, and measures the clock.
            for number, link in zip(COMMANDS, links, strict=True):
                link.strike(Break.STALL_AFTER if number % 2 else Break.STALL_BEFORE, skip=2 + number)
            works = [(link.uri, str(number)) for number, link in zip(COMMANDS, links, strict=True)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.resuming_client"),
                json.dumps(("zoo", CONTENT.hex(), works)),
                cwd=ROOT,
            )
            struck = [asyncio.create_task(link.hit.wait()) for link in links]
            await asyncio.wait(struck, timeout=20)
            hit = sum(link.hit.is_set() for link in links)
            assert hit > 9
            if dead == "the server":
                await anyio.to_thread.run_sync(server.kill)
            process.kill()
            await process.wait()
            for link in links:
                link.heal()
                link.cut()
            if dead == "the server":
                await anyio.to_thread.run_sync(server.start)
                # The connections of the old one are dead.
                client = await stack.enter_async_context(AsyncMongoClient[dict[str, Any]](server.uri))
                bucket = Bucket(client["zoo"], chunk_size=CHUNK)
            await client["zoo"]["fs.uploads"].update_many({"lease": {"$ne": None}}, {"$min": {"lease.until": PAST}})
            offsets = [(await bucket.resume(str(number))).offset for number in COMMANDS]
            assert {FIRST, len(CONTENT)} <= set(offsets)
            for number in COMMANDS:
                upload = await bucket.resume(str(number))
                if upload.offset < len(CONTENT):
                    await upload.append(CONTENT[upload.offset :])
                await upload.finish()
            assert await stored_files(client["zoo"]) == {str(number): CONTENT for number in COMMANDS}
            for task in struck:
                task.cancel()
