"""Serving over a real uvicorn: 64 KB pictures to 50 clients, ours beside what users write without it.

Each contender is an application in a process of its own, because a server shares its interpreter with no client.
`python -m tests.benchmarks.serving APP URI RETRY_WRITES FOLDER` runs one and prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient, MongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gridproxy import Bucket
from gridproxy.adapters.starlette import GridFileResponse
from tests.proxy import child_server

from .interface import DATABASE, OURS, PYMONGO
from .results import SERVER, Row, goal_of

__all__ = ["measure_serving"]

DISK = "from disk"
_APPS = {OURS: "ours", PYMONGO: "pymongo", DISK: "disk"}
_BUCKET = "served"
_SIZE = 64 * 1024
_PICTURES = 50
_CLIENTS = 50


async def _gridproxy_app(database: Any, _: Path) -> Callable[[str], Awaitable[Response]]:
    bucket = Bucket(database, _BUCKET)

    async def answer(id: str) -> Response:
        return GridFileResponse(bucket.file(ObjectId(id)))

    return answer


async def _pymongo_app(database: Any, _: Path) -> Callable[[str], Awaitable[Response]]:
    bucket = AsyncGridFSBucket(database, _BUCKET)

    async def answer(id: str) -> Response:
        opened = await bucket.open_download_stream(ObjectId(id))

        async def blocks() -> AsyncIterator[bytes]:
            while block := await opened.readchunk():
                yield block

        return StreamingResponse(
            blocks(), media_type="image/jpeg", headers={"content-length": str(opened.length), "etag": f'"{id}"'}
        )

    return answer


async def _disk_app(_: Any, folder: Path) -> Callable[[str], Awaitable[Response]]:
    async def answer(id: str) -> Response:
        return FileResponse(folder / f"{id}.jpg")

    return answer


async def _serve(name: str, uri: str, retry_writes: str, folder: Path) -> None:
    import uvicorn  # only the child needs it

    async with AsyncMongoClient[dict[str, Any]](uri, directConnection=True, retryWrites=retry_writes == "1") as client:
        make = {"ours": _gridproxy_app, "pymongo": _pymongo_app, "disk": _disk_app}[name]
        answer = await make(client[DATABASE], folder)

        async def picture(request: Request) -> Response:
            return await answer(request.path_params["id"])

        async def used(_: Request) -> Response:
            return JSONResponse(time.process_time())

        app = Starlette(routes=[Route("/cpu", used), Route("/{id}", picture)])
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        # The connection that asks for the processor time is idle for the whole round.
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=600)
        server = uvicorn.Server(config)
        print(listener.getsockname()[1], flush=True)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.to_thread(sys.stdin.buffer.read)  # until the parent has gone
        server.should_exit = True
        await serving


class _Client:
    """One connection that asks for one picture after another."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> _Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 18)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def get(self, path: str) -> bytes:
        self._writer.write(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        _, _, length = head.partition(b"content-length:")
        return await self._reader.readexactly(int(length.partition(b"\r\n")[0]))


async def _load(port: int, ids: Sequence[str], requests: int) -> tuple[float, float]:
    """Return the seconds of wall clock, and of the server's processor time, for one request."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_Client(port)) for _ in range(_CLIENTS)]
        control = await stack.enter_async_context(_Client(port))

        async def ask(client: _Client, number: int) -> None:
            for turn in range(requests // _CLIENTS):
                content = await client.get(ids[(number + turn) % len(ids)])
                assert len(content) == _SIZE

        used = float(await control.get("cpu"))
        start = time.perf_counter()
        await asyncio.gather(*(ask(client, number) for number, client in enumerate(clients)))
        took = time.perf_counter() - start
        used = float(await control.get("cpu")) - used
        return took / requests, used / requests


@contextmanager
def _pictures(uri: str, options: Mapping[str, Any], folder: Path) -> Iterator[list[str]]:
    async def store() -> list[str]:
        async with AsyncMongoClient[dict[str, Any]](uri, directConnection=True, **options) as client:
            bucket = Bucket(client[DATABASE], _BUCKET)
            ids = []
            for _ in range(_PICTURES):
                content = os.urandom(_SIZE)
                info = await bucket.upload(content, content_type="image/jpeg")
                (folder / f"{info.id}.jpg").write_bytes(content)
                ids.append(str(info.id))
            return ids

    try:
        yield asyncio.run(store())
    finally:
        with MongoClient[dict[str, Any]](uri, directConnection=True, **options) as client:
            for name in ("files", "chunks"):
                client[DATABASE].drop_collection(f"{_BUCKET}.{name}")


def measure_serving(
    uri: str, options: Mapping[str, Any], requests: int, rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Measure each application in turn, and return the rows."""
    wall: dict[str, list[float]] = {name: [] for name in _APPS}
    used: dict[str, list[float]] = {name: [] for name in _APPS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ids = stack.enter_context(_pictures(uri, options, folder))
        retry = "1" if options.get("retryWrites", True) else "0"
        ports = {
            name: stack.enter_context(child_server("tests.benchmarks.serving", app, uri, retry, str(folder)))
            for name, app in _APPS.items()
        }
        for port in ports.values():
            asyncio.run(_load(port, ids, 2 * _CLIENTS))
        for turn in range(rounds):
            order = list(ports)[turn % len(ports) :] + list(ports)[: turn % len(ports)]
            for name in order:
                say(f"serving, round {turn + 1} of {rounds}: {name}")
                seconds, processor = asyncio.run(_load(ports[name], ids, requests))
                wall[name].append(seconds)
                used[name].append(processor)
    return [
        _row("serving", "a request", wall[PYMONGO], wall[OURS]),
        _row("serving-cpu", "processor time of a request", used[PYMONGO], used[OURS]),
        _row("serving-disk", "a request, against FileResponse", wall[DISK], wall[OURS]),
    ]


def _row(work: str, what: str, theirs: list[float], ours: list[float]) -> Row:
    label = f"serve 64 KB to {_CLIENTS} clients: {what}"
    return Row(work, label, SERVER, 0.0, "s", OURS, goal_of(work, SERVER, 0.0), {PYMONGO: theirs, OURS: ours})


if __name__ == "__main__":
    _app, _uri, _retry, _folder = sys.argv[1:]
    asyncio.run(_serve(_app, _uri, _retry, Path(_folder)))
