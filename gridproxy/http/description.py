"""The header fields that describe a stored file, with a media type that is safe to send."""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import replace
from urllib.parse import quote

from gridproxy.gridfs.records.file_info import FileInfo

from .dates import format_date

OCTET_STREAM = "application/octet-stream"
"""The type of arbitrary bytes, which browsers neither show nor run."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*")
# The script and XML types of WHATWG's MIME Sniffing standard, and containers that can hold HTML.
_RUNNABLE = re.compile(
    "(?:application|text)/(?:(?:x-)?(?:ecma|java)script|xml|xml-external-parsed-entity)"
    "|application/(?:hta|x-mimearchive|x-shockwave-flash|xml-dtd)"
    "|text/(?:html|jscript|livescript|x-server-parsed-html|xsl)"
    "|(?:multipart/|message/|text/javascript).*|.*\\+xml",
    re.DOTALL,
)
# The longest file name that common file systems accept.
_LONGEST_NAME = 255
# The attr-char set of RFC 8187 without letters and digits.
_ATTRIBUTE = "!#$&+-.^_`|~"
# Few recipients undo backslashes, and some decode percent signs (RFC 6266, appendix D).
_UNSAFE = str.maketrans(dict.fromkeys('"\\%/', "_"))


def describe(
    info: FileInfo, *, media_type: str | None = None, filename: str | None = None, disposition: str | None = None
) -> dict[str, str]:
    """Return the fields of a 200 response: type, validators, digest and file name, but not the length.

    ```python
    info = await Bucket(client["zoo"]).upload(b"a marmot", filename="marmot.txt")
    assert http.describe(info)["content-type"] == "text/plain; charset=utf-8"
    ```

    Args:
        info: The record of the stored file.
        media_type: Replaces the type in the record.
        filename: Replaces the name in the record.
        disposition: "inline" or "attachment". By default, types that a browser can run are attachments.

    Returns:
        The fields, names in lower case.
    """
    renamed = {} if media_type is None else {"content_type": media_type}
    shown = replace(info, filename=filename or info.filename, metadata={**info.metadata, **renamed})
    kind = checked_media_type(media_type or info.content_type)
    # Starlette's responses also default to UTF-8 for text, and `put` encodes a str as UTF-8.
    if kind.startswith("text/") and "charset=" not in kind.lower():
        kind += "; charset=utf-8"
    fields = {
        "content-type": kind,
        "accept-ranges": "bytes",
        "etag": shown.etag,
        "x-content-type-options": "nosniff",
        "content-disposition": content_disposition(
            disposition or ("attachment" if can_run(kind) else "inline"), filename or info.filename
        ),
    }
    if info.upload_date is not None:
        fields["last-modified"] = format_date(info.upload_date)
    if info.sha256 is not None:
        fields["repr-digest"] = repr_digest(info.sha256)
    return fields


def checked_media_type(value: str | None) -> str:
    """Return a media type that is safe to send in Content-Type (RFC 9110, 8.3.1).

    The client that stored the file chose the type. Browsers use the last item if it looks like a list.

    ```python
    assert http.checked_media_type("image/png, text/html") == "application/octet-stream"
    ```

    Args:
        value: The stored type.

    Returns:
        `value` if it is a valid media type, otherwise `application/octet-stream`.
    """
    return value if value is not None and _MEDIA_TYPE.fullmatch(value) else OCTET_STREAM


def can_run(media_type: str) -> bool:
    """Check whether a browser may run code from a file of this type: HTML, SVG and other XML, scripts.

    ```python
    assert http.can_run("image/svg+xml") and not http.can_run("image/png")
    ```
    """
    return _RUNNABLE.fullmatch(media_type.partition(";")[0].strip().lower()) is not None


def repr_digest(sha256: str) -> str:
    """Return the value of Repr-Digest (RFC 9530), which covers the whole file even if only a part is sent.

    ```python
    assert http.repr_digest("00ff") == "sha-256=:AP8=:"
    ```

    Args:
        sha256: The file's SHA-256 in hex digits.

    Raises:
        ValueError: `sha256` is not hex.
    """
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}:"


def content_disposition(kind: str, filename: str | None) -> str:
    """Return the value of Content-Disposition (RFC 6266, 8187), with an additional ASCII name if it is needed.

    Only the last part of a path is used, shortened to 255 characters. Control characters are removed, as are characters
    that change the direction of writing and could disguise an ending (`gpj.exe` shown as `exe.jpg`).

    ```python
    assert http.content_disposition("inline", "a/b.png") == 'inline; filename="b.png"'
    ```

    Args:
        kind: "inline" or "attachment".
        filename: The name to offer to the client.

    Returns:
        The field's value, which is `kind` alone if no usable name remains.
    """
    name = _safe_name(filename or "")
    if not name:
        return kind
    ascii_name = _ascii(name)
    plain = f'{kind}; filename="{ascii_name}"'
    return plain if ascii_name == name else f"{plain}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE)}"


def _safe_name(filename: str) -> str:
    last = next((part for part in reversed(filename.replace("\\", "/").split("/")) if part), "")
    name = "".join(each for each in last if not _is_hidden(each)).strip()
    if not name.strip("."):
        return ""
    if len(name) > _LONGEST_NAME:
        stem, dot, suffix = name.rpartition(".")
        ending = dot + suffix if stem and len(suffix) < 16 else ""
        name = name[: _LONGEST_NAME - len(ending)] + ending
    return name


def _is_hidden(character: str) -> bool:
    # Control characters, surrogates (which cannot be encoded), line and paragraph separators.
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _ascii(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name)
    bare = "".join(each for each in decomposed if not unicodedata.combining(each))
    return "".join(each if " " <= each <= "~" else "_" for each in bare).translate(_UNSAFE)
