"""Pointers: which files the documents of an application point to, and the files without any, or the other way round.

A reference is a collection and a dotted path in its documents. Lists are gone through at every step, and so are maps at
the path's end; `*` stands for every key of a map in its middle. What lies there is an id, its hex digits, a snapshot
(a sub-document with `_id`), or a DBRef.

Files point to files, too: a picture to its thumbnails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import DBRef, ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, CorruptFile, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import id_filter, id_key
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.runtime.progress import Meter

from .bucket_scanner import IDS_PER_QUERY, BucketScanner
from .findings import Finding

References = Iterable[tuple[str | AsyncCollection[Any], str]]

# Files that are looked for in the documents at once: the documents are read once for each hundred thousand files.
_CANDIDATES = 100_000
_EVERY_KEY = "*"


@dataclass(frozen=True, slots=True)
class DocumentPath:
    """Where documents point to files."""

    collection: AsyncCollection[Any]
    path: str

    @property
    def steps(self) -> list[str]:
        """The path, key by key."""
        return self.path.split(".")

    @property
    def field(self) -> str:
        """As much of the path as a query can name: a server knows no `*`, and projects no element of a list."""
        steps = self.steps
        for at, step in enumerate(steps):
            if step == _EVERY_KEY or step.isdigit():
                return ".".join(steps[:at])
        return self.path

    @property
    def projection(self) -> dict[str, int] | None:
        """What has to be read of a document."""
        return {self.field: 1} if self.field else None


def parse_references(store: Store, references: References | None) -> list[DocumentPath]:
    """The references as they were given; raises `BadOption` for what is none."""
    if references is None:
        return []
    if isinstance(references, str | Mapping) or not isinstance(references, Iterable):
        raise BadOption(f"references is a list such as [('animals', 'photo')], not {type_name(references)}")
    return [_parsed(store, each) for each in references]


def _parsed(store: Store, given: object) -> DocumentPath:
    if not isinstance(given, tuple | list) or len(given) != 2:
        # Not as it came: a collection shows the options of its client.
        shown = repr(given) if isinstance(given, str) else type_name(given)
        raise BadOption(f"a reference is a collection and a path, such as ('animals', 'photo'), not {shown}")
    collection, path = given
    if isinstance(collection, str) and collection:
        collection = store.database[collection]
    if not isinstance(collection, AsyncCollection):
        raise BadOption(f"a reference's collection is a name or an AsyncCollection, not {type_name(collection)}")
    if collection.database.client is not store.client:
        raise BadOption(f"the collection {collection.name!r} is another client's than the bucket")
    if not isinstance(path, str) or not all(path.split(".")):
        raise BadOption(f"a reference's path is a str such as 'photo' or 'rooms.photo', not {path!r}")
    return DocumentPath(collection, path)


async def check_in_use(scanner: BucketScanner, references: Sequence[DocumentPath]) -> None:
    """Raise `BadOption` for a reference that looks mistyped: with it every file would look unreferenced."""
    for reference in references:
        collection = scanner.on_primary(reference.collection)
        if await collection.find_one({}, {"_id": 1}, session=scanner.session) is None:
            names = await collection.database.list_collection_names(
                filter={"name": collection.name}, session=scanner.session
            )
            if not names:
                raise BadOption(
                    f"there is no collection {collection.name!r}: is the reference to its {reference.path!r} right? "
                    "Nothing was removed"
                )
            continue
        if reference.field and not await _has_field(scanner, reference):
            raise BadOption(
                f"no document of {collection.name!r} has a {reference.path!r}: is the reference right? "
                "Nothing was removed"
            )


async def _has_field(scanner: BucketScanner, reference: DocumentPath) -> bool:
    collection = scanner.on_primary(reference.collection)
    query = {reference.field: {"$exists": True}}
    return await collection.find_one(query, {"_id": 1}, session=scanner.session) is not None


# What a document points to


def ids_at(value: object, steps: Sequence[str]) -> Iterator[object]:
    """Every id that lies in `value` at the end of a path."""
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


def _meant(id: object) -> list[object]:
    """The ids of files that this may stand for."""
    return [id, ObjectId(id)] if isinstance(id, str) and ObjectId.is_valid(id) else [id]


def _links(scanner: BucketScanner) -> list[DocumentPath]:
    """Where records point to further files: thumbnails, and those of MongoEngine's `ImageField`."""
    return [
        DocumentPath(scanner.files, path) for path in ("metadata.thumbnail_id", "metadata.variants", "thumbnail_id")
    ]


# Documents that point to no file


