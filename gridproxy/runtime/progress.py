"""Progress: what long work tells its caller on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable

# Bytes done, and bytes in all (None while unknown); for upkeep, the records and documents that were looked at. May be a
# coroutine function.
Progress = Callable[[int, int | None], object]


async def report(progress: Progress | None, done: int, total: int | None) -> None:
    """Call `progress`; an awaitable that it returns is awaited, an error that it raises ends the transfer."""
    if progress is not None:
        answer = progress(done, total)
        if inspect.isawaitable(answer):
            await answer


class Meter:
    """Counts what was looked at, against an estimate of how much there is."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    async def advance(self, count: int) -> None:
        """So much more was done."""
        self._done += count
        self._total = max(self._total, self._done)
        await report(self._progress, self._done, self._total)

    async def finish(self) -> None:
        """All was done, whatever the estimate was."""
        await report(self._progress, self._total, self._total)
