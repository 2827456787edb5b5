"""Queries of the maintenance operations, page by page, in a separate session.

Decisions use data from the primary. Only the query for the ids of chunks keeps a cursor open between pages, so a caller
that needs a long time for a page does not run into a cursor timeout.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from bson.codec_options import DatetimeConversion
from pymongo import ASCENDING, DESCENDING, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, type_name
from gridproxy.gridfs.records.file_info import utc_milliseconds
from gridproxy.gridfs.records.ids import id_filter, id_key, is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.server_clock import measure_clock
from gridproxy.runtime.tasks import interruptible, released

# Chunks without a record that are younger than this may belong to a running upload.
MIN_AGE = timedelta(hours=1)
# Servers are slow with long `$in` lists (the embedded server needs quadratic time).
IDS_PER_QUERY = 200
_DOCUMENTS_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Orphan:
    """Chunks without a record. `youngest` is their largest `_id`, or None if an `_id` contains no time."""

    id: object
    chunks: int
    bytes: int
    youngest: ObjectId | None

    @property
    def since(self) -> datetime | None:
        """The creation time of the youngest chunk, by the server's clock if gridproxy sent it."""
        return None if self.youngest is None else utc_milliseconds(self.youngest.generation_time)

    def is_young(self, now: datetime) -> bool:
        """Check whether the chunks are young enough to belong to a running upload."""
        return self.since is not None and now - self.since < MIN_AGE

    def describe(self) -> str:
        """Describe the chunks and their age."""
        age = "of unknown age" if self.since is None else f"the last of {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.chunks} chunks without a file, {age}"


class _Loose:
    """The chunks of one id without a record, counted one by one."""

    def __init__(self, id: object) -> None:
        self.id = id
        self._chunks = 0
        self._bytes = 0
        self._youngest: ObjectId | None = None
        self._timed = True

    def add(self, chunk: Record) -> None:
        """Count a chunk, given as `Store.chunk_sizes` yields it."""
        self._chunks += 1
        self._bytes += max(chunk["size"], 0)
        if not isinstance(chunk["_id"], ObjectId):
            self._timed = False
        elif self._youngest is None or chunk["_id"] > self._youngest:
            self._youngest = chunk["_id"]

    def orphan(self) -> Orphan:
        """Return what was counted."""
        return Orphan(self.id, self._chunks, self._bytes, self._youngest if self._timed else None)


def check_age(older_than: object) -> timedelta:
    """Return the age if it is valid. Raises `BadOption` otherwise."""
    if not isinstance(older_than, timedelta):
        # A number of hours or days that is taken for seconds would delete files too soon.
        raise BadOption(
            f"older_than must be a timedelta such as timedelta(hours=2), not {type_name(older_than)} {older_than!r}"
        )
    if older_than < timedelta(0):
        raise BadOption(f"older_than must not be negative: {older_than!r}")
    return older_than


@asynccontextmanager
async def open_scanner(store: Store) -> AsyncIterator[BucketScanner]:
    """Open a scanner with its own session, which is independent of the caller's transaction."""
    async with store.own_session() as session:
        yield BucketScanner(store, session)


