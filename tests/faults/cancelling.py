"""Cancels work at every step that it takes, in every way that a task can be cancelled.

A step is one resumption of the work's own task or of a task that it started, pymongo's included: between two of them
nothing can change on this side of the network, so cancelling after each of them is cancelling everywhere. Counting
turns of the loop instead would depend on how fast the server answers.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio

__all__ = ["Outcome", "Way", "Work", "cancelled_everywhere", "run_cancelled"]

# Nothing here takes a second; this only turns a hang into a failure.
_HANGS = 60.0
# Steps after the first cancellation at which "later" cancels again: in the midst of the clean-up.
_LATER = 9


class Way(enum.Enum):
    """How the work is cancelled."""

    ONCE = "task.cancel()"
    TWICE = "task.cancel(), and again at the next turn of the loop"
    THRICE = "task.cancel(), and again at the next two turns"
    LATER = "task.cancel(), and again in the midst of the clean-up"
    SCOPE = "anyio's CancelScope.cancel()"
    TIMEOUT = "asyncio.timeout()"


class Outcome(enum.Enum):
    """What became of the work."""

    RETURNED = "returned"
    CANCELLED = "cancelled"
    TOO_SHORT = "it ended before the step at which it was to be cancelled"


class _Stepped(Awaitable[Any]):
    """A coroutine whose steps are counted."""

    def __init__(self, work: Coroutine[Any, Any, Any], step: Callable[[], None], *, last_too: bool) -> None:
        self._work = work
        self._step = step
        self._last_too = last_too

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        try:
            while True:
                waiting = self._work.send(None) if error is None else self._work.throw(error)
                self._step()
                error = None
                try:
                    yield waiting
                except BaseException as thrown:  # noqa: BLE001  # handed on to the work, whatever it is
                    error = thrown
        except StopIteration as stop:
            return stop.value
        finally:
            if self._last_too:
                self._step()


class _Trial:
    """One run of the work, cancelled after its step number `at`."""

    def __init__(self, at: int, way: Way) -> None:
        self.left: list[asyncio.Task[Any]] = []
        self._steps = at
        self._way = way
        self._task: asyncio.Task[Any] | None = None
        self._started: set[asyncio.Task[Any]] = set()
        self._cancel: Callable[[], object] = lambda: None

    async def run(self, work: Callable[[], Awaitable[object]]) -> Outcome:
        with self._counting():
            self._task = asyncio.create_task(self._enveloped(work))
            if not self._steps:
                self._task.cancel()  # before it began
            await asyncio.wait({self._task}, timeout=_HANGS)
        assert self._task.done(), f"it hangs: {self._task!r}"
        self.left = [task for task in self._started if not task.done()]
        if self._task.cancelled():
            return Outcome.CANCELLED
        outcome = self._task.result()
        return outcome if self._steps <= 0 else Outcome.TOO_SHORT

    async def _enveloped(self, work: Callable[[], Awaitable[object]]) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        if self._way is Way.SCOPE:
            with anyio.CancelScope() as scope:
                await self._cancellable(work, scope.cancel)
            # An envelope that took its cancellation leaves none behind: what follows in this task is not cancelled.
            assert not task.cancelling()
            return Outcome.CANCELLED if scope.cancelled_caught else Outcome.RETURNED
        if self._way is Way.TIMEOUT:
            try:
                async with asyncio.timeout(None) as timeout:
                    await self._cancellable(work, lambda: timeout.reschedule(0))
            except TimeoutError:
                assert not task.cancelling()
                return Outcome.CANCELLED
            return Outcome.RETURNED
        await self._cancellable(work, task.cancel)
        return Outcome.RETURNED

    async def _cancellable(self, work: Callable[[], Awaitable[object]], cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        try:
            await work()
        finally:
            self._cancel = lambda: None  # what it left running makes steps, too

    @contextmanager
    def _counting(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
            if self._task is not None and asyncio.current_task() not in self._started:
                return asyncio.Task(work, loop=loop, **options)  # one of pymongo's monitors is at work

            # Of the work's own task the last step does not count: it cannot be cancelled any more.
            stepped = _Stepped(work, self._step, last_too=self._task is not None)

            async def run() -> Any:
                return await stepped

            task = asyncio.Task(run(), loop=loop, **{"name": work.__qualname__, **options})
            task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step
            self._started.add(task)
            return task

        loop.set_task_factory(factory)
        try:
            yield
        finally:
            loop.set_task_factory(None)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps == 0:
            self._cancel()
            if self._way in (Way.TWICE, Way.THRICE):
                self._again(1 if self._way is Way.TWICE else 2)
        if self._steps == -_LATER and self._way is Way.LATER:
            self._cancel()

    def _again(self, times: int) -> None:
        def cancel() -> None:
            self._cancel()
            self._again(times - 1)

        if times:
            asyncio.get_running_loop().call_soon(cancel)


async def run_cancelled(
    work: Callable[[], Awaitable[object]], at: int, way: Way, *, may_run_on: bool = False
) -> Outcome:
    """Run `work` in a task and cancel it after its step number `at`, 0 for before it begins.

    Fails where it hangs, or leaves a task behind that may not run on; an error of the work comes out.
    """
    trial = _Trial(at, way)
    outcome = await trial.run(work)
    assert may_run_on or not trial.left, f"tasks are left: {trial.left}"
    return outcome


async def cancelled_everywhere(make: Callable[[], Awaitable[Work]], *, stride: int = 1) -> int:
    """Make work anew and cancel it after step 0, 1, 2 ... in every way, until it ends uncancelled; check after each.

    With a `stride` each way takes other steps: together they leave none out. Gives how often it was cancelled.
    """
    times = 0
    for number, way in enumerate(Way):
        at, cancelled = number % stride, 0
        outcome = Outcome.CANCELLED
        while outcome is not Outcome.TOO_SHORT:
            work = await make()
            try:
                outcome = await run_cancelled(work.run, at, way, may_run_on=work.may_run_on)
                await work.check(outcome is not Outcome.CANCELLED)
            except BaseException as error:
                error.add_note(f"This was after step {at}, by {way.value}.")
                raise
            cancelled += outcome is Outcome.CANCELLED
            at += stride
        # A shield holds anyio's scopes off: what cannot be given up at any point returns, and they cancel what follows.
        assert cancelled or way is Way.SCOPE, f"nothing was cancelled by {way.value}"
        times += cancelled
    return times


@dataclass(frozen=True)
class Work:
    """What is to be cancelled, and what has to be true then; the check is told whether the work returned."""

    run: Callable[[], Awaitable[object]]
    check: Callable[[bool], Awaitable[None]]
    may_run_on: bool = False
