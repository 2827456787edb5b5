"""The header fields that describe a stored file, with a media type that is safe to send."""

from __future__ import annotations

import base64
import functools
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
# The types that a page loads to run or to apply: scripts and workers, WebAssembly, style sheets, and what plug-ins ran.
# A page of the same origin may load them under the Content-Security-Policy 'self', and as a service worker, and a
# Content-Disposition does not prevent that.
_LOADED = re.compile(
    "(?:application|text)/(?:x-)?(?:ecma|java)script"
    "|application/(?:wasm|x-shockwave-flash|xslt\\+xml|signed-exchange|webbundle)"
    "|application/(?:x-)?(?:java-archive|java-applet|silverlight-app)"
    "|text/(?:css|xsl|jscript|livescript|vbscript|x-component|cache-manifest|javascript.*)",
    re.DOTALL,
)
# The longest file name that common file systems accept.
_LONGEST_NAME = 255
# Longer types are not kept in memory. Strangers choose them.
_LONGEST_KEPT = 200
# The attr-char set of RFC 8187 without letters and digits.
_ATTRIBUTE = "!#$&+-.^_`|~"
# Few recipients undo backslashes, and some decode percent signs (RFC 6266, appendix D).
_UNSAFE = str.maketrans(dict.fromkeys('"\\%/', "_"))


def describe(
    info: FileInfo,
    *,
    media_type: str | None = None,
    filename: str | None = None,
    disposition: str | None = None,
    cache_control: str | None = None,
    resource_policy: str | None = None,
    security_policy: str | None = None,
) -> dict[str, str]:
    """Return the fields of a 200 response: type, validators, digest, file name and policies, but not the length.

    The defaults suit files that strangers uploaded. Types that a page could load to run or to apply (scripts, style
    sheets, WebAssembly) become `application/octet-stream`, and a browser runs no script of the file.

    ```python
    info = await Bucket(client["zoo"]).upload(b"a marmot", filename="marmot.txt")
    assert http.describe(info)["content-type"] == "text/plain; charset=utf-8"
    ```

    Args:
        info: The record of the stored file.
        media_type: Replaces the type in the record, and is sent even if a page could load it as a script.
        filename: Replaces the name in the record.
        disposition: "inline" or "attachment". By default, types that a browser can run or apply are attachments.
        cache_control: The Cache-Control field. "private" by default, and "" for no such field.
        resource_policy: The Cross-Origin-Resource-Policy field. "same-origin" by default, and "" for no such field.
        security_policy: The Content-Security-Policy field, and "" for no such field. By default "sandbox", with
            "allow-same-origin" for sound and films, and none for PDF.

    Returns:
        The fields, names in lower case.
    """
    given = media_type or info.content_type or OCTET_STREAM
    kind, runs, loads = (_judge if len(given) <= _LONGEST_KEPT else _judge.__wrapped__)(given)
    shown_as = disposition or ("attachment" if runs or loads else "inline")
    sent = {"content_type": media_type} if media_type else {}
    if not media_type and loads:
        kind = OCTET_STREAM
        sent = {"content_type": kind}  # another entity tag than the one of a response with the type itself
    shown = info
    if sent or (filename and filename != info.filename):
        shown = replace(info, filename=filename or info.filename, metadata={**info.metadata, **sent})
    # Starlette's responses also default to UTF-8 for text, and `put` encodes a str as UTF-8.
    if kind.startswith("text/") and "charset=" not in kind.lower():
        kind += "; charset=utf-8"
    fields = {
        "content-type": kind,
        "accept-ranges": "bytes",
        "etag": shown.etag,
        "x-content-type-options": "nosniff",
        "content-disposition": content_disposition(shown_as, filename or info.filename),
        "cache-control": "private" if cache_control is None else cache_control,
        "cross-origin-resource-policy": "same-origin" if resource_policy is None else resource_policy,
        "content-security-policy": _sandbox(kind) if security_policy is None else security_policy,
    }
    fields = {name: value for name, value in fields.items() if value}
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
    return _RUNNABLE.fullmatch(_essence(media_type)) is not None


def is_loaded(media_type: str) -> bool:
    """Check whether a page may load a file of this type to run it or to apply it: scripts, style sheets, WebAssembly.

    ```python
    assert http.is_loaded("text/javascript") and not http.is_loaded("text/html")
    ```
    """
    return _LOADED.fullmatch(_essence(media_type)) is not None


@functools.lru_cache(256)
def _judge(value: str) -> tuple[str, bool, bool]:
    """Return the type that is safe to send, whether it can run, and whether it is loaded: a service has few types."""
    kind = checked_media_type(value)
    return kind, can_run(kind), is_loaded(kind)


def _sandbox(media_type: str) -> str:
    kind = _essence(media_type)
    # Viewers of PDF run no code in the origin of the page, and older browsers refuse to start them in a sandbox.
    if kind == "application/pdf":
        return ""
    # The browser asks for more of a film that it shows as a document. Without an origin it may not ask.
    return "sandbox allow-same-origin" if kind.startswith(("audio/", "video/")) else "sandbox"


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


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
