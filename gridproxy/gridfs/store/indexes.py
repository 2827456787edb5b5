"""Creates the two indexes that the GridFS spec requires, if they are missing.

A client looks once per bucket, and again after a minute, because another client may have dropped the bucket since.
"""

from __future__ import annotations

import time

from pymongo import ASCENDING, IndexModel, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from gridproxy.errors import IndexesNotAllowed
from gridproxy.runtime.tasks import SharedTask, both

from .collections import Record, Session, Store
from .server_clock import ensure_clock, measure_clock

_FILES_INDEX = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
_CHUNKS_INDEX = [("files_id", ASCENDING), ("n", ASCENDING)]
_SECONDS = 60.0  # after which a client looks at the indexes again
# Unauthorized, AtlasError, and what servers answer that do not have the commands or do not allow them.
_NOT_ALLOWED = {13, 59, 115, 238, 8000}


async def ensure_indexes(store: Store, *, force: bool = False, asked: bool = False) -> None:
    """Create the indexes if it is time to look. GridFS spec: only if `files` is empty, unless forced.

    `asked`: the application calls for it, so it is done for a bucket with `indexes=False`, too.
    """
    state = store.state
    if not (force or asked or store.indexes):
        return await ensure_clock(store)
    if not force and state.indexed.get(store.key, 0.0) > time.monotonic():
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
    state = store.state
    async with store.own_session() as session:
        files = store.files.with_options(read_preference=ReadPreference.PRIMARY)
        first = files.find_one({}, {"_id": 1}, session=session)
        # At once, so that the first upload takes no longer. Later ones know the server's clock.
        found, _ = (await first, None) if store.knows_clock else await both(first, measure_clock(store))
        if force or found is None or await _have_vanished(store, session):
            await _create_all(store, session)
            state.had_indexes.add(store.key)
    state.indexed[store.key] = time.monotonic() + _SECONDS


async def _create_all(store: Store, session: Session | None) -> None:
    try:
        for collection, keys, unique in (store.files, _FILES_INDEX, False), (store.chunks, _CHUNKS_INDEX, True):
            if not await _has_index(collection, keys, session):
                await collection.create_indexes([IndexModel(keys, unique=unique)], session=session)
    except OperationFailure as error:
        if error.code not in _NOT_ALLOWED:
            raise
        raise IndexesNotAllowed(store.description, error) from error


async def _have_vanished(store: Store, session: Session | None) -> bool:
    """Return whether a bucket with files had its indexes when this client looked before, and has lost one.

    The bucket of an old application may never have had them, and the specification leaves it as it is.
    """
    state = store.state
    if store.key not in state.indexed:
        return False  # the first look takes no further command
    try:
        complete = await _has_index(store.chunks, _CHUNKS_INDEX, session)
        complete = complete and await _has_index(store.files, _FILES_INDEX, session)
    except OperationFailure as error:
        if error.code not in _NOT_ALLOWED:
            raise
        return False
    if complete:
        state.had_indexes.add(store.key)
    return not complete and store.key in state.had_indexes


async def _has_index(collection: AsyncCollection[Record], keys: list[tuple[str, int]], session: Session | None) -> bool:
    # Old drivers created indexes with 1.0 instead of 1, or without `unique`. To create such an index again would fail.
    async with await collection.list_indexes(session=session) as cursor:
        return any([list(index["key"].items()) == keys async for index in cursor])
