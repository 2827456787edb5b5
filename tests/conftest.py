"""What all tests share: the server, a client, a database for each, and the word on which server it was."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import uuid
from contextlib import ExitStack
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import AsyncMongoClient, MongoClient

import gridproxy
from gridproxy import Bucket
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri
from gridproxy.runtime import client_state

from .report import REPORT, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pymongo.asynchronous.database import AsyncDatabase


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    # Every async test is anyio's, without a mark on each. The plugin's own `anyio_mode = "auto"` came only
    # with 4.11, and the suite runs on the oldest anyio that we support, too.
    if collector.istestfunction(obj, name):
        inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
        if iscoroutinefunction(inner):
            pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Fail a test that changes the logging of the process, because later tests count lines."""
    root, own = logging.getLogger(), logging.getLogger("gridproxy")
    before = root.level, own.level
    yield
    assert (root.level, own.level) == before


# The files that take longest come first: whoever begins one of them last would keep the other workers waiting.
_LONG = [
    "tests/embedded/test_embedded.py",
    "tests/faults/test_cancelled_uploads.py",
    "tests/web/test_gallery.py",
    "tests/faults/test_broken_links.py",
    "tests/faults/test_deadlines.py",
    "tests/faults/test_settling.py",
    "tests/adapters/test_document_cancelled.py",
    "tests/bucket/test_bucket.py",
    "tests/bucket/test_sharding.py",
    "tests/faults/test_cancelled_downloads.py",
    "tests/gridfs/test_interop.py",
    "tests/faults/test_cancelled_operations.py",
    "tests/faults/test_our_transactions.py",
    "tests/faults/test_cancelled_transactions.py",
    "tests/benchmarks/test_smoke.py",
    "tests/gridfs/test_load.py",
    "tests/faults/test_killed_servers.py",
    "tests/faults/test_model.py",
    "tests/test_documents.py",
    "tests/cli/test_process.py",
    "tests/sync/test_example.py",
    "tests/test_reference.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


def pytest_collection_finish() -> None:
    # Modules and items stay to the end. A test that collects garbage took 0.2 s to look through them all, in vain.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    # xdist kills a worker whose interpreter takes more than ten seconds to end, and with it what it has measured.
    coverage = sys.modules.get("coverage")
    measuring = None if coverage is None else coverage.Coverage.current()
    if measuring is not None:
        measuring.save()


def pytest_report_header() -> str:
    named = "named by MONGODB_URI" if os.environ.get("MONGODB_URI") else "embedded (MONGODB_URI is not set)"
    return f"server: {named}"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()
    config.pluginmanager.register(config.stash[REPORT])
    # A script's background job is born with Ctrl-C ignored, and what tests start and interrupt would ignore it, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    # For the whole session, so that async fixtures of every scope can use it.
    return "asyncio"


@pytest.fixture(scope="session")
def mongodb_uri(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the address of the server that all tests share."""
    with ExitStack() as stack:
        try:
            # Nobody kills this one; the tests that do have servers of their own, which sync.
            uri, label = stack.enter_context(server_uri(sync_on_commit=False))
        except EmbeddedServerUnavailable as error:
            pytestconfig.stash[REPORT].servers.add(f"none ({error})")
            # Where there is no wheel nobody can install it; anywhere else the environment is broken, and red.
            if sys.version_info >= (3, 14):
                pytest.skip(str(error))
            raise
        with MongoClient[dict[str, Any]](uri) as client:
            version = client.admin.command("buildInfo")["version"]
        pytestconfig.stash[REPORT].servers.add(f"{label}, answering as version {version}")
        yield uri


@pytest.fixture(scope="session")
def is_of_python(mongodb_uri: str) -> bool:
    """Whether the server is written in Python, as the embedded one is, and has Python's limits."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        found: object = client.admin.command("serverStatus").get("secantus", {}).get("server")
    return found == "python"


@pytest.fixture(autouse=True)
def _skip_without_mongod(request: pytest.FixtureRequest) -> None:
    # Only a marked test asks for the server here: the unit tests must not start one.
    if request.node.get_closest_marker("requires_mongod") and request.getfixturevalue("is_of_python"):
        pytest.skip("needs another server than the embedded one: set MONGODB_URI to a mongod")


@pytest.fixture(scope="module")
async def shared_client(mongodb_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Share a client and its event loop in the tests of one file: another takes 16 ms to open and close."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


@pytest.fixture
def client(shared_client: AsyncMongoClient[dict[str, Any]]) -> AsyncMongoClient[dict[str, Any]]:
    """Return a client that is new to the package: it knows no capabilities of the server and no indexes."""
    client_state._states.set(shared_client, client_state.ClientState(shared_client))
    return shared_client


@pytest.fixture
async def database(client: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """Make an empty database for one test, and drop it afterwards."""
    name = f"gridproxy_test_{uuid.uuid4().hex}"
    yield client[name]
    await client.drop_database(name)


@pytest.fixture
def database_without_server() -> AsyncDatabase[dict[str, Any]]:
    """Return a database for what is checked before any command is sent."""
    return AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)["zoo"]


@pytest.fixture
def connected(database: AsyncDatabase[dict[str, Any]]) -> Iterator[None]:
    """Connect the test's database, for files and documents without one of their own."""
    gridproxy.connect(database)
    yield
    gridproxy.disconnect()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two chunks: what happens between batches shows with a few bytes."""
    monkeypatch.setattr("gridproxy.gridfs.records.chunks._BATCH_CHUNKS", 2)


@pytest.fixture
def bucket(database: AsyncDatabase[dict[str, Any]]) -> Bucket:
    """Make a bucket in which a kilobyte is eleven chunks."""
    return Bucket(database, chunk_size=100)
