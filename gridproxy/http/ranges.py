"""Range requests (RFC 9110, 14) and multipart/byteranges responses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

Span = tuple[int, int]
"""The first offset in bytes, and the offset after the last byte."""

MAX_RANGES = 100
"""The largest number of ranges in one request: each may need to read a chunk (RFC 9110, 14.2 and 17.15)."""

# int() rejects numbers with too many digits.
_RANGE = re.compile("(?P<first>[0-9]{1,400})-(?P<last>[0-9]{0,400})|-(?P<suffix>[0-9]{1,400})")


def parse_ranges(value: str, length: int) -> list[Span] | None:
    """Parse a Range field such as `bytes=0-99`. Ranges that overlap or touch are merged.

    ```python
    assert http.parse_ranges("bytes=0-9, -5", 100) == [(0, 10), (95, 100)]
    ```

    Args:
        value: The value of the field.
        length: The file's length in bytes.

    Returns:
        The spans in the order of the field. An empty list means that none can be satisfied (416). None means that the
        field must be ignored: it has another unit, a syntax error, or more than `MAX_RANGES` ranges.
    """
    unit, _, ranges = value.partition("=")
    asked = [each for part in ranges.split(",") if (each := part.strip(" \t"))]
    if unit.lower() != "bytes" or not 0 < len(asked) <= MAX_RANGES:
        return None
    spans: list[Span] = []
    for each in asked:
        found = _RANGE.fullmatch(each)
        if found is None:
            return None
        if found["suffix"] is not None:
            start, stop = max(0, length - int(found["suffix"])), length
            if not length and int(found["suffix"]):
                return None  # Content-Range cannot express an empty range, so send the whole empty file.
        else:
            start = int(found["first"])
            stop = int(found["last"]) + 1 if found["last"] else length
            if found["last"] and stop <= start:
                return None
        if start < min(stop, length):
            spans.append((start, min(stop, length)))
    return _coalesced(spans)


def _coalesced(spans: Sequence[Span]) -> list[Span]:
    """Merge the spans. A merged span has the place of its first part."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))

    def place(whole: Span) -> int:
        return next(place for place, (start, _) in enumerate(spans) if whole[0] <= start < whole[1])

    return sorted(merged, key=place)


def content_range(span: Span | None, length: int) -> str:
    """Return the value of Content-Range (RFC 9110, 14.4).

    ```python
    assert http.content_range((0, 10), 100) == "bytes 0-9/100"
    ```

    Args:
        span: The bytes that are sent, or None for a 416 response.
        length: The file's length in bytes.
    """
    return f"bytes */{length}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{length}"


class Multipart:
    """The frame of a multipart/byteranges body (RFC 9110, 14.6): `opening(span)`, the span's bytes, ..., `closing`.

    ```python
    frame = http.Multipart([(0, 5), (10, 15)], 100, "text/plain")
    body = frame.opening((0, 5)) + b"first" + frame.opening((10, 15)) + b"other" + frame.closing
    assert len(body) == frame.content_length
    ```

    Args:
        spans: The parts of the file.
        length: The length of the whole file in bytes.
        media_type: The file's type, for example from `checked_media_type`.
        boundary: The text between the parts. It is random by default, because the content is not searched for it.
    """

    def __init__(self, spans: Sequence[Span], length: int, media_type: str, boundary: str | None = None) -> None:
        self.boundary: str = boundary or secrets.token_hex(16)
        self._spans = spans
        self._length = length
        self._media_type = media_type

    @property
    def content_type(self) -> str:
        """The media type of the whole body."""
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def content_length(self) -> int:
        """The length of the whole body in bytes."""
        parts = sum(len(self.opening(span)) + span[1] - span[0] for span in self._spans)
        return parts + len(self.closing)

    def opening(self, span: Span) -> bytes:
        """Return the bytes before a part. The first line break belongs to the delimiter (RFC 2046)."""
        fields = f"Content-Type: {self._media_type}\r\nContent-Range: {content_range(span, self._length)}"
        return f"\r\n--{self.boundary}\r\n{fields}\r\n\r\n".encode("latin-1")

    @property
    def closing(self) -> bytes:
        """The bytes after the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode("latin-1")
