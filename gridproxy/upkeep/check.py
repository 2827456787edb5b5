"""Check a bucket for missing, wrong and leftover data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from datetime import datetime, timedelta

from gridproxy.errors import CorruptFile
from gridproxy.gridfs.records.chunks import group_by_bytes
from gridproxy.gridfs.records.file_info import FileInfo, utc_milliseconds
from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import NOT_BYTES, Store
from gridproxy.runtime.progress import Meter, Progress

from .bucket_scanner import IDS_PER_QUERY, BucketScanner, open_scanner
from .document_paths import DocumentPath, candidates, dangling_references, estimate_work, expected_size, unreferenced
from .findings import Finding, FindingKind

# A server needs about a second to read this many bytes for one query of chunk sizes.
_BYTES_PER_QUERY = 1024**3
_RECORD = {"length": 1, "chunkSize": 1, "uploadDate": 1, "filename": 1, "expires_at": 1}


async def check_bucket(
    store: Store, references: Sequence[DocumentPath], older_than: timedelta, progress: Progress | None
) -> AsyncIterator[Finding]:
    """Yield every problem in the bucket, in bounded memory. See `Bucket.check`."""
    async with open_scanner(store) as scanner:
        meter = Meter(progress, 2 * await estimate_work(scanner, references))
        now = await scanner.server_time()
        before = now - older_than if older_than else None
        async for finding in _files(scanner, now, meter):
            yield finding
        async for finding in _orphans(scanner, now, before, meter):
            yield finding
        if references:
            async for finding in dangling_references(scanner, references, meter):
                yield finding
            async for finding in _unreferenced(scanner, references, now, before, meter):
                yield finding
        await meter.finish()


async def _files(scanner: BucketScanner, now: datetime, meter: Meter) -> AsyncIterator[Finding]:
    async for page in scanner.pages(scanner.files, _RECORD):
        infos = []
        for record in page:
            try:
                info = FileInfo.from_record(record)
            except CorruptFile as error:
                yield Finding(kind="unreadable", id=record["_id"], reason=error.reason)
                continue
            infos.append(info)
            if info.expired(now):
                yield _expired(info)
        for group in group_by_bytes(infos, _BYTES_PER_QUERY, IDS_PER_QUERY):
            audits = await _audit(scanner, group)
            for suspect in [info.id for info in group if any(audits[id_key(info.id)].findings())]:
                for finding in await _confirm(scanner, suspect):
                    yield finding
        await meter.advance(len(page))


async def _confirm(scanner: BucketScanner, id: object) -> list[Finding]:
    """Check a file again on the primary, because it may have been deleted during the first check."""
    record = await scanner.store.find_record(id, scanner.session, primary=True)
    if record is None:
        return []
    info = FileInfo.from_record(record)
    audits = await _audit(scanner, [info], primary=True)
    found = list(audits[id_key(info.id)].findings())
    return found if found and await scanner.is_stored(id) else []


async def _audit(
    scanner: BucketScanner, infos: Sequence[FileInfo], *, primary: bool = False
) -> dict[Hashable, ChunkAudit]:
    audits = {id_key(info.id): ChunkAudit(info) for info in infos}
    async for row in scanner.sizes([info.id for info in infos], primary=primary):
        audits[id_key(row["files_id"])].add(row.get("n"), row["size"])
    return audits


def _expired(info: FileInfo) -> Finding:
    reason = f"it expired at {info.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    return Finding(
        kind="expired", id=info.id, reason=reason, chunks=info.chunk_count, bytes=info.length, since=info.expires_at
    )


async def _orphans(
    scanner: BucketScanner, now: datetime, before: datetime | None, meter: Meter
) -> AsyncIterator[Finding]:
    async for ids in scanner.owners_of_chunks():
        for orphan in await scanner.orphans_among(ids):
            if before is not None and orphan.since is not None and orphan.since > before:
                continue
            reason = orphan.describe() + (" (it may be an upload in progress)" if orphan.is_young(now) else "")
            yield Finding(
                kind="orphan", id=orphan.id, reason=reason, chunks=orphan.chunks, bytes=orphan.bytes, since=orphan.since
            )
        await meter.advance(len(ids))


async def _unreferenced(
    scanner: BucketScanner, references: Sequence[DocumentPath], now: datetime, before: datetime | None, meter: Meter
) -> AsyncIterator[Finding]:
    async for records in candidates(scanner, now, before):
        for record in (await unreferenced(scanner, references, records, meter)).values():
            chunks, size = expected_size(record)
            uploaded = record.get("uploadDate")
            since = utc_milliseconds(uploaded) if isinstance(uploaded, datetime) else None
            reason = "no document points to it"
            yield Finding(kind="unreferenced", id=record["_id"], reason=reason, chunks=chunks, bytes=size, since=since)


class ChunkAudit:
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
                shown = "no bytes" if size == NOT_BYTES else f"{size} bytes"
                reason = f"chunk {number} of {shown} is beyond the {self._info.chunk_count} chunks of the file"
                self._note("surplus", reason)
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
