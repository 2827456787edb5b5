"""Many files at once: small files share requests, and large ones are sent and read as usual."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from bson import ObjectId

from gridproxy.errors import BadId, CorruptFile, FileVanished, OutcomeUnknown
from gridproxy.gridfs.download.download import IN_FLIGHT, Download, read_all
from gridproxy.gridfs.records.chunks import BATCH_BYTES, RANGE_BYTES, ChunkRange, check_range, group_by_bytes
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.upload.commit import insert_small_files, withdraw_record
from gridproxy.gridfs.upload.options import UploadRequest, check_record
from gridproxy.gridfs.upload.sources import Source, open_source
from gridproxy.gridfs.upload.staging import log_stored
from gridproxy.gridfs.upload.upload import check_repeatable, open_prepared, upload_source
from gridproxy.runtime.events import INFO, WARNING, Event, log_event
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tasks import clean_up, each_in_callers_thread, gather, run_to_completion
from gridproxy.runtime.tracing import UPLOAD, traced

from .delete import remove_files

_IDS_PER_QUERY = 200
_FILES_PER_REQUEST = 500
_CHUNKS_PER_FILE = 64


async def stat_many(store: Store, ids: Iterable[object], session: Session | None = None) -> dict[object, FileInfo]:
    """Return the infos of many files by id, 200 with one query. Missing and expired files are left out."""
    session = store.session_for(session)
    found: dict[object, FileInfo] = {}
    groups = _in_groups(ids)
    for group in groups:
        for record in await store.find_records(group, session):
            info = FileInfo.from_record(record)
            if info.expires_at is None or not info.expired(await server_now(store)):
                found[info.id] = info
    # Keep the order of `ids`. An id that is decoded to another value (an aware datetime) is last.
    return {id: found[id] for group in groups for id in group if id in found} | found


async def read_many(store: Store, ids: Iterable[object], session: Session | None = None) -> dict[object, bytes]:
    """Return the contents of many files by id. Missing files are left out."""
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
                continue  # deleted since the query
    return contents


async def read_together(store: Store, infos: Sequence[FileInfo]) -> dict[object, bytes]:
    """Return the contents of small files, 200 with one query. Files with wrong chunks are left out."""
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
    wanted = dict.fromkeys(_check_key(id) for id in ids)
    # No file has a pattern or an array as its id, and `$in` would match a pattern.
    plain = [id for id in wanted if is_plain_id(id)]
    return [plain[at : at + _IDS_PER_QUERY] for at in range(0, len(plain), _IDS_PER_QUERY)]


def _check_key(id: object) -> object:
    try:
        hash(id)
        if not isinstance(id, Mapping):  # a hashable mapping would be decoded to a dict
            return id
    except TypeError:
        pass
    raise BadId(f"the result is a dict by id, and {id!r} cannot be a key of a dict: read this file alone")


async def upload_many(
    store: Store,
    sources: Iterable[object] | Mapping[str, object],
    request: UploadRequest,
    *,
    session: Session | None = None,
    progress: Progress | None = None,
) -> list[FileInfo]:
    """Store every source as its own file and return the infos in order. The keys of a mapping are the names.

    After an error or a cancellation, none of the files of this call is left.
    """
    session = store.session_for(session)
    if isinstance(sources, Iterator):
        check_repeatable(open_source(sources), session)
    uploads = _GroupedUpload(store, session, progress)
    pairs = sources.items() if isinstance(sources, Mapping) else ((None, source) for source in sources)
    with traced(UPLOAD, store) as span:
        try:
            await ensure_indexes(store)
            async for name, source in each_in_callers_thread(pairs):
                async with open_prepared(source, request.encoding, session) as opened:
                    named = request.completed_by(name or opened.name, opened.content_type)
                    await uploads.add(opened, named.keeping(opened.metadata))
            await uploads.flush()
        except BaseException as error:
            await uploads.rollback(error)
            raise
        if span is not None:
            span.describe(size=uploads.done, files=len(uploads.infos))
    return uploads.infos


class _SmallFile:
    """The chunks and the record of a small file."""

    def __init__(self, store: Store, request: UploadRequest, data: bytes) -> None:
        id, size = ObjectId(), request.chunk_size or store.chunk_size
        sha256 = hashlib.sha256(data).hexdigest() if store.checksum else None
        self.record = request.typed(data[:4096]).record(id, len(data), size, sha256, store.now())
        check_record(self.record, size, store.codec_options)
        self.chunks: list[Record] = [
            {"_id": ObjectId(), "files_id": id, "n": n, "data": data[at : at + size]}
            for n, at in enumerate(range(0, len(data), size))
        ]


class _GroupedUpload:
    def __init__(self, store: Store, session: Session | None, progress: Progress | None) -> None:
        self.infos: list[FileInfo] = []
        self._store = store
        self._session = session
        self._progress = progress
        self._group: list[_SmallFile] = []
        self._group_bytes = 0
        self.done = 0
        self._began = time.monotonic()
        self._outcome_unknown = False

    async def add(self, source: Source, request: UploadRequest) -> None:
        head, ended = await _read_head(source)
        if not ended or not self._fits_group(request, head):
            await self.flush()
            info = await upload_source(self._store, _PartlyReadSource(head, source), request, session=self._session)
            await self._add_stored([info])
            return
        if self._group and self._group_bytes + len(head) > BATCH_BYTES:
            await self.flush()
        self._group.append(_SmallFile(self._store, request, head))
        self._group_bytes += len(head)
        if len(self._group) == _FILES_PER_REQUEST:
            await self.flush()

    def _fits_group(self, request: UploadRequest, data: bytes) -> bool:
        few_chunks = len(data) <= _CHUNKS_PER_FILE * (request.chunk_size or self._store.chunk_size)
        return few_chunks and self._session is None

    async def flush(self) -> None:
        """Send the group in one request, or in two if the server has no client bulk write."""
        if self._group:
            await run_to_completion(self._insert_group(), client=self._store.client)
            group, self._group, self._group_bytes = self._group, [], 0
            infos = [FileInfo.from_record(each.record) for each in group]
            for info in infos:
                log_stored(self._store, info.id, info.length, self._began)
            await self._add_stored(infos)

    async def _insert_group(self) -> None:
        # The garbage collector reads a chunk's age from its `_id`, and reading the sources may have taken long.
        for chunk in (chunk for each in self._group for chunk in each.chunks):
            chunk["_id"] = self._store.new_chunk_id()
        # Note the outcome inside `run_to_completion`: outside, a cancellation would hide it.
        try:
            await insert_small_files(self._store, [(each.chunks, each.record) for each in self._group])
        except (OutcomeUnknown, asyncio.CancelledError):
            self._outcome_unknown = True  # cancelled: the server has not answered in time
            raise

    async def _add_stored(self, infos: list[FileInfo]) -> None:
        self.infos += infos
        self.done += sum(info.length for info in infos)
        await report(self._progress, self.done, None)

    async def rollback(self, cause: BaseException) -> None:
        """Remove what this call has stored. A failure of the clean-up is noted on `cause`."""
        complete = False
        try:
            complete = await clean_up(self._remove(), cause, f"files of this call may be left in {self._store!r}.")
        finally:
            event = Event.OUTCOME_UNKNOWN if self._outcome_unknown else Event.ROLLED_BACK
            complete = complete and not self._outcome_unknown
            for each in self._group:
                log_event(
                    event,
                    self._store,
                    each.record["_id"],
                    size=int(each.record["length"]),
                    since=self._began,
                    level=INFO if complete else WARNING,
                    error=type(cause).__name__,
                    complete=complete,
                )

    async def _remove(self) -> None:
        if not self._outcome_unknown:
            for each in self._group:
                await withdraw_record(self._store, each.record, None)
                await self._store.delete_chunks_by_id(each.record["_id"], [chunk["_id"] for chunk in each.chunks])
        await remove_files(self._store, [info.id for info in self.infos], self._session)


class _PartlyReadSource(Source):
    """A source whose beginning was read already."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source
        self.size = source.size
        self.repeatable = source.repeatable

    async def read(self) -> bytes | memoryview:
        head, self._head = self._head, b""
        return head or await self._source.read()


async def _read_head(source: Source) -> tuple[bytes, bool]:
    """Read up to a bit more than one batch. Return the bytes, and whether they are the whole content."""
    head = bytearray()
    while block := await source.read():
        head += block
        if len(head) > BATCH_BYTES:
            return bytes(head), False
    return bytes(head), True
