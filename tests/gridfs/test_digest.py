"""Digest: the SHA-256 of uploads, long ones in a worker thread."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import anyio.to_thread

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
