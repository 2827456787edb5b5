"""A blocking client, and an empty bucket for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from gridproxy.sync import Bucket, Client


@pytest.fixture(scope="module")
def blocking_client(mongodb_uri: str) -> Iterator[Client]:
    """Share a client in the tests of one file."""
    with Client(mongodb_uri) as client:
        yield client


@pytest.fixture
def blocking(blocking_client: Client, mongodb_uri: str) -> Iterator[Bucket]:
    """Make a bucket in which a kilobyte is eleven chunks."""
    name = f"gridproxy_sync_{uuid.uuid4().hex}"
    yield blocking_client.bucket(name, chunk_size=100)
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database(name)
