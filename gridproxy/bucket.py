"""Bucket: GridFS itself, for services that keep ids and no proxies (GridFS spec)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING

from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.operations.copy import copy_file
from gridproxy.gridfs.operations.delete import remove_file, remove_files
from gridproxy.gridfs.operations.many import upload_many
from gridproxy.gridfs.operations.update import rename_file, rename_files, update_file
from gridproxy.gridfs.records.file_info import FileInfo, utc_now
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.upload.options import check_filename, upload_request
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.staging import Staged, discard_id, discard_staged
from gridproxy.gridfs.upload.upload import stage_source, upload_source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.tasks import run_to_completion
from gridproxy.upkeep.collect_garbage import collect_bucket_garbage
from gridproxy.upkeep.document_paths import References, parse_references
from gridproxy.upkeep.findings import GarbageReport

from .errors import BadOption, FileMissing
from .readable_bucket import ReadableBucket


class Bucket(ReadableBucket):
    """The files of one GridFS bucket in a database of pymongo's `AsyncMongoClient`.

    `chunk_size` is in bytes, 1 to 16 MiB (less 256 bytes); `checksum` is "sha256" (kept in the record's metadata) or
    None; concerns and the read preference default to the database's and apply to every operation. Making one does no
    I/O. Raises `BadOption` for arguments that no bucket can have, `UnacknowledgedWriteConcern` for a write concern 0.

    Every method that writes or reads a record takes `session=`; inside a transaction only the record takes part in it.
    Ids are values of any type that MongoDB takes as `_id`. pymongo's own errors come where the server or the network
    fails, `CorruptFile` where a record cannot be a file's.

    ```python
    bucket = Bucket(client["zoo"], "uploads")
    info = await bucket.upload(b"some content", filename="notes.txt", metadata={"owner": 7})
    assert await bucket.read(info.id, 5, 12) == b"content"
    ```
    """

    def file(self, id: object) -> AsyncGridFile:
        """The proxy of the file under this id; no I/O, so it is not known yet whether there is one.

        Raises `BadId` for a proxy in the place of its id.
        """
        return AsyncGridFile(id, bucket=self)

    # Putting in

    async def upload(
        self,
        source: SourceLike | Staged,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        chunk_size: int | None = None,
        id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
        progress: Progress | None = None,
    ) -> FileInfo:
        """Store all of `source` as one file; its info.

        `source` is bytes-like, a str (stored in `encoding`), a path (`os.PathLike`), a binary file or an iterable of
        bytes, asynchronous or not, an `AsyncGridFile`, or `Staged`; what came open is read from where it stands, and
        not closed. `filename` falls back to the base name of the source's name, `content_type` (which lands in
        `metadata`) to a guess by it, then to what the source says, `chunk_size` (bytes) to the bucket's, `id` to a new
        `ObjectId`. The file is missing from `expires_at` on (a naive datetime is UTC), or `expires_after` seconds, or a
        timedelta, from now. `progress` is called with (bytes done, bytes in all or None).

        Raises `BadSource`, `BadOption`, `BadMetadata`, `BadId`, `FileAlreadyStored` for an `id` that is taken,
        `UploadInProgress` for one with chunks alone, `CorruptFile` (it paused until `collect_garbage` took its chunks),
        `FileClosed` (its transaction ended meanwhile), or what the source or `progress` raised; nothing is stored then.
        After `OutcomeUnknown` it may be.
        """
        request = upload_request(
            id=id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            expires_at=expires_at,
            expires_after=expires_after,
        )
        return await upload_source(self.store, source, request, session=session, progress=progress)

    async def upload_many(
        self,
        sources: Iterable[SourceLike] | Mapping[str, SourceLike],
        *,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        chunk_size: int | None = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
        progress: Progress | None = None,
    ) -> list[FileInfo]:
        """Store each source as a file of its own, small ones together in one round trip; their infos in order.

        A mapping gives filenames to sources; what else is said holds for every file, and `progress` tells the bytes of
        all. All or nothing: what one of them raises, or a cancellation, takes back the others. Raises as `upload`.
        """
        request = upload_request(
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            expires_at=expires_at,
            expires_after=expires_after,
        )
        return await upload_many(self.store, sources, request, session=session, progress=progress)

    def open_upload(
        self,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        chunk_size: int | None = None,
        id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
        progress: Progress | None = None,
    ) -> Writer:
        """A new file, written bit by bit: `async with bucket.open_upload(...) as upload: await upload.write(data)`.

        The file is there at `close()`, or when the block is left without an exception. Awaiting the result starts it
        too. Options are checked at the call; raises as `upload`.
        """
        request = upload_request(
            id=id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            expires_at=expires_at,
            expires_after=expires_after,
        )
        return Writer(self.store, request, session, progress)

    async def stage(
        self,
        source: SourceLike,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        chunk_size: int | None = None,
        id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        progress: Progress | None = None,
    ) -> Staged:
        """Write the chunks and no record: nobody sees a file before `publish`, and `collect_garbage` takes what waits
        for longer than its `older_than`. Raises as `upload`, and leaves nothing then.
        """
        request = upload_request(
            id=id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            expires_at=expires_at,
            expires_after=expires_after,
        )
        return await stage_source(self.store, source, request, progress=progress)

    async def publish(self, staged: Staged, *, session: Session | None = None) -> FileInfo:
        """Make a file of what was staged; its info. May be repeated.

        Raises `FileClosed` after a discard, `BadOption` for what lies in another bucket, `FileAlreadyStored` where
        another file has its id by now, and `CorruptFile` where chunks are gone: it waited for longer than
        `collect_garbage` does, or the file was published and deleted before; what is left of it is discarded then.
        After `OutcomeUnknown` it may be a file: publish it again.
        """
        return await upload_source(self.store, staged, upload_request(), session=session)

    async def discard(self, staged: Staged | object) -> None:
        """Remove staged chunks, or whatever chunks lie under an id without a record (an upload that was cut off).

        Under an id whatever lies there goes, however young: an upload in progress loses its chunks, and is lost.
        `collect_garbage` leaves such uploads alone. Raises `FileAlreadyStored` where they are a file (that is what
        `delete` is for), `UploadInProgress` where they are becoming one in a transaction that is not over.
        """
        if isinstance(staged, Staged):
            await discard_staged(staged)
        else:
            await discard_id(self.store, staged)

    async def copy(
        self,
        id: object,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        new_id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
    ) -> FileInfo:
        """A second file with the same bytes, copied inside the server; its info. What is not given stays as it was.

        `metadata` stands for all of the original's; `expires_at` (UTC) and `expires_after` (seconds) are as `upload`
        has them, but no copy expires unless told. Raises `FileMissing`, `CorruptFile` (nothing is made of half a file),
        `FileAlreadyStored` or `UploadInProgress` where `new_id` is taken, `BadMetadata`, `BadId`, `BadOption` (inside a
        transaction, too), `OutcomeUnknown`.
        """
        return await copy_file(
            self.store,
            id,
            id=new_id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            expires_at=expires_at,
            expires_after=expires_after,
            session=session,
        )

    async def by_name(self, filename: str, revision: int = -1, *, session: Session | None = None) -> AsyncGridFile:
        """A file by its name: revision 0 is the oldest, 1 the next, -1 the newest, -2 the one before (GridFS spec), of
        those that have not expired.

        Raises `FileMissing` where there is no such name or revision, `BadOption` for what can be neither.
        """
        check_filename(filename)
        _check_revision(revision)
        order = ASCENDING if revision >= 0 else DESCENDING
        session = self.store.session_for(session)
        async with lock(session):
            record = await self.store.files.find_one(
                {"filename": filename, "expires_at": {"$not": {"$lte": utc_now()}}},
                sort=[("uploadDate", order)],
                skip=revision if revision >= 0 else -revision - 1,
                session=session,
            )
        if record is None:
            asked = "" if revision == -1 else f" and the revision {revision}"
            raise FileMissing(message=f"no file has the name {filename!r}{asked}")
        info = FileInfo.from_record(record)
        return AsyncGridFile(info.id, bucket=self, info=info)

    # Editing

    async def rename(self, id: object, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give one file another name; its new info. Raises `FileMissing`, `BadOption` for what is no name."""
        return await rename_file(self.store, id, filename, session)

    async def rename_by_name(self, filename: str, new: str, *, session: Session | None = None) -> int:
        """Give every revision of a name another one; how many. Raises `FileMissing` for none (GridFS spec), `BadOption`
        for what is no name.
        """
        return await rename_files(self.store, filename, new, session)

    async def update_metadata(
        self,
        id: object,
        changes: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        session: Session | None = None,
        **more: Any,
    ) -> FileInfo:
        """Set keys of a file's metadata (`changes`, and keywords) and `unset` others, in one step; its new info.

        Raises `FileMissing`, `BadMetadata` for what cannot be stored, is said twice, or is not the caller's (`sha256`).
        """
        return await update_file(self.store, id, changes, unset, more, session)

    # Taking away

    async def delete(self, id: object, *, session: Session | None = None) -> None:
        """Remove a file, and a picture's variants. In a transaction the chunks go with its commit.

        Where there is none, stray chunks under the id are removed and `FileMissing` is raised (GridFS spec): an upload
        in progress under this id loses its chunks, and is lost.
        """
        if not await remove_file(self.store, id, session):
            raise FileMissing(id)

    async def delete_by_name(self, filename: str, *, session: Session | None = None) -> int:
        """Remove every revision of a name; how many. Raises `FileMissing` for none (GridFS spec), `BadOption` for what
        is no name.
        """
        check_filename(filename)
        ids = await self.store.find_ids({"filename": filename}, self.store.session_for(session))
        if not ids:
            raise FileMissing(message=f"no file has the name {filename!r}")
        return await remove_files(self.store, ids, session)

    async def delete_many(self, ids: Iterable[object], *, session: Session | None = None) -> int:
        """Remove many files by id; how many there were. Ids without a file are no error, and lose stray chunks as
        with `delete`.
        """
        return await remove_files(self.store, ids, session)

    # The bucket as a whole

    async def ensure_indexes(self, *, force: bool = False) -> None:
        """Create the two indexes of the GridFS spec: once per bucket and client, and only where no file is stored yet.

        Every upload does so by itself. `force` looks again, and creates them whatever is stored.
        """
        await ensure_indexes(self.store, force=force)

    async def collect_garbage(
        self,
        older_than: timedelta = timedelta(days=1),
        dry_run: bool = True,
        *,
        unreferenced: bool = False,
        references: References | None = None,
        progress: Progress | None = None,
    ) -> GarbageReport:
        """Remove what is safe to remove, or only tell what would be (`dry_run`, the default).

        That is: chunks without a file, the youngest of which is older than `older_than` by the time in its `_id`; and
        files whose `expires_at` has passed. With `unreferenced=True` also files that were uploaded longer ago than
        that and that no document in `references` (as `check` takes them; name every place that holds files) points to.

        An upload that sends nothing for as long as `older_than` looks like one that was cut off: it fails by
        `CorruptFile` when it is to become a file after all. Chunks whose `_id` tells no time are counted and left;
        `discard(id)` removes them. What is decided is looked at again, on the primary, before it is removed;
        interrupted at any point, the next run goes on. The clock is the server's, `progress` as in `check`.

        Raises `BadOption` for an `older_than` below an hour, for `unreferenced` without references, and for references
        that look mistyped (no such collection, or no document with the path); nothing was removed then.
        """
        return await collect_bucket_garbage(
            self.store,
            older_than=older_than,
            dry_run=dry_run,
            unreferenced=unreferenced,
            references=parse_references(self.store, references),
            progress=progress,
        )

    async def drop(self) -> None:
        """Remove the whole bucket, every file in it and its indexes; no error where it is not there."""
        await run_to_completion(self.store.drop())


def _check_revision(revision: object) -> None:
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise BadOption(f"revision is a whole number, not {revision!r}")
