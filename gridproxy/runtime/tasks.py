"""Tasks of our own: work that has to come to its end whatever happens to whoever started it.

pymongo gives up a cancelled operation while the server still carries it out, and an anyio shield does not stop a
second native `cancel()`. So whatever writes runs in a task of its own, and a cancellation is given back once that
task has settled.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from .session_lock import fresh_context

T = TypeVar("T")
U = TypeVar("U")

# The event loop keeps weak references only: a task whose starter was dropped must still come to its end.
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], *, context: contextvars.Context | None = None) -> asyncio.Task[T]:
    """Start `work` in a task that is kept until it ends; its error waits for whoever awaits it."""
    task = asyncio.get_running_loop().create_task(work, context=context)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen: a dropped writer's failed batch is no news for the loop's exception handler


async def run_to_completion(work: Coroutine[Any, Any, T], *, fresh: bool = False) -> T:
    """Run `work` to its end in a task of its own; a cancellation that came meanwhile is raised after it.

    `fresh` runs it in an empty context (but for the turn that is held), where neither a bound session nor a deadline of
    the caller's applies: for clean-ups.
    An error of `work` itself wins over a cancellation only in that it is its `__context__`.
    """
    task = spawn(work, context=fresh_context() if fresh else None)
    cancelled: asyncio.CancelledError | None = None
    # The shield spares anyio's scopes their retrying at every turn of the loop; native cancels come through it.
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
    """Run blocking work beside the loop. A cancellation waits for it:

    Nobody else may touch the caller's file meanwhile.
    """
    return await run_to_completion(anyio.to_thread.run_sync(work))


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Two reads at once; the first error comes out plain, and the other read is ended then."""
    tasks = spawn(first), spawn(second)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return tasks[0].result(), tasks[1].result()
    finally:
        await end_tasks(tasks)


async def gather(works: Sequence[Coroutine[Any, Any, T]], *, at_most: int) -> list[T]:
    """The results in order, `at_most` works at a time.

    The first error comes out plain, and the others are ended then.
    """
    turn = asyncio.Semaphore(at_most)

    async def in_turn(work: Coroutine[Any, Any, T]) -> T:
        async with turn:
            return await work

    tasks = [spawn(in_turn(work)) for work in works]
    try:
        for task in tasks:
            await asyncio.wait({task})
            task.result()
        return [task.result() for task in tasks]
    finally:
        await end_tasks(tasks)
        for work in works:
            work.close()  # one whose turn never came


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks that only read, and wait until they are gone."""
    ending = {task for task in tasks if not task.done()}
    for task in ending:
        task.cancel()
    if ending:
        await run_to_completion(_gone(ending))


async def _gone(tasks: set[asyncio.Future[Any]]) -> None:
    await asyncio.wait(tasks)
