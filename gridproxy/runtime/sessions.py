"""Which session a call uses, whether that session is in a transaction, and whether the server has either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeGuard

from pymongo import ReadPreference, WriteConcern
from pymongo.asynchronous import client_session
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConfigurationError, OperationFailure

from .capabilities import Capabilities, Feature
from .client_state import Client, state_of

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


def own_session(client: Client) -> AbstractAsyncContextManager[AsyncClientSession | None]:
    """Return a new session outside the caller's transactions, or None in a block if the server has no sessions."""
    capabilities = state_of(client).capabilities
    if capabilities.sessions is None:
        capabilities.decide(client.topology_description)
    if capabilities.sessions is None:
        return _first_session(client, capabilities)
    return client.start_session(causal_consistency=False) if capabilities.sessions else nullcontext()


@asynccontextmanager
async def _first_session(client: Client, capabilities: Capabilities) -> AsyncIterator[AsyncClientSession | None]:
    async with client.start_session(causal_consistency=False) as session:
        try:
            # pymongo learns about the servers with its first command. In this session the ping joins no transaction.
            await client.admin.command("ping", session=session, read_preference=ReadPreference.NEAREST)
            capabilities.decide(client.topology_description)
        except ConfigurationError as error:
            if not capabilities.is_refused(Feature.SESSIONS, error):
                raise
            capabilities.sessions = False
        yield None if capabilities.sessions is False else session


async def has_transactions(client: Client) -> bool:
    """Return whether the server has transactions. The first call of a client may have to try one."""
    capabilities = state_of(client).capabilities
    if capabilities.transactions is None:
        async with own_session(client) as session:
            if session is None:
                capabilities.refuse_transactions("the server has no sessions")
            elif capabilities.transactions is None:
                return await _try_transaction(client, session, capabilities)
    return bool(capabilities.transactions)


async def _try_transaction(client: Client, session: AsyncClientSession, capabilities: Capabilities) -> bool:
    # FerretDB 1 can claim to be a replica set. It ignores `startTransaction` in reads, and does not know the commit.
    database = client.get_default_database("test", read_preference=ReadPreference.PRIMARY)
    await session.start_transaction(write_concern=WriteConcern("majority"), read_preference=ReadPreference.PRIMARY)
    try:
        await database["gridproxy"].find_one({}, {"_id": 1}, session=session)
        await session.commit_transaction()
    except OperationFailure as error:
        if capabilities.is_refused(Feature.TRANSACTIONS, error):
            capabilities.transactions = False
        # Another error, such as a missing privilege for this database, says nothing about transactions.
        return capabilities.transactions is not False
    capabilities.transactions = True
    return True
