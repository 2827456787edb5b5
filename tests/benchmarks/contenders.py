"""Ours, pymongo's and Motor's buckets: what a user of each would write."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient

from gridproxy import Bucket
from gridproxy.runtime.capabilities import Feature

from .ceiling import Driver
from .interface import DATABASE, DRIVER, MOTOR, OURS_BARE, PYMONGO, Closing, Contender

__all__ = ["contender"]


class _Ours(Contender):
    def __init__(self, database: Any, checksum: Literal["sha256"] | None) -> None:
        self._database = database
        self._checksum = checksum
        self._buckets: dict[str, Bucket] = {}

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            self._buckets[name] = Bucket(self._database, name, checksum=self._checksum)
        return self._buckets[name]

    @contextmanager
    def without_bulk_write(self) -> Iterator[None]:
        missing = Bucket(self._database).capabilities.missing
        missing[Feature.BULK_WRITE] = "as before MongoDB 8.0"
        try:
            yield
        finally:
            del missing[Feature.BULK_WRITE]

    async def upload(self, bucket: str, data: bytes | Path) -> Any:
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
        await self._bucket(bucket).upload_many(contents)

    async def read_many(self, bucket: str, ids: Sequence[Any], *, gathered: bool) -> None:
        assert len(await self._bucket(bucket).read_many(ids)) == len(ids)

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

    async def upload(self, bucket: str, data: bytes | Path) -> Any:
        if isinstance(data, bytes):
            return await self._bucket(bucket).upload_from_stream("benchmark", data)
        with data.open("rb") as file:
            return await self._bucket(bucket).upload_from_stream("benchmark", file)

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
    """Yield a contender with a client of its own."""
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
        elif name == DRIVER:
            yield Driver(native)
        else:
            yield _Ours(database, None if name == OURS_BARE else "sha256")
