"""multipart/byteranges (RFC 9110, 14.6): several parts of a file in one answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from .ranges import Span, content_range


class Multipart:
    """The frame around the parts: `opening(span)`, the bytes of the span, ..., `closing`.

    `length` is the whole file's, in bytes, and `media_type` is as `checked_media_type` gives it. `boundary` is random
    unless told.
    """

    def __init__(self, spans: Sequence[Span], length: int, media_type: str, boundary: str | None = None) -> None:
        # Random, since nobody looks whether the content has it.
        self.boundary: str = boundary or secrets.token_hex(16)
        self._spans = spans
        self._length = length
        self._media_type = media_type

    @property
    def content_type(self) -> str:
        """The media type of the whole answer."""
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def content_length(self) -> int:
        """Its length in bytes, frame and parts."""
        parts = sum(len(self.opening(span)) + span[1] - span[0] for span in self._spans)
        return parts + len(self.closing)

    def opening(self, span: Span) -> bytes:
        """What stands before the bytes of one span; the line break at its start belongs to the delimiter (RFC 2046)."""
        fields = f"Content-Type: {self._media_type}\r\nContent-Range: {content_range(span, self._length)}"
        return f"\r\n--{self.boundary}\r\n{fields}\r\n\r\n".encode("latin-1")

    @property
    def closing(self) -> bytes:
        """What stands after the last one."""
        return f"\r\n--{self.boundary}--\r\n".encode("latin-1")
