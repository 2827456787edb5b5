"""Videos for tests, drawn with Pillow: a lossy WebP is a VP8 key frame, and WebM is a box around those.

Every frame is a key frame, so each place can be sought; the index (Cues) stands at the front (RFC 9559).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

from PIL import Image

__all__ = ["webm"]


def webm(frames: Sequence[Image.Image], seconds_per_frame: float, *, quality: int = 80) -> bytes:
    """Make a video of these pictures, all of one size, each shown for the same time."""
    width, height = frames[0].size
    encoded = {id(frame): _vp8(frame, quality) for frame in frames}
    step = round(seconds_per_frame * 1000)
    clusters = [
        _element(0x1F43B675, _number(0xE7, step * at) + _element(0xA3, b"\x81\x00\x00\x80" + encoded[id(frame)]))
        for at, frame in enumerate(frames)
    ]
    info = _element(
        0x1549A966,
        _number(0x2AD7B1, 1_000_000)  # one tick is a millisecond
        + _element(0x4489, struct.pack(">d", step * len(frames)))
        + _element(0x4D80, b"tests")
        + _element(0x5741, b"tests"),
    )
    video = _element(0xE0, _number(0xB0, width) + _number(0xBA, height))
    entry = _number(0xD7, 1) + _number(0x73C5, 1) + _number(0x83, 1) + _element(0x86, b"V_VP8") + video
    before = info + _element(0x1654AE6B, _element(0xAE, entry))
    # Positions have a fixed width, so the index is as long with zeros in it as with the truth.
    start = len(before) + len(_cues(step, [0] * len(clusters)))
    places = []
    for cluster in clusters:
        places.append(start)
        start += len(cluster)
    head = _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8)
    head += _element(0x4282, b"webm") + _number(0x4287, 2) + _number(0x4285, 2)
    return _element(0x1A45DFA3, head) + _element(0x18538067, before + _cues(step, places) + b"".join(clusters))


def _vp8(frame: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    frame.convert("RGB").save(file, "WEBP", quality=quality, method=0)
    data = file.getvalue()
    at = data.index(b"VP8 ")
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    return data[at + 8 : at + 8 + length]


def _cues(step: int, places: Sequence[int]) -> bytes:
    points = [
        _element(0xBB, _number(0xB3, step * at) + _element(0xB7, _number(0xF7, 1) + _number(0xF1, place)))
        for at, place in enumerate(places)
    ]
    return _element(0x1C53BB6B, b"".join(points))


def _number(id: int, value: int) -> bytes:
    return _element(id, value.to_bytes(8))


def _element(id: int, content: bytes) -> bytes:
    return id.to_bytes((id.bit_length() + 7) // 8) + (len(content) | 1 << 56).to_bytes(8) + content
