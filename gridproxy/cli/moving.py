"""Commands that move files: cp, mv, sync, transfer, export, import, and du."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

import click

from gridproxy.bucket import Bucket
from gridproxy.errors import FileMissing
from gridproxy.gridfs.download.verify import hash_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.moving.export import export_files, import_files
from gridproxy.moving.names import safe_path
from gridproxy.moving.report import TransferReport
from gridproxy.moving.transfer import transfer_as
from gridproxy.runtime.tasks import in_thread

from .arguments import command, query_of, where_option
from .files import name_other_buckets
from .running import FOUND, MISSING, TAKEN, USAGE, Connection, Stop, Work
from .screen import Screen, plain, readable_size, shown_id

_PROTOCOL = "gridfs://"
_FILES_AT_ONCE = 200
_BLOCK = 1024 * 1024
_Where = Sequence[tuple[str, str]]


def _place(bucket: Bucket, path: str) -> tuple[Bucket, str]:
    """Return the bucket and the name that `gridfs://BUCKET/NAME` or a plain name means."""
    if not path.startswith(_PROTOCOL):
        return bucket, path
    name, _, rest = path.removeprefix(_PROTOCOL).partition("/")
    if not name:
        raise Stop(USAGE, f"{path} names no bucket: an address is {_PROTOCOL}BUCKET/NAME")
    return Bucket(bucket.database, name), rest


def _show(report: TransferReport, screen: Screen, done: str) -> int | None:
    """Print a report, and return the exit code."""
    if screen.as_json:
        screen.document(report.as_dict())
    else:
        files = "1 file" if report.transferred == 1 else f"{report.transferred} files"
        screen.line(f"{done} {files}, {readable_size(report.bytes)}")
        rows = [["differs", shown_id(each.id), each.filename or "", each.reason] for each in report.different]
        rows += [["failed", shown_id(each.id), each.filename or "", each.reason] for each in report.failed]
        screen.table({"OUTCOME": "left", "ID": "left", "NAME": "left", "WHAT IS WRONG": "left"}, rows)
        more = [f"{report.skipped} were there already"] if report.skipped else []
        more += [f"{report.removed} removed from the source"] if report.removed else []
        if more:
            screen.note(", ".join(more))
    return FOUND if report.failed else TAKEN if report.different else None


async def _end(report: TransferReport, source: Bucket, screen: Screen, done: str) -> int | None:
    """Print a report, and return the exit code: that of a missing file if there is no such bucket."""
    code = _show(report, screen, done)
    nothing = not (report.transferred or report.skipped or report.different or report.failed)
    if nothing and await source.store.files.find_one({}, {"_id": 1}) is None:
        return code if await name_other_buckets(source, screen) else MISSING
    return code


def _added(reports: Sequence[TransferReport]) -> TransferReport:
    total = TransferReport()
    for each in reports:
        total = replace(
            total,
            transferred=total.transferred + each.transferred,
            skipped=total.skipped + each.skipped,
            removed=total.removed + each.removed,
            bytes=total.bytes + each.bytes,
            different=total.different + each.different,
            failed=total.failed + each.failed,
        )
    return total


async def _newest(bucket: Bucket, prefix: str) -> AsyncGenerator[FileInfo, None]:
    """Yield the newest revision of each name that begins with a prefix, in the order of the names."""
    now = await server_now(bucket.store)
    query = query_of(prefix, ()) or {"filename": {"$type": "string"}}
    last: FileInfo | None = None
    # The index of the specification has this order.
    async for info in bucket.find(query, sort=[("filename", 1), ("uploadDate", 1)], batch_size=_FILES_AT_ONCE):
        if info.expired(now):
            continue
        if last is not None and last.filename != info.filename:
            yield last
        last = info
    if last is not None:
        yield last


def _renaming(old: str, new: str) -> tuple[Callable[[str], str], str]:
    """Return the function that makes new names of old ones, and the new name or prefix."""
    if old.endswith("/") or not old:
        new = f"{new.rstrip('/')}/" if new else ""
        return lambda name: new + name.removeprefix(old) if name.startswith(old) else name, new
    if new.endswith("/") or not new:
        new += PurePosixPath(old).name
    return lambda name: new if name == old else name, new


def _check_apart(old: str, new: str) -> None:
    if old == new or ((old.endswith("/") or not old) and new.startswith(old)):
        raise Stop(USAGE, f"{new or 'the bucket'} is the same place as {old or 'the bucket'}, or a part of it")


@command
@click.argument("source")
@click.argument("target")
def cp(source: str, target: str) -> Work:
    """Copy the newest revision of a file, or all files below a SOURCE that ends with a slash.

    SOURCE and TARGET are names in the bucket, or gridfs://BUCKET/NAME for another bucket of the database. The server
    copies the content. A file that has the new name already stays as an older revision. If it is interrupted, run it
    again.
    """

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        (source_bucket, old), (target_bucket, new) = _place(bucket, source), _place(bucket, target)
        rename, new_name = _renaming(old, new)
        if source_bucket == target_bucket:
            _check_apart(old, new_name)
        copy = partial(transfer_as, source_bucket, target_bucket, rename=rename, new_name=new_name, keep=("metadata",))
        with screen.bytes_bar("copying") as progress:
            async with aclosing(_groups(source_bucket, old)) as groups:
                reports = [await copy({"_id": {"$in": ids}}, progress=progress) async for ids in groups]
        if not reports:
            raise FileMissing(message=f"no file in {source_bucket.store!r} has a name that begins with {old!r}")
        return _show(_added(reports), screen, "copied")

    return work


async def _groups(bucket: Bucket, name: str) -> AsyncGenerator[list[object], None]:
    """Yield the ids of the newest revisions of a name, or of the names that begin with a prefix, in groups."""
    if name and not name.endswith("/"):
        yield [(await bucket.by_name(name)).id]
        return
    ids: list[object] = []
    async with aclosing(_newest(bucket, name)) as found:
        async for info in found:
            ids.append(info.id)
            if len(ids) == _FILES_AT_ONCE:
                yield ids
                ids = []
    if ids:
        yield ids


@command
@click.argument("source")
@click.argument("target")
def mv(source: str, target: str) -> Work:
    """Rename all revisions of a file, or all files below a SOURCE that ends with a slash.

    SOURCE and TARGET are as for cp. Into another bucket the files are transferred: ids and dates stay, and a file is
    removed from its source after the target was verified. If it is interrupted, run it again.
    """

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        (source_bucket, old), (target_bucket, new) = _place(bucket, source), _place(bucket, target)
        rename, new_name = _renaming(old, new)
        query = query_of(old, ()) if old.endswith("/") or not old else {"filename": old}
        if await source_bucket.store.files.find_one(query, {"_id": 1}) is None:
            raise FileMissing(message=f"no file in {source_bucket.store!r} has the name {old!r}")
        if source_bucket == target_bucket:
            _check_apart(old, new_name)
            await _rename(source_bucket, query, rename, screen)
            return None
        with screen.bytes_bar("moving") as progress:
            report = await transfer_as(
                source_bucket, target_bucket, query, rename=rename, delete=True, progress=progress
            )
        return _show(report, screen, "moved")

    return work


async def _rename(bucket: Bucket, query: Mapping[str, object], rename: Callable[[str], str], screen: Screen) -> None:
    count = 0
    async for info in bucket.find(query, batch_size=_FILES_AT_ONCE):
        if info.filename is not None:
            new = rename(info.filename)
            await bucket.rename(info.id, new)
            count += 1
            if screen.as_json:
                screen.document({"id": info.id, "from": info.filename, "to": new})
    if not screen.as_json:
        screen.line(f"renamed {count} files")


@command
@click.argument("source")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Only print what would be stored or written.")
def sync(source: str, target: str, dry_run: bool) -> Work:
    """Bring a folder and a bucket in line: SOURCE or TARGET is a folder, the other one is gridfs://BUCKET/PREFIX.

    Only files that are new or differ in length or SHA-256 are stored or written. Nothing is removed: a changed file
    becomes a new revision in the bucket. If it is interrupted, run it again.
    """
    if source.startswith(_PROTOCOL) == target.startswith(_PROTOCOL):
        raise click.UsageError(f"Exactly one of SOURCE and TARGET is an address such as {_PROTOCOL}fs/photos.")

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        inward = target.startswith(_PROTOCOL)
        address, folder = (target, Path(source)) if inward else (source, Path(target))
        there, prefix = _place(bucket, address)
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        if folder.exists() and not folder.is_dir():
            raise Stop(USAGE, f"{folder} is a file, and a folder is needed")
        if inward:
            return await _Sync(there, prefix, folder, screen, dry_run).store()
        return await _Sync(there, prefix, folder, screen, dry_run).write()

    return work


class _Sync:
    def __init__(self, bucket: Bucket, prefix: str, folder: Path, screen: Screen, dry_run: bool) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._folder = folder
        self._screen = screen
        self._dry_run = dry_run
        self._done = self._same = 0
        self._refused = 0

    async def store(self) -> int | None:
        """Store the files of the folder."""
        if not self._folder.is_dir():
            raise Stop(USAGE, f"{self._folder} is not a folder")
        for path in _files_in(self._folder):
            name = self._prefix + path.relative_to(self._folder).as_posix()
            try:
                info = (await self._bucket.by_name(name)).info
            except FileMissing:
                info = None
            if info is not None and await self._is_same(path, info):
                self._same += 1
                continue
            if not self._dry_run:
                with self._screen.bytes_bar(name) as progress:
                    await self._bucket.upload(path, filename=name, progress=progress)
            self._show("store", name, path.stat().st_size)
        return self._end("stored")

    async def write(self) -> int | None:
        """Write the newest files of the bucket to the folder."""
        root = self._folder.resolve()
        async with aclosing(_newest(self._bucket, self._prefix)) as found:
            async for info in found:
                name = (info.filename or "").removeprefix(self._prefix)
                path = self._folder / name
                if not name or safe_path(name, info.id) != name or not path.resolve().is_relative_to(root):
                    self._refused += 1
                    self._screen.note(f"{info.filename!r} is not a safe path in {self._folder}: export it", style="red")
                    continue
                if path.is_file() and await self._is_same(path, info):
                    self._same += 1
                    continue
                if not self._dry_run:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with self._screen.bytes_bar(name) as progress:
                        await self._bucket.file(info.id).save_to(path, progress)
                self._show("write", name, info.length)
        return self._end("written")

    async def _is_same(self, path: Path, info: FileInfo) -> bool:
        if await in_thread(partial(os.path.getsize, path)) != info.length:
            return False
        expected = info.sha256 or await hash_file(self._bucket.store, info)
        return await in_thread(partial(_digest, path)) == expected

    def _show(self, action: str, name: str, size: int) -> None:
        self._done += 1
        if self._screen.as_json:
            self._screen.document({"action": action, "name": name, "bytes": size, "dry_run": self._dry_run})
        else:
            self._screen.line(action, name, readable_size(size))

    def _end(self, done: str) -> int | None:
        verb = f"would be {done}" if self._dry_run else done
        self._screen.note(f"{self._done} files {verb}, {self._same} are the same")
        return USAGE if self._refused else None


def _files_in(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@command
@click.argument("prefix", default="")
@click.option("--to-uri", metavar="URI", help="The server of the target. Default: the same.")
@click.option("--to-db", metavar="NAME", help="The database of the target. Default: the one of the source.")
@click.option("--to-bucket", metavar="NAME", help="The bucket of the target. Default: the name of the source.")
@click.option("--delete", is_flag=True, help="Remove each file from the source after its target was verified.")
@where_option
def transfer(
    prefix: str, to_uri: str | None, to_db: str | None, to_bucket: str | None, delete: bool, where: _Where
) -> Work:
    """Copy files with their ids and dates to another bucket, database or server.

    Without a PREFIX all files. What is in the target already is skipped, and what differs there is listed and not
    changed. If it is interrupted, run it again.
    """
    if not (to_uri or to_db or to_bucket):
        raise click.UsageError("Give at least one of: --to-uri, --to-db, --to-bucket.")

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        client = Connection(uri=to_uri).client() if to_uri else None
        async with client or nullcontext(bucket.database.client) as there:
            here = bucket.database.name
            database = there.get_default_database(here) if to_uri and not to_db else there[to_db or here]
            target = Bucket(database, to_bucket or bucket.name)
            with screen.bytes_bar("transferring") as progress:
                report = await transfer_as(bucket, target, query_of(prefix, where), delete=delete, progress=progress)
        return await _end(report, bucket, screen, "transferred")

    return work


@command
@click.argument("target")
@click.argument("prefix", default="")
@where_option
def export(target: str, prefix: str, where: _Where) -> Work:
    """Write files to the folder or URL TARGET, with a manifest.jsonl from which import restores them.

    Without a PREFIX all files. Nothing in the folder is overwritten. If it is interrupted, run it again.
    """

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        with screen.bytes_bar("exporting") as progress:
            report = await export_files(bucket, target, query_of(prefix, where), progress=progress)
        return await _end(report, bucket, screen, "exported")

    return work


@command
@click.argument("source")
def import_(source: str) -> Work:
    """Store the files of an export, with the ids, the dates and the metadata of its manifest.jsonl.

    What is in the bucket already is skipped, and what differs there is listed and not changed. If it is interrupted,
    run it again.
    """

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        with screen.bytes_bar("importing") as progress:
            report = await import_files(source, bucket, progress=progress)
        return _show(report, screen, "imported")

    return work


@command
@click.argument("prefix", default="")
@click.option("--depth", type=click.IntRange(min=1), default=1, show_default=True, help="How many parts of names.")
@where_option
def du(prefix: str, depth: int, where: _Where) -> Work:
    """Show how many files and bytes there are below PREFIX, for each part of the names up to the next slash."""

    async def work(bucket: Bucket, screen: Screen) -> None:
        sizes: dict[str, list[int]] = {}
        level = prefix.count("/") + depth
        total = [0, 0]
        keys = {"filename": 1, "length": 1}
        async for record in bucket.store.files.find(query_of(prefix, where), keys):
            parts = str(record.get("filename") or "").split("/")
            size = record.get("length")
            tallies = [total]
            if len(parts) > prefix.count("/") + 1:
                tallies.append(sizes.setdefault("/".join(parts[: min(level, len(parts) - 1)]) + "/", [0, 0]))
            for tally in tallies:
                tally[0] += 1
                tally[1] += int(size) if isinstance(size, int | float) else 0
        found = [*sorted(sizes.items()), (prefix or "(all)", total)]
        if screen.as_json:
            for name, (files, size) in found:
                screen.document({"name": plain(name), "files": files, "bytes": size})
            return
        rows = [[readable_size(size), str(files), name] for name, (files, size) in found]
        screen.table({"SIZE": "right", "FILES": "right", "NAME": "left"}, rows)

    return work
