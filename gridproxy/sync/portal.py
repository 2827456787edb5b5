"""The thread that runs the event loop of all blocking calls of this process."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import ctypes
import os
import queue
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import pymongo
from anyio import to_thread
from pymongo import AsyncMongoClient

from gridproxy.errors import EventLoopRunning, FileClosed
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tasks import caller_thread

T = TypeVar("T")
R = TypeVar("R")
Items = TypeVar("Items")

# Seconds for which a client may talk to the server when it is closed at the end of the program.
_CLOSING = 3.0
# Seconds for which the end of the program waits for calls of other threads, which are cancelled.
_ENDING = 15.0


class Portal:
    """An event loop in a thread of its own. `current_portal()` returns that of this process."""

    def __init__(self) -> None:
        self.clients: dict[int, AsyncMongoClient[Any]] = {}
        """The open clients, by `id`. They are closed at the end of the program."""
        self._pid = os.getpid()
        self._end = asyncio.Event()
        self._started: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gridproxy.sync", daemon=True)
        self._thread.start()
        self.loop: asyncio.AbstractEventLoop = self._started.get()

    def _run(self) -> None:
        asyncio.run(self._until_end())

    async def _until_end(self) -> None:
        self._started.put(asyncio.get_running_loop())
        await self._end.wait()
        for key in list(self.clients):
            await self.close(key)

    async def close(self, key: int) -> None:
        """Close a client of this portal. A second call has no effect."""
        client = self.clients.pop(key, None)
        if client is not None:
            with pymongo.timeout(_CLOSING):  # the server may be gone, and a client says goodbye to it
                await client.close()

    def later(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run `work` without waiting for it, because the caller is a destructor. Has no effect after the end."""

        async def working() -> None:
            await work()

        if self._pid == os.getpid():
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(lambda: self.loop.create_task(working()))

    def stop(self) -> None:
        """Close the clients and end the thread."""
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_ENDING)

    def call(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Await `make()` in the loop and return the result. An exception such as Ctrl-C in this thread cancels it.

        `name` is that of the asynchronous call, for the error.

        Raises:
            EventLoopRunning: An event loop runs in this thread.
            FileClosed: This is the portal of another process.
        """
        if self._pid != os.getpid():
            raise FileClosed("this file was opened before the process was forked: open it in this process")
        _check_thread(name, self.loop)
        return _Call(self.loop, make).wait()


class _Call(Generic[T]):
    """One call. Its thread waits in `wait`, and runs what the call needs of its thread: sources, sinks, progress."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Awaitable[T]]) -> None:
        self._loop = loop
        self._make = make
        self._context = contextvars.copy_context()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: set[asyncio.Future[Any]] = set()
        self._serving = True
        self._task: asyncio.Task[None] | None = None
        self._result: T
        self._error: BaseException | None = None

    def wait(self) -> T:
        """Start the call and wait for its end."""
        try:
            self._loop.call_soon_threadsafe(self._start)
            self._run_jobs()
        except BaseException as stop:  # Ctrl-C, or what another signal handler raises, such as a time limit of Celery
            self._serving = False
            self._loop.call_soon_threadsafe(self._cancel)
            self._run_jobs()  # until the operation has ended, at most ten seconds. A second Ctrl-C does not wait.
            for note in getattr(self._error, "__notes__", ()):
                stop.add_note(note)
            raise
        self._serving = False
        del self._make  # tasks that go on after the call, such as those of a writer, refer to it through their context
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # the traceback refers to this frame
        return self._result

    def _run_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._serving:
                job()

    # All below runs in the loop.

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(lambda _: self._jobs.put(None))

    async def _run(self) -> None:
        caller_thread.set(self)
        try:
            self._result = await self._make()
        except BaseException as error:  # noqa: BLE001  # raised in the calling thread. Here it could end the loop.
            self._error = error

    def _cancel(self) -> None:
        for answer in self._answers:
            answer.cancel()
        if self._task is None or self._task.done():  # the exception was raised before the start or after the end
            self._jobs.put(None)
        else:
            self._task.cancel()

    async def run(self, work: Callable[[], R]) -> R:
        """Run `work` in the thread that waits, or in a worker thread after that has been interrupted."""
        if not self._serving:
            return await to_thread.run_sync(work)
        answer: asyncio.Future[tuple[R | None, BaseException | None]] = self._loop.create_future()

        def set_answer(value: R | None, error: BaseException | None) -> None:
            if not answer.done():
                answer.set_result((value, error))

        def job() -> None:
            value, failure = None, None
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001  # raised in the operation, which then fails and raises it
                failure = error
            self._loop.call_soon_threadsafe(set_answer, value, failure)

        self._answers.add(answer)
        self._jobs.put(job)
        try:
            result, failure = await answer
        finally:
            self._answers.discard(answer)
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]  # without an error there is a result


class _Process:
    """The portal of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: Portal | None = None
        self._kept: list[object] = []

    def before_fork(self) -> None:
        self._keep()

    def after_fork_in_parent(self) -> None:
        self._kept = []

    def after_fork_in_child(self) -> None:
        # What is connected belongs to the parent process and cannot be closed here.
        self._forget()
        self.lock = threading.Lock()

    def end(self) -> None:
        if self.portal is not None:
            self._keep()
            self.portal.stop()
            self._forget()

    def _keep(self) -> None:
        if self.portal is not None:
            # pymongo replaces the topology of each client in a new process.
            clients = list(self.portal.clients.values())
            self._kept = [self.portal, *clients, *(vars(client).get("_topology") for client in clients)]

    def _forget(self) -> None:
        # pymongo and asyncio write tracebacks if what is kept is destroyed in a new process, or after its modules at
        # the end of the program. With one more reference it never is.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._kept))
        self._kept = []
        self.portal = None


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_parent=_process.after_fork_in_parent,
        after_in_child=_process.after_fork_in_child,
    )
atexit.register(_process.end)


def current_portal() -> Portal:
    """Return the portal of this process, which starts with its first use."""
    portal = _process.portal
    if portal is None:
        with _process.lock:
            portal = _process.portal = _process.portal or Portal()
    return portal


def call(name: str, make: Callable[[], Awaitable[T]]) -> T:
    """Await `make()` in the loop of this process. See `Portal.call`."""
    return current_portal().call(name, make)


def _check_thread(name: str, loop: asyncio.AbstractEventLoop) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    # The loop of a notebook runs the cells, and waits for each of them in any case.
    ipython = sys.modules.get("IPython")
    if running is loop or ipython is None or ipython.get_ipython() is None:
        raise EventLoopRunning(name)


def listed(items: Items) -> Items | list[Any]:
    """Return the items of an iterable as a list if it may block or belong to the calling thread, as a generator may."""
    if isinstance(items, Sequence | Mapping | Set) or not isinstance(items, Iterable):
        return items
    return list(items)


def in_callers_thread(progress: Progress | None) -> Progress | None:
    """Return a `progress` that is called in the thread of the blocking call."""
    if progress is None:
        return None

    async def reported(done: int, total: int | None) -> None:
        caller = caller_thread.get()
        answer = progress(done, total) if caller is None else await caller.run(partial(progress, done, total))
        if isinstance(answer, Awaitable):
            await answer

    return reported
