"""A TCP proxy that makes the way to a server longer: half of a round-trip time in each direction.

    with delaying_proxy("127.0.0.1", 27017, rtt=0.025) as port:
        client = AsyncMongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true")

It adds latency and takes no throughput: every piece carries the moment at which it is due and waits in a queue, while
the next ones come in behind it. It runs as a process of its own, so that it does not share the interpreter's lock with
what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["child_server", "delaying_proxy"]

_ROOT = Path(__file__).resolve().parent.parent
# Bytes that may wait for a slow receiver before the sender is held back; what waits for its moment does not count.
_WRITE_BUFFER = 8 * 1024 * 1024


@contextlib.contextmanager
def delaying_proxy(host: str, port: int, rtt: float) -> Iterator[int]:
    """Yield the port of a proxy on 127.0.0.1 with a round trip of `rtt` seconds to the server."""
    with child_server("tests.proxy", "--to", f"{host}:{port}", "--rtt", str(rtt)) as own_port:
        yield own_port


@contextlib.contextmanager
def child_server(module: str, *arguments: str) -> Iterator[int]:
    """Run a module of ours that prints the port it listens on and ends with its standard input; gives the port."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    # Leaving the Popen's block closes the pipes, which ends the process, and waits for it.
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} ended before it listened")
        yield int(line)


class _End(asyncio.Protocol):
    """One end of a connection: what it hears is said at the other end `delay` seconds later."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        self._loop = loop
        self._delay = delay
        self._due: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        if self.other is None:
            transport.pause_reading()  # until the server is reached

    def join(self, other: _End) -> None:
        """Be the way to `other`, and the other way round."""
        self.other, other.other = other, self

    def data_received(self, data: bytes) -> None:
        self._enqueue(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._enqueue(b"")

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def _enqueue(self, data: bytes) -> None:
        self._due.append((self._loop.time() + self._delay, data))
        if self._timer is None:
            self._timer = self._loop.call_at(self._due[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            _, data = self._due.popleft()
            if self.other is None or self.other.transport is None or self.other.transport.is_closing():
                continue  # there is nobody left to hear it
            if data:
                self.other.transport.write(data)
            else:
                self.other.transport.close()
        if self._due:
            self._timer = self._loop.call_at(self._due[0][0], self._deliver)


async def _serve(host: str, port: int, rtt: float) -> None:
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    async def connect(client: _End) -> None:
        try:
            _, server = await loop.create_connection(lambda: joined(client), host, port)
        except OSError:
            if client.transport is not None:
                client.transport.abort()
            return
        assert client.transport is not None
        assert server.transport is not None
        if client.transport.is_closing():
            server.transport.abort()
        else:
            client.transport.resume_reading()

    def joined(client: _End) -> _End:
        server = _End(loop, rtt / 2)
        client.join(server)
        return server

    def accept() -> _End:
        client = _End(loop, rtt / 2)
        task = loop.create_task(connect(client))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return client

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)  # noqa: T201  # whoever started this process waits for it
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def _main() -> None:
    parser = argparse.ArgumentParser(description="A TCP proxy that delays; prints the port it listens on.")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--rtt", type=float, required=True, metavar="SECONDS")
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    # Not epoll: asyncio rounds its time-outs up to whole milliseconds, and select's are exact.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with contextlib.suppress(KeyboardInterrupt):
        loop.run_until_complete(_serve(host, int(port), given.rtt))


if __name__ == "__main__":
    _main()
