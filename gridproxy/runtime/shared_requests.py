"""SharedRequests: small requests of one kind that arrive together are sent as one. None waits for a timer."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .client_state import Client
from .events import logger
from .session_lock import running_loop
from .tasks import end_tasks, spawn
from .tracing import API, context_with, current_trace
from .weak_identity_map import WeakIdentityMap

if TYPE_CHECKING:
    from opentelemetry.context import Context as TraceContext

# How many requests of one kind are on their way at once. Later ones wait for the end of one, and leave together.
RUNNING = 4
# How many buckets of a client are remembered. A service may have one for each tenant.
BUCKETS = 1000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Waiting(Generic[Item, Answer]):
    """One request, and the answer that its caller waits for: None means that it has to ask alone."""

    def __init__(self, item: Item, answer: asyncio.Future[Answer | None]) -> None:
        self.item: Item = item
        self.answer: asyncio.Future[Answer | None] = answer
        self.group: Sequence[Waiting[Item, Answer]] = ()
        self.task: asyncio.Task[None] | None = None  # of the group
        self.trace: TraceContext | None = current_trace() if API in sys.modules else None


class SharedRequests(ABC, Generic[Item, Answer]):
    """Requests that share a command if they start in the same turn of the event loop, or while four are running.

    All have equal `options`.
    """

    def __init__(self, options: object) -> None:
        self.options: object = options
        # pymongo refuses a client in a second event loop, so a request there must not join.
        self.loop: asyncio.AbstractEventLoop = running_loop()
        self._waiting: deque[Waiting[Item, Answer]] = deque()
        self._running = 0
        self._scheduled = False

    async def join(self, item: Item) -> Answer | None:
        """Return the answer of a shared request, or None if the caller has to ask alone and to call `end_one` then."""
        one = Waiting[Item, Answer](item, self.loop.create_future())
        self._waiting.append(one)
        if not self._scheduled and self._running < RUNNING:
            self._scheduled = True
            self.loop.call_soon(self._start)
        try:
            return await one.answer
        except asyncio.CancelledError:
            if not one.answer.cancelled() and one.answer.exception() is None and one.answer.result() is None:
                self.end_one()
            if one.task is not None and all(each.answer.done() for each in one.group):
                await end_tasks([one.task])
            raise

    def end_one(self) -> None:
        """Start what waited for the end of a request."""
        self._running -= 1
        self._start()

    def _start(self) -> None:
        self._scheduled = False
        while self._running < RUNNING and (group := self._next_group()):
            self._running += 1
            if len(group) == 1:
                group[0].answer.set_result(None)
                continue
            # The request belongs to several uploads or downloads. Its span is a child of the first one's.
            task = spawn(self._run(group), context=context_with(group[0].trace))
            for each in group:
                each.group, each.task = group, task

    def _next_group(self) -> list[Waiting[Item, Answer]]:
        group: list[Waiting[Item, Answer]] = []
        items: list[Item] = []
        while self._waiting and self.has_room(items, self._waiting[0].item):
            one = self._waiting.popleft()
            if not one.answer.done():
                group.append(one)
                items.append(one.item)
        return group

    async def _run(self, group: list[Waiting[Item, Answer]]) -> None:
        try:
            await self.answer(group)
        except Exception as error:  # noqa: BLE001  # each caller asks again, and raises its own error
            logger.debug("%d requests ask alone after %s", len(group), type(error).__name__)
        finally:
            for each in group:
                if not each.answer.done():
                    self._running += 1
                    each.answer.set_result(None)
            self.end_one()

    @abstractmethod
    def has_room(self, group: Sequence[Item], item: Item) -> bool:
        """Return whether one request can be for these items and one more. There is always room for the first."""

    @abstractmethod
    async def answer(self, group: Sequence[Waiting[Item, Answer]]) -> None:
        """Send one request, and set the answers. Callers without an answer ask alone."""


Shared = TypeVar("Shared", bound=SharedRequests[Any, Any])  # of any items and answers


class SharedByBucket(Generic[Shared]):
    """The shared requests of each client, by bucket."""

    def __init__(self) -> None:
        # The values must not refer to their client, which could never be freed then.
        self._of_client: WeakIdentityMap[Client, dict[tuple[str, str], Shared]] = WeakIdentityMap()

    def get(self, client: Client, key: tuple[str, str], options: object, make: Callable[[], Shared]) -> Shared:
        """Return the requests that one with these options, in the bucket `key`, can join: known ones or new ones."""
        buckets = self._of_client.get(client)
        if buckets is None:
            buckets = {}
            self._of_client.set(client, buckets)
        shared = buckets.get(key)
        if shared is None or shared.options != options or shared.loop is not running_loop():
            if len(buckets) >= BUCKETS:
                del buckets[next(iter(buckets))]
            shared = buckets[key] = make()
        return shared
