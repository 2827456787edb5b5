"""What a file and the document that holds it owe each other.

A replaced file is kept until its document has been saved; assigned content is stored by that save; a file that two
documents share is never removed automatically.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterable, Mapping

from bson import ObjectId
from bson.errors import InvalidId

from .connection import store_for
from .errors import BadId, BadSource, NotConnected, UploadInProgress, type_name
from .file import AsyncGridFile
from .info import FileInfo
from .options import FileOptions
from .removal import remove_file
from .sources import Source, open_source
from .staging import Staged
from .store import Session, Store

__all__ = [
    "Attachment",
    "Reference",
    "assigned_file",
    "attach",
    "delete_files",
    "doubt",
    "loaded_file",
    "references",
    "refuse_open_files",
    "saved",
    "store_content",
    "unstored",
]

# What a document's field points to, and the record where it is known.
Reference = tuple[object, FileInfo | None]


class Attachment:
    """One file's place in one field of one document:

    What the saved document points to, and what is to go after the next save.
    """

    def __init__(self, file: AsyncGridFile, owner: object, field: str, *, stored: bool) -> None:
        self._file = weakref.ref(file)
        self._owner = weakref.ref(owner)
        self._field = field
        self._saved: Reference = (file.id, file.info)
        self._superseded: list[tuple[Store, object]] = []
        self._stored = stored  # whether the document has ever been stored with this file in it
        self.shared = False
        self.doubtful = False  # whether a save's answer was lost: the document may point to old or new

    def belongs_to(self, owner: object, field: str) -> bool:
        """Whether this is the place of that very document's field."""
        return self._owner() is owner and self._field == field

    def abandoned(self) -> bool:
        """Whether the document is gone, and nobody can find it or anything that it owes."""
        owes = self._stored or self.shared or self.doubtful or self._superseded
        return self._owner() is None and not owes

    def supersede(self, store: Store, id: object) -> None:
        """The file `id` was replaced; it stays until the document has been saved."""
        self._superseded.append((store, id))

    def put_here(self, id: object) -> bool:
        """Whether the file came here as content since the document was saved, and not as a reference."""
        return id != self._saved[0]

    async def finalize(self) -> None:
        """The document has been saved by hand, as the file stands now."""
        file = self._present()
        await self.saved((file.id, file.info))

    def _present(self) -> AsyncGridFile:
        file = self._file()
        assert file is not None, "it is the file that asks"
        return file

    async def saved(self, now: Reference, in_use: Collection[object] = ()) -> None:
        """The stored document points to `now`: what was replaced goes, unless another document may point to it.

        `in_use` are the ids that the document's other fields hold.
        """
        self._saved, self._stored, self.doubtful = now, True, False
        # A file that was replaced while the document was being written is the one that the document points to.
        going = [each for each in self._superseded if each[1] != now[0]]
        self._superseded = [each for each in self._superseded if each[1] == now[0]]
        try:
            while going:
                store, id = going[-1]
                if not self.shared and id not in in_use:
                    await remove_file(store, id)
                going.pop()
        finally:
            self._superseded += going

    def forget(self, now: Reference) -> None:
        """The document points to `now`; what was replaced is left to the collector."""
        self._saved, self._stored, self.doubtful = now, True, False
        self._superseded.clear()

    async def revert(self) -> None:
        """Point to the saved document's file again, and remove what was stored since."""
        file = self._present()
        old, info = self._saved
        newer = [(store, id) for store, id in self._superseded if id != old]
        if file.id is not None and file.id != old:
            newer.append((file._store(), file.id))
        file._point_to(old, info)
        self._superseded = []
        if self.shared or self.doubtful:
            return  # a document may point to them
        self._superseded = newer
        while newer:
            await remove_file(*newer[-1])
            newer.pop()


def attach(file: AsyncGridFile, owner: object, field: str, *, stored: bool = False) -> None:
    """Bind a file to a document's field; `stored` tells that the collection has it there.

    A file has one owner: bound to a second one, it becomes a shared one.
    """
    if _is_free(file):
        file._holder = Attachment(file, owner, field, stored=stored)
    elif not _attachment(file).belongs_to(owner, field):
        _attachment(file).shared = True


def _is_free(file: AsyncGridFile) -> bool:
    return file._holder is None or _attachment(file).abandoned()


def _attachment(file: AsyncGridFile) -> Attachment:
    assert isinstance(file._holder, Attachment), "every file of a document was attached to it"
    return file._holder


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
    content = _content(value)
    current._refuse_while_busy()
    current._content = content
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


def _adopted(file: AsyncGridFile, options: FileOptions) -> AsyncGridFile:
    movable = not file and file._busy is None and _is_free(file)
    if not movable and not _same_place(file.options, options):
        raise BadId(
            f"{file!r} lies in {_place(file.options)} and this field keeps its files in {_place(options)}: "
            "put its content here instead, `await field.put(file)`"
        )
    if _is_free(file):
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


def refuse_open_files(files: Iterable[tuple[str, AsyncGridFile]]) -> None:
    """Raise `UploadInProgress` for a document of which a file is being written: what would its field point to?"""
    for field, file in files:
        if file._busy is not None:
            raise UploadInProgress(f"{field}: this file is {file._busy}; close() or abort() it before saving")


def unstored(files: Iterable[AsyncGridFile]) -> AsyncGridFile | None:
    """The first of the files whose assigned content is not stored yet."""
    return next((file for file in files if file._content is not None), None)


async def store_content(file: AsyncGridFile, session: Session | None) -> None:
    """Store what was assigned to a field, as a replace."""
    await file.replace(file._content, session=session)  # type: ignore[arg-type]  # checked when it was assigned


def references(files: Iterable[AsyncGridFile]) -> list[tuple[AsyncGridFile, Reference]]:
    """What each file points to at this moment: taken before a document is written, for `saved` after it."""
    return [(file, (file.id, file.info)) for file in files]


async def saved(written: Iterable[tuple[AsyncGridFile, Reference]], session: Session | None) -> None:
    """The document was written, with these references: let go of what it points to no more.

    Inside somebody's transaction the write may still be taken back, so the old files stay for the collector.
    """
    written = list(written)
    in_transaction = session is not None and session.in_transaction
    in_use = [now[0] for _, now in written]
    for file, now in written:
        if in_transaction:
            _attachment(file).forget(now)
        else:
            await _attachment(file).saved(now, in_use)


def doubt(written: Iterable[tuple[AsyncGridFile, Reference]]) -> None:
    """The document may have been written, with these references, or not: neither old nor new files may go now."""
    for file, _ in written:
        _attachment(file).doubtful = True


async def delete_files(files: Iterable[AsyncGridFile], stored: Collection[object], session: Session | None) -> None:
    """The document is gone: remove the files that are its alone, of those that it pointed to (`stored`) or that were
    put here since. What was only assigned and never saved may be somebody else's.
    """
    for file in files:
        attachment = _attachment(file)
        if attachment.shared:
            continue
        mine = file.id in stored or attachment.put_here(file.id)
        await saved(references([file]), session)
        if mine:
            await file.delete(session=session)
