"""The two collections of a bucket (GridFS spec). Each method is one round trip.

Operations on records use the caller's session, one at a time. Operations on chunks use a session of the package,
because a write without a session would join a transaction that `session.bind()` set for the caller.
"""

from __future__ import annotations

import asyncio
import copy
import struct
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import cached_property
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ASCENDING, DESCENDING, InsertOne, ReadPreference, ReturnDocument, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidName, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode
from pymongo.topology_description import TOPOLOGY_TYPE

from gridproxy.errors import AsyncioRequired, BadOption, UnacknowledgedWriteConcern, describe_object
from gridproxy.gridfs.records.chunks import (
    RANGE_BYTES,
    ChunkRange,
    check_chunk_size,
    chunks_per_range,
    payload_size,
)
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo, local_time, utc_now
from gridproxy.gridfs.records.ids import id_filter, is_plain_id
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.client_state import Client, ClientState, state_of
from gridproxy.runtime.session_lock import check_session, lock
from gridproxy.runtime.sessions import BOUND_SESSION, bound_session, in_transaction, own_session
from gridproxy.runtime.tasks import interruptible, released

DEFAULT_NAME = "fs"
DEFAULT_CHUNK_SIZE = 255 * 1024
Record = dict[str, Any]
Session = AsyncClientSession

# Seconds by which this machine's clock may move away from its steady clock before the server is asked again.
_CLOCK_STEP = 30.0
# Servers process long `$in` lists slowly (the embedded one in quadratic time).
_IDS_PER_DELETE = 250
# A chunk with this key is about to be removed. See `loose_chunks`.
_MARK = "removing"
# What a delete needs of a record: its upload, the names of a picture's variants, and the length for the log.
_FOR_DELETE = {"length": 1, "metadata.thumbnail_id": 1, "metadata.variants": 1, "thumbnail_id": 1, UPLOAD_ID: 1}
CHUNKS_PER_PAGE = 10_000
# The chunks in the answer of `find_head`. No record has a key of this name.
_CHUNKS = "gridproxy_chunks"
# The size of a chunk whose data field is not binary.
NOT_BYTES = -1
_SIZE = {"$cond": [{"$eq": [{"$type": "$data"}, "binData"]}, {"$binarySize": "$data"}, NOT_BYTES]}
_SIZES_PER_BATCH = 1000


def store_database(database: object) -> AsyncDatabase[Any]:
    """Return the database unchanged, or raise `BadOption` if it is not an asynchronous pymongo database."""
    if not isinstance(database, AsyncDatabase):
        raise BadOption(
            f"a database of pymongo's AsyncMongoClient is needed (client['name']), not {describe_object(database)}"
        )
    return database


def plain_decoding(options: CodecOptions[Any]) -> CodecOptions[Record]:
    """Return the same codec options without the application's document class and type decoders, as pymongo's GridFS.

    A decoder of str or bytes would change names and chunks. The application's types are still encoded.
    """
    registry = copy.copy(options.type_registry)
    registry._decoder_map = {}  # noqa: SLF001  # pymongo has no public way to keep the encoders alone
    return options.with_options(document_class=dict, type_registry=registry)


