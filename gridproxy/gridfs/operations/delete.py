"""The removal of files: first the record, then the chunks. In a transaction, its commit removes the chunks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gridproxy.gridfs.content.variants import legacy_thumbnail, variant_ids
from gridproxy.gridfs.records.file_info import UPLOAD_ID
from gridproxy.gridfs.records.ids import id_filter, id_key, is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.loose_chunks import remove_loose_chunks
from gridproxy.gridfs.transactions.transaction_log import transaction_log_of
from gridproxy.runtime.events import INFO, Event, log_event, logger
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import clean_up, run_to_completion

_IDS_PER_REQUEST = 100


async def remove_file(store: Store, id: object, session: Session | None = None) -> bool:
    """Remove one file and all chunks under its id. Return whether there was a record."""
    return await run_to_completion(_remove_file(store, id, store.session_for(session)), client=store.client)


async def _remove_file(
    store: Store, id: object, session: Session | None, matching: Mapping[str, Any] | None = None
) -> bool:
    began = time.monotonic()
    if matching is None and store.only:
        matching = store.only
    record = await store.delete_record(id, session, matching)
    if record is None and matching is not None:
        return False  # a file under this id is another one
    if record is None:
        if not in_transaction(session):
            await remove_loose_chunks(store, id)
        return False
    if in_transaction(session):
        _delete_on_commit(store, [record], session)
    else:
        await store.delete_chunks(id, record.get(UPLOAD_ID))
    _log_removed(store, record, began, session)
    if matching is None:  # variants have no variants
        await _remove_variants(store, record, session)
    return True


def _log_removed(store: Store, record: Record, began: float, session: Session | None) -> None:
    if not logger.isEnabledFor(INFO):
        return
    length = record.get("length")
    size = int(length) if isinstance(length, int | float) else None  # a damaged record may have none
    log_event(Event.REMOVED, store, record["_id"], size=size, since=began, transaction=in_transaction(session) or None)


async def _remove_variants(store: Store, record: Record, session: Session | None) -> None:
    """Remove the variants of a picture, but no files that its metadata only mentions."""
    own = {"metadata.variant_of": id_filter(record["_id"])}
    for variant in variant_ids(record):
        removed = await _remove_file(store, variant, session, own)
        if not removed and variant == record.get("thumbnail_id"):
            await _remove_file(store, variant, session, legacy_thumbnail())


def _delete_on_commit(store: Store, records: Iterable[Record], session: Session | None) -> None:
    """Remove the chunks of deleted files with the commit."""
    if (tx_log := transaction_log_of(session)) is not None:
        for record in records:
            tx_log.delete_on_commit(store, record["_id"], record.get(UPLOAD_ID))


async def remove_files(store: Store, ids: Iterable[object], session: Session | None = None) -> int:
    """Remove many files and return how many records there were. An id without a file is not an error."""
    session = store.session_for(session)
    removed = 0
    plain = []
    for id in ids:
        # `$in` would match patterns and refuse operators, so remove such ids one by one.
        if is_plain_id(id):
            plain.append(id)
        else:
            removed += await run_to_completion(_remove_file(store, id, session), client=store.client)
    for at in range(0, len(plain), _IDS_PER_REQUEST):
        some = plain[at : at + _IDS_PER_REQUEST]
        removed += await run_to_completion(_remove_some(store, some, session), client=store.client)
    return removed


async def _remove_some(store: Store, ids: list[Any], session: Session | None) -> int:
    began = time.monotonic()
    records = await store.records_for_delete(ids, session)
    stored = [(record["_id"], record.get(UPLOAD_ID)) for record in records]
    removed = 0
    if stored:
        # A file that another client stores under one of these ids from now on stays.
        uploads = list({upload_id: None for _, upload_id in stored})
        query = {"_id": {"$in": [id for id, _ in stored]}, UPLOAD_ID: {"$in": uploads}}
        removed = await store.delete_records(query, session)
    if in_transaction(session):
        _delete_on_commit(store, records, session)
    else:
        await store.delete_chunks_of_all(stored)
        known = {id_key(id) for id, _ in stored}
        if missing := [id for id in ids if id_key(id) not in known]:
            for id in await store.ids_with_chunks(missing):
                await remove_loose_chunks(store, id)
    for record in records:
        _log_removed(store, record, began, session)
        await _remove_variants(store, record, session)
    return removed


async def delete_after_failure(store: Store, ids: list[object], session: Session | None, cause: BaseException) -> None:
    """Remove files that an operation stored before it failed. A failure of the clean-up is noted on `cause`."""
    if not ids:
        return
    await clean_up(remove_files(store, ids, session), cause, f"files {ids} may be left in {store!r}.")
