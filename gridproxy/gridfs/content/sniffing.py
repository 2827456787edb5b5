"""Finds the media types that the first bytes of a file may be of.

Containers and signatures are in `records.media_types`. With `content_types`, puremagic (extra `sniff`) adds those of
rarer types. Text has no signature and is recognised by its bytes. The declaration decides which kind of text it is
(CSV, JSON, Markdown), except for markup that a browser would run.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import NamedTuple

from gridproxy.gridfs.records.media_types import (
    BRANDS,
    CONTAINERS,
    OFFICE,
    OPEN_DOCUMENTS,
    RIFF,
    SIGNATURES,
    canonical_type,
    is_textual,
    must_have_signature,
    signed_types,
    words,
)

# How many bytes are inspected. Signatures are in the first few hundred bytes, dimensions of pictures after them.
HEAD_BYTES = 64 * 1024

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
# What a browser skips before the first element, as blanks and invisible characters.
_BLANK = re.compile(r"[\s\x00-\x20\u200b-\u200f\u2060\ufeff]*")
_IN_DOCTYPE = re.compile(r"'[^']*'|\"[^\"]*\"|<!--|[\[\]>]")
_DOCTYPE_HTML = re.compile(r"<!doctype\s+html\b", re.IGNORECASE)
_ELEMENT = re.compile(r"<(?:[\w.-]+:)?([a-z][\w.-]*)(?=[\s/>])", re.IGNORECASE)
_PAGE = words("html head body frameset script style title meta link base iframe object embed applet")
_ELEMENTS_OF_HTML = words(
    "a abbr address area article aside audio b bdi bdo big blockquote br button canvas caption center cite code col "
    "data datalist dd del details dfn dialog div dl dt em fieldset figcaption figure font footer form h1 h2 h3 h4 "
    "h5 h6 header hr i image img input ins isindex kbd keygen label legend li main map mark marquee menu meter nav "
    "noscript ol optgroup option output p param picture portal pre progress q s samp search section select slot "
    "small source span strike strong sub summary sup table tbody td template textarea tfoot th thead time tr tt u "
    "ul var video wbr xmp plaintext noembed noframes bgsound"
)
_ACTIVE = re.compile(
    r"<(?:\w+:)?(?:script|iframe|object|embed|svg|math|frameset|applet|base|meta|link|style)\b"
    r"|[\s/\"']on[a-z]{3,}\s*=|=\s*[\"']?\s*(?:java|vb)script\s*:",
    re.IGNORECASE,
)
_XHTML, _SVG = "http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"
# Signatures shorter than this occur in ordinary text: "BM", "MZ".
_LONG = 4
_BY_FIRST_BYTE: dict[bytes, list[tuple[tuple[str, ...], int, bytes]]] = {}
for _signature in SIGNATURES:
    if not _signature[1]:
        _BY_FIRST_BYTE.setdefault(_signature[2][:1], []).append(_signature)
_BEHIND = [each for each in SIGNATURES if each[1]]


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The canonical types that some bytes may be of, the likeliest first, and whether the bytes are text."""

    types: tuple[str, ...]
    text: bool

    @property
    def active(self) -> bool:
        """Whether the bytes are markup that a browser would run."""
        return not _MARKUP.isdisjoint(self.types)

    def confirms(self, declared: str) -> bool:
        """Return whether the bytes may be of the declared (canonical) type."""
        if declared in self.types:
            return True
        if declared.endswith("+zip") and "application/zip" in self.types:
            return declared not in OPEN_DOCUMENTS
        if self.active:  # every SVG is XML, but an SVG is never Markdown
            xml = declared == "application/xml" or declared.endswith("+xml")
            return xml and declared not in _MARKUP and "application/xml" in self.types
        return self.text and is_textual(declared) and declared not in _MARKUP


