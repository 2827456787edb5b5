"""Staged content: chunks without a record, to be published or discarded later."""

from __future__ import annotations

import time

from pymongo.errors import PyMongoError

from gridproxy.errors import CorruptFile, FileAlreadyStored, FileClosed, UploadInProgress
from gridproxy.gridfs.records.chunks import object_ids
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.loose_chunks import Loose, remove_loose_chunks, remove_own_chunks
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.transactions.transaction_log import TransactionLog, transaction_log_of
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import run_to_completion

from .commit import Verify, check_id_is_free, insert_record


class Staged:
    """Content that is stored in a bucket but is not a file yet.

    `Bucket.stage` makes it. `Bucket.publish`, `put` and `replace` make a file of it, and `Bucket.discard` removes it.

    ```python
    staged = await bucket.stage(b"roar", filename="lion.txt")
    info = await bucket.publish(staged)
    assert info.id == staged.id
    ```
    """

    def __init__(self, store: Store, record: Record, chunk_ids: bytes) -> None:
        self.store = store
        self.record = record
        self.chunk_ids = chunk_ids
        self.discarded = False
        self.tried = False  # whether publishing was tried
        self.published = False  # whether it is certain that it has been a file
        self.published_in: TransactionLog | None = None  # the log of the last transaction that published it

    @property
    def id(self) -> object:
        """The id that the file will have."""
        return self.record["_id"]

    @property
    def info(self) -> FileInfo:
        """The info that the file will have, with its length in bytes. Publishing sets the upload date."""
        return FileInfo.from_record(self.record)

    def __repr__(self) -> str:
        return f"<Staged {self.id!r} in {self.store!r}: {int(self.record['length'])} bytes>"


async def publish_staged(staged: Staged, session: Session | None = None) -> FileInfo:
    """Insert the record. Doing so again is allowed, and needed after an aborted transaction.

    Raises `FileClosed` after a discard, `CorruptFile` if the garbage collector removed chunks (the rest is discarded
    then), and the errors of an upload.
    """
    if staged.discarded:
        raise FileClosed(f"{staged!r} was discarded and cannot be published. Stage the content again")
    session = staged.store.session_for(session)
    staged.published = staged.published or (staged.published_in is not None and staged.published_in.committed)
    if staged.published and await staged.store.find_record(staged.id, session, primary=True) is None:
        # A delete of the file may still be removing its chunks, so they cannot be used again.
        raise CorruptFile(
            staged.id, "the file was published before and was deleted since, with its chunks. Stage the content again"
        )
    staged.published_in = transaction_log_of(session)
    again, staged.tried = staged.tried, True
    if not again:
        # The garbage collector spares a new file, because a document may be about to refer to it.
        staged.record["uploadDate"] = await server_now(staged.store)
        if not staged.chunk_ids and UPLOAD_ID in staged.record:
            # Chunks of another upload would be surplus chunks of this empty file.
            await check_id_is_free(staged.store, staged.id, session)
    began = time.monotonic()
    await run_to_completion(_insert(staged, session, again), client=staged.store.client)
    staged.published = staged.published or not in_transaction(session)
    log_stored(staged.store, staged.id, int(staged.record["length"]), began, session)
    return staged.info


def log_stored(store: Store, id: object, size: int, since: float, session: Session | None = None) -> None:
    """Log a new file of `size` bytes. In a transaction it may still be rolled back."""
    log_event(Event.STORED, store, id, size=size, since=since, transaction=in_transaction(session) or None)


async def _insert(staged: Staged, session: Session | None, again: bool) -> None:
    try:
        # A file that was published before may have been deleted since.
        verify = Verify.ALL if again else Verify.ENDS
        await insert_record(staged.store, staged.record, staged.chunk_ids, session, retry=True, verify=verify)
    except CorruptFile as error:
        try:
            # Keep the chunks if they are a file that was published earlier and damaged since.
            if await staged.store.find_record(staged.id, primary=True) is None:
                staged.discarded = True
                await staged.store.delete_chunks_by_id(staged.id, object_ids(staged.chunk_ids))
        except PyMongoError as failure:
            error.add_note(f"The clean-up failed too ({failure!r}): collect_garbage() will remove {staged!r}.")
        raise


async def discard_staged(staged: Staged) -> None:
    """Remove the chunks.

    Raises `FileAlreadyStored` if they are a file, and `UploadInProgress` if an open transaction has published them.
    """
    if staged.published_in is not None and staged.published_in.open:
        raise _published_in_transaction(staged.id)
    chunk_ids, upload_id = list(object_ids(staged.chunk_ids)), staged.record.get(UPLOAD_ID)
    work = remove_own_chunks(staged.store, staged.id, upload_id, chunk_ids)
    _refuse_kept(staged.id, await run_to_completion(work, client=staged.store.client))
    staged.discarded = True


async def discard_id(store: Store, id: object) -> None:
    """Remove every chunk of an id without a record. Raises the errors of `discard_staged`."""
    await _refuse_stored(store, id)
    _refuse_kept(id, await run_to_completion(remove_loose_chunks(store, id)))


async def _refuse_stored(store: Store, id: object) -> None:
    if await store.find_record(id, primary=True) is not None:
        raise _stored(id)


def _refuse_kept(id: object, found: Loose) -> None:
    if found is Loose.STORED:
        raise _stored(id)
    if found is Loose.PENDING:
        raise _published_in_transaction(id)


def _stored(id: object) -> FileAlreadyStored:
    return FileAlreadyStored(id, message=f"{id!r} is a stored file. Remove it with delete(), not discard()")


def _published_in_transaction(id: object) -> UploadInProgress:
    return UploadInProgress(f"{id!r} was published in a transaction that is not over. Discard it afterwards")
