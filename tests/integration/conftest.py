"""What integration tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two chunks: what happens between batches shows with a few bytes."""
    monkeypatch.setattr("gridproxy.chunks._BATCH_CHUNKS", 2)
