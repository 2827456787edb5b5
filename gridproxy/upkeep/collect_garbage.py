"""Collecting garbage: chunks without a file, files that have expired, files that no document points to.

Every step leaves a state that the next run goes on from: a record goes before its chunks, and chunks whose record is
gone are orphans. Whatever is decided from a list is looked at again just before it is removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from gridproxy.errors import BadOption
from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.runtime.progress import Meter, Progress
from gridproxy.runtime.tasks import run_to_completion

from .bucket_scanner import YOUNGEST, BucketScanner, Orphan, check_age, open_scanner
from .document_paths import DocumentPath, candidates, check_in_use, expected_size, unreferenced
from .findings import GarbageReport, Tally

# Orphans that are removed after one walk over the bucket, so that no cursor waits meanwhile and memory is bounded.
_ORPHANS_PER_WALK = 10_000
# Files that are removed after one look at the documents.
_FILES_PER_LOOK = 1000


async def collect_bucket_garbage(
    store: Store,
    *,
    older_than: timedelta,
    dry_run: bool,
    unreferenced: bool,
    references: Sequence[DocumentPath],
    progress: Progress | None,
    clock: Callable[[BucketScanner], Awaitable[datetime]] = BucketScanner.server_time,
) -> GarbageReport:
    """Remove what is safe to remove, or tell what would be; see `Bucket.collect_garbage`, also for what is raised.

    `clock` gives the moment that ages are measured to (aware, in UTC); another one is for tests.
    """
    if check_age(older_than) < YOUNGEST:
        raise BadOption(f"older_than is {YOUNGEST} at least, not {older_than}: a running upload must not be touched")
    if unreferenced and not references:
        raise BadOption("unreferenced=True needs references=[('animals', 'photo'), ...]: every place that files are in")
    async with open_scanner(store) as scanner:
        if unreferenced:
            await check_in_use(scanner, references)
        now = await clock(scanner)
        collector = _Collector(scanner, now, now - older_than, dry_run, await _meter(scanner, references, progress))
        await collector.expired()
        if unreferenced:
            await collector.unreferenced(references)
        # Last, so that what a record's removal may have left is gone, too.
        await collector.orphans()
        await collector.meter.finish()
        return collector.report


async def _meter(scanner: BucketScanner, references: Sequence[DocumentPath], progress: Progress | None) -> Meter:
    total = await scanner.count(scanner.files)
    for reference in references:
        total += await scanner.count(reference.collection)
    return Meter(progress, total)


class _Collector:
    """One run: what it found and removed so far stands in `report`."""

    def __init__(self, scanner: BucketScanner, now: datetime, before: datetime, dry_run: bool, meter: Meter) -> None:
        self.report = GarbageReport(dry_run=dry_run)
        self.meter = meter
        self._scanner = scanner
        self._store = scanner.store
        self._now = now
        self._before = before
        self._dry_run = dry_run

    def _count(self, reason: str, tally: Tally) -> None:
        self.report = replace(self.report, **{reason: getattr(self.report, reason) + tally})

    # Files

    async def expired(self) -> None:
        """Files whose `expires_at` has passed, at once: everybody misses them already."""
        expired = {"expires_at": {"$lte": self._now}}
        projection = {"length": 1, "chunkSize": 1}
        async for page in self._scanner.pages(self._scanner.files, projection, expired):
            for record in page:
                await self._remove_file("expired", record, expired)
            await self.meter.advance(len(page))

    async def unreferenced(self, references: Sequence[DocumentPath]) -> None:
        """Old files that no document points to; the documents are looked at again before each thousand."""
        async for some in candidates(self._scanner, self._now, self._before):
            left: dict[Hashable, Record] = some
            while left := await unreferenced(self._scanner, references, left, self.meter):
                at_once = len(left) if self._dry_run else _FILES_PER_LOOK
                for key in list(left)[:at_once]:
                    record = left.pop(key)
                    await self._remove_file("unreferenced", record, {"uploadDate": record["uploadDate"]})

    async def _remove_file(self, reason: str, record: Record, matching: dict[str, Any]) -> None:
        chunks, size = expected_size(record)
        if not self._dry_run:
            removed = await run_to_completion(self._remove(record["_id"], matching))
            if removed is None:
                return  # it is another file by now, or somebody else removed it
            chunks = removed
        self._count(reason, Tally(1, chunks, size))

    async def _remove(self, id: object, matching: dict[str, Any]) -> int | None:
        query = {"_id": id_filter(id), **matching}
        deleted = await self._scanner.files.delete_one(query, session=self._scanner.session)
        return await self._store.delete_chunks(id) if deleted.deleted_count else None

    # Chunks without a file

    async def orphans(self) -> None:
        """Chunks without a record, the youngest of which is old enough."""
        while True:
            self.report = replace(self.report, young=Tally(), unknown_age=Tally())
            found, walked_all = await self._walk()
            for orphan in found:
                await self._remove_orphan(orphan)
            if walked_all:
                return

    async def _walk(self) -> tuple[list[Orphan], bool]:
        """What is to be removed, and whether that is all of it; what is to stay is counted."""
        found: list[Orphan] = []
        async for ids in self._scanner.owners_of_chunks():
            for orphan in await self._scanner.orphans_among(ids):
                kept = self._reason_to_keep(orphan)
                if kept is not None:
                    self._count(kept, _tally(orphan))
                elif self._dry_run:
                    self._count("orphans", _tally(orphan))
                else:
                    found.append(orphan)
            await self.meter.advance(len(ids))
            if len(found) >= _ORPHANS_PER_WALK:
                return found, False
        return found, True

    def _reason_to_keep(self, orphan: Orphan) -> str | None:
        if orphan.since is None:
            return "unknown_age"
        return "young" if orphan.since > self._before else None

    async def _remove_orphan(self, orphan: Orphan) -> None:
        removed = Tally(ids=1)
        while some := await self._scanner.some_chunks(orphan):
            # Asked after the chunks were seen: a staged upload may have been published meanwhile.
            if await self._scanner.is_stored(orphan.id):
                break
            await run_to_completion(self._store.delete_chunks_by_id(orphan.id, [chunk["_id"] for chunk in some]))
            removed += Tally(0, len(some), sum(chunk["size"] for chunk in some))
        if removed.chunks:
            self._count("orphans", removed)
        # And who published in the very last moment has to hear of it.
        if await self._scanner.is_stored(orphan.id):
            self.report = replace(self.report, contested=(*self.report.contested, orphan.id))


def _tally(orphan: Orphan) -> Tally:
    return Tally(1, orphan.chunks, orphan.bytes)
