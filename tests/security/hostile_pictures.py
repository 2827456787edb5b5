"""Small files that cost much to decode. The tests and `tests.benchmarks.pictures` make them, so that none is stored."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pillow_heif
from PIL import Image

# Just below the limit of 89 million pixels, and far above it.
BELOW, ABOVE = 9_400, 13_000


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: int | None = None, depth: int = 8, colours: int = 6) -> bytes:
    """Build a black PNG. It has only so many of its rows."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours] * depth * width
    row = bytes(1 + -(-bits // 8))
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    palette = png_chunk(b"PLTE", bytes(6)) if colours == 3 else b""
    parts = png_chunk(b"IHDR", header), palette, *chunks, png_chunk(b"IDAT", body), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rotated_png(side: int) -> bytes:
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return png(side, side, png_chunk(b"eXIf", exif))


def apng(side: int, frames: int) -> bytes:
    """One frame, and the claim of many."""
    return png(side, side, png_chunk(b"acTL", struct.pack(">II", frames, 0)), rows=1)


def png_of_texts(count: int) -> bytes:
    """Every chunk unpacks to a megabyte."""
    return png(64, 64, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * count)


def png_of_profiles(count: int) -> bytes:
    return png(64, 64, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * count)


def gif(side: int, frames: int = 1, frame_side: int = 1) -> bytes:
    """Build a canvas with frames of one pixel. One frame makes 43 bytes."""
    start = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    one = b"\x21\xf9\x04\x04\x0a\0\0\0" if frames > 1 else b""
    one += b"\x2c" + struct.pack("<HHHHB", 0, 0, frame_side, frame_side, 0) + b"\x02\x02\x44\x01\x00"
    return start + one * frames + b"\x3b"


def gif_with_hidden_frames(side: int, frames: int) -> bytes:
    """Pillow reads on after an extension that seems to be empty, and finds frames behind what looks like the end."""
    data = gif(side, 2)
    return data[:-1] + b"\x21\x01\x00" + b"\x3b" + bytes(0x3B) + b"\0" + gif(side, frames)[19:]


def tiff(*pages: tuple[int, int], tile: int = 0, bogus: bool = False, samples: int = 1) -> bytes:
    """Build pages of so many pixels that share a strip of a few bytes."""
    body = zlib.compress(bytes(64))
    out = bytearray(b"II*\0" + struct.pack("<I", 8 + len(body) + len(body) % 2) + body + bytes(len(body) % 2))
    for number, (width, height) in enumerate(pages):
        where, size = (0xFFFFFF00, 0x7FFFFFFF) if bogus else (8, len(body))
        entries = [
            *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)),
            *(() if tile else ((273, 4, 1, where),)),
            (277, 3, 1, samples),
            *(() if tile else ((278, 4, 1, height), (279, 4, 1, size))),
            *(((322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, where), (325, 4, 1, size)) if tile else ()),
        ]
        out += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
        after = len(out) + 4 if number + 1 < len(pages) else 0
        out += struct.pack("<I", after)
    return bytes(out)


def tiff_of_tags(count: int, size: int) -> bytes:
    """Every tag points to the same bytes, and a decoder copies them for each."""
    entries = [
        *((256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)),
        *((278, 4, 1, 1), (279, 4, 1, 1)),
        *((700 + number, 7, size, 8) for number in range(count)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + directory


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def black(side: int, mode: str = "RGBA") -> Image.Image:
    return Image.new(mode, (side, side))


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """Build a progressive JPEG that repeats its last scan, which visits every block and has few bytes."""
    data = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    start = data.rindex(b"\xff\xda")
    before = data.rfind(b"\xff\xc4", first, start)
    last = data[before if before > data.rfind(b"\xff\xda", first, start) else start : -2]
    return data[:-2] + last * scans + data[-2:]


def webp_animation(side: int, frames: int) -> bytes:
    """Build frames of one pixel on a large canvas."""
    small = saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)
    image = small[12:]
    frame = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0" + image
    chunk = b"ANMF" + struct.pack("<I", len(frame)) + frame
    canvas = (side - 1).to_bytes(3, "little") * 2
    head = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = b"WEBP" + head + chunk * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(side: int, *, bits: int = 24, compression: int = 0, body: bytes = b"") -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, side, side, 1, bits, compression, len(body), 0, 0, 256 if bits == 8 else 0, 0
    )
    palette = bytes(1024) if bits == 8 else b""
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


def bmp_of_nothing(side: int, count: int) -> bytes:
    """Build runs of no pixels, which a decoder in Python reads one by one."""
    return bmp(side, bits=8, compression=1, body=b"\0\2\0\0" * count)


def heif(side: int) -> bytes:
    target = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (side, side))).save(target)
    return target.getvalue()


