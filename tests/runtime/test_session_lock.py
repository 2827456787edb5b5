"""Calls in one session queue; what the one whose turn it is has started goes with it."""

from __future__ import annotations

import asyncio
from typing import Any

from gridproxy.runtime.session_lock import iterate_locked, lock
from gridproxy.runtime.tasks import run_to_completion


class Session:
    """Anything that can be weakly referenced."""


async def test_one_after_the_other() -> None:
    session: Any = Session()
    at_work, most = 0, 0

    async def work() -> None:
        nonlocal at_work, most
        async with lock(session):
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


async def test_without_a_session_nobody_waits() -> None:
    async with lock(None), lock(None):
        pass


async def test_what_the_holder_starts_goes_with_it_in_a_fresh_context_too() -> None:
    session: Any = Session()

    async def inner() -> str:
        async with lock(session):
            return "in turn"

    async with lock(session):
        assert await inner() == "in turn"
        assert await asyncio.create_task(inner()) == "in turn"
        assert await run_to_completion(inner(), fresh=True) == "in turn"


async def test_a_task_that_outlives_the_turn_has_to_wait_like_others() -> None:
    session: Any = Session()
    go_on, order = asyncio.Event(), list[str]()

    async def late() -> None:
        await go_on.wait()
        async with lock(session):
            order.append("late")

    async with lock(session):
        task = asyncio.create_task(late())
    async with lock(session):
        go_on.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        order.append("next")
    await task
    assert order == ["next", "late"]


async def test_a_cursor_leaves_the_session_to_others_between_two_items() -> None:
    session: Any = Session()

    async def items() -> Any:
        for number in range(3):
            yield number

    seen = []
    async for number in iterate_locked(session, items()):
        async with lock(session):
            seen.append(number)
    assert seen == [0, 1, 2]
