"""Turn: an explicit session allows one operation at a time, so the calls on it queue.

Whoever has the turn, and the work that it starts meanwhile, may take it again: an ODM's own `save` holds it while hooks
of the document put files in the same session.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

T = TypeVar("T")

# What tells the holder's work from others'; new each time, since a task may outlive the turn that it was started in.
_held: contextvars.ContextVar[object | None] = contextvars.ContextVar("gridproxy_session_lock", default=None)


class _SessionLock:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: object | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        if self._holder is not None and _held.get() is self._holder:
            yield
            return
        async with self._lock:
            self._holder = object()
            token = _held.set(self._holder)
            try:
                yield
            finally:
                self._holder = None
                _held.reset(token)


_locks: weakref.WeakKeyDictionary[AsyncClientSession, _SessionLock] = weakref.WeakKeyDictionary()


def lock(session: AsyncClientSession | None) -> AbstractAsyncContextManager[None]:
    """The turn for one operation in this session; without a session nobody has to wait."""
    if session is None:
        return nullcontext()
    session_lock = _locks.get(session)
    if session_lock is None:
        session_lock = _locks[session] = _SessionLock()
    return session_lock.hold()


async def iterate_locked(session: AsyncClientSession | None, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items of a cursor, each of them fetched in a turn of its own: the caller may use the session in between."""
    while True:
        async with lock(session):
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
        yield item


def fresh_context() -> contextvars.Context:
    """An empty context, but for the turn that is held."""
    context = contextvars.Context()
    context.run(_held.set, _held.get())
    return context
