"""What a field holds: an id, a snapshot, or content that is to be stored; and the file that stands for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

from bson import ObjectId
from bson.errors import InvalidId

from gridproxy.errors import BadId, BadSource, CorruptFile, NotConnected, ValidationError, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.upload.sources import Source, open_source
from gridproxy.gridfs.upload.staging import Staged

from .attachment import is_free
from .connection import store_for
from .options import FileOptions
from .state import Handle

F = TypeVar("F", bound=Handle)


def from_stored(kind: type[F], value: object, options: FileOptions) -> F:
    """The file of what a stored document holds: an id of any kind, null, or a snapshot (a sub-document with `_id`).

    What is no good snapshot is an id all the same: a document has to load whatever other code left in it.
    """
    if not isinstance(value, Mapping):
        return kind(value, options=options)
    try:
        info = FileInfo.from_snapshot(value)
    except CorruptFile:
        info = None
    return kind(value.get("_id"), options=options, info=info)


def parse_input(kind: type[F], value: object, options: FileOptions) -> F:
    """The file of what somebody gave for a field: what `assign` takes, and a snapshot.

    Raises `BadId` and `BadSource` naming what came.
    """
    if isinstance(value, Mapping):
        id = value.get("_id")
        if isinstance(id, str) and ObjectId.is_valid(id):  # as JSON has it
            id = ObjectId(id)
        if id is None or not is_plain_id(id):
            raise BadId(f"a snapshot of a file is a mapping with its id under '_id', not {value!r}")
        try:
            info = FileInfo.from_snapshot({**value, "_id": id})
        except CorruptFile as error:
            raise BadId(f"this is no snapshot of a file: {error}") from None
        except RecursionError:
            raise BadId("this is no snapshot of a file: its metadata lie in each other without an end") from None
        return kind(id, options=options, info=info)
    return assign(kind(options=options), value, options)


def stored_value(file: Handle) -> object:
    """What a document stores of a file: its id, or a snapshot where its field asks for one and the record is known."""
    if file.options.store == "snapshot" and file.id is not None and file.info is not None:
        return file.info.snapshot()
    return file.id


def stored_form(raw: object, options: FileOptions) -> object:
    """What `stored_value` gives of a file that was loaded from `raw` and is as it was."""
    return stored_value(from_stored(Handle, raw, options))


def ids_in(raw: object) -> object:
    """The same value of a document with an id in the place of each snapshot: which files it points to."""
    if isinstance(raw, list):
        return [ids_in(each) for each in raw]
    return raw.get("_id") if isinstance(raw, Mapping) else raw


def assign(current: F, value: object, options: FileOptions) -> F:
    """The file that a field holds after `value` was assigned to it; no I/O.

    A file, an id or None moves the reference; anything that bytes can be read from is content for the next save. Raises
    `BadId` for what looks like an id and is none, `BadSource` for what is neither.
    """
    kind = type(current)
    if isinstance(value, kind):
        return _adopted(value, options)
    if value is None or isinstance(value, ObjectId):
        return kind(value, options=options)
    if isinstance(value, str):
        try:
            return kind(ObjectId(value), options=options)
        except InvalidId:
            raise BadId(
                f"{value!r} is not a file's id (24 hex digits); for content assign bytes, a path or an open file"
            ) from None
    if isinstance(value, Mapping):
        raise BadId(f"a file's id cannot be a mapping: {value!r}")
    content = _content(value)
    current._refuse_while_busy()
    current._content = content
    return current


def validate_assignment(current: F, value: object, field: str) -> F:
    """The file that the field of a model holds after `value` was assigned: as `assign`, snapshots too.

    The same file stays the same object. Raises `ValidationError` naming the field.
    """
    try:
        if value is not None and not isinstance(value, ObjectId | str | Mapping):
            return assign(current, value, current.options)
        file = parse_input(type(current), value, current.options)
    except (BadId, BadSource) as error:
        raise ValidationError(field, str(error)) from error
    if file.id != current.id:
        return file
    current._content = None  # back to what it was
    return current


def _content(value: object) -> object:
    if isinstance(value, bytes | os.PathLike | Staged):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)  # copied now: what is saved is what was assigned
    return _OneShot(value)


class _OneShot(Source):
    """Assigned content that can be read only once: of what a failed save has read in part, no rest is ever stored."""

    def __init__(self, content: object) -> None:
        self._content = content
        self._source = open_source(content)  # raises BadSource for what cannot be read; reads nothing
        self._begun = False

    async def prepare(self) -> None:
        if self._begun:
            raise BadSource(
                f"the {type_name(self._content)} that was assigned was read by a save that failed; assign it again, "
                "from its start"
            )
        self._source = open_source(self._content)
        await self._source.prepare()
        self.name, self.content_type, self.size = self._source.name, self._source.content_type, self._source.size

    async def read(self) -> bytes | memoryview:
        self._begun = True
        return await self._source.read()

    async def aclose(self) -> None:
        await self._source.aclose()


def _adopted(file: F, options: FileOptions) -> F:
    movable = not file and file._busy is None and is_free(file)
    if not movable and not _same_place(file.options, options):
        raise BadId(
            f"{file!r} lies in {_place(file.options)} and this field keeps its files in {_place(options)}: "
            "put its content here instead, `await field.put(file)`"
        )
    if is_free(file):
        file._options = options  # the field's limits hold for it from now on
    return file


def _same_place(one: FileOptions, other: FileOptions) -> bool:
    if (one.bucket, one.db_alias) == (other.bucket, other.db_alias):
        return True
    try:
        return store_for(one.bucket, one.db_alias).same_as(store_for(other.bucket, other.db_alias))
    except NotConnected:
        return False  # nobody can say now that a Bucket and a name are the same


def _place(options: FileOptions) -> str:
    alias = "" if options.db_alias is None else f" of {options.db_alias!r}"
    return f"bucket {getattr(options.bucket, 'name', options.bucket) or 'fs'!r}{alias}"
