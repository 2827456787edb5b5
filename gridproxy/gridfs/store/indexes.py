"""Creates the two indexes that the GridFS spec requires, if they are missing."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.runtime.tasks import SharedTask, both

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
    # Several first uploads share one task. A deadline of one of them must hold for it, and not end it for the others.
    task = state.indexing.get(store.key)
    if task is None or force or task.is_over:
        task = state.indexing[store.key] = SharedTask(_create(store, force))
    try:
        await task.wait(f"the indexes of {store.description}")
    finally:
        if task.is_over and state.indexing.get(store.key) is task:
            del state.indexing[store.key]


async def _create(store: Store, force: bool) -> None:
    async with store.own_session() as session:
        files = store.files.with_options(read_preference=ReadPreference.PRIMARY)
        first = files.find_one({}, {"_id": 1}, session=session)
        # At once, so that the first upload takes no longer. Later ones know the server's clock.
        found, _ = (await first, None) if store.knows_clock else await both(first, measure_clock(store))
        if force or found is None:
            await _create_index(store.files, _FILES_INDEX, session, unique=False)
            await _create_index(store.chunks, _CHUNKS_INDEX, session, unique=True)
    store.state.indexed.add(store.key)


async def _create_index(
    collection: AsyncCollection[Record], keys: list[tuple[str, int]], session: Session, *, unique: bool
) -> None:
    # Old drivers created indexes with 1.0 instead of 1, or without `unique`. To create such an index again would fail.
    async with await collection.list_indexes(session=session) as cursor:
        async for index in cursor:
            if list(index["key"].items()) == keys:
                return
    await collection.create_indexes([IndexModel(keys, unique=unique)], session=session)
