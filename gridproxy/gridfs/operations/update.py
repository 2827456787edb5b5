"""Changes to the record of a stored file. Its bytes never change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from bson.errors import InvalidDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from gridproxy.errors import BadMetadata, FileMissing, shown
from gridproxy.gridfs.content.variants import variant_ids
from gridproxy.gridfs.download.download import load_info
from gridproxy.gridfs.records.file_info import REFERENCED_AT, FileInfo
from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.store.unique_indexes import violated_index
from gridproxy.gridfs.upload.options import check_filename, check_metadata_keys, checked_expiry, merge_metadata
from gridproxy.runtime.tasks import run_to_completion

# The garbage collector removes no file that was uploaded or referenced within the last hour. The other half of the hour
# is for the save that follows.
_YOUNG = timedelta(minutes=30)
# An update, and the condition under which it applies.
_Attempt = tuple[Mapping[str, Any], Mapping[str, Any] | None]
# The server's code for a key that would be in a value that is not a document.
_PATH_NOT_VIABLE = 28


async def update_file(
    store: Store,
    id: object,
    changes: Mapping[str, Any] | None,
    unset: Iterable[str],
    more: Mapping[str, Any],
    session: Session | None,
) -> FileInfo:
    """Set and unset metadata keys in one step and return the new info. Raises `FileMissing` and `BadMetadata`."""
    setting = merge_metadata(changes, more)
    if isinstance(unset, str | bytes):
        raise BadMetadata(f"unset needs an iterable of keys such as [{unset!r}], not one key")
    removed = list(unset)
    check_metadata_keys(removed)
    if both := [key for key in removed if key in setting]:
        raise BadMetadata(f"{both[0]!r} is set and unset at once: name it in only one of them")
    if not setting and not removed:
        return await load_info(store, id, session)
    update = {
        "$set": {f"metadata.{key}": value for key, value in setting.items()},
        "$unset": {f"metadata.{key}": "" for key in removed},
    }
    edit: _Attempt = {key: value for key, value in update.items() if value}, {"metadata": {"$ne": None}}
    # Other drivers store null, or nothing. A server refuses to set a key in null, and a refusal aborts a transaction.
    create: _Attempt = {"$set": {"metadata": setting}}, {"metadata": None}
    # Again, because another client may have stored metadata in between.
    return await _update(store, id, session, edit, create, edit)


async def set_file_expiry(store: Store, id: object, at: datetime | None, session: Session | None) -> FileInfo:
    """Let a file and its variants expire at another time, or never. Raises `FileMissing` if it has expired already."""
    moment = None if at is None else checked_expiry(at)
    update = {"$unset": {"expires_at": ""}} if moment is None else {"$set": {"expires_at": moment}}
    # The garbage collector removes a record only if it has expired at that moment, so one of the two finds no record.
    visible = {"expires_at": {"$not": {"$lte": await server_now(store)}}}
    info = await _update(store, id, session, (update, visible))
    session = store.session_for(session)
    for variant in variant_ids(info.to_record()):
        own = {"metadata.variant_of": id_filter(info.id)}
        await run_to_completion(store.update_record(variant, update, session, own), client=store.client)
    return info


async def rename_file(store: Store, id: object, filename: str, session: Session | None) -> FileInfo:
    """Rename one file and return its new info. Raises `FileMissing` and `BadOption`."""
    check_filename(filename)
    return await _update(store, id, session, ({"$set": {"filename": filename}}, None))


async def rename_files(store: Store, filename: str, new: str, session: Session | None) -> int:
    """Rename every revision and return their number. Raises `FileMissing` if there are none (GridFS spec)."""
    check_filename(filename)
    check_filename(new)
    work = store.rename_records(filename, new, store.session_for(session))
    try:
        changed = await run_to_completion(work, client=store.client)
    except DuplicateKeyError as error:
        raise violated_index(store, error) or error from error
    if not changed:
        raise FileMissing(message=f"no file in {store!r} has the name {filename!r}")
    return changed


async def touch_record(store: Store, id: object, session: Session | None, info: FileInfo | None = None) -> None:
    """Note in the record of an existing file that a document is about to point to it. Raises `FileMissing`.

    Call it before the document is written, in the same session, for a file that this save does not store itself. It
    sends nothing if `info` shows that the file is too young for the garbage collector. Otherwise the garbage collector
    finds the note and spares the file. In a transaction both sides change one record, so one of them fails: either it
    waits for the commit and finds the note, or the transaction gets a write conflict.
    """
    if info is not None and info.upload_date is not None and await server_now(store) - info.upload_date < _YOUNG:
        return
    session = store.session_for(session)
    update = {"$currentDate": {REFERENCED_AT: True}}
    record = await run_to_completion(store.update_record(id, update, session), client=store.client)
    if record is None:
        raise FileMissing(id, bucket=store.description)
    for variant in variant_ids(record):  # the garbage collector looks at each of them, too
        await run_to_completion(store.update_record(variant, update, session))


async def _update(store: Store, id: object, session: Session | None, *attempts: _Attempt) -> FileInfo:
    try:
        work = _first_match(store, id, store.session_for(session), attempts)
        record = await run_to_completion(work, client=store.client)
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise BadMetadata(f"the metadata cannot be stored: {error}") from error
    except DuplicateKeyError as error:
        raise violated_index(store, error) or error from error
    except OperationFailure as error:
        if error.code != _PATH_NOT_VIABLE:
            raise
        raise BadMetadata(
            f"the metadata of the file {shown(id)}, which another program stored, are not a document: no key can be set"
        ) from error
    if record is None:
        raise FileMissing(id, bucket=store.description)
    return FileInfo.from_record(record)


async def _first_match(
    store: Store, id: object, session: Session | None, attempts: Iterable[_Attempt]
) -> Record | None:
    for update, matching in attempts:
        if (record := await store.update_record(id, update, session, matching)) is not None:
            return record
    return None
