"""The undo of one new file: its record first, then its own chunks, so that no reader sees half a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

from bson import ObjectId

from gridproxy.errors import (
    BadId,
    BadOption,
    BadSource,
    FileAlreadyStored,
    FileRefused,
    OutcomeUnknown,
    UniqueIndexViolation,
    UploadInProgress,
)
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.events import INFO, WARNING, Event, log_event
from gridproxy.runtime.tasks import clean_up, run_to_completion

from .commit import Verify, insert_record, insert_small_files, withdraw_record
from .shared_inserts import insert_with_others

# Errors that refuse the file. After all others an upload has failed.
_REFUSALS = (BadId, BadOption, BadSource, FileAlreadyStored, FileRefused, UniqueIndexViolation, UploadInProgress)


class UndoLog:
    """The chunks and the record of one new file that were sent so far."""

    def __init__(
        self,
        store: Store,
        id: object,
        session: Session | None,
        *,
        shared_id: bool,
        known_id: bool,
        upload_id: ObjectId | None = None,
    ) -> None:
        # See `file_info.UPLOAD_ID`.
        self.upload_id: ObjectId | None = (upload_id or ObjectId()) if shared_id else None
        self._known_id = known_id
        self.store = store
        self.id = id
        self.session = session
        self._chunk_ids = bytearray()  # 12 bytes for each chunk, so that memory stays small for large files
        self._record: Record | None = None
        self._outcome_unknown = False
        self._is_over = False  # whether the end was logged

    @property
    def chunk_ids(self) -> bytes:
        """The `_id`s of all chunks, 12 bytes each."""
        return bytes(self._chunk_ids)

    def new_chunk_id(self) -> ObjectId:
        """Return the `_id` for a chunk that will be sent."""
        id = self.store.new_chunk_id()
        self._chunk_ids += id.binary
        return id

    def insert_record(self, record: Record) -> Awaitable[None]:
        """Insert the record of chunks that are all stored. Raises the errors of `commit.insert_record`."""
        insert = partial(insert_record, self.store, record, self._chunk_ids, self.session)
        return run_to_completion(self._track(record, insert), client=self.store.client)

    def insert_small_file(self, chunks: Sequence[Record], record: Record) -> Awaitable[None]:
        """Insert chunks and record of a small file. Raises the errors of `commit.insert_small_files`."""
        if not self._known_id and Feature.BULK_WRITE in self.store.state.capabilities.missing:
            together = partial(insert_with_others, self.store, chunks, record)
            return run_to_completion(self._track(record, together), client=self.store.client)
        verify = Verify.ENDS if self._known_id else Verify.NONE
        insert = partial(insert_small_files, self.store, [(chunks, record)], verify)
        return run_to_completion(self._track(record, insert), client=self.store.client)

    async def _track(self, record: Record, insert: Callable[[], Awaitable[None]]) -> None:
        # Note the outcome inside `run_to_completion`: outside, a cancellation would hide it.
        self._record = record
        try:
            await insert()
        except (FileAlreadyStored, UniqueIndexViolation, UploadInProgress):
            self._record = None  # it was not inserted: a stored record under the id belongs to another upload
            raise
        except (OutcomeUnknown, asyncio.CancelledError):
            # This task is cancelled only if the server has not answered in time. It may still insert the record.
            self._outcome_unknown = True
            raise

    def abandon_record(self) -> None:
        """Forget the record, because its transaction was aborted."""
        self._record = None

    async def rollback(
        self,
        cause: BaseException | None,
        in_flight: Collection[asyncio.Future[Any]] = (),
        *,
        size: int,
        since: float,
    ) -> None:
        """Remove what was sent, after the inserts that are `in_flight` have ended.

        Nothing is removed if the outcome of the record's insert is unknown. A failure of the clean-up is noted on
        `cause`, or raised without a cause. The end is logged, with the bytes and the begin of the upload.
        """
        complete = not self._chunk_ids and self._record is None
        left = f"chunks under files_id {self.id!r} may be left in {self.store!r} until collect_garbage() runs."
        try:
            if not complete:
                complete = await clean_up(self._remove(in_flight), cause, left)
        finally:
            for insert in in_flight:
                insert.cancel()  # it has ended, unless the clean-up was given up
            if not self._is_over:  # a transaction rolls back again what has failed in it
                self._is_over = True
                self.log_end(cause, complete=complete, size=size, since=since)

    def log_end(self, cause: BaseException | None, *, complete: bool, size: int, since: float) -> None:
        """Log why there is no file, and whether everything of it was removed."""
        event = Event.REFUSED if isinstance(cause, _REFUSALS) else Event.ROLLED_BACK
        if self._outcome_unknown:
            event, complete = Event.OUTCOME_UNKNOWN, False
        log_event(
            event,
            self.store,
            self.id,
            size=size,
            since=since,
            level=INFO if complete else WARNING,
            error=None if cause is None else type(cause).__name__,
            field=cause.field if isinstance(cause, FileRefused) else None,
            complete=complete,
        )

    async def _remove(self, in_flight: Collection[asyncio.Future[Any]]) -> None:
        if in_flight:
            await asyncio.wait(in_flight)
        if self._outcome_unknown:
            return
        if self._record is not None:
            await withdraw_record(self.store, self._record, self.session)
        # One command for any number of chunks. Chunks of another upload under the id have another upload id.
        await self.store.delete_chunks(self.id, self.upload_id)
