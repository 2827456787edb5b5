"""The removal of chunks without a record, which cannot damage a file that another client is storing under their id.

Two marks make that safe, because a look at the record and the removal of chunks are two commands:

- The remover marks chunk 0 first and looks for a record afterwards. An upload inserts its record first and looks for
  the mark afterwards. So at least one of the two sees the other and gives up.
- The record of an open transaction is invisible. A trial insert under its id gets a write conflict.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from contextlib import suppress

from bson import ObjectId
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from gridproxy.gridfs.records.file_info import UPLOAD_ID
from gridproxy.runtime.sessions import has_transactions
from gridproxy.runtime.tasks import run_to_completion

from .collections import CHUNKS_PER_PAGE, Session, Store

_WRITE_CONFLICT = 112
_ABORT_SECONDS = 10.0


class Loose(enum.Enum):
    """What became of the chunks of an id without a record."""

    REMOVED = "removed"
    STORED = "they are a file"
    PENDING = "a transaction that is not over makes a file of them"
    TAKEN = "another upload has begun under the id"


class Claim:
    """The right to remove the chunks of one id. Begin it before the `_id`s of the chunks are read."""

    def __init__(self, store: Store, id: object) -> None:
        self._store = store
        self._id = id
        self._mark = ObjectId()
        self._first: object = None
        self._only_older = False

    async def begin(self, youngest: ObjectId | None = None) -> None:
        """Note which chunk 0 there is. `youngest`: only chunks that are not younger will be removed."""
        first = await self._store.first_chunk_id(self._id)
        if isinstance(first, ObjectId) and youngest is not None and first > youngest:
            self._only_older = True  # it belongs to a new upload, and the older chunks have lost theirs
        else:
            self._first = first

    async def check(self) -> Loose:
        """Mark chunk 0, then return `REMOVED` if the chunks that were read since `begin` may be removed.

        A running upload has inserted its chunk 0 first. So if the same chunk 0 was there all the time, or none, then
        no upload has begun since.
        """
        if self._first is None:
            same = self._only_older or await self._store.first_chunk_id(self._id) is None
        else:
            same = await self._store.mark_chunk(self._id, self._first, self._mark)
        found = await _find_owner(self._store, self._id) if same else Loose.TAKEN
        if found is not Loose.REMOVED:
            await self.end()
        return found

    async def end(self) -> None:
        """Remove the mark from a chunk that stays."""
        if self._first is not None:
            await self._store.unmark_chunk(self._id, self._first, self._mark)


async def remove_loose_chunks(store: Store, id: object) -> Loose:
    """Remove all chunks of an id that has no record, and return what became of them. A running upload fails."""
    if not await store.has_chunks(id):
        return Loose.REMOVED
    claim = Claim(store, id)
    await claim.begin()
    while True:
        chunk_ids = await store.last_chunk_ids(id)
        if (found := await claim.check()) is not Loose.REMOVED:
            return found
        await store.delete_chunks_by_id(id, chunk_ids)
        if len(chunk_ids) < CHUNKS_PER_PAGE:
            return Loose.REMOVED


async def remove_own_chunks(store: Store, id: object, upload_id: object, chunk_ids: Sequence[ObjectId]) -> Loose:
    """Remove these chunks of one upload, unless they are a file."""
    mark = ObjectId()
    # Without its chunk 0 no client can make a file of the others.
    marked = bool(chunk_ids) and await store.mark_chunk(id, chunk_ids[0], mark)
    if marked or not chunk_ids:
        found = await _find_owner(store, id, upload_id)
        if found is not Loose.REMOVED:
            if marked:
                await store.unmark_chunk(id, chunk_ids[0], mark)
            return found
    await store.delete_chunks_by_id(id, reversed(chunk_ids))
    return Loose.REMOVED


async def remove_upload_chunks(store: Store, id: object, upload_id: ObjectId) -> Loose:
    """Remove all chunks of one upload, unless they are a file."""
    mark = ObjectId()
    first = await store.first_chunk_id(id, upload_id)
    if first is not None:
        await store.mark_chunk(id, first, mark)
    found = await _find_owner(store, id, upload_id)
    if found is Loose.REMOVED:
        await store.delete_chunks(id, upload_id)
    elif first is not None:
        await store.unmark_chunk(id, first, mark)
    return found


_ANY = object()


async def _find_owner(store: Store, id: object, upload_id: object = _ANY) -> Loose:
    async with store.own_session() as session:  # a bound transaction may not see a record that was inserted since
        record = await store.find_record(id, session, primary=True)
    if record is not None:
        # The empty file of another upload may have been stored under the id.
        return Loose.STORED if upload_id in (_ANY, record.get(UPLOAD_ID)) else Loose.REMOVED
    if await has_transactions(store.client) and await _is_pending(store, id):
        return Loose.PENDING
    return Loose.REMOVED


async def _is_pending(store: Store, id: object) -> bool:
    """Return whether an open transaction has inserted a record with this id."""
    async with store.client.start_session(causal_consistency=False) as session:
        # The client's own write concern may be one that transactions refuse.
        await session.start_transaction(write_concern=store.files.write_concern)
        try:
            await store.files.insert_one({"_id": id}, session=session)
        except DuplicateKeyError as error:
            # A unique index of the application's may refuse the trial, too, and that says nothing.
            return bool((error.details or {}).get("keyPattern", {"_id": 1}) == {"_id": 1})
        except ConnectionFailure:
            raise
        except OperationFailure as error:
            return error.code == _WRITE_CONFLICT
        finally:
            # pymongo sends no abort after the caller's deadline, and the server would lock the id for a minute.
            await run_to_completion(_abort(session), fresh=True)
    return False


async def _abort(session: Session) -> None:
    with suppress(PyMongoError, TimeoutError):
        async with asyncio.timeout(_ABORT_SECONDS):
            await session.abort_transaction()
