"""Digest: the SHA-256 of an upload. A long one is hashed in a worker thread, while the event loop encodes and sends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from queue import Empty, SimpleQueue

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.runtime.tasks import spawn

# Blocks of at least so many bytes are worth a change of threads. A thread needs the interpreter's lock after each.
_LARGE = 256 * 1024
# How many bytes may wait for the thread before `drain` waits. They are in memory.
_WAITING_BYTES = 2 * BATCH_BYTES
# How long the thread waits for more, in seconds. To start it again takes longer than to hash a block.
_PATIENCE = 0.002
# How many blocks it hashes before other uploads have a turn.
_TURN = 16
# A limit of its own, because slow work in the threads that a program shares must not hold up its uploads.
_threads = RunVar[anyio.CapacityLimiter]("gridproxy_digest_threads")


class Digest:
    """A SHA-256 of all bytes that `update` is given, in order. The bytes must not change any more."""

    def __init__(self, sha256: hashlib._Hash) -> None:
        self._hash = sha256
        self._given = 0
        self._hashed = 0  # written by one thread at a time
        self._waiting: SimpleQueue[bytes | memoryview] = SimpleQueue()
        self._task: asyncio.Task[None] | None = None
        self._moved: asyncio.Future[None] | None = None  # until a block was hashed, for all that wait in `drain`
        self._stopped = False

    def update(self, data: bytes | memoryview) -> None:
        """Hash bytes at once, or leave them to the thread if they are many."""
        size = len(data)
        idle = self._hashed == self._given
        self._given += size
        if idle and size < _LARGE:
            self._hash.update(data)
            self._hashed += size
            return
        self._waiting.put(data)
        self._start()

    def _start(self) -> None:
        if self._task is None and not self._waiting.empty():
            self._task = spawn(self._run(asyncio.get_running_loop()))

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._waiting.empty():
                try:
                    await anyio.to_thread.run_sync(self._work, loop, limiter=_limiter())
                except RuntimeError:  # no thread can be started: the process has as many as it may
                    self._work(None)
                    self._wake()
        finally:
            self._task = None
            self._wake()

    def _work(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Hash some blocks: in the worker thread of `loop`, or in the event loop itself without it."""
        for _ in range(_TURN):
            try:
                data = self._waiting.get(timeout=_PATIENCE) if loop else self._waiting.get_nowait()
            except Empty:
                return
            self._hash.update(data)
            self._hashed += len(data)
            if loop is not None and self._moved is not None:
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None and not moved.done():
            moved.set_result(None)

    async def drain(self, at_most: int = _WAITING_BYTES) -> None:
        """Wait until at most so many bytes wait for the thread, or until `stop`."""
        while not self._stopped and self._given - self._hashed > at_most:
            self._start()
            moved = self._moved
            if moved is None:
                moved = self._moved = asyncio.get_running_loop().create_future()
            # The thread may have hashed the last block before it could see the future.
            if self._given - self._hashed > at_most:
                await asyncio.shield(moved)  # others wait for it, too

    def stop(self) -> None:
        """Forget what waits, because the upload was aborted."""
        self._stopped = True
        with contextlib.suppress(Empty):
            while True:
                self._waiting.get_nowait()
        self._wake()


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
        _threads.set(limiter)
        return limiter
