"""The quickstart, section by section, on real pictures and a real server.

    pip install 'gridproxy-mongo[examples]'
    python examples/marmot.py [megabytes of the last section, default 200]

Uses the server that MONGODB_URI names, else an embedded one for this run.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from pymongo import AsyncMongoClient
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

import gridproxy
from gridproxy.adapters.document import Document, FileField, StringField
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri

console = Console(highlight=False)
MIB = 1024 * 1024


class Animal(Document):
    genus = StringField()
    family = StringField()
    photo = FileField()


def draw_marmot(fur: str) -> Image.Image:
    """Draw a marmot on its meadow, out of ellipses."""
    picture = Image.new("RGB", (1600, 1200), "#9fc5e8")
    draw = ImageDraw.Draw(picture)
    for x in range(0, 1600, 4):
        ridge = 620 + 90 * math.sin(x / 170) + 40 * math.sin(x / 53)
        draw.rectangle((x, ridge, x + 4, 1200), fill=(96, 140 + x % 40, 70))
    draw.ellipse((520, 430, 1080, 1150), fill=fur)
    draw.ellipse((600, 230, 1000, 600), fill=fur)
    for ear in (620, 900):
        draw.ellipse((ear, 220, ear + 80, 310), fill=fur, outline="#4a3423", width=6)
    for eye in (690, 850):
        draw.ellipse((eye, 360, eye + 48, 408), fill="#1b1b1b")
    draw.ellipse((760, 450, 840, 505), fill="#3b2a20")
    draw.rectangle((775, 520, 825, 570), fill="#fdf6e3", outline="#4a3423")
    return picture


def section(number: int, title: str, words: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/bold]  [dim]{words}[/dim]")


def say(call: str, result: object) -> None:
    console.print(f"   [cyan]{call}[/cyan]\n      → {result}")


async def writing(folder: Path) -> None:
    section(1, "Writing", "a real JPEG is stored, its document is saved")
    marmot = Animal(genus="Marmota", family="Sciuridae")
    with open(folder / "marmot.jpg", "rb") as marmot_photo:
        await marmot.photo.put(marmot_photo, content_type="image/jpeg")
    await marmot.save()
    say("await marmot.photo.put(marmot_photo, content_type='image/jpeg')", f"{marmot.photo.length:,} bytes stored")
    say("await marmot.save()", f"the document holds the file's id, {marmot.photo.id}")


async def reading() -> None:
    section(2, "Retrieval", "the document is loaded, and its picture with it")
    marmot = await Animal.objects(genus="Marmota").get()
    photo = await marmot.photo.read()
    content_type = marmot.photo.metadata["content_type"]
    picture = Image.open(io.BytesIO(photo))
    say("await marmot.photo.read()", f"{len(photo):,} bytes: a {picture.format} of {picture.width} x {picture.height}")
    say("marmot.photo.metadata['content_type']", content_type)
    head = await marmot.photo.read_range(0, 3)
    say("await marmot.photo.read_range(0, 3)", f"{head.hex(' ')}: what every JPEG starts with")
    await marmot.photo.verify()
    say("await marmot.photo.verify()", f"SHA-256 {str(marmot.photo.sha256)[:16]}… is that of the stored bytes")


async def incremental() -> None:
    section(3, "Writing bit by bit", "the file is stored by close(), or not at all")
    marmot = Animal(genus="Marmota", family="incremental")
    await marmot.photo.new_file()
    await marmot.photo.write("some_image_data")
    await marmot.photo.write("some_more_image_data")
    await marmot.photo.close()
    await marmot.save()
    say("new_file(), write(), write(), close()", await marmot.photo.read())

    other = Animal(genus="Marmota", family="context manager")
    async with other.photo.new_file():
        other.photo.write(b"some-data")
    await other.save()
    say("async with other.photo.new_file(): other.photo.write(b'some-data')", await other.photo.read())

    broken = Animal(genus="Marmota", family="interrupted")
    try:
        async with broken.photo.new_file():
            await broken.photo.write(os.urandom(10 * MIB))
            raise ConnectionResetError("the client went away")
    except ConnectionResetError as error:
        say(f"…and after '{error}', 10 MB in", f"{broken.photo!r}: nothing was stored, nothing is left")


async def deletion() -> None:
    section(4, "Deletion", "the file is removed, and the field is empty")
    marmot = await Animal.objects(family="incremental").get()
    await marmot.photo.delete()
    await marmot.save()
    say("await marmot.photo.delete()", f"{marmot.photo!r}")


async def replacing(folder: Path) -> None:
    section(5, "Replacing", "the old file is removed after the document was saved")
    marmot = await Animal.objects(family="Sciuridae").get()
    old = gridproxy.AsyncGridFile(marmot.photo.id)
    with open(folder / "another_marmot.png", "rb") as another_marmot:
        await marmot.photo.replace(another_marmot, content_type="image/png")
    say("await marmot.photo.replace(another_marmot, …)", f"before save(): is the old file there? {await old.exists()}")
    await marmot.save()
    say("await marmot.save()", f"after save(): is the old file there? {await old.exists()}")


async def blocks(megabytes: int) -> AsyncIterator[bytes]:
    """Yield bytes that are never in memory as a whole."""
    noise = os.urandom(MIB)
    for number in range(megabytes):
        yield number.to_bytes(8) + noise[8:]


async def large(megabytes: int) -> None:
    section(6, "Something large", f"{megabytes} MB out of an async generator, in bounded memory")
    file = gridproxy.AsyncGridFile()
    columns = TextColumn("   {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("put", total=megabytes * MIB)
        await file.put(
            blocks(megabytes),
            filename="large.bin",
            progress=lambda done, _: bar.update(task, completed=done),
        )
        task = bar.add_task("stream", total=file.length)
        async for block in file:
            bar.advance(task, len(block))

    middle = megabytes // 2 * MIB
    started = time.perf_counter()
    some = await file.read_range(middle, middle + 8)
    took = (time.perf_counter() - started) * 1000
    say(
        f"await file.read_range({middle}, {middle + 8})", f"block {int.from_bytes(some)}, {took:.1f} ms: one chunk read"
    )
    await file.delete()


async def left(database: Any) -> None:
    table = Table(
        "collection", "documents", "what they are", title="\nWhat is left in the database", title_justify="left"
    )
    table.add_row("animal", str(await database.animal.count_documents({})), "the documents")
    table.add_row("fs.files", str(await database.fs.files.count_documents({})), "one record for each stored file")
    known = [info.id async for info in gridproxy.Bucket(database).find()]
    orphans = await database.fs.chunks.count_documents({"files_id": {"$nin": known}})
    table.add_row("fs.chunks", str(await database.fs.chunks.count_documents({})), f"of them without a file: {orphans}")
    console.print()
    console.print(table)


async def run(uri: str, megabytes: int) -> None:
    async with AsyncMongoClient[Any](uri) as client:
        database = client[f"gridproxy_marmot_{uuid.uuid4().hex[:8]}"]
        try:
            with tempfile.TemporaryDirectory() as name, gridproxy.using(database):
                folder = Path(name)
                draw_marmot("#8a6642").save(folder / "marmot.jpg", quality=90)
                draw_marmot("#b08d57").save(folder / "another_marmot.png")
                await writing(folder)
                await reading()
                await incremental()
                await deletion()
                await replacing(folder)
                await large(megabytes)
                await left(database)
        finally:
            await client.drop_database(database)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    try:
        with server_uri() as (uri, label):
            console.print(f"[dim]server: {label}[/dim]")
            asyncio.run(run(uri, megabytes))
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server to run on: {error}")
    console.print("\n[green]All of the quickstart ran.[/green] Its code: examples/marmot.py")


if __name__ == "__main__":
    main()
