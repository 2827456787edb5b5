"""A bucket in which a few kilobytes take as many batches as megabytes do elsewhere, and one on a server that fails."""

from __future__ import annotations

import gc
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, common

from gridproxy import Bucket
from gridproxy.gridfs.download import download, reader
from gridproxy.gridfs.download.download import Download
from gridproxy.gridfs.transactions import transactions
from gridproxy.gridfs.upload import batch_sender, commit, upload

from ..observing import Commands
from .failing import FailingServer, failing_server
from .link import Link
from .matrix import Matrix
from .operation import Scene
from .whole import Database

CHUNK = 1024
# Long enough for every command that is not stalled.
TIMEOUT_MS = 100


@pytest.fixture
def matrix(record_property: Callable[[str, object], None]) -> Matrix:
    """Where a test notes which faults an operation has survived."""
    return Matrix(record_property)


@pytest.fixture(scope="module")
async def shared_client(mongodb_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Yield a client that does not repeat commands. Repetitions take twice as long."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, retryWrites=False) as client:
        yield client


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    make_batches_small(monkeypatch)


def make_batches_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks a batch, two batches in flight."""

    def two(*_: Any) -> int:
        return 2

    monkeypatch.setattr(upload, "chunks_per_batch", two)
    monkeypatch.setattr(download, "chunks_per_range", two)
    monkeypatch.setattr(batch_sender, "IN_FLIGHT", 2)
    for module in (download, reader):
        monkeypatch.setattr(module, "FIRST_BYTES", CHUNK)
    defaults = Download.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "first", CHUNK)


@pytest.fixture
def bucket(database: Database, small_batches: None) -> Bucket:
    return Bucket(database, chunk_size=CHUNK)


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect the cycles that a cancellation leaves, before the next test begins."""
    yield
    gc.collect()


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def server(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], commands: Commands
) -> AsyncIterator[FailingServer]:
    async with failing_server(mongodb_uri, client, commands) as server:
        yield server


@pytest.fixture
async def failing(
    server: FailingServer, database: Database, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """Yield a bucket of the failing client, with its indexes. A repeated command is sent at once."""
    monkeypatch.setattr(commit, "_PAUSE", 0)
    bucket = Bucket(server.client[database.name], chunk_size=CHUNK)
    await bucket.ensure_indexes()
    return bucket


@pytest.fixture
async def link(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    # After a broken connection pymongo waits for its monitor's next look at the server, for half a second and more.
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    async with Link.to(mongodb_uri) as link:
        yield link


@pytest.fixture
async def scenes(
    link: Link, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Scene, Scene]]:
    """Yield the same bucket through a client without `timeoutMS`, and through one with it."""
    monkeypatch.setattr(commit, "_PAUSE", 0)
    monkeypatch.setattr(commit, "_ATTEMPTS", 2)
    monkeypatch.setattr(transactions, "COMMIT_SECONDS", 0.5)
    await bucket.ensure_indexes()
    async with (
        AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll") as patient,
        AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll", timeoutMS=TIMEOUT_MS) as hasty,
    ):
        one, other = (Bucket(client[bucket.database.name], chunk_size=CHUNK) for client in (patient, hasty))
        for each in (one, other):
            each.store.state.indexed[bucket.store.key] = math.inf
        yield Scene(one, bucket, tmp_path), Scene(other, bucket, tmp_path)


@pytest.fixture
def scene(scenes: tuple[Scene, Scene]) -> Scene:
    return scenes[0]
