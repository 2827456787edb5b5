"""What the tests of the web share: a bucket whose client is watched."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gridproxy import AsyncGridFile, Bucket
from tests.traffic import Traffic, watched
from tests.web.tus_js import installed

CHUNK = 1000


@dataclass(frozen=True)
class Watched:
    """A bucket, and what passes through its client."""

    bucket: Bucket
    traffic: Traffic

    async def file(self, content: bytes, *, chunk_size: int = CHUNK, **options: object) -> AsyncGridFile:
        """Store a file whose record is not loaded. Its upload does not count as traffic."""
        info = await self.bucket.upload(content, chunk_size=chunk_size, **options)  # type: ignore[arg-type]  # any
        self.traffic.clear()
        return self.bucket.file(info.id)

    @property
    def chunk_reads(self) -> int:
        """How often chunks were asked for."""
        return len([find for find in self.traffic.of("find") if find["find"] == self.bucket.store.chunks.name])


@pytest.fixture(scope="session")
def modules() -> Path:
    """Return a folder with tus-js-client."""
    return installed()


@pytest.fixture
async def watched_bucket(mongodb_uri: str) -> AsyncIterator[Watched]:
    """Yield a bucket of the test's own, and drop it afterwards."""
    async with watched(mongodb_uri, f"gridproxy_test_{uuid.uuid4().hex}") as (database, traffic):
        yield Watched(Bucket(database, "served"), traffic)
        await database.client.drop_database(database)
