"""The record: the one insert that makes a file visible, and its outcome made known.

A reply that got lost says nothing, so the insert is repeated: it is the same document under the same id, and finding it
there means that it landed. Chunks that lay long without a record are counted before they become a file, and after:
`collect_garbage` may have taken them for what an upload that was cut off had left. Of others the first is looked at:
`delete` and `discard` take all that lie under an id, and need no record for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import bson
from pymongo.errors import (
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from gridproxy.errors import CorruptFile, FileAlreadyStored, OutcomeUnknown, UploadInProgress
from gridproxy.gridfs.records.chunks import longest_pause, object_ids
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.transactions.transaction_log import transaction_log_of
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import both

DUPLICATE_KEY = 11000
_COMMAND_NOT_FOUND = 59
_ATTEMPTS = 4
_PAUSE = 0.1  # seconds before the first repetition; doubled with each
# The collector leaves alone what is younger than an hour (`scanner.YOUNGEST`). Seconds of a pause after which an
# upload makes sure that it has all of its chunks: the rest of the hour is for clocks that differ, and for a
# transaction that is to be committed.
SAFE_PAUSE = 30 * 60


def id_in_progress(id: object) -> UploadInProgress:
    """The error for chunks that lie under an id without a record, and are not ours."""
    return UploadInProgress(
        f"chunks without a record lie under the id {id!r}: it is being uploaded at this moment, or an "
        "upload was cut off; wait for it, or remove them with bucket.discard(id)"
    )


async def check_id_is_free(store: Store, id: object, session: Session | None) -> None:
    """Raise `FileAlreadyStored` for an id with a file, `UploadInProgress` for one with chunks and no file."""
    record, chunks = await both(store.find_record(id, session, primary=True), store.has_chunks(id))
    if record is not None:
        raise FileAlreadyStored(id)
    if chunks:
        tx_log = transaction_log_of(session)
        if tx_log is not None and tx_log.is_deleted(store, id):
            raise UploadInProgress(
                f"the file {id!r} was deleted in this transaction, and its chunks lie there until it is committed: "
                "store the new one under another id, or in the next transaction"
            )
        raise id_in_progress(id)


async def insert_record(
    store: Store,
    record: Record,
    chunk_ids: bytes | bytearray,
    session: Session | None,
    *,
    retry: bool = False,
    count: bool = False,
    brief: bool = False,
) -> None:
    """Insert the record of chunks that are there already, whose `_id`s are given, 12 bytes each in their order;
    `retry`: an earlier attempt may have landed, `count`: the chunks may be gone, however young they are, `brief`:
    nobody had time to take them.

    Raises `FileAlreadyStored` when the id is another file's, `CorruptFile` when chunks have gone meanwhile (there is
    no record then), `OutcomeUnknown` when no attempt was answered.
    """

    async def insert() -> None:
        nonlocal retry
        # Looked at with every attempt: one that gets no answer may take as long as a pause does.
        doubtful = count or _paused(chunk_ids)
        if doubtful:
            await _check_chunks(store, record, chunk_ids)
        try:
            await store.insert_record(record, session)
        except DuplicateKeyError:
            if not (retry and await _is_ours(store, record, chunk_ids)):
                raise FileAlreadyStored(record["_id"]) from None
        except ServerSelectionTimeoutError:
            raise  # nothing was sent
        except ConnectionFailure:
            retry = True
            raise
        else:
            if doubtful:
                retry = True
                await _check_again(store, record, chunk_ids, session)
            elif not brief:
                await _check_first(store, record, chunk_ids, session)

    if in_transaction(session):
        await _insert_inside(store, record, chunk_ids, session, retry, count)
        return
    try:
        await _until_answered(insert)
    except ConnectionFailure as error:
        if not retry:
            raise
        raise OutcomeUnknown(record["_id"]) from error


async def _insert_inside(
    store: Store, record: Record, chunk_ids: bytes | bytearray, session: Session, retry: bool, count: bool
) -> None:
    # Looked for before, since a duplicate key ends the transaction. Repeating what got no answer is not for us: that
    # ends it, too, and the record goes with it.
    found = await store.find_record(record["_id"], session) if retry else None
    if found is None:
        doubtful = count or _paused(chunk_ids)
        if doubtful:
            await _check_chunks(store, record, chunk_ids)
        try:
            await store.insert_record(record, session)
        except DuplicateKeyError:
            raise FileAlreadyStored(record["_id"]) from None
        if doubtful:
            await _check_again(store, record, chunk_ids, session)
        else:
            await _check_first(store, record, chunk_ids, session)
    elif not await _is_same(store, found, record, chunk_ids):
        raise FileAlreadyStored(record["_id"])
    if (tx_log := transaction_log_of(session)) is not None:
        tx_log.record_inserted(store, record["_id"])


def _paused(chunk_ids: bytes | bytearray) -> bool:
    return longest_pause(chunk_ids, time.time()) > SAFE_PAUSE


async def _check_chunks(store: Store, record: Record, chunk_ids: bytes | bytearray) -> None:
    wanted = len(chunk_ids) // 12
    there = await store.count_chunks(record["_id"], object_ids(chunk_ids))
    if there != wanted:
        raise CorruptFile(
            record["_id"],
            f"{wanted - there} of its {wanted} chunks are gone: they lay without a record for so long that "
            "collect_garbage() took them, or discard() did; no file was made of the others, so send it again",
        )


async def _check_again(store: Store, record: Record, chunk_ids: bytes | bytearray, session: Session | None) -> None:
    # A collector that saw no record just before it was inserted removes some chunks all the same.
    try:
        await _check_chunks(store, record, chunk_ids)
    except CorruptFile:
        await withdraw_record(store, record, session)
        raise


async def _check_first(store: Store, record: Record, chunk_ids: bytes | bytearray, session: Session | None) -> None:
    first = next(object_ids(chunk_ids), None)
    if first is None:
        return
    try:
        there = await store.first_chunk_id(record["_id"])
    except PyMongoError:
        return  # the file is stored, and silence says nothing against it
    if there != first:
        await withdraw_record(store, record, session)
        raise CorruptFile(
            record["_id"],
            "its first chunk is gone: delete() or discard() of this id came while it was being sent; no file was made "
            "of the others, so send it again",
        )


async def insert_small_files(store: Store, files: Sequence[tuple[Sequence[Record], Record]]) -> None:
    """Insert chunks and records of small files, in one request if the server has client bulk writes.

    Some of the files may be stored if this raises. Raises as `insert_record`, and `UploadInProgress` if another
    upload's chunks are under an id.
    """
    try:
        await store.insert_small_files(
            [chunk for chunks, _ in files for chunk in chunks], [record for _, record in files]
        )
    except (InvalidOperation, OperationFailure, ConnectionFailure) as error:
        retry = _may_have_landed(store, error)
    else:
        return
    for chunks, record in files:
        await _insert_in_steps(store, chunks, record, retry)


async def _insert_in_steps(store: Store, chunks: Sequence[Record], record: Record, retry: bool) -> None:
    try:
        await _until_answered(lambda: _insert_missing(store, chunks, record["_id"]))
    except ConnectionFailure as error:
        if not retry:
            raise
        raise OutcomeUnknown(record["_id"]) from error
    chunk_ids = b"".join(chunk["_id"].binary for chunk in chunks)
    await insert_record(store, record, chunk_ids, None, retry=retry, brief=True)


async def withdraw_record(store: Store, record: Record, session: Session | None) -> None:
    """Remove the record if it is there and ours: nobody else's has this id, this date and this length."""
    inside = in_transaction(session)
    try:
        await store.delete_record(
            record["_id"], session, {"uploadDate": record["uploadDate"], "length": record["length"]}
        )
    except OperationFailure:
        if not inside:
            raise
        # A statement that fails in a transaction has aborted it, and the record with it.
    if (tx_log := transaction_log_of(session)) is not None:
        tx_log.record_deleted(store, record["_id"])


