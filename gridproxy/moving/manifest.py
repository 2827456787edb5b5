"""The manifest of an export: a line of JSON for each file, with its path, the SHA-256 of its bytes, and its record."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions

from gridproxy.errors import BadManifest, CorruptFile, shown
from gridproxy.gridfs.records.file_info import FileInfo, is_sha256
from gridproxy.gridfs.records.ids import check_id
from gridproxy.gridfs.store.collections import Record
from gridproxy.runtime.tasks import in_thread

from .names import MANIFEST, is_safe
from .places import Opened, Place

_KIND, _VERSION = "gridproxy export", 1
_LINES_PER_PAGE = 200
# A record has at most 16 MB, and its JSON can be several times as long.
_LONGEST_LINE = 128 * 1024 * 1024
_EXACT = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_JSON = JSONOptions(
    json_mode=JSONMode.CANONICAL,
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the manifest. `renamed` is why the path is not the name of the file, or None."""

    path: str
    sha256: str
    record: Record
    renamed: str | None = None

    @property
    def info(self) -> FileInfo:
        """The info of the file."""
        return FileInfo.from_record(self.record)

    def line(self) -> bytes:
        """Return the line."""
        text = json_util.dumps(self.record, json_options=_JSON)
        line: dict[str, Any] = {"file": self.path, "sha256": self.sha256}
        if self.renamed is not None:
            line["renamed"] = self.renamed
        line["record"] = json.loads(text)
        encoded = bson.encode(self.record, codec_options=_EXACT)
        # JSON cannot represent keys of MongoDB's own such as `$date`.
        if bson.encode(_from_json(line["record"]), codec_options=_EXACT) != encoded:
            line["bson"] = base64.b64encode(encoded).decode()
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Parse a line. Raises `ValueError` or `TypeError` with the reason."""
        found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get("file"), str):
            raise ValueError("it does not name a file")
        path, digest = found["file"], str(found.get("sha256"))
        if not is_sha256(digest):
            raise ValueError(f"its sha256 is {shown(digest)}")
        if not is_safe(path):
            raise ValueError(f"the path {shown(path)} could lead out of the folder")
        raw = found.get("bson")
        record = _from_json(found.get("record")) if raw is None else bson.decode(base64.b64decode(raw), _EXACT)
        if not isinstance(record, dict) or "_id" not in record:
            raise ValueError("its record has no _id")
        check_id(record["_id"])
        return cls(path, digest, record)


def _from_json(value: object) -> Any:
    return json_util.loads(json.dumps(value), json_options=_JSON)


def header(bucket: str) -> bytes:
    """Return the first line of a manifest."""
    return json.dumps({"manifest": _KIND, "version": _VERSION, "bucket": bucket}).encode() + b"\n"


def check_manifest(place: Place) -> None:
    """Raise `BadManifest` unless the place has the manifest of an export. Blocks."""
    where = f"{place.name}/{MANIFEST}"
    if place.length(MANIFEST) is None:
        raise BadManifest(
            f"{where} does not exist, so this is not the folder of an export. `gridproxy put` stores single "
            "files, and `gridproxy sync` a folder"
        )
    with place.open(MANIFEST) as file:
        line = file.readline(_LONGEST_LINE)
    try:
        found = json.loads(line)
        known = found["manifest"] == _KIND and found["version"]
    except (ValueError, TypeError, KeyError):
        raise BadManifest(f"{where} is not the manifest of an export: its first line is {shown(line)}") from None
    if known != _VERSION:
        raise BadManifest(f"{where} is a manifest of another kind or version: {shown(line)}")


async def read_entries(place: Place) -> AsyncGenerator[list[tuple[int, Entry]], None]:
    """Yield the lines of the manifest with their numbers, in pages. Close the iterator (`aclosing`).

    Raises `BadManifest` for a file that is not a manifest, and for a line that is not valid.
    """
    await in_thread(partial(check_manifest, place))
    where = f"{place.name}/{MANIFEST}"
    file = Opened(partial(place.open, MANIFEST))
    try:
        await in_thread(file.open)
        number = len(await in_thread(partial(file.lines, 1, _LONGEST_LINE)))
        while lines := await in_thread(partial(file.lines, _LINES_PER_PAGE, _LONGEST_LINE)):
            yield [(number + at, _parsed(where, number + at, line)) for at, line in enumerate(lines, 1) if line.strip()]
            number += len(lines)
    finally:
        file.close()


def _parsed(where: str, number: int, line: bytes) -> Entry:
    try:
        entry = Entry.from_line(line)
        _ = entry.info
    except (ValueError, TypeError, KeyError, BSONError, RecursionError, OverflowError, CorruptFile) as error:
        raise BadManifest(f"{where}, line {number}: {error}. Nothing was imported") from error
    return entry
