"""Find the files that documents point to, files without a document, and documents that point to a missing file.

A reference is a collection and a dotted path in its documents. Every element of a list is searched, and every value of
a map at the end of the path. `*` matches every key of a map within the path. A value can be an id, its hex digits, a
snapshot (a sub-document with `_id`), or a DBRef. Records of pictures point to files, too: to their thumbnails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from bson import DBRef, ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, CorruptFile, describe_object, type_name
from gridproxy.gridfs.records.file_info import REFERENCED_AT, FileInfo
from gridproxy.gridfs.records.ids import id_filter, id_key
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.runtime.progress import Meter

from .bucket_scanner import IDS_PER_QUERY, BucketScanner
from .findings import Finding

References = Iterable[tuple[str | AsyncCollection[Any], str]]

# The documents are read once for this many files.
_CANDIDATES = 100_000
_EVERY_KEY = "*"


@dataclass(frozen=True, slots=True)
class DocumentPath:
    """A path in the documents of a collection that contains references to files."""

    collection: AsyncCollection[Any]
    path: str

    @property
    def steps(self) -> list[str]:
        """The keys of the path."""
        return self.path.split(".")

    @property
    def field(self) -> str:
        """The part of the path that a query supports: no `*`, and no index of a list."""
        return ".".join(takewhile(lambda step: step != _EVERY_KEY and not step.isdigit(), self.steps))

    @property
    def projection(self) -> dict[str, int] | None:
        """The projection that loads the field."""
        return {self.field: 1} if self.field else None


def parse_references(store: Store, references: References | None) -> list[DocumentPath]:
    """Parse the references. Raises `BadOption` for an invalid one."""
    if references is None:
        return []
    if isinstance(references, str | Mapping) or not isinstance(references, Iterable):
        raise BadOption(f"references must be a list such as [('animals', 'photo')], not {type_name(references)}")
    return [_parse_reference(store, each) for each in references]


def _parse_reference(store: Store, value: object) -> DocumentPath:
    if not isinstance(value, tuple | list) or len(value) != 2:
        # The repr of a collection would show the options of its client.
        shown = repr(value) if isinstance(value, str) else type_name(value)
        raise BadOption(f"a reference must be a collection and a path such as ('animals', 'photo'), not {shown}")
    collection, path = value
    if isinstance(collection, str) and collection:
        collection = store.database[collection]
    if not isinstance(collection, AsyncCollection):
        raise BadOption(
            f"the collection of a reference must be a name or an AsyncCollection, not {describe_object(collection)}"
        )
    if collection.database.client is not store.client:
        raise BadOption(f"the collection {collection.name!r} and the bucket must have the same client")
    if not isinstance(path, str) or not all(path.split(".")):
        raise BadOption(f"the path of a reference must be a str such as 'photo' or 'rooms.photo', not {path!r}")
    return DocumentPath(collection, path)


async def check_in_use(scanner: BucketScanner, references: Sequence[DocumentPath]) -> None:
    """Raise `BadOption` if a reference seems mistyped, because every file would then look unreferenced."""
    for reference in references:
        collection = scanner.on_primary(reference.collection)
        if await collection.find_one({}, {"_id": 1}, session=scanner.session) is None:
            names = await collection.database.list_collection_names(
                filter={"name": collection.name}, session=scanner.session
            )
            if not names:
                raise BadOption(
                    f"collection {collection.name!r} does not exist in database {collection.database.name!r}. "
                    f"Check the reference to its {reference.path!r}. Nothing was deleted"
                )
        elif reference.field:
            query = {reference.field: {"$exists": True}}
            if await collection.find_one(query, {"_id": 1}, session=scanner.session) is None:
                raise BadOption(
                    f"no document in {collection.name!r} has the field {reference.path!r}. Check the reference. "
                    "Nothing was deleted"
                )


async def estimate_work(scanner: BucketScanner, references: Sequence[DocumentPath]) -> int:
    """Estimate the number of records and documents."""
    return sum([await scanner.count(each) for each in (scanner.files, *(path.collection for path in references))])


def ids_at(value: object, steps: Sequence[str]) -> Iterator[object]:
    """Yield every id at the end of a path in `value`."""
    if isinstance(value, list):
        for each in value:
            yield from ids_at(each, steps)
        if steps and steps[0].isdigit() and int(steps[0]) < len(value):
            yield from ids_at(value[int(steps[0])], steps[1:])
    elif isinstance(value, Mapping):
        if steps:
            if steps[0] in value:
                yield from ids_at(value[steps[0]], steps[1:])
            elif steps[0] == _EVERY_KEY:
                for each in value.values():
                    yield from ids_at(each, steps[1:])
        elif "_id" in value:
            yield from () if value["_id"] is None else (value["_id"],)
        else:
            for each in value.values():
                yield from ids_at(each, ())
    elif value is not None and not steps:
        yield value.id if isinstance(value, DBRef) else value


def _possible_ids(id: object) -> list[object]:
    """Return the file ids that a value can mean: hex digits can be a str or an ObjectId."""
    return [id, ObjectId(id)] if isinstance(id, str) and ObjectId.is_valid(id) else [id]


def _thumbnail_paths(scanner: BucketScanner) -> list[DocumentPath]:
    """Return the paths in records that point to thumbnails, including those of MongoEngine's `ImageField`."""
    return [
        DocumentPath(scanner.files, path) for path in ("metadata.thumbnail_id", "metadata.variants", "thumbnail_id")
    ]


