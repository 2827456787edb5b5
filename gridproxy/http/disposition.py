"""Content-Disposition (RFC 6266, 8187): a name to save a file by, whatever it is called here."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

# What file systems take; longer ones would only make headers that proxies refuse.
_LONGEST = 255
# RFC 8187's attr-char, beside letters and digits.
_ATTRIBUTE = "!#$&+-.^_`|~"
# Unquotable in practice: few recipients undo backslashes, and some decode percent signs (RFC 6266, appendix D).
_UNSAFE = str.maketrans(dict.fromkeys('"\\%/', "_"))


def content_disposition(kind: str, filename: str | None) -> str:
    """The field's value: `kind` ("inline" or "attachment") and a name, with an ASCII one beside it where needed.

    Of a name with slashes the last part is given, of a long one 255 characters, with its ending; control characters,
    and those that turn the direction of writing (`gpj.exe` shown as `exe.jpg`), are left out. Without a name, None or
    one of which nothing is left, it is `kind` alone.
    """
    name = _saved_as(filename or "")
    if not name:
        return kind
    ascii_name = _ascii(name)
    plain = f'{kind}; filename="{ascii_name}"'
    return plain if ascii_name == name else f"{plain}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE)}"


def _saved_as(filename: str) -> str:
    last = next((part for part in reversed(filename.replace("\\", "/").split("/")) if part), "")
    name = "".join(each for each in last if not _is_hidden(each)).strip()
    if not name.strip("."):
        return ""
    if len(name) > _LONGEST:
        stem, dot, suffix = name.rpartition(".")
        ending = dot + suffix if stem and len(suffix) < 16 else ""
        name = name[: _LONGEST - len(ending)] + ending
    return name


def _is_hidden(character: str) -> bool:
    # Categories: control, surrogate (which cannot be encoded), line and paragraph separators.
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _ascii(name: str) -> str:
    parted = unicodedata.normalize("NFKD", name)
    bare = "".join(each for each in parted if not unicodedata.combining(each))
    return "".join(each if " " <= each <= "~" else "_" for each in bare).translate(_UNSAFE)
