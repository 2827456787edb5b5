"""The way out: finite ranges of chunks, fetched ahead and handed over in order.

No cursor is held open: each range is a retryable read of its own, so a slow consumer meets no time-out. The first
range is small (the first byte comes soon), the next ones are 4 MB, and the more of them are read in sequence, the
more are on their way, four at most. The record is asked for together with the first range: one round trip.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from gridproxy.errors import BadOption, CorruptFile, FileClosed, FileMissing, FileVanished
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
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.tasks import both, end_tasks, gather, spawn

IN_FLIGHT = 4
# The first range: soon there, and most files fit into it whole.
FIRST_BYTES = 5 * 255 * 1024
# Behind the end of whatever can be stored; a query takes no larger numbers.
_LAST_CHUNK = 2**62
# What a whole file is gathered in at first; larger memory is moved, and not copied, when it grows.
_ROOM_BYTES = 64 * 1024 * 1024


async def load_info(store: Store, id: object, session: Session | None = None) -> FileInfo:
    """The record of a stored file; `FileMissing` where there is none, or where it has expired."""
    return _visible(await store.find_record(id, store.session_for(session)), id)


def _visible(record: Record | None, id: object) -> FileInfo:
    if record is None:
        raise FileMissing(id)
    info = FileInfo.from_record(record)
    if info.expired():
        raise FileMissing(id, message=f"the file {id!r} expired at {info.expires_at}")
    return info


def check_offset(value: object, name: str) -> int:
    """A place in a file, in bytes; raises `BadOption` for a negative one or no number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadOption(f"{name} is a number of bytes from the file's start, not {value!r}")
    return value


