"""Read a file for one response in bounded memory: one window is sent while the next one is fetched.

A download fetches up to 16 MB ahead. A server has hundreds of responses at once, and a slow client keeps its response
for a long time, so each response holds two windows at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.download.download import Download, load_info, read_all, read_pieces
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Store
from gridproxy.http import Span
from gridproxy.runtime.tasks import end_tasks, spawn

# Two chunks of the default size.
WINDOW_BYTES = 2 * 255 * 1024


class ReadAhead:
    """A reader of spans of one stored file that fetches the next window in advance."""

    def __init__(self, file: AsyncGridFile, pinned: Store | None = None) -> None:
        self._file = file
        self._store = pinned
        self._pinned: tuple[Store, object] | None = None
        self._first: Download | None = None
        self._info: FileInfo | None = None
        self._plan: Iterator[Span] = iter(())
        self._ahead: tuple[Span, _Window] | None = None
        self._last: _Window | None = None

    async def load_info(self, *, fetch: bool) -> FileInfo:
        """Load the record, and with `fetch` the first window in the same round trip."""
        # The caller may replace the file in this object while the response is being sent.
        store, id = self._pinned = self._file.state.require_stored(self._store)
        on_info = self._file.state.on_info(store, id)
        if fetch:
            self._first = Download(store, id, 0, WINDOW_BYTES, first=WINDOW_BYTES, on_info=on_info)
            self._info = await self._first.load()
        else:
            self._info = await load_info(store, id)
            on_info(self._info)
        return self._info

    async def take_whole(self) -> list[bytes] | None:
        """Return the whole file in pieces if all of it has arrived with its record, else None."""
        first, info = self._first, self._info
        if first is None or info is None or info.length > WINDOW_BYTES or not first.is_fetched:
            return None
        self._first = None
        return await read_pieces(first)

    def select(self, start: int, stop: int) -> None:
        """Make `next` return these bytes. After `load_info(fetch=True)`, `start` must be 0."""
        assert self._info is not None
        border = start if self._first is None else min(stop, WINDOW_BYTES)
        self._plan = chain([(start, border)] if self._first else [], _cut(border, stop, self._info.chunk_size))

    async def next(self) -> list[bytes]:
        """Return the bytes of the next window in pieces, or an empty list at the end."""
        if self._ahead is None:
            self._fetch_ahead()
        if self._ahead is None:
            return []
        span, window = self._ahead
        pieces = await window.pieces(*span)
        self._last = window if window.span != span else None
        self._fetch_ahead()
        return pieces

    def _fetch_ahead(self) -> None:
        span, self._ahead = next(self._plan, None), None
        if span is not None:
            window = self._last if self._last is not None and self._last.covers(*span) else self._fetch(*span)
            self._ahead = span, window

    def _fetch(self, start: int, stop: int) -> _Window:
        assert self._info is not None
        assert self._pinned is not None
        first, self._first = self._first, None
        if first is not None:
            return _Window((start, stop), first)
        # The server returns whole chunks, so several small ranges in one chunk share one read.
        size = self._info.chunk_size
        start, stop = start // size * size, min(-(-stop // size) * size, self._info.length)
        store, id = self._pinned
        return _Window((start, stop), Download(store, id, start, stop, info=self._info, first=stop - start))

    async def aclose(self) -> None:
        """Cancel all downloads and wait for their end."""
        first, self._first = self._first, None
        if first is not None:
            await first.aclose()
        if self._ahead is not None:
            await end_tasks([self._ahead[1].fetching])


class _Window:
    """A part of the file that is being fetched or has been fetched."""

    def __init__(self, span: Span, download: Download) -> None:
        self.span = span
        self.fetching = spawn(read_all(download))

    def covers(self, start: int, stop: int) -> bool:
        return self.span[0] <= start and stop <= self.span[1]

    async def pieces(self, start: int, stop: int) -> list[bytes]:
        cut = (await self.fetching)[start - self.span[0] : stop - self.span[0]]
        return [cut] if cut else []


def _cut(start: int, stop: int, chunk_size: int) -> Iterator[Span]:
    """Split a span into windows that end at the end of a chunk, so that no chunk is fetched twice."""
    while start < stop:
        size = max(1, WINDOW_BYTES // chunk_size) * chunk_size
        edge = min(stop, (start // size + 1) * size)
        yield start, edge
        start = edge
