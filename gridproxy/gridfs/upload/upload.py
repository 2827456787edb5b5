"""An upload: blocks are cut into chunks and sent in batches, and the record is inserted last.

Awaiting `flow()` applies back-pressure, so memory is bounded by the batches in flight and one more.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import sys
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio.lowlevel
from bson import ObjectId

from gridproxy.errors import BadOption, BadSource, BufferFull, FileClosed, TooLarge, type_name
from gridproxy.gridfs.content.limits import NO_LIMITS
from gridproxy.gridfs.records.chunks import BATCH_BYTES, Splitter, chunks_per_batch
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.transactions.transaction_log import transaction_log_of
from gridproxy.runtime.events import INFO, logger
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tracing import API, UNTRACED, UPLOAD, TransferSpan, active, traced

from .batch_sender import BatchSender
from .commit import check_id_is_free
from .content_check import ContentCheck, check_staged, inspect_content
from .digest import Digest
from .options import UploadRequest, check_record, upload_request
from .sources import Data, Source, as_bytes, open_source
from .staging import Staged, log_stored, publish_staged

# Bytes that may be written without awaiting before `write` refuses.
UNAWAITED_BYTES = 64 * 1024 * 1024
# How many bytes decide the content type if neither the caller nor the name does.
_TYPING_BYTES = 4096
_ANY_DATE = datetime(1970, 1, 1, tzinfo=UTC)  # of a record whose size is checked


class State(enum.Enum):
    """The state of an upload."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    STORED = "stored"
    STAGED = "staged"
    ABORTED = "aborted"


