"""Calls in one session wait for each other, except for the work that the lock's holder starts."""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.tasks import iterate_locked, run_to_completion


class Session(AsyncClientSession):
    """A session without a client."""

    def __init__(self) -> None:
        pass


async def test_calls_in_one_session_run_one_after_the_other() -> None:
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


async def test_calls_without_a_session_do_not_wait() -> None:
    async with lock(None), lock(None):
        pass


async def test_the_holder_and_the_tasks_it_starts_may_lock_again() -> None:
    session: Any = Session()

    async def inner() -> str:
        async with lock(session):
            return "done"

    async with lock(session):
        assert await inner() == "done"
        assert await asyncio.create_task(inner()) == "done"
        assert await run_to_completion(inner(), fresh=True) == "done"


async def test_tasks_that_the_holder_starts_take_turns() -> None:
    session: Any = Session()
    at_work, most, done = 0, 0, 0

    async def work(depth: int) -> None:
        nonlocal at_work, most, done
        async with lock(session):
            if depth:
                await asyncio.gather(*(work(depth - 1) for _ in range(3)))
                return
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1
            done += 1

    await asyncio.wait_for(work(2), 10)
    assert (most, done) == (1, 9)


async def test_a_task_that_outlives_an_inner_lock_takes_turns_in_the_outer_one() -> None:
    session: Any = Session()
    go_on, order = asyncio.Event(), list[str]()

    async def late() -> None:
        await go_on.wait()
        async with lock(session):
            order.append("late")

    async with lock(session):
        async with lock(session):
            task = asyncio.create_task(late())
        async with lock(session):
            go_on.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append("next")
        await asyncio.wait_for(task, 10)
    assert order == ["next", "late"]


async def test_a_task_that_waits_in_a_lock_that_ends_waits_for_the_next_holder() -> None:
    session: Any = Session()
    go_on, order = asyncio.Event(), list[str]()

    async def first() -> None:
        async with lock(session):
            await go_on.wait()

    async def second() -> None:
        async with lock(session):
            order.append("second")

    async with lock(session):
        tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
        await asyncio.sleep(0)
    async with lock(session):
        go_on.set()
        for _ in range(5):
            await asyncio.sleep(0)
        order.append("next")
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert order == ["next", "second"]


async def test_a_task_that_outlives_its_starters_lock_has_to_wait() -> None:
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


async def test_the_session_is_free_between_two_items_of_a_cursor() -> None:
    session: Any = Session()

    async def items() -> Any:
        for number in range(3):
            yield number

    seen = []
    async for number in iterate_locked(session, items()):
        async with lock(session):
            seen.append(number)
    assert seen == [0, 1, 2]
