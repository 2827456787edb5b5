"""Which session a call uses, and whether that session is in a transaction."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TypeGuard

from pymongo import _csot
from pymongo.asynchronous import client_session
from pymongo.asynchronous.client_session import AsyncClientSession

from .client_state import Client

# The session that pymongo's `session.bind()` set for the calls of a block. Older versions have no `bind()`.
BOUND_SESSION: ContextVar[object] | None = getattr(client_session, "_SESSION", None)


def bound_session(client: Client | None) -> AsyncClientSession | None:
    """Return the session that pymongo's `session.bind()` set for this call, if it belongs to `client` (None: to any).

    pymongo 4.20 has no public way to read it. Without this check a write could join the caller's transaction by
    accident and put chunks into it.
    """
    session = None if BOUND_SESSION is None else BOUND_SESSION.get()
    if not isinstance(session, AsyncClientSession):
        return None
    return session if client is None or session.client is client else None


def in_transaction(session: AsyncClientSession | None) -> TypeGuard[AsyncClientSession]:
    """Return whether the session is in a transaction that has not ended."""
    return session is not None and session.in_transaction


def has_own_deadline() -> bool:
    """Return whether the caller set a deadline by `pymongo.timeout`. pymongo has no public way to read it."""
    return _csot.get_timeout() is not None
