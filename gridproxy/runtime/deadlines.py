"""The deadlines of the driver: `pymongo.timeout` around a call, and `timeoutMS` of the client."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio
import pymongo
from pymongo import AsyncMongoClient, _csot
from pymongo.errors import WaitQueueTimeoutError

T = TypeVar("T")


def seconds_left(client: AsyncMongoClient[Any] | None = None) -> float | None:
    """Return how many seconds `pymongo.timeout` leaves for the call, else the client's `timeoutMS`, else None."""
    # pymongo has no public way to read the deadline.
    if _csot.get_timeout() is not None:
        left = _csot.remaining()
        return None if left is None else max(0.0, left)
    timeout: float | None = None if client is None else client.options.timeout
    return timeout or None


async def wait_in_line(turn: Awaitable[T], client: AsyncMongoClient[Any] | None = None) -> T:
    """Wait for a lock. Raises pymongo's own error if the driver's deadline passes before."""
    left = seconds_left(client)
    if left is None:
        return await turn
    try:
        with anyio.fail_after(left):
            return await turn
    except TimeoutError:
        raise WaitQueueTimeoutError(
            f"the time limit passed after {left:.3g} seconds, while other operations of this package used all "
            "connections, or the same session"
        ) from None


async def reach_server(client: AsyncMongoClient[Any]) -> None:
    """Wait until the client knows a server that takes writes. Nothing is sent, so a cancellation ends this at once."""
    # `is_primary` respects the deadline of a block, and not the client's.
    own = contextlib.nullcontext() if _csot.get_timeout() is not None else pymongo.timeout(client.options.timeout)
    with own:
        await client.is_primary
