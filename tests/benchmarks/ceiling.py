"""The driver's ceiling: pymongo's own inserts and finds in the best shape known, and nothing around them.

No record is checked, nothing is hashed, and nothing is taken back where it fails; so whatever works through pymongo
cannot be much faster than this.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bson import Int64, ObjectId
from pymongo import AsyncMongoClient, InsertOne

from .interface import DATABASE, Closing, Contender

__all__ = ["Driver"]

_CHUNK = 255 * 1024
_CHUNKS_PER_BATCH = 16
_BATCH = _CHUNKS_PER_BATCH * _CHUNK
_IN_FLIGHT = 4
_Document = dict[str, Any]


class Driver(Contender):
    """Batches of 4 MB, four at once; files of one batch in one bulk write."""

    def __init__(self, client: AsyncMongoClient[_Document]) -> None:
        self._client = client
        self._database = client[DATABASE]
        self._indexed: set[str] = set()

    async def upload(self, bucket: str, data: bytes | Path) -> Any:
        if not isinstance(data, bytes):
            data = data.read_bytes()
        await self._make_index(bucket)
        id = ObjectId()
        batches = (data[at : at + _BATCH] for at in range(0, len(data), _BATCH))
        if len(data) > _BATCH:
            await self._insert(bucket, id, batches)
            await self._database[f"{bucket}.files"].insert_one(_record(id, len(data)))
            return id
        chunks = [
            InsertOne(chunk, namespace=f"{DATABASE}.{bucket}.chunks")
            for batch in batches
            for chunk in _chunks(id, 0, batch)
        ]
        record = InsertOne(_record(id, len(data)), namespace=f"{DATABASE}.{bucket}.files")
        await self._client.bulk_write([*chunks, record])
        return id

    async def upload_blocks(self, bucket: str, block: bytes, count: int) -> Any:
        await self._make_index(bucket)
        id = ObjectId()
        await self._insert(bucket, id, _joined(block for _ in range(count)))
        await self._database[f"{bucket}.files"].insert_one(_record(id, count * len(block)))
        return id

    async def _make_index(self, bucket: str) -> None:
        if bucket not in self._indexed:
            await self._database[f"{bucket}.chunks"].create_index([("files_id", 1), ("n", 1)], unique=True)
            self._indexed.add(bucket)

    async def _insert(self, bucket: str, id: ObjectId, batches: Iterable[bytes]) -> None:
        in_flight: deque[asyncio.Task[Any]] = deque()
        for number, batch in enumerate(batches):
            if len(in_flight) == _IN_FLIGHT:
                await in_flight.popleft()
            chunks = _chunks(id, number * _CHUNKS_PER_BATCH, batch)
            in_flight.append(asyncio.create_task(self._database[f"{bucket}.chunks"].insert_many(chunks)))
        while in_flight:
            await in_flight.popleft()

    async def read(self, bucket: str, id: Any) -> bytes:
        content = io.BytesIO()
        async for chunk in self._content(bucket, id):
            content.write(chunk)
        return content.getvalue()

    async def stream(self, bucket: str, id: Any) -> int:
        return sum([len(chunk) async for chunk in self._content(bucket, id)])

    async def _content(self, bucket: str, id: Any) -> AsyncIterator[bytes]:
        record, first = await asyncio.gather(self.stat(bucket, id), self._find(bucket, id, 0, _CHUNKS_PER_BATCH))
        for chunk in first:
            yield chunk["data"]
        starts = iter(range(_CHUNKS_PER_BATCH, -(-record["length"] // _CHUNK), _CHUNKS_PER_BATCH))
        in_flight: deque[asyncio.Task[list[_Document]]] = deque()
        ended = False
        while in_flight or not ended:
            while len(in_flight) < _IN_FLIGHT and not (ended := (start := next(starts, None)) is None):
                in_flight.append(asyncio.create_task(self._find(bucket, id, start, start + _CHUNKS_PER_BATCH)))
            if in_flight:
                for chunk in await in_flight.popleft():
                    yield chunk["data"]

    async def _find(self, bucket: str, id: Any, first: int, stop: int) -> list[_Document]:
        query = {"files_id": id, "n": {"$gte": first, "$lt": stop}}
        found = self._database[f"{bucket}.chunks"].find(query, {"_id": 0, "data": 1}, sort=[("n", 1)])
        return await found.batch_size(stop - first + 1).to_list()

    async def read_range(self, bucket: str, id: Any, start: int, stop: int) -> bytes:
        first = start // _CHUNK
        found = await self._find(bucket, id, first, -(-stop // _CHUNK))
        return b"".join(chunk["data"] for chunk in found)[start - first * _CHUNK : stop - first * _CHUNK]

    async def first_block(self, bucket: str, id: Any) -> Closing:
        await asyncio.gather(self.stat(bucket, id), self._find(bucket, id, 0, 1))
        return _nothing

    async def delete(self, bucket: str, id: Any) -> None:
        await self._database[f"{bucket}.files"].delete_one({"_id": id})
        await self._database[f"{bucket}.chunks"].delete_many({"files_id": id})

    async def stat(self, bucket: str, id: Any) -> Any:
        return await self._database[f"{bucket}.files"].find_one({"_id": id})


async def _nothing() -> None:
    pass


def _record(id: ObjectId, length: int) -> _Document:
    return {"_id": id, "length": Int64(length), "chunkSize": _CHUNK, "uploadDate": datetime.now(UTC)}


def _chunks(id: ObjectId, first: int, batch: bytes) -> list[_Document]:
    return [
        {"files_id": id, "n": first + number, "data": batch[at : at + _CHUNK]}
        for number, at in enumerate(range(0, len(batch), _CHUNK))
    ]


def _joined(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Return the same bytes in batches."""
    gathered = bytearray()
    for block in blocks:
        gathered += block
        while len(gathered) >= _BATCH:
            yield bytes(gathered[:_BATCH])
            del gathered[:_BATCH]
    if gathered:
        yield bytes(gathered)
