"""Compare the numbers and sizes of chunks with the record of their file, without I/O."""

from __future__ import annotations

from collections.abc import Iterator

from gridproxy.gridfs.records.file_info import FileInfo

from .findings import Finding, FindingKind

# The size of a chunk whose data field is not binary.
NOT_BYTES = -1


class Audit:
    """The check of one file. Its chunks have to be added in ascending order of `n`."""

    def __init__(self, info: FileInfo) -> None:
        self._info = info
        self._next = 0
        self._seen: dict[FindingKind, tuple[int, str]] = {}

    def add(self, n: object, size: int) -> None:
        """Add a chunk with its stored number and its size in bytes (or `NOT_BYTES`)."""
        if not (isinstance(n, int) or (isinstance(n, float) and n.is_integer())):
            self._note("unreadable", f"a chunk has n={n!r}")
            return
        number = int(n)
        if not 0 <= number < self._info.chunk_count:
            if size:
                self._note(
                    "surplus",
                    f"chunk {number} of {_bytes(size)} is beyond the {self._info.chunk_count} chunks of the file",
                )
            return
        if number < self._next:
            self._note("double", f"chunk {number} exists twice")
            return
        self._skip_to(number)
        self._next = number + 1
        expected = min(self._info.chunk_size, self._info.length - number * self._info.chunk_size)
        if size == NOT_BYTES:
            self._note("unreadable", f"chunk {number} contains no bytes")
        elif size != expected:
            self._note("short" if size < expected else "long", f"chunk {number} has {size} bytes instead of {expected}")

    def _skip_to(self, number: int) -> None:
        if number > self._next:
            reason = f"chunk {self._next} of {self._info.chunk_count} is missing"
            self._note("missing", reason, number - self._next)

    def _note(self, kind: FindingKind, reason: str, count: int = 1) -> None:
        before, first = self._seen.get(kind, (0, reason))
        self._seen[kind] = before + count, first

    def findings(self) -> Iterator[Finding]:
        """Yield one finding for each kind of problem, after all chunks were added."""
        self._skip_to(self._info.chunk_count)
        self._next = self._info.chunk_count
        for kind, (count, first) in self._seen.items():
            more = f", and {count - 1} more" if count > 1 else ""
            yield Finding(kind=kind, id=self._info.id, reason=f"{first}{more}")


def _bytes(size: int) -> str:
    return "no bytes" if size == NOT_BYTES else f"{size} bytes"
