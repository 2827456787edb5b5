"""A plugin of pytest: a server for the session, and an empty database and bucket for each test.

The root `conftest.py` opts in:

```py
pytest_plugins = ["gridproxy.testing.plugin"]
```

pytest does not load the plugin by itself, because then it would import pymongo in every run of everyone who has this
package installed, and its fixtures could hide others.

The server is the one in MONGODB_URI, or else an embedded one. Each test has a database of its own, which is dropped
after the test. The asynchronous fixtures belong to the event loop of their test, with the plugin of anyio and with
pytest-asyncio, in both of its modes and with any `loop_scope`.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from gridproxy import sync
from gridproxy.bucket import Bucket
from gridproxy.embedded import server_uri

__all__ = ["gridfs_bucket", "gridfs_database", "gridfs_server", "gridfs_sync_bucket", "gridfs_sync_database"]

_LOOP_SCOPES = ("function", "class", "module", "package", "session")


@pytest.fixture(scope="session")
def gridfs_server() -> Iterator[str]:
    """Return the address of the server: the one in MONGODB_URI, or an embedded one that ends with the session.

    Raises:
        EmbeddedServerUnavailable: MONGODB_URI is not set, and no embedded server can be started.
    """
    with server_uri(sync_on_commit=False) as (uri, _):
        yield uri


@pytest.fixture
def gridfs_database(request: pytest.FixtureRequest) -> AsyncDatabase[dict[str, Any]]:
    """Return an empty database of an `AsyncMongoClient` in the event loop of this test.

    A test that runs on trio is skipped, because pymongo has no client for trio.
    """
    found: AsyncDatabase[dict[str, Any]] = request.getfixturevalue(_fixture_for(request))
    return found


@pytest.fixture
def gridfs_bucket(gridfs_database: AsyncDatabase[dict[str, Any]]) -> Bucket:
    """Return an empty `Bucket` in the database of this test."""
    return Bucket(gridfs_database)


@pytest.fixture
def gridfs_sync_database(gridfs_server: str) -> Iterator[Database[dict[str, Any]]]:
    """Return an empty database of a `MongoClient`, for a test that does not await."""
    with MongoClient[dict[str, Any]](gridfs_server) as client:
        database = client[_new_name()]
        yield database
        client.drop_database(database.name)


@pytest.fixture
def gridfs_sync_bucket(gridfs_server: str, gridfs_sync_database: Database[dict[str, Any]]) -> Iterator[sync.Bucket]:
    """Return an empty `gridproxy.sync.Bucket` in that database."""
    with sync.Client(gridfs_server) as client:
        yield client.bucket(gridfs_sync_database.name)


def _new_name() -> str:
    return f"gridfs_test_{uuid.uuid4().hex}"


def _fixture_for(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that belongs to the event loop of this test."""
    if "anyio_backend" in request.fixturenames:
        backend: object = request.getfixturevalue("anyio_backend")
        if (backend[0] if isinstance(backend, tuple) else backend) != "asyncio":
            pytest.skip("gridproxy needs asyncio, because pymongo's AsyncMongoClient does")
        return "_gridfs_database_anyio"
    marker = request.node.get_closest_marker("asyncio")
    plugins = request.config.pluginmanager
    if marker is None or not any(map(plugins.hasplugin, ("asyncio", "pytest_asyncio.plugin"))):
        pytest.fail(
            "gridfs_database and gridfs_bucket are for asynchronous tests: mark the test with pytest.mark.anyio, or "
            "with pytest.mark.asyncio of pytest-asyncio. A test that does not await uses gridfs_sync_database",
            pytrace=False,
        )
    scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
    return f"_gridfs_database_asyncio_{scope}"


async def _open_database(gridfs_server: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](gridfs_server) as client:
        database = client[_new_name()]
        yield database
        await client.drop_database(database.name)


# The plugin of anyio looks after an asynchronous fixture of any test that it runs.
_for_anyio = pytest.fixture(name="_gridfs_database_anyio")(_open_database)

# pytest-asyncio looks only after its own fixtures, and wants to know the event loop of each before the test is known.
if importlib.util.find_spec("pytest_asyncio") is not None:
    _pytest_asyncio = importlib.import_module("pytest_asyncio")
    for _scope in _LOOP_SCOPES:
        _name = f"_gridfs_database_asyncio_{_scope}"
        globals()[_name] = _pytest_asyncio.fixture(loop_scope=_scope, name=_name)(_open_database)
