"""The first read of a file: its record and its first chunks, in one round trip.

A lone read is one command. Reads of one bucket share two commands if they start in the same turn of the event loop, or
while four others are running. No read waits for a timer.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Record, Session, Store, place
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.client_state import Client
from gridproxy.runtime.deadlines import seconds_left
from gridproxy.runtime.events import logger
from gridproxy.runtime.session_lock import running_loop
from gridproxy.runtime.tasks import both, end_tasks, spawn
from gridproxy.runtime.tracing import API, context_with, current_trace
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

if TYPE_CHECKING:
    from opentelemetry.context import Context as TraceContext

# The most bytes of chunks to ask for in one document. A document has at most 16 MB.
_DOCUMENT_BYTES = 8 * 1024 * 1024
# Bytes that a chunk takes in a document beside its data.
_OVERHEAD = 128
_RUNNING = 4
_FILES_PER_QUERY = 100
# A shared reply arrives as a whole, and no read should wait long for the bytes of the others.
_SHARED_BYTES = 4 * 1024 * 1024
# How many buckets of a client are remembered. A service may have one for each tenant.
_BUCKETS = 1000
# The weight of the latest file in the average length, and the longest length that counts.
_WEIGHT = 0.1
_LONGEST = 1024 * 1024


class Head(NamedTuple):
    """The record, or None if there is none, and its chunks in order. At least `wanted` chunks were asked for."""

    record: Record | None
    chunks: list[Record]
    wanted: int


async def read_head(
    store: Store, id: object, first: int, wanted: int, beyond: int, chunk_size: int, session: Session | None
) -> Head:
    """Return the record of a file and, as far as it has them, `wanted` + `beyond` chunks from chunk `first` on.

    If the read is shared with others, it returns chunk 0 and the one after it. `chunk_size` is a guess, in bytes.
    """
    stop = first + wanted + beyond
    in_one = session is None and _is_ordinary(id) and (stop - first) * (chunk_size + _OVERHEAD) <= _DOCUMENT_BYTES
    # Reads with a condition on the record do not share a query with others.
    if first == 0 and session is None and _is_ordinary(id) and not store.only and seconds_left() is None:
        reads = SharedReads.of(store)
        if reads.average <= store.chunk_size:
            head = await reads.join(store, id)
            if head is not None:
                return head
            try:
                return Head(*await _read_alone(store, id, first, stop, in_one, session), wanted)
            finally:
                reads.end_one()
    return Head(*await _read_alone(store, id, first, stop, in_one, session), wanted)


async def _read_alone(
    store: Store, id: object, first: int, stop: int, in_one: bool, session: Session | None
) -> tuple[Record | None, list[Record]]:
    if in_one and Feature.LOOKUP not in store.state.capabilities.missing and not store.is_sharded:
        try:
            return await store.find_head(id, first, stop)
        except OperationFailure as error:
            # Otherwise the chunks may be longer than the guess, or the two commands fail in the same way.
            store.state.capabilities.is_refused(Feature.LOOKUP, error)
    return await both(store.find_record(id, session), store.find_first_chunks(id, first, stop))


def _is_ordinary(id: object) -> bool:
    """Return whether equal means the same to Python, to a server and in each stage of a pipeline."""
    return isinstance(id, ObjectId | str | int)


class _Waiting:
    def __init__(self, store: Store, id: object, answer: asyncio.Future[Head | None]) -> None:
        self.store = store
        self.id = id
        self.answer: asyncio.Future[Head | None] = answer
        self.group: list[_Waiting] = []
        self.task: asyncio.Task[None] | None = None  # of the group
        self.trace: TraceContext | None = current_trace() if API in sys.modules else None


class SharedReads:
    """The reads by one client of the first chunks in one bucket, with equal options."""

    def __init__(self, store: Store) -> None:
        self.average: float = store.chunk_size  # length of the files, in bytes
        # pymongo refuses a client in a second event loop, so a read there must not join.
        self.loop: asyncio.AbstractEventLoop = running_loop()
        self.options: tuple[CodecOptions[Record], _ServerMode, ReadConcern] = store.read_options
        self._waiting: deque[_Waiting] = deque()
        self._running = 0
        self._scheduled = False

    @staticmethod
    def of(store: Store) -> SharedReads:
        """Return the reads that those of this bucket object can join."""
        of_client = _shared.get(store.client)
        if of_client is None:
            of_client = {}
            _shared.set(store.client, of_client)
        reads = of_client.get(store.key)
        if reads is None or reads.options != store.read_options or reads.loop is not running_loop():
            if len(of_client) >= _BUCKETS:
                del of_client[next(iter(of_client))]
            reads = of_client[store.key] = SharedReads(store)
        return reads

    def note(self, length: int) -> None:
        """Take the length of a file, in bytes, into the average."""
        self.average += _WEIGHT * (min(length, _LONGEST) - self.average)

    async def join(self, store: Store, id: object) -> Head | None:
        """Return what a shared read found, or None if the caller has to read alone and to call `end_one` then."""
        one = _Waiting(store, id, self.loop.create_future())
        self._waiting.append(one)
        if not self._scheduled and self._running < _RUNNING:
            self._scheduled = True
            self.loop.call_soon(self._start)
        try:
            return await one.answer
        except asyncio.CancelledError:
            if not one.answer.cancelled() and one.answer.result() is None:
                self.end_one()
            if one.task is not None and all(each.answer.done() for each in one.group):
                await end_tasks([one.task])
            raise

    def end_one(self) -> None:
        """Start what waited for the end of a read."""
        self._running -= 1
        self._start()

    def _start(self) -> None:
        self._scheduled = False
        while self._running < _RUNNING and (group := self._next_group()):
            self._running += 1
            if len(group) == 1:
                group[0].answer.set_result(None)
                continue
            # Several downloads have this read in common. Its span is a child of the first one's.
            task = spawn(self._read(group), context=context_with(group[0].trace))
            for each in group:
                each.group, each.task = group, task

    def _next_group(self) -> list[_Waiting]:
        most = max(1, min(_FILES_PER_QUERY, int(_SHARED_BYTES / (self.average + 1))))
        group: list[_Waiting] = []
        while self._waiting and len(group) < most:
            one = self._waiting.popleft()
            if not one.answer.done():
                group.append(one)
        return group

    async def _read(self, group: list[_Waiting]) -> None:
        try:
            wanted: dict[Hashable, list[_Waiting]] = {}
            for each in group:
                wanted.setdefault(id_key(each.id), []).append(each)
            found = await _find(group[0].store, [some[0].id for some in wanted.values()])
            for key, head in found.items():
                for each in wanted.get(key, ()):
                    if not each.answer.done():
                        each.answer.set_result(head)
        except Exception as error:  # noqa: BLE001  # each read asks again, and raises its own error
            logger.debug("%d reads of %r ask alone after %r", len(group), group[0].store, error)
        finally:
            for each in group:
                if not each.answer.done():
                    self._running += 1
                    each.answer.set_result(None)
            self.end_one()


async def _find(store: Store, ids: list[object]) -> dict[Hashable, Head]:
    # One chunk more than a small file has detects a surplus one.
    records, chunks = await both(store.find_records(ids), store.find_chunks_of(ids, below=2))
    heads = {id_key(record["_id"]): Head(record, [], 1) for record in records}
    for chunk in sorted(chunks, key=place):
        if (head := heads.get(id_key(chunk["files_id"]))) is not None:
            head.chunks.append(chunk)
    return heads


# The values must not refer to their client, which could never be freed then.
_shared: WeakIdentityMap[Client, dict[tuple[str, str], SharedReads]] = WeakIdentityMap()
