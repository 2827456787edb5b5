"""Reads the size of a picture from its first bytes, to decide where it is decoded. No I/O, and no decoder.

Pillow opens some formats by reading much of the file, so its own code is not used for this decision.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .images import ImageOptions

# A picture with these limits costs some hundredths of a second, and some MB, whatever its bytes are.
_SMALL_BYTES = 256 * 1024
_SMALL_PIXELS = 1024 * 1024
_SMALL_SCANS = 20
_SMALL_TEXTS = 8
# Slower to encode than to decode.
_SLOW_FORMATS = ("AVIF", "HEIF", "JPEG2000")
# What a photo from a phone or a usual animation may have.
_USUAL_BYTES = 32 * 1024 * 1024
_USUAL_PIXELS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """The size that a picture claims, and how often its pixels are decoded at most (0: unknown)."""

    width: int
    height: int
    passes: int


def read_header(data: bytes) -> PictureHeader | None:
    """Return the header of a PNG, JPEG, GIF or WebP file. None means any other file."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            return _png(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return PictureHeader(width, height, 0)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith(b"\xff\xd8\xff"):
            return next(_frames_of_jpeg(data), None)
    except struct.error:  # cut off
        pass
    return None


def _png(data: bytes) -> PictureHeader:
    width, height = struct.unpack_from(">II", data, 16)
    packed = sum(data.count(kind) for kind in (b"iCCP", b"zTXt", b"iTXt"))  # each may unpack to a megabyte
    return PictureHeader(width, height, 0 if b"acTL" in data or packed > _SMALL_TEXTS else 1)


def _webp(data: bytes) -> PictureHeader | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return PictureHeader(width & 0x3FFF, height & 0x3FFF, 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return PictureHeader((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1)
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return PictureHeader(width, height, 0 if b"ANMF" in data else 1)
    return None


def _frames_of_jpeg(data: bytes) -> Iterator[PictureHeader]:
    at = 2
    while at < len(data) - 9:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0xFF, 0xDA):
            return
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            yield PictureHeader(width, height, data.count(b"\xff\xda"))
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def is_small(data: bytes, header: PictureHeader | None, options: ImageOptions) -> bool:
    """Whether decoding takes so little that it needs no limit of time and no worker process."""
    if header is None or len(data) > _SMALL_BYTES or not 0 < header.passes <= _SMALL_SCANS:
        return False
    pixels = header.width * header.height
    made = [options.size, options.thumbnail_size, *options.variants.values()]
    exact = sum(math.prod(size[:2]) for size in made if size is not None and len(size) > 2)
    return pixels <= _SMALL_PIXELS and exact <= _SMALL_PIXELS and options.format not in _SLOW_FORMATS


def is_usual(data: bytes, header: PictureHeader | None) -> bool:
    """Whether a picture is probably decoded in a second or two."""
    if header is None or len(data) > _USUAL_BYTES:
        return False
    repeated = header.passes if header.passes > _SMALL_SCANS else 1
    return header.width * header.height * repeated <= _USUAL_PIXELS
