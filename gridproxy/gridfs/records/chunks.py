"""Splits bytes into chunks, plans the reads of a byte range and joins chunks into bytes again (GridFS spec). No I/O.

A file is cut into chunks of `chunk_size` bytes, of which the last may be shorter. A batch is the chunks of one insert,
a range the chunks of one find.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from bson import ObjectId

from gridproxy.errors import BadOption, CorruptFile, type_name

from .file_info import FileInfo

# Bytes of one insert and of one ranged find: large enough for few round trips, small enough not to block the loop.
# pymongo encodes and sends an insert without a break (3 ms per megabyte). It receives the answer to a find in pieces.
BATCH_BYTES = 2 * 1024 * 1024
RANGE_BYTES = 4 * 1024 * 1024
_BATCH_CHUNKS = 1024
MAX_DOCUMENT = 16 * 1024 * 1024
# The size of a chunk document without its data, rounded up.
CHUNK_KEYS = 256


def chunks_per_batch(chunk_size: int, size: int = BATCH_BYTES) -> int:
    """Return how many chunks one insert has: about `BATCH_BYTES`, but at least one and at most 1024."""
    return max(1, min(_BATCH_CHUNKS, size // chunk_size))


def chunks_per_range(chunk_size: int) -> int:
    """Return how many chunks one find asks for: the same with `RANGE_BYTES`."""
    return chunks_per_batch(chunk_size, RANGE_BYTES)


def check_chunk_size(chunk_size: object) -> None:
    """Raise `BadOption` unless a chunk of this size fits into one document of 16 MiB."""
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool):
        raise BadOption(f"chunk_size is a whole number of bytes, not {type_name(chunk_size)} {chunk_size!r}")
    if not 1 <= chunk_size <= MAX_DOCUMENT - CHUNK_KEYS:
        raise BadOption(
            f"chunk_size is 1 to {MAX_DOCUMENT - CHUNK_KEYS} bytes (a chunk is one document), not {chunk_size}"
        )


class Splitter:
    """A splitter of pieces of any length into chunks of exactly `chunk_size` bytes and a shorter last one."""

    def __init__(self, chunk_size: int) -> None:
        self._size = chunk_size
        self._rest = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield the chunks that `data` completes. The caller has to exhaust the iterator."""
        view = memoryview(data)
        start = 0
        if self._rest:
            start = min(self._size - len(self._rest), len(view))
            self._rest += view[:start]
            if len(self._rest) < self._size:
                return
            yield bytes(self._rest)
            self._rest.clear()
        end = len(view) - (len(view) - start) % self._size
        for at in range(start, end, self._size):
            yield bytes(view[at : at + self._size])
        self._rest += view[end:]

    @property
    def rest(self) -> bytes:
        """The bytes after the last full chunk."""
        return bytes(self._rest)

    def flush(self) -> bytes:
        """Return the last chunk, which is empty if the bytes ended with a full one."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """Chunks `first` to `stop` (exclusive). If `last`, the range ends the file, and its read detects surplus chunks."""

    first: int
    stop: int
    last: bool

    def __len__(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive bytes of a file in pieces. `offset` is the position of the first byte in the file."""

    offset: int
    pieces: Sequence[bytes]
    length: int

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offset + self.length

    def pieces_from(self, offset: int) -> tuple[list[bytes], int]:
        """Return the pieces from the one with the byte at `offset` on, and the index of that byte in it."""
        at = offset - self.offset
        for index, piece in enumerate(self.pieces):
            if at < len(piece):
                return list(self.pieces[index:]), at
            at -= len(piece)
        raise IndexError(f"{offset} is not in {self.offset} to {self.end}")


