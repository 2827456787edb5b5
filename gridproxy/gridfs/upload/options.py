"""The options of an upload, checked before any byte is sent."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument
from bson.int64 import Int64
from pymongo.asynchronous.client_session import AsyncClientSession

from gridproxy.errors import BadFilename, BadId, BadMetadata, BadOption, DuplicateKey, shown, type_name
from gridproxy.gridfs.content.limits import NO_LIMITS, Guesses, Limits, likeliest_type
from gridproxy.gridfs.content.sniffing import certain_type
from gridproxy.gridfs.content.variants import without_picture_keys
from gridproxy.gridfs.records.chunks import CHUNK_KEYS, MAX_DOCUMENT, check_chunk_size
from gridproxy.gridfs.records.file_info import is_sha256, utc_milliseconds, utc_now
from gridproxy.gridfs.records.ids import check_id
from gridproxy.gridfs.records.media_types import is_specific, type_by_name
from gridproxy.runtime.progress import Progress

# Old browsers send the whole path on the client's disk.
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\\)\\.*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """The checked options of one upload. The bucket decides an `id` or a `chunk_size` (bytes) that is None."""

    id: object = None
    filename: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, Any]
    chunk_size: int | None = None
    encoding: str = "utf-8"
    expires_at: datetime | None = None
    expires_after: timedelta | None = None
    limits: Limits = NO_LIMITS
    guesses: Guesses | None = None  # if the caller gave no content type, which is then only the first of these
    keeps_metadata: bool = True  # whether a source that is a stored file brings its metadata
    upload_id: ObjectId | None = None  # what marks the chunks of an upload with an `id`. None for a new one

    def keeping(self, metadata: Mapping[str, Any]) -> UploadRequest:
        """Return the request with the metadata of its source, unless the caller gave `metadata=`."""
        if not metadata or not self.keeps_metadata:
            return self
        # They are not checked: other drivers may have stored keys that are refused here.
        return replace(self, metadata={**metadata, **self.metadata})

    def completed_by(self, filename: str | None, content_type: str | None) -> UploadRequest:
        """Return the request with the names of its source for those that the caller did not give."""
        if filename is not None and self.filename is None:
            if _WINDOWS_PATH.fullmatch(filename):
                filename = filename.rpartition("\\")[2] or None
            if filename is not None:
                check_filename(filename)
        name = filename if self.filename is None else self.filename
        if self.content_type is not None or self.guesses is not None:
            return self if name == self.filename else replace(self, filename=name)
        declared = content_type if content_type is not None and is_specific(content_type) else None
        named = None if name is None else type_by_name(name)
        return replace(self, filename=name, content_type=declared or named, guesses=(declared, named))

    @property
    def typed_by_content(self) -> bool:
        """Whether the first bytes decide the content type, because the source and the name do not agree on one."""
        return self.guesses is not None and (self.guesses[0] is not None or self.guesses[1] is None)

    def typed(self, head: bytes) -> UploadRequest:
        """Return the request with the content type for these first bytes."""
        if self.guesses is None:
            return self
        kind = certain_type(head) if self.guesses == (None, None) else likeliest_type(self.guesses, head)
        return replace(self, content_type=kind, guesses=None)

    def expiring_from(self, now: datetime) -> UploadRequest:
        """Return the request with one moment of expiry for several files."""
        if self.expires_after is None:
            return self
        return replace(self, expires_at=utc_milliseconds(now + self.expires_after), expires_after=None)

    def record(
        self, id: object, length: int, chunk_size: int, sha256: str | None, now: datetime | None = None
    ) -> dict[str, Any]:
        """Return the `files` document of an upload that ends `now` (GridFS spec: Int64 length, date of the end)."""
        now = now or utc_now()
        record: dict[str, Any] = {"_id": id, "length": Int64(length), "chunkSize": chunk_size, "uploadDate": now}
        if self.filename is not None:
            record["filename"] = self.filename
        metadata = dict(self.metadata)
        if self.content_type is not None:
            metadata["content_type"] = self.content_type
        if sha256 is not None:
            metadata["sha256"] = sha256
        record["metadata"] = metadata
        if self.expires_at is not None:
            record["expires_at"] = self.expires_at
        elif self.expires_after is not None:
            record["expires_at"] = utc_milliseconds(now + self.expires_after)
        return record


class UploadOptions(TypedDict, total=False):
    """The options of an upload. Each of them may be left out."""

    filename: str | None
    """The stored name. None for the base name of the source's name."""
    content_type: str | None
    """The media type, stored in the metadata. None for a guess."""
    metadata: Mapping[str, Any] | None
    """Keys and BSON values that are stored with the file. None for those of a source that is a stored file. What is
    computed in the metadata of a record (`metadata=info.metadata`), such as `sha256`, is computed again."""
    encoding: str
    """The encoding of a source that is a str. UTF-8 unless given."""
    chunk_size: int | None
    """The size in bytes of each chunk except the last. None for the chunk size of the bucket."""
    id: object
    """The file's id. None for a new `ObjectId`."""
    expires_at: datetime | None
    """The time from which on the file is missing to every read. A naive datetime is UTC."""
    expires_after: timedelta | float | None
    """The same as a timedelta or a number of seconds from the upload date, by the server's clock."""


