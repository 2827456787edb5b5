"""The two indexes that the GridFS spec asks for."""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, IndexModel, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

__all__ = ["create_indexes"]

_Collection = AsyncCollection[dict[str, Any]]

_FILES_INDEX = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
_CHUNKS_INDEX = [("files_id", ASCENDING), ("n", ASCENDING)]


async def create_indexes(files: _Collection, chunks: _Collection, session: AsyncClientSession, *, force: bool) -> None:
    """Create what is not there yet, where there is no file yet, or `force` says so (GridFS spec)."""
    primary = files.with_options(read_preference=ReadPreference.PRIMARY)
    if force or await primary.find_one({}, {"_id": 1}, session=session) is None:
        await _create_index(files, _FILES_INDEX, session, unique=False)
        await _create_index(chunks, _CHUNKS_INDEX, session, unique=True)


async def _create_index(
    collection: _Collection, keys: list[tuple[str, int]], session: AsyncClientSession, *, unique: bool
) -> None:
    # An index that an old driver made with 1.0 for 1, or without `unique`, is there: creating it again would fail.
    async with await collection.list_indexes(session=session) as cursor:
        async for index in cursor:
            if list(index["key"].items()) == keys:
                return
    await collection.create_indexes([IndexModel(keys, unique=unique)], session=session)
