"""The garbage collector: deletes chunks without a file, expired files, and files that no document points to.

A run can be interrupted at any step. A record is deleted before its chunks, so the next run finds remaining chunks as
orphans. Each file is checked again immediately before it is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gridproxy.errors import BadOption
from gridproxy.gridfs.records.file_info import REFERENCED_AT, UPLOAD_ID
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.store.loose_chunks import Claim, Loose
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.progress import Meter, Progress
from gridproxy.runtime.tasks import run_to_completion

from .bucket_scanner import MIN_AGE, BucketScanner, Orphan, check_age, open_scanner
from .document_paths import DocumentPath, candidates, check_in_use, estimate_work, expected_size, unreferenced
from .findings import GarbageReport, Tally

# Orphans that one scan collects before they are deleted. This bounds memory and the age of the cursor.
_ORPHANS_PER_SCAN = 10_000
# Files that are deleted after one scan of the documents.
_FILES_PER_SCAN = 1000


async def collect_bucket_garbage(
    store: Store,
    *,
    older_than: timedelta,
    dry_run: bool,
    unreferenced: bool,
    references: Sequence[DocumentPath],
    progress: Progress | None,
) -> GarbageReport:
    """Delete garbage, or only report it. See `Bucket.collect_garbage`."""
    if check_age(older_than) < MIN_AGE:
        raise BadOption(f"older_than must be at least {MIN_AGE}, not {older_than}, because an upload may be running")
    if unreferenced and not references:
        raise BadOption(
            "unreferenced=True needs references=[('animals', 'photo'), ...] with every field that contains files"
        )
    async with open_scanner(store) as scanner:
        if unreferenced:
            await check_in_use(scanner, references)
        now = await scanner.server_time()
        meter = Meter(progress, await estimate_work(scanner, references))
        collector = _Collector(scanner, now, now - older_than, meter, GarbageReport(dry_run=dry_run))
        await collector.expired()
        if unreferenced:
            await collector.unreferenced(references)
        # This is last because deleting a record may have left chunks.
        await collector.orphans()
        await meter.finish()
        return collector.report


@dataclass
class _Collector:
    """One run. `report` contains what it has found and deleted so far."""

    scanner: BucketScanner
    now: datetime
    before: datetime
    meter: Meter
    report: GarbageReport

    def _count(self, reason: str, tally: Tally) -> None:
        self.report = replace(self.report, **{reason: getattr(self.report, reason) + tally})

    def _log(self, id: object, size: int, began: float, reason: str, chunks: int) -> None:
        store = self.scanner.store
        log_event(Event.GARBAGE_REMOVED, store, id, size=size, since=began, reason=reason, chunks=chunks)

    async def expired(self) -> None:
        """Delete expired files of any age, because they cannot be read any more."""
        expired = {"expires_at": {"$lte": self.now}}
        projection = {"length": 1, "chunkSize": 1}
        async for page in self.scanner.pages(self.scanner.files, projection, expired):
            for record in page:
                await self._remove_file("expired", record, expired)
            await self.meter.advance(len(page))

    async def unreferenced(self, references: Sequence[DocumentPath]) -> None:
        """Delete old files that no document points to. The documents are read again before each thousand files."""
        async for page in candidates(self.scanner, self.now, self.before):
            remaining: dict[Hashable, Record] = page
            while remaining := await unreferenced(self.scanner, references, remaining, self.meter):
                limit = len(remaining) if self.report.dry_run else _FILES_PER_SCAN
                for key in list(remaining)[:limit]:
                    record = remaining.pop(key)
                    # A document that is being saved changes the second one first (`touch_record`).
                    unchanged = {key: record.get(key) for key in ("uploadDate", REFERENCED_AT)}
                    if not await self._remove_file("unreferenced", record, unchanged):
                        break  # it is in use again, so its variants may be, too: read the documents again

    async def _remove_file(self, reason: str, record: Record, matching: dict[str, Any]) -> bool:
        chunks, size = expected_size(record)
        began = time.monotonic()
        if not self.report.dry_run:
            removed = await run_to_completion(self._remove(record["_id"], matching))
            if removed is None:
                return False  # Another client has deleted or replaced the file, or a document points to it.
            chunks = removed
            self._log(record["_id"], size, began, reason, chunks)
        self._count(reason, Tally(1, chunks, size))
        return True

    async def _remove(self, id: object, matching: dict[str, Any]) -> int | None:
        record = await self.scanner.store.delete_record(id, self.scanner.session, matching)
        return None if record is None else await self.scanner.store.delete_chunks(id, record.get(UPLOAD_ID))

    # Chunks without a file

    async def orphans(self) -> None:
        """Delete chunks without a record if the youngest of them is old enough."""
        while True:
            self.report = replace(self.report, young=Tally(), unknown_age=Tally())
            found, is_complete = await self._scan_orphans()
            for orphan in found:
                await self._remove_orphan(orphan)
            if is_complete:
                return

    async def _scan_orphans(self) -> tuple[list[Orphan], bool]:
        """Return orphans to delete, and whether these are all of them."""
        found: list[Orphan] = []
        async for ids in self.scanner.owners_of_chunks():
            for orphan in await self.scanner.orphans_among(ids):
                tally = Tally(1, orphan.chunks, orphan.bytes)
                if orphan.since is None:
                    self._count("unknown_age", tally)
                elif orphan.since > self.before:
                    self._count("young", tally)
                elif self.report.dry_run:
                    self._count("orphans", tally)
                else:
                    found.append(orphan)
            await self.meter.advance(len(ids))
            if len(found) >= _ORPHANS_PER_SCAN:
                return found, False
        return found, True

    async def _remove_orphan(self, orphan: Orphan) -> None:
        began = time.monotonic()
        removed = Tally(ids=1)
        claim = Claim(self.scanner.store, orphan.id)
        await claim.begin(orphan.youngest)
        while chunks := await self.scanner.next_chunks(orphan):
            # A staged upload may have been published since the orphan was found, also in an open transaction.
            if await run_to_completion(claim.check()) is not Loose.REMOVED:
                break
            await run_to_completion(
                self.scanner.store.delete_chunks_by_id(orphan.id, [chunk["_id"] for chunk in chunks])
            )
            removed += Tally(0, len(chunks), sum(max(chunk["size"], 0) for chunk in chunks))
        if removed.chunks:
            self._log(orphan.id, removed.bytes, began, "orphans", removed.chunks)
            self._count("orphans", removed)
        # Another driver may have inserted a record during the deletion. It belongs to a damaged file.
        if await self.scanner.is_stored(orphan.id):
            self.report = replace(self.report, contested=(*self.report.contested, orphan.id))
