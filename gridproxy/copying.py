"""A second file with the same bytes, made inside the server: no byte passes through the client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.errors import PyMongoError

from .download import load_info
from .errors import BadOption, CorruptFile, FileAlreadyStored, FileVanished
from .info import FileInfo
from .options import UploadRequest, check_record, upload_request
from .publish import check_id_is_free, insert_record, withdraw_record
from .store import Record, Session, Store
from .tasks import settle

__all__ = ["copy_file"]

# Chunks of one `$merge`: 64 MB of the usual ones, since a cancellation waits for it.
_CHUNKS_PER_MERGE = 256


async def copy_file(
    store: Store,
    source_id: object,
    *,
    id: object = None,
    filename: str | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    expires_after: timedelta | float | None = None,
    more_metadata: Mapping[str, Any] | None = None,
    session: Session | None = None,
) -> FileInfo:
    """Copy a file inside its bucket; what is not given stays as it is in the original, but a copy never expires by
    itself.

    Raises `FileMissing`, `CorruptFile` (nothing is made of half a file), `BadOption` inside a transaction.
    """
    session = store.session_for(session)
    if session is not None and session.in_transaction:
        raise BadOption("copy() cannot run inside a transaction: servers refuse $merge there; copy before it")
    source = await load_info(store, source_id, session)
    kept = (
        {key: value for key, value in source.metadata.items() if key not in ("sha256", "content_type")}
        if metadata is None
        else dict(metadata)
    )
    request = upload_request(
        id=id,
        filename=source.filename if filename is None else filename,
        content_type=content_type,
        metadata={
            key: value for key, value in kept.items() if metadata is not None or key not in (more_metadata or {})
        },
        more_metadata=more_metadata,
        expires_at=expires_at,
        expires_after=expires_after,
    )
    if request.content_type is None:
        request = request.completed_by(None, source.content_type)
    return await _Copy(store, source, request, session).run()


class _Copy:
    def __init__(self, store: Store, source: FileInfo, request: UploadRequest, session: Session | None) -> None:
        self._store = store
        self._source = source
        self._request = request
        self._session = session
        self._id = ObjectId() if request.id is None else request.id
        self._chunk_ids: list[ObjectId] = []
        self._record: Record | None = None

    async def run(self) -> FileInfo:
        record = self._new_record()
        check_record(record, self._source.chunk_size, self._store.codec_options)
        if self._request.id is not None:
            await check_id_is_free(self._store, self._id, self._session)
        await self._store.ensure_indexes()
        try:
            await self._copy_chunks()
            self._record = self._new_record()
            own = self._chunk_ids[0] if self._chunk_ids else None
            await settle(insert_record(self._store, self._record, own, self._session))
        except BaseException as error:
            if isinstance(error, FileAlreadyStored):
                self._record = None
            try:
                await settle(self._undo(), fresh=True)
            except PyMongoError as failure:
                error.add_note(f"The clean-up failed too ({failure!r}); collect_garbage() removes what is left.")
            raise
        return FileInfo.from_record(self._record)

    def _new_record(self) -> Record:
        source = self._source
        return self._request.record(self._id, source.length, source.chunk_size, source.sha256)

    async def _copy_chunks(self) -> None:
        count = self._source.chunk_count
        for first in range(0, count, _CHUNKS_PER_MERGE):
            ids = [ObjectId() for _ in range(min(_CHUNKS_PER_MERGE, count - first))]
            self._chunk_ids += ids
            await settle(self._store.copy_chunks(self._source, first, ids, self._id))
        found = await self._store.measure(self._id)
        if found != (count, self._source.length):
            if await self._store.find_record(self._source.id, primary=True) is None:
                raise FileVanished(self._source.id)
            raise CorruptFile(
                self._source.id,
                f"its chunks hold {found[1]} bytes in {found[0]} pieces instead of {self._source.length} in {count}",
            )

    async def _undo(self) -> None:
        if self._record is not None:
            await withdraw_record(self._store, self._record, self._session)
        await self._store.delete_chunks_by_id(self._id, self._chunk_ids)
