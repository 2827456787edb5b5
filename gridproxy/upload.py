"""The way in: blocks -> chunks -> batches -> the server, and the record last.

A file is there whole or not at all. Up to four batches are on their way at once, hashed beside the loop while they
are sent; whoever awaits `flow()` is held back by them, so memory is bounded by (in flight + 1) batches.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

import anyio.to_thread
from bson import ObjectId
from pymongo.errors import BulkWriteError, PyMongoError

from .chunks import BATCH_BYTES, Splitter, chunks_per_batch
from .errors import (
    BadOption,
    BadSource,
    BufferFull,
    FileAlreadyStored,
    FileClosed,
    OutcomeUnknown,
    TooLarge,
    type_name,
)
from .info import FileInfo
from .options import UploadRequest, check_record, upload_request
from .progress import Progress, report
from .publish import (
    check_id_is_free,
    encodes_alike,
    id_in_progress,
    insert_record,
    insert_whole,
    withdraw_record,
)
from .sources import Data, as_bytes, open_source
from .staging import Staged, object_ids, publish_staged
from .store import Record, Session, Store
from .tasks import settle, spawn

__all__ = ["IN_FLIGHT", "UNAWAITED_BYTES", "Upload", "stage_source", "upload_source"]

IN_FLIGHT = 4
# Bytes that may be written without awaiting before `write` refuses.
UNAWAITED_BYTES = 64 * 1024 * 1024
# Below this a worker thread costs more than the hash.
_HASH_INLINE = 128 * 1024
_DUPLICATE_KEY = 11000


class State(enum.Enum):
    """The life of an upload."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    STORED = "stored"
    STAGED = "staged"
    ABORTED = "aborted"


