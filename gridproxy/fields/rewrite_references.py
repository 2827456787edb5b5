"""Rewrite the references of stored documents to their files, as ids or snapshots, in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import bson
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, describe_object
from gridproxy.file.connection import store_for
from gridproxy.file.options import FileOptions, StoreAs
from gridproxy.gridfs.operations.many import stat_many
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import id_filter, is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store, plain_decoding
from gridproxy.runtime.tasks import run_to_completion

from .paths import enter_list, parse_path

_DOCUMENTS_PER_REQUEST = 100
# How often to read a document again that another client changes at the same time.
_ATTEMPTS = 3


async def rewrite_references(
    collection: AsyncCollection[Any],
    field: str,
    bucket: Bucket | str | None = None,
    *,
    db_alias: str | None = None,
    store: StoreAs = "snapshot",
    session: Session | None = None,
) -> int:
    """Rewrite the references to files in the documents of a collection, 100 documents at a time.

    A reference that another client changes at the same time keeps that change. References in the wanted form, and
    those to missing files, are left as they are. So the call may be interrupted and repeated.

    Args:
        collection: The collection of the documents.
        field: The path of a reference, through sub-documents and lists: "photo", "album", "owner.photo", "items.photo".
        bucket: The bucket of the files: a `Bucket` or a name, None for "fs".
        db_alias: The alias given to `connect` for the database of the bucket.
        store: "snapshot" makes snapshots of ids and renews outdated ones. "id" makes ids of snapshots.
        session: The session of pymongo for all queries and writes.

    Returns:
        The number of changed documents.

    Raises:
        BadOption: An argument is invalid.
        NotConnected: No database is known.
        CorruptFile: A record is not that of a file. The documents rewritten before are kept.

    ```python
    await client["zoo"]["animal"].insert_one({"_id": 77, "photo": file.id})
    assert await rewrite_references(client["zoo"]["animal"], "photo") >= 1
    ```
    """
    if not isinstance(collection, AsyncCollection):
        raise BadOption(
            f"an AsyncCollection such as client['zoo']['animal'] is needed, not {describe_object(collection)}"
        )
    path = parse_path(field, operators=False)
    options = FileOptions(bucket=bucket, db_alias=db_alias, store=store)
    work = _Rewriting(collection, path, store_for(options.bucket, options.db_alias), store, session)
    changed = 0
    query = {field: {"$exists": True}}
    async with work.collection.find(query, work.projection, session=session).batch_size(100) as cursor:
        documents: list[Record] = []
        async for document in cursor:
            documents.append(document)
            if len(documents) == _DOCUMENTS_PER_REQUEST:
                changed += await work.rewrite(documents)
                documents = []
        return changed + await work.rewrite(documents)


class _Rewriting:
    def __init__(
        self, collection: AsyncCollection[Any], path: list[str], store: Store, form: StoreAs, session: Session | None
    ) -> None:
        # Type decoders of the application's would change ids, and what is read here is written back.
        self.collection: AsyncCollection[Record] = collection.with_options(
            codec_options=plain_decoding(collection.codec_options)
        )
        self.projection = {path[0]: 1}
        self._path = path
        self._store = store
        self._form = form
        self._session = session

    async def rewrite(self, documents: list[Record]) -> int:
        """Rewrite the references of a few documents. Return the number of changed documents."""
        changed = 0
        for _ in range(_ATTEMPTS):
            updates = await self._updates(documents)
            if not updates:
                break
            written = (
                await run_to_completion(self.collection.bulk_write(updates, ordered=False, session=self._session))
            ).matched_count
            changed += written
            if written == len(updates):
                break
            # Another client was faster, so the documents are read again.
            ids = {"$in": [document["_id"] for document in documents]}
            found = self.collection.find({"_id": ids}, self.projection, session=self._session)
            async with found.batch_size(_DOCUMENTS_PER_REQUEST + 1) as cursor:
                documents = await cursor.to_list()
        return changed

    async def _updates(self, documents: list[Record]) -> list[UpdateOne]:
        references = [list(_references(document, self._path, "")) for document in documents]
        infos: dict[object, FileInfo] = {}
        if self._form == "snapshot":
            ids = [_id_of(value) for places in references for _, value in places]
            infos = await stat_many(self._store, [id for id in ids if is_plain_id(id)], self._session)
        updates = []
        for document, places in zip(documents, references, strict=True):
            changes = {path: (old, new) for path, old in places if (new := self._wanted(old, infos)) is not None}
            if changes:
                same = {path: {"$eq": old} for path, (old, _) in changes.items()}
                query = {"_id": id_filter(document["_id"]), **same}
                updates.append(UpdateOne(query, {"$set": {path: new for path, (_, new) in changes.items()}}))
        return updates

    def _wanted(self, old: object, infos: Mapping[object, FileInfo]) -> object:
        """Return the new reference, or None if the old one may stay."""
        id = _id_of(old)
        if self._form == "id":
            return id if isinstance(old, Mapping) else None
        info = infos.get(id) if is_plain_id(id) else None
        if info is None:
            return None
        snapshot = info.snapshot()
        return None if self._same(old, snapshot) else snapshot

    def _same(self, one: object, other: object) -> bool:
        options = self.collection.codec_options
        return bson.encode({"": one}, codec_options=options) == bson.encode({"": other}, codec_options=options)


def _references(value: object, path: list[str], place: str) -> Iterator[tuple[str, Any]]:
    """Yield every reference at a path of a stored document, with its own path such as "items.3.photo"."""
    if value is None:
        return
    if isinstance(value, list):
        items, path = enter_list(value, path)
        for index, each in items:
            yield from _references(each, path, f"{place}.{index}")
    elif not path:
        yield place, value
    elif isinstance(value, Mapping):
        yield from _references(value.get(path[0]), path[1:], f"{place}.{path[0]}" if place else path[0])


def _id_of(reference: object) -> object:
    return reference.get("_id") if isinstance(reference, Mapping) else reference
