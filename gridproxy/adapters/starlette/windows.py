"""The bytes of one answer, in bounded memory: a window is sent while the next one is fetched.

A download by itself fetches up to 16 MB ahead, which is right for whoever wants one file quickly. An answer lives as
long as its client likes, and there are hundreds of them: each holds two windows at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from ...download import Download, collect
from ...file import AsyncGridFile
from ...info import FileInfo
from ...tasks import end_tasks, spawn

__all__ = ["WINDOW_BYTES", "Windows"]

# Two chunks of the usual size.
WINDOW_BYTES = 2 * 255 * 1024


class Windows:
    """Spans of one stored file, read in windows. `aclose()` ends what is on its way."""

    def __init__(self, file: AsyncGridFile) -> None:
        self._file = file
        self._first: Download | None = None
        self._info: FileInfo | None = None
        self._plan: Iterator[tuple[int, int]] = iter(())
        self._ahead: asyncio.Task[list[bytes]] | None = None

    async def look(self) -> FileInfo:
        """The record alone: no chunk is touched. Raises `FileMissing`, `UploadInProgress`."""
        self._info = await self._file.stat()
        return self._info

    async def look_inside(self) -> FileInfo:
        """The record and the first window in one round trip. Raises as `look`."""
        store, id = self._file._readable()
        self._first = Download(store, id, 0, WINDOW_BYTES, first=WINDOW_BYTES, on_info=self._file._loaded(id))
        self._info = await self._first.load()
        return self._info

    def read(self, start: int, stop: int) -> None:
        """`next` gives these bytes from now on; after `look_inside` they begin with the file's first one."""
        assert self._info is not None
        if self._first is None:
            self._plan = _cut(start, stop, self._info.chunk_size)
        else:
            fetched = min(stop, WINDOW_BYTES)
            self._plan = chain([(0, fetched)], _cut(fetched, stop, self._info.chunk_size))

    async def next(self) -> list[bytes]:
        """The bytes of the next window in pieces; none at the end.

        Raises `CorruptFile` where chunks are missing or wrong, `FileVanished` where the file was deleted meanwhile.
        """
        if self._ahead is None:
            self._fetch_ahead()
        fetching = self._ahead
        if fetching is None:
            return []
        pieces = await fetching
        self._fetch_ahead()
        return pieces

    def _fetch_ahead(self) -> None:
        window, self._ahead = next(self._plan, None), None
        if window is not None:
            start, stop = window
            download, self._first = self._first, None
            if download is None:
                store, id = self._file._readable()
                download = Download(store, id, start, stop, info=self._info, first=stop - start)
            self._ahead = spawn(collect(download))

    async def aclose(self) -> None:
        """End what is on its way; it is gone when this returns."""
        first, self._first = self._first, None
        if first is not None:
            await first.aclose()
        if self._ahead is not None:
            await end_tasks([self._ahead])


def _cut(start: int, stop: int, chunk_size: int) -> Iterator[tuple[int, int]]:
    """Windows that end where a chunk does, so that none is fetched twice."""
    while start < stop:
        size = max(1, WINDOW_BYTES // chunk_size) * chunk_size
        edge = min(stop, (start // size + 1) * size)
        yield start, edge
        start = edge
