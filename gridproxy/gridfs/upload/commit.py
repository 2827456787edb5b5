"""The insert of the record, which makes a file visible. It is repeated if no answer arrives."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence

import bson
from bson import ObjectId
from pymongo.errors import (
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from gridproxy.errors import CorruptFile, FileAlreadyStored, OutcomeUnknown, UniqueIndexViolation, UploadInProgress
from gridproxy.gridfs.records.chunks import longest_pause, object_ids
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.unique_indexes import DUPLICATE_KEY, violated_index
from gridproxy.gridfs.transactions.transaction_log import transaction_log_of
from gridproxy.runtime import tasks
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import both

# Errors after which it is certain that nothing was sent.
_NOT_SENT = (ServerSelectionTimeoutError, WaitQueueTimeoutError)
_ATTEMPTS = 4
_PAUSE = 0.1  # seconds before the first repetition, doubled for each further one
# Seconds of a pause after which an upload verifies all of its chunks. The garbage collector spares chunks younger than
# an hour (`MIN_AGE`). The rest of the hour is for the error of the measured clock and for a transaction's commit.
SAFE_PAUSE = 30 * 60


class Verify(enum.Enum):
    """Which chunks are looked for around the insert of a record. A long pause between chunks always means `ALL`."""

    ALL = "all"  # the garbage collector may have removed some
    ENDS = "ends"  # who removes chunks marks the first one before it looks for a record
    NONE = "none"  # no other client knows the id


def id_in_progress(id: object) -> UploadInProgress:
    """Return the error for chunks of another upload under an id that has no record."""
    return UploadInProgress(
        f"the id {id!r} has chunks but no record: an upload under this id is running, or it was interrupted. "
        "Wait for its end, or remove the chunks with bucket.discard(id)"
    )


def duplicate_chunk(store: Store, id: object, error: OperationFailure) -> UploadInProgress | UniqueIndexViolation:
    """Return the error for a chunk that was not inserted because of a duplicate key."""
    violation = violated_index(store, error)
    return id_in_progress(id) if violation is None or violation.index is None else violation


async def check_id_is_free(store: Store, id: object, session: Session | None) -> None:
    """Raise `FileAlreadyStored` for an id with a file, `UploadInProgress` for one with chunks and no file."""
    record, chunks = await both(store.find_record(id, session, primary=True), store.has_chunks(id))
    if record is not None:
        raise FileAlreadyStored(id)
    if chunks:
        tx_log = transaction_log_of(session)
        if tx_log is not None and tx_log.is_deleted(store, id):
            raise UploadInProgress(
                f"the file {id!r} was deleted in this transaction, and its chunks are removed only after the commit. "
                "Store the new file under another id, or in the next transaction"
            )
        raise id_in_progress(id)


async def insert_record(
    store: Store,
    record: Record,
    chunk_ids: bytes | bytearray,
    session: Session | None,
    *,
    retry: bool = False,
    verify: Verify = Verify.ENDS,
) -> None:
    """Insert the record of stored chunks, whose `_id`s are given in order, 12 bytes each.

    If `retry`, an earlier attempt may have inserted it. Raises `FileAlreadyStored` if the id belongs to another file,
    `UniqueIndexViolation` if an index of the application's refuses the record, `CorruptFile` if chunks are gone (no
    record is left then), and `OutcomeUnknown` if no attempt got an answer.
    """

    async def insert() -> None:
        nonlocal retry
        # Decide anew on each attempt: an attempt without an answer may take as long as a pause.
        needed = await _check_before(store, record, chunk_ids, verify)
        try:
            await store.insert_record(record, session)
        except DuplicateKeyError as error:
            found = await store.find_record(record["_id"], primary=True) if retry else None
            if found is None or not await _is_same(store, found, record, chunk_ids):
                raise await _duplicate(store, record["_id"], error) from error
        except _NOT_SENT:
            raise
        except ConnectionFailure:
            retry = True
            raise
        else:
            retry = retry or needed is Verify.ALL
            await _check_inserted(store, record, chunk_ids, session, needed)

    if in_transaction(session):
        await _insert_in_transaction(store, record, chunk_ids, session, retry, verify)
        return
    try:
        await _until_answered(insert)
    except ConnectionFailure as error:
        if not retry:
            raise
        raise OutcomeUnknown(record["_id"]) from error


async def _insert_in_transaction(
    store: Store, record: Record, chunk_ids: bytes | bytearray, session: Session, retry: bool, verify: Verify
) -> None:
    # Look first, since a duplicate key aborts the transaction. Do not repeat an insert without an answer: that aborts
    # the transaction too, and the record with it.
    found = await store.find_record(record["_id"], session) if retry else None
    if found is None:
        needed = await _check_before(store, record, chunk_ids, verify)
        try:
            await store.insert_record(record, session)
        except DuplicateKeyError as error:
            raise await _duplicate(store, record["_id"], error) from error
        await _check_inserted(store, record, chunk_ids, session, needed)
    elif not await _is_same(store, found, record, chunk_ids):
        raise FileAlreadyStored(record["_id"])
    if (tx_log := transaction_log_of(session)) is not None:
        tx_log.record_inserted(store, record["_id"])


async def _duplicate(store: Store, id: object, error: DuplicateKeyError) -> FileAlreadyStored | UniqueIndexViolation:
    """Return the error for a record that was not inserted: the id is taken, or a value in an application's index."""
    violation = violated_index(store, error)
    if violation is None:
        return FileAlreadyStored(id)
    taken = violation.index is None and await store.find_record(id, primary=True) is not None
    return FileAlreadyStored(id) if taken else violation


