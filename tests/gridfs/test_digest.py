"""Digest: the SHA-256 of uploads, long ones in a worker thread."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gridproxy import Bucket
from gridproxy.gridfs.upload.digest import Digest
from gridproxy.gridfs.upload.sources import SourceLike

from ..observing import Database

MEGABYTE = 1024 * 1024
CONTENT = random.Random(18).randbytes(12 * MEGABYTE + 5)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def cut(sizes: list[int]) -> list[bytes]:
    """Return the content in pieces of these sizes, which are repeated up to the end."""
    pieces, start, number = [], 0, 0
    while start < len(CONTENT):
        size = sizes[number % len(sizes)]
        pieces.append(CONTENT[start : start + size])
        start, number = start + size, number + 1
    return pieces


async def test_pieces_of_any_size_are_hashed_in_order() -> None:
    for sizes in ([len(CONTENT)], [2 * MEGABYTE], [3 * MEGABYTE, 10, 300_000, 1], [1000, 5 * MEGABYTE, 65536]):
        digest = Digest(sha256 := hashlib.sha256())
        for piece in cut(sizes):
            digest.update(piece)
        await digest.drain(0)
        assert sha256.hexdigest() == SHA256


async def test_a_drain_bounds_what_waits_for_the_thread() -> None:
    digest = Digest(sha256 := hashlib.sha256())
    for piece in cut([2 * MEGABYTE]):
        digest.update(piece)
        await digest.drain(3 * MEGABYTE)
        assert digest._given - digest._hashed <= 3 * MEGABYTE
    await digest.drain(0)
    assert sha256.hexdigest() == SHA256


async def test_a_cancelled_drain_loses_nothing() -> None:
    digest = Digest(sha256 := hashlib.sha256())
    for piece in cut([2 * MEGABYTE]):
        digest.update(piece)
    draining = asyncio.create_task(digest.drain(0))
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait({draining})
    await digest.drain(0)
    assert sha256.hexdigest() == SHA256


async def test_all_that_wait_continue() -> None:
    digest = Digest(sha256 := hashlib.sha256())
    for piece in cut([2 * MEGABYTE]):
        digest.update(piece)
    with anyio.fail_after(10):
        await asyncio.gather(digest.drain(8 * MEGABYTE), digest.drain(0), digest.drain(1))
    assert sha256.hexdigest() == SHA256


async def test_two_writes_of_one_file_are_awaited_at_once(database: Database) -> None:
    with anyio.fail_after(20):
        async with Bucket(database).open_upload() as writer:
            one, two = CONTENT * 3, b"x" * MEGABYTE
            await asyncio.gather(waited(writer.write(one)), waited(writer.write(two)))
    assert writer.info is not None
    assert writer.info.sha256 == hashlib.sha256(one + two).hexdigest()


async def waited(written: Awaitable[int]) -> int:
    return await written


async def test_a_write_that_is_awaited_ends_with_the_abort(database: Database) -> None:
    for pause in (0, 0.001, 0.01):
        writer = await Bucket(database).open_upload()
        writing = asyncio.create_task(waited(writer.writelines([CONTENT] * 4)))
        await asyncio.sleep(pause)
        with anyio.fail_after(10):
            await writer.abort()
            await asyncio.wait({writing})
    assert await database["fs.chunks"].count_documents({}) == 0


async def test_an_upload_needs_no_thread(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("gridproxy.gridfs.upload.digest.anyio.to_thread.run_sync", refused)
    with anyio.fail_after(20):
        assert (await Bucket(database).upload(CONTENT)).sha256 == SHA256


async def test_long_uploads_take_turns_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    one = anyio.CapacityLimiter(1)
    monkeypatch.setattr("gridproxy.gridfs.upload.digest._limiter", lambda: one)
    digests = [(Digest(sha256 := hashlib.sha256()), sha256) for _ in range(4)]
    go_on = True

    async def feed(digest: Digest) -> None:
        while go_on:
            digest.update(CONTENT[: 2 * MEGABYTE])
            await digest.drain()

    async with anyio.create_task_group() as tasks:
        for busy, _ in digests[1:]:
            tasks.start_soon(feed, busy)
        try:
            with anyio.fail_after(20):
                for piece in cut([2 * MEGABYTE]):
                    digests[0][0].update(piece)
                    await digests[0][0].drain(0)
        finally:
            go_on = False
    assert digests[0][1].hexdigest() == SHA256


async def test_a_digest_that_is_stopped_hashes_no_more() -> None:
    digest = Digest(hashlib.sha256())
    for piece in cut([2 * MEGABYTE]):
        digest.update(piece)
    assert digest._task is not None
    digest.stop()
    await digest._task
    assert digest._hashed < len(CONTENT)
    assert digest._task is None


async def test_uploads_store_the_digest(database: Database, tmp_path: Path) -> None:
    bucket = Bucket(database)
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    sources: list[SourceLike] = [CONTENT, path, cut([70_000]), CONTENT]
    stored = await asyncio.gather(*map(bucket.upload, sources))
    async with bucket.open_upload(filename="written") as writer:
        for piece in cut([3 * MEGABYTE, 10, 300_000]):
            await writer.write(piece)
    assert writer.info is not None
    for info in [*stored, writer.info]:
        assert info.sha256 == SHA256
        await bucket.verify(info.id)


async def test_slow_work_in_the_shared_threads_does_not_hold_up_an_upload(database: Database) -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    busy = [object() for _ in range(int(limiter.total_tokens))]
    for each in busy:
        limiter.acquire_on_behalf_of_nowait(each)
    try:
        with anyio.fail_after(20):
            assert (await Bucket(database).upload(CONTENT)).sha256 == SHA256
    finally:
        for each in busy:
            limiter.release_on_behalf_of(each)
