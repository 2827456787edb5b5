"""What tests look at: the commands that were sent, and what lies in a bucket. And how they make things go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from gridproxy import Bucket
from gridproxy.runtime.capabilities import Feature

Database = AsyncDatabase[dict[str, Any]]


class Commands(CommandListener):
    """Every command that a client sends."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.seen.append((event.command_name, dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the commands of this name, in order."""
        return [command for seen, command in self.seen if seen == name]

    def clear(self) -> None:
        """Forget what was seen."""
        self.seen.clear()


@asynccontextmanager
async def observed(uri: str, name: str) -> AsyncIterator[tuple[Database, Commands]]:
    """Yield the database of this name through a client of its own, and what that client sends."""
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](uri, event_listeners=[commands]) as client:
        await client.admin.command("ping")
        commands.clear()
        yield client[name], commands


async def contents(database: Database, bucket: str = "fs") -> tuple[int, int]:
    """How many records and how many chunks lie in a bucket."""
    files, chunks = database[f"{bucket}.files"], database[f"{bucket}.chunks"]
    return await files.count_documents({}), await chunks.count_documents({})


async def orphans(database: Database, bucket: str = "fs") -> list[Any]:
    """Return the ids that have chunks and no record."""
    ids = await database[f"{bucket}.chunks"].distinct("files_id")
    return [id for id in ids if await database[f"{bucket}.files"].find_one({"_id": id}) is None]


def without(bucket: Bucket, *features: Feature) -> None:
    """Let the bucket's client believe that the server does not have these features."""
    for feature in features:
        bucket.capabilities.replace(feature, "a test says so")


@contextmanager
def answer_lost(monkeypatch: pytest.MonkeyPatch, method: str, *, times: int = 1) -> Iterator[None]:
    """Let a method of pymongo's collections do its work on the server and lose the answer."""
    real = getattr(AsyncCollection, method)
    left = times

    async def cut_off(self: AsyncCollection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        answer = await real(self, *args, **kwargs)
        if not left:
            return answer
        left -= 1
        raise AutoReconnect("the connection was cut before the answer came")

    with monkeypatch.context() as patched:
        patched.setattr(AsyncCollection, method, cut_off)
        yield
