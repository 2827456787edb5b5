"""The document of an upload in `<bucket>.uploads`, and the collection. Each method of it is one round trip.

The chunks of an upload are in their final place before the file exists. Its document says how many bytes count
(`offset`), and holds those that do not fill a chunk (`tail`). A finished upload keeps its document until it expires, so
that a client whose answer was lost finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import bson
from bson import Int64, ObjectId
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from gridproxy.errors import BadMetadata, BadOption, UploadInProgress, shown
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.records.chunks import MAX_DOCUMENT
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo, utc_milliseconds
from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.upload.commit import until_answered
from gridproxy.gridfs.upload.options import UploadRequest

# A document holds less than one chunk, and metadata.
LARGEST_CHUNK = MAX_DOCUMENT // 2
# The mark of the last change, by which a client recognises its own one if the answer was lost.
_STEP = "step"


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """What is stored of one upload. `offset` and `length` are in bytes."""

    id: object
    upload_id: ObjectId
    request: UploadRequest
    chunk_size: int
    lifetime: timedelta
    started: datetime
    expires_at: datetime
    offset: int = 0
    tail: bytes = b""
    length: int | None = None
    checked: bool = False  # whether the first bytes were checked, and have decided the content type
    max_size: int | None = None
    content_types: tuple[str, ...] | None = None
    validators: int = 0  # how many there are, because functions cannot be stored
    inspects: bool = False
    annotations: Mapping[str, Any]
    finished_at: datetime | None = None  # since then all chunks are stored
    sha256: str | None = None
    stored: bool = False  # whether the file exists, or existed
    leased_until: datetime | None = None  # until when a client writes, unless it writes for longer

    @property
    def full_chunks(self) -> int:
        """The number of chunks that are stored."""
        return self.offset // self.chunk_size

    def is_leased(self, now: datetime) -> bool:
        """Return whether a client is writing at this moment."""
        return self.leased_until is not None and self.leased_until > now

    @property
    def record(self) -> Record:
        """The record that the file has, or would have now."""
        now = self.finished_at or self.started
        record = self.request.record(self.id, self.offset, self.chunk_size, self.sha256, now)
        return {**record, UPLOAD_ID: self.upload_id}

    @property
    def info(self) -> FileInfo:
        """The info that the file has, or would have now."""
        return FileInfo.from_record(self.record)

    def limits(self, given: Limits) -> Limits:
        """Return the limits that were given at the beginning, with the functions of those `given` now."""
        validators = self.validators if self.checked else len(given.validators)
        if self.finished_at is None and (validators, self.inspects) != (self.validators, given.inspect is not None):
            raise BadOption(
                f"the upload began with options of {self.validators} validators and {'an' if self.inspects else 'no'} "
                "inspect=: give the same FileOptions to resume()"
            )
        return replace(given, max_size=self.max_size, content_types=self.content_types)

    def to_document(self) -> Record:
        """Return the document. Raises `BadMetadata` if it would be too large."""
        request = self.request
        document: Record = {
            "_id": self.id,
            UPLOAD_ID: self.upload_id,
            "offset": Int64(self.offset),
            "tail": self.tail,
            "length": None if self.length is None else Int64(self.length),
            "started": self.started,
            "expires_at": self.expires_at,
            "lifetime": self.lifetime.total_seconds(),
            "lease": None,
            "filename": request.filename,
            "metadata": dict(request.metadata),
            "chunk_size": self.chunk_size,
            "encoding": request.encoding,
            "file_expires_at": request.expires_at,
            "file_expires_after": None if request.expires_after is None else request.expires_after.total_seconds(),
            "max_size": None if self.max_size is None else Int64(self.max_size),
            "content_types": None if self.content_types is None else list(self.content_types),
            "validators": self.validators,
            "inspects": self.inspects,
            "annotations": dict(self.annotations),
            "finished_at": None,
            "sha256": None,
            "stored": False,
            **self.judged(),
        }
        return document

    def judged(self) -> Record:
        """Return the keys that the check of the first bytes changes."""
        guesses = self.request.guesses
        return {
            "checked": self.checked,
            "content_type": self.request.content_type,
            "guesses": None if guesses is None else list(guesses),
        }

    @classmethod
    def from_document(cls, document: Record) -> Unfinished:
        """Return what a document says."""
        guesses, types, after = document["guesses"], document["content_types"], document["file_expires_after"]
        expires_at = document["file_expires_at"]
        request = UploadRequest(
            id=document["_id"],
            filename=document["filename"],
            content_type=document["content_type"],
            metadata=document["metadata"],
            chunk_size=document["chunk_size"],
            encoding=document["encoding"],
            expires_at=None if expires_at is None else utc_milliseconds(expires_at),
            expires_after=None if after is None else timedelta(seconds=after),
            guesses=None if guesses is None else (guesses[0], guesses[1]),
        )
        finished_at = document["finished_at"]
        return cls(
            id=document["_id"],
            upload_id=document[UPLOAD_ID],
            request=request,
            chunk_size=document["chunk_size"],
            lifetime=timedelta(seconds=document["lifetime"]),
            started=utc_milliseconds(document["started"]),
            expires_at=utc_milliseconds(document["expires_at"]),
            offset=int(document["offset"]),
            tail=bytes(document.get("tail", b"")),
            length=None if document["length"] is None else int(document["length"]),
            checked=document["checked"],
            max_size=None if document["max_size"] is None else int(document["max_size"]),
            content_types=None if types is None else tuple(types),
            validators=document["validators"],
            inspects=document["inspects"],
            annotations=document["annotations"],
            finished_at=None if finished_at is None else utc_milliseconds(finished_at),
            sha256=document["sha256"],
            stored=document["stored"],
            leased_until=None if document["lease"] is None else utc_milliseconds(document["lease"]["until"]),
        )


class Uploads:
    """The documents of a bucket's uploads."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def insert(self, upload: Unfinished) -> None:
        """Insert the document of a new upload.

        Raises `UploadInProgress` if another upload has the id, `BadMetadata` if the document cannot be stored.
        """
        document = upload.to_document()
        try:
            size = len(bson.encode(document, codec_options=self.store.codec_options)) + upload.chunk_size
        except (bson.errors.InvalidDocument, OverflowError, ValueError) as error:
            raise BadMetadata(f"the upload cannot be stored: {error}") from error
        if size > MAX_DOCUMENT:
            raise BadMetadata(f"the metadata and a chunk of {upload.chunk_size} bytes do not fit into 16 MiB")

        async def attempt() -> None:
            try:
                async with self.store.own_session() as session:
                    await self.store.uploads.insert_one(document, session=session)
            except DuplicateKeyError as error:
                found = await self.find(upload.id)
                if found is None or found[UPLOAD_ID] != upload.upload_id:
                    raise UploadInProgress(f"another unfinished upload has the id {shown(upload.id)}") from error

        await until_answered(attempt)

    async def find(self, id: object) -> Record | None:
        """Return the document of an upload, or None."""
        async with self.store.own_session() as session:
            return await self.store.uploads.find_one({"_id": id_filter(id)}, session=session)

    async def change(
        self, upload: Unfinished, matching: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> tuple[Record | None, bool]:
        """Change the document if it matches. Return the document as it is now, and whether it was changed."""
        step = ObjectId()
        query = {"_id": id_filter(upload.id), UPLOAD_ID: upload.upload_id, **matching}

        async def attempt() -> tuple[Record | None, bool]:
            async with self.store.own_session() as session:
                found = await self.store.uploads.find_one_and_update(
                    query, {"$set": {**changes, _STEP: step}}, return_document=ReturnDocument.AFTER, session=session
                )
            if found is not None:
                return found, True
            found = await self.find(upload.id)
            # The answer to an earlier attempt may have been lost.
            return found, found is not None and found.get(_STEP) == step

        return await until_answered(attempt)

    async def delete(self, upload: Unfinished, matching: Mapping[str, Any] | None = None) -> bool:
        """Delete the document if it matches, and return whether it did."""
        query = {"_id": id_filter(upload.id), UPLOAD_ID: upload.upload_id, **(matching or {})}
        async with self.store.own_session() as session:
            return bool((await self.store.uploads.delete_one(query, session=session)).deleted_count)


def is_free(now: datetime) -> Record:
    """Return the condition that no client is writing at this moment."""
    return {"$or": [{"lease": None}, {"lease.until": {"$lte": now}}]}
