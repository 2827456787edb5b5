"""The tus protocol for resumable uploads, version 1.0.0 (https://tus.io/protocols/resumable-upload), without any I/O.

Each `parse_...` function reads the header fields of one request, whose names are in lower case.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from .dates import format_date

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum"
# The protocol demands sha1. The others are for clients that choose.
ALGORITHMS = ("sha256", "sha1", "md5")
CONTENT_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460

# What a page of another origin has to be allowed to send and to read (CORS).
REQUEST_FIELDS = (
    "Content-Type",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
)
ANSWER_FIELDS = (
    "Location",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Defer-Length",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
)

_LARGEST = 2**63 - 1  # the largest length that BSON can store
_NUMBER = re.compile("[0-9]{1,19}")
# A key is printable ASCII without space and comma. A value is Base64, or is left out with its space.
_PAIR = re.compile(r"([!-+\--~]+)(?: ([A-Za-z0-9+/]*={0,2}))?")
_LONGEST_METADATA = 8192  # characters


class TusRefused(Exception):
    """A request that the protocol does not allow.

    Attributes:
        status: The status of the answer.
        reason: Why, in a sentence for people.
        fields: Header fields of the answer.
    """

    def __init__(self, status: int, reason: str, fields: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.reason = reason
        self.fields: dict[str, str] = dict(fields or {})
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request have to hash to."""

    algorithm: str
    digest: bytes

    def start(self) -> hashlib._Hash:
        """Return a new hash of the algorithm."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def check(self, found: hashlib._Hash) -> None:
        """Raise `TusRefused` (460) if the bytes are not those that the client has sent."""
        if found.digest() != self.digest:
            raise TusRefused(CHECKSUM_MISMATCH, "The bytes do not have their checksum. They were not stored.")


@dataclass(frozen=True, slots=True)
class Creation:
    """A request that begins an upload. `length` is in bytes, and None if it is announced later."""

    length: int | None
    metadata: Mapping[str, str]
    raw_metadata: str
    has_content: bool
    checksum: Checksum | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A request that appends bytes at `offset`. `length` announces the length of the upload, or is None."""

    offset: int
    length: int | None
    checksum: Checksum | None


def method_of(method: str, fields: Mapping[str, str]) -> str:
    """Return the method that the client means. Some clients can send only GET and POST.

    Only a POST is overridden, because filters let other sites send a GET.
    """
    return fields.get("x-http-method-override", method).upper() if method == "POST" else method


def check_version(fields: Mapping[str, str]) -> None:
    """Raise `TusRefused` (412) if the client speaks another version."""
    if fields.get("tus-resumable") != VERSION:
        reason = f"This server speaks tus {VERSION}: send Tus-Resumable: {VERSION}."
        raise TusRefused(HTTPStatus.PRECONDITION_FAILED, reason, {"Tus-Version": VERSION})


def options_fields(max_size: int | None) -> dict[str, str]:
    """Return the fields of the answer to OPTIONS. `max_size` is in bytes."""
    fields = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return fields if max_size is None else {**fields, "Tus-Max-Size": str(max_size)}


def parse_creation(fields: Mapping[str, str]) -> Creation:
    """Read a POST. Raises `TusRefused`."""
    if "upload-concat" in fields:
        raise TusRefused(HTTPStatus.BAD_REQUEST, "This server does not concatenate uploads: send the file as one.")
    deferred = fields.get("upload-defer-length")
    if deferred not in (None, "1"):
        raise TusRefused(HTTPStatus.BAD_REQUEST, "Upload-Defer-Length is 1, or is left out.")
    if (deferred is None) == ("upload-length" not in fields):
        raise TusRefused(HTTPStatus.BAD_REQUEST, "Send either Upload-Length, or Upload-Defer-Length: 1.")
    raw = fields.get("upload-metadata", "").strip(" \t")
    return Creation(
        length=_number(fields, "upload-length") if deferred is None else None,
        metadata=parse_metadata(raw),
        raw_metadata=raw,
        has_content=_media_type(fields) == CONTENT_TYPE,
        checksum=_checksum(fields),
    )


def parse_patch(fields: Mapping[str, str]) -> Patch:
    """Read a PATCH. Raises `TusRefused`."""
    if _media_type(fields) != CONTENT_TYPE:
        raise TusRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type of a PATCH is {CONTENT_TYPE}.")
    if fields.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise TusRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The bytes of an upload cannot be compressed.")
    return Patch(
        offset=_number(fields, "upload-offset"),
        length=_number(fields, "upload-length") if "upload-length" in fields else None,
        checksum=_checksum(fields),
    )


def parse_metadata(text: str) -> dict[str, str]:
    """Return the decoded pairs of an Upload-Metadata field. A key without a value has the empty one.

    Raises `TusRefused` (400) for a key that is empty or repeated, and for a value that is not UTF-8 in Base64.
    """
    if len(text) > _LONGEST_METADATA:
        raise TusRefused(HTTPStatus.BAD_REQUEST, f"Upload-Metadata has at most {_LONGEST_METADATA} characters.")
    pairs: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        found = _PAIR.fullmatch(pair.strip(" "))
        if found is None or found[1] in pairs:
            raise TusRefused(
                HTTPStatus.BAD_REQUEST, "Upload-Metadata is a list of different keys, each with a value in Base64."
            )
        try:
            pairs[found[1]] = base64.b64decode(found[2] or "", validate=True).decode()
        except ValueError:  # binascii.Error and UnicodeDecodeError
            raise TusRefused(HTTPStatus.BAD_REQUEST, "A value in Upload-Metadata is not UTF-8 in Base64.") from None
    return pairs


def state_fields(
    offset: int, length: int | None, expires_at: datetime | None = None, raw_metadata: str = ""
) -> dict[str, str]:
    """Return the fields that describe an upload. `offset` and `length` are in bytes."""
    fields = {"Upload-Offset": str(offset), "Cache-Control": "no-store"}
    if length is None:
        fields["Upload-Defer-Length"] = "1"
    else:
        fields["Upload-Length"] = str(length)
    if expires_at is not None:
        fields["Upload-Expires"] = format_date(expires_at)
    if raw_metadata:
        fields["Upload-Metadata"] = raw_metadata
    return fields


def _media_type(fields: Mapping[str, str]) -> str:
    return fields.get("content-type", "").partition(";")[0].strip().lower()


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text) > _LARGEST:
        raise TusRefused(HTTPStatus.BAD_REQUEST, f"{name.title()} is a whole number of bytes, and not negative.")
    return int(text)


def _checksum(fields: Mapping[str, str]) -> Checksum | None:
    text = fields.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm not in ALGORITHMS:
        raise TusRefused(HTTPStatus.BAD_REQUEST, f"The algorithms of Upload-Checksum are {', '.join(ALGORITHMS)}.")
    try:
        checksum = Checksum(algorithm, base64.b64decode(value, validate=True))
    except ValueError:
        checksum = Checksum(algorithm, b"")
    if len(checksum.digest) != checksum.start().digest_size:
        raise TusRefused(HTTPStatus.BAD_REQUEST, f"Upload-Checksum has no {algorithm} in Base64.")
    return checksum
