"""A copy of a file, made inside the server if it has `$merge`, so that no byte is sent to the client."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Unpack

from bson import ObjectId
from pymongo.errors import OperationFailure

from gridproxy.errors import BadOption, CorruptFile, FileVanished, OutcomeUnknown
from gridproxy.gridfs.content.variants import MOST_VARIANTS, is_legacy_thumbnail, named_variants
from gridproxy.gridfs.download.download import load_info
from gridproxy.gridfs.records.chunks import object_ids
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.upload.commit import check_id_is_free, duplicate_chunk, id_in_progress, is_duplicate_key
from gridproxy.gridfs.upload.options import UploadOptions, UploadRequest, check_record, upload_request
from gridproxy.gridfs.upload.staging import log_stored
from gridproxy.gridfs.upload.undo_log import UndoLog
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import run_to_completion

from .delete import delete_after_failure

# Chunks of one `$merge`: 64 MB at the default size, since a cancellation waits for it.
_CHUNKS_PER_MERGE = 256
# The copy computes or declares these itself, and the copy of a thumbnail is not a thumbnail.
_NOT_KEPT = {"sha256", "content_type", "variant_of"}


async def copy_file(
    store: Store,
    source_id: object,
    *,
    more_metadata: Mapping[str, Any] | None = None,
    session: Session | None = None,
    variants: bool = True,
    target: Store | None = None,
    **options: Unpack[UploadOptions],
) -> FileInfo:
    """Copy a file inside its bucket, or to `target`, another one of its client.

    Options that are not given keep the original's value, but a copy never expires.

    Raises `FileMissing`, `CorruptFile` if chunks are damaged, `FileAlreadyStored` or `UploadInProgress` if the `id` is
    in use, and `BadOption` inside a transaction.
    """
    session = store.session_for(session)
    if in_transaction(session):
        raise BadOption("copy() cannot run inside a transaction, because servers refuse $merge there: copy before it")
    source = await load_info(store, source_id, session)
    given = upload_request(more_metadata=more_metadata, **options)
    # Do not check values that are kept: other drivers may have stored names and keys that are refused here.
    kept = {key: value for key, value in source.metadata.items() if key not in _NOT_KEPT}
    request = replace(
        given,
        filename=source.filename if given.filename is None else given.filename,
        content_type=given.content_type or source.content_type,
        metadata={**kept, **given.metadata} if options.get("metadata") is None else given.metadata,
    )
    extra = dict(source.extra)
    if given.content_type is not None:
        extra.pop("contentType", None)  # the legacy key would contradict the new type
    return await _Copy(store, target or store, source, request, session, extra, variants).run()


class _Copy:
    def __init__(
        self,
        store: Store,
        target: Store,
        source: FileInfo,
        request: UploadRequest,
        session: Session | None,
        extra: dict[str, Any],
        variants: bool,
    ) -> None:
        self._store = store
        self._target = target
        self._extra = extra  # the top-level keys of other writers
        self._source = source
        self._request = request
        self._session = session
        self._id = ObjectId() if request.id is None else request.id
        self._undo_log = UndoLog(
            target, self._id, session, shared_id=request.id is not None, known_id=request.id is not None
        )
        self._with_variants = variants  # variants have no variants
        self._copied: dict[Hashable, object] = {}  # the copy of each variant, or the same id if it was not copied
        self._variants: list[object] = []

    async def run(self) -> FileInfo:
        check_record(self._new_record(), self._source.chunk_size, self._target.codec_options)
        if self._request.id is not None:
            await check_id_is_free(self._target, self._id, self._session)
        await ensure_indexes(self._target)
        began = time.monotonic()
        try:
            if self._with_variants:
                await self._copy_variants()
            copy = ChunkCopy(self._store, self._source, self._undo_log, shared_id=self._request.id is not None)
            await copy.run()
            record = self._new_record()
            await self._undo_log.insert_record(record)
        except BaseException as error:
            await self._undo_log.rollback(error, size=self._source.length, since=began)
            if not isinstance(error, OutcomeUnknown):  # else the copy may exist and need them
                await delete_after_failure(self._target, self._variants, self._session, error)
            raise
        log_stored(self._target, self._id, self._source.length, began)
        return FileInfo.from_record(record)

    async def _copy_variants(self) -> None:
        """Copy the variants of a picture with it."""
        if (thumbnail := self._extra.get("thumbnail_id")) is not None:
            self._extra["thumbnail_id"] = await self._copy_legacy_thumbnail(thumbnail)
        metadata = dict(self._request.metadata)
        if (thumbnail := metadata.get("thumbnail_id")) is not None:
            metadata["thumbnail_id"] = await self._copy_variant(thumbnail)
        if variants := named_variants(metadata):
            metadata["variants"] = {name: await self._copy_variant(id) for name, id in variants.items()}
        self._request = replace(self._request, metadata=metadata)

    async def _copy_legacy_thumbnail(self, id: object) -> object:
        """Return the id of a copy of a thumbnail that MongoEngine stored, which does not name its picture."""
        record = await self._store.find_record(id, self._session)
        if record is None or not is_legacy_thumbnail(record):
            return await self._copy_variant(id)
        return await self._copy_as_variant(id)

    async def _copy_variant(self, id: object) -> object:
        """Return the id of a variant's copy, or the same id if the variant is gone or is another file."""
        key = id_key(id)
        if key not in self._copied:
            self._copied[key] = id
            if len(self._copied) <= MOST_VARIANTS:
                record = await self._store.only_variants_of(self._source.id).find_record(id, self._session)
                if record is not None:
                    self._copied[key] = await self._copy_as_variant(id)
        return self._copied[key]

    async def _copy_as_variant(self, id: object) -> object:
        named = {"variant_of": self._id}
        copy = await copy_file(
            self._store, id, more_metadata=named, session=self._session, variants=False, target=self._target
        )
        self._variants.append(copy.id)
        return copy.id

    def _new_record(self) -> Record:
        source = self._source
        # Another driver may have stored an empty file without a chunk size.
        chunk_size = source.chunk_size or self._target.chunk_size
        record = self._request.record(self._id, source.length, chunk_size, source.sha256, self._target.now())
        if self._undo_log.upload_id is not None:
            record[UPLOAD_ID] = self._undo_log.upload_id
        return {**record, **self._extra}


