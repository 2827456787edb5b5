"""Commands on files: ls, stat, put, get."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import click

from gridproxy.bucket import Bucket
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload.sources import SourceLike

from .arguments import STDIO, command, duration, id_of, one_of, pair
from .running import USAGE, Stop, Work
from .screen import Screen, file_document, readable_size, shown_id

# Listing


@command
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many files at most.")
@click.option(
    "--sort", default="filename", show_default=True, metavar="KEY", help="A key of the record; -KEY for downwards."
)
def ls(prefix: str, limit: int | None, sort: str) -> Work:
    """List the files, or those whose names begin with PREFIX."""

    async def work(bucket: Bucket, screen: Screen) -> None:
        query = {"filename": {"$regex": f"^{re.escape(prefix)}"}} if prefix else {}
        rows, styles, size = [], [], 0
        async for info in bucket.find(query, sort=sort, limit=limit or 0):
            if screen.as_json:
                screen.document(file_document(info))
                continue
            rows.append(_row(info))
            styles.append("dim" if info.expired() else "")
            size += info.length
        if not screen.as_json:
            screen.table(
                {"ID": "left", "SIZE": "right", "UPLOADED": "left", "TYPE": "left", "NAME": "left"}, rows, styles
            )
            screen.note(f"{len(rows)} files, {readable_size(size)}")

    return work


def _row(info: FileInfo) -> list[str]:
    uploaded = "" if info.upload_date is None else f"{info.upload_date:%Y-%m-%d %H:%M}"
    name = "" if info.filename is None else info.filename
    expired = " (expired)" if info.expired() else ""
    return [shown_id(info.id), readable_size(info.length), uploaded, info.content_type or "", name + expired]


@command
@click.argument("id", type=id_of, required=False)
@click.option("--name", metavar="FILENAME", help="The newest file of this name, instead of an id.")
def stat(id: object, name: str | None) -> Work:
    """Show one file's record."""
    one_of(ID=id is not None, **{"--name": name is not None})

    async def work(bucket: Bucket, screen: Screen) -> None:
        info = await bucket.stat(await _id_of(bucket, id, name))
        document = file_document(info)
        if screen.as_json:
            screen.document(document)
            return
        metadata = document.pop("metadata")
        values = {key: value for key, value in document.items() if value is not None}
        values.update(
            {f"metadata.{key}": value for key, value in metadata.items() if key not in ("sha256", "content_type")}
        )
        screen.fields({key: shown_id(value) for key, value in values.items()})

    return work


async def _id_of(bucket: Bucket, id: object, name: str | None) -> object:
    return id if name is None else (await bucket.by_name(name)).id


# In and out


@command
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", metavar="FILENAME", help="The file's name; default: the base name of the source.")
@click.option("--content-type", metavar="TYPE", help="Default: a guess by the name.")
@click.option(
    "--meta",
    "metadata",
    multiple=True,
    type=pair,
    metavar="KEY=VALUE",
    help="A key of the metadata and its text; repeatable.",
)
@click.option("--id", "id", type=id_of, metavar="ID", help="The id; default: a new one.")
@click.option("--chunk-size", type=int, metavar="BYTES", help="Default: 261120 (255 KiB).")
@click.option("--expires-after", type=duration, help="When the file expires: 90s, 30m, 12h, 1d, 1w.")
def put(
    sources: Sequence[str], name: str | None, id: object, metadata: Sequence[tuple[str, str]], **options: Any
) -> Work:
    """Store files; - is stdin.  A file is there whole or not at all."""
    if len(sources) > 1 and (id is not None or name is not None):
        raise click.UsageError("--id and --name are for one source.")

    async def work(bucket: Bucket, screen: Screen) -> None:
        for source in sources:
            content = _stdin() if source == STDIO else Path(source)
            with screen.bytes_bar("stdin" if source == STDIO else PurePosixPath(source).name) as progress:
                info = await bucket.upload(
                    content, filename=name, id=id, metadata=dict(metadata), progress=progress, **options
                )
            if screen.as_json:
                screen.document(file_document(info))
            else:
                screen.line(shown_id(info.id), readable_size(info.length), info.filename or "")

    return work


def _stdin() -> SourceLike:
    stream: BinaryIO = sys.stdin.buffer
    try:
        descriptor = stream.fileno()
    except (OSError, io.UnsupportedOperation):
        return stream
    return _blocks_of(descriptor)


async def _blocks_of(descriptor: int) -> AsyncIterator[bytes]:
    """What can be read, by a thread that nobody has to wait for: an interrupted command must not hang on a terminal."""
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=4)

    def read() -> None:
        # Where the loop is over, nobody wants to know any more.
        with suppress(RuntimeError, CancelledError):
            while True:
                block = _read(descriptor)
                asyncio.run_coroutine_threadsafe(blocks.put(block), loop).result()
                if not block or isinstance(block, OSError):
                    return

    threading.Thread(target=read, daemon=True).start()
    while block := await blocks.get():
        if isinstance(block, OSError):
            raise block
        yield block


def _read(descriptor: int) -> bytes | OSError:
    try:
        return os.read(descriptor, 1 << 20)
    except OSError as error:
        return error


@command
@click.argument("id_or_destination", nargs=-1, metavar="[ID] [DESTINATION]")
@click.option("--name", metavar="FILENAME", help="The file of this name, instead of an id.")
@click.option("--revision", type=int, default=-1, show_default=True, help="Of a name: 0 is the oldest, -1 the newest.")
def get(id_or_destination: Sequence[str], name: str | None, revision: int) -> Work:
    """Write a file to DESTINATION; - is stdout.

    Without one it goes into this folder under its own name, and never over a file that is there.  Nobody sees half a
    file: it is written beside, and renamed when it is whole.
    """
    rest = list(id_or_destination)
    id = id_of(rest.pop(0)) if name is None and rest else None
    one_of(ID=id is not None, **{"--name": name is not None})
    if len(rest) > 1:
        raise click.UsageError("One destination is enough.")

    async def work(bucket: Bucket, screen: Screen) -> None:
        file = bucket.file(id) if name is None else await bucket.by_name(name, revision)
        info = await file.stat()
        if rest and rest[0] == STDIO:
            sink: str | BinaryIO = sys.stdout.buffer
        else:
            sink = rest[0] if rest else _own_name(info)
        to_stdout = not isinstance(sink, str)
        with screen.bytes_bar(info.filename or shown_id(info.id), beside_bytes=to_stdout) as progress:
            await file.save_to(sink, progress)
        if isinstance(sink, str):
            if screen.as_json:
                screen.document({**file_document(info), "path": sink})
            else:
                screen.line(sink, readable_size(info.length))
        else:
            sink.flush()

    return work


def _own_name(info: FileInfo) -> str:
    # The name is somebody else's: it leads to no other folder, and over no file.
    name = PurePosixPath((info.filename or "").replace("\\", "/")).name or shown_id(info.id)
    # Nor is it to be one that a shell, or whoever else comes by, reads at its start, or that a terminal obeys. On
    # Windows a colon leads elsewhere.
    if name.startswith(".") or Path(name).name != name or not name.isprintable():
        raise Stop(USAGE, f"the file's name {info.filename!r} is none for a file here: give a DESTINATION")
    if os.path.lexists(name):  # a link that leads to nothing leads somewhere all the same
        raise Stop(USAGE, f"{name} is there already: give a DESTINATION to write over it")
    return name
