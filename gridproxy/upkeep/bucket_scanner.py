"""BucketScanner: what upkeep asks of a bucket, page by page, in a session of its own.

Decisions are made on the primary. Nothing that is read here is held for longer than a page, and but for the list of
the ids of chunks no cursor stays open: whoever takes long over a page meets no cursor time-out.
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

from .chunk_audit import NOT_BYTES

# Chunks without a record that are younger than this may be an upload that is running.
YOUNGEST = timedelta(hours=1)
# Servers look up long `$in` lists slowly (the embedded one in quadratic time).
IDS_PER_QUERY = 200
_DOCUMENTS_PER_PAGE = 1000
_SIZE = {"$cond": [{"$eq": [{"$type": "$data"}, "binData"]}, {"$binarySize": "$data"}, NOT_BYTES]}


@dataclass(frozen=True, slots=True)
class Orphan:
    """Chunks without a record; `youngest` is the last of their `_id`s, None where one of them tells no time."""

    id: object
    chunks: int
    bytes: int
    youngest: ObjectId | None

    @property
    def since(self) -> datetime | None:
        """When the youngest chunk was made, by the clock of whoever sent it."""
        return None if self.youngest is None else utc_milliseconds(self.youngest.generation_time)

    def is_young(self, now: datetime) -> bool:
        """Whether it is known to be young enough for an upload that is running."""
        return self.since is not None and now - self.since < YOUNGEST

    def describe(self) -> str:
        """What lies there, in words."""
        age = "of unknown age" if self.since is None else f"the last of {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.chunks} chunks without a file, {age}"


def check_age(older_than: object) -> timedelta:
    """An age as it came; raises `BadOption` for what is none."""
    if not isinstance(older_than, timedelta):
        # Not seconds, as `expires_after` takes them: what is meant in days or hours would be removed too soon.
        raise BadOption(
            f"older_than is a timedelta such as timedelta(hours=2), not {type_name(older_than)} {older_than!r}"
        )
    if older_than < timedelta(0):
        raise BadOption(f"older_than is not negative: {older_than!r}")
    return older_than


@asynccontextmanager
async def open_scanner(store: Store) -> AsyncIterator[BucketScanner]:
    """A scanner in one session of ours: using it keeps it alive, and no transaction of the caller's reaches it."""
    async with store.own_session() as session:
        yield BucketScanner(store, session)


