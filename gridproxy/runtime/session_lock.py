"""A lock for each session, because pymongo allows one operation at a time in an explicit session.

A document has one, too, so that two saves of it take turns. A lock is reentrant for its holder and for the work that
the holder starts: an ODM's own `save` holds it while hooks of the document put files in the same session. If the holder
starts several tasks, these take turns.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from gridproxy.errors import AsyncioRequired, BadOption, describe_object

from .deadlines import wait_in_line
from .tracing import context_with, current_trace
from .weak_identity_map import WeakIdentityMap

T = TypeVar("T")


class _Turn:
    """One acquisition of a lock. What it starts takes turns by `inner`, and may outlive it."""

    owner: _ReentrantLock
    inner: asyncio.Lock
    is_over: bool = False


# The acquisitions that the work belongs to.
_held: contextvars.ContextVar[tuple[_Turn, ...]] = contextvars.ContextVar("gridproxy_locks", default=())


class _ReentrantLock:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        held = _held.get()
        while True:
            taken, outer = self._lock, None
            for turn in reversed(held):
                if turn.owner is self and not turn.is_over:
                    taken, outer = turn.inner, turn
                    break
            if taken.locked():
                await wait_in_line(taken.acquire())
            else:
                await taken.acquire()
            if outer is None or not outer.is_over:
                break
            taken.release()  # the outer acquisition has ended, so this waits behind its successors
        turn = _Turn()
        turn.owner, turn.inner = self, asyncio.Lock()
        token = _held.set((*held, turn))
        try:
            yield
        finally:
            turn.is_over = True
            _held.reset(token)
            taken.release()


_locks: weakref.WeakKeyDictionary[AsyncClientSession, _ReentrantLock] = weakref.WeakKeyDictionary()
_owner_locks: WeakIdentityMap[object, _ReentrantLock] = WeakIdentityMap()


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs this task. Raises `AsyncioRequired` if it is not one of asyncio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise AsyncioRequired from None


def check_session(session: object) -> None:
    """Raise `BadOption` for an object that is not a session of pymongo's `AsyncMongoClient`."""
    if not isinstance(session, AsyncClientSession):
        raise BadOption(
            "session is a session of pymongo's AsyncMongoClient (client.start_session()), "
            f"not {describe_object(session)}"
        )


def lock(session: AsyncClientSession | None) -> AbstractAsyncContextManager[None]:
    """Return the lock for one operation in this session, or a null context without a session.

    Raises `BadOption` for the session of another driver, and `AsyncioRequired` without an event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise AsyncioRequired from None
    if session is None:
        return nullcontext()
    check_session(session)
    session_lock = _locks.get(session)
    if session_lock is None:
        session_lock = _locks[session] = _ReentrantLock()
    return session_lock.hold()


def lock_owner(owner: object) -> AbstractAsyncContextManager[None]:
    """Return the lock of a document, so that its saves and deletions take turns."""
    owner_lock = _owner_locks.get(owner)
    if owner_lock is None:
        owner_lock = _ReentrantLock()
        _owner_locks.set(owner, owner_lock)
    return owner_lock.hold()


def fresh_context() -> contextvars.Context:
    """Return an empty context that keeps only the held locks and the current span."""
    context = context_with(current_trace())
    context.run(_held.set, _held.get())
    return context
