"""A limit of weights, such as bytes, of which heavy work leaves a part to light work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class WeightedLimit:
    """Lets work begin while its weights fit into `total`. Heavy work uses at most `heavy` of it.

    Work begins in the order of its arrival, except that light work passes heavy work that has to wait.
    """

    def __init__(self, total: int, heavy: int) -> None:
        self.total = total
        self.heavy = heavy
        self.used: int = 0
        self._used_by_heavy = 0
        self._waiting: dict[bool, list[tuple[asyncio.Future[None], int]]] = {False: [], True: []}

    @asynccontextmanager
    async def hold(self, weight: int, *, heavy: bool) -> AsyncIterator[None]:
        """Wait until the weight fits, and hold it in the block. A weight above the limit would wait for ever."""
        await self._acquire(weight, heavy)
        try:
            yield
        finally:
            self._release(weight, heavy)

    async def _acquire(self, weight: int, heavy: bool) -> None:
        waiting = self._waiting[heavy]
        if not waiting and self._fits(weight, heavy):
            self._take(weight, heavy)
            return
        future = asyncio.get_running_loop().create_future()
        waiting.append((future, weight))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it was given the weight at the same moment
                self._release(weight, heavy)
            elif (future, weight) in waiting:
                waiting.remove((future, weight))
                self._wake()
            raise

    def _fits(self, weight: int, heavy: bool) -> bool:
        return self.used + weight <= self.total and not (heavy and self._used_by_heavy + weight > self.heavy)

    def _take(self, weight: int, heavy: bool) -> None:
        self.used += weight
        self._used_by_heavy += weight if heavy else 0

    def _release(self, weight: int, heavy: bool) -> None:
        self._take(-weight, heavy)
        self._wake()

    def _wake(self) -> None:
        for heavy in (False, True):
            waiting = self._waiting[heavy]
            while waiting and self._fits(waiting[0][1], heavy):
                future, weight = waiting.pop(0)
                if not future.done():
                    self._take(weight, heavy)
                    future.set_result(None)
