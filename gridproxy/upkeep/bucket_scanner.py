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
from gridproxy.gridfs.records.file_info import utc_milliseconds, utc_now
from gridproxy.gridfs.records.ids import id_filter, id_key, is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.tasks import interruptible, released

# Chunks without a record that are younger than this may belong to a running upload.
MIN_AGE = timedelta(hours=1)
# The size of a chunk whose data field is not binary.
NOT_BYTES = -1
# Servers are slow with long `$in` lists (the embedded server needs quadratic time).
IDS_PER_QUERY = 200
_DOCUMENTS_PER_PAGE = 1000
_SIZE = {"$cond": [{"$eq": [{"$type": "$data"}, "binData"]}, {"$binarySize": "$data"}, NOT_BYTES]}


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

    def __init__(self, store: Store, session: Session) -> None:
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
        hello = await self.store.database.client.admin.command("hello", session=self.session)
        now = hello.get("localTime")
        return utc_milliseconds(now) if isinstance(now, datetime) else utc_now()

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
    ) -> AsyncIterator[list[Record]]:
        """Yield all matching documents in the order of their `_id`s, with one query for each page."""
        last: Record | None = None
        size = _DOCUMENTS_PER_PAGE
        while True:
            cursor = collection.find(query or {}, projection, sort=[("_id", ASCENDING)], session=self.session)
            if last is not None:
                # `$gt` would only find ids of the same type.
                cursor = cursor.min([("_id", last["_id"])]).hint([("_id", ASCENDING)])
            async with cursor.limit(size + 1).batch_size(size + 2):
                found = await cursor.to_list()
            page = found if last is None else [each for each in found if id_key(each["_id"]) != id_key(last["_id"])]
            if page:
                yield page
            if len(found) <= size:
                return
            last = page[-1]

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
        found = []
        group = {
            "_id": "$files_id",
            "chunks": {"$sum": 1},
            "bytes": {"$sum": {"$max": [_SIZE, 0]}},
            "youngest": {"$max": "$_id"},
            "untimed": {"$sum": {"$cond": [{"$eq": [{"$type": "$_id"}, "objectId"]}, 0, 1]}},
        }
        for query in _by_ids("files_id", [id for id in ids if id_key(id) not in stored]):
            stages = [{"$match": query}, {"$group": group}]
            async with await self._chunks.aggregate(stages, session=self.session, allowDiskUse=True) as cursor:
                found += [
                    Orphan(row["_id"], row["chunks"], row["bytes"], None if row["untimed"] else row["youngest"])
                    async for row in cursor
                ]
        # An upload inserts its record last, so it may have been inserted since the first query.
        stored = await self.stored([orphan.id for orphan in found])
        return [orphan for orphan in found if id_key(orphan.id) not in stored]

    async def sizes(self, ids: Sequence[object], *, primary: bool = False) -> AsyncIterator[Record]:
        """Yield `files_id`, `n` and `size` (bytes) of every chunk of these ids, ordered by `files_id` and `n`."""
        preference = ReadPreference.PRIMARY if primary else self.store.chunks.read_preference
        chunks = self._chunks.with_options(read_preference=preference)
        projection = {"_id": 0, "files_id": 1, "n": 1, "size": _SIZE}
        order = [("files_id", ASCENDING), ("n", ASCENDING)]
        for query in _by_ids("files_id", list(ids)):
            cursor = chunks.find(query, projection, sort=order, session=self.session).batch_size(_DOCUMENTS_PER_PAGE)
            async with released(cursor):
                async for row in cursor:
                    yield row

    async def next_chunks(self, orphan: Orphan) -> list[Record]:
        """Return `_id` and `size` of an orphan's last chunks, without chunks inserted after it was found."""
        stages: list[Mapping[str, Any]] = [
            {"$match": {"files_id": id_filter(orphan.id), "_id": {"$lte": orphan.youngest}}},
            # Chunk 0 is deleted last, because it prevents another upload with this id.
            {"$sort": {"files_id": DESCENDING, "n": DESCENDING}},
            {"$limit": _DOCUMENTS_PER_PAGE},
            {"$project": {"size": {"$max": [_SIZE, 0]}}},
        ]
        async with await self._chunks.aggregate(stages, session=self.session) as cursor:
            return await cursor.to_list()


def _by_ids(key: str, ids: list[object]) -> list[dict[str, Any]]:
    """Build queries for these ids. Plain ids (see `is_plain_id`) share a query, other ids need their own."""
    plain = [id for id in ids if is_plain_id(id)]
    starts = range(0, len(plain), IDS_PER_QUERY)
    queries: list[dict[str, Any]] = [{key: {"$in": plain[at : at + IDS_PER_QUERY]}} for at in starts]
    return queries + [{key: id_filter(id)} for id in ids if not is_plain_id(id)]
