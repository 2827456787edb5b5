"""Check a bucket for missing, wrong and leftover data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence
from datetime import datetime, timedelta

from gridproxy.errors import CorruptFile
from gridproxy.gridfs.records.chunks import group_by_bytes
from gridproxy.gridfs.records.file_info import FileInfo, utc_milliseconds
from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.progress import Meter, Progress

from .bucket_scanner import IDS_PER_QUERY, BucketScanner, open_scanner
from .chunk_audit import Audit
from .document_paths import DocumentPath, candidates, dangling_references, expected_size, unreferenced
from .findings import Finding

# A server needs about a second to read this many bytes for one query of chunk sizes.
_BYTES_PER_QUERY = 1024**3
_RECORD = {"length": 1, "chunkSize": 1, "uploadDate": 1, "filename": 1, "expires_at": 1}


async def check_bucket(
    store: Store, references: Sequence[DocumentPath], older_than: timedelta, progress: Progress | None
) -> AsyncIterator[Finding]:
    """Yield every problem in the bucket, in bounded memory. See `Bucket.check`."""
    async with open_scanner(store) as scanner:
        meter = Meter(progress, await _estimate_work(scanner, references))
        now = await scanner.server_time()
        before = now - older_than
        async for finding in _files(scanner, now, meter):
            yield finding
        async for finding in _orphans(scanner, now, before if older_than else None, meter):
            yield finding
        if references:
            async for finding in dangling_references(scanner, references, meter):
                yield finding
            async for finding in _unreferenced(scanner, references, now, before if older_than else None, meter):
                yield finding
        await meter.finish()


async def _estimate_work(scanner: BucketScanner, references: Sequence[DocumentPath]) -> int:
    """Estimate how many records, ids and documents are checked."""
    total = 2 * await scanner.count(scanner.files)
    for reference in references:
        total += 2 * await scanner.count(reference.collection)
    return total


# Files


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
            for suspect in await _find_suspects(scanner, group):
                for finding in await _confirm(scanner, suspect):
                    yield finding
        await meter.advance(len(page))


async def _find_suspects(scanner: BucketScanner, infos: Sequence[FileInfo]) -> list[object]:
    audits = await _audit(scanner, infos)
    return [info.id for info in infos if any(audits[id_key(info.id)].findings())]


async def _confirm(scanner: BucketScanner, id: object) -> list[Finding]:
    """Check a file again on the primary, because it may have been deleted during the first check."""
    record = await scanner.store.find_record(id, scanner.session, primary=True)
    if record is None:
        return []
    info = FileInfo.from_record(record)
    audits = await _audit(scanner, [info], primary=True)
    found = list(audits[id_key(info.id)].findings())
    return found if found and await scanner.is_stored(id) else []


async def _audit(scanner: BucketScanner, infos: Sequence[FileInfo], *, primary: bool = False) -> dict[Hashable, Audit]:
    audits = {id_key(info.id): Audit(info) for info in infos}
    async for row in scanner.sizes([info.id for info in infos], primary=primary):
        audits[id_key(row["files_id"])].add(row.get("n"), row["size"])
    return audits


def _expired(info: FileInfo) -> Finding:
    return Finding(
        kind="expired",
        id=info.id,
        reason=f"it expired at {info.expires_at:%Y-%m-%d %H:%M:%S} UTC",
        chunks=info.chunk_count,
        bytes=info.length,
        since=info.expires_at,
    )


# Chunks without a file


async def _orphans(
    scanner: BucketScanner, now: datetime, before: datetime | None, meter: Meter
) -> AsyncIterator[Finding]:
    async for ids in scanner.owners_of_chunks():
        for orphan in await scanner.orphans_among(ids):
            if before is not None and orphan.since is not None and orphan.since > before:
                continue
            yield Finding(
                kind="orphan",
                id=orphan.id,
                reason=orphan.describe() + (" (it may be an upload in progress)" if orphan.is_young(now) else ""),
                chunks=orphan.chunks,
                bytes=orphan.bytes,
                since=orphan.since,
            )
        await meter.advance(len(ids))


# Files without a document


async def _unreferenced(
    scanner: BucketScanner, references: Sequence[DocumentPath], now: datetime, before: datetime | None, meter: Meter
) -> AsyncIterator[Finding]:
    async for records in candidates(scanner, now, before):
        for record in (await unreferenced(scanner, references, records, meter)).values():
            chunks, size = expected_size(record)
            uploaded = record.get("uploadDate")
            yield Finding(
                kind="unreferenced",
                id=record["_id"],
                reason="no document points to it",
                chunks=chunks,
                bytes=size,
                since=utc_milliseconds(uploaded) if isinstance(uploaded, datetime) else None,
            )
