"""Many files at once: small ones share round trips, large ones take the pipelines.

Groups are made by bytes, so nothing grows past a batch but what the caller asked to hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from bson import ObjectId
from pymongo.errors import PyMongoError

from gridproxy.errors import BadId, CorruptFile, FileVanished, OutcomeUnknown
from gridproxy.gridfs.download.download import IN_FLIGHT, Download, read_all
from gridproxy.gridfs.records.chunks import BATCH_BYTES, RANGE_BYTES, ChunkRange, Splitter, check_range, group_by_bytes
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.upload.commit import insert_small_files, same_encoding, withdraw_record
from gridproxy.gridfs.upload.options import UploadRequest, check_record
from gridproxy.gridfs.upload.sources import Source, open_source
from gridproxy.gridfs.upload.upload import check_repeatable, close_after, upload_source
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tasks import gather, run_to_completion

from .delete import remove_files

_IDS_PER_QUERY = 200
_FILES_PER_REQUEST = 500
_CHUNKS_PER_FILE = 64


async def stat_many(store: Store, ids: Iterable[object], session: Session | None = None) -> dict[object, FileInfo]:
    """The infos of many files by id, without those that are missing or expired; one query for 200 of them."""
    session = store.session_for(session)
    found: dict[object, FileInfo] = {}
    groups = _in_groups(ids)
    for group in groups:
        for record in await store.find_records(group, session):
            info = FileInfo.from_record(record)
            if not info.expired():
                found[info.id] = info
    # In the order asked for; an id that is decoded to another value (a naive datetime to an aware one) comes last.
    return {id: found[id] for group in groups for id in group if id in found} | found


async def read_many(store: Store, ids: Iterable[object], session: Session | None = None) -> dict[object, bytes]:
    """The contents of many files by id, without the missing ones."""
    infos = await stat_many(store, ids, session)
    works = [
        _read_group(store, group, session) for group in group_by_bytes(infos.values(), RANGE_BYTES, _IDS_PER_QUERY)
    ]
    contents: dict[object, bytes] = {}
    for some in await gather(works, at_most=IN_FLIGHT):
        contents.update(some)
    return {id: contents[id] for id in infos if id in contents}


async def _read_group(store: Store, infos: list[FileInfo], session: Session | None) -> dict[object, bytes]:
    contents = await read_together(store, infos) if len(infos) > 1 else {}
    for info in infos:
        if info.id not in contents:
            download = Download(store, info.id, info=info, session=session, first=RANGE_BYTES, ahead=IN_FLIGHT)
            try:
                contents[info.id] = await read_all(download)
            except FileVanished:
                continue  # deleted since: a missing one, as the others
    return contents


async def read_together(store: Store, infos: Sequence[FileInfo]) -> dict[object, bytes]:
    """The contents of small files, one query for 200 of them. One whose chunks do not fit is left out:

    Read alone, it is asked for once more before it is called corrupt.
    """
    contents: dict[object, bytes] = {}
    for at in range(0, len(infos), _IDS_PER_QUERY):
        group = infos[at : at + _IDS_PER_QUERY]
        chunks: dict[object, list[Record]] = {info.id: [] for info in group}
        for document in await store.find_chunks_of([info.id for info in group]):
            chunks[document["files_id"]].append(document)
        for info in group:
            with suppress(CorruptFile):
                pieces = check_range(info, ChunkRange(0, info.chunk_count, True), chunks[info.id])
                contents[info.id] = b"".join(pieces)
    return contents


def _in_groups(ids: Iterable[object]) -> list[list[object]]:
    wanted = dict.fromkeys(_key(id) for id in ids)
    # No file has a pattern or an array for an id, and `$in` would read a pattern as one.
    plain = [id for id in wanted if is_plain_id(id)]
    return [plain[at : at + _IDS_PER_QUERY] for at in range(0, len(plain), _IDS_PER_QUERY)]


def _key(id: object) -> object:
    try:
        hash(id)
        if not isinstance(id, Mapping):  # one that can be hashed comes back as a dict, which cannot
            return id
    except TypeError:
        pass
    raise BadId(f"the answer is a dict by id, and {id!r} cannot be a key in it; ask for it alone")


async def upload_many(
    store: Store,
    sources: Iterable[object] | Mapping[str, object],
    request: UploadRequest,
    *,
    session: Session | None = None,
    progress: Progress | None = None,
) -> list[FileInfo]:
    """Store every source as a file of its own, named by the mapping's keys where it is one; the infos in order.

    All or nothing: an error, or a cancellation, removes those of this call that were stored already.
    """
    session = store.session_for(session)
    if isinstance(sources, Iterator):
        check_repeatable(open_source(sources), session)
    uploads = _Uploads(store, session, progress)
    pairs = sources.items() if isinstance(sources, Mapping) else ((None, source) for source in sources)
    try:
        await ensure_indexes(store)
        for name, source in pairs:
            opened = open_source(source, encoding=request.encoding)
            try:
                check_repeatable(opened, session)
                await opened.prepare()
                named = request.completed_by(name or opened.name, opened.content_type)
                await uploads.add(opened, named)
            except BaseException as error:
                await close_after(opened, error)
                raise
            await opened.aclose()
        await uploads.flush()
    except BaseException as error:
        await uploads.rollback(error)
        raise
    return uploads.infos


class _SmallFile:
    """A small file, made ready: its chunks and its record."""

    def __init__(self, store: Store, request: UploadRequest, data: bytes, sha256: str | None) -> None:
        id, size = ObjectId(), request.chunk_size or store.chunk_size
        self.record = request.record(id, len(data), size, sha256)
        check_record(self.record, size, store.codec_options)
        splitter = Splitter(size)
        payloads = [*splitter.feed(data), *filter(None, [splitter.flush()])]
        self.chunks: list[Record] = [
            {"_id": ObjectId(), "files_id": id, "n": n, "data": payload} for n, payload in enumerate(payloads)
        ]


class _Uploads:
    def __init__(self, store: Store, session: Session | None, progress: Progress | None) -> None:
        self.infos: list[FileInfo] = []
        self._store = store
        self._session = session
        self._progress = progress
        self._group: list[_SmallFile] = []
        self._group_bytes = 0
        self._done = 0
        self._outcome_unknown = False

    async def add(self, source: Source, request: UploadRequest) -> None:
        head, ended = await _head(source)
        if not ended or not self._may_share(request, head):
            await self.flush()
            rest = _Rest(head, source)
            info = await upload_source(self._store, rest, request, session=self._session)
            await self._stored([info])
            return
        if self._group and self._group_bytes + len(head) > BATCH_BYTES:
            await self.flush()
        self._group.append(_SmallFile(self._store, request, head, self._sha256(head)))
        self._group_bytes += len(head)
        if len(self._group) == _FILES_PER_REQUEST:
            await self.flush()

    def _sha256(self, data: bytes) -> str | None:
        return hashlib.sha256(data).hexdigest() if self._store.checksum else None

    def _may_share(self, request: UploadRequest, data: bytes) -> bool:
        few_chunks = len(data) <= _CHUNKS_PER_FILE * (request.chunk_size or self._store.chunk_size)
        shared = few_chunks and self._session is None and self._store.state.bulk_write
        # The bulk write encodes with the options of the client, not of the database.
        return shared and same_encoding(self._store, request.record(ObjectId(), 0, 1, None))

    async def flush(self) -> None:
        """Send what is gathered, in one request."""
        if self._group:
            await run_to_completion(self._insert_group())
            group, self._group, self._group_bytes = self._group, [], 0
            await self._stored([FileInfo.from_record(each.record) for each in group])

    async def _insert_group(self) -> None:
        # Chunks are as old as their `_id`s to the collector, and a source may have taken long to read.
        for chunk in (chunk for each in self._group for chunk in each.chunks):
            chunk["_id"] = ObjectId()
        # Noted here, and not around `settle`: there a cancellation hides what became of the insert.
        try:
            await insert_small_files(self._store, [(each.chunks, each.record) for each in self._group])
        except OutcomeUnknown:
            self._outcome_unknown = True
            raise

    async def _stored(self, infos: list[FileInfo]) -> None:
        self.infos += infos
        self._done += sum(info.length for info in infos)
        await report(self._progress, self._done, None)

    async def rollback(self, cause: BaseException) -> None:
        """Remove what this call has stored; a clean-up that fails is noted on `cause`."""
        try:
            await run_to_completion(self._remove(), fresh=True)
        except PyMongoError as error:
            cause.add_note(f"The clean-up failed too ({error!r}): files of this call may be left in {self._store!r}.")

    async def _remove(self) -> None:
        if not self._outcome_unknown:
            for each in self._group:
                await withdraw_record(self._store, each.record, None)
                await self._store.delete_chunks_by_id(each.record["_id"], [chunk["_id"] for chunk in each.chunks])
        await remove_files(self._store, [info.id for info in self.infos], self._session)


class _Rest(Source):
    """A source of which the beginning was read already."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source
        self.size = source.size
        self.repeatable = source.repeatable

    async def read(self) -> bytes | memoryview:
        head, self._head = self._head, b""
        return head or await self._source.read()


async def _head(source: Source) -> tuple[bytes, bool]:
    """The first bytes, more than a batch of them or all; whether they are all."""
    head = bytearray()
    while block := await source.read():
        head += block
        if len(head) > BATCH_BYTES:
            return bytes(head), False
    return bytes(head), True
