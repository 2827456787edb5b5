"""Attachment: one file's place in one field of one document.

A replaced file is kept until its document has been saved; a file that two documents share is never removed
automatically.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import is_foreign_transaction

if TYPE_CHECKING:
    from .state import Handle

# What a document's field points to, and the record where it is known.
FileRef = tuple[object, FileInfo | None]


@dataclass(frozen=True)
class Standing:
    """What stands between a file and the saved document at one moment."""

    saved: FileRef
    superseded: tuple[tuple[Store, object], ...] = ()
    stored: bool = False
    outcome_unknown: bool = False


class Attachment:
    """One file's place in one field of one document:

    What the saved document points to, and what is to go after the next save.
    """

    def __init__(self, file: Handle, owner: object | None, field: str, *, stored: bool) -> None:
        self._file = weakref.ref(file)
        self._owner = _reference(owner)
        self._field = field
        self._saved: FileRef = (file.id, file.info)
        self._superseded: list[tuple[Store, object]] = []
        self.stored: bool = stored  # whether the document has ever been stored with this file in it
        self.unowned: bool = owner is None  # whether nobody has said yet which document holds the file
        self.shared = False
        self.outcome_unknown: bool = False  # whether a save's answer was lost: the document may point to old or new

    def bind(self, owner: object, field: str, *, stored: bool) -> None:
        """Let a place whose document was not known become this one."""
        self._owner, self._field, self.unowned = weakref.ref(owner), field, False
        self.stored = self.stored or stored

    @property
    def field(self) -> str | None:
        """The document's field, None while nobody has named it."""
        return self._field or None

    def belongs_to(self, owner: object, field: str) -> bool:
        """Whether this is the place of that very document's field."""
        return self._owner() is owner and self._field == field

    def abandoned(self) -> bool:
        """Whether the document is gone, and nobody can find it or anything that it owes."""
        owes = self.stored or self.shared or self.outcome_unknown or self._superseded
        return self._owner() is None and not owes

    def supersede(self, store: Store, id: object) -> None:
        """The file `id` was replaced; it stays until the document has been saved."""
        self._superseded.append((store, id))

    def put_here(self, id: object) -> bool:
        """Whether the file came here as content since the document was saved, and not as a reference."""
        return id != self._saved[0]

    def standing(self) -> Standing:
        """What `stand` gives back, when a transaction is aborted."""
        return Standing(self._saved, tuple(self._superseded), self.stored, self.outcome_unknown)

    def stand(self, standing: Standing) -> None:
        """Be as at that moment again."""
        self._saved, self._superseded = standing.saved, list(standing.superseded)
        self.stored, self.outcome_unknown = standing.stored, standing.outcome_unknown

    async def finalize(self, session: Session | None = None) -> None:
        """The document has been saved by hand, as the file stands now."""
        file = self._present()
        await self.saved((file.id, file.info), session=session)

    def _present(self) -> Handle:
        file = self._file()
        assert file is not None, "it is the file that asks"
        return file

    async def saved(self, now: FileRef, in_use: Collection[object] = (), session: Session | None = None) -> None:
        """The stored document points to `now`: what was replaced goes, unless another document may point to it.

        `in_use` are the ids that the document's other fields hold. In a transaction of ours the records go with its
        commit; in somebody else's, which may be taken back, what was replaced is left to the collector.
        """
        if is_foreign_transaction(session):
            self.forget(now)
            return
        self._saved, self.stored, self.outcome_unknown = now, True, False
        # A file that was replaced while the document was being written is the one that the document points to.
        going = [each for each in self._superseded if each[1] != now[0]]
        self._superseded = [each for each in self._superseded if each[1] == now[0]]
        try:
            while going:
                store, id = going[-1]
                if not self.shared and id not in in_use:
                    await remove_file(store, id, session)
                going.pop()
        finally:
            self._superseded += going

    def forget(self, now: FileRef) -> None:
        """The document points to `now`; what was replaced is left to the collector."""
        self._saved, self.stored, self.outcome_unknown = now, True, False
        self._superseded.clear()

    async def revert(self, session: Session | None = None) -> None:
        """Point to the saved document's file again, and remove what was stored since."""
        file = self._present()
        old, info = self._saved
        newer = [(store, id) for store, id in self._superseded if id != old]
        if file.id is not None and file.id != old:
            newer.append((file._store(), file.id))
        file._point_to(old, info)
        self._superseded = []
        if self.shared or self.outcome_unknown:
            return  # a document may point to them
        self._superseded = newer
        while newer:
            await remove_file(*newer[-1], session)
            newer.pop()


def attach(file: Handle, owner: object, field: str, *, stored: bool = False) -> None:
    """Bind a file to a document's field; `stored` tells that the collection has it there.

    A file has one owner: bound to a second one, it becomes a shared one.
    """
    attachment = file._attachment
    if attachment is not None and attachment.unowned:
        attachment.bind(owner, field, stored=stored)
    elif attachment is None or attachment.abandoned():
        file._attachment = Attachment(file, owner, field, stored=stored)
    elif not attachment.belongs_to(owner, field):
        attachment.shared = True


def attach_unowned(file: Handle) -> None:
    """Let a replaced file wait for `finalize()`: its model has no save of its own, or `attach` names it later."""
    if file._attachment is None:
        file._attachment = Attachment(file, None, "", stored=file.id is not None)


def is_free(file: Handle) -> bool:
    """Whether no document, or none that can still be found, holds this file."""
    return file._attachment is None or file._attachment.abandoned()


def _reference(owner: object | None) -> Callable[[], object | None]:
    return weakref.ref(owner) if owner is not None else lambda: None
