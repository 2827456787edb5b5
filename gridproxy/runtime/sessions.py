"""Which session a call belongs to, and whether that is in a transaction."""

from __future__ import annotations

from typing import TypeGuard

from pymongo.asynchronous import client_session
from pymongo.asynchronous.client_session import AsyncClientSession

from .client_state import Client


def bound_session(client: Client | None) -> AsyncClientSession | None:
    """The session that pymongo's `session.bind()` put around this call, if any; of this client, where one is given.

    pymongo 4.20 has no public way to ask, and older versions have no `bind()`. We have to know: a write that joins the
    caller's transaction by accident would take chunks into it.
    """
    variable = getattr(client_session, "_SESSION", None)
    session = None if variable is None else variable.get()
    if not isinstance(session, AsyncClientSession):
        return None
    return session if client is None or session.client is client else None


def in_transaction(session: AsyncClientSession | None) -> TypeGuard[AsyncClientSession]:
    """Whether what is done in this session may still be taken back."""
    return session is not None and session.in_transaction
