"""Bytes without a record: written ahead, made a file of later, or taken away again."""

from __future__ import annotations

from pymongo.errors import PyMongoError

from gridproxy.errors import CorruptFile, FileAlreadyStored, FileClosed, UploadInProgress
from gridproxy.gridfs.records.chunks import object_ids
from gridproxy.gridfs.records.file_info import FileInfo, utc_now
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.transactions.transaction_log import TransactionLog, transaction_log_of
from gridproxy.runtime.tasks import run_to_completion

from .commit import insert_record


class Staged:
    """Chunks that lie in a bucket without a record: `Bucket.publish` makes a file of them, `discard` removes them.

    So does `put`, or `replace`, that is given it as its source.
    """

    def __init__(self, store: Store, record: Record, chunk_ids: bytes) -> None:
        self.store = store
        self.record = record
        self.chunk_ids = chunk_ids
        self.discarded = False
        self.tried = False  # to be published
        self.published_in: TransactionLog | None = None  # the last transaction of ours that it was published in

    @property
    def id(self) -> object:
        """The id that the file will have."""
        return self.record["_id"]

    @property
    def info(self) -> FileInfo:
        """What the file's record will say; the upload date is that of its publishing."""
        return FileInfo.from_record(self.record)

    def __repr__(self) -> str:
        return f"<Staged {self.id!r} in {self.store!r}: {int(self.record['length'])} bytes>"


async def publish_staged(staged: Staged, session: Session | None = None) -> FileInfo:
    """Insert the record; doing it again does no harm, and after an aborted transaction it is what is to be done.

    Raises `FileClosed` after a discard, `CorruptFile` where chunks are gone that waited for longer than the collector
    does (the rest is discarded then), and as an upload does.
    """
    if staged.discarded:
        raise FileClosed(f"{staged!r} was discarded; its bytes are gone")
    session = staged.store.session_for(session)
    staged.published_in = transaction_log_of(session)
    again, staged.tried = staged.tried, True
    if not again:
        # The collector takes a file that was stored just now for one that a document is going to point to.
        staged.record["uploadDate"] = utc_now()
    await run_to_completion(_insert(staged, session, again))
    return staged.info


async def _insert(staged: Staged, session: Session | None, again: bool) -> None:
    try:
        # Published before, it may have been deleted since.
        await insert_record(staged.store, staged.record, staged.chunk_ids, session, retry=True, count=again)
    except CorruptFile as error:
        try:
            await _discard_rest(staged)
        except PyMongoError as failure:
            error.add_note(f"The clean-up failed too ({failure!r}): {staged!r} is left for collect_garbage().")
        raise


async def _discard_rest(staged: Staged) -> None:
    # A file that was made of them before, and damaged since, is not ours to remove.
    if await staged.store.find_record(staged.id, primary=True) is None:
        staged.discarded = True
        await staged.store.delete_chunks_by_id(staged.id, object_ids(staged.chunk_ids))


async def discard_staged(staged: Staged) -> None:
    """Remove the chunks; raises `FileAlreadyStored` where they have become a file, `UploadInProgress` where they are
    becoming one in a transaction that is not over.
    """
    if staged.published_in is not None and staged.published_in.open:
        raise UploadInProgress(f"{staged!r} was published in a transaction that is not over: discard it afterwards")
    await _refuse_stored(staged.store, staged.id)
    staged.discarded = True
    await run_to_completion(staged.store.delete_chunks_by_id(staged.id, object_ids(staged.chunk_ids)))


async def discard_id(store: Store, id: object) -> None:
    """Remove every chunk under an id that has no record; raises `FileAlreadyStored` where it has one."""
    await _refuse_stored(store, id)
    await run_to_completion(store.delete_chunks(id))


async def _refuse_stored(store: Store, id: object) -> None:
    if await store.find_record(id, primary=True) is not None:
        raise FileAlreadyStored(id, message=f"{id!r} is a stored file; delete() removes it, discard() does not")
