"""Checks of the options for sizes, types and pictures."""

from __future__ import annotations

import struct
import zlib

from gridproxy.errors import ContentTypeRefused, FileRefused, TooLarge

from .helpers import Helper, expect, raising


async def _too_large(helper: Helper) -> None:
    """Check that content above max_size is refused, put or assigned, and nothing is stored and the old file is kept."""
    document = await helper.saved(limited=b"the old")
    before = await helper.count_files_and_chunks()
    with raising("put of 1001 bytes", TooLarge):
        await document.limited.replace(b"a" * 1001)
    document.limited = b"b" * 1001
    try:
        await helper.harness.save(document)
    except FileRefused as refused:
        expect("the error's field", refused.field, "limited")
    else:
        raise AssertionError("a save of 1001 assigned bytes: expected FileRefused, but nothing was raised")
    expect("files and chunks", await helper.count_files_and_chunks(), before)
    document = await helper.reload(document)
    expect("read()", await document.limited.read(), b"the old")
    await document.limited.replace(b"c" * 1000)
    await helper.harness.save(document)
    expect("the file of 1000 bytes", (await (await helper.reload(document)).limited.stat()).length, 1000)


async def _wrong_type(helper: Helper) -> None:
    """Check that content whose first bytes do not match its declared type is refused, and nothing is stored."""
    document = helper.new()
    before = await helper.count_files_and_chunks()
    with raising("put of a PNG that is declared as text", ContentTypeRefused):
        await document.limited.put(_png(4, 4), filename="notes.txt")
    expect("files and chunks", await helper.count_files_and_chunks(), before)
    expect("bool(limited)", bool(document.limited), False)


async def _picture(helper: Helper) -> None:
    """Check that a picture has a width, a height and a thumbnail, and replacing it replaces the thumbnail."""
    document = await helper.reload(await helper.saved(portrait=_png(32, 16)))
    await document.portrait.stat()
    expect("width and height", (document.portrait.width, document.portrait.height), (32, 16))
    thumbnail = document.portrait.thumbnail
    await thumbnail.stat()
    expect("width and height of the thumbnail", (thumbnail.width, thumbnail.height), (8, 8))
    old_ids = [document.portrait.id, thumbnail.id]
    await document.portrait.replace(_png(16, 16))
    await helper.harness.save(document)
    expect("the old ones", [await helper.read(id) for id in old_ids], [None, None])
    document = await helper.reload(document)
    await document.portrait.stat()
    expect("the new width", document.portrait.width, 16)
    expect("the new thumbnail exists", await document.portrait.thumbnail.exists(), True)


def _png(width: int, height: int) -> bytes:
    """Return a grey picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


CHECKS = {
    "limits: too large": _too_large,
    "limits: of another type": _wrong_type,
    "pictures: with their thumbnail": _picture,
}
