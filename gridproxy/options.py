"""What is asked of one upload, and of one field: values that are checked before any byte moves."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument
from bson.int64 import Int64

from .errors import BadId, BadMetadata, BadOption, DuplicateKey, type_name
from .images import ImageOptions
from .info import utc_milliseconds, utc_now
from .limits import Limits, Validator, checked_content_types, checked_validators
from .sniffing import OCTET_STREAM

if TYPE_CHECKING:
    from .bucket import Bucket

__all__ = [
    "FileOptions",
    "OnDelete",
    "StoreAs",
    "UploadRequest",
    "check_filename",
    "check_metadata_keys",
    "merge_metadata",
    "upload_request",
]

T = TypeVar("T")

OnDelete = Literal["keep", "delete"]
StoreAs = Literal["id", "snapshot"]

MAX_DOCUMENT = 16 * 1024 * 1024
# Keys, types and an ObjectId around the bytes of a chunk, with room to spare.
_CHUNK_KEYS = 256
_NO_LIMITS = Limits()
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


# The options of the field that pydantic is looking at, once more for each file that was found in it.
_annotating: ContextVar[list[FileOptions] | None] = ContextVar("gridproxy_annotating", default=None)


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How one field keeps its files; the same declaration for every adapter.

    `bucket` is a `Bucket`, a bucket's name, or None for "fs"; `db_alias` the alias given to `connect`, None for that of
    the document, else "default". `store` says what the document keeps: the file's "id" (the default), or a "snapshot"
    of its metadata. `on_delete` says what becomes of the file when its document is deleted: "keep" (the default) or
    "delete".

    Limits: `max_size` (bytes) stops an upload at the byte that is too many. `content_types` ("image/png", "image/*")
    are the types that may come in; the first bytes have to bear out what the name or the sender says (extra `sniff`,
    asked for here and now). `validators` are called with the info and the first 64 KiB of a file before there is one,
    synchronous ones in a worker thread, and refuse by raising ValueError or returning False. A refusal is a
    `FileRefused` with the field, the limit and what came; nothing is stored then.

    `image` makes it a field of pictures: see `ImageOptions`.

    In a pydantic model it annotates a field: `photo: Annotated[AsyncGridFile, FileOptions(bucket="photos")]`. It holds
    for the default `= AsyncGridFile()` too, and for those of `Field(default=..., default_factory=...)` only where that
    says `validate_default=True`: pydantic looks at no default else.

    Raises `BadOption` for values that no field can have, and where an extra is missing.
    """

    bucket: Bucket | str | None = field(default=None, kw_only=False)
    db_alias: str | None = None
    store: StoreAs = "id"
    on_delete: OnDelete = "keep"
    max_size: int | None = None
    content_types: Iterable[str] | str | None = None
    validators: Iterable[Validator] | Validator | None = None
    image: ImageOptions | None = None
    _limits: Limits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.store not in ("id", "snapshot"):
            raise BadOption(f"store is 'id' or 'snapshot', not {self.store!r}")
        if self.on_delete not in ("keep", "delete"):
            raise BadOption(f"on_delete is 'keep' or 'delete', not {self.on_delete!r}")
        _check_max_size(self.max_size)
        _check_bucket(self.bucket)
        _check_alias(self.db_alias)
        if self.image is not None and not isinstance(self.image, ImageOptions):
            raise BadOption(f"image is an ImageOptions(...), not {type_name(self.image)}")
        limits = Limits(
            max_size=self.max_size,
            content_types=checked_content_types(self.content_types),
            validators=checked_validators(self.validators),
        )
        # As tuples, which no one changes, and which can be read more than once.
        object.__setattr__(self, "content_types", limits.content_types)
        object.__setattr__(self, "validators", limits.validators)
        object.__setattr__(self, "_limits", limits)

    def limits(self, field: str | None = None) -> Limits:
        """What a field of this name lets in; a pydantic model's field is known without one."""
        return replace(self._limits, field=field or self._limits.field)

    def _for_field(self, name: str | None) -> FileOptions:
        named = replace(self)
        object.__setattr__(named, "_limits", self.limits(name))
        return named

    @classmethod
    def of_field(cls) -> FileOptions:
        """The options of the pydantic field whose schema is being built at this moment."""
        asked = _annotating.get()
        if asked is None:
            return cls()
        asked.append(asked[0])
        return asked[0]

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], T]) -> T:
        # Around whatever lies inside: `Optional`, a list or a dict of files are annotated as a file is.
        asked = [self._for_field(getattr(handler, "field_name", None))]
        token = _annotating.set(asked)
        try:
            schema = handler(source)
        finally:
            _annotating.reset(token)
        if len(asked) == 1:
            raise BadOption(f"FileOptions annotates a field that holds AsyncGridFile, and there is none in {source!r}")
        around = _annotating.get()
        if around is not None and around[0] == self:  # said twice, as pydantic 2.7 does in a dataclass
            around.append(self)
        return schema

    def in_database(self, alias: str | None) -> FileOptions:
        """The same options, in the database of `alias` where they name none of their own."""
        return self if self.db_alias is not None or alias is None else replace(self, db_alias=alias)


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """One upload as it was asked for, checked; `id` and `chunk_size` (bytes) are None where the bucket decides."""

    id: object = None
    filename: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, Any]
    chunk_size: int | None = None
    encoding: str = "utf-8"
    expires_at: datetime | None = None
    limits: Limits = _NO_LIMITS

    def completed_by(self, filename: str | None, content_type: str | None) -> UploadRequest:
        """The same request with the names that its source brought, where the caller gave none."""
        if filename is not None and self.filename is None:
            check_filename(filename)
        name = filename if self.filename is None else self.filename
        return replace(self, filename=name, content_type=self.content_type or _guessed_type(name) or content_type)

    def record(self, id: object, length: int, chunk_size: int, sha256: str | None) -> dict[str, Any]:
        """The `files` document of the finished upload (GridFS spec: Int64 length, the date of its end)."""
        record: dict[str, Any] = {
            "_id": id,
            "length": Int64(length),
            "chunkSize": chunk_size,
            "uploadDate": utc_now(),
        }
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
        return record


