"""References: what stored documents keep of their files, an id or a snapshot, rewritten in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import bson
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, type_name
from gridproxy.file.connection import store_for
from gridproxy.file.options import FileOptions, StoreAs
from gridproxy.gridfs.operations.many import stat_many
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import id_filter, is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.tasks import run_to_completion

_DOCUMENTS_PER_REQUEST = 100
# How often a document that others change at the same time is looked at again.
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
    """Rewrite what the documents of a collection keep of their files; how many documents were changed.

    `field` is the path of a reference, through sub-documents and lists: "photo", "album", "owner.photo",
    "items.photo". With `store="snapshot"` ids become snapshots, and snapshots that are not in step with their records
    are renewed; with "id" snapshots become ids. What points to no file is left as it is. 100 documents at a time, by
    compare-and-set: a reference that somebody changed meanwhile keeps that change. Nothing happens to what is in the
    wanted form already, so it can be repeated, and cut off at any point.

    The files lie in `bucket`: a `Bucket`, or a name (None for "fs") in the database that `connect` gave for `db_alias`.
    Raises `BadOption` for arguments that make no sense, `NotConnected` where no database is known, and `CorruptFile`
    for a record that can be no file's: what was rewritten until then stays so.
    """
    if not isinstance(collection, AsyncCollection):
        raise BadOption(f"an AsyncCollection is needed (client['zoo']['animal']), not {type_name(collection)}")
    _check_field(field)
    options = FileOptions(bucket=bucket, db_alias=db_alias, store=store)
    work = _Rewriting(collection, field, store_for(options.bucket, options.db_alias), store, session)
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


def _check_field(field: object) -> None:
    if not isinstance(field, str) or not all(field.split(".")) or "$" in field:
        raise BadOption(f"a field is a name or a dotted path such as 'owner.photo', not {field!r}")


class _Rewriting:
    def __init__(
        self, collection: AsyncCollection[Any], field: str, store: Store, form: StoreAs, session: Session | None
    ) -> None:
        options = collection.codec_options.with_options(document_class=dict)
        self.collection: AsyncCollection[Record] = collection.with_options(codec_options=options)
        self.projection = {field.partition(".")[0]: 1}
        self._path = field.split(".")
        self._store = store
        self._form = form
        self._session = session

    async def rewrite(self, documents: list[Record]) -> int:
        """Rewrite the references of a few documents; how many of these were changed."""
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
            # Somebody was faster: what stands there now is looked at again.
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
        """What is to stand there; None where it may stay as it is."""
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
    """Every reference at a path of a stored document, with its own place: "items.3.photo"."""
    if value is None:
        return
    if isinstance(value, list):
        if path and path[0].isdigit():
            index = int(path[0])
            found = list(enumerate(value))[index : index + 1]
            path = path[1:]
        else:
            found = list(enumerate(value))
        for index, each in found:
            yield from _references(each, path, f"{place}.{index}")
    elif not path:
        yield place, value
    elif isinstance(value, Mapping):
        yield from _references(value.get(path[0]), path[1:], f"{place}.{path[0]}" if place else path[0])


def _id_of(reference: object) -> object:
    return reference.get("_id") if isinstance(reference, Mapping) else reference
