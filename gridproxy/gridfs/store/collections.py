"""The two collections of a bucket (GridFS spec): one method, one round trip.

Records take the caller's session, one operation at a time; chunks never do. Every chunk operation runs in a session of
ours, since a write without one would join a transaction that `session.bind()` put around the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ASCENDING, InsertOne, ReadPreference, ReturnDocument, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidName
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from gridproxy.errors import BadOption, UnacknowledgedWriteConcern, type_name
from gridproxy.gridfs.records.chunks import RANGE_BYTES, ChunkRange, check_chunk_size, payload_size
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import id_filter, is_plain_id
from gridproxy.runtime.client_state import Client, ClientState, state_of
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session, in_transaction

DEFAULT_NAME = "fs"
DEFAULT_CHUNK_SIZE = 255 * 1024
Record = dict[str, Any]
Session = AsyncClientSession

# Servers look up long `$in` lists slowly (the embedded one in quadratic time).
_IDS_PER_DELETE = 250
# Where a picture's record names what belongs to it (see `variants`).
_VARIANTS = {"metadata.thumbnail_id": 1, "metadata.variants": 1, "thumbnail_id": 1}


def store_database(database: object) -> AsyncDatabase[Any]:
    """The database as it came; raises `BadOption` for what is none (a client, a synchronous one)."""
    if not isinstance(database, AsyncDatabase):
        raise BadOption(
            f"a database of pymongo's AsyncMongoClient is needed (client['name']), not {type_name(database)}"
        )
    return database


class Store:
    """One bucket's `files` and `chunks` with their concerns; holds no connection and no state of its own."""

    def __init__(
        self,
        database: AsyncDatabase[Any],
        name: str = DEFAULT_NAME,
        *,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: str | None = "sha256",
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
        read_preference: _ServerMode | None = None,
    ) -> None:
        self.database: AsyncDatabase[Any] = store_database(database)
        _check_name(name)
        check_chunk_size(chunk_size)
        if checksum not in ("sha256", None):
            raise BadOption(f"checksum is 'sha256' or None, not {checksum!r}")
        self.name = name
        self.chunk_size = chunk_size
        self.checksum = checksum
        concern = write_concern or database.write_concern
        if not concern.acknowledged:
            raise UnacknowledgedWriteConcern(
                f"bucket {name!r} needs an acknowledged write concern, not {concern!r}: "
                "whether a file is stored could not be known"
            )
        # Documents of our own shape, whatever class the application decodes into.
        self.codec_options: CodecOptions[Record] = database.codec_options.with_options(document_class=dict)
        reading = self.codec_options
        if reading.datetime_conversion == DatetimeConversion.DATETIME:
            # One record with a date that Python cannot say would end every listing.
            reading = reading.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        options = reading, read_preference, concern, read_concern
        try:
            self.files: AsyncCollection[Record] = database.get_collection(f"{name}.files", *options)
            self.chunks: AsyncCollection[Record] = database.get_collection(f"{name}.chunks", *options)
        except InvalidName as error:
            raise BadOption(f"{name!r} cannot be a bucket's name: {error}") from None

    def same_as(self, other: Store) -> bool:
        """Whether both name the same bucket of the same client."""
        return self.client is other.client and self.key == other.key

    def __repr__(self) -> str:
        return f"{self.database.name}.{self.name}"

    @property
    def client(self) -> Client:
        """The client that all operations go through."""
        return self.database.client

    @property
    def key(self) -> tuple[str, str]:
        """What tells this bucket from others of its client."""
        return self.database.name, self.name

    @property
    def state(self) -> ClientState:
        """What is remembered for the client."""
        return state_of(self.client)

    def session_for(self, session: Session | None) -> Session | None:
        """The caller's session: the one given, else the one bound around the call."""
        return session or bound_session(self.client)

    def own_session(self) -> Session:
        """A session that no transaction of the caller's reaches; to be entered, which ends it."""
        return self.client.start_session(causal_consistency=False)

    # Records

    async def find_record(self, id: object, session: Session | None = None, *, primary: bool = False) -> Record | None:
        """The `files` document of this id, or None."""
        files = self.files
        if primary and not in_transaction(session):
            files = files.with_options(read_preference=ReadPreference.PRIMARY)
        async with lock(session):
            return await files.find_one({"_id": id_filter(id)}, session=session)

    async def find_records(self, ids: list[Any], session: Session | None = None) -> list[Record]:
        """The `files` documents of these ids, which are plain values; in no order."""
        found = self.files.find({"_id": {"$in": ids}}, session=session).batch_size(len(ids) + 1)
        async with lock(session), found as cursor:
            return await cursor.to_list()

    async def insert_record(self, record: Record, session: Session | None = None) -> None:
        """Make the file visible."""
        async with lock(session):
            await self.files.insert_one(record, session=session)

    async def delete_record(
        self, id: object, session: Session | None = None, matching: Mapping[str, Any] | None = None
    ) -> Record | None:
        """Take the file out of sight, if its record has what `matching` says; what it said of variants, None where
        there was none.
        """
        query = {"_id": id_filter(id), **(matching or {})}
        async with lock(session):
            return await self.files.find_one_and_delete(query, projection=_VARIANTS, session=session)

    async def records_with_variants(self, ids: list[Any], session: Session | None = None) -> list[Record]:
        """What the `files` documents of these ids, which are plain values, say of variants; those that do."""
        query = {"_id": {"$in": ids}, "$or": [{key: {"$exists": True}} for key in _VARIANTS]}
        found = self.files.find(query, _VARIANTS, session=session)
        async with lock(session), found.batch_size(len(ids) + 1) as cursor:
            return await cursor.to_list()

    async def delete_records(self, query: Mapping[str, Any], session: Session | None) -> int:
        """Take every file that fits out of sight; how many."""
        async with lock(session):
            return (await self.files.delete_many(query, session=session)).deleted_count

    async def find_ids(self, query: Mapping[str, Any], session: Session | None) -> list[object]:
        """The ids of every file that fits, of those too whose records are no good for anything else."""
        async with lock(session), self.files.find(query, {"_id": 1}, session=session) as cursor:
            return [record["_id"] async for record in cursor]

    async def rename_records(self, filename: str, new: str, session: Session | None) -> int:
        """Give every file of this name another one; how many there were."""
        update = {"$set": {"filename": new}}
        async with lock(session):
            return (await self.files.update_many({"filename": filename}, update, session=session)).matched_count

    async def update_record(
        self, id: object, update: Mapping[str, Any] | Sequence[Mapping[str, Any]], session: Session | None
    ) -> Record | None:
        """Edit the record; the new one, or None where there is none."""
        async with lock(session):
            found: Record | None = await self.files.find_one_and_update(
                {"_id": id_filter(id)}, update, return_document=ReturnDocument.AFTER, session=session
            )
        return found

    # Chunks

    async def insert_chunks(self, documents: list[Record], *, majority: bool = False, ordered: bool = True) -> None:
        """One batch. `majority` where the record will stand in a transaction: chunks must not roll back below it."""
        chunks = self.chunks.with_options(write_concern=WriteConcern(w="majority")) if majority else self.chunks
        async with self.state.limit, self.own_session() as session:
            await chunks.insert_many(documents, ordered=ordered, session=session)

    async def find_chunks(self, id: object, wanted: ChunkRange, *, primary: bool = False) -> list[Record]:
        """The chunks of a range; of the last range of a file also what stands behind its end."""
        places: dict[str, int] = {"$gte": wanted.first}
        limit = 0
        if wanted.last:
            limit = len(wanted) + 16  # whatever is surplus shows by its first few
        else:
            places["$lt"] = wanted.stop
        return await self._find_chunks(id, places, limit, len(wanted) + 17, primary)

    async def find_first_chunks(self, id: object, first: int, stop: int) -> list[Record]:
        """Chunks `first` to `stop` (exclusive), or their beginning: asked for before the record told their size."""
        # Bounded on both sides: a server may gather all that lies behind before it looks at a limit.
        places = {"$gte": first, "$lt": stop}
        return await self._find_chunks(id, places, 0, stop - first + 1, False, most_bytes=RANGE_BYTES)

    async def _find_chunks(
        self,
        id: object,
        places: dict[str, int],
        limit: int,
        batch: int,
        primary: bool,
        most_bytes: int | None = None,
    ) -> list[Record]:
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY) if primary else self.chunks
        query = {"files_id": id_filter(id), "n": places}
        async with (
            self.state.limit,
            self.own_session() as session,
            chunks.find(
                query, {"_id": 0, "n": 1, "data": 1}, sort=[("n", ASCENDING)], limit=limit, session=session
            ).batch_size(batch) as cursor,
        ):
            if most_bytes is None:
                return await cursor.to_list()
            found: list[Record] = []
            size = 0
            async for document in cursor:
                found.append(document)
                size += payload_size(document)
                if size >= most_bytes:
                    break
            return found

    async def find_chunks_of(self, ids: list[Any]) -> list[Record]:
        """Every chunk under any of these ids, which are plain values, with its `files_id`; for small files."""
        projection = {"_id": 0, "files_id": 1, "n": 1, "data": 1}
        async with (
            self.state.limit,
            self.own_session() as session,
            # One answer for all of them: the default would stop at 101 chunks.
            self.chunks.find({"files_id": {"$in": ids}}, projection, session=session).batch_size(10_000) as cursor,
        ):
            return await cursor.to_list()

    @property
    def _chunks_now(self) -> AsyncCollection[Record]:
        # "local", whatever the bucket reads by: a majority may not have yet what this client wrote a moment ago.
        return self.chunks.with_options(read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("local"))

    async def has_chunks(self, id: object) -> bool:
        """Whether any chunk lies under this id."""
        async with self.own_session() as session:
            chunks = self._chunks_now
            return await chunks.find_one({"files_id": id_filter(id)}, {"_id": 1}, session=session) is not None

    async def chunk_ids(self, id: object) -> set[object]:
        """The `_id`s of all chunks under the id of a small file."""
        async with self.own_session() as session:
            chunks = self._chunks_now
            async with chunks.find({"files_id": id_filter(id)}, {"_id": 1}, session=session) as cursor:
                return {chunk["_id"] async for chunk in cursor}

    async def first_chunk_id(self, id: object) -> object:
        """The `_id` of chunk 0, None where there is none: it tells whose chunks lie under an id."""
        async with self.own_session() as session:
            chunks = self._chunks_now
            found = await chunks.find_one({"files_id": id_filter(id), "n": 0}, {"_id": 1}, session=session)
            return None if found is None else found["_id"]

    async def count_chunks(self, id: object, chunk_ids: Iterable[ObjectId] | None = None) -> int:
        """How many chunks lie under this id, or how many of just these, on the primary."""
        chunks = self._chunks_now
        async with self.own_session() as session:
            if chunk_ids is None:
                return await chunks.count_documents({"files_id": id_filter(id)}, session=session)
            ids, found = list(chunk_ids), 0
            for at in range(0, len(ids), _IDS_PER_DELETE):
                some = {"$in": ids[at : at + _IDS_PER_DELETE]}
                found += await chunks.count_documents({"files_id": id_filter(id), "_id": some}, session=session)
            return found

    async def delete_chunks(self, id: object) -> int:
        """Every chunk under this id; how many there were."""
        async with self.own_session() as session:
            return (await self.chunks.delete_many({"files_id": id_filter(id)}, session=session)).deleted_count

    async def delete_chunks_of(self, ids: list[Any]) -> None:
        """Every chunk under any of these ids, which are plain values."""
        async with self.own_session() as session:
            await self.chunks.delete_many({"files_id": {"$in": ids}}, session=session)

    async def delete_chunks_of_all(self, ids: Sequence[object]) -> None:
        """Every chunk under any of these ids, whatever they are and however many."""
        plain = [id for id in ids if is_plain_id(id)]
        alone = [id for id in ids if not is_plain_id(id)] if len(plain) > 1 else ids
        for id in alone:
            await self.delete_chunks(id)
        if len(plain) > 1:
            for at in range(0, len(plain), _IDS_PER_DELETE):
                await self.delete_chunks_of(plain[at : at + _IDS_PER_DELETE])

    async def delete_chunks_by_id(self, id: object, chunk_ids: Iterable[ObjectId]) -> None:
        """Just these chunks, never those of another upload under the same id."""
        ids = list(chunk_ids)
        async with self.own_session() as session:
            for at in range(0, len(ids), _IDS_PER_DELETE):
                some = {"$in": ids[at : at + _IDS_PER_DELETE]}
                await self.chunks.delete_many({"files_id": id_filter(id), "_id": some}, session=session)

    # Both

    async def insert_small_file(self, chunks: Sequence[Record], records: Sequence[Record]) -> None:
        """Chunks and records in one round trip (client bulk write, MongoDB 8.0); in this order, not atomic."""
        writes = [
            *(InsertOne(chunk, namespace=self.chunks.full_name) for chunk in chunks),
            *(InsertOne(record, namespace=self.files.full_name) for record in records),
        ]
        async with self.state.limit, self.own_session() as session:
            await self.client.bulk_write(writes, session=session, ordered=True, write_concern=self.files.write_concern)

    async def copy_chunks(self, source: FileInfo, first: int, ids: Sequence[ObjectId], id: object) -> None:
        """Copy chunks `first` and on, as many as there are `ids` for them, under another file's id inside the
        server.
        """
        stages: list[Mapping[str, Any]] = [
            {"$match": {"files_id": id_filter(source.id), "n": {"$gte": first, "$lt": first + len(ids)}}},
            {
                "$project": {
                    "_id": {"$arrayElemAt": [{"$literal": list(ids)}, {"$subtract": ["$n", first]}]},
                    "files_id": {"$literal": id},
                    "n": 1,
                    "data": 1,
                }
            },
            {"$merge": {"into": self.chunks.name, "whenMatched": "fail", "whenNotMatched": "insert"}},
        ]
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY)
        async with (
            self.state.limit,
            self.own_session() as session,
            await chunks.aggregate(stages, session=session) as cursor,
        ):
            await cursor.to_list()

    async def measure(self, id: object) -> tuple[int, int]:
        """How many chunks lie under this id, and how many bytes in them."""
        stages: list[Mapping[str, Any]] = [
            {"$match": {"files_id": id_filter(id)}},
            {"$group": {"_id": None, "chunks": {"$sum": 1}, "bytes": {"$sum": {"$binarySize": "$data"}}}},
        ]
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY)
        async with (
            self.own_session() as session,
            await chunks.aggregate(stages, session=session) as cursor,
        ):
            rows = await cursor.to_list()
        return (rows[0]["chunks"], rows[0]["bytes"]) if rows else (0, 0)

    async def drop(self) -> None:
        """Both collections, and what is remembered of their indexes."""
        self.state.indexed.discard(self.key)
        async with self.own_session() as session:
            await self.files.drop(session=session)
            await self.chunks.drop(session=session)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or "$" in name:
        raise BadOption(f"a bucket's name is a str without '$', such as 'fs', not {name!r}")
