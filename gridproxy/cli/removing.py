"""The command rm, which takes no upload that is running for something to be removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from gridproxy.bucket import Bucket
from gridproxy.upkeep.bucket_scanner import BucketScanner, Orphan, open_scanner

from .arguments import command, id_of, one_of
from .running import MISSING, TAKEN, Work
from .screen import Screen, readable_size, shown_id


@command
@click.argument("ids", nargs=-1, type=id_of)
@click.option("--name", metavar="FILENAME", help="Every revision of this name, instead of ids.")
@click.option("--force", is_flag=True, help="Also chunks that may be an upload in progress.")
def rm(ids: Sequence[object], name: str | None, force: bool) -> Work:
    """Remove files.

    Chunks that lie under an ID without a file go, too, unless they are younger than an hour: they may be an upload in
    progress, which would lose them.
    """
    one_of(IDS=ids, **{"--name": name is not None})

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        removal = _Removal(bucket, force)
        if name is not None:
            removal.files = await bucket.delete_by_name(name)
        else:
            async with open_scanner(bucket.store) as scanner:
                for id in ids:
                    await removal.of(id, scanner)
        removal.tell(screen)
        return TAKEN if removal.refused else MISSING if removal.missing else None

    return work


class _Removal:
    """What was removed, and what was not."""

    def __init__(self, bucket: Bucket, force: bool) -> None:
        self.files = 0
        self.missing: list[object] = []
        self.orphans: list[Orphan] = []
        self.refused: list[Orphan] = []
        self._bucket = bucket
        self._force = force

    async def of(self, id: object, scanner: BucketScanner) -> None:
        if await scanner.is_stored(id):
            self.files += await self._bucket.delete_many([id])
            return
        found = await scanner.orphans_among([id])
        if not found:
            self.missing.append(id)
            return
        [orphan] = found
        if not self._force and (orphan.since is None or orphan.is_young(await scanner.server_time())):
            self.refused.append(orphan)
            return
        await self._bucket.discard(id)
        self.orphans.append(orphan)

    def tell(self, screen: Screen) -> None:
        if screen.as_json:
            told: dict[str, Any] = {"removed": self.files, "missing": self.missing}
            # Where there are none, it is what it always was.
            for key, orphans in (("orphans", self.orphans), ("refused", self.refused)):
                if orphans:
                    told[key] = [{"id": each.id, "chunks": each.chunks, "bytes": each.bytes} for each in orphans]
            screen.document(told)
        elif self.files or not self.orphans:
            screen.line(f"removed {self.files} {'file' if self.files == 1 else 'files'}")
        for orphan in self.orphans:
            if not screen.as_json:
                screen.line(f"removed {_told(orphan)}, under the id {shown_id(orphan.id)}")
        for id in self.missing:
            screen.note(f"no file is stored under the id {id!r}", style="red")
        for orphan in self.refused:
            screen.note(_refusal(orphan), style="red")


def _refusal(orphan: Orphan) -> str:
    later = "" if orphan.since is None else ", `gridproxy gc --delete` does once they are old enough"
    return (
        f"no file is stored under the id {shown_id(orphan.id)}, but {_told(orphan)}: an upload may be running, and "
        f"would lose them. They were left: `gridproxy rm --force ID` removes them{later}"
    )


def _told(orphan: Orphan) -> str:
    return f"{orphan.describe()} ({readable_size(orphan.bytes)})"
