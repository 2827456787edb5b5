"""A file system on an empty database, for one test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from gridproxy.adapters.fsspec import GridFSFileSystem


@pytest.fixture
def synchronous(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    """Make an empty database, as another driver sees it."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        database = client[f"gridproxy_fsspec_{uuid.uuid4().hex}"]
        yield database
        client.drop_database(database.name)


@pytest.fixture
def options(mongodb_uri: str, synchronous: Database[dict[str, Any]]) -> dict[str, Any]:
    """Return the storage options of the empty database."""
    return {"uri": mongodb_uri, "database": synchronous.name}


@pytest.fixture
def fs(options: dict[str, Any]) -> Iterator[GridFSFileSystem]:
    """Make a file system. Its client, and those of all others that a test makes, are closed afterwards."""
    yield GridFSFileSystem(**options)
    close_all()


def close_all() -> None:
    """Close the clients of all file systems with blocking methods, and forget the file systems."""
    for made in list(GridFSFileSystem._cache.values()):
        if not made.asynchronous:
            made.close()
    GridFSFileSystem.clear_instance_cache()
