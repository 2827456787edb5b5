"""The record: the one insert that makes a file visible, and its outcome made known.

A reply that got lost says nothing, so the insert is repeated: it is the same document under the same id, and finding it
there means that it landed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import bson
from bson import ObjectId
from pymongo.errors import (
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
)

from .errors import FileAlreadyStored, OutcomeUnknown, UploadInProgress
from .store import Record, Session, Store
from .tasks import both

__all__ = [
    "check_id_is_free",
    "encodes_alike",
    "id_in_progress",
    "insert_record",
    "insert_whole",
    "withdraw_record",
]

_DUPLICATE_KEY = 11000
_COMMAND_NOT_FOUND = 59
_ATTEMPTS = 4
_PAUSE = 0.1  # seconds before the first repetition; doubled with each


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
        raise id_in_progress(id)


async def insert_record(store: Store, record: Record, own_chunk: ObjectId | None, session: Session | None) -> None:
    """Insert the record of chunks that are there already.

    Raises `FileAlreadyStored` when the id is another file's, `OutcomeUnknown` when no attempt was answered.
    """
    if session is not None and session.in_transaction:
        # Repeating a statement is the transaction's business: its abort takes the record back.
        await _insert_once(store, record, own_chunk, session)
        return
    await _until_answered(lambda: _insert_once(store, record, own_chunk, session), record["_id"])


async def insert_whole(store: Store, chunks: Sequence[Record], record: Record) -> None:
    """Insert chunks and record of a small file, in one request where the server knows how to.

    Raises as `insert_record`.
    """
    own_chunk = chunks[0]["_id"] if chunks else None
    try:
        await store.insert_whole(chunks, record)
    except (InvalidOperation, OperationFailure, ConnectionFailure) as error:
        await _after_failed_bulk(store, chunks, record, error)
    else:
        return
    await _until_answered(lambda: _complete(store, chunks, record, own_chunk), record["_id"])


async def withdraw_record(store: Store, record: Record, session: Session | None) -> None:
    """Remove the record if it is there and ours: nobody else's has this id, this date and this length."""
    in_transaction = session is not None and session.in_transaction
    try:
        await store.delete_record(
            record["_id"], session, {"uploadDate": record["uploadDate"], "length": record["length"]}
        )
    except OperationFailure:
        if not in_transaction:
            raise
        # A statement that fails in a transaction has aborted it, and the record with it.


def encodes_alike(store: Store, record: Record) -> bool:
    """Whether the client's own codec options, which its bulk write uses, make the same bytes of the record."""
    of_client, of_database = store.client.codec_options, store.codec_options
    if of_client == of_database:
        return True
    try:
        return bson.encode(record, codec_options=of_client) == bson.encode(record, codec_options=of_database)
    except (bson.errors.InvalidDocument, OverflowError, ValueError):
        return False


async def _until_answered(insert: Callable[[], Awaitable[None]], id: object) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            await insert()
        except ConnectionFailure as error:
            if attempt == _ATTEMPTS - 1:
                raise OutcomeUnknown(id) from error
            await asyncio.sleep(_PAUSE * 2**attempt)
        else:
            return


async def _insert_once(store: Store, record: Record, own_chunk: ObjectId | None, session: Session | None) -> None:
    try:
        await store.insert_record(record, session)
    except DuplicateKeyError:
        if not await _is_ours(store, record, own_chunk, session):
            raise FileAlreadyStored(record["_id"]) from None


async def _is_ours(store: Store, record: Record, own_chunk: ObjectId | None, session: Session | None) -> bool:
    if session is not None and session.in_transaction:
        return False  # the duplicate key has aborted the transaction; nothing can be asked in it
    found = await store.find_record(record["_id"], primary=True)
    if found is None or found.get("length") != record["length"]:
        return False
    # Under one id only one upload can have placed chunk 0; empty files have none, and are alike.
    return own_chunk is None or await store.first_chunk_id(record["_id"]) == own_chunk


async def _complete(store: Store, chunks: Sequence[Record], record: Record, own_chunk: ObjectId | None) -> None:
    """The two steps, over whatever an earlier attempt has landed of them."""
    if chunks:
        try:
            await store.insert_chunks(list(chunks), ordered=False)
        except BulkWriteError as error:
            codes = {each.get("code") for each in error.details.get("writeErrors", [])}
            if codes != {_DUPLICATE_KEY}:
                raise
            if await store.first_chunk_id(record["_id"]) != own_chunk:
                raise id_in_progress(record["_id"]) from None
    await _insert_once(store, record, own_chunk, None)


async def _after_failed_bulk(store: Store, chunks: Sequence[Record], record: Record, error: Exception) -> None:
    """Return when the two steps may settle it; raise what is final, plain."""
    if isinstance(error, ClientBulkWriteException):
        cause = error.error
        if isinstance(cause, Exception):
            error = cause
        elif error.write_errors:
            first = error.write_errors[0]
            if first["code"] != _DUPLICATE_KEY:  # type: ignore[index]  # pymongo's hint says WriteError; it gives the reply's dict
                raise error
            return
    if isinstance(error, InvalidOperation) and "8.0" in str(error):
        store.state.bulk_write = False
        return
    if isinstance(error, OperationFailure) and error.code == _COMMAND_NOT_FOUND:
        store.state.bulk_write = False
        return
    if not isinstance(error, ConnectionFailure):
        raise error
