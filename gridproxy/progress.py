"""Progress: what a transfer tells its caller on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable

__all__ = ["Progress", "report"]

# Bytes done, and bytes in all (None while unknown). May be a coroutine function.
Progress = Callable[[int, int | None], object]


async def report(progress: Progress | None, done: int, total: int | None) -> None:
    """Call `progress`; an awaitable that it returns is awaited, an error that it raises ends the transfer."""
    if progress is not None:
        answer = progress(done, total)
        if inspect.isawaitable(answer):
            await answer
