"""What integration tests share."""

from __future__ import annotations

import pytest

from gridproxy import Bucket

from ..observing import Database


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two chunks: what happens between batches shows with a few bytes."""
    monkeypatch.setattr("gridproxy.chunks._BATCH_CHUNKS", 2)


@pytest.fixture
def bucket(database: Database) -> Bucket:
    """One in which a kilobyte is eleven chunks."""
    return Bucket(database, chunk_size=100)