def sniff(head: bytes) -> Sniffed:
    """Return the types that a file with these first bytes may be of, with puremagic's help."""
    found = look(head)
    if found.types and found.types != ("text/plain",):
        return found
    signs = _signatures(head) if head else {}
    if found.text:
        signs = {kind: sign for kind, sign in signs.items() if sign.length >= _LONG} | {"text/plain": _Sign(0.0, 0)}
    return Sniffed(tuple(sorted(signs, key=lambda kind: signs[kind], reverse=True)), found.text)


def look(head: bytes) -> Sniffed:
    """Return the types that this package's own table finds in the first bytes."""
    text = _as_text(head)
    if text is not None and (markup := _markup(text, cut=len(head) >= HEAD_BYTES)):
        return Sniffed(markup, text=True)
    if head.startswith(b"PK\3\4"):
        return _zip(head)
    if text is None or (head[:1] >= b"\x80" and not _has_mark(head)):
        found = next(_containers(head), ())
        if found or text is None:
            return Sniffed(found, text=False)
    return Sniffed((*next(_containers_like_text(head), ()), "text/plain"), text=True)


def contradicts(head: bytes, declared: str) -> bool:
    """Return whether a file with these first bytes is certainly not of the declared type."""
    kind = canonical_type(declared)
    if not head:
        return False
    found = look(head)
    if found.confirms(kind):
        return False
    if found.active or must_have_signature(kind) or (kind.startswith("text/") and not found.text):
        return True
    return bool(found.types) and (kind in signed_types() or is_textual(kind))


def certain_type(head: bytes) -> str | None:
    """Return the type of bytes with a signature that no text has, and None for all others."""
    found = look(head)
    if found.text and found.types[0] not in ("application/pdf", "application/postscript", "application/rtf"):
        return None
    return found.types[0] if found.types else None


def has_signature(kind: str) -> bool:
    """Return whether a (canonical) type has a signature in the first bytes."""
    return kind in _MARKUP or kind in signed_types() or kind in _known_types()


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
            if kind not in _MARKUP and not must_have_signature(kind):  # those were not found by `look`
                signs[kind] = max(sign, signs.get(kind, sign))
    return signs


@cache
def _known_types() -> frozenset[str]:
    # puremagic 2 no longer has these at its top level.
    from puremagic.main import magic_footer_array, magic_header_array  # noqa: PLC0415  # see _signatures

    arrays = (magic_header_array, magic_footer_array)
    return frozenset(canonical_type(each.mime_type) for array in arrays for each in array if each.mime_type)


# Containers