def same_encoding(store: Store, record: Record) -> bool:
    """Whether the client's own codec options, which its bulk write uses, make the same bytes of the record."""
    of_client, of_database = store.client.codec_options, store.codec_options
    if of_client == of_database:
        return True
    try:
        return bson.encode(record, codec_options=of_client) == bson.encode(record, codec_options=of_database)
    except (bson.errors.InvalidDocument, OverflowError, ValueError):
        return False


async def _until_answered(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat what can be repeated while no answer comes; raises the last failure."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return await work()
        except ServerSelectionTimeoutError:
            raise  # it has waited for a server as long as the client was told to
        except ConnectionFailure:
            await asyncio.sleep(_PAUSE * 2**attempt)
    await work()


async def _is_ours(store: Store, record: Record, chunk_ids: bytes | bytearray) -> bool:
    found = await store.find_record(record["_id"], primary=True)
    return found is not None and await _is_same(store, found, record, chunk_ids)


async def _is_same(store: Store, found: Record, record: Record, chunk_ids: bytes | bytearray) -> bool:
    there, ours = FileInfo.from_record(found), FileInfo.from_record(record)
    if (there.length, there.upload_date) != (ours.length, ours.upload_date):
        return False
    # Under one id only one upload can have placed chunk 0.
    own_chunk = next(object_ids(chunk_ids), None)
    return own_chunk is None or await store.first_chunk_id(record["_id"]) == own_chunk


async def _insert_missing(store: Store, chunks: Sequence[Record], id: object) -> None:
    """Insert those chunks of one batch that an earlier attempt has not landed, in order.

    Whoever lands chunk 0 has the id: so none of ours may lie beside another upload's chunk 0.
    """
    missing = list(chunks)
    while missing:
        try:
            return await store.insert_chunks(missing)
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
        landed = await store.chunk_ids(id)
        left = [chunk for chunk in missing if chunk["_id"] not in landed]
        if len(left) == len(missing):
            raise id_in_progress(id) from None
        missing = left


def is_duplicate_key(error: BulkWriteError) -> bool:
    """Whether nothing but taken keys made this insert fail."""
    return {each.get("code") for each in error.details.get("writeErrors", [])} == {DUPLICATE_KEY}


def _may_have_landed(store: Store, error: Exception) -> bool:
    """Whether a bulk write that failed may have stored the file; raises what is final, plain."""
    if isinstance(error, ClientBulkWriteException):
        cause = error.error
        if isinstance(cause, Exception):
            error = cause
        elif error.write_errors:
            # A retry that the server did not recognise finds its own documents there.
            first = error.write_errors[0]
            if first["code"] == DUPLICATE_KEY:  # type: ignore[index]  # pymongo's hint says WriteError; it gives the reply's dict
                return True
    if isinstance(error, ConnectionFailure) and not isinstance(error, ServerSelectionTimeoutError):
        return True
    before_8_0 = isinstance(error, InvalidOperation) and "8.0" in str(error)
    if before_8_0 or (isinstance(error, OperationFailure) and error.code == _COMMAND_NOT_FOUND):
        store.state.bulk_write = False
        return False
    raise error
