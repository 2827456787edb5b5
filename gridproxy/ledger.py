"""Ledger: what one transaction has to do once its outcome is known.

Only records move inside a transaction. Chunks lie outside: those of new files go when it is given up, those of deleted
files when it is committed, and none while nobody knows. Proxies and documents are given back what they were.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import bson
from pymongo.errors import PyMongoError

from .sessions import in_transaction
from .store import Session, Store

__all__ = ["Incoming", "Ledger", "Memory", "is_foreign", "ledger_of"]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Memory:
    """What an object does about itself when the transaction ends, by how it ends."""

    aborted: Callable[[], None] = _nothing
    committed: Callable[[], None] = _nothing
    unknown: Callable[[], None] = _nothing


class Incoming(Protocol):
    """A new file that was begun in the transaction."""

    @property
    def unfinished(self) -> bool:
        """Whether it is still being written."""

    async def undo(self, cause: BaseException | None) -> None:
        """Its record will never be seen: take away its chunks."""


class Ledger:
    """The books of one transaction. `repeated` says that the caller's block may be run again."""

    def __init__(self, session: Session, *, repeated: bool = False) -> None:
        self.open = True
        self.repeated = repeated
        self._memories: dict[tuple[int, str], tuple[object, Memory]] = {}
        self._incoming: list[Incoming] = []
        self._inserted: dict[object, object] = {}
        self._freed: dict[object, tuple[Store, object]] = {}
        _ledgers[session] = self

    # While it goes on

    def remember(self, thing: object, memory: Callable[[], Memory], what: str = "") -> None:
        """Keep what `thing` was before its first change; later calls for the same thing have no effect."""
        key = id(thing), what
        if key not in self._memories:
            self._memories[key] = thing, memory()

    def expect(self, incoming: Incoming) -> None:
        """A new file is begun."""
        self._incoming.append(incoming)

    def inserted(self, store: Store, id: object) -> None:
        """A record stands in the transaction; what a former file of this id had to lose is its own now."""
        key = _key(store, id)
        self._inserted[key] = id
        self._freed.pop(key, None)

    def withdrawn(self, store: Store, id: object) -> None:
        """A record that was inserted here was taken back."""
        self._inserted.pop(_key(store, id), None)

    def free(self, store: Store, id: object) -> None:
        """A record was deleted; its chunks go with the commit."""
        self._freed[_key(store, id)] = store, id

    def is_freed(self, store: Store, id: object) -> bool:
        """Whether the file of this id was deleted here: its chunks lie there until the commit."""
        return _key(store, id) in self._freed

    @property
    def unfinished(self) -> bool:
        """Whether a file is still being written."""
        return any(each.unfinished for each in self._incoming)

    @property
    def ids(self) -> list[object]:
        """The ids of the files that were stored and deleted."""
        return list({**self._inserted, **{key: id for key, (_, id) in self._freed.items()}}.values())

    # Once it is over

    async def committed(self) -> None:
        """Remove the chunks of deleted files; an error of that has a note that all is committed."""
        for _, memory in self._memories.values():
            memory.committed()
        try:
            for store, ids in self._freed_by_store():
                await store.delete_chunks_of_all(ids)
        except PyMongoError as error:
            error.add_note("The transaction is committed; chunks of deleted files may be left for collect_garbage().")
            raise
        finally:
            self._forget()

    def _freed_by_store(self) -> list[tuple[Store, list[object]]]:
        groups: list[tuple[Store, list[object]]] = []
        for store, id in self._freed.values():
            for other, ids in groups:
                if other.key == store.key:
                    ids.append(id)
                    break
            else:
                groups.append((store, [id]))
        return groups

    async def aborted(self, cause: BaseException | None) -> None:
        """Remove the chunks of new files, and let everything be what it was. A clean-up that fails is noted on `cause`,
        or raised where there is none.
        """
        try:
            for incoming in self._incoming:
                await incoming.undo(cause)
        finally:
            # The last first: what one of them has kept may be what another one gave back.
            for _, memory in reversed(self._memories.values()):
                memory.aborted()
            self._forget()

    def unknown(self) -> None:
        """Leave everything where it is: it may be needed."""
        for _, memory in self._memories.values():
            memory.unknown()
        self._forget()

    def _forget(self) -> None:
        # The files keep this ledger, and would keep each other by it.
        self._memories.clear()
        self._incoming.clear()


# Weakly: a session that was dropped takes its ledger with it.
_ledgers: weakref.WeakKeyDictionary[Session, Ledger] = weakref.WeakKeyDictionary()


def ledger_of(session: Session | None) -> Ledger | None:
    """The books of the transaction that this session is in, None outside of ours."""
    ledger = _ledgers.get(session) if in_transaction(session) else None
    return ledger if ledger is not None and ledger.open else None


def is_foreign(session: Session | None) -> bool:
    """Whether this session is in a transaction that is not ours: nobody tells us how that ends."""
    return in_transaction(session) and ledger_of(session) is None


def _key(store: Store, id: object) -> object:
    # As BSON, since an id may be a dict, and 1 and True are two.
    return store.key, bson.encode({"": id}, codec_options=store.codec_options)
