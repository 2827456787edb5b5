"""Checking a bucket: what is in it that should not be, and what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence
from datetime import datetime, timedelta

from ..chunks import group_by_bytes
from ..errors import CorruptFile
from ..ids import id_key
from ..info import FileInfo, utc_milliseconds
from ..progress import Meter, Progress
from ..store import Store
from .audit import Audit
from .census import IDS_PER_QUERY, Census, open_census
from .findings import Finding
from .pointers import Reference, candidates, dangling, promised, unreferenced

__all__ = ["check_bucket"]

# Chunks whose sizes are asked for in one query, as many bytes as a server reads for it in a second or so.
_BYTES_PER_QUERY = 1024**3
_RECORD = {"length": 1, "chunkSize": 1, "uploadDate": 1, "filename": 1, "expires_at": 1}


async def check_bucket(
    store: Store, references: Sequence[Reference], older_than: timedelta, progress: Progress | None
) -> AsyncIterator[Finding]:
    """Everything that is not as it should be; memory is bounded, whatever the bucket holds. See `Bucket.check`."""
    async with open_census(store) as census:
        meter = Meter(progress, await _work(census, references))
        now = await census.server_time()
        before = now - older_than
        async for finding in _files(census, now, meter):
            yield finding
        async for finding in _orphans(census, before if older_than else None, meter):
            yield finding
        if references:
            async for finding in dangling(census, references, meter):
                yield finding
            async for finding in _unreferenced(census, references, now, before if older_than else None, meter):
                yield finding
        await meter.finish()


async def _work(census: Census, references: Sequence[Reference]) -> int:
    """About how many records, ids and documents there are to look at."""
    total = 2 * await census.count(census.files)
    for reference in references:
        total += 2 * await census.count(reference.collection)
    return total


# Files


async def _files(census: Census, now: datetime, meter: Meter) -> AsyncIterator[Finding]:
    async for page in census.pages(census.files, _RECORD):
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
            for suspect in await _suspects(census, group):
                for finding in await _confirmed(census, suspect):
                    yield finding
        await meter.advance(len(page))


async def _suspects(census: Census, infos: Sequence[FileInfo]) -> list[object]:
    audits = await _audited(census, infos)
    return [info.id for info in infos if any(audits[id_key(info.id)].findings())]


async def _confirmed(census: Census, id: object) -> list[Finding]:
    """What is wrong with a file, asked once more of the primary: it may have been deleted meanwhile."""
    record = await census.store.find_record(id, census.session, primary=True)
    if record is None:
        return []
    info = FileInfo.from_record(record)
    audits = await _audited(census, [info], primary=True)
    found = list(audits[id_key(info.id)].findings())
    return found if found and await census.is_stored(id) else []


async def _audited(census: Census, infos: Sequence[FileInfo], *, primary: bool = False) -> dict[Hashable, Audit]:
    audits = {id_key(info.id): Audit(info) for info in infos}
    async for row in census.sizes([info.id for info in infos], primary=primary):
        audits[id_key(row["files_id"])].take(row.get("n"), row["size"])
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


async def _orphans(census: Census, before: datetime | None, meter: Meter) -> AsyncIterator[Finding]:
    async for ids in census.owners_of_chunks():
        for orphan in await census.orphans_among(ids):
            if before is not None and orphan.since is not None and orphan.since > before:
                continue
            age = "of unknown age" if orphan.since is None else f"the last of {orphan.since:%Y-%m-%d %H:%M:%S} UTC"
            yield Finding(
                kind="orphan",
                id=orphan.id,
                reason=f"{orphan.chunks} chunks without a file, {age}",
                chunks=orphan.chunks,
                bytes=orphan.bytes,
                since=orphan.since,
            )
        await meter.advance(len(ids))


# Files without a document


async def _unreferenced(
    census: Census, references: Sequence[Reference], now: datetime, before: datetime | None, meter: Meter
) -> AsyncIterator[Finding]:
    async for some in candidates(census, now, before):
        for record in (await unreferenced(census, references, some, meter)).values():
            chunks, size = promised(record)
            uploaded = record.get("uploadDate")
            yield Finding(
                kind="unreferenced",
                id=record["_id"],
                reason="no document points to it",
                chunks=chunks,
                bytes=size,
                since=utc_milliseconds(uploaded) if isinstance(uploaded, datetime) else None,
            )
