"""The way in: blocks -> chunks -> batches -> the server, and the record last.

A file is there whole or not at all. Whoever awaits `flow()` is held back by what is on its way (see `shipping`), so
memory is bounded by (in flight + 1) batches.
"""

from __future__ import annotations

import asyncio
import enum
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

import anyio.lowlevel
from bson import ObjectId

from gridproxy.errors import BadOption, BadSource, BufferFull, FileClosed, TooLarge, type_name
from gridproxy.gridfs.content.limits import NO_LIMITS
from gridproxy.gridfs.records.chunks import BATCH_BYTES, Splitter, chunks_per_batch
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.transactions.transaction_log import transaction_log_of
from gridproxy.runtime.progress import Progress, report

from .batch_sender import BatchSender
from .commit import check_id_is_free, same_encoding
from .content_check import ContentCheck, check_staged
from .options import UploadRequest, check_record, upload_request
from .sources import Data, Source, as_bytes, open_source
from .staging import Staged, publish_staged

# Bytes that may be written without awaiting before `write` refuses.
UNAWAITED_BYTES = 64 * 1024 * 1024


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
        staging: bool = False,
    ) -> None:
        self.state: State = State.NEW
        self.store = store
        self.request: UploadRequest = request
        self.session: Session | None = store.session_for(session)
        self.id: object = ObjectId() if request.id is None else request.id
        self.chunk_size: int = request.chunk_size or store.chunk_size
        self.length: int = 0
        self._progress = progress
        self._total = total  # bytes that are going to come, None while unknown
        self._reported = -1
        self.info: FileInfo | None = None
        # Most uploads have no limits.
        self._content_check = None if request.limits == NO_LIMITS else ContentCheck(request.limits)
        shared_id = request.id is not None
        self._sender = BatchSender(store, self.id, self.session, shared_id=shared_id, majority=staging)
        self._tx_log = None if staging or self.session is None else transaction_log_of(self.session)
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
        if self.store.key not in self.store.state.indexed:
            await ensure_indexes(self.store)
        self.state = State.OPEN
        if self._tx_log is not None:
            self._tx_log.add_upload(self)

    # Taking bytes

    def feed(self, data: bytes | memoryview) -> None:
        """Take `data` (it must not change any more); sends nothing by itself."""
        self.check_open()
        if self._content_check is not None:
            try:
                self._content_check.feed(data, self.length)
            except TooLarge as error:
                raise self._sender.fail(error) from None
        self.length += len(data)
        for chunk in self._splitter.feed(data):
            self._batch.append(chunk)
            if len(self._batch) == self._per_batch:
                self._ready.append(self._batch)
                self._batch = []

    def check_open(self) -> None:
        """Raise what forbids a write: the first failure of a batch, or that this upload is not open."""
        self._sender.check()
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
        self._sender.check()
        if self._content_check is not None and not await self._passes(self._content_check):
            return  # what is held until then is less than the head
        while self._ready:
            await self._sender.wait_for_slot()
            if self._ready:
                self._sender.send(self._ready.popleft())
                # It was hashed here and is encoded in a task, each at a stretch: a turn of the loop for either, so that
                # others have theirs in between.
                for _ in range(2):
                    await asyncio.sleep(0)
        self._unawaited = 0
        if self._progress is not None and self.state is State.OPEN:
            await self._report(self._sender.stored, self._total)

    async def _passes(self, check: ContentCheck, *, whole: bool = False) -> bool:
        """Return whether batches may be sent: only after the first bytes, or the `whole`, were checked."""
        if check.done:
            return True
        if not (whole or check.has_head):
            return False
        try:
            content_type = await check.run(self.request.content_type, self._described)
        except Exception as error:
            self._sender.fail(error)
            raise
        self.request = replace(self.request, content_type=content_type)
        return True

    def _described(self, content_type: str | None) -> FileInfo:
        request = replace(self.request, content_type=content_type)
        return FileInfo.from_record(request.record(self.id, self.length, self.chunk_size, None))

    async def _report(self, done: int, total: int | None) -> None:
        if done != self._reported:
            self._reported = done
            await report(self._progress, done, total)

    # Ending

    async def finish(self) -> FileInfo:
        """Send the rest, then the record: the file is there when this returns.

        Raises `FileAlreadyStored`, `UploadInProgress`, `OutcomeUnknown`, the first failure of a batch, or `CorruptFile`
        where it paused for so long that the collector took chunks of it. Nothing stays behind then, nor after a
        cancellation (but see `OutcomeUnknown`).
        """
        record = await self._end(self._publish)
        self.state = State.STORED
        self.info = FileInfo.from_record(record)
        return self.info

    async def stage(self) -> Staged:
        """Send the rest, and no record."""
        record = await self._end(self._send_rest)
        self.state = State.STAGED
        return Staged(self.store, record, self._sender.undo_log.chunk_ids)

    async def _end(self, work: Callable[[], Awaitable[Record]]) -> Record:
        if self.state is not State.OPEN:
            self.check_open()
        self.state = State.CLOSING
        try:
            self._sender.check()
            if self._content_check is not None:
                await self._passes(self._content_check, whole=True)
            if self._progress is not None:
                # Before the record: a callback that fails must not leave a file that the caller does not know.
                await self._report(self.length, self.length)
            record = await work()
            if self._tx_log is not None and not self._tx_log.open:
                self._sender.undo_log.abandon_record()
                raise FileClosed("the transaction that this file was to be stored in ended meanwhile")
            return record
        except BaseException as error:
            await self._rollback(error)
            raise

    async def _publish(self) -> Record:
        # What came so far may have been shielded from anyio's cancellation; from here on everything is.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._fits_one_request():
            self._batch_rest()
            documents = self._sender.prepare(self._ready.popleft())
            record = self._finished_record()
            await self._sender.undo_log.insert_small_file(documents, record)
            return record
        record = await self._send_rest()
        await self._sender.undo_log.insert_record(record)
        return record

    def _fits_one_request(self) -> bool:
        # An empty file is its record alone: the single insert of it tells a repetition from another upload's record.
        if self._sender.begun or self._ready or not 0 < self.length <= BATCH_BYTES:
            return False
        if self.session is not None or not self.store.state.bulk_write:
            return False
        if self.store.encodes_as_client:
            return True
        return same_encoding(self.store, self.request.record(self.id, 0, self.chunk_size, None))

    async def _send_rest(self) -> Record:
        self._batch_rest()
        await self.flow()
        await self._sender.drain()
        return self._finished_record()

    def _batch_rest(self) -> None:
        rest = self._splitter.flush()
        if rest:
            self._batch.append(rest)
        if self._batch:
            self._ready.append(self._batch)
            self._batch = []

    def _finished_record(self) -> Record:
        return self.request.record(self.id, self.length, self.chunk_size, self._sender.sha256)

    async def abort(self, cause: BaseException | None = None) -> None:
        """Take back whatever was sent; after the end, however it came, no effect. A clean-up that fails is noted on
        `cause`, or raised where there is none. Raises `FileClosed` while somebody else is closing this file.
        """
        if self.state is State.CLOSING:
            raise FileClosed("this file is being closed at this moment; cancel that instead")
        if self.state in (State.NEW, State.OPEN):
            await self._rollback(cause)

    @property
    def is_open(self) -> bool:
        """Whether it is still being written."""
        return self.state in (State.OPEN, State.CLOSING)

    async def rollback(self, cause: BaseException | None) -> None:
        """Its transaction was given up: take away the chunks. One that is being closed sees that by itself."""
        if self.state is State.OPEN:
            await self._rollback(cause)
        elif self.state is not State.CLOSING:
            self._sender.undo_log.abandon_record()
            await self._sender.rollback(cause)

    async def _rollback(self, cause: BaseException | None) -> None:
        self.state = State.ABORTED
        self._batch, self._splitter = [], Splitter(self.chunk_size)
        self._ready.clear()
        await self._sender.rollback(cause)


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
    if request != upload_request(encoding=request.encoding, limits=request.limits):
        raise BadOption("what is staged has its name, metadata and id already; give them to stage()")
    if not staged.discarded:
        await check_staged(staged, request.limits)
    return await publish_staged(staged, session)


