"""Downloads a stored file (GridFS spec) as ranges of chunks, which are fetched ahead and returned in order.

Each range is a separate, retryable read, so that no cursor times out while a slow consumer waits. The first range is
small and is fetched together with the record, the later ones have 4 MB. A sequential reader gets more and more ranges
fetched ahead, up to four.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

from gridproxy.errors import BadOption, CorruptFile, FileClosed, FileMissing, FileVanished, shown
from gridproxy.gridfs.records.chunks import (
    RANGE_BYTES,
    Block,
    ChunkRange,
    check_range,
    chunks_per_range,
    cut_block,
    cut_range,
    merge_ranges,
    payload_size,
    plan_ranges,
)
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.session_lock import running_loop
from gridproxy.runtime.tasks import end_tasks, gather, spawn
from gridproxy.runtime.tracing import API, DOWNLOAD, UNTRACED, TransferSpan, start_span

from .head import SharedReads, read_head

IN_FLIGHT = 4
# The first range is small enough to arrive soon, and most files fit into it completely.
FIRST_BYTES = 5 * 255 * 1024
# Beyond the end of any file, and small enough for a query.
_LAST_CHUNK = 2**62
# The initial buffer for a whole file. The system grows larger buffers without copying them.
_BUFFER_BYTES = 64 * 1024 * 1024


async def load_info(store: Store, id: object, session: Session | None = None) -> FileInfo:
    """Return the info of a stored file. Raises `FileMissing` if there is no such file or it has expired."""
    return await _visible(store, await store.find_record(id, store.session_for(session)), id)


async def _visible(store: Store, record: Record | None, id: object) -> FileInfo:
    if record is None:
        raise FileMissing(id, bucket=store.description)
    info = FileInfo.from_record(record)
    if info.expires_at is not None and info.expired(await server_now(store)):
        raise FileMissing(id, message=f"the file {id!r} in {store.description} expired at {info.expires_at}")
    return info


def check_offset(value: object, name: str) -> int:
    """Return a position in a file (bytes), or raise `BadOption` if it is negative or not a whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadOption(f"{name} is a whole number of bytes from the file's start, not {shown(value)}")
    return value


