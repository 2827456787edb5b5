"""Convert between file objects and the values of a field: ids, snapshots, and content to be stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

from bson import ObjectId
from bson.errors import InvalidId

from gridproxy.errors import BadId, BadSource, CorruptFile, NotConnected, ValidationError, shown, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.upload.sources import Source, open_source
from gridproxy.gridfs.upload.staging import Staged

from .connection import store_for
from .options import FileOptions
from .state import FileState, HasState

F = TypeVar("F", bound=HasState)


def from_stored(kind: type[F], value: object, options: FileOptions) -> F:
    """Return the file of a stored document's value: an id of any kind, null, or a snapshot.

    A snapshot is a sub-document with `_id`. Any other value is read as an id: other code may have written it, and the
    document must load.

    ```python
    from gridproxy.fields import from_stored

    assert from_stored(AsyncGridFile, file.id, FileOptions()) == file
    ```
    """
    if not isinstance(value, Mapping):
        return kind(value, options=options)
    id = value.get("_id")
    if id is None:
        return kind(options=options)  # and no thumbnail, which would be a file that names no picture
    try:
        info = FileInfo.from_snapshot(value)
    except CorruptFile:
        info = None
    return kind(id, options=options, info=info)


def parse_input(kind: type[F], value: object, options: FileOptions) -> F:
    """Return the file of a value that the caller gave for a field: one that `assign` accepts, or a snapshot.

    Raises:
        BadId: A str or a mapping is not an id or a snapshot.
        BadSource: Another value is not content.

    ```python
    from gridproxy.fields import parse_input

    assert parse_input(AsyncGridFile, str(file.id), FileOptions()) == file
    ```
    """
    if isinstance(value, Mapping):
        id = value.get("_id")
        if isinstance(id, str) and ObjectId.is_valid(id):  # from JSON
            id = ObjectId(id)
        if id is None or not is_plain_id(id):
            raise BadId(f"a snapshot of a file is a mapping with the file's id under '_id', not {shown(value)}")
        try:
            info = FileInfo.from_snapshot({**value, "_id": id})
        except CorruptFile as error:
            raise BadId(f"this is not a snapshot of a file: {error}") from None
        except RecursionError:
            raise BadId("this is not a snapshot of a file: its metadata contain themselves") from None
        return kind(id, options=options, info=info)
    return assign(kind(options=options), value, options)


def stored_value(file: HasState) -> object:
    """Return what a document stores of a file: its id, or a snapshot if the field stores one and the info is known.

    ```python
    from gridproxy.fields import stored_value

    assert stored_value(file) == file.id
    ```
    """
    id, info = file.state.ref
    if info is not None and id is not None and file.state.options.store == "snapshot":
        return info.snapshot()
    return id


def stored_form(raw: object, options: FileOptions) -> object:
    """Return what `stored_value` gives for an unchanged file that was loaded from `raw`."""
    if not isinstance(raw, Mapping):
        return raw
    if options.store == "snapshot" and raw.get("_id") is not None:
        try:
            return FileInfo.from_snapshot(raw).snapshot()
        except CorruptFile:
            pass
    return raw.get("_id")


def ids_in(raw: object) -> object:
    """Return a document's value with an id in the place of each snapshot."""
    if isinstance(raw, list):
        return [ids_in(each) for each in raw]
    return raw.get("_id") if isinstance(raw, Mapping) else raw


def assign(current: F, value: object, options: FileOptions) -> F:
    """Return the file that a field holds after `value` was assigned to it. Does no I/O.

    A file, an id or None moves the reference. A source of bytes is content for the next save.

    Raises:
        BadId: A str or a mapping is not an id, or a file is in another bucket.
        BadSource: Another value is not content.
        UploadInProgress: Content is assigned while the file is being written.

    ```python
    from gridproxy.fields import assign

    assert assign(file, None, FileOptions()).id is None
    ```
    """
    kind = type(current)
    if value is None or isinstance(value, ObjectId):
        return kind(value, options=options)
    if isinstance(value, kind):
        return _moved(value, options)
    if isinstance(value, str):
        try:
            return kind(ObjectId(value), options=options)
        except InvalidId:
            raise BadId(
                f"{shown(value)} is not a file's id (24 hex digits). For content assign bytes, a path or an open file"
            ) from None
    if isinstance(value, Mapping):
        raise BadId(f"a file's id cannot be a mapping: {shown(value)}")
    content = _content(value)
    current.state.check_idle()
    current.state.content = content
    return current


def validate_assignment(current: F, value: object, field: str) -> F:
    """Return the file that a model's field holds after an assignment: as `assign`, and a snapshot is accepted.

    The same file stays the same object. Raises `ValidationError` naming the field.

    ```python
    from gridproxy.fields import validate_assignment

    assert validate_assignment(file, file.id, "photo") is file
    ```
    """
    state = current.state
    try:
        if value is not None and not isinstance(value, ObjectId | str | Mapping):
            return assign(current, value, state.options)
        file = parse_input(type(current), value, state.options)
    except (BadId, BadSource) as error:
        raise ValidationError(field, str(error)) from error
    if file.state.id != state.id:
        return file
    state.content = None  # back to what it was
    return current


def _content(value: object) -> object:
    if isinstance(value, bytes | os.PathLike | Staged):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)  # a copy: the caller may change it before the save
    return _OneShot(value)


class _OneShot(Source):
    """Assigned content that can be read only once. If a save fails half-way, the rest is never stored as a file."""

    def __init__(self, content: object) -> None:
        self._content = content
        self._source = open_source(content)  # raises BadSource for a value that cannot be read, and reads nothing
        self._begun = False

    async def prepare(self) -> None:
        if self._begun:
            raise BadSource(
                f"the {type_name(self._content)} that was assigned was read by a save that failed: assign it again, "
                "from its start"
            )
        self._source = open_source(self._content)
        await self._source.prepare()
        self.name, self.content_type, self.size = self._source.name, self._source.content_type, self._source.size
        self.metadata = self._source.metadata

    async def read(self) -> bytes | memoryview:
        self._begun = True
        return await self._source.read()

    async def aclose(self) -> None:
        await self._source.aclose()


def _moved(file: F, options: FileOptions) -> F:
    state = file.state
    if state.options is options:
        return file
    movable = state.id is None and state.busy is None and state.is_free
    if not movable and not _same_place(state, options):
        raise BadId(
            f"{file!r} is in {_place(state.options)} and this field keeps its files in {_place(options)}: "
            "put its content here instead, `await field.put(file)`"
        )
    if state.is_free:
        state.options = options  # the limits of the field apply from now on
    return file


def _same_place(state: FileState, other: FileOptions) -> bool:
    one = state.options
    if state.home is None and (one.bucket, one.db_alias) == (other.bucket, other.db_alias):
        return True
    try:
        field = store_for(other.bucket, other.db_alias)
        # A file of a `using` block keeps its database when the field is in the block of another one.
        return store_for(one.bucket, one.db_alias, state.home).same_as(field)
    except NotConnected:
        return False  # a Bucket and a name cannot be compared without a database


def _place(options: FileOptions) -> str:
    alias = "" if options.db_alias is None else f" of {options.db_alias!r}"
    return f"bucket {getattr(options.bucket, 'name', options.bucket) or 'fs'!r}{alias}"
