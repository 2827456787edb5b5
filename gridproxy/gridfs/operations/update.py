"""Edits of a stored file's record; its bytes never change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bson.errors import InvalidDocument

from gridproxy.errors import BadMetadata, FileMissing
from gridproxy.gridfs.download.download import load_info
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.upload.options import check_filename, check_metadata_keys, merge_metadata
from gridproxy.runtime.tasks import run_to_completion


async def update_file(
    store: Store,
    id: object,
    changes: Mapping[str, Any] | None,
    unset: Iterable[str],
    more: Mapping[str, Any],
    session: Session | None,
) -> FileInfo:
    """Set and unset keys of the metadata in one step, whatever it was before (null included); the new info.

    Raises `FileMissing`, and `BadMetadata` for keys that cannot be stored or are not the caller's (`sha256`).
    """
    setting = merge_metadata(changes, more)
    if isinstance(unset, str | bytes):
        raise BadMetadata(f"unset is an iterable of keys such as [{unset!r}], not one key")
    gone = list(unset)
    check_metadata_keys(gone)
    if twice := [key for key in gone if key in setting]:
        raise BadMetadata(f"{twice[0]!r} is to be set and unset at once")
    if not setting and not gone:
        return await load_info(store, id, session)
    # As literals: a value that starts with '$' is a value. Merging into null, or nothing, starts from nothing.
    stages: list[dict[str, Any]] = [{"$set": {"metadata": {"$mergeObjects": ["$metadata", {"$literal": setting}]}}}]
    if gone:
        stages.append({"$unset": [f"metadata.{key}" for key in gone]})
    return await _update(store, id, stages, session)


async def rename_file(store: Store, id: object, filename: str, session: Session | None) -> FileInfo:
    """Give one file another name; the new info. Raises `FileMissing`, `BadOption`."""
    check_filename(filename)
    return await _update(store, id, {"$set": {"filename": filename}}, session)


async def rename_files(store: Store, filename: str, new: str, session: Session | None) -> int:
    """Give every revision of a name another one; how many there were. Raises `FileMissing` for none (GridFS spec)."""
    check_filename(filename)
    check_filename(new)
    changed = await run_to_completion(store.rename_records(filename, new, store.session_for(session)))
    if not changed:
        raise FileMissing(message=f"no file has the name {filename!r}")
    return changed


async def _update(store: Store, id: object, update: Any, session: Session | None) -> FileInfo:
    try:
        record = await run_to_completion(store.update_record(id, update, store.session_for(session)))
    except (InvalidDocument, OverflowError, ValueError) as error:  # as `check_record` takes them
        raise BadMetadata(f"the metadata cannot be stored: {error}") from error
    if record is None:
        raise FileMissing(id)
    return FileInfo.from_record(record)
