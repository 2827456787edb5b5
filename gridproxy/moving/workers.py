"""Several pieces of work that write, at once. The first failure ends all of them and is raised when they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from gridproxy.runtime.tasks import run_to_completion, spawn


class Workers:
    """Runs at most so many pieces of work at once. Use it as a context manager, which waits for all of them."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start work as soon as there is room for it. Raises the first failure of earlier work."""
        try:
            await self._wait(self._at_most - 1)
        except BaseException:
            work.close()
            raise
        self._running.add(spawn(work))

    async def _wait(self, at_most: int) -> None:
        while len(self._running) > at_most:
            done, self._running = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._wait(0)
        finally:
            running, self._running = self._running, set()
            for task in running:
                task.cancel()
            if running:
                # Each of them removes what it has sent, and the caller may remove nothing before that.
                await run_to_completion(_ended(running), fresh=True)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
