"""FileInfo: one record of a `files` collection (GridFS spec), frozen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64

from gridproxy.errors import CorruptFile

_SHA256 = re.compile("[0-9a-fA-F]{64}")
# What BSON can say and Python cannot is a moment all the same: the first one, or the last.
_CLAMPED = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP)
_LONGEST = 2**63 - 1  # bytes that a server can count
_OWN_KEYS = frozenset({"_id", "length", "chunkSize", "uploadDate", "filename", "metadata", "expires_at"})


def utc_milliseconds(moment: datetime) -> datetime:
    """The same moment, aware, in UTC, cut to the milliseconds that BSON keeps (a naive one is UTC)."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def utc_now() -> datetime:
    """This moment as BSON would keep it."""
    return utc_milliseconds(datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One stored file as its `files` document tells it (GridFS spec); a value that does not change.

    `length` and `chunk_size` are in bytes (an empty file may have a chunk size of 0), `upload_date` and `expires_at`
    aware and in UTC, cut to milliseconds; they and `filename` are None where the record has none. `metadata` is what
    is stored (read-only; empty where a legacy record has null), and `extra` holds the top-level keys that other
    writers left (`contentType`, `aliases`, `md5`, anything).
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
        """Read one `files` document, whoever wrote it.

        Raises `CorruptFile` when its length or chunk size cannot be a file's.
        """
        id = record.get("_id")
        length = _whole_number(id, "length", record.get("length"), at_least=0)
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
            metadata=MappingProxyType(deepcopy(dict(metadata)) if isinstance(metadata, Mapping) else {}),
            expires_at=_moment(record.get("expires_at")),
            extra=MappingProxyType(deepcopy(extra)),
        )

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> FileInfo:
        """What a document keeps of a file (see `snapshot`); raises `CorruptFile` where that cannot be a file's."""
        date = snapshot.get("upload_date")
        if isinstance(date, str):  # as JSON has it
            try:
                date = datetime.fromisoformat(date)
            except ValueError:
                raise CorruptFile(snapshot.get("_id"), f"its snapshot has upload_date={date!r}") from None
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
        """The metadata that a document can keep beside the id: for display, without asking for the record."""
        return {
            "_id": self.id,
            "filename": self.filename,
            "length": Int64(self.length),
            "chunk_size": self.chunk_size,
            "content_type": self.content_type,
            "upload_date": self.upload_date,
            "metadata": deepcopy(dict(self.metadata)),
        }

    @property
    def content_type(self) -> str | None:
        """`metadata['content_type']`, else `metadata['contentType']`, else the legacy top-level `contentType`."""
        for source, key in (
            (self.metadata, "content_type"),
            (self.metadata, "contentType"),
            (self.extra, "contentType"),
        ):
            value = source.get(key)
            if isinstance(value, str):
                return value
        return None

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the bytes in hex, where it was computed at upload."""
        value = self.metadata.get("sha256")
        # Others may keep anything under this name; an entity tag and `verify` need what it says.
        return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value) else None

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110, 8.8.3), quotes included: a stored file never changes under its id."""
        if self.sha256 is not None:
            return f'"{self.sha256}"'
        # Not as BSON: what some ids encode to depends on codec options that are not known here.
        identity = repr((self.id, self.length, self.upload_date))
        return f'"{hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'

    @property
    def chunk_count(self) -> int:
        """How many chunks the bytes lie in; 0 for an empty file."""
        return -(-self.length // self.chunk_size) if self.length else 0

    def expired(self, now: datetime | None = None) -> bool:
        """Whether `expires_at` has passed at `now`, an aware datetime (None: this moment in UTC, by this machine's
        clock).
        """
        return self.expires_at is not None and self.expires_at <= (now or utc_now())

    def to_record(self) -> dict[str, Any]:
        """The `files` document again, as a dict of its own."""
        record: dict[str, Any] = {
            "_id": self.id,
            "length": self.length,
            "chunkSize": self.chunk_size,
            "uploadDate": self.upload_date,
            "filename": self.filename,
            "metadata": deepcopy(dict(self.metadata)),
        }
        if self.expires_at is not None:
            record["expires_at"] = self.expires_at
        return {**record, **deepcopy(dict(self.extra))}

    def __reduce__(self) -> tuple[object, ...]:
        # Read-only views neither pickle nor deep-copy.
        return FileInfo.from_record, (self.to_record(),)


def _whole_number(id: object, name: str, value: object, *, at_least: int) -> int:
    """Other drivers wrote lengths as int32, int64 and double; anything else is not a file."""
    try:
        number = int(value)  # type: ignore[call-overload]  # whatever a record holds; the except says what cannot be
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(value, bool | str) or not at_least <= number <= _LONGEST or number != value:
        raise CorruptFile(id, f"its record has {name}={value!r}")
    return int(number)


def _moment(value: object) -> datetime | None:
    if isinstance(value, DatetimeMS):
        value = value.as_datetime(_CLAMPED)
    return utc_milliseconds(value) if isinstance(value, datetime) else None
