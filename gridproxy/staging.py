"""Bytes without a record: written ahead, made a file of later, or taken away again."""

from __future__ import annotations

from .errors import FileAlreadyStored, FileClosed, UploadInProgress
from .footprint import object_ids
from .info import FileInfo
from .ledger import Ledger, ledger_of
from .publish import insert_record
from .store import Record, Session, Store
from .tasks import settle

__all__ = ["Staged", "discard_id", "discard_staged", "publish_staged"]


class Staged:
    """Chunks that lie in a bucket without a record: `Bucket.publish` makes a file of them, `discard` removes them."""

    def __init__(self, store: Store, record: Record, chunk_ids: bytes) -> None:
        self.store = store
        self.record = record
        self.chunk_ids = chunk_ids
        self.discarded = False
        self.published_in: Ledger | None = None  # the last transaction of ours that it was published in

    @property
    def id(self) -> object:
        """The id that the file will have."""
        return self.record["_id"]

    @property
    def info(self) -> FileInfo:
        """What the file's record will say."""
        return FileInfo.from_record(self.record)

    def __repr__(self) -> str:
        return f"<Staged {self.id!r} in {self.store!r}: {int(self.record['length'])} bytes>"


async def publish_staged(staged: Staged, session: Session | None = None) -> FileInfo:
    """Insert the record; doing it again does no harm, and after an aborted transaction it is what is to be done.

    Raises `FileClosed` after a discard, and as an upload does.
    """
    if staged.discarded:
        raise FileClosed(f"{staged!r} was discarded; its bytes are gone")
    own_chunk = next(object_ids(staged.chunk_ids), None)
    session = staged.store.session_for(session)
    staged.published_in = ledger_of(session)
    await settle(insert_record(staged.store, staged.record, own_chunk, session, maybe_there=True))
    return staged.info


async def discard_staged(staged: Staged) -> None:
    """Remove the chunks; raises `FileAlreadyStored` where they have become a file, `UploadInProgress` where they are
    becoming one in a transaction that is not over.
    """
    if staged.published_in is not None and staged.published_in.open:
        raise UploadInProgress(f"{staged!r} was published in a transaction that is not over: discard it afterwards")
    await _refuse_stored(staged.store, staged.id)
    staged.discarded = True
    await settle(staged.store.delete_chunks_by_id(staged.id, object_ids(staged.chunk_ids)))


async def discard_id(store: Store, id: object) -> None:
    """Remove every chunk under an id that has no record; raises `FileAlreadyStored` where it has one."""
    await _refuse_stored(store, id)
    await settle(store.delete_chunks(id))


async def _refuse_stored(store: Store, id: object) -> None:
    if await store.find_record(id, primary=True) is not None:
        raise FileAlreadyStored(id, message=f"{id!r} is a stored file; delete() removes it, discard() does not")