class ChunkCopy:
    """The copy of all chunks of one file to another id, which may be in another bucket of the client.

    `undo_log` is that of the new file. `shared_id`: another client may upload under its id.
    """

    def __init__(self, store: Store, source: FileInfo, undo_log: UndoLog, *, shared_id: bool) -> None:
        self._store = store
        self._source = source
        self._undo_log = undo_log
        self._target = undo_log.store
        self._id = undo_log.id
        self._shared_id = shared_id

    async def run(self, progress: Progress | None = None) -> None:
        """Copy the chunks, and compare their number and their bytes with the record.

        Raises `CorruptFile`, `FileVanished`, `UploadInProgress` or `UniqueIndexViolation`. The caller rolls back.
        """
        count = self._source.chunk_count
        if not count:
            return
        # Count first, because a damaged record can declare billions of chunks.
        if count > _CHUNKS_PER_MERGE and await self._store.count_chunks(self._source.id) < count:
            await self._refuse_damaged()
        first = 0
        if self._shared_id:
            # The upload that inserts chunk 0 owns the id. Copy it alone first: otherwise another upload could insert
            # some chunks beside the copy.
            first = await self._merge(0, 1)
            # Some servers do not report that a chunk existed already.
            if await self._target.first_chunk_id(self._id) not in (None, next(object_ids(self._undo_log.chunk_ids))):
                raise id_in_progress(self._id)
        while first < count:
            first = await self._merge(first, _CHUNKS_PER_MERGE)
            await report(progress, min(first * self._source.chunk_size, self._source.length), self._source.length)
        found = await self._target.measure(self._id)
        if found != (count, self._source.length):
            await self._refuse_damaged(found)

    async def _refuse_damaged(self, found: tuple[int, int] | None = None) -> NoReturn:
        source = self._source
        if await self._store.find_record(source.id, primary=True) is None:
            raise FileVanished(source.id)
        chunks, size = found or await self._store.measure(source.id)
        raise CorruptFile(
            source.id,
            f"its chunks have {size} bytes in {chunks} pieces instead of {source.length} in {source.chunk_count}",
        )

    async def _merge(self, first: int, at_most: int) -> int:
        """Copy chunks from `first` on, and return the number of the next one."""
        ids = [self._undo_log.new_chunk_id() for _ in range(min(at_most, self._source.chunk_count - first))]
        copy = self._store.copy_chunks(
            self._source,
            first,
            ids,
            self._id,
            self._undo_log.upload_id,
            None if self._target is self._store else self._target,
        )
        try:
            await run_to_completion(copy)
        except OperationFailure as error:
            if not is_duplicate_key(error):
                raise
            raise duplicate_chunk(self._target, self._id, error) from error
        return first + len(ids)
