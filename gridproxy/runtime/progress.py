"""Progress reports of long operations to their caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable

# Called with the bytes done and the bytes in all (None if unknown). Upkeep counts records and documents instead. May be
# a coroutine function.
Progress = Callable[[int, int | None], object]


async def report(progress: Progress | None, done: int, total: int | None) -> None:
    """Call `progress` and await its result if that is awaitable. An error that it raises ends the transfer."""
    if progress is not None:
        answer = progress(done, total)
        if inspect.isawaitable(answer):
            await answer


class Meter:
    """A counter of processed items, compared with an estimated total."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    async def advance(self, count: int) -> None:
        """Add `count` items and report them."""
        self._done += count
        self._total = max(self._total, self._done)
        await report(self._progress, self._done, self._total)

    async def finish(self) -> None:
        """Report that all items are done, even if the estimate was wrong."""
        await report(self._progress, self._total, self._total)
