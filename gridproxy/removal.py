"""Taking files away: the record first, so that nobody opens half a file, then the chunks.

Inside a transaction only the record goes; its chunks stay until a transaction of ours is committed, or for the
collector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .info import is_plain_id
from .ledger import ledger_of
from .store import Session, Store
from .tasks import settle

__all__ = ["remove_file", "remove_files"]

_IDS_PER_REQUEST = 100


async def remove_file(store: Store, id: object, session: Session | None = None) -> bool:
    """Remove one file and any stray chunks under its id; whether there was a record."""
    return await settle(_remove_file(store, id, store.session_for(session)))


async def _remove_file(store: Store, id: object, session: Session | None) -> bool:
    existed = await store.delete_record(id, session)
    if session is None or not session.in_transaction:
        await store.delete_chunks(id)
    elif existed:
        _free(store, [id], session)
    return existed


def _free(store: Store, ids: Iterable[object], session: Session) -> None:
    """Their chunks go with the commit. Not those of a file that was not there: another one's upload may be going on."""
    if (ledger := ledger_of(session)) is not None:
        for id in ids:
            ledger.free(store, id)


async def remove_files(store: Store, ids: Iterable[object], session: Session | None = None) -> int:
    """Remove many; how many records there were. Ids without a file are no error."""
    session = store.session_for(session)
    removed = 0
    plain = []
    for id in ids:
        # `$in` reads a pattern as a pattern and refuses operators; such ids go one by one, as values.
        if is_plain_id(id):
            plain.append(id)
        else:
            removed += await settle(_remove_file(store, id, session))
    for at in range(0, len(plain), _IDS_PER_REQUEST):
        some = plain[at : at + _IDS_PER_REQUEST]
        removed += await settle(_remove_some(store, some, session))
    return removed


async def _remove_some(store: Store, ids: list[Any], session: Session | None) -> int:
    query = {"_id": {"$in": ids}}
    if session is None or not session.in_transaction:
        removed = await store.delete_records(query, session)
        await store.delete_chunks_of(ids)
        return removed
    there = await store.find_ids(query, session)
    removed = await store.delete_records(query, session)
    _free(store, there, session)
    return removed