class BucketScanner:
    """The queries. Each method makes one round trip for each page."""

    def __init__(self, store: Store, session: Session | None) -> None:
        self.store = store
        self.session = session
        self.files: AsyncCollection[Record] = self.on_primary(store.files)
        self._chunks = self.on_primary(store.chunks)

    def on_primary(self, collection: AsyncCollection[Record]) -> AsyncCollection[Record]:
        """Return the collection with reads from the primary, and without errors for dates out of Python's range."""
        options = self.store.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        return collection.with_options(codec_options=options, read_preference=ReadPreference.PRIMARY)

    async def server_time(self) -> datetime:
        """Return the server's time, or the local time if the server does not report it."""
        await measure_clock(self.store)
        return self.store.now()

    async def count(self, collection: AsyncCollection[Record]) -> int:
        """Return the approximate number of documents."""
        # `estimated_document_count` has no `session` parameter and would use a session bound by the caller.
        answer = await collection.database.command({"count": collection.name}, session=self.session)
        return int(answer["n"])

    async def pages(
        self,
        collection: AsyncCollection[Record],
        projection: Mapping[str, Any] | None,
        query: Mapping[str, Any] | None = None,
        size: int = _DOCUMENTS_PER_PAGE,
    ) -> AsyncIterator[list[Record]]:
        """Yield all matching documents, with one query for each page of at most `size` documents."""
        page: list[Record] = []
        last: dict[type, object] = {}  # by type, because comparisons find only ids of the same type
        same_type = False
        while True:
            if same_type:
                conditions = [{"_id": {"$gt": page[-1]["_id"]}}]
            else:
                conditions = [{"_id": {"$not": {"$lte": id}}} for id in last.values()]
            found = collection.find(
                {"$and": [query or {}, *conditions]}, projection, sort=[("_id", ASCENDING)], session=self.session
            )
            async with found.limit(size).batch_size(size + 1) as cursor:
                page = await cursor.to_list()
            if page:
                yield page
                last.update((type(document["_id"]), document["_id"]) for document in page)
            is_full = len(page) == size
            if not is_full and not same_type:
                return
            same_type = is_full

    async def owners_of_chunks(self) -> AsyncIterator[list[object]]:
        """Yield all ids in `files_id` in batches. The server skips from id to id in the index."""
        order = {"files_id": ASCENDING, "n": ASCENDING}
        stages: list[Mapping[str, Any]] = [{"$sort": order}, {"$group": {"_id": "$files_id"}}]
        found = self._chunks.aggregate(stages, session=self.session, allowDiskUse=True, batchSize=_DOCUMENTS_PER_PAGE)
        async with released(await found) as cursor:
            while rows := await interruptible(cursor.to_list(IDS_PER_QUERY)):
                yield [row["_id"] for row in rows]

    async def stored(self, ids: Iterable[object]) -> set[Hashable]:
        """Return the keys (`id_key`) of the ids that have a record."""
        found: set[Hashable] = set()
        for query in _by_ids("_id", list(ids)):
            async with self.files.find(query, {"_id": 1}, session=self.session).batch_size(IDS_PER_QUERY + 1) as cursor:
                found.update([id_key(record["_id"]) async for record in cursor])
        return found

    async def is_stored(self, id: object) -> bool:
        """Check whether a record has this id."""
        return await self.files.find_one({"_id": id_filter(id)}, {"_id": 1}, session=self.session) is not None

    async def orphans_among(self, ids: Sequence[object]) -> list[Orphan]:
        """Find the ids that have chunks but no record."""
        stored = await self.stored(ids)
        found: dict[Hashable, _Loose] = {}
        for query in _by_ids("files_id", [id for id in ids if id_key(id) not in stored]):
            async for chunk in self.store.chunk_sizes(self._chunks, query, self.session):
                found.setdefault(id_key(chunk["files_id"]), _Loose(chunk["files_id"])).add(chunk)
        # An upload inserts its record last, so it may have been inserted since the first query.
        stored = await self.stored([loose.id for loose in found.values()])
        return [loose.orphan() for key, loose in found.items() if key not in stored]

    async def sizes(self, ids: Sequence[object], *, primary: bool = False) -> AsyncIterator[Record]:
        """Yield `files_id`, `n` and `size` (bytes) of every chunk of these ids, ordered by `files_id` and `n`."""
        preference = ReadPreference.PRIMARY if primary else self.store.chunks.read_preference
        chunks = self._chunks.with_options(read_preference=preference)
        order = [("files_id", ASCENDING), ("n", ASCENDING)]
        for query in _by_ids("files_id", list(ids)):
            async for row in self.store.chunk_sizes(chunks, query, self.session, sort=order):
                yield row

    async def next_chunks(self, orphan: Orphan) -> list[Record]:
        """Return `_id` and `size` of an orphan's last chunks, without chunks inserted after it was found."""
        query = {"files_id": id_filter(orphan.id), "_id": {"$lte": orphan.youngest}}
        # Chunk 0 is deleted last, because it prevents another upload with this id.
        order = [("files_id", DESCENDING), ("n", DESCENDING)]
        found = self.store.chunk_sizes(self._chunks, query, self.session, sort=order, limit=_DOCUMENTS_PER_PAGE)
        return [row async for row in found]


def _by_ids(key: str, ids: list[object]) -> list[dict[str, Any]]:
    """Build queries for these ids. Plain ids (see `is_plain_id`) share a query, other ids need their own."""
    plain = [id for id in ids if is_plain_id(id)]
    starts = range(0, len(plain), IDS_PER_QUERY)
    queries: list[dict[str, Any]] = [{key: {"$in": plain[at : at + IDS_PER_QUERY]}} for at in starts]
    return queries + [{key: id_filter(id)} for id in ids if not is_plain_id(id)]
