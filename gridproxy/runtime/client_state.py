"""What is remembered per `AsyncMongoClient`: its in-flight limit, which buckets have indexes, what its server can
do.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from .weak_identity_map import WeakIdentityMap

Client = AsyncMongoClient[Any]


class ClientState:
    """Lives as long as its client."""

    def __init__(self, client: Client) -> None:
        pool = int(client.options.pool_options.max_pool_size or 0)
        # One connection stays free, so that whoever moves files never starves the service's other queries.
        self.limit: asyncio.Semaphore = asyncio.Semaphore(max(1, pool - 1)) if pool else asyncio.Semaphore(2**31)
        # A picture that is decoded takes many times the memory of its bytes, and more at once are not ready sooner.
        self.decoding: asyncio.Semaphore = asyncio.Semaphore(os.cpu_count() or 1)
        self.indexed: set[tuple[str, str]] = set()
        self.indexing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.transactions = False  # whether the server is known to have them
        # Client bulk writes are tried until the server does not know them. pymongo (4.20) changes their reply, which it
        # cannot where replies are decoded as raw documents.
        kind: object = client.codec_options.document_class
        self.bulk_write: bool = not (isinstance(kind, type) and issubclass(kind, RawBSONDocument))


# By identity: clients compare by address, and two of them in two loops must not share a limit.
_states: WeakIdentityMap[Client, ClientState] = WeakIdentityMap()


def state_of(client: Client) -> ClientState:
    """The state that belongs to this very client object."""
    state = _states.get(client)
    if state is None:
        state = ClientState(client)
        _states.set(client, state)
    return state
