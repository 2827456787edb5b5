"""The Range field (RFC 9110, 14): which bytes were asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

Span = tuple[int, int]
"""Bytes from the first number to the second, exclusive; the file's first byte is 0."""

MAX_RANGES = 100
"""More ranges than any honest client asks for at once; each may cost a read of a chunk (RFC 9110, 14.2 and 17.15)."""

# Short enough for int(), which refuses endless digits; long enough for any number that means something.
_RANGE = re.compile("(?P<first>[0-9]{1,400})-(?P<last>[0-9]{0,400})|-(?P<suffix>[0-9]{1,400})")


def parse_ranges(value: str, length: int) -> list[Span] | None:
    """The spans of a representation of `length` bytes that a Range field (`bytes=0-99`) asks for, in its order.

    An empty list means that none can be satisfied (416), None that the field is to be ignored: another unit than
    bytes, bad syntax, more than `MAX_RANGES` ranges. Ranges that overlap or touch become one.
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
                return None  # satisfiable, and no Content-Range can say so: the whole of nothing is the answer
        else:
            start = int(found["first"])
            stop = int(found["last"]) + 1 if found["last"] else length
            if found["last"] and stop <= start:
                return None
        if start < min(stop, length):
            spans.append((start, min(stop, length)))
    return _coalesced(spans)


def _coalesced(spans: Sequence[Span]) -> list[Span]:
    """No byte twice, in the order asked: the place of a merged span is that of its first part."""
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
    """The value of Content-Range for a file of `length` bytes (RFC 9110, 14.4); without a span that of a 416."""
    return f"bytes */{length}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{length}"
