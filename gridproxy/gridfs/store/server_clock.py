"""The server's clock, measured once for each client, because the clocks of clients differ by minutes and hours."""

from __future__ import annotations

from datetime import UTC, datetime

from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from gridproxy.gridfs.records.file_info import local_time
from gridproxy.runtime.tasks import interruptible

from .collections import Store

_PLAIN = CodecOptions[dict[str, object]](tz_aware=True, tzinfo=UTC)


async def server_now(store: Store) -> datetime:
    """Return the server's time in UTC. The first call of a client asks the server."""
    await ensure_clock(store)
    return store.now()


async def ensure_clock(store: Store) -> None:
    """Measure the server's clock unless that was done, and again if this machine's clock was set or it slept."""
    if not store.knows_clock:
        await interruptible(measure_clock(store))


async def measure_clock(store: Store) -> None:
    """Ask for the server's time."""
    sent = local_time()
    async with store.own_session() as session:
        try:
            # A command does not use the options of its database. Without these the time would have no zone.
            hello = await store.client.admin.command("hello", codec_options=_PLAIN, session=session)
        except OperationFailure:
            hello = {}  # an upload does not fail because a server does not tell its time
    received = local_time()
    reported = hello.get("localTime")
    offset = reported.timestamp() - (sent + received) / 2 if isinstance(reported, datetime) else 0.0
    # What the time of the answer explains is not a difference of the clocks. The server cuts its time to milliseconds.
    store.set_clock(0.0 if abs(offset) <= received - sent + 0.001 else offset)
