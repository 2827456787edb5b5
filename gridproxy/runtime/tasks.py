"""Tasks for work that has to finish even if its caller is cancelled.

pymongo abandons a cancelled operation while the server still carries it out, and an anyio shield does not stop a second
native `cancel()`. All writes therefore run in separate tasks, and the caller's cancellation is raised when they are
done.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from gridproxy.errors import AsyncioRequired

from .session_lock import fresh_context

T = TypeVar("T")
U = TypeVar("U")

# The event loop keeps only weak references, and a task has to finish even if its starter was garbage collected.
_running: set[asyncio.Task[Any]] = set()


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


async def run_to_completion(work: Coroutine[Any, Any, T], *, fresh: bool = False) -> T:
    """Run `work` to its end in a separate task, then raise the cancellation that the caller received while it ran.

    If `work` fails and the caller was cancelled, `CancelledError` is raised with the failure as its cause. `fresh` is
    for clean-ups: it runs `work` without the caller's bound session and deadline, but with the session lock it holds.
    """
    task = spawn(work, context=fresh_context() if fresh else None)
    cancelled: asyncio.CancelledError | None = None
    # Without the shield anyio would cancel again at each iteration of the loop. Native cancels pass through it.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        raise cancelled from failure
    raise cancelled


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread. A cancellation waits for it, because the thread still uses the caller's file."""
    return await run_to_completion(anyio.to_thread.run_sync(work))


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
    for task in ending:
        task.cancel()
    if ending:
        await run_to_completion(asyncio.wait(ending))