class Upload:
    """One file on its way in. `feed` takes bytes at once and in order; `flow` sends what is ready."""

    def __init__(
        self,
        store: Store,
        request: UploadRequest,
        session: Session | None = None,
        progress: Progress | None = None,
        total: int | None = None,
    ) -> None:
        self.state = State.NEW
        self.store = store
        self.request = request
        self.session = store.session_for(session)
        self.id = ObjectId() if request.id is None else request.id
        self.chunk_size = request.chunk_size or store.chunk_size
        self.length = 0
        self._progress = progress
        self._total = total  # bytes that are going to come, None while unknown
        self._stored = 0
        self._reported = -1
        self.info: FileInfo | None = None
        self._hash = hashlib.sha256() if store.checksum else None
        self._hashed: asyncio.Task[None] | None = None
        self._splitter = Splitter(self.chunk_size)
        self._per_batch = chunks_per_batch(self.chunk_size)
        self._batch: list[bytes] = []
        self._ready: deque[list[bytes]] = deque()
        self._in_flight: dict[asyncio.Task[None], int] = {}
        self._unawaited = 0
        self._next_n = 0
        self._chunk_ids = bytearray()  # 12 bytes a chunk: undo knows its own, however large the file
        self._record: Record | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Upload {self.id!r} to {self.store!r}: {self.state.value}, {self.length} bytes>"

    def __del__(self) -> None:
        if self.state in (State.OPEN, State.CLOSING):
            warnings.warn(
                f"{self!r} was dropped before close() or abort(); its chunks stay behind for collect_garbage()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def start(self) -> None:
        """Check the request against the store; raises before anything is sent."""
        check_record(self.request.record(self.id, 0, self.chunk_size, None), self.chunk_size, self.store.codec_options)
        if self.request.id is not None:
            await check_id_is_free(self.store, self.id, self.session)
        await self.store.ensure_indexes()
        self.state = State.OPEN

    # Taking bytes

    def feed(self, data: bytes | memoryview) -> None:
        """Take `data` (it must not change any more); sends nothing by itself."""
        self.check_open()
        limit = self.request.max_size
        if limit is not None and self.length + len(data) > limit:
            self._error = TooLarge(limit)
            raise self._error
        self.length += len(data)
        for chunk in self._splitter.feed(data):
            self._batch.append(chunk)
            if len(self._batch) == self._per_batch:
                self._ready.append(self._batch)
                self._batch = []

    def check_open(self) -> None:
        """Raise what forbids a write: the first failure of a batch, or that this upload is not open."""
        self._raise_failures()
        if self.state is not State.OPEN:
            raise FileClosed(f"this file is not open for writing any more (it is {self.state.value})")

    def write(self, data: Data) -> Awaitable[int]:
        """Take a copy of `data` at the call; awaiting the result applies back-pressure and gives the number of
        bytes.
        """
        return self._take([as_bytes(data, self.request.encoding)])

    def writelines(self, lines: Iterable[Data]) -> Awaitable[int]:
        """`write` for each of them, all or none (nothing is put between them)."""
        if isinstance(lines, str | bytes | bytearray | memoryview):
            raise BadSource(f"writelines takes an iterable of bytes, not {type_name(lines)}; use write")
        return self._take([as_bytes(line, self.request.encoding) for line in lines])

    def _take(self, pieces: list[bytes]) -> Awaitable[int]:
        self.check_open()
        count = sum(map(len, pieces))
        if self._unawaited + count > UNAWAITED_BYTES:
            raise BufferFull(self._unawaited, count, UNAWAITED_BYTES)
        for piece in pieces:
            self.feed(piece)
        self._unawaited += count
        return _Written(self, count)

    # Sending

    async def flow(self) -> None:
        """Send every full batch; returns when all of them are on their way, at most four at once.

        A cancellation here leaves the upload as it is: bytes that were taken stay taken, in order.
        """
        self._raise_failures()
        while self._ready:
            await self._free_slot()
            if self._ready:
                self._ship(self._ready.popleft())
        self._unawaited = 0
        await self._report(self._stored, self._total)

    async def _report(self, done: int, total: int | None) -> None:
        if done != self._reported:
            self._reported = done
            await report(self._progress, done, total)

    async def _free_slot(self, at_most: int = IN_FLIGHT - 1) -> None:
        while len(self._in_flight) > at_most:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failures()

    def _raise_failures(self) -> None:
        for task in [task for task in self._in_flight if task.done()]:
            size = self._in_flight.pop(task)
            error = task.exception()
            if error is None:
                self._stored += size
            elif self._error is None:
                self._error = self._translated(error)
        if self._error is not None:
            raise self._error

    def _ship(self, payloads: list[bytes]) -> None:
        documents = self._documents(payloads)
        if self._hash is not None:
            self._hashed = spawn(_hash_in_turn(self._hash, payloads, self._hashed))
        majority = self.session is not None and self.session.in_transaction
        task = spawn(_send(self.store, documents, self._hashed, majority))
        self._in_flight[task] = sum(map(len, payloads))

    def _documents(self, payloads: list[bytes]) -> list[Record]:
        documents = []
        for payload in payloads:
            chunk_id = ObjectId()
            self._chunk_ids += chunk_id.binary
            documents.append({"_id": chunk_id, "files_id": self.id, "n": self._next_n, "data": payload})
            self._next_n += 1
        return documents

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, BulkWriteError):
            codes = {each.get("code") for each in error.details.get("writeErrors", [])}
            if codes == {_DUPLICATE_KEY}:
                return id_in_progress(self.id)
        return error

    # Ending

    async def finish(self) -> FileInfo:
        """Send the rest, then the record: the file is there when this returns.

        Raises `FileAlreadyStored`, `UploadInProgress`, `OutcomeUnknown` or the first failure of a batch; nothing stays
        behind then, nor after a cancellation (but see `OutcomeUnknown`).
        """
        record = await self._end(self._publish)
        self.state = State.STORED
        self.info = FileInfo.from_record(record)
        return self.info

    async def stage(self) -> Staged:
        """Send the rest, and no record."""
        record = await self._end(self._send_rest)
        self.state = State.STAGED
        return Staged(self.store, record, bytes(self._chunk_ids))

    async def _end(self, work: Callable[[], Awaitable[Record]]) -> Record:
        self.check_open()
        self.state = State.CLOSING
        try:
            # Before the record and not after it: a callback that fails must not leave a file that nobody knows.
            await self._report(self.length, self.length)
            return await work()
        except BaseException as error:
            await self.abort(error)
            raise

    async def _publish(self) -> Record:
        whole = self._fits_one_request()
        self._batch_rest()
        try:
            return await (self._publish_whole() if whole else self._publish_record())
        except FileAlreadyStored:
            self._record = None  # it is somebody else's, and not ours to withdraw
            raise

    async def _publish_record(self) -> Record:
        record = self._record = await self._send_rest()
        await settle(insert_record(self.store, record, self._own_chunk(), self.session))
        return record

    async def _publish_whole(self) -> Record:
        payloads = self._ready.popleft() if self._ready else []
        if self._hash is not None:
            await _update(self._hash, payloads)
        documents = self._documents(payloads)
        record = self._record = self._finished_record()
        await settle(insert_whole(self.store, documents, record))
        return record

    def _fits_one_request(self) -> bool:
        if self._next_n or self._ready or self.length > BATCH_BYTES:
            return False
        if self.session is not None or not self.store.state.bulk_write:
            return False
        return encodes_alike(self.store, self.request.record(self.id, 0, self.chunk_size, None))

    async def _send_rest(self) -> Record:
        self._batch_rest()
        await self.flow()
        await self._free_slot(at_most=0)
        return self._finished_record()

    def _batch_rest(self) -> None:
        rest = self._splitter.flush()
        if rest:
            self._batch.append(rest)
        if self._batch:
            self._ready.append(self._batch)
            self._batch = []

    def _finished_record(self) -> Record:
        digest = None if self._hash is None else self._hash.hexdigest()
        return self.request.record(self.id, self.length, self.chunk_size, digest)

    def _own_chunk(self) -> ObjectId | None:
        return ObjectId(bytes(self._chunk_ids[:12])) if self._chunk_ids else None

    async def abort(self, cause: BaseException | None = None) -> None:
        """Take back whatever was sent. A clean-up that fails is noted on `cause`, or raised where there is none."""
        if self.state in (State.STORED, State.STAGED, State.ABORTED):
            return
        self.state = State.ABORTED
        self._batch, self._splitter = [], Splitter(self.chunk_size)
        self._ready.clear()
        if isinstance(cause, OutcomeUnknown):
            return
        try:
            await settle(self._undo(), fresh=True)
        except PyMongoError as error:
            if cause is None:
                raise
            cause.add_note(
                f"The clean-up failed too ({error!r}): chunks under files_id {self.id!r} may be left in "
                f"{self.store!r} until collect_garbage() runs."
            )

    async def _undo(self) -> None:
        # An insert that is cancelled lands all the same, so what is in flight comes to its end first.
        if self._in_flight:
            await asyncio.wait(self._in_flight)
            self._in_flight.clear()
        if self._record is not None:
            await withdraw_record(self.store, self._record, self.session)
        await self.store.delete_chunks_by_id(self.id, object_ids(self._chunk_ids))


