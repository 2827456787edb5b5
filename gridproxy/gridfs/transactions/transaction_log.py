"""What one transaction has to clean up when its outcome is known.

Only the records of files are part of a transaction, their chunks are not. An abort removes the chunks of new files, a
commit those of deleted files, and an unknown outcome removes none. Hooks restore proxies and documents.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import bson
from pymongo.errors import PyMongoError

from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.sessions import in_transaction


@dataclass(frozen=True)
class Hooks:
    """The callbacks of one object, one for each way in which a transaction ends."""

    on_abort: Callable[[], None] = lambda: None
    on_commit: Callable[[], None] = lambda: None
    on_unknown: Callable[[], None] = lambda: None


class PendingUpload(Protocol):
    """An upload that was started in the transaction."""

    @property
    def is_open(self) -> bool:
        """Whether it is still being written."""

    async def rollback(self, cause: BaseException | None) -> None:
        """Remove its chunks, because its record was never committed."""


class TransactionLog:
    """The changes of one transaction. `repeated` means that the caller's block may run again."""

    def __init__(self, session: Session, *, repeated: bool = False) -> None:
        self.open = True
        self.committed: bool = False
        self.repeated = repeated
        self._hooks: dict[tuple[int, str], tuple[object, Hooks]] = {}
        self._uploads: list[PendingUpload] = []
        self._inserted: dict[object, object] = {}
        self._deleted: dict[object, tuple[Store, object, object]] = {}
        _logs[session] = self

    def enlist(self, thing: object, hooks: Callable[[], Hooks], what: str = "") -> None:
        """Add the hooks of `thing` before its first change. Later calls for the same thing have no effect."""
        key = id(thing), what
        if key not in self._hooks:
            self._hooks[key] = thing, hooks()

    def add_upload(self, upload: PendingUpload) -> None:
        """Add an upload that was started."""
        self._uploads.append(upload)

    def record_inserted(self, store: Store, id: object) -> None:
        """Note an inserted record. Chunks that a deleted file of this id had to lose now belong to the new file."""
        key = _key(store, id)
        self._inserted[key] = id
        self._deleted.pop(key, None)

    def record_deleted(self, store: Store, id: object) -> None:
        """Note that a record which the transaction inserted was deleted again."""
        self._inserted.pop(_key(store, id), None)

    def delete_on_commit(self, store: Store, id: object, upload_id: object) -> None:
        """Note a deleted record, whose chunks are removed after the commit."""
        self._deleted[_key(store, id)] = store, id, upload_id

    def is_deleted(self, store: Store, id: object) -> bool:
        """Return whether the transaction deleted this file, so that only its chunks are left until the commit."""
        return _key(store, id) in self._deleted

    @property
    def has_open_uploads(self) -> bool:
        """Whether a file is still being written."""
        return any(each.is_open for each in self._uploads)

    @property
    def ids(self) -> list[object]:
        """The ids of the stored and the deleted files."""
        return list({**self._inserted, **{key: id for key, (_, id, _) in self._deleted.items()}}.values())

    async def after_commit(self, until: float | None = None) -> None:
        """Remove the chunks of deleted files, `until` a moment in the loop's time.

        An error of the clean-up has a note that the commit succeeded.
        """
        self.committed = True
        for _, hooks in self._hooks.values():
            hooks.on_commit()
        try:
            by_store: dict[tuple[str, str], tuple[Store, list[tuple[object, object]]]] = {}
            for store, id, upload_id in self._deleted.values():
                by_store.setdefault(store.key, (store, []))[1].append((id, upload_id))
            async with asyncio.timeout_at(until):
                for store, deleted in by_store.values():
                    await store.delete_chunks_of_all(deleted)
        except (PyMongoError, TimeoutError) as error:
            error.add_note("The transaction is committed. Chunks of deleted files may be left for collect_garbage().")
            raise
        finally:
            self._forget()

    async def after_abort(self, cause: BaseException | None) -> None:
        """Remove the chunks of new files and restore all objects.

        An error of the clean-up is noted on `cause`, or raised if there is no cause.
        """
        try:
            for upload in self._uploads:
                await upload.rollback(cause)
        finally:
            # In reverse order, because a later hook may have kept a state that an earlier one restores.
            for _, hooks in reversed(self._hooks.values()):
                hooks.on_abort()
            self._forget()

    def after_unknown(self) -> None:
        """Keep all chunks, because the files may be committed."""
        for _, hooks in self._hooks.values():
            hooks.on_unknown()
        self._forget()

    def _forget(self) -> None:
        # Proxies reference this log, and would keep each other alive through it.
        self._hooks.clear()
        self._uploads.clear()


# Weak, so that the log is dropped together with its session.
_logs: weakref.WeakKeyDictionary[Session, TransactionLog] = weakref.WeakKeyDictionary()


def transaction_log_of(session: Session | None) -> TransactionLog | None:
    """Return the log of the session's transaction, or None if gridproxy did not start it."""
    tx_log = _logs.get(session) if in_transaction(session) else None
    return tx_log if tx_log is not None and tx_log.open else None


def is_foreign_transaction(session: Session | None) -> bool:
    """Return whether the session is in a transaction whose outcome gridproxy will not learn."""
    return in_transaction(session) and transaction_log_of(session) is None


def _key(store: Store, id: object) -> object:
    # As BSON, because an id may be a dict, and 1 and True are different ids.
    return store.key, bson.encode({"": id}, codec_options=store.codec_options)