class BucketScanner:
    """One method, one round trip (a page's worth)."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store = store
        self.session = session
        self.files: AsyncCollection[Record] = self.on_primary(store.files)
        self._chunks = self.on_primary(store.chunks)

    def on_primary(self, collection: AsyncCollection[Record]) -> AsyncCollection[Record]:
        """The collection as upkeep reads it: newest state, and no date that Python cannot say stops it."""
        options = self.store.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        return collection.with_options(codec_options=options, read_preference=ReadPreference.PRIMARY)

    async def server_time(self) -> datetime:
        """The server's clock, ours where it does not tell."""
        hello = await self.store.database.client.admin.command("hello", session=self.session)
        told = hello.get("localTime")
        return utc_milliseconds(told) if isinstance(told, datetime) else utc_now()

    async def count(self, collection: AsyncCollection[Record]) -> int:
        """About how many documents there are, by the collection's own statistics."""
        # `estimated_document_count` takes no session, and would run in one that is bound around the caller.
        told = await collection.database.command({"count": collection.name}, session=self.session)
        return int(told["n"])

    async def pages(
        self,
        collection: AsyncCollection[Record],
        projection: Mapping[str, Any] | None,
        query: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[list[Record]]:
        """All documents that fit, in the order of their `_id`s, each page asked for by itself."""
        last: Record | None = None
        size = _DOCUMENTS_PER_PAGE
        while True:
            cursor = collection.find(query or {}, projection, sort=[("_id", ASCENDING)], session=self.session)
            if last is not None:
                # Not `$gt`, which only sees ids of the same type.
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
        """Every id that chunks lie under, some at a time: a walk along the index, which skips from id to id."""
        stages: list[Mapping[str, Any]] = [
            {"$sort": {"files_id": ASCENDING, "n": ASCENDING}},
            {"$group": {"_id": "$files_id"}},
        ]
        some: list[object] = []
        async with await self._chunks.aggregate(
            stages, session=self.session, allowDiskUse=True, batchSize=_DOCUMENTS_PER_PAGE
        ) as cursor:
            async for row in cursor:
                some.append(row["_id"])
                if len(some) == IDS_PER_QUERY:
                    yield some
                    some = []
        if some:
            yield some

    async def stored(self, ids: Iterable[object]) -> set[Hashable]:
        """The keys (`id_key`) of those ids that have a record."""
        found: set[Hashable] = set()
        for query in _by_ids("_id", list(ids)):
            async with self.files.find(query, {"_id": 1}, session=self.session).batch_size(IDS_PER_QUERY + 1) as cursor:
                found.update([id_key(record["_id"]) async for record in cursor])
        return found

    async def is_stored(self, id: object) -> bool:
        """Whether a record has this id at this moment."""
        return await self.files.find_one({"_id": id_filter(id)}, {"_id": 1}, session=self.session) is not None

    async def orphans_among(self, ids: Sequence[object]) -> list[Orphan]:
        """Those of the ids under which chunks lie and no record, with what lies there."""
        stored = await self.stored(ids)
        found = []
        for query in _by_ids("files_id", [id for id in ids if id_key(id) not in stored]):
            stages: list[Mapping[str, Any]] = [
                {"$match": query},
                {
                    "$group": {
                        "_id": "$files_id",
                        "chunks": {"$sum": 1},
                        "bytes": {"$sum": {"$max": [_SIZE, 0]}},
                        "youngest": {"$max": "$_id"},
                        "untimed": {"$sum": {"$cond": [{"$eq": [{"$type": "$_id"}, "objectId"]}, 0, 1]}},
                    }
                },
            ]
            async with await self._chunks.aggregate(stages, session=self.session, allowDiskUse=True) as cursor:
                found += [
                    Orphan(row["_id"], row["chunks"], row["bytes"], None if row["untimed"] else row["youngest"])
                    async for row in cursor
                ]
        # The record comes last, so one that was not there before its chunks were seen may be there now.
        stored = await self.stored([orphan.id for orphan in found])
        return [orphan for orphan in found if id_key(orphan.id) not in stored]

    async def sizes(self, ids: Sequence[object], *, primary: bool = False) -> AsyncIterator[Record]:
        """`files_id`, `n` and `size` (bytes) of every chunk under these ids, each id's in the order of `n`."""
        chunks = (
            self._chunks if primary else self._chunks.with_options(read_preference=self.store.chunks.read_preference)
        )
        for query in _by_ids("files_id", list(ids)):
            projection = {"_id": 0, "files_id": 1, "n": 1, "size": _SIZE}
            order = [("files_id", ASCENDING), ("n", ASCENDING)]
            async with chunks.find(query, projection, sort=order, session=self.session).batch_size(
                _DOCUMENTS_PER_PAGE
            ) as cursor:
                async for row in cursor:
                    yield row

    async def some_chunks(self, orphan: Orphan) -> list[Record]:
        """`_id` and `size` of an orphan's last chunks, of those alone that were there when it was seen."""
        stages: list[Mapping[str, Any]] = [
            {"$match": {"files_id": id_filter(orphan.id), "_id": {"$lte": orphan.youngest}}},
            # Chunk 0 goes last: as long as it is there nobody else can upload under this id.
            {"$sort": {"files_id": DESCENDING, "n": DESCENDING}},
            {"$limit": _DOCUMENTS_PER_PAGE},
            {"$project": {"size": {"$max": [_SIZE, 0]}}},
        ]
        async with await self._chunks.aggregate(stages, session=self.session) as cursor:
            return await cursor.to_list()


def _by_ids(key: str, ids: list[object]) -> list[dict[str, Any]]:
    """As few queries as find all of these ids: most of them share one, others (see `is_plain_id`) go alone."""
    plain = [id for id in ids if is_plain_id(id)]
    queries: list[dict[str, Any]] = [
        {key: {"$in": plain[at : at + IDS_PER_QUERY]}} for at in range(0, len(plain), IDS_PER_QUERY)
    ]
    return queries + [{key: id_filter(id)} for id in ids if not is_plain_id(id)]
