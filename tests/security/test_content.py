"""Content that was made to cost more than it weighs, and many who send too much at once."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from PIL import Image
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import AsyncGridFile, Bucket, ContentTypeRefused, FileOptions, ImageOptions, PictureRefused, TooLarge
from gridproxy.gridfs.content import decoding
from gridproxy.gridfs.content.sniffing import HEAD_BYTES, sniff
from gridproxy.gridfs.operations import pictures
from tests.observing import contents

Database = AsyncDatabase[dict[str, Any]]

# Sniffing: on the loop, so nothing may make it slow


@pytest.mark.parametrize(
    "piece",
    [
        "<!---->",
        "<!-- -->\n",
        "<?x?>",
        "<!x>",
        "<!--",
        "<",
        " ",
        "\n\t",
        "<?",
        "<a:",
        "--> <!--",
        "[",
        '"',
        "PK\x03\x04",
        "\x00",
    ],
    ids=repr,
)
def test_no_beginning_of_a_file_makes_sniffing_slow(piece: str) -> None:
    """Run in a separate process, because nothing else can stop a slow regular expression."""
    code = f"from gridproxy.gridfs.content.sniffing import sniff; sniff(({piece!r} * 65536)[:{HEAD_BYTES}].encode())"
    if piece == "<!---->":
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    sniff((piece * 20 + "x").encode())
    sniff((piece * 65536)[:HEAD_BYTES].encode())


@pytest.mark.parametrize(
    "content",
    [
        b"<!-- a --> <!-- b -->\n<html>",
        b"\xef\xbb\xbf  <!DOCTYPE html>",
        b"<script>alert(1)</script>",
        b'<?xml version="1.0"?><!DOCTYPE svg><svg onload="alert(1)">',
        b"<!-- x --><svg/onload=alert(1)>",
        b"<iframe src=x>",
        "<html>".encode("utf-16"),
        b"\n\n\t<BODY onload=x>",
    ],
)
async def test_markup_that_calls_itself_something_else_is_refused(
    bucket: Bucket, database: Database, content: bytes
) -> None:
    for declared in ("image/png", "text/plain", "application/pdf", "video/mp4", "text/csv", "image/x-unheard-of"):
        options = FileOptions(
            bucket=bucket, content_types=["image/*", "video/*", "text/plain", "text/csv", "application/pdf"]
        )
        with pytest.raises(ContentTypeRefused):
            await AsyncGridFile(options=options).put(content, content_type=declared, filename="a.png")
    assert await contents(database) == (0, 0)


# Pictures


def a_gif(frames: int) -> bytes:
    """Frames of one pixel, 15 bytes each."""
    start = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return start + frame * frames + b"\x3b"


def a_png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """One that says so many pixels, and has none of them."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def a_tiff(pages: int) -> bytes:
    """Build pages of one pixel, of which the last points to the first."""
    entries = [
        (256, 4, 1, 1),
        (257, 4, 1, 1),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 4, 1, 1),
        (279, 4, 1, 1),
    ]
    size = 2 + 12 * len(entries) + 4
    out = b"II*\x00" + struct.pack("<I", 16) + bytes(8)
    for page in range(pages):
        after = 16 + size * (page + 1) if page + 1 < pages else 16
        out += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
        out += struct.pack("<I", after)
    return out


def an_apng(frames: int) -> bytes:
    """One that says so many frames."""
    target = BytesIO()
    first = Image.new("RGB", (4, 4))
    first.save(target, "PNG", save_all=True, append_images=[Image.new("RGB", (4, 4), "red")])
    data = target.getvalue()
    at = data.index(b"acTL")
    told = b"acTL" + struct.pack(">II", frames, 0)
    return data[:at] + told + struct.pack(">I", zlib.crc32(told)) + data[at + 16 :]


ZIPPED = zlib.compress(bytes(50_000_000), 9)
BOMBS = {
    "a GIF of 200 000 frames": a_gif(200_000),
    "an APNG of 2 000 000 000 frames": an_apng(2_000_000_000),
    "a PNG of a terapixel": a_png(1_000_000, 1_000_000),
    "a PNG a pixel high": a_png(2**31 - 1, 1),
    "a PNG with a text of 50 MB": a_png(1, 1, (b"zTXt", b"a\0\0" + ZIPPED)),
    "a PNG with a profile of 50 MB": a_png(1, 1, (b"iCCP", b"a\0\0" + ZIPPED)),
    "a BMP of a terapixel": b"BM"
    + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 1_000_000, 1_000_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "a TIFF cut off in its pages": a_tiff(3)[:-40],
    "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "a picture in name alone": b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_pictures_that_are_bombs(bucket: Bucket, database: Database, name: str) -> None:
    options = FileOptions(bucket=bucket, image=ImageOptions(thumbnail_size=(10, 10), variants={"small": (2, 2)}))
    with pytest.raises(PictureRefused):
        await AsyncGridFile(options=options).put(BOMBS[name], filename="a.png")
    assert await contents(database) == (0, 0)


async def test_an_animation_within_the_limit_is_kept(bucket: Bucket) -> None:
    options = FileOptions(bucket=bucket, image=ImageOptions(thumbnail_size=(1, 1), max_frames=10))
    file = AsyncGridFile(options=options)
    await file.put(a_gif(10))
    assert (file.width, file.format, await file.read()) == (1, "GIF", a_gif(10))
    with pytest.raises(PictureRefused, match="more than 10 frames") as caught:
        await AsyncGridFile(options=options).put(a_gif(11))
    assert (caught.value.limit, caught.value.actual) == (10, 11)


async def test_no_more_pictures_are_decoded_at_once_than_there_are_processors(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.store.state.decoding.threads = asyncio.Semaphore(2)
    target = BytesIO()
    Image.new("RGB", (4, 4)).save(target, "PNG")
    make, at_once, most = decoding.make, 0, 0

    def counted(*arguments: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return make(*arguments)
        finally:
            at_once -= 1

    monkeypatch.setattr(decoding, "make", counted)
    options = FileOptions(bucket=bucket, image=ImageOptions())
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(AsyncGridFile(options=options).put, target.getvalue())
    assert 1 <= most <= 2


# Size


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(50_000)
        await anyio.lowlevel.checkpoint()


async def test_many_endless_uploads_at_once_end_at_their_limit(bucket: Bucket, database: Database) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        async for block in endless():
            taken += len(block)
            yield block

    async def attack() -> None:
        with pytest.raises(TooLarge):
            await AsyncGridFile(options=FileOptions(bucket=bucket, max_size=600_000)).put(counted())

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(attack)
    assert taken == 30 * 650_000  # each was read to the block that is too much, and no further
    assert await contents(database) == (0, 0)


async def test_a_field_of_pictures_takes_no_endless_source(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 1_000_000)
    with pytest.raises(TooLarge):
        await AsyncGridFile(options=FileOptions(bucket=bucket, image=ImageOptions())).put(endless())
    assert await contents(database) == (0, 0)
