"""The limit that light and heavy work share."""

from __future__ import annotations

import asyncio

import pytest

from gridproxy.runtime.weighted_limit import WeightedLimit


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Work that holds a weight until it is told to end."""

    def __init__(self, limit: WeightedLimit, weight: int, *, heavy: bool) -> None:
        self.runs = False
        self.ended = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(limit, weight, heavy))

    async def _run(self, limit: WeightedLimit, weight: int, heavy: bool) -> None:
        async with limit.hold(weight, heavy=heavy):
            self.runs = True
            await self.ended.wait()

    async def end(self) -> None:
        self.ended.set()
        await self.task


async def test_heavy_work_leaves_room_for_light_work() -> None:
    limit = WeightedLimit(4, 2)
    heavy = [Work(limit, 1, heavy=True) for _ in range(4)]
    light = [Work(limit, 1, heavy=False) for _ in range(3)]
    await settled()
    assert [each.runs for each in heavy] == [True, True, False, False]
    assert [each.runs for each in light] == [True, True, False]
    await heavy[0].end()
    await settled()
    assert [each.runs for each in heavy] == [True, True, False, False]  # the light one was first
    assert light[2].runs
    for work in (*light, *heavy[1:]):
        await work.end()
    assert limit.used == 0


async def test_work_begins_in_the_order_of_its_arrival() -> None:
    limit = WeightedLimit(10, 10)
    first = Work(limit, 6, heavy=True)
    large = Work(limit, 9, heavy=True)
    small = Work(limit, 1, heavy=True)
    await settled()
    assert (first.runs, large.runs, small.runs) == (True, False, False)  # else small ones would keep it waiting
    await first.end()
    await settled()
    assert (large.runs, small.runs) == (True, True)
    await large.end()
    await small.end()
    assert limit.used == 0


@pytest.mark.parametrize("at_once", [True, False])
async def test_cancelled_work_holds_nothing(at_once: bool) -> None:
    limit = WeightedLimit(1, 1)
    first, second, third = (Work(limit, 1, heavy=False) for _ in range(3))
    await settled()
    if at_once:  # its turn comes in the same iteration of the loop
        first.ended.set()
        await asyncio.sleep(0)
    second.task.cancel()
    await asyncio.wait({second.task})
    await first.end()
    await settled()
    assert (second.runs, third.runs) == (False, True)
    await third.end()
    assert limit.used == 0
