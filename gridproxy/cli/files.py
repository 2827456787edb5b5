"""Commands on files: ls, stat, put, get, rm."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import click
from pymongo.errors import OperationFailure

from gridproxy.bucket import Bucket
from gridproxy.errors import CorruptFile
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.upkeep.bucket_scanner import Orphan, open_scanner

from .arguments import command, duration, id_of, one_of, pair, query_of, where_option
from .running import MISSING, TAKEN, USAGE, Stop, Work
from .screen import Screen, file_document, readable_size, shown_id


@command
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The largest number of files.")
@click.option(
    "--sort",
    default="filename",
    show_default=True,
    metavar="KEY",
    help="A key of the record, or -KEY for descending order.",
)
@where_option
def ls(prefix: str, limit: int | None, sort: str, where: Sequence[tuple[str, str]]) -> Work:
    """List the files, or only those whose names begin with PREFIX."""

    async def work(bucket: Bucket, screen: Screen) -> None:
        query = query_of(prefix, where)
        rows, styles, size, damaged = [], [], 0, 0
        files = bucket.find(query, sort=sort, limit=limit or 0)
        while True:
            try:
                info = await anext(files, None)
            except CorruptFile as error:
                if screen.as_json:
                    screen.document({"id": error.id, "damaged": error.reason})
                    continue
                rows.append([shown_id(error.id), "", "", "", f"(damaged: {error.reason})"])
                styles.append("red")
                damaged += 1
                continue
            if info is None:
                break
            if screen.as_json:
                screen.document(file_document(info))
                continue
            rows.append(_row(info))
            styles.append("dim" if info.expired() else "")
            size += info.length
        columns = {"ID": "left", "SIZE": "right", "UPLOADED": "left", "TYPE": "left", "NAME": "left"}
        screen.table(columns, rows, styles)
        warning = f", {damaged} of them damaged: see `gridproxy check`" if damaged else ""
        screen.note(f"{len(rows)} files, {readable_size(size)}{warning}")
        if not rows and not screen.as_json and await bucket.store.files.find_one({}, {"_id": 1}) is None:
            await name_other_buckets(bucket, screen)

    return work


async def name_other_buckets(bucket: Bucket, screen: Screen) -> bool:
    """Say which buckets the database has beside an empty one. Return whether the empty one exists."""
    try:
        collections = await bucket.database.list_collection_names()
    except OperationFailure:  # the user may not list them
        return True
    others = sorted(name.removesuffix(".files") for name in collections if name.endswith(".files"))
    if others := [name for name in others if name != bucket.name]:
        screen.note(
            f"the bucket {bucket.name} is empty. Other buckets in the database {bucket.database.name}: "
            f"{', '.join(others)}. Use --bucket NAME"
        )
    return f"{bucket.name}.files" in collections


def _row(info: FileInfo) -> list[str]:
    uploaded = "" if info.upload_date is None else f"{info.upload_date:%Y-%m-%d %H:%M}"
    name = (info.filename or "") + (" (expired)" if info.expired() else "")
    return [shown_id(info.id), readable_size(info.length), uploaded, info.content_type or "", name]


@command
@click.argument("id", type=id_of, required=False)
@click.option("--name", metavar="FILENAME", help="The newest file of this name, instead of an id.")
def stat(id: object, name: str | None) -> Work:
    """Show the record of a file."""
    one_of(ID=id is not None, **{"--name": name is not None})

    async def work(bucket: Bucket, screen: Screen) -> None:
        info = await bucket.stat(id if name is None else (await bucket.by_name(name)).id)
        document = file_document(info)
        if screen.as_json:
            screen.document(document)
            return
        metadata = document.pop("metadata")
        values = {key: value for key, value in document.items() if value is not None}
        own = {key: value for key, value in metadata.items() if key not in ("sha256", "content_type")}
        values |= {f"metadata.{key}": value for key, value in own.items()}
        screen.fields({key: shown_id(value) for key, value in values.items()})

    return work


@command
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", metavar="FILENAME", help="The file's name. Default: the base name of the source.")
@click.option("--content-type", metavar="TYPE", help="The media type. Default: derived from the name.")
@click.option(
    "--meta",
    "metadata",
    multiple=True,
    type=pair,
    metavar="KEY=VALUE",
    help="A key of the metadata and its text. Repeatable.",
)
@click.option("--id", "id", type=id_of, metavar="ID", help="The id. Default: a new one.")
@click.option("--chunk-size", type=int, metavar="BYTES", help="The size of a chunk. Default: 261120 (255 KiB).")
@click.option("--expires-after", type=duration, help="When the file expires: 90s, 30m, 12h, 1d, 1w.")
def put(
    sources: Sequence[str], name: str | None, id: object, metadata: Sequence[tuple[str, str]], **options: Any
) -> Work:
    """Store files. - is stdin. An interrupted upload leaves no incomplete file."""
    if len(sources) > 1 and (id is not None or name is not None):
        raise click.UsageError("--id and --name need exactly one source.")

    async def work(bucket: Bucket, screen: Screen) -> None:
        for source in sources:
            content = _stdin() if source == "-" else Path(source)
            with screen.bytes_bar("stdin" if source == "-" else PurePosixPath(source).name) as progress:
                info = await bucket.upload(
                    content, filename=name, id=id, metadata=dict(metadata), progress=progress, **options
                )
            if screen.as_json:
                screen.document(file_document(info))
            else:
                screen.line(shown_id(info.id), readable_size(info.length), info.filename or "")

    return work


def _stdin() -> SourceLike:
    try:
        return _blocks_of(sys.stdin.fileno())
    except OSError:  # Stdin may be an object of Python without a descriptor.
        return sys.stdin.buffer


async def _blocks_of(descriptor: int) -> AsyncIterator[bytes]:
    """Read blocks in a daemon thread, so that an interrupted command does not wait for input."""
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=4)

    def read() -> None:
        # The loop may be closed already.
        with suppress(RuntimeError, CancelledError):
            while True:
                try:
                    block: bytes | OSError = os.read(descriptor, 1 << 20)
                except OSError as error:
                    block = error
                asyncio.run_coroutine_threadsafe(blocks.put(block), loop).result()
                if not block or isinstance(block, OSError):
                    return

    threading.Thread(target=read, daemon=True).start()
    while block := await blocks.get():
        if isinstance(block, OSError):
            raise block
        yield block


@command
@click.argument("id_or_destination", nargs=-1, metavar="[ID] [DESTINATION]")
@click.option("--name", metavar="FILENAME", help="The file of this name, instead of an id.")
@click.option(
    "--revision",
    type=int,
    default=-1,
    show_default=True,
    help="The revision of the name: 0 is the oldest, -1 the newest.",
)
def get(id_or_destination: Sequence[str], name: str | None, revision: int) -> Work:
    """Write a file to DESTINATION. - is stdout.

    Without a DESTINATION the file is written to the current folder under its own name, unless that name exists. A
    dash at its beginning becomes an underscore. The destination is renamed from a temporary file, so it is never
    incomplete.
    """
    rest = list(id_or_destination)
    id = id_of(rest.pop(0)) if name is None and rest else None
    one_of(ID=id is not None, **{"--name": name is not None})
    if len(rest) > 1:
        raise click.UsageError("Give at most one DESTINATION.")

    async def work(bucket: Bucket, screen: Screen) -> None:
        file = bucket.file(id) if name is None else await bucket.by_name(name, revision)
        info = await file.stat()
        to_stdout = rest == ["-"]
        path = rest[0] if rest else _own_name(info)
        with screen.bytes_bar(info.filename or shown_id(info.id), beside_bytes=to_stdout) as progress:
            await file.save_to(sys.stdout.buffer if to_stdout else path, progress)
        if to_stdout:
            sys.stdout.buffer.flush()
        elif screen.as_json:
            screen.document({**file_document(info), "path": path})
        else:
            screen.line(path, readable_size(info.length))

    return work


def _own_name(info: FileInfo) -> str:
    # Another client chose the name, so it must not lead to another folder or to an existing file.
    name = PurePosixPath((info.filename or "").replace("\\", "/")).name or shown_id(info.id)
    if name.startswith("-"):  # `tar *` and others would take it for an option
        name = f"_{name.lstrip('-')}"
    # Refuse hidden files, which a shell may execute, control characters, and drives of Windows.
    if name.startswith(".") or Path(name).name != name or not name.isprintable():
        raise Stop(USAGE, f"the name {info.filename!r} cannot be used for a local file: give a DESTINATION")
    if os.path.lexists(name):  # This is also true for a broken link.
        raise Stop(USAGE, f"{name} exists already: give a DESTINATION to overwrite it")
    return name


@command
@click.argument("ids", nargs=-1, type=id_of)
@click.option("--name", "names", multiple=True, metavar="FILENAME", help="The newest file of this name. Repeatable.")
def cat(ids: Sequence[object], names: Sequence[str]) -> Work:
    """Write the contents of files to stdout, one after the other."""
    if not ids and not names:
        raise click.UsageError("Give at least one of: IDS, --name.")

    async def work(bucket: Bucket, screen: Screen) -> None:
        files = [bucket.file(id) for id in ids] + [await bucket.by_name(name) for name in names]
        for info in [await file.stat() for file in files]:
            with screen.bytes_bar(info.filename or shown_id(info.id), beside_bytes=True) as progress:
                await bucket.file(info.id).save_to(sys.stdout.buffer, progress)
        sys.stdout.buffer.flush()

    return work


@command
@click.argument("ids", nargs=-1, type=id_of)
@click.option("--name", metavar="FILENAME", help="Remove every revision of this name, instead of ids.")
@click.option("--force", is_flag=True, help="Also remove chunks that may belong to a running upload.")
def rm(ids: Sequence[object], name: str | None, force: bool) -> Work:
    """Remove files.

    Chunks of an ID without a file are removed, too, unless they are younger than an hour and may belong to a running
    upload.
    """
    one_of(IDS=ids, **{"--name": name is not None})

    async def work(bucket: Bucket, screen: Screen) -> int | None:
        files = 0 if name is None else await bucket.delete_by_name(name)
        missing: list[object] = []
        removed: list[Orphan] = []
        refused: list[Orphan] = []
        async with open_scanner(bucket.store) as scanner:
            for id in ids:
                if await scanner.is_stored(id):
                    files += await bucket.delete_many([id])
                    continue
                orphan = next(iter(await scanner.orphans_among([id])), None)
                if orphan is None:
                    missing.append(id)
                elif not force and (orphan.since is None or orphan.is_young(await scanner.server_time())):
                    refused.append(orphan)
                else:
                    await bucket.discard(id)
                    removed.append(orphan)
        _show_removal(screen, files, missing, removed, refused)
        return TAKEN if refused else MISSING if missing else None

    return work


def _show_removal(
    screen: Screen, files: int, missing: list[object], removed: list[Orphan], refused: list[Orphan]
) -> None:
    if screen.as_json:
        document: dict[str, Any] = {"removed": files, "missing": missing}
        for key, orphans in (("orphans", removed), ("refused", refused)):
            if orphans:
                document[key] = [{"id": each.id, "chunks": each.chunks, "bytes": each.bytes} for each in orphans]
        screen.document(document)
        return
    if files or not removed:
        screen.line(f"removed {files} {'file' if files == 1 else 'files'}")
    for orphan in removed:
        screen.line(f"removed {_describe(orphan)}, under the id {shown_id(orphan.id)}")
    for id in missing:
        screen.note(f"no file is stored under the id {id!r}. For a filename, use --name", style="red")
    for orphan in refused:
        found = f"no file is stored under the id {shown_id(orphan.id)}, but {_describe(orphan)}"
        advice = "They were kept because an upload may be running. To remove them, use `gridproxy rm --force ID`"
        later = "" if orphan.since is None else ", or `gridproxy gc --delete` once they are old enough"
        screen.note(f"{found}. {advice}{later}", style="red")


def _describe(orphan: Orphan) -> str:
    return f"{orphan.describe()} ({readable_size(orphan.bytes)})"
