"""A real server: downloads that break and go on, clients that leave, and a hundred readers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridproxy import AsyncGridFile
from gridproxy.adapters.starlette import GridFileResponse, read_ahead
from tests.web.conftest import Watched
from tests.web.raw import Site, serve

CHUNK = 255 * 1024
CONTENT = b"".join(number.to_bytes(4) for number in range(1_500_000))  # 6 MB, no two places alike


@asynccontextmanager
async def site_of(file: AsyncGridFile, background: BackgroundTask | None = None) -> AsyncIterator[Site]:
    async def route(request: Request) -> Response:
        return GridFileResponse(file, background=background)

    async with serve(Starlette(routes=[Route("/file", route)])) as site:
        yield site


async def test_an_interrupted_download_is_resumed(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(CONTENT, chunk_size=CHUNK)
    async with site_of(file) as site:
        head, reader, writer = await site.start("GET", "/file")
        first = await reader.readexactly(2_345_678)
        writer.transport.abort()  # the cable is pulled
        rest = await site.ask("GET", "/file", f"Range: bytes={len(first)}-", f"If-Range: {head.fields['etag']}")
    assert rest.status == 206
    assert first + rest.body == CONTENT
    assert rest.fields["etag"] == head.fields["etag"] == file.etag


async def test_a_download_is_not_resumed_with_another_file(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(b"old" * 1000)
    async with site_of(file) as site:
        head = await site.ask("HEAD", "/file")
        await file.replace(b"new" * 1000)
        again = await site.ask("GET", "/file", "Range: bytes=1500-", f"If-Range: {head.fields['etag']}")
    assert (again.status, again.body) == (200, b"new" * 1000)


async def test_a_client_that_leaves_ends_the_reading(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(CONTENT, chunk_size=CHUNK)
    left = asyncio.Event()

    async def note() -> None:
        left.set()

    async with site_of(file, BackgroundTask(note)) as site:
        _, reader, writer = await site.start("GET", "/file")
        await reader.readexactly(1000)
        writer.transport.abort()
        await left.wait()
        assert watched_bucket.traffic.fetched < len(CONTENT)


async def test_a_file_that_vanishes_breaks_the_connection_and_does_not_end_short(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(CONTENT, chunk_size=CHUNK)
    async with site_of(file) as site:
        head, reader, writer = await site.start("GET", "/file")
        got = await reader.readexactly(1000)
        await watched_bucket.bucket.delete(file.id)
        got += await reader.read()
        writer.close()
    assert int(head.fields["content-length"]) == len(CONTENT)
    assert len(got) < len(CONTENT)
    assert CONTENT.startswith(got)


async def test_a_hundred_readers_at_once_take_a_bounded_memory(
    watched_bucket: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "WINDOW_BYTES", 100_000)
    file = await watched_bucket.file(CONTENT, chunk_size=100_000)
    readers, finishing, share = 100, 3, 5_000_000
    go_on = asyncio.Event()

    async def read(site: Site, number: int) -> None:
        start = number * 9_876
        head, reader, writer = await site.start("GET", "/file", f"Range: bytes={start}-{start + share - 1}")
        assert head.status == 206
        got = bytearray(await reader.readexactly(1000))
        started.append(number)
        await go_on.wait()
        if number < finishing:
            got += await reader.readexactly(share - 1000)
            assert got == CONTENT[start : start + share]
        writer.transport.abort()

    started: list[int] = []
    async with site_of(file) as site:
        reading = asyncio.gather(*(read(site, number) for number in range(readers)))
        fetched = -1
        while len(started) < readers or fetched < watched_bucket.traffic.fetched:  # until all readers are blocked
            fetched = watched_bucket.traffic.fetched
            for _ in range(10):
                await watched_bucket.bucket.database.command("ping")
        go_on.set()
        await reading
    # No more can be held than was fetched: of five megabytes for each two windows, and what fills the sockets, which
    # the kernel decides.
    assert fetched <= readers * 2_000_000