# The largest file of each format that the default limits accept, or nearly.
WORST: dict[str, Callable[[], bytes]] = {
    "PNG, RGBA": functools.partial(png, BELOW, BELOW),
    "PNG, palette": functools.partial(png, BELOW, BELOW, colours=3),
    "PNG, rotated": functools.partial(rotated_png, BELOW),
    "PNG, 16 bits of grey": functools.partial(png, BELOW, BELOW, depth=16, colours=0),
    "JPEG": lambda: saved(black(BELOW, "RGB"), "JPEG"),
    "JPEG, progressive": lambda: saved(black(BELOW, "RGB"), "JPEG", progressive=True, subsampling=0),
    "JPEG 2000, RGBA": lambda: saved(black(BELOW), "JPEG2000"),
    "GIF of 43 bytes": functools.partial(gif, BELOW),
    "GIF, 100 frames": functools.partial(gif, BELOW // 10, 100),
    "WebP": lambda: saved(black(BELOW), "WEBP", lossless=True, method=0),
    "WebP, 100 frames": functools.partial(webp_animation, BELOW // 10, 100),
    "TIFF, RGBA": lambda: saved(black(BELOW), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, 100 pages": lambda: saved(
        black(BELOW // 10), "TIFF", save_all=True, append_images=[black(BELOW // 10)] * 99, compression="tiff_lzw"
    ),
    "BMP": lambda: saved(black(4_000, "RGB"), "BMP"),
    "AVIF": lambda: saved(black(BELOW, "RGB"), "AVIF", speed=10),
    "HEIC": functools.partial(heif, BELOW),
    "MPO": lambda: saved(
        black(BELOW, "RGB"), "MPO", save_all=True, append_images=[black(BELOW, "RGB")], progressive=True
    ),
}

# Files that use time or memory and are refused in the end, whatever their format says.
REFUSED: dict[str, Callable[[], bytes]] = {
    "TIFF, a page of one pixel before thousands of large ones": lambda: tiff((1, 1), *[(ABOVE, ABOVE)] * 4_000),
    "TIFF, pages that are too many pixels together": lambda: tiff(*[(3_000, 3_000)] * 20),
    "TIFF, strips outside the file": lambda: tiff((BELOW, BELOW), bogus=True),
    "TIFF, strips without pixels": lambda: tiff((BELOW, BELOW)),
    "TIFF, a tile larger than the picture": lambda: tiff((16, 16), tile=60_000),
    "GIF, frames of one pixel on a large canvas": lambda: gif(ABOVE, 5_000),
    "GIF, too many frames on a canvas below the limit": lambda: gif(3_000, 100),
    "GIF, frames larger than the canvas": lambda: gif(1, 3, 60_000),
    "GIF, frames that are hidden behind the end": lambda: gif_with_hidden_frames(3_000, 5_000),
    "JPEG 2000 above the limit": lambda: jp2_of_size(saved(black(64), "JPEG2000"), 60_000),
    "JPEG 2000, a codestream larger than its header says": lambda: jp2_of_size(
        saved(black(64), "JPEG2000"), 60_000, 64
    ),
    "PNG above the limit": lambda: png(ABOVE, ABOVE, rows=1),
    "APNG of two thousand million frames": lambda: apng(4, 2_000_000_000),
    "APNG, frames on a large canvas": lambda: apng(BELOW, 2),
    "WebP, frames of one pixel on a large canvas": lambda: webp_animation(16_000, 100),
    "WebP, too many frames": lambda: webp_animation(3_000, 100),
    "BMP of a terapixel": lambda: bmp(1_000_000),
    "BMP, 20 million pixels without a byte": lambda: bmp(4_472),
    "PNG of texts that unpack to 100 MB": lambda: png_of_texts(100),
}

# Formats that Pillow reads, and that fields of pictures do not accept.
FOREIGN: dict[str, bytes] = {
    "PSD": b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, 30_000, 30_000, 8, 3) + bytes(14),
    "ICO": b"\0\0\1\0" + struct.pack("<H", 255) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 99, 22) * 255,
    "ICNS": b"icns" + struct.pack(">I", 8 + 8 * 500) + (b"ic10" + struct.pack(">I", 8)) * 500,
    "PPM": b"P6 65000 65000 255\n",
    "PPM, plain": b"P3 65000 65000 255\n" + b"1 " * 500,
    "DDS": b"DDS " + struct.pack("<5I", 124, 0x1007, 60_000, 60_000, 0) + bytes(52) + b"DXT1" + bytes(40),
    "FLI": struct.pack("<IHHHHHH", 128, 0xAF12, 9999, 60_000, 60_000, 8, 3) + bytes(112),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n(/etc/passwd) (r) file\n",
    "EPS, binary": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 99) + bytes(24) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4h", 0, 0, 32_000, 32_000) + struct.pack("<H", 96) + bytes(40),
    "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
    "PCX": b"\x0a\x05\x01\x08" + struct.pack("<4H", 0, 0, 65_000, 65_000) + bytes(120),
    "TGA": b"\0\0\x02\0\0\0\0\0" + struct.pack("<4H", 0, 0, 65_000, 65_000) + b"\x20\0",
    "SGI": b"\x01\xda\0\1" + struct.pack(">4H", 3, 65_000, 65_000, 4) + bytes(500),
    "QOI": b"qoif" + struct.pack(">II", 60_000, 60_000) + b"\4\0",
    "XBM": b"#define a_width 65000\n#define a_height 65000\nstatic char a_bits[] = {\n",
    "XPM": b'/* XPM */\nstatic char *a[] = {\n"65000 65000 2 1",\n',
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80),
    "BLP": b"BLP2" + struct.pack("<IBBBBII", 1, 1, 0, 0, 0, 60_000, 60_000) + bytes(200),
    "IM": b"Image type: RGB image\r\nImage size (x*y): 60000*60000\r\n".ljust(512, b"\0"),
    "SUN": struct.pack(">8I", 0x59A66A95, 60_000, 60_000, 24, 99, 1, 0, 0),
    "MSP": b"DanM" + struct.pack("<HH", 65_000, 65_000) + bytes(24),
    "GBR": struct.pack(">5I4sI", 32, 2, 60_000, 60_000, 4, b"GIMP", 10) + bytes(8),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
}


def jp2_of_size(data: bytes, side: int, said: int | None = None) -> bytes:
    """Let the codestream of a JPEG 2000 say another size, and its header that or `said`."""
    at = data.index(b"ihdr") + 4
    data = data[:at] + struct.pack(">II", said or side, said or side) + data[at + 8 :]
    at = data.index(b"\xff\x51") + 6
    return data[:at] + struct.pack(">II", side, side) + data[at + 8 :]
