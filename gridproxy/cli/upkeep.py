"""Maintenance commands: verify, check, gc."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import click

from gridproxy.bucket import Bucket
from gridproxy.errors import CorruptFile, FileMissing
from gridproxy.upkeep.findings import GarbageReport

from .arguments import command, duration, id_of, one_of, references_option
from .running import FOUND, MISSING, Work
from .screen import Screen, readable_size, shown_id


@command
@click.argument("ids", nargs=-1, type=id_of)
@click.option("--name", metavar="FILENAME", help="Verify the newest file of this name, instead of ids.")
@click.option("--all", "everything", is_flag=True, help="Verify every file in the bucket.")
def verify(ids: Sequence[object], name: str | None, everything: bool) -> Work:
    """Read files and compare their sizes and SHA-256. The exit code is 1 if a file is corrupt."""
    one_of(IDS=ids, **{"--name": name is not None, "--all": everything})

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        corrupt = missing = good = 0
        with screen.bytes_bar("verifying") as progress:
            async for id in _ids_to_verify(bucket, ids, name, everything):
                reason = ""
                try:
                    await bucket.verify(id, progress=progress)
                    good += 1
                except FileMissing as error:
                    if everything:
                        continue  # Another client has deleted it, or it has expired.
                    missing += 1
                    reason = str(error)
                except CorruptFile as error:
                    corrupt += 1
                    reason = error.reason
                if screen.as_json:
                    screen.document({"id": id, "ok": not reason, **({"reason": reason} if reason else {})})
                elif reason:
                    screen.line(shown_id(id), reason, style="red")
        screen.note(f"{good} whole, {corrupt} corrupt, {missing} missing")
        return FOUND if corrupt else MISSING if missing else None

    return work


async def _ids_to_verify(
    bucket: Bucket, ids: Sequence[object], name: str | None, everything: bool
) -> AsyncIterator[object]:
    if name is not None:
        yield (await bucket.by_name(name)).id
    for id in ids:
        yield id
    if everything:
        async for record in bucket.store.files.find({}, {"_id": 1}, sort=[("_id", 1)]):
            yield record["_id"]


@command
@references_option
@click.option(
    "--older-than",
    type=duration,
    default="0s",
    metavar="DURATION",
    help="Ignore chunks without a file and unreferenced files that are younger. 1h ignores running uploads.",
)
def check(references: Sequence[tuple[str, str]], older_than: timedelta) -> Work:
    """Check the bucket for problems. The exit code is 1 if there are any beside expired files.

    Reports chunks without a file, files with missing or wrong chunks, and expired files. With --reference it also
    reports files that no document points to, and documents that point to a missing file. Nothing is changed.
    """

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        rows: list[list[str]] = []
        kinds: dict[str, int] = {}
        with screen.count_bar("checking") as progress:
            async for finding in bucket.check(references=references, older_than=older_than, progress=progress):
                kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
                if screen.as_json:
                    screen.document(finding.as_dict())
                else:
                    size = readable_size(finding.bytes) if finding.chunks else ""
                    rows.append([finding.kind, shown_id(finding.id), size, finding.reason])
        screen.table({"KIND": "left", "ID": "left", "SIZE": "right", "WHAT IS WRONG": "left"}, rows)
        screen.note(", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing is wrong")
        # Files expire without a fault. `gc` removes them.
        return FOUND if kinds.keys() - {"expired"} else None

    return work


@command
@click.option(
    "--older-than",
    type=duration,
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="Keep everything that is younger. At least an hour.",
)
@click.option(
    "--dry-run/--no-dry-run",
    " /--delete",
    default=True,
    help="Only report what would be removed (the default). --delete removes it.",
)
@click.option(
    "--unreferenced",
    is_flag=True,
    help="Also remove files that no document points to. Needs --reference for every field that contains files.",
)
@references_option
def gc(older_than: timedelta, dry_run: bool, unreferenced: bool, references: Sequence[tuple[str, str]]) -> Work:
    """Collect garbage: chunks without a file, and expired files.

    Without --delete it only reports them. Running uploads are not affected. If it is interrupted, run it again.
    """

    async def work(bucket: Bucket, screen: Screen) -> None:
        with screen.count_bar("scanning" if dry_run else "collecting") as progress:
            report = await bucket.collect_garbage(
                older_than, dry_run, unreferenced=unreferenced, references=references, progress=progress
            )
        if screen.as_json:
            screen.document(report.as_dict())
        else:
            _show_report(report, screen)

    return work


def _show_report(report: GarbageReport, screen: Screen) -> None:
    removed = "would be removed" if report.dry_run else "removed"
    lines = [
        ("chunks without a file", report.orphans, removed),
        ("expired files", report.expired, removed),
        ("files without a document", report.unreferenced, removed),
        ("chunks that may be a running upload", report.young, "left"),
        ("chunks of unknown age", report.unknown_age, "left"),
    ]
    rows = [
        [what, str(tally.ids), str(tally.chunks), readable_size(tally.bytes), outcome]
        for what, tally, outcome in lines
        if tally.ids
    ]
    screen.table({"WHAT": "left", "IDS": "right", "CHUNKS": "right", "SIZE": "right", "OUTCOME": "left"}, rows)
    for id in report.contested:
        screen.note(f"a file appeared under the id {id!r} during the removal: verify it", style="red")
    if not report.removed.ids:
        screen.note("nothing to remove")
    elif report.dry_run:
        screen.note("nothing was removed: use --delete to remove it")
