"""Tasks for work that has to finish even if its caller is cancelled.

pymongo abandons a cancelled operation while the server still carries it out, and an anyio shield does not stop a second
native `cancel()`. All writes therefore run in separate tasks, and the caller's cancellation is raised when they are
done, or after `SETTLE_SECONDS`. Work that is given up then is cancelled. It removes nothing any more, because the
server may still carry out what it has sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import anyio
import anyio.to_thread
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import NetworkTimeout, PyMongoError

from gridproxy.errors import AsyncioRequired

from .deadlines import reach_server, seconds_left, wait_in_line
from .events import logger
from .session_lock import fresh_context, lock
from .tracing import context_with, current_trace

T = TypeVar("T")
U = TypeVar("U")

# How long a cancelled operation waits for its write, in seconds.
SETTLE_SECONDS = 10.0
# How often a task is cancelled until it has ended, and the seconds in between.
_CANCELS = 20
_PAUSE = 0.05
# The key of the moment, in the loop's time, until which clean-ups after a cancellation may take.
_UNTIL = "gridproxy_until"

# The event loop keeps only weak references, and a task has to finish even if its starter was garbage collected.
_running: set[asyncio.Task[Any]] = set()
_given_up: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


class _Exit(Exception):
    """A `SystemExit` or `KeyboardInterrupt` of the caller's code, on its way from a task of ours to the caller.

    As it is, it would stop the event loop there.
    """


def spawn(work: Coroutine[Any, Any, T], *, context: contextvars.Context | None = None) -> asyncio.Task[T]:
    """Start `work` in a task that is referenced until it ends. Awaiting the task raises its error."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work.close()
        raise AsyncioRequired from None
    task = loop.create_task(work, context=context)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # marks it as retrieved: the loop need not log the failed batch of a dropped writer


async def run_to_completion(
    work: Coroutine[Any, Any, T],
    *,
    client: AsyncMongoClient[Any] | None = None,
    fresh: bool = False,
    until: float | None = None,
) -> T:
    """Run `work` to its end in a separate task, then raise the cancellation that the caller received while it ran.

    If `work` fails and the caller was cancelled, `CancelledError` is raised with the failure as its cause. If it takes
    `SETTLE_SECONDS` more, it is given up, and a note on the `CancelledError` says so.

    Args:
        work: What to run.
        client: The client whose server `work` writes to first. If no such server is known yet, the caller waits for it
            here, where a cancellation ends the call at once.
        fresh: Whether to run `work` without the caller's bound session and deadline, but with the session lock that the
            caller holds. Clean-ups need that.
        until: When to give up without a cancellation, in the loop's time.

    Raises:
        NetworkTimeout: The work was given up because of `until`.
    """
    try:
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    except RuntimeError:
        work.close()
        raise AsyncioRequired from None
    if caller in _given_up:
        work.close()
        raise asyncio.CancelledError
    if client is not None and not client.topology_description.has_writable_server():
        try:
            await interruptible(reach_server(client))
        except BaseException:
            work.close()
            raise
    ended: asyncio.Future[None] = loop.create_future()
    task = loop.create_task(_contained(work, ended), context=fresh_context() if fresh else None)
    _running.add(task)
    task.add_done_callback(_running.discard)
    task.add_done_callback(ended.cancel)  # of a task that is cancelled before it starts
    cancelled: asyncio.CancelledError | None = None
    try:
        if until is None:
            await ended
        else:
            await asyncio.wait({task}, timeout=until - loop.time())
    except asyncio.CancelledError as error:
        cancelled = error
    if not task.done():
        # Without the shield anyio would cancel again at each iteration of the loop. Native cancels pass through it.
        with anyio.CancelScope(shield=True):
            if cancelled is not None:
                end = loop.time() + (0 if caller in _given_up else SETTLE_SECONDS)
                until = end if until is None else min(until, end)
                vars(cancelled)[_UNTIL] = until
                await _wait_until(task, until)
            if not task.done():
                _given_up.add(task)
                cancelled = await _cancel({task}, cancelled)
        if task in _given_up and (cancelled is not None or not task.done() or task.cancelled()):
            _raise_given_up(cancelled)
    if cancelled is None:
        try:
            return task.result()
        except _Exit as error:
            raise error.args[0] from None
    if task.cancelled() or (failure := task.exception()) is None:
        raise cancelled
    raise cancelled from (failure.args[0] if isinstance(failure, _Exit) else failure)


