"""UndoLog: what one new file has left on the server so far, and how to take it back.

Taken back are the record first and the chunks then, so that nobody sees half a file; by the chunks' own `_id`s, since
another upload's may lie under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from typing import Any

from bson import ObjectId

from gridproxy.errors import FileAlreadyStored, OutcomeUnknown, UploadInProgress
from gridproxy.gridfs.records.chunks import object_ids
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.tasks import run_to_completion

from .commit import insert_record, insert_small_files, withdraw_record


class UndoLog:
    """The chunks and the record of one new file, as far as they were sent."""

    def __init__(self, store: Store, id: object, session: Session | None) -> None:
        self.store = store
        self.id = id
        self.session = session
        self._chunk_ids = bytearray()  # 12 bytes a chunk: undo knows its own, however large the file
        self._record: Record | None = None
        self._outcome_unknown = False

    @property
    def chunk_ids(self) -> bytes:
        """The `_id`s of all chunks, 12 bytes each."""
        return bytes(self._chunk_ids)

    def new_chunk_id(self) -> ObjectId:
        """The `_id` of a chunk that is going to be sent."""
        id = ObjectId()
        self._chunk_ids += id.binary
        return id

    async def insert_record(self, record: Record) -> None:
        """Make a file of chunks that are all there; raises as `publish.insert_record`."""
        await run_to_completion(self._noting(record, insert_record(self.store, record, self._chunk_ids, self.session)))

    async def insert_small_file(self, chunks: Sequence[Record], record: Record) -> None:
        """Chunks and record of a small file at once; raises as `insert_small_files`."""
        await run_to_completion(self._noting(record, insert_small_files(self.store, [(chunks, record)])))

    async def _noting(self, record: Record, insert: Awaitable[None]) -> None:
        # Here, and not around `settle`: there a cancellation hides what became of the insert.
        self._record = record
        try:
            await insert
        except (FileAlreadyStored, UploadInProgress):
            self._record = None  # what stands there is somebody else's, and not ours to withdraw
            raise
        except OutcomeUnknown:
            self._outcome_unknown = True
            raise

    def abandon_record(self) -> None:
        """The transaction that the record stood in was given up, and the record with it."""
        self._record = None

    async def rollback(self, cause: BaseException | None, in_flight: Collection[asyncio.Future[Any]] = ()) -> None:
        """Remove whatever was sent, once the inserts that are still `in_flight` have come to their end.

        Nothing is removed where the outcome of the record's insert is unknown. A clean-up that fails is noted on
        `cause`, or raised where there is none.
        """
        if not self._chunk_ids and self._record is None:
            return
        try:
            await run_to_completion(self._remove(in_flight), fresh=True)
        except Exception as error:  # whatever it is, the caller has to see what came first
            if cause is None:
                raise
            cause.add_note(
                f"The clean-up failed too ({error!r}): chunks under files_id {self.id!r} may be left in "
                f"{self.store!r} until collect_garbage() runs."
            )

    async def _remove(self, in_flight: Collection[asyncio.Future[Any]]) -> None:
        if in_flight:
            await asyncio.wait(in_flight)
        if self._outcome_unknown:
            return
        if self._record is not None:
            await withdraw_record(self.store, self._record, self.session)
        await self.store.delete_chunks_by_id(self.id, object_ids(self._chunk_ids))
