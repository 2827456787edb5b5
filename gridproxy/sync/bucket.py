"""The bucket of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from gridproxy import bucket as asynchronous
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import TransferOptions, UploadOptions
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.runtime.progress import Progress
from gridproxy.upkeep.document_paths import References
from gridproxy.upkeep.findings import Finding, GarbageReport

from .file import GridFile
from .portal import Portal, call, current_portal, in_callers_thread, listed
from .resumable import ResumableUpload
from .streams import DownloadStream, Pulled, Reader, Writer


class Bucket:
    """The files of one GridFS bucket, for code that does not await. `Client.bucket` returns it.

    Each method is that of `gridproxy.Bucket`, and blocks until it is done. Threads can share a bucket. Sources, sinks
    and `progress` are used in the calling thread. Ctrl-C cancels the operation, which removes what it has sent. In the
    thread of a running event loop every method raises `EventLoopRunning`. In the examples `info` is the record of a
    file in `bucket`.

    ```python
    bucket = client.bucket("zoo", "uploads")
    info = bucket.upload(b"some content", filename="notes.txt", metadata={"owner": 7})
    assert bucket.read(info.id, 5, 12) == b"content"
    ```
    """

    def __init__(self, connect: Callable[[], asynchronous.Bucket]) -> None:
        self._connect = connect
        self._current: tuple[Portal, asynchronous.Bucket] = current_portal(), connect()

    def asynchronous(self) -> asynchronous.Bucket:
        """Return the asynchronous bucket of this process, which works only in the event loop of this package.

        ```python
        assert bucket.asynchronous().name == bucket.name
        ```
        """
        portal = current_portal()
        if self._current[0] is not portal:  # this process was forked
            self._current = portal, self._connect()
        return self._current[1]

    def __repr__(self) -> str:
        return f"<gridproxy.sync.Bucket {self.asynchronous().store!r}>"

    def __eq__(self, other: object) -> bool:
        return self.asynchronous() == other.asynchronous() if isinstance(other, Bucket) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.asynchronous())

    def open(self, id: object, *, session: Session | None = None) -> Reader:
        """Open a stored file for reading, as a binary file of the standard library (`io.RawIOBase`).

        Args:
            id: The file's id.
            session: A session of pymongo's.

        Raises:
            FileMissing: There is no such file, or it has expired.
            CorruptFile: The record is not that of a file.

        ```python
        with bucket.open(info.id) as file:
            assert file.read(4) == b"some"
        ```
        """
        return self.file(id).open(session=session)

    def create(self, **options: Unpack[TransferOptions]) -> Writer:
        """Open a new file for writing, as a binary file of the standard library (`io.RawIOBase`). See `open_upload`.

        ```python
        with bucket.create(filename="notes.txt") as file:
            file.write(b"some text")
        assert bucket.read(file.info.id) == b"some text"
        ```
        """
        return self.open_upload(**options)

    @property
    def name(self) -> str:
        """The bucket's name, the prefix of its two collections (`fs.files`, `fs.chunks`)."""
        bucket = self.asynchronous()
        return bucket.name

    def file(self, id: object) -> GridFile:
        """Return the file object of an id. Does no I/O, so the file may not exist.

        Raises:
            BadId: The id is a file object.

        ```python
        assert bucket.file(info.id).read() == b"some content"
        ```
        """
        bucket = self.asynchronous()
        return GridFile(self, bucket.file(id))

    def upload(
        self,
        source: SourceLike | Staged,
        *,
        session: Session | None = None,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> FileInfo:
        """Store all of `source` as one file.

        Args:
            source: Bytes, a str, a path (`os.PathLike`), a binary file, a response or an iterable of bytes, each
                synchronous or asynchronous, a `GridFile` (whose metadata are kept), or `Staged`. An open file is
                read from its position and not closed. A form's file, such as Starlette's `UploadFile`, is rewound.
            progress: Called with (bytes done, bytes in all or None).
            **options: Those of `UploadOptions`: filename, content_type, metadata, encoding, chunk_size (bytes), id,
                expires_at (UTC) and expires_after (seconds).

        Returns:
            The record of the stored file.

        Raises:
            BadSource: Bytes cannot be read from the source.
            BadOption: An option is wrong (`BadMetadata`, `BadId` for those).
            FileAlreadyStored: `id` is taken.
            UniqueIndexViolation: A unique index of the application's, of `filename` for example, refuses the file.
            UploadInProgress: There are chunks under `id`, and no file.
            IndexesNotAllowed: The user may not look at the indexes of an empty bucket.
            CorruptFile: The upload paused until the garbage collector removed its chunks.
            FileClosed: The transaction ended during the upload.
            OutcomeUnknown: The server did not answer. The file may be stored. After any other error it is not.

        ```python
        info = bucket.upload(b"a marmot", filename="marmot.txt", metadata={"place": "Alps"})
        assert info.length == 8
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return call("Bucket.upload", lambda: bucket.upload(source, session=session, progress=progress, **options))

    def upload_many(
        self,
        sources: Iterable[SourceLike] | Mapping[str, SourceLike],
        *,
        session: Session | None = None,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> list[FileInfo]:
        """Store each source as a file of its own. Small ones share round trips.

        All or nothing: if one of them fails, or the call is cancelled, the others are removed.

        Args:
            sources: An iterable of sources, or a mapping of filenames to sources.
            progress: Called with (bytes done of all files, None).
            **options: As for `upload`, for every file. `filename` and `id` cannot be given.

        Returns:
            The records, in the order of the sources.

        Raises:
            GridProxyError: As `upload`.

        ```python
        infos = bucket.upload_many({"one.txt": b"one", "two.txt": b"two"})
        assert [info.filename for info in infos] == ["one.txt", "two.txt"]
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return call(
            "Bucket.upload_many", lambda: bucket.upload_many(sources, session=session, progress=progress, **options)
        )

    def open_upload(
        self, *, session: Session | None = None, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> Writer:
        """Begin a new file that is written in parts.

        The file is visible after `close()`, or when the block is left without an exception.

        Args:
            session: As for `upload`.
            progress: As for `upload`.
            **options: As for `upload`.

        Raises:
            GridProxyError: As `upload`. Options are checked at the call.

        ```python
        with bucket.open_upload(filename="notes.txt") as upload:
            upload.write(b"some text")
        assert upload.info.length == 9
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return Writer(
            bucket.open_upload(session=session, progress=progress, **options), options.get("encoding", "utf-8")
        )

    def stage(
        self, source: SourceLike, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> Staged:
        """Write the chunks and no record, so that there is no file before `publish`.

        The garbage collector removes chunks that wait longer than its `older_than`.

        Args:
            source: As for `upload`.
            progress: As for `upload`.
            **options: As for `upload`.

        Raises:
            GridProxyError: As `upload`. No chunks are left then.

        ```python
        staged = bucket.stage(b"a marmot", filename="marmot.txt")
        info = bucket.publish(staged)
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return call("Bucket.stage", lambda: bucket.stage(source, progress=progress, **options))

    def publish(self, staged: Staged, *, session: Session | None = None) -> FileInfo:
        """Make a file of staged chunks. This may be repeated.

        Returns:
            The record of the file.

        Raises:
            FileClosed: The chunks were discarded.
            BadOption: They are in another bucket.
            FileAlreadyStored: Another file has the id.
            CorruptFile: Chunks are missing: the garbage collector removed them, or the file was published and deleted
                before. The other chunks are discarded then.
            OutcomeUnknown: The server did not answer. The file may be stored: publish again.

        ```python
        with client.transaction() as tx:
            bucket.publish(bucket.stage(b"a marmot"), session=tx.session)
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.publish", lambda: bucket.publish(staged, session=session))

    def discard(self, staged: Staged | object) -> None:
        """Remove staged chunks, or all chunks under an id that has no record, such as those of a crashed upload.

        An id loses all of its chunks, so an upload in progress under it fails. `collect_garbage` leaves such uploads
        alone.

        Raises:
            FileAlreadyStored: The chunks belong to a file. `delete` removes files.
            UploadInProgress: They were published in a transaction that is not over.

        ```python
        bucket.discard(bucket.stage(b"a marmot"))
        ```
        """
        bucket = self.asynchronous()
        call("Bucket.discard", lambda: bucket.discard(staged))

    def resumable(
        self,
        *,
        length: int | None = None,
        lifetime: timedelta | float = timedelta(days=1),
        options: FileOptions | None = None,
        annotations: Mapping[str, Any] | None = None,
        **upload_options: Unpack[UploadOptions],
    ) -> ResumableUpload:
        """Begin an upload in several parts, which survives the end of this process and of the server.

        Args:
            length: The length of the whole content in bytes, if it is known.
            lifetime: How long the upload may rest between two appends, as a timedelta or in seconds. After that it is
                gone, and `collect_garbage` removes it.
            options: Limits on the content: `max_size`, `content_types`, `validators` and `inspect`. Others are ignored.
            annotations: BSON values that are stored with the upload, and not with the file.
            **upload_options: As for `upload`. `chunk_size` is at most 8 MiB.

        Raises:
            GridProxyError: As `upload`.
            TooLarge: `length` is above the limit.
            BadOption: `options` has an `image`. Pictures are processed as a whole.

        ```python
        upload = bucket.resumable(filename="film.txt", length=11)
        upload.append(b"first part ")
        info = upload.finish()
        ```
        """
        bucket = self.asynchronous()
        return ResumableUpload(
            self,
            call(
                "Bucket.resumable",
                lambda: bucket.resumable(
                    length=length, lifetime=lifetime, options=options, annotations=annotations, **upload_options
                ),
            ),
            options,
        )

    def resume(self, id: object, *, options: FileOptions | None = None) -> ResumableUpload:
        """Find an upload that `resumable` began, in this process or another one.

        A finished upload is found until it expires.

        Args:
            id: Its id.
            options: Those that were given to `resumable`, if they have `validators` or `inspect`. The limits on size
                and type are stored with the upload.

        Raises:
            UploadMissing: There is no such upload, or it has expired.
            BadOption: `options` has other functions.

        ```python
        begun = bucket.resumable(filename="film.txt")
        upload = bucket.resume(begun.id)
        assert upload.offset == 0
        ```
        """
        bucket = self.asynchronous()
        return ResumableUpload(self, call("Bucket.resume", lambda: bucket.resume(id, options=options)), options)

    def copy(
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
        """Make a second file with the same bytes. What is not given stays as in the original.

        The server copies the bytes, or the client if the server has no `$merge`.

        Args:
            id: The id of the original.
            filename: The name of the copy.
            content_type: Its media type.
            metadata: All of its metadata, in place of those of the original.
            new_id: Its id. None for a new `ObjectId`.
            expires_at: When it expires, in UTC. A copy does not expire unless this or `expires_after` is given.
            expires_after: The same in seconds, or as a timedelta, from now.
            session: A session of pymongo's. It must not be in a transaction.

        Returns:
            The record of the copy.

        Raises:
            FileMissing: There is no file `id`.
            CorruptFile: Chunks are missing. No copy is made.
            FileAlreadyStored: `new_id` is taken.
            UploadInProgress: There are chunks under `new_id`, and no file.
            BadOption: An option is wrong (`BadMetadata`, `BadId` for those), or the session is in a transaction.
            OutcomeUnknown: The server did not answer. The copy may be stored.

        ```python
        twin = bucket.copy(info.id, filename="twin.txt")
        assert twin.length == info.length
        ```
        """
        bucket = self.asynchronous()
        return call(
            "Bucket.copy",
            lambda: bucket.copy(
                id,
                filename=filename,
                content_type=content_type,
                metadata=metadata,
                new_id=new_id,
                expires_at=expires_at,
                expires_after=expires_after,
                session=session,
            ),
        )

    def stream(
        self, id: object, start: int = 0, stop: int | None = None, *, session: Session | None = None
    ) -> DownloadStream:
        """Return the bytes of a file as blocks, fetched ahead in bounded memory.

        Args:
            id: The file's id.
            start: The first byte.
            stop: The byte after the last one. None, or a number beyond the end, for the end.

        Raises:
            BadOption: An offset is negative.
            FileMissing: On reading, if there is no such file or it has expired.
            CorruptFile: On reading, if the chunks do not make up the file. A stream never ends short.
            FileVanished: On reading, if the file was deleted during the download.

        ```python
        assert b"".join([block for block in bucket.stream(info.id)]) == b"some content"
        ```
        """
        bucket = self.asynchronous()
        return DownloadStream(bucket.stream(id, start, stop, session=session))

    def read(self, id: object, start: int = 0, stop: int | None = None, *, session: Session | None = None) -> bytes:
        """Return the bytes of a file from `start` to `stop`, in bytes as for `stream`.

        Raises:
            GridProxyError: As `stream`.

        ```python
        assert bucket.read(info.id, 0, 4) == b"some"
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.read", lambda: bucket.read(id, start, stop, session=session))

    def read_ranges(
        self, id: object, ranges: Sequence[tuple[int, int]], *, session: Session | None = None
    ) -> list[bytes]:
        """Return the bytes of several ranges of a file. Only the chunks that contain them are fetched, each once.

        Args:
            id: The file's id.
            ranges: Pairs of (start, stop) in bytes, `stop` exclusive. They are clipped to the file.

        Raises:
            GridProxyError: As `stream`.

        ```python
        assert bucket.read_ranges(info.id, [(0, 4), (5, 12)]) == [b"some", b"content"]
        ```
        """
        bucket = self.asynchronous()
        ranges = listed(ranges)
        return call("Bucket.read_ranges", lambda: bucket.read_ranges(id, ranges, session=session))

    def read_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, bytes]:
        """Return the contents of many files by id, without the missing ones. Small files share round trips.

        All contents are in memory at once.

        Raises:
            CorruptFile: A file's chunks do not make it up. The error names the file.
            BadId: As `stat_many`.

        ```python
        assert bucket.read_many([info.id]) == {info.id: b"some content"}
        ```
        """
        bucket = self.asynchronous()
        ids = listed(ids)
        return call("Bucket.read_many", lambda: bucket.read_many(ids, session=session))

    def stat(self, id: object, *, session: Session | None = None) -> FileInfo:
        """Return the record of a file.

        Raises:
            FileMissing: There is no such file, or it has expired.
            CorruptFile: The record is not that of a file.

        ```python
        assert bucket.stat(info.id).filename == "notes.txt"
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.stat", lambda: bucket.stat(id, session=session))

    def stat_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, FileInfo]:
        """Return the records of many files by id, in the given order, without those that are missing or expired.

        Raises:
            BadId: An id cannot be a key of a dict, because it is a dict itself.
            CorruptFile: A record is not that of a file.

        ```python
        assert list(bucket.stat_many([info.id, "missing"])) == [info.id]
        ```
        """
        bucket = self.asynchronous()
        ids = listed(ids)
        return call("Bucket.stat_many", lambda: bucket.stat_many(ids, session=session))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        batch_size: int = 0,
        session: Session | None = None,
    ) -> Iterator[FileInfo]:
        """Return an iterator of the records that match a filter. Expired files are included.

        Args:
            filter: A MongoDB query on the records, such as `{"metadata.owner": 7}`. Put values from outside into
                `{"$eq": value}` only.
            sort: A key, with a '-' before it for descending order, or pairs as pymongo accepts them.
            skip: How many files to leave out at the start.
            limit: How many files to yield at most. 0 for all.
            batch_size: How many records to fetch at once. 0 for the server's choice, which is 101 and then 16 MiB. If
                these take longer than ten minutes to use, the server forgets the search and pymongo raises
                `CursorNotFound`, so give a slow consumer small batches.

        Raises:
            CorruptFile: A record is not that of a file. The next `anext` returns the record after it.
            BadOption: `batch_size` is not a number of records.

        ```python
        found = [each.filename for each in bucket.find({"metadata.owner": 7}, sort="-uploadDate")]
        assert found == ["notes.txt"]
        ```
        """
        bucket = self.asynchronous()
        return Pulled(
            "Bucket.find",
            bucket.find(filter, sort=sort, skip=skip, limit=limit, batch_size=batch_size, session=session),
        )

    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[tuple[str, int]] | None = None,
        session: Session | None = None,
    ) -> FileInfo | None:
        """Return the first record that matches a filter, or None. Unlike `find`, it leaves expired files out.

        Args:
            filter: As for `find`.
            sort: As for `find`.

        Raises:
            CorruptFile: The record is not that of a file.

        ```python
        newest = bucket.find_one({"metadata.owner": 7}, sort="-uploadDate")
        assert newest == info
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.find_one", lambda: bucket.find_one(filter, sort=sort, session=session))

    def exists(self, filter: Mapping[str, Any], *, session: Session | None = None) -> bool:
        """Return whether a record matches a filter. Expired files do not count.

        Args:
            filter: As for `find`. For one id it is `{"_id": {"$eq": id}}`.

        Raises:
            BadOption: `filter` is not a mapping.

        ```python
        assert bucket.exists({"filename": "notes.txt"})
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.exists", lambda: bucket.exists(filter, session=session))

    def revisions(self, filename: str, *, session: Session | None = None) -> Iterator[FileInfo]:
        """Return an iterator of the records of a name, the oldest first: revision 0, 1, and so on (GridFS spec).

        Expired files are included, and `by_name` does not count them.

        Args:
            filename: The stored name.

        Raises:
            BadOption: The name is not a str, or contains NUL.
            CorruptFile: As `find`.

        ```python
        bucket.upload(b"another content", filename="notes.txt")
        assert [each.length for each in bucket.revisions("notes.txt")] == [12, 15]
        ```
        """
        bucket = self.asynchronous()
        return Pulled("Bucket.revisions", bucket.revisions(filename, session=session))

    def prune(self, filename: str, *, keep: int, session: Session | None = None) -> int:
        """Remove all revisions of a name but the newest ones.

        Expired files neither count nor are removed, which is the garbage collector's work. A revision that another
        client stores during the call stays.

        Args:
            filename: The stored name.
            keep: How many revisions stay, at least 1. `delete_by_name` removes all of them.

        Returns:
            How many files were removed, 0 also if there is no such name.

        Raises:
            BadOption: `keep` is less than 1, or the name is not a str, or contains NUL.

        ```python
        bucket.upload(b"another content", filename="notes.txt")
        assert bucket.prune("notes.txt", keep=1) == 1
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.prune", lambda: bucket.prune(filename, keep=keep, session=session))

    def by_name(self, filename: str, revision: int = -1, *, session: Session | None = None) -> GridFile:
        """Return the file of a name and revision (GridFS spec). Expired files are not counted.

        Args:
            filename: The stored name.
            revision: 0 is the oldest file of this name, 1 the next. -1 is the newest, -2 the one before.

        Raises:
            FileMissing: There is no such name or revision.
            BadOption: The name or the revision is of the wrong type.

        ```python
        assert bucket.by_name("notes.txt").id == info.id
        ```
        """
        bucket = self.asynchronous()
        return GridFile(self, call("Bucket.by_name", lambda: bucket.by_name(filename, revision, session=session)))

    def rename(self, id: object, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give one file another name.

        Returns:
            The new record.

        Raises:
            FileMissing: There is no file `id`.
            BadOption: The name is not a str, or contains NUL.

        ```python
        bucket.rename(info.id, "notes2.txt")
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.rename", lambda: bucket.rename(id, filename, session=session))

    def rename_by_name(self, filename: str, new: str, *, session: Session | None = None) -> int:
        """Give every revision of a name another name.

        Returns:
            How many files there were.

        Raises:
            FileMissing: There is no file of this name (GridFS spec).
            BadOption: A name is not a str, or contains NUL.

        ```python
        assert bucket.rename_by_name("notes.txt", "notes2.txt") == 1
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.rename_by_name", lambda: bucket.rename_by_name(filename, new, session=session))

    def update_metadata(
        self,
        id: object,
        changes: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        session: Session | None = None,
        **more: Any,
    ) -> FileInfo:
        """Set and unset keys of a file's metadata in one step.

        Args:
            id: The file's id.
            changes: Keys and their new values.
            unset: Keys to remove.
            **more: More keys and their new values.

        Returns:
            The new record.

        Raises:
            FileMissing: There is no file `id`.
            BadMetadata: A value cannot be stored, a key is given twice, or the key is `sha256`.

        ```python
        bucket.update_metadata(info.id, place="Alps", unset=["owner"])
        ```
        """
        bucket = self.asynchronous()
        unset = listed(unset)
        return call(
            "Bucket.update_metadata", lambda: bucket.update_metadata(id, changes, unset=unset, session=session, **more)
        )

    def set_expiry(self, id: object, at: datetime | None, *, session: Session | None = None) -> FileInfo:
        """Let a file, and a picture's variants, expire at another time, or never.

        Args:
            id: The file's id.
            at: The time from which on the file is missing to every read. A naive datetime is UTC. None for never.

        Returns:
            The new record.

        Raises:
            FileMissing: There is no such file, or it has expired already.
            BadOption: `at` is not a datetime.

        ```python
        from datetime import UTC, datetime, timedelta

        bucket.set_expiry(info.id, datetime.now(UTC) + timedelta(days=7))
        assert bucket.set_expiry(info.id, None).expires_at is None
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.set_expiry", lambda: bucket.set_expiry(id, at, session=session))

    def delete(self, id: object, *, session: Session | None = None) -> None:
        """Remove a file, and a picture's variants. In a transaction the chunks are removed with the commit.

        If there is no file, all chunks under the id are removed (GridFS spec), so an upload in progress under it fails.
        A file that another client stores under the id during the call stays whole.

        Raises:
            FileMissing: There is no file `id`.

        ```python
        bucket.delete(info.id)
        ```
        """
        bucket = self.asynchronous()
        call("Bucket.delete", lambda: bucket.delete(id, session=session))

    def delete_by_name(self, filename: str, *, session: Session | None = None) -> int:
        """Remove every revision of a name.

        Returns:
            How many files there were.

        Raises:
            FileMissing: There is no file of this name (GridFS spec).
            BadOption: The name is not a str, or contains NUL.

        ```python
        assert bucket.delete_by_name("notes.txt") == 1
        ```
        """
        bucket = self.asynchronous()
        return call("Bucket.delete_by_name", lambda: bucket.delete_by_name(filename, session=session))

    def delete_many(self, ids: Iterable[object], *, session: Session | None = None) -> int:
        """Remove many files by id. An id without a file is not an error, and loses its chunks as with `delete`.

        Returns:
            How many files there were.

        ```python
        assert bucket.delete_many([info.id, "missing"]) == 1
        ```
        """
        bucket = self.asynchronous()
        ids = listed(ids)
        return call("Bucket.delete_many", lambda: bucket.delete_many(ids, session=session))

    def ensure_indexes(self, *, force: bool = False) -> None:
        """Create the two indexes of the GridFS spec, if they are missing and no file is stored.

        The first upload of a client does so by itself, and an upload after each minute, unless the bucket was made with
        `indexes=False`.

        Args:
            force: Whether to look again at once, and to create them even if files are stored.

        Raises:
            IndexesNotAllowed: The user lacks the privileges `listIndexes` or `createIndex`.

        ```python
        bucket.ensure_indexes(force=True)
        ```
        """
        bucket = self.asynchronous()
        call("Bucket.ensure_indexes", lambda: bucket.ensure_indexes(force=force))

    def verify(self, id: object, *, session: Session | None = None, progress: Progress | None = None) -> FileInfo:
        """Read a file again and compare number and sizes of its chunks, and the SHA-256 if the record has one.

        Args:
            id: The file's id.
            progress: Called with (bytes done, bytes in all).

        Returns:
            The file's record.

        Raises:
            CorruptFile: The message says what is wrong.
            FileMissing: There is no file `id`.
            FileVanished: The file was deleted during the read.

        ```python
        bucket.verify(info.id)
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return call("Bucket.verify", lambda: bucket.verify(id, session=session, progress=progress))

    def check(
        self,
        *,
        references: References | None = None,
        older_than: timedelta = timedelta(0),
        progress: Progress | None = None,
    ) -> Iterator[Finding]:
        """Yield a `Finding` for everything in the bucket that is not as it should be.

        These are files whose chunks are missing or wrong by number or size (`verify` compares the bytes), expired
        files, and chunks without a file, running uploads included. With `references` also files that no document points
        to, and documents that point to no file. A picture points to its thumbnails. Memory is bounded. The check takes
        part in no transaction.

        Args:
            references: The fields of documents that hold files: `[("animals", "photo"), ("zoos", "rooms.photos")]`.
                Each is a collection's name or an `AsyncCollection`, and a dotted path through sub-documents, lists and
                maps. `*` is every key of a map.
            older_than: Leaves out younger chunks without a file, and younger unreferenced files, by the server's clock.
            progress: Called with the numbers of records and documents done, and in all.

        Raises:
            BadOption: `references` or `older_than` is wrong.

        ```python
        assert [finding for finding in bucket.check()] == []
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return Pulled(
            "Bucket.check", bucket.check(references=references, older_than=older_than, progress=progress), at_most=1
        )

    def collect_garbage(
        self,
        older_than: timedelta = timedelta(days=1),
        dry_run: bool = True,
        *,
        unreferenced: bool = False,
        references: References | None = None,
        progress: Progress | None = None,
    ) -> GarbageReport:
        """Remove chunks without a file and expired files, or report what would be removed.

        Chunks are removed if the youngest of them is older than `older_than`, by the time in its `_id`. Chunks whose
        `_id` has no time are counted and left: `discard(id)` removes them. Each decision is checked again on the
        primary before a removal, and an interrupted run can be repeated.

        An upload that sends nothing for `older_than` looks like a crashed one, and fails with `CorruptFile`.

        Args:
            older_than: At least one hour, by the server's clock.
            dry_run: Whether to report only.
            unreferenced: Whether to remove also files that were uploaded before `older_than` and that no document in
                `references` points to.
            references: As for `check`. Name every place that holds files.
            progress: As for `check`.

        Returns:
            What was removed, or would be.

        Raises:
            BadOption: `older_than` is below an hour, `unreferenced` has no references, or a reference looks mistyped
                (no such collection, or no document with the path). Nothing was removed.

        ```python
        report = bucket.collect_garbage()
        assert (report.dry_run, report.files) == (True, 0)
        ```
        """
        bucket = self.asynchronous()
        progress = in_callers_thread(progress)
        return call(
            "Bucket.collect_garbage",
            lambda: bucket.collect_garbage(
                older_than, dry_run, unreferenced=unreferenced, references=references, progress=progress
            ),
        )

    def drop(self) -> None:
        """Remove the whole bucket with its files and indexes. A missing bucket is not an error.

        ```python
        client.bucket("zoo", "old").drop()
        ```
        """
        bucket = self.asynchronous()
        call("Bucket.drop", bucket.drop)
