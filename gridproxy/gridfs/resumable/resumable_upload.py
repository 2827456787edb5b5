"""An upload in several parts. Any process can continue it, also after the end of the one that began it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from bson import Int64, ObjectId

from gridproxy.errors import BadOption, FileAlreadyStored, UploadMissing, WrongLength, shown, type_name
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.download.download import check_offset
from gridproxy.gridfs.records.file_info import FileInfo, utc_milliseconds
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.store.loose_chunks import Loose
from gridproxy.gridfs.store.server_clock import ensure_clock
from gridproxy.gridfs.upload.commit import check_id_is_free
from gridproxy.gridfs.upload.options import UploadRequest, check_record
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.upload import open_prepared
from gridproxy.runtime.tasks import clean_up, interruptible, run_to_completion

from .append import Append, remove_upload
from .finish import finish_upload
from .lease import Lease
from .unfinished import LARGEST_CHUNK, Unfinished, Uploads


class ResumableUpload:
    """An upload that `Bucket.resumable` began or `Bucket.resume` found.

    Each append stores its bytes in the bucket, and no file exists before `finish`. An upload that rests for longer than
    its `lifetime` expires, and `collect_garbage` removes it.

    ```python
    upload = await bucket.resumable(filename="song.txt", length=9)
    await upload.append(b"la ")
    later = await bucket.resume(upload.id)  # in another process
    await later.append(b"la la.", at=3)
    info = await later.finish()
    assert await bucket.read(info.id) == b"la la la."
    ```
    """

    def __init__(self, store: Store, upload: Unfinished, limits: Limits) -> None:
        self._uploads = Uploads(store)
        self._upload = upload
        self._limits = limits

    def __repr__(self) -> str:
        upload = self._upload
        of = "" if upload.length is None else f" of {upload.length}"
        return f"<ResumableUpload {upload.id!r} to {self._uploads.store!r}: {upload.offset}{of} bytes>"

    @property
    def id(self) -> object:
        """The id for `Bucket.resume`, which the file will have, too."""
        return self._upload.id

    @property
    def offset(self) -> int:
        """How many bytes are stored, as far as this object knows. The next append begins there."""
        return self._upload.offset

    @property
    def length(self) -> int | None:
        """The announced length in bytes, or None."""
        return self._upload.length

    @property
    def info(self) -> FileInfo:
        """The info that the file would have if the upload ended here."""
        return self._upload.info

    @property
    def expires_at(self) -> datetime:
        """When the upload expires, in UTC. Each append moves this."""
        return self._upload.expires_at

    @property
    def is_finished(self) -> bool:
        """Whether the file was stored."""
        return self._upload.stored

    @property
    def is_busy(self) -> bool:
        """Whether another client was appending when this object learned of the upload, and may still be."""
        return self._upload.is_leased(self._uploads.store.now())

    @property
    def annotations(self) -> Mapping[str, Any]:
        """What the application stored with the upload, and not with the file."""
        return MappingProxyType(dict(self._upload.annotations))

    async def append(self, source: SourceLike, *, at: int | None = None, whole: bool = False) -> int:
        """Append all bytes of `source`, and return the new offset.

        If the source fails or the call is cancelled, the bytes that arrived before are stored, and `offset` counts
        them. After a failure of the server, `Bucket.resume` finds the offset.

        Args:
            source: As for `Bucket.upload`. Its name and type are ignored.
            at: The offset of the first byte. None for `offset`.
            whole: Whether to store all bytes or none if the source fails. A caller needs that who knows only at the end
                that the bytes are right.

        Raises:
            WrongOffset: The upload has more or fewer bytes than `at`. Nothing was stored.
            WrongLength: The source has more bytes than announced. Those that fit may be stored.
            UploadInProgress: Another client appends at this moment, or has taken over after a pause.
            UploadMissing: The upload was aborted, or has expired.
            FileAlreadyStored: The upload is finished.
            FileRefused: A limit refuses the content. The whole upload was removed.
            BadSource: Bytes cannot be read from the source.

        ```python
        upload = await bucket.resumable(filename="notes.txt")
        assert await upload.append(b"some text") == 9
        ```
        """
        offset = self.offset if at is None else check_offset(at, "at")
        store = self._uploads.store
        await ensure_clock(store)
        lease = Lease(self._uploads, self._upload)
        try:
            async with open_prepared(source, self._upload.request.encoding, None) as opened:
                await Append(self._uploads, lease, self._limits, whole=whole).run(opened, offset)
        finally:
            self._upload = lease.upload
        return self.offset

    async def announce(self, length: int) -> None:
        """Say how long the content is, if that was not known at the beginning. To repeat it is not an error.

        Args:
            length: The length of the whole content in bytes.

        Raises:
            WrongLength: Another length was announced, or the upload is longer already.
            UploadMissing: The upload was aborted, or has expired.
            TooLarge: `length` is above the limit.

        ```python
        upload = await bucket.resumable(filename="notes.txt")
        await upload.announce(9)
        assert upload.length == 9
        ```
        """
        self._upload.limits(self._limits).check_size(check_offset(length, "length"))
        store = self._uploads.store
        matching = {"length": None, "offset": {"$lte": length}, "finished_at": None, "expires_at": {"$gt": store.now()}}
        work = self._uploads.change(self._upload, matching, {"length": Int64(length)})
        document, _ = await run_to_completion(work, client=store.client)
        if document is None:
            raise UploadMissing(self.id)
        self._upload = Unfinished.from_document(document)
        if self.length != length:
            raise WrongLength(length, self.offset if self.length is None else self.length)

    async def finish(self) -> FileInfo:
        """Make a file of all appended bytes, and return its record. This may be repeated.

        The SHA-256 is computed while the bytes arrive. If another process received a part of them, this reads them
        back, which takes about as long as a download.

        Raises:
            WrongLength: Fewer bytes than announced were appended.
            UploadInProgress: Another client writes to the upload at this moment.
            UploadMissing: The upload was aborted, or has expired.
            FileMissing: The upload was finished before, and the file was deleted.
            FileRefused: A limit refuses the content. The upload was removed.
            FileAlreadyStored: Another file has the id.
            CorruptFile: Chunks are gone. No file was stored.
            OutcomeUnknown: The server did not answer. The file may be stored: finish again.

        ```python
        upload = await bucket.resumable(filename="empty.txt")
        assert (await upload.finish()).length == 0
        ```
        """
        await ensure_clock(self._uploads.store)
        lease = Lease(self._uploads, self._upload)
        try:
            return await finish_upload(self._uploads, lease, self._limits)
        finally:
            self._upload = lease.upload

    async def abort(self) -> None:
        """Remove the upload and its bytes. To abort it again is not an error. An append of another client fails.

        Raises:
            FileAlreadyStored: The upload is finished. `delete` removes the file.

        ```python
        upload = await bucket.resumable(filename="notes.txt")
        await upload.abort()
        ```
        """
        work = remove_upload(self._uploads, self._upload)
        if await run_to_completion(work, client=self._uploads.store.client) is Loose.STORED:
            raise FileAlreadyStored(self.id, message=f"{shown(self.id)} is a stored file. Remove it with delete()")


async def begin_upload(
    store: Store,
    request: UploadRequest,
    limits: Limits,
    *,
    length: int | None,
    lifetime: timedelta | float,
    annotations: Mapping[str, Any],
) -> ResumableUpload:
    """Store the document of a new upload. See `Bucket.resumable`."""
    if length is not None:
        limits.check_size(check_offset(length, "length"))
    chunk_size = request.chunk_size or store.chunk_size
    if chunk_size > LARGEST_CHUNK:
        raise BadOption(f"chunk_size is at most {LARGEST_CHUNK} bytes for a resumable upload, not {chunk_size}")
    duration = _checked_lifetime(lifetime)
    await ensure_indexes(store)
    now = store.now()
    upload = Unfinished(
        id=ObjectId() if request.id is None else request.id,
        upload_id=ObjectId(),
        request=request.completed_by(None, None),
        chunk_size=chunk_size,
        lifetime=duration,
        started=now,
        expires_at=utc_milliseconds(now + duration),
        length=length,
        max_size=limits.max_size,
        content_types=limits.content_types,
        validators=len(limits.validators),
        inspects=limits.inspect is not None,
        annotations=annotations,
    )
    check_record(upload.record, chunk_size, store.codec_options)
    if request.id is not None:
        await check_id_is_free(store, request.id, None)
    uploads = Uploads(store)
    try:
        await run_to_completion(uploads.insert(upload), client=store.client)
    except BaseException as error:
        await clean_up(uploads.delete(upload), error, f"the upload {upload.id!r} may be left until it expires.")
        raise
    return ResumableUpload(store, upload, limits)


async def resume_upload(store: Store, id: object, limits: Limits) -> ResumableUpload:
    """Find an upload. See `Bucket.resume`."""
    await ensure_clock(store)
    document = await interruptible(Uploads(store).find(id))
    upload = None if document is None else Unfinished.from_document(document)
    if upload is None or upload.expires_at <= store.now():
        raise UploadMissing(id)
    upload.limits(limits)  # raises
    return ResumableUpload(store, upload, limits)


def _checked_lifetime(lifetime: object) -> timedelta:
    if not isinstance(lifetime, timedelta | int | float) or isinstance(lifetime, bool):
        raise BadOption(f"lifetime is a timedelta or seconds, not {type_name(lifetime)}")
    try:
        duration = lifetime if isinstance(lifetime, timedelta) else timedelta(seconds=lifetime)
        if timedelta(0) < duration <= timedelta(days=3650):
            return duration
    except (OverflowError, ValueError):
        pass
    raise BadOption(f"lifetime is more than 0 and at most ten years, not {shown(lifetime)}")
