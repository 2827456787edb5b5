"""A server on loopback, and a client that says exactly what a test wants said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

__all__ = ["Reply", "Site", "serve"]

# Small, so that a client that does not read holds its server back soon.
_SOCKET_BUFFER = 64 * 1024


@dataclass(frozen=True)
class Reply:
    """A received response. Repeated fields are joined in `fields`."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def whole(self) -> bool:
        """Whether the body has the announced length."""
        return len(self.body) == int(self.fields["content-length"])


class Site:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection whose client takes little at a time."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=connection, limit=_SOCKET_BUFFER)

    async def start(
        self, method: str, path: str, *lines: str
    ) -> tuple[Reply, asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the head of an answer, and the connection with its body."""
        reader, writer = await self.connect()
        request = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close", *lines]
        writer.write("\r\n".join([*request, "", ""]).encode("latin-1"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        fields: dict[str, str] = {}
        for line in head[1:-1]:
            name, _, value = line.partition(": ")
            fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
        return Reply(int(head[0].split()[1]), fields, b""), reader, writer

    async def ask(self, method: str, path: str, *lines: str) -> Reply:
        """Read the response until it is complete or the connection ends."""
        head, reader, writer = await self.start(method, path, *lines)
        try:
            return Reply(head.status, head.fields, await reader.read())
        finally:
            writer.close()


@asynccontextmanager
async def serve(app: ASGIApp) -> AsyncIterator[Site]:
    """Yield the application behind a real uvicorn, in this event loop."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        listener.bind(("127.0.0.1", 0))
        # From here on connections are taken, whether the server has got round to them or not.
        listener.listen(256)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Site(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await running
