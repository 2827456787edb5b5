"""What fields let in: sizes, types and pictures, by the same options in every ODM."""

from __future__ import annotations

import struct
import zlib

from gridproxy.errors import ContentTypeRefused, FileRefused, TooLarge

from .trial import Trial, expect, raising


async def _too_large(trial: Trial) -> None:
    """Content that is too large is refused at the byte, put or assigned; nothing is stored, and the old file stays."""
    document = await trial.stored(limited=b"the old")
    before = await trial.files_and_chunks()
    with raising("put of 1001 bytes", TooLarge):
        await document.limited.replace(b"a" * 1001)
    document.limited = b"b" * 1001
    try:
        await trial.harness.save(document)
    except FileRefused as refused:
        expect("the error's field", refused.field, "limited")
    else:
        raise AssertionError("a save of 1001 assigned bytes: FileRefused was expected, and nothing was raised")
    expect("files and chunks", await trial.files_and_chunks(), before)
    document = await trial.again(document)
    expect("read()", await document.limited.read(), b"the old")
    await document.limited.replace(b"c" * 1000)
    await trial.harness.save(document)
    expect("the file of 1000 bytes", (await (await trial.again(document)).limited.stat()).length, 1000)


async def _wrong_type(trial: Trial) -> None:
    """Content whose first bytes are not of the type that it is called is refused, and nothing is stored."""
    document = trial.new()
    before = await trial.files_and_chunks()
    with raising("put of a PNG that is called text", ContentTypeRefused):
        await document.limited.put(_png(4, 4), filename="notes.txt")
    expect("files and chunks", await trial.files_and_chunks(), before)
    expect("whether the field holds a file", bool(document.limited), False)


async def _picture(trial: Trial) -> None:
    """A picture knows its size, has a thumbnail, and takes it along when it is replaced."""
    document = await trial.again(await trial.stored(portrait=_png(32, 16)))
    await document.portrait.stat()
    expect("width and height", (document.portrait.width, document.portrait.height), (32, 16))
    thumbnail = document.portrait.thumbnail
    await thumbnail.stat()
    expect("those of the thumbnail", (thumbnail.width, thumbnail.height), (8, 8))
    gone = [document.portrait.id, thumbnail.id]
    await document.portrait.replace(_png(16, 16))
    await trial.harness.save(document)
    expect("the old ones", [await trial.bytes_in(id) for id in gone], [None, None])
    document = await trial.again(document)
    await document.portrait.stat()
    expect("the new width", document.portrait.width, 16)
    expect("whether there is a new thumbnail", await document.portrait.thumbnail.exists(), True)


def _png(width: int, height: int) -> bytes:
    """A grey picture."""

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