async def _check_before(store: Store, record: Record, chunk_ids: bytes | bytearray, verify: Verify) -> Verify:
    """Check all chunks if that is needed, and return which ones to look for after the insert."""
    if verify is not Verify.ALL and longest_pause(chunk_ids, store.server_time()) <= SAFE_PAUSE:
        return verify
    await _check_all(store, record, chunk_ids)
    return Verify.ALL


async def _check_all(store: Store, record: Record, chunk_ids: bytes | bytearray) -> None:
    sent = len(chunk_ids) // 12
    found = await store.count_chunks(record["_id"], object_ids(chunk_ids))
    if found != sent:
        raise CorruptFile(
            record["_id"],
            f"{sent - found} of its {sent} chunks are gone: collect_garbage() removed them because the upload paused "
            "for too long, or discard() removed them. No file was stored. Upload the content again",
        )


async def _check_inserted(
    store: Store, record: Record, chunk_ids: bytes | bytearray, session: Session | None, verify: Verify
) -> None:
    try:
        if verify is Verify.ALL:
            # A garbage collector that read just before the insert saw no record and may still remove chunks.
            await _check_all(store, record, chunk_ids)
        if verify is not Verify.NONE:
            await _check_ends(store, record, chunk_ids)
    except CorruptFile:
        await withdraw_record(store, record, session)
        raise