def plan_ranges(
    info: FileInfo, start: int, stop: int, *, first_chunks: int, from_chunk: int | None = None
) -> Iterator[ChunkRange]:
    """Yield the reads for bytes `start` to `stop` of a file: one of `first_chunks`, then ones of `RANGE_BYTES`.

    `from_chunk` skips the chunks before it, which the caller already has. The range that ends the file is marked
    `last`, also for an empty file.
    """
    count = info.chunk_count
    if start >= stop:
        if not info.length:
            yield ChunkRange(0, 0, True)
        return
    end = -(-stop // info.chunk_size)
    at = start // info.chunk_size if from_chunk is None else from_chunk
    size = first_chunks
    while at < end:
        until = min(end, at + size)
        yield ChunkRange(at, until, until == count)
        at, size = until, chunks_per_range(info.chunk_size)


def check_range(info: FileInfo, wanted: ChunkRange, documents: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return the bytes of each chunk in order.

    Raises `CorruptFile` for a chunk that is missing, repeated, surplus or of the wrong length. An empty chunk after the
    end is allowed, because old drivers wrote some.
    """
    found: dict[int, bytes] = {}
    for document in documents:
        n, data = document.get("n"), document.get("data")
        if not (isinstance(n, int) or (isinstance(n, float) and n.is_integer())) or not isinstance(data, bytes):
            raise CorruptFile(info.id, f"a chunk has n={n!r} and data of type {type(data).__name__}")
        if n >= wanted.stop:
            if data and wanted.last:
                raise CorruptFile(info.id, f"surplus chunk {int(n)} of {len(data)} bytes after its end")
            continue
        if int(n) in found:
            raise CorruptFile(info.id, f"chunk {int(n)} exists twice")
        found[int(n)] = bytes(data)  # copies only the old binary subtype 2, which pymongo returns as `Binary`
    pieces = []
    for n in range(wanted.first, wanted.stop):
        if n not in found:
            raise CorruptFile(info.id, f"chunk {n} of {info.chunk_count} is missing")
        expected = min(info.chunk_size, info.length - n * info.chunk_size)
        if len(found[n]) != expected:
            raise CorruptFile(info.id, f"chunk {n} has {len(found[n])} bytes instead of {expected}")
        pieces.append(found[n])
    return pieces


def cut_block(info: FileInfo, wanted: ChunkRange, pieces: list[bytes], start: int, stop: int) -> Block:
    """Return the block of a range's pieces, cut to bytes `start` to `stop` of the file."""
    offset = wanted.first * info.chunk_size
    end = min(info.length, wanted.stop * info.chunk_size)
    if pieces and end > stop:
        pieces[-1] = pieces[-1][: len(pieces[-1]) - (end - stop)]
        end = stop
    if pieces and start > offset:
        pieces[0] = pieces[0][start - offset :]
        offset = start
    return Block(offset, pieces, max(0, end - offset))


def group_by_bytes(infos: Iterable[FileInfo], most_bytes: int, most: int) -> list[list[FileInfo]]:
    """Group files in order for common reads: at most `most` files and `most_bytes`, unless one file is larger."""
    groups: list[list[FileInfo]] = []
    size = 0
    for info in infos:
        if not groups or size + info.length > most_bytes or len(groups[-1]) == most:
            groups.append([])
            size = 0
        groups[-1].append(info)
        size += info.length
    return groups


def payload_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes a chunk document has, 0 if it has no binary data."""
    data = document.get("data")
    return len(data) if isinstance(data, bytes) else 0


def merge_ranges(info: FileInfo, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans of bytes that cover all ranges. Ranges in the same or in neighbouring chunks are merged."""
    spans: list[tuple[int, int]] = []
    for start, stop in sorted((start, min(stop, info.length)) for start, stop in ranges):
        if start >= stop:
            continue
        if spans and start // info.chunk_size <= (spans[-1][1] - 1) // info.chunk_size + 1:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        else:
            spans.append((start, stop))
    return spans


def cut_range(spans: Sequence[tuple[int, int]], contents: Sequence[bytes], start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` out of the span that covers them."""
    if start >= stop:
        return b""
    at = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return contents[at][start - spans[at][0] : stop - spans[at][0]]


def object_ids(binaries: bytes | bytearray) -> Iterator[ObjectId]:
    """Yield the ids that are concatenated in `binaries`, 12 bytes each."""
    return (ObjectId(bytes(binaries[at : at + 12])) for at in range(0, len(binaries), 12))


def longest_pause(binaries: bytes | bytearray, now: float) -> float:
    """Return the longest time in seconds between neighbours of such ids, or between the last one and `now`.

    `now` is a Unix time. A clock that was set back counts as a pause.
    """
    moments = (moment for (moment,) in struct.iter_unpack(">I8x", binaries))
    return max((abs(after - before) for before, after in pairwise(chain(moments, [now]))), default=0)