async def stage_source(
    store: Store, source: object, request: UploadRequest, *, progress: Progress | None = None
) -> Staged:
    """The chunks of all of `source`, and no record."""
    return await (await _taken(store, source, request, None, progress, staging=True)).stage()


async def _taken(
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
        named = request.completed_by(opened.name, opened.content_type)
        upload = Upload(store, named, session, progress, opened.size, staging)
        try:
            if opened.size is not None and request.limits.max_size is not None:
                request.limits.check_size(opened.size)  # a source that is too long is not read
            await upload.start()
            while block := await opened.read():
                upload.feed(block)
                await upload.flow()
        except BaseException as error:
            await upload.abort(error)
            raise
    except BaseException as error:
        await close_after(opened, error)
        raise
    try:
        await opened.aclose()
    except BaseException as error:
        await upload.abort(error)
        raise
    return upload


async def close_after(source: Source, cause: BaseException) -> None:
    """Close the source of an upload that failed because of `cause`; what fails now is noted on it."""
    try:
        await source.aclose()
    except Exception as error:  # noqa: BLE001  # whatever it is, the caller has to see what came first
        cause.add_note(f"Closing the source failed too: {error!r}")


def check_repeatable(source: Source, session: Session | None) -> None:
    """Raise `BadSource` for what can be read only once, in a transaction that may have to be run again."""
    tx_log = None if session is None else transaction_log_of(session)
    if tx_log is not None and tx_log.repeated and not source.repeatable:
        raise BadSource(
            f"{source.what} can be read only once, and with_transaction() may run its callback again: "
            "stage(...) it before, and put what that gave; nothing was read"
        )