async def _contained(work: Coroutine[Any, Any, T], ended: asyncio.Future[None]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Exit(error) from None
    finally:
        # The caller continues in the next turn of the loop, when the task is done. `asyncio.wait` takes one turn more.
        if not ended.done():
            ended.set_result(None)


async def _wait_until(task: asyncio.Task[Any], until: float) -> None:
    """Wait for the task, however often this one is cancelled."""
    loop = asyncio.get_running_loop()
    while not task.done() and (left := until - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            if asyncio.current_task() in _given_up:
                return


async def _cancel(
    tasks: set[asyncio.Future[Any]], cancelled: asyncio.CancelledError | None
) -> asyncio.CancelledError | None:
    """Cancel tasks until they have ended. Return the first cancellation of the caller.

    They are cancelled again after each pause, because they may await more while they end, and because pymongo can lose
    a cancellation (see `interruptible`).
    """
    for _ in range(_CANCELS):
        for task in tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks, timeout=_PAUSE)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
        tasks = {task for task in tasks if not task.done()}
        if not tasks:
            break
    return cancelled


def _raise_given_up(cancelled: asyncio.CancelledError | None) -> NoReturn:
    if asyncio.current_task() in _given_up:
        raise cancelled or asyncio.CancelledError  # the operation that this is part of says so
    message = (
        f"The server did not answer for {SETTLE_SECONDS:g} seconds after this operation was cancelled or timed out. "
        "What was sent may still happen. No chunk of a file that may be stored was removed, and collect_garbage() "
        "removes what is left."
    )
    logger.warning(message)
    if cancelled is None:
        raise NetworkTimeout(message)
    cancelled.add_note(message)
    raise cancelled


def seconds_for_clean_up(cause: BaseException | None) -> float | None:
    """Return how many seconds the clean-up after this failure may take, or None for as many as it needs."""
    now = asyncio.get_running_loop().time()
    if isinstance(cause, asyncio.CancelledError):
        until: float = vars(cause).get(_UNTIL, now + SETTLE_SECONDS)
        return max(0.0, until - now)
    if seconds_left() is not None or (isinstance(cause, PyMongoError) and cause.timeout):
        return SETTLE_SECONDS
    return None


async def clean_up(work: Coroutine[Any, Any, object], cause: BaseException | None, left: str) -> bool:
    """Run the clean-up after the failure `cause`, in an empty context. Return whether it succeeded.

    An error of it is noted on `cause`, with what may be `left`, or raised if there is no cause. After a cancellation or
    a time limit it may take `SETTLE_SECONDS`, less the time that the write took since the cancellation.
    """
    try:
        seconds = seconds_for_clean_up(cause)
    except RuntimeError:  # there is no event loop of asyncio, so nothing was done
        work.close()
        raise AsyncioRequired from None
    failure: Exception
    if asyncio.current_task() in _given_up or seconds == 0:
        work.close()
        failure = NetworkTimeout("there was no time left for it")
    else:
        try:
            until = None if seconds is None else asyncio.get_running_loop().time() + seconds
            await run_to_completion(work, fresh=True, until=until)
            return True
        except Exception as error:  # noqa: BLE001  # the caller has to see the first error
            failure = error
    if cause is None:
        raise failure
    cause.add_note(f"The clean-up failed too ({failure!r}): {left}")
    return False


async def in_thread(work: Callable[[], T], *, abandon: bool = False) -> T:
    """Run blocking work in a thread.

    A cancellation waits for it, because the thread still uses the caller's file, but not longer than for a write.
    `abandon` is for work that uses nothing of the caller's: a cancellation leaves the thread to itself at once.
    """
    if abandon:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    return await run_to_completion(anyio.to_thread.run_sync(work))


class CallerThread(Protocol):
    """A thread that waits for an operation of `gridproxy.sync` and runs what the operation needs of it."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in that thread, and raise its error here."""


caller_thread: contextvars.ContextVar[CallerThread | None] = contextvars.ContextVar(
    "gridproxy_caller_thread", default=None
)


async def in_callers_thread(work: Callable[[], T]) -> T:
    """Run code of the caller's that may block: in the thread that waits for this operation, else in a worker thread.

    A generator may use what belongs to one thread, such as a cursor of sqlite3. A cancellation waits as in `in_thread`.
    """
    caller = caller_thread.get()
    return await (in_thread(work) if caller is None else run_to_completion(caller.run(work)))


async def each_in_callers_thread(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items of the caller's iterable. If a thread waits for this operation, it is iterated there."""
    if caller_thread.get() is None:
        for item in items:
            yield item
        return
    iterator = await in_callers_thread(functools.partial(iter, items))
    while found := await in_callers_thread(lambda: list(itertools.islice(iterator, 1))):
        yield found[0]


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run work that may block for ever in a thread that a cancellation abandons. It does not delay Python's exit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def set_result(value: T | None, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]  # without an error there is a result
        else:
            result.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001  # raised in the caller's task
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing waits for the result
            loop.call_soon_threadsafe(set_result, value, failure)

    threading.Thread(target=run, name="gridproxy", daemon=True).start()
    return await result


class Limit(asyncio.Semaphore):
    """A semaphore that respects the deadlines of the driver, as the driver's own pool of connections does."""

    def __init__(self, value: int, client: AsyncMongoClient[Any]) -> None:
        super().__init__(value)
        self._client = weakref.ref(client)

    async def __aenter__(self) -> None:
        if self.locked():
            await wait_in_line(self.acquire(), self._client())
        else:
            await self.acquire()


class SharedTask(Generic[T]):
    """Work that several callers wait for, in an empty context with the span of the first one.

    It is cancelled if all of them were cancelled.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = spawn(work, context=context_with(current_trace()))
        self._waiting = 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is ending because every caller has left."""
        return self._task.done() or self._task.cancelling() > 0

    async def wait(self, what: str) -> T:
        """Return the result. A deadline of one caller ends the work only if it is the last caller.

        `what` names the work for the error of a deadline of the driver.
        """
        self._waiting += 1
        try:
            await asyncio.wait({self._task}, timeout=seconds_left())
            if not self._task.done():
                raise NetworkTimeout(f"the time limit passed while waiting for {what}")
            return self._task.result()
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                await end_tasks([self._task])


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run two reads at once. The first error is raised as it is, and the other read is cancelled."""
    try:
        tasks = spawn(first), spawn(second)
    except AsyncioRequired:
        second.close()
        raise
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return tasks[0].result(), tasks[1].result()
    finally:
        await end_tasks(tasks)


async def gather(works: Sequence[Coroutine[Any, Any, T]], *, at_most: int) -> list[T]:
    """Run `at_most` coroutines at a time and return the results in order.

    The first error is raised as it is, and the other coroutines are cancelled.
    """
    free = asyncio.Semaphore(at_most)

    async def limited(work: Coroutine[Any, Any, T]) -> T:
        async with free:
            return await work

    tasks = [spawn(limited(work)) for work in works]
    try:
        for task in tasks:
            await asyncio.wait({task})
            task.result()
        return [task.result() for task in tasks]
    finally:
        await end_tasks(tasks)
        for work in works:
            work.close()  # some may never have started


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks that only read, and wait until they have ended."""
    ending = {task for task in tasks if not task.done()}
    if ending:
        with anyio.CancelScope(shield=True):
            cancelled = await _cancel(ending, None)
        if cancelled is not None:
            raise cancelled


async def interruptible(work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    """Await a read of the driver so that a cancellation of the caller ends it at once.

    pymongo sends with `asyncio.wait_for`, which loses a cancellation that arrives in the same turn of the loop as the
    end of what it waits for (Python 3.11, https://github.com/python/cpython/issues/86296). And it closes the cursor of
    a cancelled read, for which it waits for the server.
    """

    try:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    except RuntimeError:
        if isinstance(work, Coroutine):
            work.close()
        raise AsyncioRequired from None

    async def awaited() -> T:
        try:
            return await work
        finally:
            if not ended.done():
                ended.set_result(None)

    task = spawn(awaited())
    task.add_done_callback(ended.cancel)  # of a task that is cancelled before it starts
    try:
        await ended
        return task.result()
    finally:
        if not task.done():
            await end_tasks([task])


class Closable(Protocol):
    """A cursor of pymongo."""

    def close(self) -> Coroutine[Any, Any, None]:
        """Tell the server that the cursor is not needed any more."""


C = TypeVar("C", bound=Closable)


@contextlib.asynccontextmanager
async def released(cursor: C) -> AsyncIterator[C]:
    """Close the cursor after the block. After a cancellation a silent server does not delay the caller for ever."""
    try:
        yield cursor
    except asyncio.CancelledError as error:
        await clean_up(cursor.close(), error, "the server drops the cursor after ten minutes.")
        raise
    except BaseException:
        await cursor.close()
        raise
    await cursor.close()


async def iterate_locked(session: AsyncClientSession | None, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Iterate over a cursor and lock the session for each fetch only, so that the caller may use it in between."""
    while True:
        async with lock(session):
            try:
                item = await interruptible(anext(items))
            except StopAsyncIteration:
                return
        yield item