class Upload:
    """One file that is being uploaded. `feed` accepts bytes without I/O, and `flow` sends what is ready."""

    def __init__(
        self,
        store: Store,
        request: UploadRequest,
        session: Session | None = None,
        progress: Progress | None = None,
        total: int | None = None,
        staging: bool = False,
        known_id: bool = False,  # whether another client may know the id before the file is stored
    ) -> None:
        self.state: State = State.NEW
        self.store = store
        self.request: UploadRequest = request
        self.session: Session | None = store.session_for(session)
        self.id: object = ObjectId() if request.id is None else request.id
        self.chunk_size: int = request.chunk_size or store.chunk_size
        self.length: int = 0
        self.began: float = time.monotonic()
        self.span: TransferSpan | None = None  # of an upload that is written piece by piece
        self._progress = progress
        self._total = total  # the expected number of bytes, None if it is unknown
        self._reported = -1
        self.info: FileInfo | None = None
        # Most uploads have no limits.
        self._content_check = None if request.limits == NO_LIMITS else ContentCheck(request.limits)
        shared_id = request.id is not None
        self._sender = BatchSender(
            store,
            self.id,
            self.session,
            shared_id=shared_id,
            known_id=shared_id or known_id,
            majority=staging,
            upload_id=request.upload_id,
        )
        self._sha256 = hashlib.sha256() if store.checksum else None
        self._digest: Digest | None = None  # of a long upload
        self._tx_log = None if staging or self.session is None else transaction_log_of(self.session)
        self._typing_head = bytearray()
        self._splitter = Splitter(self.chunk_size)
        self._per_batch = chunks_per_batch(self.chunk_size)
        self._batch: list[bytes] = []
        self._ready: deque[list[bytes]] = deque()
        self._unawaited = 0

    def __repr__(self) -> str:
        return f"<Upload {self.id!r} to {self.store!r}: {self.state.value}, {self.length} bytes>"

    def __del__(self) -> None:
        if self.state in (State.OPEN, State.CLOSING):
            warnings.warn(
                f"{self!r} was dropped before close() or abort(): its chunks are left for collect_garbage()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def start(self) -> None:
        """Check the request against the store before anything is sent."""
        record = self.request.record(self.id, 0, self.chunk_size, None, _ANY_DATE)
        check_record(record, self.chunk_size, self.store.codec_options)
        if self.request.id is not None:
            await check_id_is_free(self.store, self.id, self.session)
        if self.store.state.indexed.get(self.store.key, 0.0) <= time.monotonic() or not self.store.knows_clock:
            await ensure_indexes(self.store)
        self.state = State.OPEN
        if self._tx_log is not None:
            self._tx_log.add_upload(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Accept `data`, which must not change any more, without sending it."""
        self.check_open()
        if self._content_check is not None:
            try:
                self._content_check.feed(data, self.length)
            except TooLarge as error:
                raise self._sender.fail(error) from None
        if self.length < _TYPING_BYTES and self.request.typed_by_content:
            self._typing_head += data[: _TYPING_BYTES - self.length]
        self.length += len(data)
        if self._digest is not None:
            self._digest.update(data)
        elif self._sha256 is not None:
            if self.length <= BATCH_BYTES:  # as most files are
                self._sha256.update(data)
            else:
                self._digest = Digest(self._sha256)
                self._digest.update(data)
        for chunk in self._splitter.feed(data):
            self._batch.append(chunk)
            if len(self._batch) == self._per_batch:
                self._ready.append(self._batch)
                self._batch = []

    def check_open(self) -> None:
        """Raise the first failure of a batch, or `FileClosed` if this upload is not open."""
        self._sender.check()
        if self.state is not State.OPEN:
            raise FileClosed(f"this file is not open for writing any more: it is {self.state.value}")

    def write(self, data: Data) -> Written:
        """Copy `data` at once. Awaiting the result applies back-pressure."""
        return self._accept([as_bytes(data, self.request.encoding)])

    def writelines(self, lines: Iterable[Data]) -> Written:
        """Copy every item or none, as `write` does, with nothing between them."""
        if isinstance(lines, str | bytes | bytearray | memoryview):
            raise BadSource(f"writelines needs an iterable of bytes, not {type_name(lines)}: use write() for one piece")
        return self._accept([as_bytes(line, self.request.encoding) for line in lines])

    def _accept(self, pieces: list[bytes]) -> Written:
        self.check_open()
        count = sum(map(len, pieces))
        full = self._unawaited >= UNAWAITED_BYTES
        # A longer write than the limit never fits, and its caller may be about to await it, so one is accepted.
        if self._unawaited + count > UNAWAITED_BYTES and (full or count <= UNAWAITED_BYTES):
            raise BufferFull(self._unawaited, count, UNAWAITED_BYTES)
        for piece in pieces:
            self.feed(piece)
        self._unawaited += count
        return Written.of(self, count)

    async def flow(self) -> None:
        """Send every full batch, at most four at once. A cancellation loses no byte that was accepted before."""
        self._sender.check()
        if self._content_check is not None and not await self._may_send(self._content_check):
            return  # less than the head was received
        while self._ready:
            await self._sender.wait_for_slot()
            if self._digest is not None:
                await self._digest.drain()
            if self._ready:
                self._sender.send(self._ready.popleft())
                # Cutting here and encoding in a task each block the loop, so let other tasks run after each.
                for _ in range(2):
                    await asyncio.sleep(0)
        self._unawaited = 0
        if self._progress is not None and self.state is State.OPEN:
            await self._report(self._sender.stored, self._total)

    async def _may_send(self, check: ContentCheck, *, whole: bool = False) -> bool:
        """Return whether batches may be sent: after the check of the head, or of the `whole` content."""
        if check.done:
            return True
        if not (whole or check.has_head):
            return False
        try:
            content_type = await check.run(self.request, self._describe)
        except Exception as error:
            self._sender.fail(error)
            raise
        self.request = replace(self.request, content_type=content_type, guesses=None)
        return True

    def _describe(self, content_type: str | None) -> FileInfo:
        request = replace(self.request, content_type=content_type)
        return FileInfo.from_record(request.record(self.id, self.length, self.chunk_size, None, self.store.now()))

    async def _report(self, done: int, total: int | None) -> None:
        if done != self._reported:
            self._reported = done
            await report(self._progress, done, total)

    async def finish(self) -> FileInfo:
        """Send the rest, then the record. The file exists when this returns.

        Raises `FileAlreadyStored`, `UploadInProgress`, `OutcomeUnknown`, the first failure of a batch, or `CorruptFile`
        if the garbage collector removed chunks during a long pause. After all but `OutcomeUnknown` nothing is left.
        """
        record = await self._end(self._publish)
        self.state = State.STORED
        self.info = FileInfo.from_record(record)
        if logger.isEnabledFor(INFO):
            log_stored(self.store, self.id, self.length, self.began, self.session)
        return self.info

    async def stage(self) -> Staged:
        """Send the rest without inserting a record."""
        record = await self._end(self._send_rest)
        self.state = State.STAGED
        return Staged(self.store, record, self._sender.undo_log.chunk_ids)

    async def _end(self, work: Callable[[], Awaitable[Record]]) -> Record:
        if self.state is not State.OPEN:
            self.check_open()  # always raises here
        self.state = State.CLOSING
        try:
            self._sender.check()
            if self._content_check is not None:
                await self._may_send(self._content_check, whole=True)
            if self._progress is not None:
                # Report before the record is inserted: a failing callback must not leave an unknown file behind.
                await self._report(self.length, self.length)
            self.request = self.request.typed(bytes(self._typing_head))
            record = await work()
            if self._tx_log is not None and not self._tx_log.open:
                self._sender.undo_log.abandon_record()
                raise FileClosed("the transaction of this upload ended before the file was stored. Upload it again")
            return record
        except BaseException as error:
            await self._rollback(error)
            raise

    async def _publish(self) -> Record:
        # The upload may have been shielded from anyio's cancellation so far. From here on it waits for its answer.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._is_small():
            self._batch_rest()
            documents = self._sender.prepare(self._ready.popleft())
            record = self._finished_record()
            await self._sender.undo_log.insert_small_file(documents, record)
            return record
        record = await self._send_rest()
        await self._sender.undo_log.insert_record(record)
        return record

    def _is_small(self) -> bool:
        # An empty file is only a record. A single insert can tell a repetition from another upload's record.
        small = not self._sender.begun and not self._ready and 0 < self.length <= BATCH_BYTES
        return small and self.session is None and self.request.limits.inspect is None

    async def _send_rest(self) -> Record:
        self._batch_rest()
        await self.flow()
        await self._sender.drain()
        if self._digest is not None:
            await self._digest.drain(0)
        if self.request.limits.inspect is not None:
            info = FileInfo.from_record(self._finished_record())
            await inspect_content(self.store, info, self.request.limits)
        return self._finished_record()

    def _batch_rest(self) -> None:
        if rest := self._splitter.flush():
            self._batch.append(rest)
        if self._batch:
            self._ready.append(self._batch)
            self._batch = []

    def _finished_record(self) -> Record:
        sha256 = None if self._sha256 is None else self._sha256.hexdigest()
        record = self.request.record(self.id, self.length, self.chunk_size, sha256, self.store.now())
        if self._sender.undo_log.upload_id is not None:
            record[UPLOAD_ID] = self._sender.undo_log.upload_id
        return record

    async def abort(self, cause: BaseException | None = None) -> None:
        """Remove what was sent. Has no effect after the end of the upload.

        A failure of the clean-up is noted on `cause`, or raised without a cause. Raises `FileClosed` during `close()`.
        """
        if self.state is State.CLOSING:
            raise FileClosed("this file is being closed. Cancel close() instead")
        if self.state in (State.NEW, State.OPEN):
            await self._rollback(cause)

    @property
    def is_open(self) -> bool:
        """Whether the upload has started and not ended."""
        return self.state in (State.OPEN, State.CLOSING)

    async def rollback(self, cause: BaseException | None) -> None:
        """Remove the chunks because the transaction was aborted. An upload that is closing notices it itself."""
        if self.state is State.OPEN:
            await self._rollback(cause)
        elif self.state is not State.CLOSING:
            self._sender.undo_log.abandon_record()
            await self._sender.rollback(cause, size=self.length, since=self.began)

    async def _rollback(self, cause: BaseException | None) -> None:
        self.state = State.ABORTED
        self._batch, self._splitter = [], Splitter(self.chunk_size)
        self._ready.clear()
        if self._digest is not None:
            self._digest.stop()
        await self._sender.rollback(cause, size=self.length, since=self.began)

    def log_failure(self, error: BaseException) -> None:
        """Log that this upload could not start."""
        self._sender.undo_log.log_end(error, complete=True, size=self.length, since=self.began)


class Written(int):
    """The number of bytes that `write` accepted. Awaiting it applies back-pressure.

    It is not a coroutine, since the bytes are accepted even if it is never awaited. It is an int, because `zipfile` and
    others in the standard library count with it.
    """

    _upload: Upload

    @classmethod
    def of(cls, upload: Upload, count: int) -> Written:
        """Return the result of a write to `upload`."""
        written = cls(count)
        written._upload = upload
        return written

    def __await__(self) -> Generator[Any, None, int]:
        with active(self._upload.span):
            yield from self._upload.flow().__await__()
        return int(self)


async def upload_source(
    store: Store,
    source: object,
    request: UploadRequest,
    *,
    session: Session | None = None,
    progress: Progress | None = None,
) -> FileInfo:
    """Store all of `source`. After an error nothing is left, except perhaps after `OutcomeUnknown`."""
    if not isinstance(source, Staged):
        with traced(UPLOAD, store) if API in sys.modules else UNTRACED as span:
            upload = await _receive(store, source, request, session, progress)
            info = await upload.finish()
            if span is not None:
                span.describe(size=upload.length, id=upload.id)
            return info
    if not source.store.same_as(store):
        raise BadOption(f"{source!r} cannot become a file of {store!r}")
    if request != upload_request(encoding=request.encoding, limits=request.limits):
        raise BadOption("staged content has its name, metadata and id already: give them to stage() instead")
    if not source.discarded:
        await check_staged(source, request.limits)
    return await publish_staged(source, session)


async def stage_source(
    store: Store, source: object, request: UploadRequest, *, progress: Progress | None = None
) -> Staged:
    """Store the chunks of all of `source` without a record."""
    with traced(UPLOAD, store) as span:
        upload = await _receive(store, source, request, None, progress, staging=True)
        staged = await upload.stage()
        if span is not None:
            span.describe(size=upload.length, id=upload.id)
        return staged


async def _receive(
    store: Store,
    source: object,
    request: UploadRequest,
    session: Session | None,
    progress: Progress | None,
    *,
    staging: bool = False,
) -> Upload:
    opened = open_source(source, encoding=request.encoding)
    try:
        if not staging:
            check_repeatable(opened, store.session_for(session))
        await opened.prepare()
        request = request.completed_by(opened.name, opened.content_type)
        if opened.metadata:
            request = request.keeping(opened.metadata)
        upload = Upload(store, request, session, progress, opened.size, staging)
        try:
            if opened.size is not None and request.limits.max_size is not None:
                request.limits.check_size(opened.size)  # a source that declares too many bytes is not read
            await upload.start()
            while block := await opened.read():
                upload.feed(block)
                await upload.flow()
        except BaseException as error:
            await upload.abort(error)
            raise
    except BaseException as error:
        await _close_after(opened, error)
        raise
    try:
        await opened.aclose()
    except BaseException as error:
        await upload.abort(error)
        raise
    return upload


@asynccontextmanager
async def open_prepared(source: object, encoding: str, session: Session | None) -> AsyncIterator[Source]:
    """Open and prepare a source for the block, and close it afterwards."""
    opened = open_source(source, encoding=encoding)
    try:
        check_repeatable(opened, session)
        await opened.prepare()
        yield opened
    except BaseException as error:
        await _close_after(opened, error)
        raise
    await opened.aclose()


async def _close_after(source: Source, cause: BaseException) -> None:
    """Close the source of a failed upload. An error of that is noted on `cause`."""
    try:
        await source.aclose()
    except Exception as error:  # noqa: BLE001  # the caller has to see the first error
        cause.add_note(f"Closing the source failed too: {error!r}")


def check_repeatable(source: Source, session: Session | None) -> None:
    """Raise `BadSource` for a source that can be read only once in a transaction that may be repeated."""
    tx_log = None if session is None else transaction_log_of(session)
    if tx_log is not None and tx_log.repeated and not source.repeatable:
        raise BadSource(
            f"{source.what} can be read only once, and with_transaction() may run its callback again: "
            "call stage(...) before the transaction and store its result. Nothing was read"
        )
