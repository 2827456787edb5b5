"""A bucket that files are moved to, and the ways in which they get there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import Bucket
from gridproxy.runtime.capabilities import Feature
from tests.observing import Database, without

every_way = pytest.mark.parametrize("target", ["inside", "without $merge", "two clients"], indirect=True)


@pytest.fixture
async def other(database: Database, mongodb_uri: str) -> AsyncIterator[Database]:
    """Return a second empty database, of the same client."""
    other = database.client[f"{database.name}_other"]
    yield other
    await other.client.drop_database(other.name)


@pytest.fixture
async def target(other: Database, mongodb_uri: str, request: pytest.FixtureRequest) -> AsyncIterator[Bucket]:
    """Return the bucket that files are transferred to, in one of the ways (by default inside the server)."""
    way = getattr(request, "param", "inside")
    if way == "two clients":
        async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
            yield Bucket(client[other.name], "target")
        return
    bucket = Bucket(other, "target")
    if way == "without $merge":
        without(bucket, Feature.MERGE)
    yield bucket