class Download:
    """Bytes `start` to `stop` (exclusive, None for the end) of one file, block by block.

    `chunk_size` is a guess for reading before the record is known, `info` a record that is known for sure, `first` the
    bytes that are wanted soonest, `ahead` how many ranges are fetched ahead from the beginning, and `on_info` is
    told the
    record as soon as it is known.
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
        on_info: Callable[[FileInfo], None] | None = None,
    ) -> None:
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
        self._on_info = on_info
        self._plan: Iterator[ChunkRange] | None = None
        self._fetching: deque[tuple[ChunkRange, asyncio.Future[list[Record]]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __del__(self) -> None:
        # Dropped half-read: what is on its way is ended, in the loop that it runs in.
        if self._fetching and self._loop is not None and not self._loop.is_closed():
            for _, task in self._fetching:
                self._loop.call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        """End what is on its way; returns when it is gone. Whoever waits in `next` at this moment gets `FileClosed`."""
        self._closed = True
        fetching = [fetch for _, fetch in self._fetching]
        self._fetching.clear()
        await end_tasks(fetching)

    def _check_open(self) -> None:
        if self._closed:
            raise FileClosed("what was being read was closed meanwhile")

    async def load(self) -> FileInfo:
        """The file's record; where it is not known yet, the first bytes are fetched with it."""
        return self.info or await self._begin()

    async def left(self) -> int:
        """How many bytes `next` is going to give from now on."""
        return max(0, self._end(await self.load()) - self.next_offset)

    async def next(self) -> Block | None:
        """The next block, in order, at least one byte long; None at the end.

        Raises `CorruptFile` where the chunks do not make up the file, `FileVanished` where it was deleted meanwhile. A
        cancellation loses nothing: the next call gives what this one would have given.
        """
        info = await self.load()
        if self._plan is None:
            self._plan = self._planned(info)
        while True:
            self._fetch_ahead(max(1, self._ahead))
            if not self._fetching:
                return None
            wanted, fetch = self._fetching[0]
            if not fetch.done():
                await asyncio.wait({fetch})
            self._check_open()
            pieces = await self._checked(info, wanted, fetch.result())
            self._check_open()
            self._fetching.popleft()
            self._fetch_ahead(self._ahead)
            self._ahead = min(IN_FLIGHT, self._ahead + 1)
            block = cut_block(info, wanted, pieces, self._start, self._end(info))
            if block.length:
                self.next_offset = block.end
                return block

    def reaches(self, offset: int) -> bool:
        """Whether the byte at `offset` is ahead, and on its way already."""
        if self.info is None or not self._fetching or offset < self.next_offset:
            return False
        return offset < self._fetching[-1][0].stop * self.info.chunk_size

    def _end(self, info: FileInfo) -> int:
        return info.length if self._stop is None else min(self._stop, info.length)

    def _planned(self, info: FileInfo, from_chunk: int | None = None) -> Iterator[ChunkRange]:
        if not info.chunk_size:
            return iter(())  # an empty file, and a writer who found no size worth noting
        full = chunks_per_range(info.chunk_size)
        if from_chunk is None:
            soonest = -(-(self._start + self._first) // info.chunk_size) - self._start // info.chunk_size
            first_chunks = max(1, min(soonest, full))
        else:
            first_chunks = full
        return plan_ranges(info, self._start, self._end(info), first_chunks=first_chunks, from_chunk=from_chunk)

    def _fetch_ahead(self, depth: int) -> None:
        assert self._plan is not None
        while len(self._fetching) < depth and (wanted := next(self._plan, None)) is not None:
            self._loop = asyncio.get_running_loop()
            self._fetching.append((wanted, spawn(self.store.find_chunks(self.id, wanted))))

    async def _begin(self) -> FileInfo:
        first = min(self._start // self._guess, _LAST_CHUNK)
        soonest = self._start + max(1, self._first)
        if self._stop is not None:
            soonest = max(self._start + 1, min(soonest, self._stop))
        count = max(1, min(-(-soonest // self._guess) - self._start // self._guess, RANGE_BYTES // self._guess))
        # One more than is wanted shows what stands behind the end; a range that is asked for whole touches no other.
        beyond = 0 if self._stop is not None and soonest >= self._stop else 1
        record, documents = await both(
            self.store.find_record(self.id, self._session),
            self.store.find_first_chunks(self.id, first, first + count + beyond),
        )
        info = _visible(record, self.id)
        wanted = self._brought(info, first, documents, count)
        self._plan = self._planned(info, None if wanted is None else wanted.stop)
        if wanted is not None:
            if not len(wanted):
                self._plan = iter(())
            there: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            there.set_result(documents)
            self._fetching.append((wanted, there))
        self.info = info
        if self._on_info is not None:
            self._on_info(info)
        return info

    def _brought(self, info: FileInfo, first: int, documents: Sequence[Record], asked: int) -> ChunkRange | None:
        """The range that a blind read brought; None where it has to be read anew, now that the record is known."""
        if self._start and info.chunk_size != self._guess:
            return None
        needed = -(-self._end(info) // info.chunk_size) - first if self._end(info) > self._start else 0
        if info.length and not needed:
            return None
        # An answer that was cut off at its bytes may not have shown what stands behind.
        whole = len(documents) <= asked and sum(map(payload_size, documents)) < RANGE_BYTES
        count = min(needed, asked, len(documents) if whole else len(documents) - 1)
        if count < min(needed, asked) and whole:
            return None  # chunks are missing: the ordinary read will tell
        if count <= 0 and info.length:
            return None
        return ChunkRange(first, first + count, first + count == info.chunk_count)

    async def _checked(self, info: FileInfo, wanted: ChunkRange, documents: Sequence[Record]) -> list[bytes]:
        try:
            return check_range(info, wanted, documents)
        except CorruptFile:
            # A reader may race the upload, or look at a secondary that lags: ask once more where it is known best.
            # The record after the chunks: a delete takes it first, so chunks that are gone while it is there are lost.
            documents = await self.store.find_chunks(self.id, wanted, primary=True)
            record = await self.store.find_record(self.id, self._session, primary=True)
        if record is None:
            raise FileVanished(self.id)
        fresh = FileInfo.from_record(record)
        if (fresh.length, fresh.chunk_size, fresh.upload_date) != (info.length, info.chunk_size, info.upload_date):
            raise FileVanished(self.id)
        return check_range(info, wanted, documents)


async def read_all(download: Download, head: Sequence[bytes] = ()) -> bytes:
    """Every byte that a download gives, behind those of `head`; it is closed then."""
    try:
        left = await download.left()
        # Joined at the end, a file would stand in memory twice, and fresh memory costs more than the copy into it.
        # A record may lie about its length: beyond this room the buffer grows as bytes come.
        gathered = io.BytesIO(bytes(min(sum(map(len, head)) + left, _ROOM_BYTES)))
        gathered.writelines(head)
        while (block := await download.next()) is not None:
            gathered.writelines(block.pieces)
        return gathered.getvalue()
    finally:
        await download.aclose()


async def read_range(
    store: Store,
    id: object,
    start: int,
    stop: int | None,
    session: Session | None = None,
    chunk_size: int | None = None,
    on_info: Callable[[FileInfo], None] | None = None,
) -> bytes:
    """Bytes `start` to `stop` (exclusive; None for the end), clipped to the file."""
    check_offset(start, "start")
    first = FIRST_BYTES
    if stop is not None:
        first = max(1, check_offset(stop, "stop") - start)
    download = Download(
        store,
        id,
        start,
        stop,
        session=session,
        chunk_size=chunk_size,
        first=first,
        ahead=IN_FLIGHT,
        on_info=on_info,
    )
    return await read_all(download)


async def read_ranges(
    store: Store, id: object, ranges: Sequence[tuple[int, int]], session: Session | None = None
) -> list[bytes]:
    """The bytes of each range (start, stop), in the order given; a chunk that several of them touch is read once."""
    for start, stop in ranges:
        check_offset(start, "start")
        check_offset(stop, "stop")
    info = await load_info(store, id, session)
    spans = merge_ranges(info, ranges)

    async def content(start: int, stop: int) -> bytes:
        return await read_all(Download(store, id, start, stop, info=info, session=session, first=stop - start))

    contents = await gather([content(start, stop) for start, stop in spans], at_most=IN_FLIGHT)
    return [cut_range(spans, contents, start, min(stop, info.length)) for start, stop in ranges]