def _containers(head: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the types of the containers and signatures that match, the surest first."""
    if head[4:8] == b"ftyp":
        yield _iso_media(head)
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM") and (kinds := RIFF.get(head[8:12])):
        yield kinds
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        yield CONTAINERS["matroska" if b"\x42\x82\x88matroska" in head[:4096] else "webm"]
    if head.startswith(b"OggS") and b"theora" in head[:512]:
        yield CONTAINERS["ogg-video"]
    if head.startswith(b"\xd0\xcf\x11\xe0") and "EncryptedPackage".encode("utf-16-le") in head:
        yield ("application/ole-storage", *(kind for kinds in OFFICE.values() for kind in kinds))
    yield from (kinds for kinds, _ in _signed(head))
    if head[4:8] in (b"moov", b"mdat", b"wide", b"pnot") or (head[4:8] in (b"free", b"skip") and head[:2] == b"\0\0"):
        yield CONTAINERS["quicktime"]
    if b"%PDF-" in head[:1024]:  # readers look for it there
        yield CONTAINERS["pdf"]
    if head[34:36] == b"LP" and head[8:12] in (b"\0\0\1\0", b"\1\0\2\0", b"\2\0\2\0"):
        yield ("application/vnd.ms-fontobject",)
    if head.startswith(b"BM") and _is_bitmap(head):
        yield ("image/bmp",)
    if len(head) > 3 and head[0] == 10 and head[1] <= 5 and head[2] == 1 and head[3] in (1, 2, 4, 8):
        yield ("image/pcx",)
    if head[:1] == head[188:189] == b"G" or head[4:5] == head[196:197] == b"G":
        yield CONTAINERS["mpeg-ts"]
    if head[:1] in (b"\xff", b"\x0b") and (kinds := _sound_frame(head[:4])):
        yield kinds


def _signed(head: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield the types and the bytes of the signatures that match."""
    for kinds, at, sign in chain(_BY_FIRST_BYTE.get(head[:1], ()), _BEHIND):
        if head.startswith(sign, at):
            yield kinds, sign


def _containers_like_text(head: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the types of the signatures that match and that ordinary text hardly begins with."""
    if re.match(rb"(?:\xef\xbb\xbf)?\s*%PDF-", head):
        yield CONTAINERS["pdf"]
    yield from (kinds for kinds, sign in _signed(head) if len(sign) >= _LONG)


def _iso_media(head: bytes) -> tuple[str, ...]:
    """Return the types for the brands of a file of ISO 14496-12: MP4, QuickTime, 3GP, HEIF, AVIF."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[at : at + 4].decode("latin-1") for at in (8, *range(16, size - 3, 4))]
    # Pictures have films' brands too, and only the main brand of a film is certain.
    names = dict.fromkeys(BRANDS[each] for each in brands if each in BRANDS)
    if brands[0] in BRANDS or (names and not brands[0].startswith(("mp4", "iso", "M4", "3g", "avc", "dash"))):
        order = sorted(names, key=("avif", "heif", "cr3", "quicktime").index)
        return tuple(dict.fromkeys(kind for name in order for kind in CONTAINERS[name]))
    return CONTAINERS["mp4"]


def _zip(head: bytes) -> Sniffed:
    """Return the types of a ZIP file by the names of its entries in these bytes."""
    names: list[str] = []
    for sign, length_at, name_at in ((b"PK\3\4", 26, 30), (b"PK\1\2", 28, 46)):
        at = head.find(sign)
        while at >= 0:
            length = int.from_bytes(head[at + length_at : at + length_at + 2], "little")
            name = head[at + name_at : at + name_at + min(length, 64)]
            names.append(name.decode("latin-1").replace("\\", "/").lower())
            at = head.find(sign, at + 4)
    generic = CONTAINERS["zip"]
    if names[0] == "mimetype":
        named = re.match(rb"[\w.+/-]+", head[38 + int.from_bytes(head[28:30], "little") :])
        own = canonical_type(named[0].decode("ascii")) if named else ""
        kind = max((each for each in OPEN_DOCUMENTS if own.startswith(each)), key=len, default=own)
        if "/" in kind:
            return Sniffed((kind, *generic), text=False)
    for folder, kinds in OFFICE.items():
        if any(name.startswith(folder) for name in names):
            return Sniffed((*kinds, *generic), text=False)
    if any(name.startswith("meta-inf/container.xml") for name in names):
        return Sniffed(("application/epub+zip", *generic), text=False)
    if not names[0].startswith(("[content_types]", "_rels/", "docprops/", "customxml/")):
        return Sniffed(generic, text=False)
    office = tuple(kind for kinds in OFFICE.values() for kind in kinds)  # of an entry that is not in these bytes
    return Sniffed((*generic, *office), text=False)


def _is_bitmap(head: bytes) -> bool:
    header = int.from_bytes(head[14:18], "little")
    return header in (12, 16, 40, 52, 56, 64, 108, 124)


def _sound_frame(start: bytes) -> tuple[str, ...]:
    """Return the types of the MPEG, AAC or AC-3 frame that begins here."""
    if start[:2] == b"\x0b\x77":
        return ("audio/ac3", "audio/eac3")
    if len(start) < 3 or start[0] != 0xFF or start[1] & 0xE0 != 0xE0:
        return ()
    version, layer, rate, frequency = start[1] >> 3 & 3, start[1] >> 1 & 3, start[2] >> 4, start[2] >> 2 & 3
    if start[1] & 0xF6 == 0xF0:
        return ("audio/aac",)
    if version != 1 and layer in (1, 2) and rate != 15 and frequency != 3:
        return ("audio/mpeg",)
    return ()


# Text


def _markup(text: str, *, cut: bool) -> tuple[str, ...]:
    """Return the types of the markup that a browser would run, or () for other text.

    `cut` means that the text may continue. Text of nothing but comments and the like is then markup too, because an
    element may follow.
    """
    return _markup_at(text, *_prolog_end(text, as_xml=True), cut) or _markup_at(
        text, *_prolog_end(text, as_xml=False), cut
    )


def _prolog_end(text: str, *, as_xml: bool) -> tuple[int, bool]:
    """Return where comments, instructions and document types end, and whether one of them is that of HTML."""
    at, page = 0, False
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # matches everywhere
        start = text[at : at + 9].lower()
        if start.startswith("<!--"):
            stop = _comment_end(text, at + 4, as_xml)
        elif start == "<!doctype":
            page = page or _DOCTYPE_HTML.match(text, at) is not None
            stop = _doctype_end(text, at + 9) if as_xml else text.find(">", at) + 1
        elif start.startswith("<?") and as_xml:
            stop = text.find("?>", at) + 2
            stop = -1 if stop == 1 else stop
        elif start.startswith(("<!", "<?", "</")):
            stop = text.find(">", at) + 1
        else:
            return at, page
        if stop <= 0:
            return at, page
        at = stop


def _comment_end(text: str, at: int, as_xml: bool) -> int:
    for end in () if as_xml else (">", "->"):
        if text.startswith(end, at):
            return at + len(end)
    stops = [text.find(end, at) + len(end) for end in ("-->", "--!>")[: 1 if as_xml else 2] if end in text]
    return min((stop for stop in stops if stop > at), default=-1)


def _doctype_end(text: str, at: int) -> int:
    inside = False
    while found := _IN_DOCTYPE.search(text, at):
        at = found.end()
        if found[0] == "<!--":
            at = text.find("-->", at) + 3
            if at == 2:
                return -1
        elif found[0] in "[]":
            inside = found[0] == "["
        elif found[0] == ">" and not inside:
            return at
    return -1


def _markup_at(text: str, at: int, page: bool, cut: bool) -> tuple[str, ...]:
    """Return the types of the markup whose first element is expected here."""
    xhtml = _XHTML in text[:4096]
    xml = xhtml or "<?xml" in text[:at]
    html = ("text/html", "application/xhtml+xml", "application/xml") if xml else ("text/html",)
    if page:
        return html
    if at == len(text):
        return html if cut else ()
    element = _ELEMENT.match(text, at)
    if element is None:
        unfinished = text.startswith(("<!", "<?", "</"), at) and (cut or _ACTIVE.search(text, at))
        return html if unfinished else ()
    name = element[1].lower()
    if name == "svg":
        return ("image/svg+xml", "application/xml")
    if name == "math":
        return ("application/mathml+xml", "application/xml", "text/html")
    if name in _PAGE:
        return html
    if name in _ELEMENTS_OF_HTML and _ACTIVE.search(text, at):
        return html
    if xhtml or _SVG in text:
        return ("application/xml", "application/xhtml+xml") if _ACTIVE.search(text, at) else ()
    return html if _ACTIVE.search(text[at : text.find(">", at)][:4096]) else ()


def _has_mark(head: bytes) -> bool:
    return any(head.startswith(mark) for mark in _BOMS)


def _as_text(head: bytes) -> str | None:
    """Return the bytes as text (of a byte order mark, UTF-8 or any 8-bit encoding), or None if they are not text."""
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return _decoded(head.removeprefix(mark) if encoding == "utf-8" else head, encoding)
    if _BINARY.search(head):
        return None
    text = _decoded(head, "utf-8")
    return head.decode("latin-1") if text is None else text


def _decoded(head: bytes, encoding: str) -> str | None:
    try:
        # The last character may be incomplete.
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None
