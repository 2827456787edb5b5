"""Small files that are stored at once on a server without `bulkWrite`: they share two inserts."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from functools import partial

from pymongo.errors import BulkWriteError

from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.runtime.deadlines import seconds_left
from gridproxy.runtime.shared_requests import SharedByBucket, SharedRequests, Waiting

from .commit import insert_in_steps, insert_missing

# A file with more bytes has no use for the round trip that others share with it.
_FILE_BYTES = 64 * 1024
_FILES = 100

_SmallFile = tuple[Store, Sequence[Record], Record]


class Shared(enum.Enum):
    """What became of a file in a shared insert."""

    STORED = "stored"
    FAILED = "the insert failed, and may have stored the file"


async def insert_with_others(store: Store, chunks: Sequence[Record], record: Record) -> None:
    """Insert the chunks and the record of a small file whose id no other client knows, in two requests.

    Raises the errors of `commit.insert_in_steps`.
    """
    if record["length"] > _FILE_BYTES or seconds_left() is not None:
        return await insert_in_steps(store, chunks, record, retry=False)
    inserts = SharedInserts.of(store)
    shared = await inserts.join((store, chunks, record))
    if shared is Shared.STORED:
        return None
    try:
        await insert_in_steps(store, chunks, record, retry=shared is Shared.FAILED)
    finally:
        if shared is None:
            inserts.end_one()


class SharedInserts(SharedRequests[_SmallFile, Shared]):
    """The small files that one client stores in one bucket, with one write concern."""

    @staticmethod
    def of(store: Store) -> SharedInserts:
        """Return the inserts that those of this bucket object can join."""
        options = store.files.write_concern, store.codec_options
        return _shared.get(store.client, store.key, options, partial(SharedInserts, options))

    def has_room(self, group: Sequence[_SmallFile], item: _SmallFile) -> bool:
        """Return whether the files have at most 2 MB together."""
        return len(group) < _FILES and sum(each[2]["length"] for each in group) + item[2]["length"] <= BATCH_BYTES

    async def answer(self, group: Sequence[Waiting[_SmallFile, Shared]]) -> None:
        """Insert the chunks of all these files, then their records. If that fails, each caller continues alone."""
        store = group[0].item[0]
        try:
            await insert_missing(store, [chunk for each in group for chunk in each.item[1]])
            await store.insert_records([each.item[2] for each in group])
        except BaseException as error:
            if isinstance(error, BulkWriteError) and not error.details.get("writeErrors"):
                # The records are stored, but not as safely as the write concern demands.
                for each in group:
                    if not each.answer.done():
                        each.answer.set_exception(error)
            _answer(group, Shared.FAILED)
            raise
        _answer(group, Shared.STORED)


def _answer(group: Sequence[Waiting[_SmallFile, Shared]], shared: Shared) -> None:
    for each in group:
        if not each.answer.done():
            each.answer.set_result(shared)


_shared = SharedByBucket[SharedInserts]()