class _Written:
    """What `write` returns: not a coroutine, since its bytes are taken whether anybody awaits it or not."""

    def __init__(self, upload: Upload, count: int) -> None:
        self._upload = upload
        self._count = count

    def __await__(self) -> Generator[Any, None, int]:
        yield from self._upload.flow().__await__()
        return self._count


async def upload_source(
    store: Store,
    source: object,
    request: UploadRequest,
    *,
    session: Session | None = None,
    progress: Progress | None = None,
) -> FileInfo:
    """Store all of `source`. Whatever this raises, nothing stays behind (but see `OutcomeUnknown`)."""
    if isinstance(source, Staged):
        return await _published(store, source, request, session)
    return await (await _taken(store, source, request, session, progress)).finish()


async def _published(store: Store, staged: Staged, request: UploadRequest, session: Session | None) -> FileInfo:
    if not staged.store.same_as(store):
        raise BadOption(f"{staged!r} cannot become a file of {store!r}")
    if request != upload_request(encoding=request.encoding, max_size=request.max_size):
        raise BadOption("what is staged has its name, metadata and id already; give them to stage()")
    if request.max_size is not None and staged.info.length > request.max_size:
        raise TooLarge(request.max_size)
    return await publish_staged(staged, session)


async def stage_source(
    store: Store, source: object, request: UploadRequest, *, progress: Progress | None = None
) -> Staged:
    """The chunks of all of `source`, and no record."""
    return await (await _taken(store, source, request, None, progress)).stage()


async def _taken(
    store: Store,
    source: object,
    request: UploadRequest,
    session: Session | None,
    progress: Progress | None,
) -> Upload:
    opened = open_source(source, encoding=request.encoding)
    try:
        await opened.prepare()
        named = request.completed_by(opened.name, opened.content_type)
        upload = Upload(store, named, session, progress, opened.size)
        try:
            await upload.start()
            while block := await opened.read():
                upload.feed(block)
                await upload.flow()
        except BaseException as error:
            await upload.abort(error)
            raise
    except BaseException:
        await opened.aclose()
        raise
    try:
        await opened.aclose()
    except BaseException as error:
        await upload.abort(error)
        raise
    return upload


async def _send(store: Store, documents: list[Record], hashing: asyncio.Task[None] | None, majority: bool) -> None:
    try:
        await store.insert_chunks(documents, majority=majority)
    finally:
        if hashing is not None:
            await asyncio.wait({hashing})


async def _hash_in_turn(digest: Any, payloads: list[bytes], before: asyncio.Task[None] | None) -> None:
    if before is not None:
        await asyncio.wait({before})
    await _update(digest, payloads)


async def _update(digest: Any, payloads: list[bytes]) -> None:
    def update() -> None:
        for payload in payloads:
            digest.update(payload)

    if sum(map(len, payloads)) <= _HASH_INLINE:
        update()
    else:
        await anyio.to_thread.run_sync(update)
