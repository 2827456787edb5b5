"""TransactionLog: what one transaction has to do once its outcome is known.

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

from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.sessions import in_transaction


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """What an object does about itself when the transaction ends, by how it ends."""

    on_abort: Callable[[], None] = _nothing
    on_commit: Callable[[], None] = _nothing
    on_unknown: Callable[[], None] = _nothing


class PendingUpload(Protocol):
    """A new file that was begun in the transaction."""

    @property
    def is_open(self) -> bool:
        """Whether it is still being written."""

    async def rollback(self, cause: BaseException | None) -> None:
        """Its record will never be seen: take away its chunks."""


class TransactionLog:
    """The books of one transaction. `repeated` says that the caller's block may be run again."""

    def __init__(self, session: Session, *, repeated: bool = False) -> None:
        self.open = True
        self.repeated = repeated
        self._hooks: dict[tuple[int, str], tuple[object, Hooks]] = {}
        self._uploads: list[PendingUpload] = []
        self._inserted: dict[object, object] = {}
        self._deleted: dict[object, tuple[Store, object]] = {}
        _logs[session] = self

    # While it goes on

    def enlist(self, thing: object, hooks: Callable[[], Hooks], what: str = "") -> None:
        """Keep what `thing` was before its first change; later calls for the same thing have no effect."""
        key = id(thing), what
        if key not in self._hooks:
            self._hooks[key] = thing, hooks()

    def add_upload(self, upload: PendingUpload) -> None:
        """A new file is begun."""
        self._uploads.append(upload)

    def record_inserted(self, store: Store, id: object) -> None:
        """A record stands in the transaction; what a former file of this id had to lose is its own now."""
        key = _key(store, id)
        self._inserted[key] = id
        self._deleted.pop(key, None)

    def record_deleted(self, store: Store, id: object) -> None:
        """A record that was inserted here was taken back."""
        self._inserted.pop(_key(store, id), None)

    def delete_on_commit(self, store: Store, id: object) -> None:
        """A record was deleted; its chunks go with the commit."""
        self._deleted[_key(store, id)] = store, id

    def is_deleted(self, store: Store, id: object) -> bool:
        """Whether the file of this id was deleted here: its chunks lie there until the commit."""
        return _key(store, id) in self._deleted

    @property
    def has_open_uploads(self) -> bool:
        """Whether a file is still being written."""
        return any(each.is_open for each in self._uploads)

    @property
    def ids(self) -> list[object]:
        """The ids of the files that were stored and deleted."""
        return list({**self._inserted, **{key: id for key, (_, id) in self._deleted.items()}}.values())

    # Once it is over

    async def after_commit(self) -> None:
        """Remove the chunks of deleted files; an error of that has a note that all is committed."""
        for _, hooks in self._hooks.values():
            hooks.on_commit()
        try:
            for store, ids in self._deleted_by_store():
                await store.delete_chunks_of_all(ids)
        except PyMongoError as error:
            error.add_note("The transaction is committed; chunks of deleted files may be left for collect_garbage().")
            raise
        finally:
            self._forget()

    def _deleted_by_store(self) -> list[tuple[Store, list[object]]]:
        groups: list[tuple[Store, list[object]]] = []
        for store, id in self._deleted.values():
            for other, ids in groups:
                if other.key == store.key:
                    ids.append(id)
                    break
            else:
                groups.append((store, [id]))
        return groups

    async def after_abort(self, cause: BaseException | None) -> None:
        """Remove the chunks of new files, and let everything be what it was. A clean-up that fails is noted on `cause`,
        or raised where there is none.
        """
        try:
            for upload in self._uploads:
                await upload.rollback(cause)
        finally:
            # The last first: what one of them has kept may be what another one gave back.
            for _, hooks in reversed(self._hooks.values()):
                hooks.on_abort()
            self._forget()

    def after_unknown(self) -> None:
        """Leave everything where it is: it may be needed."""
        for _, hooks in self._hooks.values():
            hooks.on_unknown()
        self._forget()

    def _forget(self) -> None:
        # The files keep this tx_log, and would keep each other by it.
        self._hooks.clear()
        self._uploads.clear()


# Weakly: a session that was dropped takes its tx_log with it.
_logs: weakref.WeakKeyDictionary[Session, TransactionLog] = weakref.WeakKeyDictionary()


def transaction_log_of(session: Session | None) -> TransactionLog | None:
    """The books of the transaction that this session is in, None outside of ours."""
    tx_log = _logs.get(session) if in_transaction(session) else None
    return tx_log if tx_log is not None and tx_log.open else None


def is_foreign_transaction(session: Session | None) -> bool:
    """Whether this session is in a transaction that is not ours: nobody tells us how that ends."""
    return in_transaction(session) and transaction_log_of(session) is None


def _key(store: Store, id: object) -> object:
    # As BSON, since an id may be a dict, and 1 and True are two.
    return store.key, bson.encode({"": id}, codec_options=store.codec_options)
