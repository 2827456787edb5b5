"""What every trial of an operation ends with: whole files, an error that is one of ours or pymongo's, another try."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from unittest.mock import patch

from pymongo.errors import PyMongoError

from gridproxy import Bucket, CommitUnknown, GarbageReport, GridProxyError, OutcomeUnknown
from gridproxy.upkeep.bucket_scanner import BucketScanner

from .operation import Operation
from .whole import files_and_orphans, stored_files

__all__ = ["Failure", "assert_after", "assert_collected", "assert_whole", "collected", "emptied", "error_of"]

Failure = PyMongoError | GridProxyError


async def error_of(work: Awaitable[object]) -> Failure | None:
    """Return the error that the work raised, if it is one of the documented ones."""
    try:
        await work
    except (PyMongoError, GridProxyError) as error:
        return error
    return None


async def assert_whole(trial: Operation, error: Failure | None) -> None:
    """Whole files only, and what the operation promises of them."""
    files, orphans = await files_and_orphans(trial.scene.well.database)
    contents = tuple(sorted(files.values()))
    said = f"{contents!r}, orphans {orphans!r}, after {error!r} {getattr(error, '__notes__', '')}"
    if error is None:
        assert (contents, len(orphans)) == (trial.after, trial.staged[1]), said
    elif isinstance(error, OutcomeUnknown | CommitUnknown) or not trial.all_or_nothing or hasattr(error, "__notes__"):
        assert contents in (trial.before, *trial.between, trial.after), said
    else:
        assert (contents, len(orphans)) == (trial.before, trial.staged[0]), said
    await trial.look(error)


async def assert_after(trial: Operation) -> None:
    """Check that the second try did the work, and that it left nothing but orphans."""
    files, orphans = await files_and_orphans(trial.scene.well.database)
    assert tuple(sorted(files.values())) == trial.after
    await trial.look(None)
    if len(orphans) > trial.staged[1]:
        await assert_collected(trial.scene.well, [(name, "photo") for name in trial.documents])
        assert await stored_files(trial.scene.well.database) == files


async def emptied(trial: Operation) -> None:
    """Nothing is left of a trial."""
    for name in ("fs.files", "fs.chunks", *trial.documents):
        await trial.scene.well.database[name].delete_many({})


async def assert_collected(bucket: Bucket, references: Sequence[tuple[str, str]] = ()) -> None:
    """All that is wrong in the bucket are chunks without a file, and they go with `collect_garbage` a day later."""
    findings = [finding.kind async for finding in bucket.check(references=references)]
    assert set(findings) <= {"orphan"}
    report = await collected(bucket)
    assert report.orphans.ids == len(findings)
    assert [finding async for finding in bucket.check(references=references)] == []


async def collected(bucket: Bucket, references: Sequence[tuple[str, str]] = ()) -> GarbageReport:
    """Remove what `collect_garbage` removes a day later. With `references` it removes unreferenced files, too."""
    server_time = BucketScanner.server_time

    async def a_day_later(scanner: BucketScanner) -> datetime:
        return await server_time(scanner) + timedelta(days=1)

    with patch.object(BucketScanner, "server_time", a_day_later):
        return await bucket.collect_garbage(
            timedelta(hours=1), dry_run=False, unreferenced=bool(references), references=references
        )
