"""The first read of a file: its record and its first chunks, in one round trip.

A lone read is one command. Reads of one bucket share two commands if they start in the same turn of the event loop, or
while four others are running. No read waits for a timer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

from bson import ObjectId
from pymongo.errors import OperationFailure

from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Record, Session, Store, place
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.deadlines import seconds_left
from gridproxy.runtime.shared_requests import SharedByBucket, SharedRequests, Waiting
from gridproxy.runtime.tasks import both

# The most bytes of chunks to ask for in one document. A document has at most 16 MB.
_DOCUMENT_BYTES = 8 * 1024 * 1024
# Bytes that a chunk takes in a document beside its data.
_OVERHEAD = 128
_FILES_PER_QUERY = 100
# A shared reply arrives as a whole, and no read should wait long for the bytes of the others.
_SHARED_BYTES = 768 * 1024
# The average length before it is known. Sixteen files of this length have 768 KB.
_GUESS = 48 * 1024
# The weight of the latest file in the average length, and the longest length that counts.
_WEIGHT = 0.1
_LONGEST = 1024 * 1024


class Head(NamedTuple):
    """The record, or None if it does not exist, and its chunks in order. At least `wanted` chunks were asked for."""

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
            head = await reads.join((store, id))
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


class SharedReads(SharedRequests[tuple[Store, object], Head]):
    """The reads by one client of the first chunks in one bucket, with equal options."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.read_options)
        self.average: float = min(_GUESS, store.chunk_size)  # length of the files, in bytes

    @staticmethod
    def of(store: Store) -> SharedReads:
        """Return the reads that those of this bucket object can join."""
        return _shared.get(store.client, store.key, store.read_options, partial(SharedReads, store))

    def note(self, length: int) -> None:
        """Take the length of a file, in bytes, into the average."""
        self.average += _WEIGHT * (min(length, _LONGEST) - self.average)

    def has_room(self, group: Sequence[tuple[Store, object]], item: tuple[Store, object]) -> bool:
        """Return whether the files, if they are as long as the others, have at most 768 KB."""
        return len(group) < max(1, min(_FILES_PER_QUERY, int(_SHARED_BYTES / max(1, self.average))))

    async def answer(self, group: Sequence[Waiting[tuple[Store, object], Head]]) -> None:
        """Read the records and the first chunks of all these files. A caller without a file asks alone."""
        wanted: dict[Hashable, list[Waiting[tuple[Store, object], Head]]] = {}
        for each in group:
            wanted.setdefault(id_key(each.item[1]), []).append(each)
        found = await _find(group[0].item[0], [some[0].item[1] for some in wanted.values()])
        for key, head in found.items():
            for each in wanted.get(key, ()):
                if not each.answer.done():
                    each.answer.set_result(head)


async def _find(store: Store, ids: list[object]) -> dict[Hashable, Head]:
    # One chunk more than a small file has detects a surplus one.
    records, chunks = await both(store.find_records(ids), store.find_chunks_of(ids, below=2))
    heads = {id_key(record["_id"]): Head(record, [], 1) for record in records}
    for chunk in sorted(chunks, key=place):
        if (head := heads.get(id_key(chunk["files_id"]))) is not None:
            head.chunks.append(chunk)
    return heads


_shared = SharedByBucket[SharedReads]()