class TransferOptions(UploadOptions, total=False):
    """The options of a call that uploads: those of the upload, the session and the progress."""

    session: AsyncClientSession | None
    """A session of pymongo's. In a transaction only the record takes part in it."""
    progress: Progress | None
    """Called with (bytes done, bytes in all or None). An awaitable that it returns is awaited."""


def split_metadata(keywords: Mapping[str, Any]) -> tuple[UploadOptions, dict[str, Any]]:
    """Split keywords into the options of an upload and all others, which are metadata.

    Raises `BadOption` for a keyword that is almost the name of an option.
    """
    if not keywords:
        return {}, {}
    known = UploadOptions.__annotations__
    for key in keywords.keys() - known.keys():
        if meant := _near_option(key):
            raise BadOption(
                f"{key}= looks like the option {meant}=: rename it, or pass metadata={{{key!r}: ...}} for a key of "
                "the metadata"
            )
    options: Any = {key: value for key, value in keywords.items() if key in known}
    return options, {key: value for key, value in keywords.items() if key not in known}


def _near_option(key: str) -> str | None:
    """Return the option of an upload that is spelled almost like `key`, or None."""
    options = {option.replace("_", ""): option for option in TransferOptions.__annotations__}
    if (same := options.get(key.replace("_", "").lower())) is not None:
        return same
    return next(iter(difflib.get_close_matches(key.lower(), options.values(), n=1, cutoff=0.85)), None)


def upload_request(
    *, limits: Limits = NO_LIMITS, more_metadata: Mapping[str, Any] | None = None, **options: Unpack[UploadOptions]
) -> UploadRequest:
    """Check the options of an upload.

    Raises `BadOption`, `BadMetadata` or `BadId`, and `TypeError` for a keyword that is not an option.
    """
    if unknown := options.keys() - UploadOptions.__annotations__.keys():
        meant = _near_option(min(unknown))
        hint = f"did you mean {meant}= ?" if meant else f"only {', '.join(UploadOptions.__annotations__)}"
        raise TypeError(f"an upload has no option {min(unknown)!r}, {hint}")
    filename, content_type = options.get("filename"), options.get("content_type")
    chunk_size, encoding, id = options.get("chunk_size"), options.get("encoding", "utf-8"), options.get("id")
    if filename is not None:
        check_filename(filename)
    if encoding != "utf-8":
        _check_encoding(encoding)
    if id is not None:
        check_id(id)
    if chunk_size is not None:
        check_chunk_size(chunk_size)
    merged: dict[str, Any] = {}
    metadata = options.get("metadata")
    if isinstance(metadata, Mapping) and is_sha256(metadata.get("sha256")):  # of a record: `metadata=info.metadata`
        metadata = without_picture_keys({key: value for key, value in metadata.items() if key != "sha256"})
    if more_metadata or content_type is not None or metadata is not None:
        named = {} if content_type is None else {"content_type": content_type}
        merged = merge_metadata(metadata, {**named, **(more_metadata or {})})
    declared = merged.pop("content_type", None)
    if declared is not None and not isinstance(declared, str):
        raise BadOption(f"content_type is a str such as 'image/png', not {type_name(declared)}")
    return UploadRequest(
        id=id,
        filename=filename,
        content_type=declared,
        metadata=merged,
        chunk_size=chunk_size,
        encoding=encoding,
        **_expiry(options.get("expires_at"), options.get("expires_after")),
        limits=limits,
        keeps_metadata=metadata is None,
    )