class Store:
    """The `files` and `chunks` collections of one bucket with their concerns. It has no connection and no state."""

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
        indexes: bool = True,
    ) -> None:
        self.origin: object = None  # the connection of an alias that gave the database
        self.only: Mapping[str, Any] = {}  # what a record must match, too: see `only_variants_of`
        self.whole: Store | None = None  # the same bucket without that condition
        self.database: AsyncDatabase[Any] = store_database(database)
        self.client: Client = database.client
        _check_name(name)
        check_chunk_size(chunk_size)
        if checksum not in ("sha256", None):
            raise BadOption(f"checksum is 'sha256' or None, not {checksum!r}")
        self.name = name
        self.key: tuple[str, str] = (database.name, name)  # identifies the bucket in its client
        self.chunk_size = chunk_size
        self.checksum = checksum
        if not isinstance(indexes, bool):
            raise BadOption(f"indexes is True or False, not {indexes!r}")
        self.indexes = indexes
        concern = write_concern or database.write_concern
        if not concern.acknowledged:
            raise UnacknowledgedWriteConcern(
                f"bucket {name!r} needs an acknowledged write concern, not {concern!r}: "
                "without one, gridproxy could not know whether a file was stored"
            )
        self.codec_options: CodecOptions[Record] = plain_decoding(database.codec_options)
        reading = self.codec_options
        if reading.datetime_conversion == DatetimeConversion.DATETIME:
            # Otherwise one record with a date outside Python's range would break every listing.
            reading = reading.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        options = reading, read_preference, concern, read_concern
        try:
            self.files: AsyncCollection[Record] = database.get_collection(f"{name}.files", *options)
            self.chunks: AsyncCollection[Record] = database.get_collection(f"{name}.chunks", *options)
        except InvalidName as error:
            raise BadOption(f"{name!r} cannot be a bucket's name: {error}") from None

    @cached_property
    def encodes_as_client(self) -> bool:
        """Whether the client's codec options, which its bulk write uses, are those of the database."""
        return self.client.codec_options == self.codec_options

    def same_as(self, other: Store) -> bool:
        """Return whether both are the same bucket of the same client."""
        return self.client is other.client and self.key == other.key

    def only_variants_of(self, picture: object) -> Store:
        """Return the same bucket, in which only the files exist that name this picture as theirs."""
        restricted = copy.copy(self)
        restricted.whole = self
        restricted.only = {"metadata.variant_of": id_filter(picture)}
        return restricted

    @property
    def is_sharded(self) -> bool:
        """Whether the client talks to routers, as far as it knows. They send a plain query to the shard that has it."""
        return self.client.topology_description.topology_type == TOPOLOGY_TYPE.Sharded

    @cached_property
    def read_options(self) -> tuple[CodecOptions[Record], _ServerMode, ReadConcern]:
        """What two bucket objects have in common if they read the same."""
        return self.files.codec_options, self.files.read_preference, self.files.read_concern

    def __repr__(self) -> str:
        return f"{self.database.name}.{self.name}"

    @property
    def description(self) -> str:
        """The bucket and its database in words, for error messages."""
        return f"the bucket {self.name!r} of the database {self.database.name!r}"

    @cached_property
    def state(self) -> ClientState:
        """The state of the client."""
        return state_of(self.client)

    # The server's clock

    def set_clock(self, offset: float) -> None:
        """Keep by how many seconds the server's clock is ahead of this machine's."""
        self.state.clock_offset = offset
        self.state.clock_base = local_time() - time.monotonic()

    @property
    def knows_clock(self) -> bool:
        """Whether the server's clock was measured, and this machine's was not set since."""
        base = self.state.clock_base
        return base is not None and abs(local_time() - time.monotonic() - base) < _CLOCK_STEP

    def server_time(self) -> float:
        """Return the server's time in seconds (Unix time), as far as it is known."""
        return local_time() + self.state.clock_offset

    def now(self) -> datetime:
        """Return the server's time in UTC, as far as it is known, cut to the milliseconds of BSON."""
        return utc_now(self.state.clock_offset)

    def new_chunk_id(self) -> ObjectId:
        """Return a new id with the server's time, by which the garbage collector knows a chunk's age."""
        id = ObjectId()
        return ObjectId(struct.pack(">I", int(self.server_time())) + id.binary[4:]) if self.state.clock_offset else id

    def session_for(self, session: Session | None) -> Session | None:
        """Return the caller's session: the given one, else the one that `session.bind()` set."""
        if session is not None:
            check_session(session)
            return session
        if BOUND_SESSION is None or BOUND_SESSION.get() is None:
            return None
        return bound_session(self.client)

    def own_session(self) -> AbstractAsyncContextManager[Session | None]:
        """Return a new session outside the caller's transactions, or None in a block if the server has no sessions."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise AsyncioRequired from None
        if self.state.capabilities.sessions:
            return self.client.start_session(causal_consistency=False)
        return own_session(self.client)

    # Records

    async def find_record(self, id: object, session: Session | None = None, *, primary: bool = False) -> Record | None:
        """Return the `files` document with this id, or None."""
        files = self.files
        if primary and not in_transaction(session):
            files = files.with_options(read_preference=ReadPreference.PRIMARY)
        async with lock(session):
            return await interruptible(files.find_one({"_id": id_filter(id), **self.only}, session=session))

    async def find_records(self, ids: list[Any], session: Session | None = None) -> list[Record]:
        """Return the `files` documents with these plain ids, in any order."""
        found = self.files.find({"_id": {"$in": ids}, **self.only}, session=session).batch_size(len(ids) + 1)
        async with lock(session), found as cursor:
            return await interruptible(cursor.to_list())

    async def insert_records(self, records: Sequence[Record]) -> None:
        """Insert several `files` documents in order. Some may be stored when this raises."""
        async with self.state.limit, self.own_session() as session:
            await self.files.insert_many(records, session=session)

    async def insert_record(self, record: Record, session: Session | None = None) -> None:
        """Insert the `files` document, which makes the file visible."""
        async with lock(session):
            await self.files.insert_one(record, session=session)

    async def delete_record(
        self, id: object, session: Session | None = None, matching: Mapping[str, Any] | None = None
    ) -> Record | None:
        """Delete the record if it matches, and return it, or None if none matched."""
        query = {"_id": id_filter(id), **(matching or {})}
        async with lock(session):
            # Without a projection, because FerretDB refuses one here.
            return await self.files.find_one_and_delete(query, session=session)

    async def records_for_delete(self, ids: list[Any], session: Session | None = None) -> list[Record]:
        """Return the upload and the references to variants in the `files` documents with these plain ids."""
        found = self.files.find({"_id": {"$in": ids}}, _FOR_DELETE, session=session)
        async with lock(session), found.batch_size(len(ids) + 1) as cursor:
            return await cursor.to_list()

    async def delete_records(self, query: Mapping[str, Any], session: Session | None) -> int:
        """Delete every matching record and return their number."""
        async with lock(session):
            return (await self.files.delete_many(query, session=session)).deleted_count

    async def find_ids(
        self,
        query: Mapping[str, Any],
        session: Session | None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> list[object]:
        """Return the ids of all matching records, or of at most `limit`, also of invalid ones."""
        found = self.files.find(query, {"_id": 1}, sort=sort, skip=skip, limit=limit, session=session)
        async with lock(session), found as cursor:
            return [record["_id"] for record in await interruptible(cursor.to_list())]

    async def rename_records(self, filename: str, new: str, session: Session | None) -> int:
        """Rename every file with this name and return their number."""
        update = {"$set": {"filename": new}}
        async with lock(session):
            return (await self.files.update_many({"filename": filename}, update, session=session)).matched_count

    async def update_record(
        self,
        id: object,
        update: Mapping[str, Any],
        session: Session | None,
        matching: Mapping[str, Any] | None = None,
    ) -> Record | None:
        """Update the record if it matches, and return its new version, or None if none matched."""
        query = {"_id": id_filter(id), **(matching or {}), **self.only}
        async with lock(session):
            found: Record | None = await self.files.find_one_and_update(
                query, update, return_document=ReturnDocument.AFTER, session=session
            )
        return found

    # Chunks

    async def insert_chunks(self, documents: list[Record], *, majority: bool = False, ordered: bool = True) -> None:
        """Insert one batch. `majority` is for records in transactions: their chunks must not be rolled back alone."""
        chunks = self.chunks.with_options(write_concern=WriteConcern(w="majority")) if majority else self.chunks
        async with self.state.limit, self.own_session() as session:
            await chunks.insert_many(documents, ordered=ordered, session=session)

    async def find_chunks(self, id: object, wanted: ChunkRange, *, primary: bool = False) -> list[Record]:
        """Return the chunks of a range, and for the last range of a file also the first surplus chunks after it."""
        places: dict[str, int] = {"$gte": wanted.first}
        limit = 0
        if wanted.last:
            limit = len(wanted) + 16  # the first few surplus chunks prove that the file is corrupt
        else:
            places["$lt"] = wanted.stop
        return await self._find_chunks(id, places, limit, len(wanted) + 17, primary)

    async def find_first_chunks(self, id: object, first: int, stop: int) -> list[Record]:
        """Return chunks `first` to `stop` (exclusive), at most `RANGE_BYTES`, before their size is known."""
        # Bounded on both sides, because a server may collect all later chunks before it applies a limit.
        places = {"$gte": first, "$lt": stop}
        return await self._find_chunks(id, places, 0, stop - first + 1, False, most_bytes=RANGE_BYTES)

    async def _find_chunks(
        self, id: object, places: dict[str, int], limit: int, batch: int, primary: bool, most_bytes: int | None = None
    ) -> list[Record]:
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY) if primary else self.chunks
        query, keys = {"files_id": id_filter(id), "n": places}, {"_id": 0, "n": 1, "data": 1, UPLOAD_ID: 1}
        async with (
            self.state.limit,
            self.own_session() as session,
            chunks.find(query, keys, sort=[("n", ASCENDING)], limit=limit, batch_size=batch, session=session) as cursor,
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

    async def find_chunks_of(self, ids: list[Any], below: int | None = None) -> list[Record]:
        """Return the chunks of these small files, which have plain ids, with their `files_id`.

        `below` limits them to chunks with a lower `n`.
        """
        query: dict[str, Any] = {"files_id": {"$in": ids}}
        if below is not None:
            query["n"] = {"$gte": 0, "$lt": below}
        projection = {"_id": 0, "files_id": 1, "n": 1, "data": 1, UPLOAD_ID: 1}
        async with (
            self.state.limit,
            self.own_session() as session,
            # One reply for all of them, because the first batch has 101 chunks by default.
            self.chunks.find(query, projection, session=session).batch_size(10_000) as cursor,
        ):
            return await cursor.to_list()

    @property
    def _chunks_on_primary(self) -> AsyncCollection[Record]:
        # Always "local", because a majority may not yet have what this client has just written.
        return self.chunks.with_options(read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("local"))

    async def is_seen_by(self, other: Store) -> bool:
        """Return whether another client has the same bucket: store an empty chunk for a moment, and let it look."""
        mark = self.new_chunk_id()
        try:
            await self.insert_chunks([{"_id": mark, "files_id": mark, "n": 0, "data": b""}])
            return await other.has_chunks(mark)
        finally:
            await self.delete_chunks_by_id(mark, [mark])

    async def has_chunks(self, id: object) -> bool:
        """Return whether any chunk has this file id."""
        async with self.own_session() as session:
            chunks = self._chunks_on_primary
            return await chunks.find_one({"files_id": id_filter(id)}, {"_id": 1}, session=session) is not None

    async def chunk_ids(self, id: object) -> set[object]:
        """Return the `_id`s of all chunks of a small file."""
        async with self.own_session() as session:
            chunks = self._chunks_on_primary
            async with chunks.find({"files_id": id_filter(id)}, {"_id": 1}, session=session) as cursor:
                return {chunk["_id"] async for chunk in cursor}

    async def first_chunk_id(self, id: object) -> object:
        """Return the `_id` of chunk 0, which identifies the upload that owns the file id, or None."""
        async with self.own_session() as session:
            chunks = self._chunks_on_primary
            found = await chunks.find_one({"files_id": id_filter(id), "n": 0}, {"_id": 1}, session=session)
            return None if found is None else found["_id"]

    async def end_chunk_ids(self, id: object, last: int) -> list[object]:
        """Return the `_id`s of chunk 0 and of chunk `last`, without those that another client is about to remove."""
        query, keys = {"files_id": id_filter(id), "n": {"$in": [0, last]}}, {"_id": 1, _MARK: 1}
        async with self.own_session() as session:
            found = self._chunks_on_primary.find(query, keys, sort=[("n", ASCENDING)], session=session)
            async with found as cursor:
                return [chunk["_id"] async for chunk in cursor if _MARK not in chunk]

    async def last_chunk_ids(self, id: object) -> list[Any]:
        """Return the `_id`s of the last 10,000 chunks of an id, the last one first."""
        async with self.own_session() as session:
            order = [("files_id", DESCENDING), ("n", DESCENDING)]
            found = self._chunks_on_primary.find(
                {"files_id": id_filter(id)}, {"_id": 1}, sort=order, limit=CHUNKS_PER_PAGE, session=session
            )
            async with found as cursor:
                return [chunk["_id"] async for chunk in cursor]

    async def mark_chunk(self, id: object, chunk_id: object, mark: ObjectId) -> bool:
        """Announce that the chunks of an id are about to be removed. Return False if this chunk 0 is gone."""
        query = {"_id": id_filter(chunk_id), "files_id": id_filter(id)}
        async with self.own_session() as session:
            return bool((await self.chunks.update_one(query, {"$set": {_MARK: mark}}, session=session)).matched_count)

    async def unmark_chunk(self, id: object, chunk_id: object, mark: ObjectId) -> None:
        """Remove this mark, and no other one."""
        query = {"_id": id_filter(chunk_id), "files_id": id_filter(id), _MARK: mark}
        async with self.own_session() as session:
            await self.chunks.update_one(query, {"$unset": {_MARK: ""}}, session=session)

    async def count_chunks(self, id: object, chunk_ids: Iterable[ObjectId] | None = None) -> int:
        """Return how many chunks have this file id, or how many of the given chunks, on the primary."""
        chunks = self._chunks_on_primary
        async with self.own_session() as session:
            if chunk_ids is None:
                return await chunks.count_documents({"files_id": id_filter(id)}, session=session)
            ids, found = list(chunk_ids), 0
            for at in range(0, len(ids), _IDS_PER_DELETE):
                some = {"$in": ids[at : at + _IDS_PER_DELETE]}
                found += await chunks.count_documents({"files_id": id_filter(id), "_id": some}, session=session)
            return found

    async def delete_chunks(self, id: object, upload_id: object = None) -> int:
        """Delete the chunks of a file whose record was deleted, and return their number.

        `upload_id` is that of the record. Chunks of a later upload under the same id have another one.
        """
        query = {"files_id": id_filter(id), UPLOAD_ID: upload_id}
        async with self.own_session() as session:
            return (await self.chunks.delete_many(query, session=session)).deleted_count

    async def delete_chunks_of(self, deleted: Sequence[tuple[Any, object]]) -> None:
        """Delete the chunks of these files, given as plain ids with the upload ids of their records."""
        uploads = {upload_id for _, upload_id in deleted if upload_id is not None}
        query = {"files_id": {"$in": [id for id, _ in deleted]}, UPLOAD_ID: {"$in": [None, *uploads]}}
        async with self.own_session() as session:
            await self.chunks.delete_many(query, session=session)

    async def delete_chunks_of_upload(self, ids: Sequence[Any], upload_id: ObjectId) -> None:
        """Delete the chunks that one upload has inserted under these plain ids, and none of another upload."""
        async with self.own_session() as session:
            for at in range(0, len(ids), _IDS_PER_DELETE):
                query = {"files_id": {"$in": ids[at : at + _IDS_PER_DELETE]}, UPLOAD_ID: upload_id}
                await self.chunks.delete_many(query, session=session)

    async def delete_chunks_of_all(self, deleted: Sequence[tuple[object, object]]) -> None:
        """Delete the chunks of any number of files with ids of any kind. See `delete_chunks_of`."""
        plain = [each for each in deleted if is_plain_id(each[0])]
        alone = [each for each in deleted if not is_plain_id(each[0])] if len(plain) > 1 else deleted
        for id, upload_id in alone:
            await self.delete_chunks(id, upload_id)
        if len(plain) > 1:
            for at in range(0, len(plain), _IDS_PER_DELETE):
                await self.delete_chunks_of(plain[at : at + _IDS_PER_DELETE])

    async def ids_with_chunks(self, ids: list[Any]) -> list[object]:
        """Return those of these plain ids that have chunks."""
        stages: list[Mapping[str, Any]] = [{"$match": {"files_id": {"$in": ids}}}, {"$group": {"_id": "$files_id"}}]
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY)
        async with self.own_session() as session, await chunks.aggregate(stages, session=session) as cursor:
            return [row["_id"] async for row in cursor]

    async def delete_chunks_by_id(self, id: object, chunk_ids: Iterable[ObjectId]) -> None:
        """Delete only these chunks, and none that another upload inserted under the same file id."""
        ids = list(chunk_ids)
        async with self.own_session() as session:
            for at in range(0, len(ids), _IDS_PER_DELETE):
                some = {"$in": ids[at : at + _IDS_PER_DELETE]}
                await self.chunks.delete_many({"files_id": id_filter(id), "_id": some}, session=session)

    # Both

    async def find_head(self, id: object, first: int, stop: int) -> tuple[Record | None, list[Record]]:
        """Return the record with this ordinary id and chunks `first` to `stop` (exclusive) in one command.

        It costs the client half the processor time of two commands. The chunks have to fit into one document.
        """
        stages: list[Mapping[str, Any]] = [
            {"$match": {"_id": id, **self.only}},
            {
                "$lookup": {
                    "from": self.chunks.name,
                    # Not a condition in the pipeline: servers look up each equality of these two keys in the index.
                    "localField": "_id",
                    "foreignField": "files_id",
                    "pipeline": [{"$match": {"n": {"$gte": first, "$lt": stop}}}],
                    "as": _CHUNKS,
                }
            },
        ]

        async def joined() -> list[Record]:
            async with await self.files.aggregate(stages) as cursor:
                return await cursor.to_list()

        async with self.state.limit:
            found = await interruptible(joined())
        if not found:
            return None, []
        chunks: list[Record] = found[0].pop(_CHUNKS)
        chunks.sort(key=place)
        return found[0], chunks

    async def insert_small_files(self, chunks: Sequence[Record], records: Sequence[Record]) -> None:
        """Insert chunks, then records, in one round trip (client bulk write, MongoDB 8.0), which is not atomic."""
        to_chunks, to_files = self.chunks.full_name, self.files.full_name
        writes = [InsertOne(chunk, namespace=to_chunks) for chunk in chunks]
        writes += [InsertOne(record, namespace=to_files) for record in records]
        async with self.state.limit, self.own_session() as session:
            await self.client.bulk_write(writes, session=session, ordered=True, write_concern=self.files.write_concern)

    async def copy_chunks(
        self,
        source: FileInfo,
        first: int,
        ids: Sequence[ObjectId],
        id: object,
        upload_id: ObjectId | None,
        into: Store | None = None,
    ) -> None:
        """Copy chunks from `first` on to another file id. `ids` are the `_id`s of the new chunks.

        The server copies them, or the client if the server has no `$merge`. `into` is another bucket of the client.
        """
        target = into or self
        capabilities = self.state.capabilities
        if Feature.MERGE not in capabilities.missing:
            try:
                return await self._merge_chunks(source, first, ids, id, upload_id, target)
            except OperationFailure as error:
                if not capabilities.is_refused(Feature.MERGE, error):
                    raise
        step = chunks_per_range(source.chunk_size)
        for at in range(0, len(ids), step):
            await self._send_copies(source, first + at, ids[at : at + step], id, upload_id, target)

    async def _send_copies(
        self,
        source: FileInfo,
        first: int,
        ids: Sequence[ObjectId],
        id: object,
        upload_id: ObjectId | None,
        target: Store,
    ) -> None:
        query = {"files_id": id_filter(source.id), "n": {"$gte": first, "$lt": first + len(ids)}}
        keys: Record = {} if upload_id is None else {UPLOAD_ID: upload_id}
        order = [("n", ASCENDING)]
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY)
        async with self.own_session() as session:
            found = chunks.find(query, {"n": 1, "data": 1}, sort=order, batch_size=len(ids) + 1, session=session)
            async with found as cursor:
                copies = [
                    {**chunk, "_id": ids[int(chunk["n"]) - first], "files_id": id, **keys} async for chunk in cursor
                ]
        if copies:
            await target.insert_chunks(copies)

    async def _merge_chunks(
        self,
        source: FileInfo,
        first: int,
        ids: Sequence[ObjectId],
        id: object,
        upload_id: ObjectId | None,
        target: Store,
    ) -> None:
        keys: dict[str, Any] = {} if upload_id is None else {UPLOAD_ID: {"$literal": upload_id}}
        stages: list[Mapping[str, Any]] = [
            {"$match": {"files_id": id_filter(source.id), "n": {"$gte": first, "$lt": first + len(ids)}}},
            {
                "$project": {
                    "_id": {"$arrayElemAt": [{"$literal": list(ids)}, {"$subtract": ["$n", first]}]},
                    "files_id": {"$literal": id},
                    "n": 1,
                    "data": 1,
                    **keys,
                }
            },
            self._merge_into(target),
        ]
        await self._run_merge(stages, target)

    async def merge_files(
        self, ids: Sequence[object], new_ids: Sequence[object], upload_id: ObjectId, into: Store
    ) -> None:
        """Copy all chunks of files with these plain ids to new ids in another bucket of the client, in one command.

        The server makes the `_id`s of the new chunks. Raises `OperationFailure` if it has no `$merge`.
        """
        new_id: object = "$files_id"
        if ids != new_ids:
            at = {"$indexOfArray": [{"$literal": list(ids)}, "$files_id"]}
            new_id = {"$arrayElemAt": [{"$literal": list(new_ids)}, at]}
        keys = {"_id": 0, "files_id": new_id, "n": 1, "data": 1, UPLOAD_ID: {"$literal": upload_id}}
        await self._run_merge(
            [{"$match": {"files_id": {"$in": list(ids)}}}, {"$project": keys}, self._merge_into(into)], into
        )

    def _merge_into(self, target: Store) -> Mapping[str, Any]:
        name: object = target.chunks.name
        if target.database.name != self.database.name:
            name = {"db": target.database.name, "coll": name}
        return {"$merge": {"into": name, "whenMatched": "fail", "whenNotMatched": "insert"}}

    async def _run_merge(self, stages: list[Mapping[str, Any]], target: Store) -> None:
        chunks = self.chunks.with_options(
            read_preference=ReadPreference.PRIMARY, write_concern=target.chunks.write_concern
        )
        async with (
            self.state.limit,
            self.own_session() as session,
            await chunks.aggregate(stages, session=session) as cursor,
        ):
            await cursor.to_list()

    async def measure(self, id: object) -> tuple[int, int]:
        """Return how many chunks have this file id, and how many bytes they have."""
        chunks = self.chunks.with_options(read_preference=ReadPreference.PRIMARY)
        async with self.own_session() as session:
            sizes = [row["size"] async for row in self.chunk_sizes(chunks, {"files_id": id_filter(id)}, session)]
        return len(sizes), sum(size for size in sizes if size != NOT_BYTES)

    async def chunk_sizes(
        self,
        chunks: AsyncCollection[Record],
        query: Mapping[str, Any],
        session: Session | None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
    ) -> AsyncIterator[Record]:
        """Yield `_id`, `files_id`, `n`, `upload_id` and `size` (bytes, or `NOT_BYTES`) of the chunks that match.

        The server computes the sizes. If it cannot, this reads the chunks.
        """
        capabilities = self.state.capabilities
        keys: dict[str, Any] = {"files_id": 1, "n": 1, UPLOAD_ID: 1}
        if Feature.BINARY_SIZE not in capabilities.missing:
            try:
                found = chunks.find(query, {**keys, "size": _SIZE}, sort=sort, limit=limit, session=session)
                async with released(found.batch_size(_SIZES_PER_BATCH)) as cursor:
                    async for row in cursor:
                        if "size" not in row:
                            capabilities.replace(Feature.BINARY_SIZE, "the server ignores it")
                            break
                        yield row
                    else:
                        return
            except OperationFailure as error:
                if not capabilities.is_refused(Feature.BINARY_SIZE, error):
                    raise
        found = chunks.find(query, {**keys, "data": 1}, sort=sort, limit=limit, session=session)
        async with released(found) as cursor:
            async for row in cursor:
                data = row.pop("data", None)
                yield {**row, "size": len(data) if isinstance(data, bytes) else NOT_BYTES}

    async def lasting_chunks(self, ids: Sequence[object]) -> AsyncIterator[Record]:
        """Yield what `chunk_sizes` yields of these files, by id and place, without chunks that are about to be removed.

        Reads from the primary. Ids that are not plain are asked for one by one.
        """
        plain = [id for id in ids if is_plain_id(id)]
        conditions: list[object] = [
            {"$in": plain[at : at + _IDS_PER_DELETE]} for at in range(0, len(plain), _IDS_PER_DELETE)
        ]
        conditions += [id_filter(id) for id in ids if not is_plain_id(id)]
        order = [("files_id", ASCENDING), ("n", ASCENDING)]
        async with self.own_session() as session:
            for condition in conditions:
                query = {"files_id": condition, _MARK: None}
                async for row in self.chunk_sizes(self._chunks_on_primary, query, session, sort=order):
                    yield row

    async def drop(self) -> None:
        """Drop both collections and forget their indexes."""
        self.state.indexed.pop(self.key, None)
        self.state.had_indexes.discard(self.key)
        async with self.own_session() as session:
            await self.files.drop(session=session)
            await self.chunks.drop(session=session)


def place(chunk: Record) -> float:
    """Return the `n` of a chunk, to sort by."""
    n = chunk["n"]
    return n if isinstance(n, int | float) else -1  # a decimal, which the reader refuses


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or "$" in name:
        raise BadOption(f"a bucket's name is a non-empty str without '$', such as 'fs', not {name!r}")