async def dangling_references(
    scanner: BucketScanner, references: Sequence[DocumentPath], meter: Meter
) -> AsyncIterator[Finding]:
    """Yield the documents, and the records of pictures, that point to a missing file."""
    for reference in [*references, *_thumbnail_paths(scanner)]:
        is_thumbnail = reference.collection is scanner.files
        pointers: list[tuple[object, object]] = []
        async for page in scanner.pages(scanner.on_primary(reference.collection), reference.projection):
            for document in page:
                pointers += [
                    (document["_id"], id)
                    for id in ids_at(document, reference.steps)
                    # Other values in the metadata belong to the application.
                    if isinstance(id, ObjectId) or not is_thumbnail
                ]
                if len(pointers) >= IDS_PER_QUERY:
                    async for finding in _check_pointers(scanner, reference, pointers):
                        yield finding
                    pointers = []
            await meter.advance(0 if is_thumbnail else len(page))
        async for finding in _check_pointers(scanner, reference, pointers):
            yield finding


async def _check_pointers(
    scanner: BucketScanner, reference: DocumentPath, pointers: Sequence[tuple[object, object]]
) -> AsyncIterator[Finding]:
    """Check pointers, which are pairs of a document's `_id` and a file's id."""
    stored = await scanner.stored({id_key(id): id for _, each in pointers for id in _possible_ids(each)}.values())
    collection, path = scanner.on_primary(reference.collection), reference.path
    for owner, pointer in pointers:
        keys = {id_key(id) for id in _possible_ids(pointer)}
        if keys & stored:
            continue
        query = {"_id": id_filter(owner)}
        document = await collection.find_one(query, reference.projection, session=scanner.session)
        # A save with another file may have changed the document and deleted the old file.
        if not any(id_key(id) in keys for id in ids_at(document, reference.steps)):
            continue
        reason = f"the file is missing, but {path!r} of {owner!r} in {collection.name!r} points to it"
        yield Finding(kind="dangling", id=pointer, reason=reason, collection=collection.name, document=owner, path=path)


async def candidates(
    scanner: BucketScanner, now: datetime, before: datetime | None
) -> AsyncIterator[dict[Hashable, Record]]:
    """Yield the unexpired files in batches by key. Unless `before` is None, leave out younger ones.

    A file is as old as its upload, or as the last save of a document that began to point to it (`touch_record`).
    """
    query: dict[str, Any] = {"expires_at": {"$not": {"$lte": now}}}
    if before is not None:
        query["uploadDate"] = {"$lte": before}
        query[REFERENCED_AT] = {"$not": {"$gt": before}}
    projection = {"length": 1, "chunkSize": 1, "uploadDate": 1, REFERENCED_AT: 1}
    batch: dict[Hashable, Record] = {}
    async for page in scanner.pages(scanner.files, projection, query):
        batch.update((id_key(record["_id"]), record) for record in page)
        if len(batch) >= _CANDIDATES:
            yield batch
            batch = {}
    if batch:
        yield batch


async def unreferenced(
    scanner: BucketScanner, references: Sequence[DocumentPath], files: Mapping[Hashable, Record], meter: Meter
) -> dict[Hashable, Record]:
    """Return the files that neither a document nor a referenced file points to."""
    if not files:
        return {}
    left = dict(files)
    for reference in references:
        async for page in scanner.pages(scanner.on_primary(reference.collection), reference.projection):
            for document in page:
                for id in ids_at(document, reference.steps):
                    for possible in _possible_ids(id):
                        left.pop(id_key(possible), None)
            await meter.advance(len(page))
    holders = await _holders(scanner, left)
    while kept := [key for key in left if any(holder not in left for holder in holders.get(key, ()))]:
        for key in kept:
            del left[key]
    # Pictures first: as long as a picture is there, its variants are needed.
    return dict(sorted(left.items(), key=lambda item: item[0] in holders))


async def _holders(scanner: BucketScanner, files: Mapping[Hashable, Record]) -> dict[Hashable, list[Hashable]]:
    """Map each file to the other files that point to it, by their keys."""
    holders: dict[Hashable, list[Hashable]] = {}
    for path in _thumbnail_paths(scanner):
        async for page in scanner.pages(scanner.files, path.projection, {path.field: {"$exists": True}}):
            for record in page:
                for id in ids_at(record, path.steps):
                    for possible in _possible_ids(id):
                        if id_key(possible) in files:
                            holders.setdefault(id_key(possible), []).append(id_key(record["_id"]))
    return holders


def expected_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of chunks and bytes that a record declares, or zeros if it is unreadable."""
    try:
        info = FileInfo.from_record(record)
    except CorruptFile:
        return 0, 0
    return info.chunk_count, info.length