@dataclass(frozen=True, slots=True)
class _Pointer:
    reference: DocumentPath
    document: object
    id: object


async def dangling(scanner: BucketScanner, references: Sequence[DocumentPath], meter: Meter) -> AsyncIterator[Finding]:
    """The documents, and the records of pictures, that point to no file."""
    for reference in [*references, *_links(scanner)]:
        is_link = reference.collection is scanner.files
        pointers: list[_Pointer] = []
        async for page in scanner.pages(scanner.on_primary(reference.collection), reference.projection):
            for document in page:
                pointers += [
                    _Pointer(reference, document["_id"], id)
                    for id in ids_at(document, reference.steps)
                    # Metadata are the user's own: whatever else stands there is no link of ours.
                    if isinstance(id, ObjectId) or not is_link
                ]
                if len(pointers) >= IDS_PER_QUERY:
                    async for finding in _without_file(scanner, pointers):
                        yield finding
                    pointers = []
            await meter.advance(0 if is_link else len(page))
        async for finding in _without_file(scanner, pointers):
            yield finding


async def _without_file(scanner: BucketScanner, pointers: Sequence[_Pointer]) -> AsyncIterator[Finding]:
    stored = await scanner.stored({id_key(id): id for each in pointers for id in _meant(each.id)}.values())
    for each in pointers:
        meant = {id_key(id) for id in _meant(each.id)}
        if meant & stored or not await _still_points(scanner, each, meant):
            continue
        name = each.reference.collection.name
        yield Finding(
            kind="dangling",
            id=each.id,
            reason=f"there is no such file, and {each.reference.path!r} of {each.document!r} in {name!r} points to it",
            collection=name,
            document=each.document,
            path=each.reference.path,
        )


async def _still_points(scanner: BucketScanner, pointer: _Pointer, meant: set[Hashable]) -> bool:
    """Whether it was not saved with another file since: the old one is removed then."""
    document = await scanner.on_primary(pointer.reference.collection).find_one(
        {"_id": id_filter(pointer.document)}, pointer.reference.projection, session=scanner.session
    )
    if document is None:
        return False
    return any(id_key(id) in meant for id in ids_at(document, pointer.reference.steps))


# Files that no document points to


async def candidates(
    scanner: BucketScanner, now: datetime, before: datetime | None
) -> AsyncIterator[dict[Hashable, Record]]:
    """The files that may be unreferenced, by key, as many at a time as memory should hold.

    Without those that have expired by `now`; with `before`, those that were uploaded until then alone.
    """
    query: dict[str, Any] = {"expires_at": {"$not": {"$lte": now}}}
    if before is not None:
        query["uploadDate"] = {"$lte": before}
    projection = {"length": 1, "chunkSize": 1, "uploadDate": 1}
    some: dict[Hashable, Record] = {}
    async for page in scanner.pages(scanner.files, projection, query):
        some.update((id_key(record["_id"]), record) for record in page)
        if len(some) >= _CANDIDATES:
            yield some
            some = {}
    if some:
        yield some


async def unreferenced(
    scanner: BucketScanner, references: Sequence[DocumentPath], files: Mapping[Hashable, Record], meter: Meter
) -> dict[Hashable, Record]:
    """Those of the files that no document points to at this moment, nor any other file that is to stay."""
    if not files:
        return {}
    left = dict(files)
    for reference in references:
        async for page in scanner.pages(scanner.on_primary(reference.collection), reference.projection):
            for document in page:
                for id in ids_at(document, reference.steps):
                    for meant in _meant(id):
                        left.pop(id_key(meant), None)
            await meter.advance(len(page))
    holders = await _holders(scanner, left)
    while kept := [key for key in left if any(holder not in left for holder in holders.get(key, ()))]:
        for key in kept:
            del left[key]
    return left


async def _holders(scanner: BucketScanner, files: Mapping[Hashable, Record]) -> dict[Hashable, list[Hashable]]:
    """Which other files point to each of these, by their keys."""
    holders: dict[Hashable, list[Hashable]] = {}
    for link in _links(scanner):
        async for page in scanner.pages(scanner.files, link.projection, {link.field: {"$exists": True}}):
            for record in page:
                for id in ids_at(record, link.steps):
                    for meant in _meant(id):
                        if id_key(meant) in files:
                            holders.setdefault(id_key(meant), []).append(id_key(record["_id"]))
    return holders


def expected_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """How many chunks and bytes a record promises; none where it is unreadable."""
    try:
        info = FileInfo.from_record(record)
    except CorruptFile:
        return 0, 0
    return info.chunk_count, info.length
