"""`FileInfo`, the immutable form of a document in the `files` collection (GridFS spec)."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType, NoneType
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64

from gridproxy.errors import CorruptFile, shown

from .media_types import recorded_type

_SHA256 = re.compile("[0-9a-fA-F]{64}")
# BSON dates outside Python's range become the first or the last date that Python has.
_CLAMPED = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP)
_LONGEST = 2**63 - 1  # the largest length that BSON can store
# When a document began to point to an old file. The garbage collector spares files that were referenced lately.
REFERENCED_AT = "referenced_at"
# Which upload stored a file, in its record and its chunks. Only uploads under an id of the caller's have it: the id may
# be used again, and a late delete must not remove the chunks of a later file.
UPLOAD_ID = "upload_id"
_OWN_KEYS = frozenset(
    {"_id", "length", "chunkSize", "uploadDate", "filename", "metadata", "expires_at", REFERENCED_AT, UPLOAD_ID}
)


def utc_milliseconds(moment: datetime) -> datetime:
    """Return the moment as an aware UTC datetime, cut to the milliseconds of BSON. A naive one is taken as UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def local_time() -> float:
    """Return this machine's time in seconds (Unix time). Nothing else in the package reads the clock."""
    return time.time()


def utc_now(offset: float = 0.0) -> datetime:
    """Return this machine's time in UTC, corrected by `offset` in seconds and cut to the milliseconds of BSON."""
    now = datetime.fromtimestamp(local_time() + offset, UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def is_sha256(value: object) -> bool:
    """Return whether the value is a SHA-256 in hex."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The immutable description of one stored file, read from its `files` document (GridFS spec).

    Attributes:
        id: The file's id, `_id` in the document.
        filename: The file's name, or None.
        length: The file's length in bytes, 0 if the document has none.
        chunk_size: The size of its chunks in bytes. 0 is possible for an empty file.
        upload_date: When the upload ended, as an aware UTC datetime cut to milliseconds, or None.
        metadata: The stored metadata, read-only. Empty if the document has none.
        expires_at: When the file expires, as an aware UTC datetime cut to milliseconds, or None.
        extra: Other top-level keys of the document, such as the legacy `contentType`, `aliases` and `md5`.

    ```python
    info = await Bucket(client["zoo"]).upload(b"some content", filename="notes.txt")
    assert (info.filename, info.length, info.chunk_count) == ("notes.txt", 12, 1)
    ```
    """

    id: object
    filename: str | None
    length: int
    chunk_size: int
    upload_date: datetime | None
    metadata: Mapping[str, Any]
    expires_at: datetime | None
    extra: Mapping[str, Any]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FileInfo:
        """Return the info of a `files` document, which any GridFS driver may have written.

        Args:
            record: The document as pymongo returns it.

        Raises:
            CorruptFile: The length or the chunk size is not valid.

        ```python
        record = await bucket.store.files.find_one({"_id": info.id})
        assert FileInfo.from_record(record) == info
        ```
        """
        id = record.get("_id")
        # Old PHP drivers stored no length for an empty file.
        length = _whole_number(id, "length", record.get("length", 0), at_least=0)
        # A record without chunks does not need a chunk size, and some writers left it out there.
        chunk_size = _whole_number(id, "chunkSize", record.get("chunkSize", 0), at_least=1 if length else 0)
        filename, metadata = record.get("filename"), record.get("metadata")
        extra = {key: value for key, value in record.items() if key not in _OWN_KEYS}
        return cls(
            id=id,
            filename=filename if isinstance(filename, str) else None,
            length=length,
            chunk_size=chunk_size,
            upload_date=_moment(record.get("uploadDate")),
            metadata=MappingProxyType(_copied(metadata) if isinstance(metadata, Mapping) else {}),
            expires_at=None if (expires_at := record.get("expires_at")) is None else _moment(expires_at),
            extra=MappingProxyType(_copied(extra) if extra else {}),
        )

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> FileInfo:
        """Return the info that `snapshot` stored in a document.

        Args:
            snapshot: The stored snapshot, also if it was converted to JSON.

        Raises:
            CorruptFile: The snapshot has a length, a chunk size or a date that is not valid.

        ```python
        assert FileInfo.from_snapshot(info.snapshot()).filename == info.filename
        ```
        """
        date = snapshot.get("upload_date")
        if isinstance(date, str):  # from JSON
            try:
                date = datetime.fromisoformat(date)
            except ValueError:
                raise CorruptFile(snapshot.get("_id"), f"its snapshot has upload_date={shown(date)}") from None
        record = {
            "_id": snapshot.get("_id"),
            "filename": snapshot.get("filename"),
            "length": snapshot.get("length"),
            "chunkSize": snapshot.get("chunk_size"),
            "uploadDate": date,
            "metadata": snapshot.get("metadata"),
        }
        declared = snapshot.get("content_type")
        info = cls.from_record(record)
        return info if info.content_type == declared else cls.from_record({**record, "contentType": declared})

    def snapshot(self) -> dict[str, Any]:
        """Return a dict that a document can store to display the file without loading its record.

        ```python
        assert info.snapshot()["length"] == info.length
        ```
        """
        return {
            "_id": self.id,
            "filename": self.filename,
            "length": Int64(self.length),
            "chunk_size": self.chunk_size,
            "content_type": self.content_type,
            "upload_date": self.upload_date,
            "metadata": _copied(self.metadata),
        }

    @property
    def content_type(self) -> str | None:
        """The media type: `content_type` in `metadata`, else what another driver stored, else that of the filename."""
        return recorded_type(self.metadata, self.extra, self.filename)

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file's bytes in hex, or None if the upload did not compute it."""
        value = self.metadata.get("sha256")
        # Other writers may store any value under this name, but `etag` and `verify` need a digest.
        return str(value).lower() if is_sha256(value) else None

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110, 8.8.3) with its quotes. It changes with the bytes, the type and the name."""
        # Not as BSON, because the encoding of some ids depends on codec options that are unknown here.
        content = self.sha256 or (self.id, self.length, self.upload_date)
        identity = repr((content, self.content_type, self.filename))
        return f'"{hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'

    @property
    def chunk_count(self) -> int:
        """The number of chunks, 0 for an empty file."""
        return -(-self.length // self.chunk_size) if self.length else 0

    def expired(self, now: datetime | None = None) -> bool:
        """Return whether the file has expired.

        Args:
            now: The time to compare with, an aware datetime. None is the current time of this machine.

        ```python
        info = await Bucket(client["zoo"]).upload(b"some content", expires_after=3600)
        assert not info.expired()
        ```
        """
        return self.expires_at is not None and self.expires_at <= (now or utc_now())

    def to_record(self) -> dict[str, Any]:
        """Return the `files` document (GridFS spec) as a new dict.

        ```python
        assert info.to_record()["chunkSize"] == info.chunk_size
        ```
        """
        record: dict[str, Any] = {
            "_id": self.id,
            "length": self.length,
            "chunkSize": self.chunk_size,
            "uploadDate": self.upload_date,
            "filename": self.filename,
            "metadata": _copied(self.metadata),
        }
        if self.expires_at is not None:
            record["expires_at"] = self.expires_at
        return {**record, **_copied(self.extra)}

    def __reduce__(self) -> tuple[object, ...]:
        # Read-only mappings cannot be pickled or deep-copied.
        return FileInfo.from_record, (self.to_record(),)


def _whole_number(id: object, name: str, value: object, *, at_least: int) -> int:
    """Return a length as int (other drivers wrote int32, int64 and double), or raise `CorruptFile`."""
    try:
        number = int(value)  # type: ignore[call-overload]  # the value may be of any type
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(value, bool | str) or not at_least <= number <= _LONGEST or number != value:
        raise CorruptFile(id, f"its record has {name}={shown(value)}")
    return int(number)


# Most metadata have values of these types only, and a deep copy takes ten times as long.
_UNCHANGING = frozenset({NoneType, ObjectId, Int64, bool, bytes, datetime, float, int, str})


def _copied(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that shares nothing that can be changed."""
    copied = dict(mapping)
    for value in copied.values():
        if type(value) not in _UNCHANGING:
            return deepcopy(copied)
    return copied


def _moment(value: object) -> datetime | None:
    if isinstance(value, DatetimeMS):
        value = value.as_datetime(_CLAMPED)
    if not isinstance(value, datetime):
        return None
    try:
        return utc_milliseconds(value)
    except OverflowError:  # a zone moves it beyond the first or the last date
        edge = datetime.min.replace(tzinfo=UTC) if value.year == 1 else datetime.max.replace(tzinfo=UTC)
        return utc_milliseconds(edge)
