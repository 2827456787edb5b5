"""What an open file keeps of its content, in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from fsspec.caching import BaseCache, register_cache

# Reads of this size need no help. Smaller ones in sequence are fetched together, up to `_MOST_AHEAD` bytes at once.
_LARGE = 1024 * 1024
_MOST_AHEAD = 4 * 1024 * 1024


class ChunkCache(BaseCache):
    """The cache of an open file, for `cache_type="gridfs"`.

    It fetches the chunks that a read needs, and no others unless the file is read in sequence in small pieces. So a
    program that reads parts of a file, as readers of Parquet do, fetches little more than it asks for.
    """

    name: ClassVar[str] = "gridfs"

    def __init__(self, blocksize: int, fetcher: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self._start: int = 0
        self._data: bytes = b""
        self._in_sequence: int = 0  # bytes that were read one after the other

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start = start or 0
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        end = self._start + len(self._data)
        follows = bool(self._data) and self._start <= start <= end
        self._in_sequence = self._in_sequence + stop - start if follows else 0
        if not follows or stop > end:
            self.miss_count += 1
            ahead = 0 if stop - start >= _LARGE else min(self._in_sequence, _MOST_AHEAD)
            begin = end if follows else start - start % self.blocksize
            until = min(self.size, -(-(stop + ahead) // self.blocksize) * self.blocksize)
            self.total_requested_bytes += until - begin
            head = self._data[start - self._start :] if follows else b""
            self._data = head + self.fetcher(begin, until)
            self._start = start if follows else begin
        else:
            self.hit_count += 1
        found = self._data[start - self._start : stop - self._start]
        if len(found) >= _LARGE:
            # Keep only the last chunk, which the next read may need.
            kept = stop - stop % self.blocksize
            if kept > self._start:
                self._data = self._data[kept - self._start :]
                self._start = kept
        return found


register_cache(ChunkCache, clobber=True)
