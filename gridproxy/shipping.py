"""Batches of chunks on their way to the server: four at once, hashed beside the loop while they are sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from pymongo.errors import BulkWriteError

from .footprint import Footprint
from .publish import id_in_progress, is_duplicate_key
from .store import Record, Session, Store
from .tasks import in_thread, spawn

__all__ = ["IN_FLIGHT", "Shipping", "update_hash"]

IN_FLIGHT = 4
# Below this a worker thread costs more than the hash, which keeps the loop for less than a millisecond.
_HASH_INLINE = 1024 * 1024


class Shipping:
    """The chunks of one new file, numbered in the order that they are given; the first failure sticks.

    `contested` says that somebody else may upload under the same id at the same time, `majority` that the record may
    be inserted in a transaction later.
    """

    def __init__(
        self, store: Store, id: object, session: Session | None, *, contested: bool, majority: bool = False
    ) -> None:
        self.footprint: Footprint = Footprint(store, id, session)
        self.stored: int = 0  # bytes that the server has confirmed
        self._store = store
        self._id = id
        self._contested = contested
        self._majority = majority
        self._session = session
        self._hash = hashlib.sha256() if store.checksum else None
        self._hashed: asyncio.Task[None] | None = None
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

    async def slot(self) -> None:
        """Wait until another batch may be sent; raises the first failure."""
        # Whoever lands chunk 0 has the id. Were more sent beside it, two uploads could each land a part, and both fail.
        lone = self._contested and not self.stored
        await self._wait_for(0 if lone else IN_FLIGHT - 1)

    async def arrive(self) -> None:
        """Wait until all that was sent is stored, and hashed; raises the first failure."""
        await self._wait_for(0)

    async def _wait_for(self, at_most: int) -> None:
        while len(self._in_flight) > at_most:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            self.check()

    def ship(self, payloads: list[bytes]) -> None:
        """Send a batch; `slot` comes before it."""
        documents = self._documents(payloads)
        if self._hash is not None:
            self._hashed = spawn(_hash_in_turn(self._hash, payloads, self._hashed))
        # Chunks whose record will stand in a transaction must not roll back below it.
        majority = self._majority or (self._session is not None and self._session.in_transaction)
        task = spawn(_send(self._store, documents, self._hashed, majority))
        self._in_flight[task] = sum(map(len, payloads))

    async def prepare(self, payloads: list[bytes]) -> list[Record]:
        """The chunks of a small file, hashed and not sent: for `footprint.insert_whole`."""
        if self._hash is not None:
            await update_hash(self._hash, payloads)
        return self._documents(payloads)

    def _documents(self, payloads: list[bytes]) -> list[Record]:
        documents = []
        for payload in payloads:
            chunk_id = self.footprint.new_chunk_id()
            documents.append({"_id": chunk_id, "files_id": self._id, "n": self._next_n, "data": payload})
            self._next_n += 1
        return documents

    async def take_back(self, cause: BaseException | None) -> None:
        """Remove whatever was sent; see `Footprint.take_back`."""
        # An insert that is cancelled lands all the same, so what is in flight comes to its end first.
        in_flight, self._in_flight = self._in_flight, {}
        await self.footprint.take_back(cause, in_flight)


async def _send(store: Store, documents: list[Record], hashing: asyncio.Task[None] | None, majority: bool) -> None:
    try:
        await store.insert_chunks(documents, majority=majority)
    finally:
        if hashing is not None:
            await asyncio.wait({hashing})


async def _hash_in_turn(digest: Any, payloads: list[bytes], before: asyncio.Task[None] | None) -> None:
    if before is not None:
        await asyncio.wait({before})
    await update_hash(digest, payloads)


async def update_hash(digest: Any, payloads: Sequence[bytes]) -> None:
    """Feed `digest` (of `hashlib`), beside the loop where that takes long."""

    def update() -> None:
        for payload in payloads:
            digest.update(payload)

    if sum(map(len, payloads)) <= _HASH_INLINE:
        update()
    else:
        await in_thread(update)
