"""What the header fields of an answer tell about a stored file."""

from __future__ import annotations

import base64

from gridproxy.gridfs.records.file_info import FileInfo

from .dates import format_date
from .disposition import content_disposition
from .media_types import can_run, checked_media_type


def describe(
    info: FileInfo,
    *,
    media_type: str | None = None,
    filename: str | None = None,
    disposition: str | None = None,
) -> dict[str, str]:
    """The fields of a 200, by names in lower case: type, validators, digest, the name to save it by; not the length.

    `media_type` and `filename` stand in for those of the record. `disposition` is "inline" or "attachment"; None
    decides by the type: what a browser could run is an attachment.
    """
    kind = checked_media_type(media_type or info.content_type)
    # Text is UTF-8 where nobody says otherwise, as in Starlette's responses; and as `put` encodes a str.
    if kind.startswith("text/") and "charset=" not in kind.lower():
        kind += "; charset=utf-8"
    fields = {
        "content-type": kind,
        "accept-ranges": "bytes",
        "etag": info.etag,
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


def repr_digest(sha256: str) -> str:
    """The value of Repr-Digest (RFC 9530) for a SHA-256 in hex: that of the whole file, whatever part is sent.

    Raises ValueError for what is no hex.
    """
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}:"
