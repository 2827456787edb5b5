"""Finds the media types that the first bytes of a file may be of.

The signatures are puremagic's (extra `sniff`). Text has no signature and is recognised by its bytes. The declaration
decides which kind of text it is (CSV, JSON, Markdown), except for markup that a browser would run.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

OCTET_STREAM = "application/octet-stream"

# Several names of one type. `canonical_type` also drops a leading "x-" of the subtype.
_ALIASES = {
    "application/vnd.rar": "application/rar",
    "application/zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "image/heic": "image/heif",
    "image/jpg": "image/jpeg",
    "image/ms-bmp": "image/bmp",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/icon",
    "text/ecmascript": "text/javascript",
    "text/xml": "application/xml",
}
_TEXTUAL = {
    f"application/{name}"
    for name in ("ecmascript", "graphql", "javascript", "json", "ndjson", "sh", "sql", "toml", "xml", "yaml")
}
_MARKUP = {"text/html", "application/xhtml+xml", "image/svg+xml"}
# Bytes that text does not contain (WHATWG MIME Sniffing, "binary data byte").
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FLAGS = re.IGNORECASE | re.DOTALL
# `(?>` and `*+` prevent backtracking: twenty comments could be matched in a million ways.
_SIGNS = (
    ("text/html", re.compile(r"\s*+(?><!--.*?-->\s*+)*+<(!doctype\s+html|html|head|body|script|iframe)\b", _FLAGS)),
    ("image/svg+xml", re.compile(r"\s*+(?><[?!][^>]*>\s*+)*+<(\w+:)?svg\b", _FLAGS)),
)
# Signatures shorter than this occur in ordinary text: "BM", "MZ".
_LONG = 4


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The canonical types that some bytes may be of, the likeliest first. `sure` if there is only one candidate."""

    types: tuple[str, ...]
    text: bool
    sure: bool

    @property
    def active(self) -> bool:
        """Whether the bytes are markup that a browser would run."""
        return not _MARKUP.isdisjoint(self.types)

    def confirms(self, declared: str) -> bool:
        """Return whether the bytes may be of the declared (canonical) type."""
        if declared in self.types:
            return True
        if self.active:  # every SVG is XML, but an SVG is never Markdown
            return declared == "application/xml" and "text/html" not in self.types
        return self.text and _is_textual(declared)


def canonical_type(declared: str) -> str:
    """Return a media type in lower case, without parameters and under its canonical name."""
    main, _, sub = declared.partition(";")[0].strip().lower().partition("/")
    name = f"{main}/{sub.removeprefix('x-')}"
    return _ALIASES.get(name, name)


def sniff(head: bytes) -> Sniffed:
    """Return the types that a file with these first bytes may be of."""
    found = _signatures(head) if head else {}
    text = _as_text(head, legacy=not found)
    if text is None:
        return _sniffed(found, text=False)
    if markup := tuple(kind for kind, sign in _SIGNS if sign.match(text)):
        return Sniffed(markup, text=True, sure=True)
    long = {kind: sign for kind, sign in found.items() if sign.length >= _LONG}
    return _sniffed({**long, "text/plain": _Sign(0.0, 0)}, text=True)


def has_signature(kind: str) -> bool:
    """Return whether a (canonical) type has a signature in the first bytes."""
    return kind in _MARKUP or kind in _known_types()


class _Sign(NamedTuple):
    confidence: float
    length: int


def _signatures(head: bytes) -> dict[str, _Sign]:
    import puremagic  # noqa: PLC0415  # an extra, which `checked_content_types` has checked

    try:
        matches = puremagic.magic_string(head)
    except puremagic.PureError:  # no signature matches
        return {}
    signs: dict[str, _Sign] = {}
    for each in matches:
        # A signature of zeros matches arbitrary data.
        if each.mime_type and each.byte_match.strip(b"\0"):
            sign = _Sign(each.confidence, len(each.byte_match))
            kind = canonical_type(each.mime_type)
            signs[kind] = max(sign, signs.get(kind, sign))
    return signs


@cache
def _known_types() -> frozenset[str]:
    # puremagic 2 no longer has these at its top level.
    from puremagic.main import magic_footer_array, magic_header_array  # noqa: PLC0415  # see _signatures

    arrays = (magic_header_array, magic_footer_array)
    return frozenset(canonical_type(each.mime_type) for array in arrays for each in array if each.mime_type)


def _sniffed(signs: Mapping[str, _Sign], *, text: bool) -> Sniffed:
    ranked = sorted(signs, key=lambda kind: signs[kind], reverse=True)
    best = [kind for kind in ranked if signs[kind].confidence == signs[ranked[0]].confidence]
    return Sniffed(tuple(ranked), text, sure=len(best) == 1)


def _as_text(head: bytes, *, legacy: bool) -> str | None:
    """Return the bytes as text, or None if they are not text.

    The encoding is UTF-8 or the one of the byte order mark. With `legacy`, any 8-bit encoding is accepted too.
    """
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return _decoded(head.removeprefix(mark) if encoding == "utf-8" else head, encoding)
    if _BINARY.search(head):
        return None
    text = _decoded(head, "utf-8")
    return head.decode("latin-1") if text is None and legacy else text


def _decoded(head: bytes, encoding: str) -> str | None:
    try:
        # The last character may be incomplete.
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None


def _is_textual(kind: str) -> bool:
    structured = kind.endswith(("+json", "+xml", "+yaml")) and kind not in _MARKUP
    return structured or kind.startswith("text/") or kind in _TEXTUAL
