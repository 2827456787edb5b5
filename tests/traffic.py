"""How many bytes of content a client sends and fetches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandStartedEvent, CommandSucceededEvent

from tests.observing import Commands, Database


def payload(value: object) -> int:
    """Count the bytes in all binary values of a command or a reply, except ids and cluster times."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(payload(each) for key, each in value.items() if key not in ("lsid", "$clusterTime", "signature"))
    return sum(map(payload, value)) if isinstance(value, list) else 0


class Traffic(Commands):
    """Every command that a client sends, and the bytes of content in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.fetched = 0

    def started(self, event: CommandStartedEvent) -> None:
        super().started(event)
        self.sent += payload(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.fetched += payload(event.reply)

    def clear(self) -> None:
        super().clear()
        self.sent = self.fetched = 0


@asynccontextmanager
async def watched(uri: str, name: str) -> AsyncIterator[tuple[Database, Traffic]]:
    """Yield the database of this name through a client of its own, and the traffic of that client."""
    traffic = Traffic()
    async with AsyncMongoClient[dict[str, object]](uri, event_listeners=[traffic]) as client:
        await client.admin.command("ping")
        traffic.clear()
        yield client[name], traffic