async def _check_ends(store: Store, record: Record, chunk_ids: bytes | bytearray) -> None:
    ends = [ObjectId(each) for each in dict.fromkeys((bytes(chunk_ids[:12]), bytes(chunk_ids[-12:]))) if each]
    if not ends:
        return
    try:
        found = await store.end_chunk_ids(record["_id"], len(chunk_ids) // 12 - 1)
    except PyMongoError:
        return  # the record is stored, and a missing answer does not prove that a chunk is gone
    if found != ends:
        raise CorruptFile(
            record["_id"],
            "its first chunk is gone: another client called delete() or discard() for this id during the upload, or "
            "collect_garbage() has removed it. No file was stored. Upload the content again",
        )


async def insert_small_files(
    store: Store, files: Sequence[tuple[Sequence[Record], Record]], verify: Verify = Verify.NONE
) -> None:
    """Insert small files, in one request if the server supports it, else in two. Some may be stored when this raises.

    Raises the errors of `insert_record`, and `UploadInProgress` if an id has chunks of another upload.
    """
    retry, until = False, None
    records = [record for _, record in files]
    # A bulk write uses the codec options of the client instead of the database's.
    alike = store.encodes_as_client or all(_same_encoding(store, record) for record in records)
    if alike and Feature.BULK_WRITE not in store.state.capabilities.missing:
        try:
            await store.insert_small_files([chunk for chunks, _ in files for chunk in chunks], records)
        except (InvalidOperation, OperationFailure, ConnectionFailure) as error:
            retry, until = _outcome_unknown(store, error), _end_after(error)
        else:
            if verify is not Verify.NONE:
                for chunks, record in files:
                    await _check_inserted(store, record, _joined_ids(chunks), None, verify)
            return
    if not retry and len(files) > 1:
        return await _insert_together(store, files, verify)
    for chunks, record in files:
        await insert_in_steps(store, chunks, record, retry, verify, until)


async def _insert_together(store: Store, files: Sequence[tuple[Sequence[Record], Record]], verify: Verify) -> None:
    """Insert the chunks of several files in one request, then their records in another one."""
    await _until_answered(lambda: insert_missing(store, [chunk for chunks, _ in files for chunk in chunks]))
    try:
        await store.insert_records([record for _, record in files])
    except _NOT_SENT:
        raise
    except (BulkWriteError, ConnectionFailure) as error:
        if isinstance(error, BulkWriteError) and not error.details.get("writeErrors"):
            raise  # the records are stored, but not as safely as the write concern demands
        # One by one, which finds those that are stored, and raises the error of the one that cannot be.
        for chunks, record in files:
            await insert_record(store, record, _joined_ids(chunks), None, retry=True, verify=verify)
    else:
        if verify is not Verify.NONE:
            for chunks, record in files:
                await _check_inserted(store, record, _joined_ids(chunks), None, verify)


async def insert_in_steps(
    store: Store,
    chunks: Sequence[Record],
    record: Record,
    retry: bool,
    verify: Verify = Verify.NONE,
    until: float | None = None,
) -> None:
    """Insert the chunks of a small file, then its record. If `retry`, an earlier attempt may have inserted them.

    Raises the errors of `insert_record`, and `UploadInProgress` if the id has chunks of another upload.
    """
    try:
        await _until_answered(lambda: insert_missing(store, chunks), until)
    except ConnectionFailure as error:
        if not retry:
            raise
        raise OutcomeUnknown(record["_id"]) from error
    await insert_record(store, record, _joined_ids(chunks), None, retry=retry, verify=verify)


def _joined_ids(chunks: Sequence[Record]) -> bytes:
    return b"".join(chunk["_id"].binary for chunk in chunks)


async def withdraw_record(store: Store, record: Record, session: Session | None) -> None:
    """Remove the record if it is ours: no other record has this id, this date, this length and this upload."""
    inside = in_transaction(session)
    try:
        await store.delete_record(
            record["_id"], session, {key: record.get(key) for key in ("uploadDate", "length", UPLOAD_ID)}
        )
    except OperationFailure:
        if not inside:
            raise
        # The failed statement has aborted the transaction, and the record with it.
    if (tx_log := transaction_log_of(session)) is not None:
        tx_log.record_deleted(store, record["_id"])


def _same_encoding(store: Store, record: Record) -> bool:
    of_client, of_database = store.client.codec_options, store.codec_options
    try:
        return bson.encode(record, codec_options=of_client) == bson.encode(record, codec_options=of_database)
    except (bson.errors.InvalidDocument, OverflowError, ValueError):
        return False


async def _until_answered(work: Callable[[], Awaitable[None]], until: float | None = None) -> None:
    """Repeat `work` while it gets no answer. Raises the last failure.

    After a time limit of the driver all repetitions together have 10 seconds, or end at `until` (the loop's time).
    """
    failure: ConnectionFailure | None = None
    for attempt in range(_ATTEMPTS):
        try:
            async with asyncio.timeout_at(until):
                return await work()
        except _NOT_SENT:
            raise  # the client's own time limit for finding a server or a connection is over
        except TimeoutError:
            raise failure or NetworkTimeout("the server did not answer in time") from None
        except ConnectionFailure as error:
            if attempt == _ATTEMPTS - 1:
                raise
            failure, until = error, until or _end_after(error)
            await asyncio.sleep(_PAUSE * 2**attempt)


def _end_after(failure: PyMongoError) -> float | None:
    cause = failure.error if isinstance(failure, ClientBulkWriteException) else failure
    timed_out = isinstance(cause, PyMongoError) and cause.timeout
    return asyncio.get_running_loop().time() + tasks.SETTLE_SECONDS if timed_out else None


async def _is_same(store: Store, found: Record, record: Record, chunk_ids: bytes | bytearray) -> bool:
    stored, ours = FileInfo.from_record(found), FileInfo.from_record(record)
    if (stored.length, stored.upload_date) != (ours.length, ours.upload_date):
        return False
    if found.get(UPLOAD_ID) != record.get(UPLOAD_ID):
        return False
    # Only one upload under an id can have inserted chunk 0.
    own_chunk = next(object_ids(chunk_ids), None)
    return own_chunk is None or await store.first_chunk_id(record["_id"]) == own_chunk


async def insert_missing(store: Store, chunks: Sequence[Record]) -> None:
    """Insert, in order, those chunks that an earlier attempt has not inserted.

    The upload that inserts chunk 0 owns the id, so ours must not be stored beside another upload's chunk 0.
    """
    missing = list(chunks)
    while missing:
        try:
            return await store.insert_chunks(missing)
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
            stored: set[object] = set()
            for id in {id_key(chunk["files_id"]): chunk["files_id"] for chunk in missing}.values():
                stored |= await store.chunk_ids(id)
            left = [chunk for chunk in missing if chunk["_id"] not in stored]
            if len(left) == len(missing):
                raise duplicate_chunk(store, missing[0]["files_id"], error) from error
        missing = left


def is_duplicate_key(error: OperationFailure) -> bool:
    """Return whether only duplicate keys made this insert fail."""
    if isinstance(error, BulkWriteError):
        return {each.get("code") for each in error.details.get("writeErrors", [])} == {DUPLICATE_KEY}
    return error.code == DUPLICATE_KEY


def _outcome_unknown(store: Store, error: Exception) -> bool:
    """Return whether a failed bulk write may have stored the file. Raises errors that are final."""
    if isinstance(error, ClientBulkWriteException):
        cause = error.error
        if isinstance(cause, Exception):
            error = cause
        elif error.write_errors:
            # A retry that the server did not recognise finds its own documents.
            first = error.write_errors[0]
            if first["code"] == DUPLICATE_KEY:  # type: ignore[index]  # pymongo declares a WriteError but returns a dict
                return True
    if isinstance(error, ConnectionFailure) and not isinstance(error, _NOT_SENT):
        return True
    if store.state.capabilities.is_refused(Feature.BULK_WRITE, error):
        return False
    raise error
