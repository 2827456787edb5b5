"""Batches of chunks on their way to the server: hashed in their order, and four at once."""

from __future__ import annotations

import asyncio
import hashlib

from pymongo.errors import BulkWriteError

from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import spawn

from .commit import id_in_progress, is_duplicate_key
from .undo_log import UndoLog

IN_FLIGHT = 4


class BatchSender:
    """The chunks of one new file, numbered in the order that they are given; the first failure sticks.

    `shared_id` says that somebody else may upload under the same id at the same time, `majority` that the record may
    be inserted in a transaction later.
    """

    def __init__(
        self, store: Store, id: object, session: Session | None, *, shared_id: bool, majority: bool = False
    ) -> None:
        self.undo_log: UndoLog = UndoLog(store, id, session)
        self.stored: int = 0  # bytes that the server has confirmed
        self._store = store
        self._id = id
        self._shared_id = shared_id
        self._majority = majority
        self._session = session
        self._hash = hashlib.sha256() if store.checksum else None
        self._in_flight: dict[asyncio.Task[None], int] = {}
        self._next_n = 0
        self._error: BaseException | None = None

    @property
    def begun(self) -> bool:
        """Whether any chunk was sent."""
        return self._next_n > 0

    @property
    def sha256(self) -> str | None:
        """The digest of all chunks in hex, where one is wanted."""
        return None if self._hash is None else self._hash.hexdigest()

    def fail(self, error: BaseException) -> BaseException:
        """Let `error` be what ends this upload, unless it has failed already; gives what it ended by."""
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
            else:
                self.fail(self._translated(error))
        if self._error is not None:
            raise self._error

    def _translated(self, error: BaseException) -> BaseException:
        taken = isinstance(error, BulkWriteError) and is_duplicate_key(error)
        return id_in_progress(self._id) if taken else error

    async def wait_for_slot(self) -> None:
        """Wait until another batch may be sent; raises the first failure."""
        # Whoever lands chunk 0 has the id. Were more sent beside it, two uploads could each land a part, and both fail.
        lone = self._shared_id and not self.stored
        await self._wait_for(0 if lone else IN_FLIGHT - 1)

    async def drain(self) -> None:
        """Wait until all that was sent is stored; raises the first failure."""
        await self._wait_for(0)

    async def _wait_for(self, at_most: int) -> None:
        while len(self._in_flight) > at_most:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            self.check()

    def send(self, payloads: list[bytes]) -> None:
        """Send a batch; `wait_for_slot` comes before it."""
        documents = self.prepare(payloads)
        # Chunks whose record will stand in a transaction must not roll back below it.
        majority = self._majority or in_transaction(self._session)
        task = spawn(self._store.insert_chunks(documents, majority=majority))
        self._in_flight[task] = sum(map(len, payloads))

    def prepare(self, payloads: list[bytes]) -> list[Record]:
        """The documents of a batch, hashed and not sent: those of a small file are for `undo_log.insert_small_file`."""
        documents = []
        for payload in payloads:
            if self._hash is not None:
                # About 1 ms a megabyte. A worker thread would wait for the interpreter's lock behind each encoding, and
                # take its turns from the loop: a long upload took half as long again that way.
                self._hash.update(payload)
            chunk_id = self.undo_log.new_chunk_id()
            documents.append({"_id": chunk_id, "files_id": self._id, "n": self._next_n, "data": payload})
            self._next_n += 1
        return documents

    async def rollback(self, cause: BaseException | None) -> None:
        """Remove whatever was sent; see `UndoLog.rollback`."""
        # An insert that is cancelled lands all the same, so what is in flight comes to its end first.
        in_flight, self._in_flight = self._in_flight, {}
        await self.undo_log.rollback(cause, in_flight)
