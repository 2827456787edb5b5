"""Creates the two indexes that the GridFS spec requires, if they are missing."""

from __future__ import annotations

import contextvars
from typing import Any

from pymongo import ASCENDING, IndexModel, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.runtime.tasks import both, run_to_completion, spawn

from .collections import Record, Session, Store
from .server_clock import ensure_clock, measure_clock

_FILES_INDEX = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
_CHUNKS_INDEX = [("files_id", ASCENDING), ("n", ASCENDING)]


async def ensure_indexes(store: Store, *, force: bool = False) -> None:
    """Create the indexes, once per bucket and client. GridFS spec: only if `files` is empty, unless forced."""
    state = store.state
    if force:
        state.indexed.discard(store.key)
    if store.key in state.indexed:
        return await ensure_clock(store)
    task = state.indexing.get(store.key)
    if task is None or force:
        task = state.indexing[store.key] = spawn(_create(store, force), context=contextvars.Context())
    # Several first uploads share one task, and the cancellation of one must not end it for the others.
    await run_to_completion(_wait_for(task))


async def _wait_for(task: Any) -> None:
    await task


async def _create(store: Store, force: bool) -> None:
    state = store.state
    try:
        async with store.own_session() as session:
            files = store.files.with_options(read_preference=ReadPreference.PRIMARY)
            first = files.find_one({}, {"_id": 1}, session=session)
            # At once, so that the first upload takes no longer. Later ones know the server's clock.
            found, _ = (await first, None) if store.knows_clock else await both(first, measure_clock(store))
            if force or found is None:
                await _create_index(store.files, _FILES_INDEX, session, unique=False)
                await _create_index(store.chunks, _CHUNKS_INDEX, session, unique=True)
        state.indexed.add(store.key)
    finally:
        state.indexing.pop(store.key, None)


async def _create_index(
    collection: AsyncCollection[Record], keys: list[tuple[str, int]], session: Session | None, *, unique: bool
) -> None:
    # Old drivers created indexes with 1.0 instead of 1, or without `unique`. To create such an index again would fail.
    async with await collection.list_indexes(session=session) as cursor:
        async for index in cursor:
            if list(index["key"].items()) == keys:
                return
    await collection.create_indexes([IndexModel(keys, unique=unique)], session=session)
