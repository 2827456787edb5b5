"""What every contender can do, and their names."""

from __future__ import annotations

import asyncio
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["DATABASE", "DRIVER", "MOTOR", "OURS", "OURS_BARE", "PYMONGO", "Closing", "Contender", "names"]

PYMONGO, OURS, OURS_BARE, MOTOR = "pymongo", "ours", "ours, checksum=None", "Motor"
DRIVER = "driver alone"
DATABASE = "gridproxy_benchmarks"

Closing = Callable[[], Awaitable[object]]


def names() -> list[str]:
    """Return the contenders that can run here. Motor runs if it is installed."""
    return [PYMONGO, OURS, OURS_BARE, DRIVER, *([MOTOR] if importlib.util.find_spec("motor") else [])]


class Contender(ABC):
    """One way to GridFS; `bucket` is a bucket's name everywhere."""

    def without_bulk_write(self) -> AbstractContextManager[object]:
        """Let the server be one without `bulkWrite` (before MongoDB 8.0) in a block, if the contender would use it."""
        return nullcontext()

    @abstractmethod
    async def upload(self, bucket: str, data: bytes | Path) -> Any:
        """Store bytes, or the file at a path, and return the id."""

    @abstractmethod
    async def upload_blocks(self, bucket: str, block: bytes, count: int) -> Any:
        """Store `count` times the block as one file, as a producer would that has no more than a block; its id."""

    @abstractmethod
    async def read(self, bucket: str, id: Any) -> bytes:
        """One whole file."""

    @abstractmethod
    async def read_range(self, bucket: str, id: Any, start: int, stop: int) -> bytes:
        """Read a part of one file."""

    @abstractmethod
    async def stream(self, bucket: str, id: Any) -> int:
        """Take a file block by block and keep none; its length."""

    @abstractmethod
    async def first_block(self, bucket: str, id: Any) -> Closing:
        """Begin to read a large file and have its first bytes; what ends the reading."""

    @abstractmethod
    async def delete(self, bucket: str, id: Any) -> None:
        """Remove one file."""

    async def upload_many(self, bucket: str, contents: Sequence[bytes], *, gathered: bool) -> None:
        """Store many small files in the best way there is; `gathered` where that is up to the caller."""
        await _each([partial(self.upload, bucket, content) for content in contents], gathered)

    async def read_many(self, bucket: str, ids: Sequence[Any], *, gathered: bool) -> None:
        """Read many small files, likewise."""
        await _each([partial(self.read, bucket, id) for id in ids], gathered)

    async def stat_many(self, bucket: str, ids: Sequence[Any], *, gathered: bool) -> None:
        """Return the records of many files, with one query if the contender can."""
        await _each([partial(self.stat, bucket, id) for id in ids], gathered)

    @abstractmethod
    async def stat(self, bucket: str, id: Any) -> object:
        """One file's record."""


async def _each(works: Sequence[Callable[[], Awaitable[object]]], gathered: bool) -> None:
    if gathered:
        await asyncio.gather(*(work() for work in works))
        return
    for work in works:
        await work()