def merge_metadata(metadata: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both into one dict. Raises `DuplicateKey` for a key in both, `BadMetadata` for one of a wrong form."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise BadMetadata(f"metadata is a mapping of str to BSON values, not {type_name(metadata)}")
    merged = dict(metadata or {})
    for key, value in more.items():
        if key in merged:
            raise DuplicateKey(key)
        merged[key] = value
    check_metadata_keys(merged)
    return merged


def check_metadata_keys(keys: Iterable[object]) -> None:
    """Refuse keys that could not be edited later (with a dot or `$`), and `sha256`, which the upload computes."""
    for key in keys:
        if not isinstance(key, str):
            raise BadMetadata(f"metadata keys are str, not {type_name(key)}: {key!r}")
        if not key or "." in key or key.startswith("$") or "\0" in key:
            raise BadMetadata(
                f"metadata key {shown(key)}: a key is not empty, has no '.' and no NUL, and starts with no '$'"
            )
        if key == "sha256":
            raise BadMetadata("metadata key 'sha256' is computed from the bytes and cannot be set or edited")


def check_filename(filename: object) -> None:
    """Raise `BadFilename` unless the name is a str that UTF-8 can store, without NUL. Slashes have no meaning."""
    if not isinstance(filename, str):
        raise BadFilename(f"filename is a str, not {type_name(filename)}")
    if "\0" in filename:
        raise BadFilename(f"filename {shown(filename)} contains a NUL character")
    try:
        filename.encode()
    except UnicodeEncodeError:  # a path whose bytes are not UTF-8 is decoded to such characters
        raise BadFilename(f"filename {shown(filename)} contains characters that UTF-8 cannot store") from None


def check_record(record: Mapping[str, Any], chunk_size: int, codec_options: CodecOptions[dict[str, Any]]) -> None:
    """Encode the record as it would be stored, to raise the server's objections before any byte is sent."""
    try:
        key = len(bson.encode({"_id": record["_id"]}, codec_options=codec_options))
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise BadId(f"{shown(record['_id'])} cannot be a file's id: {error}") from error
    if chunk_size + key > MAX_DOCUMENT - CHUNK_KEYS + 64:
        raise BadOption(f"an id of {key} bytes and a chunk of {chunk_size} do not fit into one document of 16 MiB")
    try:
        size = len(bson.encode(record, codec_options=codec_options))
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise BadMetadata(f"the metadata cannot be stored: {error}") from error
    if size > MAX_DOCUMENT:
        raise BadMetadata(
            f"the record would have {size} bytes, and MongoDB allows {MAX_DOCUMENT}: shorten the metadata"
        )


def _check_encoding(encoding: object) -> None:
    try:
        "".encode(encoding)  # type: ignore[arg-type]  # a non-str raises the TypeError that is caught below
    except (LookupError, TypeError, ValueError) as error:
        raise BadOption(f"encoding {encoding!r} is not known: {error}") from None


def checked_expiry(at: object) -> datetime:
    """Return a time of expiry in UTC. Raises `BadOption` if it is not a datetime that BSON can store."""
    if not isinstance(at, datetime):
        raise BadOption(f"expires_at is a datetime, not {type_name(at)}")
    try:
        return utc_milliseconds(at)
    except OverflowError:
        raise BadOption(f"expires_at {at!r} is not a valid date in UTC") from None


def _expiry(at: object, after: object) -> dict[str, Any]:
    if at is None and after is None:
        return {}
    if at is not None and after is not None:
        raise BadOption("expires_at and expires_after set the same thing: give only one of them")
    if at is not None:
        return {"expires_at": checked_expiry(at)}
    if not isinstance(after, timedelta | int | float) or isinstance(after, bool):
        raise BadOption(f"expires_after is a timedelta or seconds, not {type_name(after)}")
    try:
        duration = after if isinstance(after, timedelta) else timedelta(seconds=after)
        utc_milliseconds(utc_now() + duration)
    except (OverflowError, ValueError):
        raise BadOption(f"expires_after {after!r} does not result in a valid date") from None
    return {"expires_after": duration}