def upload_request(
    *,
    filename: str | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    encoding: str = "utf-8",
    chunk_size: int | None = None,
    id: object = None,
    expires_at: datetime | None = None,
    expires_after: timedelta | float | None = None,
    limits: Limits = _NO_LIMITS,
    more_metadata: Mapping[str, Any] | None = None,
) -> UploadRequest:
    """Check what was asked; raises `BadOption`, `BadMetadata`, `BadId`, and nothing has happened then."""
    if filename is not None:
        check_filename(filename)
    _check_encoding(encoding)
    check_id(id)
    if chunk_size is not None:
        check_chunk_size(chunk_size)
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
        expires_at=_expiry(expires_at, expires_after),
        limits=limits,
    )


def merge_metadata(metadata: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Both in one dict; raises `DuplicateKey` for a key in both, `BadMetadata` for one that cannot be stored."""
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
    """Refuse keys that could not be edited later (dotted, `$`), and the one that is ours alone to write."""
    for key in keys:
        if not isinstance(key, str):
            raise BadMetadata(f"metadata keys are str, not {type_name(key)}: {key!r}")
        if not key or "." in key or key.startswith("$") or "\0" in key:
            raise BadMetadata(
                f"metadata key {key!r}: a key is not empty, has no '.' and no NUL, and starts with no '$'"
            )
        if key == "sha256":
            raise BadMetadata("metadata key 'sha256' is computed from the bytes and cannot be set or edited")


def check_filename(filename: object) -> None:
    """Any str that is text and has no NUL is a name; slashes are legal and mean nothing."""
    if not isinstance(filename, str):
        raise BadOption(f"filename is a str, not {type_name(filename)}")
    if "\0" in filename:
        raise BadOption(f"filename {filename!r} has a NUL character in it")
    try:
        filename.encode()
    except UnicodeEncodeError:  # a path whose bytes are no UTF-8 looks like that
        raise BadOption(f"filename {filename!r} has characters in it that UTF-8 cannot store") from None


def check_id(id: object) -> None:
    """Refuse before the first byte what a server would refuse as `_id` after the last (None means: make one)."""
    if isinstance(id, list | tuple | set | frozenset | re.Pattern | bson.Regex):
        raise BadId(f"{type_name(id)} cannot be a file's id: MongoDB takes no arrays and no patterns there")
    if isinstance(id, bson.DBRef) or (isinstance(id, Mapping) and any(str(key).startswith("$") for key in id)):
        raise BadId(f"{id!r} cannot be a file's id: its keys start with '$'")


def check_chunk_size(chunk_size: object) -> None:
    """A chunk, with its keys around it, has to fit into one document of 16 MiB."""
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool):
        raise BadOption(f"chunk_size is a whole number of bytes, not {type_name(chunk_size)} {chunk_size!r}")
    if not 1 <= chunk_size <= MAX_DOCUMENT - _CHUNK_KEYS:
        raise BadOption(
            f"chunk_size is 1 to {MAX_DOCUMENT - _CHUNK_KEYS} bytes (a chunk is one document), not {chunk_size}"
        )


def check_record(record: Mapping[str, Any], chunk_size: int, codec_options: CodecOptions[dict[str, Any]]) -> None:
    """Encode the record as it would be stored, so that what the server cannot take is refused before any byte moves."""
    try:
        key = len(bson.encode({"_id": record["_id"]}, codec_options=codec_options))
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise BadId(f"{record['_id']!r} cannot be a file's id: {error}") from error
    if chunk_size + key > MAX_DOCUMENT - _CHUNK_KEYS + 64:
        raise BadOption(f"an id of {key} bytes and a chunk of {chunk_size} do not fit into one document of 16 MiB")
    try:
        size = len(bson.encode(record, codec_options=codec_options))
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise BadMetadata(f"the metadata cannot be stored: {error}") from error
    if size > MAX_DOCUMENT:
        raise BadMetadata(f"the record would have {size} bytes; MongoDB takes {MAX_DOCUMENT} in one document")


def _check_encoding(encoding: object) -> None:
    try:
        "".encode(encoding)  # type: ignore[arg-type]  # the TypeError for a non-str is caught below
    except (LookupError, TypeError, ValueError) as error:
        raise BadOption(f"encoding {encoding!r} is not known: {error}") from None


def _check_max_size(size: object) -> None:
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise BadOption(f"max_size is a number of bytes, not {size!r}")


def _check_bucket(bucket: object) -> None:
    # By its class, which lies above this module: a database of pymongo's has any attribute that it is asked for.
    if bucket is not None and not isinstance(bucket, str) and not hasattr(type(bucket), "open_upload"):
        raise BadOption(f"bucket is a Bucket, a bucket's name or None, not {type_name(bucket)}")


def _check_alias(alias: object) -> None:
    if alias is not None and not isinstance(alias, str):
        raise BadOption(f"db_alias is a str, not {type_name(alias)}")


def _expiry(at: datetime | None, after: timedelta | float | None) -> datetime | None:
    if at is not None and after is not None:
        raise BadOption("expires_at and expires_after say the same thing twice; give one of them")
    if at is not None:
        if not isinstance(at, datetime):
            raise BadOption(f"expires_at is a datetime, not {type_name(at)}")
        try:
            return utc_milliseconds(at)
        except OverflowError:
            raise BadOption(f"expires_at {at!r} is no date in UTC") from None
    if after is None:
        return None
    if isinstance(after, bool) or not isinstance(after, timedelta | int | float):
        raise BadOption(f"expires_after is a timedelta or seconds, not {type_name(after)}")
    try:
        return utc_milliseconds(utc_now() + (after if isinstance(after, timedelta) else timedelta(seconds=after)))
    except (OverflowError, ValueError):  # NaN is a ValueError
        raise BadOption(f"expires_after {after!r} leads to no date") from None


def _guessed_type(filename: str | None) -> str | None:
    if filename is None:
        return None
    # As a path, since "Re: minutes #2.pdf" has a URL's scheme and fragment in it.
    kind, compression = mimetypes.guess_type(f"./{PurePosixPath(filename).name}")
    # "a.tar.gz" is not a tar file until somebody unpacks it.
    return kind if compression is None else _COMPRESSED.get(compression, OCTET_STREAM)