class Download:
    """An iterator over bytes `start` to `stop` (exclusive, None for the end) of one file, block by block.

    `chunk_size` is a guess until the record is known, `info` the known record. `first` is the size in bytes of the
    first read. `ahead` is the number of ranges to fetch ahead at first, which grows to `most_ahead`. `on_info` is
    called with the loaded record.
    """

    def __init__(
        self,
        store: Store,
        id: object,
        start: int = 0,
        stop: int | None = None,
        *,
        info: FileInfo | None = None,
        chunk_size: int | None = None,
        session: Session | None = None,
        first: int = FIRST_BYTES,
        ahead: int = 1,
        most_ahead: int = IN_FLIGHT,
        on_info: Callable[[FileInfo], None] | None = None,
    ) -> None:
        self._fetching: deque[tuple[ChunkRange, asyncio.Future[list[Record]]]] = deque()  # first, for `__del__`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._span: TransferSpan | None = None
        self.store = store
        self.id = id
        self.info = info
        self.next_offset: int = start
        self._start = start
        self._stop = stop
        self._guess = chunk_size or store.chunk_size
        self._session = store.session_for(session)
        self._first = first
        self._ahead = ahead
        self._most_ahead = most_ahead
        self._on_info = on_info
        self._upload_id: object = None
        self._plan: Iterator[ChunkRange] | None = None
        self._closed = False

    def __del__(self) -> None:
        # Dropped before its end: cancel the running reads in their own loop.
        if self._loop is not None and not self._loop.is_closed():
            for _, task in self._fetching:
                self._loop.call_soon_threadsafe(task.cancel)
            if self._span is not None:
                self._loop.call_soon_threadsafe(partial(self._span.end, size=self.next_offset - self._start))

    async def aclose(self) -> None:
        """Cancel the running reads and wait for them. A task that waits in `next` gets `FileClosed`."""
        self._closed = True
        fetching = [fetch for _, fetch in self._fetching]
        self._fetching.clear()
        self._end_span()
        await end_tasks(fetching)

    def _traced(self) -> AbstractContextManager[object]:
        """Start the span at the first read, and make it the parent of the reads that begin in the block."""
        if self._span is None and API in sys.modules:
            self._loop = running_loop()
            self._span = start_span(DOWNLOAD, self.store, self.id)
        return UNTRACED if self._span is None else self._span.active(final=True)

    def _end_span(self) -> None:
        if self._span is not None:
            self._span.end(size=self.next_offset - self._start)

    def _check_open(self) -> None:
        if self._closed:
            raise FileClosed("the download was closed while it was being read")

    async def load(self) -> FileInfo:
        """Return the file's info, which is fetched together with the first bytes if it is not known yet."""
        if self.info is not None:
            return self.info
        with self._traced():
            return await self._begin()

    async def left(self) -> int:
        """Return how many bytes are left to read."""
        return max(0, self._end(await self.load()) - self.next_offset)

    async def next(self) -> Block | None:
        """Return the next block, which has at least one byte, or None at the end.

        Raises `CorruptFile` if the chunks do not match the record, and `FileVanished` if the file was deleted. A
        cancelled call loses no bytes: the next call returns the block.
        """
        info = await self.load()
        self._check_open()
        if self._plan is None:
            self._plan = self._plan_from(info)
        with self._traced():
            while True:
                self._fetch_ahead(max(1, self._ahead))
                if not self._fetching:
                    self._end_span()
                    return None
                wanted, fetch = self._fetching[0]
                if not fetch.done():
                    await asyncio.wait({fetch})
                self._check_open()
                pieces = await self._checked(info, wanted, fetch.result())
                self._check_open()
                self._fetching.popleft()
                self._fetch_ahead(self._ahead)
                self._ahead = min(self._most_ahead, self._ahead + 1)
                block = cut_block(info, wanted, pieces, self._start, self._end(info))
                if block.length:
                    self.next_offset = block.end
                    return block

    def reaches(self, offset: int) -> bool:
        """Return whether the byte at `offset` is ahead and already being fetched."""
        if self.info is None or not self._fetching or offset < self.next_offset:
            return False
        return offset < self._fetching[-1][0].stop * self.info.chunk_size

    @property
    def is_fetched(self) -> bool:
        """Whether all bytes have arrived, so that `next` waits for nothing unless chunks are missing."""
        if self.info is None or not self._fetching or not all(fetch.done() for _, fetch in self._fetching):
            return False
        return self._fetching[-1][0].stop * self.info.chunk_size >= self._end(self.info)

    def _end(self, info: FileInfo) -> int:
        return info.length if self._stop is None else min(self._stop, info.length)

    def _plan_from(self, info: FileInfo, from_chunk: int | None = None) -> Iterator[ChunkRange]:
        if not info.chunk_size:
            return iter(())  # an empty file whose writer stored no chunk size
        first_chunks = chunks_per_range(info.chunk_size)
        if from_chunk is None:
            wanted = -(-(self._start + self._first) // info.chunk_size) - self._start // info.chunk_size
            first_chunks = max(1, min(wanted, first_chunks))
        return plan_ranges(info, self._start, self._end(info), first_chunks=first_chunks, from_chunk=from_chunk)

    def _fetch_ahead(self, depth: int) -> None:
        assert self._plan is not None
        while len(self._fetching) < depth and (wanted := next(self._plan, None)) is not None:
            self._loop = asyncio.get_running_loop()
            self._fetching.append((wanted, spawn(self.store.find_chunks(self.id, wanted))))

    async def _begin(self) -> FileInfo:
        first = min(self._start // self._guess, _LAST_CHUNK)
        end = self._start + max(1, self._first)
        if self._stop is not None:
            end = max(self._start + 1, min(end, self._stop))
        count = max(1, min(-(-end // self._guess) - self._start // self._guess, RANGE_BYTES // self._guess))
        # One more chunk than needed detects a surplus one. A read that ends at `stop` needs no other chunk.
        beyond = 0 if self._stop is not None and end >= self._stop else 1
        record, documents, count = await read_head(
            self.store, self.id, first, count, beyond, self._guess, self._session
        )
        info = await _visible(self.store, record, self.id)
        SharedReads.of(self.store).note(info.length)
        self._upload_id = None if record is None else record.get(UPLOAD_ID)
        documents = self._own(documents)
        fetched = self._usable_range(info, first, documents, count)
        self._plan = self._plan_from(info, None if fetched is None else fetched.stop)
        if fetched is not None:
            if not len(fetched):
                self._plan = iter(())
            result: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            result.set_result(documents)
            self._fetching.append((fetched, result))
        self.info = info
        if self._on_info is not None:
            self._on_info(info)
        return info

    def _usable_range(self, info: FileInfo, first: int, documents: Sequence[Record], wanted: int) -> ChunkRange | None:
        """Return the range that the first read fetched, or None if it has to be read again with the known record."""
        if self._start and info.chunk_size != self._guess:
            return None
        needed = -(-self._end(info) // info.chunk_size) - first if self._end(info) > self._start else 0
        if info.length and not needed:
            return None
        # A read that stopped at its limit of bytes may have missed a surplus chunk.
        complete = len(documents) <= wanted and sum(map(payload_size, documents)) < RANGE_BYTES
        count = min(needed, wanted, len(documents) if complete else len(documents) - 1)
        if count < min(needed, wanted) and complete:
            return None  # chunks are missing: the next read raises the error
        if count <= 0 and info.length:
            return None
        return ChunkRange(first, first + count, first + count == info.chunk_count)

    def _own(self, documents: list[Record]) -> list[Record]:
        """Leave out chunks of another file that was stored under the id since the download began."""
        if self._upload_id is None:
            return documents
        return [each for each in documents if each.get(UPLOAD_ID) == self._upload_id]

    async def _checked(self, info: FileInfo, wanted: ChunkRange, documents: list[Record]) -> list[bytes]:
        try:
            return check_range(info, wanted, self._own(documents))
        except CorruptFile:
            # The upload may be running, or the secondary may lag: read once more, from the primary. The record is read
            # after the chunks, because a delete removes it first: if it still exists, missing chunks are really lost.
            began = time.monotonic()
            documents = self._own(await self.store.find_chunks(self.id, wanted, primary=True))
            record = await self.store.find_record(self.id, self._session, primary=True)
            size = sum(map(payload_size, documents))
            log_event(Event.RETRIED, self.store, self.id, size=size, since=began, found=record is not None)
        if record is None:
            raise FileVanished(self.id)
        fresh = FileInfo.from_record(record)
        if (fresh.length, fresh.chunk_size, fresh.upload_date) != (info.length, info.chunk_size, info.upload_date):
            raise FileVanished(self.id)
        return check_range(info, wanted, documents)


async def read_all(download: Download, head: Sequence[bytes] = ()) -> bytes:
    """Return `head` and all bytes of a download, then close it."""
    try:
        left = await download.left()
        if not head and download.is_fetched:
            pieces = await _pieces(download)
            # Most files have one chunk, which is not copied.
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        # Joining a list would need the memory twice. The initial buffer is bounded, because a damaged record may have
        # a wrong length.
        gathered = io.BytesIO(bytes(min(sum(map(len, head)) + left, _BUFFER_BYTES)))
        gathered.writelines(head)
        while (block := await download.next()) is not None:
            gathered.writelines(block.pieces)
        return gathered.getvalue()
    finally:
        await download.aclose()


async def read_pieces(download: Download) -> list[bytes]:
    """Return all bytes of a download in pieces, as they have arrived, then close it."""
    try:
        return await _pieces(download)
    finally:
        await download.aclose()


async def _pieces(download: Download) -> list[bytes]:
    pieces: list[bytes] = []
    while (block := await download.next()) is not None:
        pieces += block.pieces
    return pieces


async def read_range(
    store: Store,
    id: object,
    start: int,
    stop: int | None,
    session: Session | None = None,
    chunk_size: int | None = None,
    on_info: Callable[[FileInfo], None] | None = None,
    *,
    info: FileInfo | None = None,
) -> bytes:
    """Return bytes `start` to `stop` (exclusive, None for the end), as far as the file has them.

    `info` is the record, if the caller has it.
    """
    check_offset(start, "start")
    first = FIRST_BYTES if stop is None else max(1, check_offset(stop, "stop") - start)
    download = Download(
        store,
        id,
        start,
        stop,
        info=info,
        session=session,
        chunk_size=chunk_size,
        first=first,
        ahead=IN_FLIGHT,
        on_info=on_info,
    )
    return await read_all(download)


async def read_ranges(
    store: Store,
    id: object,
    ranges: Sequence[tuple[int, int]],
    session: Session | None = None,
    *,
    info: FileInfo | None = None,
) -> list[bytes]:
    """Return the bytes of each range (start, stop) in the given order. Each chunk is read only once.

    `info` is the record, if the caller has it.
    """
    for start, stop in ranges:
        check_offset(start, "start")
        check_offset(stop, "stop")
    known = info or await load_info(store, id, session)
    spans = merge_ranges(known, ranges)

    async def content(start: int, stop: int) -> bytes:
        return await read_all(Download(store, id, start, stop, info=known, session=session, first=stop - start))

    contents = await gather([content(start, stop) for start, stop in spans], at_most=IN_FLIGHT)
    return [cut_range(spans, contents, start, min(stop, known.length)) for start, stop in ranges]
