"""What the package remembers for each `AsyncMongoClient`: limits, known indexes, the server's clock, capabilities."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from .capabilities import Capabilities, Feature
from .machine import available_memory
from .tasks import Limit, SharedTask
from .weak_identity_map import WeakIdentityMap
from .weighted_limit import WeightedLimit

_DECODED_BYTES = 1024 * 1024 * 1024

Client = AsyncMongoClient[Any]


class DecodingLimits:
    """How much of this machine the pictures of one client may use at once."""

    def __init__(self) -> None:
        # Small pictures are decoded in threads. More of them than cores save no time.
        self.threads: asyncio.Semaphore = asyncio.Semaphore(os.cpu_count() or 1)
        # More processes than cores, so that a few slow pictures do not block the others.
        most = max(8, 2 * (os.cpu_count() or 1))
        self.processes: WeightedLimit = WeightedLimit(most, most * 3 // 4)
        # Bytes of decoded pixels, and what decoders and encoders need beside them.
        memory = min(_DECODED_BYTES, available_memory() // 2)
        self.memory: WeightedLimit = WeightedLimit(memory, memory * 3 // 4)


class ClientState:
    """The state of one client, which lives as long as the client."""

    def __init__(self, client: Client) -> None:
        pool = int(client.options.pool_options.max_pool_size or 0)
        # One connection stays free, so that file transfers never starve the application's other queries.
        self.limit: asyncio.Semaphore = Limit(max(1, pool - 1) if pool else 2**31, client)
        self.indexed: dict[tuple[str, str], float] = {}  # until when a bucket's indexes need no look (monotonic)
        self.had_indexes: set[tuple[str, str]] = set()  # the buckets in which both indexes were seen or created
        self.decoding: DecodingLimits = DecodingLimits()
        self.indexing: dict[tuple[str, str], SharedTask[None]] = {}
        self.clock_offset: float = 0.0  # seconds from this machine's clock to the server's
        self.clock_base: float | None = None  # this machine's clock less its steady clock when that was measured
        self.capabilities: Capabilities = Capabilities()
        kind: object = client.codec_options.document_class
        if isinstance(kind, type) and issubclass(kind, RawBSONDocument):
            # pymongo (4.20) modifies the reply of a bulk write.
            self.capabilities.replace(Feature.BULK_WRITE, "the client decodes replies as raw documents")


# By identity: clients are equal if their addresses are, but two clients in two loops must not share a limit.
_states: WeakIdentityMap[Client, ClientState] = WeakIdentityMap()


def state_of(client: Client) -> ClientState:
    """Return the state of exactly this client object."""
    state = _states.get(client)
    if state is None:
        state = ClientState(client)
        _states.set(client, state)
    return state
