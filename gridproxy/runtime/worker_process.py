"""Worker processes for work that has to be stopped: a thread cannot be killed, and holds its memory until it ends.

A worker is a script that `subprocess` starts, not a child of `multiprocessing`: it does not import the application's
`__main__`, needs no shared memory, and a fork never copies the application's threads and locks. It ends with this
process, even if that is killed, because its stdin ends then.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

Message = tuple[dict[str, Any], list[bytes]]
Send = Callable[[BinaryIO, Mapping[str, Any], Sequence[bytes]], None]
Receive = Callable[[BinaryIO], Message]

_IDLE_SECONDS = 60.0


class WorkerDied(Exception):
    """The process has ended before it answered. The message says how."""


def can_start_workers() -> bool:
    """Whether this program has a Python interpreter that it can start. A frozen program would start itself."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and hasattr(os, "pipe")


class Worker:
    """One process, and the thread that talks to it. Calls follow each other."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._failure: str | None = None  # why the process has ended
        # A daemon: an event loop or an interpreter that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, daemon=True, name="gridproxy worker")
        self._thread.start()

    async def call(self, head: Mapping[str, Any], *blobs: bytes) -> Message:
        """Send one message and return the answer. Raises `WorkerDied`. If this is cancelled, kill the worker."""
        call = _Call(head, blobs)
        self._calls.put(call)
        if self._failure is not None:  # it has ended before, so its thread may not see this call
            self._fail(self._failure)
        return await call.answer

    def kill(self) -> None:
        """End the process at once. This does not wait for it."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
        self._calls.put(None)

    def is_running(self) -> bool:
        """Whether the process has not ended. Something else may have killed it."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """Let an idle process end."""
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the process has ended."""
        self._thread.join(seconds)

    def disown(self) -> None:
        """Close this process's ends of the pipes, after a fork: the worker belongs to the parent."""
        if (process := self._process) is not None:
            _close(process)
            process.returncode = 0  # or its finalizer would warn that it still runs

    def _run(self) -> None:
        try:
            with self._lock:
                if not self._killed:
                    self._process = self._pool.start()
        except OSError as error:
            self._pool.forget(self)
            self._fail(f"it could not be started ({error})")
            return
        if (process := self._process) is None:
            self._fail("it was stopped")
            return
        reason = "it was stopped"
        try:
            self._serve(process)
        except (EOFError, OSError):
            reason = f"it ended with code {self._reap(process)}"
        finally:
            self._pool.forget(self)
            self._reap(process)
            self._fail(reason)

    def _serve(self, process: subprocess.Popen[bytes]) -> None:
        self._exchange(process, _Call({"do": "start", "path": sys.path}, ()))
        while True:
            try:
                call = self._calls.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                if self._pool.forget(self):
                    return
                continue  # it was taken just now
            if call is None:
                return
            try:
                answer = self._exchange(process, call)
            except (EOFError, OSError) as error:
                call.settle(WorkerDied(f"it ended with code {self._reap(process)}"))
                raise EOFError from error
            call.settle(answer)

    def _exchange(self, process: subprocess.Popen[bytes], call: _Call) -> Message:
        assert process.stdin is not None
        assert process.stdout is not None
        self._pool.send(process.stdin, call.head, call.blobs)  # type: ignore[arg-type]  # unbuffered files
        return self._pool.receive(process.stdout)  # type: ignore[arg-type]

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Close the pipes, which ends an idle process, and wait until it has ended."""
        _close(process)
        try:
            return process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _fail(self, reason: str) -> None:
        self._failure = reason
        with contextlib.suppress(queue.Empty):
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    call.settle(WorkerDied(reason))


class _Call:
    def __init__(self, head: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
        self.head = head
        self.blobs = blobs
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):  # the first message is sent by the worker's own thread
            self._loop = asyncio.get_running_loop()
            self.answer: asyncio.Future[Message] = self._loop.create_future()

    def settle(self, result: Message | WorkerDied) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
                self._loop.call_soon_threadsafe(self._set, result)

    def _set(self, result: Message | WorkerDied) -> None:
        if self.answer.done():
            return
        if isinstance(result, WorkerDied):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class WorkerPool:
    """The workers of this process that run one script. The first one is started by the first `take`."""

    def __init__(self, script: Path, send: Send, receive: Receive, *, most_idle: int) -> None:
        self.script = script
        self.send = send
        self.receive = receive
        self._most_idle = most_idle
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()

    def take(self) -> Worker:
        """Return an idle worker, or a new one. This does not block: the worker's thread starts the process."""
        with self._lock:
            while self._idle:
                if (worker := self._idle.pop()).is_running():
                    return worker
                worker.end()
        worker = Worker(self)
        with self._lock:
            self._all.add(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        """Keep a worker for later, or end it if there are enough."""
        with self._lock:
            if worker in self._all and len(self._idle) < self._most_idle:
                self._idle.append(worker)
                return
        worker.end()

    def forget(self, worker: Worker) -> bool:
        """Remove a worker that ends. Returns whether it was idle."""
        with self._lock:
            idle = worker in self._idle
            if idle:
                self._idle.remove(worker)
            self._all.discard(worker)
            return idle

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process. It has its own group, so that a Ctrl-C in the terminal does not reach it."""
        group: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
            if sys.platform == "win32"
            else {"process_group": 0}
        )
        return subprocess.Popen(
            # Its folder does not become a folder of modules.
            [sys.executable, "-P", str(self.script)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # more would count as used memory
            **group,
        )

    def stop(self) -> None:
        """End all workers, and wait until they have ended."""
        with self._lock:
            idle, workers = set(self._idle), list(self._all)
            self._idle.clear()
        for worker in workers:
            worker.end() if worker in idle else worker.kill()
        for worker in workers:
            worker.join(5)

    def after_fork(self) -> None:
        """Forget the workers of the parent."""
        workers = self._all
        self._reset()
        for worker in workers:
            worker.disown()


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def _stop_all() -> None:
    for pool in list(_pools):
        pool.stop()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
