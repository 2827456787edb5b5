"""What a file and the document that holds it owe each other.

A replaced file is kept until its document has been saved; assigned content is stored by that save; a file that two
documents share is never removed automatically.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId

from .errors import BadId, UploadInProgress
from .file import AsyncGridFile
from .options import FileOptions
from .removal import remove_file
from .sources import open_source
from .store import Session, Store

__all__ = [
    "Attachment",
    "assigned_file",
    "attach",
    "delete_files",
    "loaded_file",
    "refuse_open_files",
    "saved",
    "store_content",
]


class Attachment:
    """One file's place in one field of one document:

    What the saved document points to, and what is to go after the next save.
    """

    def __init__(self, file: AsyncGridFile, owner: object, field: str) -> None:
        self._file = weakref.ref(file)
        self._owner = weakref.ref(owner)
        self._field = field
        self._saved = file.id, file.info
        self._superseded: list[tuple[Store, object]] = []
        self.shared = False

    def belongs_to(self, owner: object, field: str) -> bool:
        """Whether this is the place of that very document's field."""
        return self._owner() is owner and self._field == field

    def supersede(self, store: Store, id: object) -> None:
        """The file `id` was replaced; it stays until the document has been saved."""
        self._superseded.append((store, id))

    async def finalize(self) -> None:
        """The document has been saved: what it points to no more goes, unless another document may point to it."""
        self.mark_saved()
        while self._superseded:
            store, id = self._superseded[-1]
            if not self.shared:
                await remove_file(store, id)
            self._superseded.pop()

    def mark_saved(self, *, forget: bool = False) -> None:
        """Note what the stored document points to now; `forget` leaves what was replaced to the collector."""
        file = self._file()
        if file is not None:
            self._saved = file.id, file.info
        if forget:
            self._superseded.clear()

    async def revert(self) -> None:
        """Point to the saved document's file again, and remove what was stored since."""
        file = self._file()
        if file is None:
            return
        old, info = self._saved
        newer = [(store, id) for store, id in self._superseded if id != old]
        if file.id is not None and file.id != old:
            newer.append((file._store(), file.id))
        file._point_to(old, info)
        self._superseded.clear()
        for store, id in newer:
            await remove_file(store, id)


def attach(file: AsyncGridFile, owner: object, field: str) -> None:
    """Bind a file to a document's field. A file has one owner: bound to a second one, it becomes a shared one."""
    holder = file._holder
    if holder is None:
        file._holder = Attachment(file, owner, field)
    elif isinstance(holder, Attachment) and not holder.belongs_to(owner, field):
        holder.shared = True


def loaded_file(value: object, options: FileOptions) -> AsyncGridFile:
    """The file of what a stored document holds: an id of any kind, null, or a snapshot (a sub-document with `_id`)."""
    if isinstance(value, Mapping):
        value = value.get("_id")
    return AsyncGridFile(value, options=options)


def assigned_file(current: AsyncGridFile, value: object, options: FileOptions) -> AsyncGridFile:
    """The file that a field holds after `value` was assigned to it; no I/O.

    A file, an id or None moves the reference; anything that bytes can be read from is content for the next save. Raises
    `BadId` for what looks like an id and is none, `BadSource` for what is neither.
    """
    if isinstance(value, AsyncGridFile):
        return _adopted(value, options)
    if value is None or isinstance(value, ObjectId):
        return AsyncGridFile(value, options=options)
    if isinstance(value, str):
        try:
            return AsyncGridFile(ObjectId(value), options=options)
        except InvalidId:
            raise BadId(
                f"{value!r} is not a file's id (24 hex digits); for content assign bytes, a path or an open file"
            ) from None
    if isinstance(value, Mapping):
        raise BadId(f"a file's id cannot be a mapping: {value!r}")
    # Changing bytes are copied now: what is saved is what was assigned.
    content = bytes(value) if isinstance(value, bytearray | memoryview) else value
    if not isinstance(content, bytes | os.PathLike):
        open_source(content)  # raises BadSource for what cannot be read; reads nothing
    current._refuse_while_busy()
    current._content = content
    return current


def _adopted(file: AsyncGridFile, options: FileOptions) -> AsyncGridFile:
    if file.options.bucket == options.bucket and file.options.db_alias == options.db_alias:
        return file
    if file or not file.closed:
        raise BadId(
            f"{file!r} lies in {_place(file.options)} and this field keeps its files in {_place(options)}: "
            "put its content here instead, `await field.put(file)`"
        )
    file._options = options
    return file


def _place(options: FileOptions) -> str:
    alias = "" if options.db_alias is None else f" of {options.db_alias!r}"
    return f"bucket {getattr(options.bucket, 'name', options.bucket) or 'fs'!r}{alias}"


def refuse_open_files(files: Iterable[tuple[str, AsyncGridFile]]) -> None:
    """Raise `UploadInProgress` for a document of which a file is being written: what would its field point to?"""
    for field, file in files:
        if file._busy is not None:
            raise UploadInProgress(f"{field}: this file is {file._busy}; close() or abort() it before saving")


async def store_content(file: AsyncGridFile, session: Session | None) -> None:
    """Store what was assigned to a field, as a replace; no effect where nothing was."""
    content: Any = file._content
    if content is not None:
        await file.replace(content, session=session)


async def saved(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """The document was written: let go of what it points to no more.

    Inside somebody's transaction the write may still be taken back, so the old files stay for the collector.
    """
    in_transaction = session is not None and session.in_transaction
    for file in files:
        if not isinstance(file._holder, Attachment):
            continue
        if in_transaction:
            file._holder.mark_saved(forget=True)
        else:
            await file._holder.finalize()


async def delete_files(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """The document is gone: remove the files that are its alone."""
    for file in files:
        holder = file._holder
        if isinstance(holder, Attachment):
            if holder.shared:
                continue
            await saved([file], session)
        await file.delete(session=session)
