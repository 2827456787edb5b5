"""BatchSender: number batches of chunks in order, and send four at once."""

from __future__ import annotations

import asyncio

from bson import ObjectId
from pymongo.errors import BulkWriteError

from gridproxy.gridfs.records.file_info import UPLOAD_ID
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import spawn

from .commit import duplicate_chunk, is_duplicate_key
from .undo_log import UndoLog

IN_FLIGHT = 4


class BatchSender:
    """The chunks of one new file, numbered in order. After the first failure every call raises it.

    `shared_id`: another client may upload under the same id. `known_id`: another client may delete it before it is
    stored. `majority`: a transaction may insert the record later.
    """

    def __init__(
        self,
        store: Store,
        id: object,
        session: Session | None,
        *,
        shared_id: bool,
        known_id: bool,
        majority: bool = False,
        upload_id: ObjectId | None = None,
    ) -> None:
        self.undo_log: UndoLog = UndoLog(
            store, id, session, shared_id=shared_id, known_id=known_id, upload_id=upload_id
        )
        self.stored: int = 0  # bytes that the server has confirmed
        self._store = store
        self._id = id
        self._known_id = known_id
        self._majority = majority
        self._session = session
        self._in_flight: dict[asyncio.Task[None], int] = {}
        self._next_n = 0
        self._error: BaseException | None = None

    @classmethod
    def resumed(cls, store: Store, id: object, upload_id: ObjectId, first: int) -> BatchSender:
        """Return a sender of the chunks from number `first` on."""
        sender = cls(store, id, None, shared_id=True, known_id=first == 0, majority=True)
        sender.undo_log.upload_id = upload_id
        sender._next_n = first
        return sender

    @property
    def begun(self) -> bool:
        """Whether any chunk was sent."""
        return self._next_n > 0

    def fail(self, error: BaseException) -> BaseException:
        """Let `error` end this upload unless it has failed before. Return the error that ended it."""
        if self._error is None:
            self._error = error
        return self._error

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if not self._in_flight and self._error is None:
            return
        for task in [task for task in self._in_flight if task.done()]:
            size = self._in_flight.pop(task)
            error = task.exception()
            if error is None:
                self.stored += size
            elif isinstance(error, BulkWriteError) and is_duplicate_key(error):
                self.fail(duplicate_chunk(self._store, self._id, error))
            else:
                self.fail(error)
        if self._error is not None:
            raise self._error

    async def wait_for_slot(self) -> None:
        """Wait until another batch may be sent. Raises the first failure."""
        # The upload that inserts chunk 0 owns the id. Send it alone first: otherwise two uploads could each insert some
        # chunks and both fail, and a delete could remove chunks before it can mark the first one.
        alone = self._known_id and not self.stored
        await self.drain(0 if alone else IN_FLIGHT - 1)

    async def drain(self, at_most: int = 0) -> None:
        """Wait until at most this many batches are in flight. Raises the first failure."""
        while len(self._in_flight) > at_most:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            self.check()

    async def settle(self) -> BaseException | None:
        """Wait until nothing is in flight, and return the first failure, if there was one."""
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        try:
            self.check()
        except BaseException as error:  # noqa: BLE001  # returned to the caller
            return error
        return None

    def send(self, payloads: list[bytes]) -> None:
        """Send a batch. Call `wait_for_slot` before."""
        documents = self.prepare(payloads)
        # A failover must not roll back chunks whose record a transaction inserts.
        majority = self._majority or in_transaction(self._session)
        task = spawn(self._store.insert_chunks(documents, majority=majority))
        self._in_flight[task] = sum(map(len, payloads))

    def prepare(self, payloads: list[bytes]) -> list[Record]:
        """Return the documents of a batch without sending them."""
        documents = []
        more = {} if self.undo_log.upload_id is None else {UPLOAD_ID: self.undo_log.upload_id}
        for payload in payloads:
            chunk_id = self.undo_log.new_chunk_id()
            documents.append({"_id": chunk_id, "files_id": self._id, "n": self._next_n, "data": payload, **more})
            self._next_n += 1
        return documents

    async def rollback(self, cause: BaseException | None, *, size: int, since: float) -> None:
        """Remove what was sent. See `UndoLog.rollback`."""
        # A cancelled insert may still be stored, so wait for those in flight.
        in_flight, self._in_flight = self._in_flight, {}
        await self.undo_log.rollback(cause, in_flight, size=size, since=since)
