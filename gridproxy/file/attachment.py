"""Attachment: the place of one file in one field of one document.

A file is removed automatically only with proof that this document owns it: it was loaded from the database as part of
this document, or its content was put through this field. A replaced file is kept until its document has been saved.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import is_foreign_transaction

# The id that a document's field holds, and the record if it is known.
FileRef = tuple[object, FileInfo | None]


class Proof(enum.Enum):
    """How a document shows that it owns a file that it is given."""

    NONE = "the file was assigned, and may be another document's"
    LOADED = "the document was loaded from the database with this file in it"
    COPIED = "the document is a copy of one that owns the file, with the same id"


class AttachedFile(Protocol):
    """The state of the file, as far as its attachment uses it."""

    @property
    def ref(self) -> FileRef:
        """The file's id and record at this moment."""

    def store(self) -> Store:
        """Return the bucket that the file is in."""

    def set_file(self, id: object, info: FileInfo | None) -> None:
        """Point to another file."""


@dataclass(frozen=True)
class AttachmentState:
    """An attachment at one moment, for `Attachment.restore`."""

    saved: FileRef
    owned: tuple[object, ...] = ()
    replaced: tuple[tuple[Store, object], ...] = ()
    outcome_unknown: bool = False
    referenced: object = None


class Attachment:
    """Which file the saved document points to, and which files are removed after its next save."""

    # Of every attachment that has not been changed. Documents are loaded by the thousand.
    shared: bool = False
    outcome_unknown: bool = False  # whether a save was not answered: the document may hold the old or new file
    _owned: tuple[object, ...] = ()  # the ids of files that this document provably owns
    _replaced: Sequence[tuple[Store, object]] = ()
    _claims: tuple[object, ...] = ()  # the ids that the original of a copied file owned

    def __init__(self, saved: FileRef, owner: object | None, field: str, proof: Proof = Proof.NONE) -> None:
        self._owner = None if owner is None else weakref.ref(owner)
        self._field = field
        self._saved: FileRef = saved
        # The id that the stored document is known to point to. Its file is safe from the garbage collector.
        self.referenced: object = None
        # What a document that is loaded proves: it owns its file, and points to it.
        if proof is Proof.LOADED and (id := saved[0]) is not None:
            self._owned = (id,)
            self.referenced = id

    @property
    def unowned(self) -> bool:
        """Whether the document that holds the file is not known yet."""
        return self._owner is None

    @property
    def field(self) -> str | None:
        """The document's field, or None if it is not known yet."""
        return self._field or None

    def accept(self, owner: object, field: str, proof: Proof, id: object) -> bool:
        """Be that document's attachment with the file `id`. Return False if it is another document's or field's."""
        if self._owner is None:
            self._owner, self._field = weakref.ref(owner), field
            if proof is not Proof.NONE:
                self.prove(proof)
            return True
        return self.loaded(owner, field, id) if proof is Proof.LOADED else self.belongs_to(owner, field)

    def loaded(self, owner: object, field: str, id: object) -> bool:
        """Take the document's load as proof, if this is the attachment of that field. Return whether it is."""
        if self._owner is None or self._owner() is not owner or self._field != field:
            return False
        self.referenced = id
        self.own(id)
        return True

    @property
    def owned(self) -> tuple[object, ...]:
        """The ids of the files that the document provably owns, or the original of this copy did."""
        return *self._owned, *self._claims

    def claim(self, ids: tuple[object, ...]) -> None:
        """Keep what the original of a copied file owned, until the document proves to be a copy, too."""
        self._claims = ids

    def prove(self, proof: Proof) -> None:
        """Note what proves that the document owns its file."""
        if proof is Proof.LOADED:
            self.own(self._saved[0])
            self.referenced = self._saved[0]
        elif proof is Proof.COPIED:
            for id in self._claims:
                self.own(id)
            self.referenced = self._saved[0] if self._saved[0] in self._claims else None

    def disown(self) -> None:
        """Forget every proof: the document has become another one."""
        self._owned = self._replaced = ()
        self.referenced = None

    def own(self, id: object) -> None:
        """Note the proof that the document owns the file `id`."""
        if id is not None and id not in self._owned:
            self._owned = (*self._owned, id)

    def owns(self, id: object) -> bool:
        """Return whether the document provably owns the file `id`, and so may remove it."""
        return not self.shared and id in self._owned

    def belongs_to(self, owner: object, field: str) -> bool:
        """Return whether this is the attachment of that document's field."""
        return self._owner is not None and self._owner() is owner and self._field == field

    def is_orphaned(self) -> bool:
        """Return whether the document is gone and there is no file left to remove for it."""
        if self._owned or self.shared or self.outcome_unknown or self._replaced:
            return False
        # A stored file may be in a model that has no save of its own.
        return self._saved[0] is None if self._owner is None else self._owner() is None

    @property
    def has_replaced(self) -> bool:
        """Whether replaced files wait for the next save."""
        return bool(self._replaced)

    def mark_replaced(self, store: Store, id: object) -> None:
        """Remove the replaced file `id` once the document has been saved, if the document owns it."""
        if id in self._owned:
            self._replaced = [*self._replaced, (store, id)]

    def is_new(self, id: object) -> bool:
        """Return whether the file was put here as content since the document was saved."""
        return id != self._saved[0]

    def snapshot(self) -> AttachmentState:
        """Return what `restore` needs if a transaction is aborted."""
        replaced = tuple(self._replaced)
        return AttachmentState(self._saved, self._owned, replaced, self.outcome_unknown, self.referenced)

    def restore(self, state: AttachmentState) -> None:
        """Go back to an earlier state."""
        self._saved, self._owned, self._replaced = state.saved, state.owned, state.replaced
        self.outcome_unknown, self.referenced = state.outcome_unknown, state.referenced

    async def saved(
        self, now: FileRef, written: Collection[tuple[object, FileRef]] = (), session: Session | None = None
    ) -> None:
        """Remove the replaced files, now that the stored document points to `now`.

        A file that another document may point to stays, and so does each file that was `written` into another field of
        the document. In a transaction of this package the records are removed with the commit. In a transaction of the
        caller's the garbage collector removes the files, because the transaction may still be aborted.
        """
        if session is not None and is_foreign_transaction(session):
            self.forget(now)
            return
        if self.note_saved(now):
            return
        # If a file was replaced while the document was being written, the document points to the older one.
        removable = [each for each in self._replaced if each[1] != now[0]]
        self._replaced = [each for each in self._replaced if each[1] == now[0]]
        try:
            while removable:
                store, id = removable[-1]
                if not self.shared and all(id != used[0] for _, used in written):
                    await remove_file(store, id, session)
                removable.pop()
        finally:
            self._replaced = [*self._replaced, *removable]

    def note_saved(self, now: FileRef) -> bool:
        """Note that the stored document points to `now`. Return whether no replaced file is left to remove."""
        self._saved, self.outcome_unknown, self.referenced = now, False, now[0]
        return not self._replaced

    def forget(self, now: FileRef) -> None:
        """Leave the replaced files to the garbage collector. The document points to `now`."""
        self._saved, self.outcome_unknown = now, False
        self._replaced = ()

    def reloaded(self, now: FileRef) -> None:
        """Know the file as loaded from the database. What was replaced is left to the garbage collector."""
        self.forget(now)
        self._owned = ()
        self.own(now[0])
        self.referenced = now[0]

    async def revert(self, file: AttachedFile, session: Session | None = None) -> None:
        """Let `file` point to the saved document's file again, and remove the files that were stored since."""
        old, info = self._saved
        newer = [(store, id) for store, id in self._replaced if id != old]
        current = file.ref[0]
        if current is not None and current != old and current in self._owned:
            newer.append((file.store(), current))
        file.set_file(old, info)
        self._replaced = ()
        if self.shared or self.outcome_unknown:
            return  # a document may point to them
        self._replaced = newer
        while newer:
            await remove_file(*newer[-1], session)
            newer.pop()
