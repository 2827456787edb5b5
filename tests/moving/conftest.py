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


@pytest.fixture(scope="module")
async def second_client(mongodb_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Yield another client of the same server, from which the server of the first one cannot copy."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Database]:
    """Return a second empty database, of the same client."""
    other = database.client[f"{database.name}_other"]
    yield other
    await other.client.drop_database(other.name)


@pytest.fixture
def target(other: Database, second_client: AsyncMongoClient[dict[str, Any]], request: pytest.FixtureRequest) -> Bucket:
    """Return the bucket that files are transferred to, in one of the ways (by default inside the server)."""
    way = getattr(request, "param", "inside")
    bucket = Bucket(second_client[other.name] if way == "two clients" else other, "target")
    if way == "without $merge":
        without(bucket, Feature.MERGE)
    return bucket
