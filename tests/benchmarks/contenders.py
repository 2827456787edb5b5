"""Ours, pymongo's and Motor's buckets behind one interface: what a user of each would write."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient

from gridproxy import Bucket

__all__ = ["DATABASE", "MOTOR", "OURS", "OURS_BARE", "PYMONGO", "Closing", "Contender", "contender", "names"]

PYMONGO, OURS, OURS_BARE, MOTOR = "pymongo", "ours", "ours, checksum=None", "Motor"
DATABASE = "gridproxy_benchmarks"

Closing = Callable[[], Awaitable[object]]


def names() -> list[str]:
    """The contenders that can run here: Motor only where it is installed."""
    return [PYMONGO, OURS, OURS_BARE, *([MOTOR] if importlib.util.find_spec("motor") else [])]


class Contender(ABC):
    """One way to GridFS; `bucket` is a bucket's name everywhere."""

    @abstractmethod
    async def upload(self, bucket: str, data: bytes) -> Any:
        """Store one file; its id."""

    @abstractmethod
    async def upload_blocks(self, bucket: str, block: bytes, count: int) -> Any:
        """Store `count` times the block as one file, as a producer would that has no more than a block; its id."""

    @abstractmethod
    async def read(self, bucket: str, id: Any) -> bytes:
        """One whole file."""

    @abstractmethod
    async def read_range(self, bucket: str, id: Any, start: int, stop: int) -> bytes:
        """A part of one file."""

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
        """The records of many files, likewise."""
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


class _Ours(Contender):
    def __init__(self, database: Any, checksum: Literal["sha256"] | None) -> None:
        self._database = database
        self._checksum = checksum
        self._buckets: dict[str, Bucket] = {}

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            self._buckets[name] = Bucket(self._database, name, checksum=self._checksum)
        return self._buckets[name]

    async def upload(self, bucket: str, data: bytes) -> Any:
        return (await self._bucket(bucket).upload(data)).id

    async def upload_blocks(self, bucket: str, block: bytes, count: int) -> Any:
        async def blocks() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield block

        return (await self._bucket(bucket).upload(blocks())).id

    async def read(self, bucket: str, id: Any) -> bytes:
        return await self._bucket(bucket).read(id)

    async def read_range(self, bucket: str, id: Any, start: int, stop: int) -> bytes:
        return await self._bucket(bucket).read(id, start, stop)

    async def stream(self, bucket: str, id: Any) -> int:
        async with self._bucket(bucket).stream(id) as blocks:
            return sum([len(block) async for block in blocks])

    async def first_block(self, bucket: str, id: Any) -> Closing:
        blocks = self._bucket(bucket).stream(id)
        await anext(blocks)
        return blocks.aclose

    async def delete(self, bucket: str, id: Any) -> None:
        await self._bucket(bucket).delete(id)

    async def upload_many(self, bucket: str, contents: Sequence[bytes], *, gathered: bool) -> None:
        # Looked up by name until the bucket has it: rows that need it are left out before that.
        await getattr(self._bucket(bucket), "upload_many")(contents)  # noqa: B009

    async def read_many(self, bucket: str, ids: Sequence[Any], *, gathered: bool) -> None:
        found = await getattr(self._bucket(bucket), "read_many")(ids)  # noqa: B009
        assert len(found) == len(ids)

    async def stat_many(self, bucket: str, ids: Sequence[Any], *, gathered: bool) -> None:
        assert len(await self._bucket(bucket).stat_many(ids)) == len(ids)

    async def stat(self, bucket: str, id: Any) -> object:
        return await self._bucket(bucket).stat(id)


class _GridFSBucket(Contender):
    """pymongo's interface, which Motor's follows."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make
        self._buckets: dict[str, Any] = {}

    def _bucket(self, name: str) -> Any:
        if name not in self._buckets:
            self._buckets[name] = self._make(name)
        return self._buckets[name]

    async def upload(self, bucket: str, data: bytes) -> Any:
        return await self._bucket(bucket).upload_from_stream("benchmark", data)

    async def upload_blocks(self, bucket: str, block: bytes, count: int) -> Any:
        async with self._bucket(bucket).open_upload_stream("benchmark") as upload:
            for _ in range(count):
                await upload.write(block)
            return upload._id

    async def read(self, bucket: str, id: Any) -> bytes:
        opened = await self._bucket(bucket).open_download_stream(id)
        content: bytes = await opened.read()
        return content

    async def read_range(self, bucket: str, id: Any, start: int, stop: int) -> bytes:
        opened = await self._bucket(bucket).open_download_stream(id)
        await _now(opened.seek(start))
        content: bytes = await opened.read(stop - start)
        await _now(opened.close())
        return content

    async def stream(self, bucket: str, id: Any) -> int:
        opened = await self._bucket(bucket).open_download_stream(id)
        length = 0
        while block := await opened.readchunk():
            length += len(block)
        return length

    async def first_block(self, bucket: str, id: Any) -> Closing:
        opened = await self._bucket(bucket).open_download_stream(id)
        await opened.readchunk()
        return partial(_close, opened)

    async def delete(self, bucket: str, id: Any) -> None:
        await self._bucket(bucket).delete(id)

    async def stat(self, bucket: str, id: Any) -> object:
        return await self._bucket(bucket).open_download_stream(id)


async def _close(opened: Any) -> None:
    await _now(opened.close())


async def _now(result: Any) -> None:
    # Motor has some of these as plain functions.
    if result is not None and hasattr(result, "__await__"):
        await result


@asynccontextmanager
async def contender(name: str, uri: str, options: Mapping[str, Any]) -> AsyncIterator[Contender]:
    """A contender with a client of its own."""
    if name == MOTOR:
        motor: Any = importlib.import_module("motor.motor_asyncio")
        client = motor.AsyncIOMotorClient(uri, directConnection=True, **options)
        try:
            yield _GridFSBucket(partial(motor.AsyncIOMotorGridFSBucket, client[DATABASE]))
        finally:
            client.close()
        return
    async with AsyncMongoClient[dict[str, Any]](uri, directConnection=True, **options) as native:
        database = native[DATABASE]
        if name == PYMONGO:
            yield _GridFSBucket(partial(AsyncGridFSBucket, database))
        else:
            yield _Ours(database, None if name == OURS_BARE else "sha256")
