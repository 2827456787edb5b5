"""Bucket: GridFS itself, for services that keep ids and no file objects (GridFS spec)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Self, Unpack

from pymongo import ASCENDING, DESCENDING, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from gridproxy.errors import BadOption, FileMissing
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.download.download import Download, check_offset, load_info, read_range, read_ranges
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.download.verify import verify_file
from gridproxy.gridfs.operations.copy import copy_file
from gridproxy.gridfs.operations.delete import remove_file, remove_files
from gridproxy.gridfs.operations.find import FoundFiles
from gridproxy.gridfs.operations.many import read_many, stat_many, upload_many
from gridproxy.gridfs.operations.update import rename_file, rename_files, set_file_expiry, update_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import DEFAULT_CHUNK_SIZE, DEFAULT_NAME, Session, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.upload.options import UploadOptions, check_filename, upload_request
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.staging import Staged, discard_id, discard_staged
from gridproxy.gridfs.upload.upload import stage_source, upload_source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.capabilities import Capabilities
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.tasks import interruptible, run_to_completion
from gridproxy.upkeep.bucket_scanner import check_age
from gridproxy.upkeep.check import check_bucket
from gridproxy.upkeep.collect_garbage import collect_bucket_garbage
from gridproxy.upkeep.document_paths import References, parse_references
from gridproxy.upkeep.findings import Finding, GarbageReport


class Bucket:
    """The files of one GridFS bucket in a database of pymongo's `AsyncMongoClient`.

    Making one does no I/O. Every method that reads or writes a record accepts `session=`, a session of pymongo's. In a
    transaction only the record takes part in it. Ids are values of any type that MongoDB accepts as `_id`. Errors of
    the server and the network are pymongo's own, and `CorruptFile` is raised if a record is not that of a file.
    In the examples `info` is the record of a file in `bucket`.

    Args:
        database: A database of an `AsyncMongoClient`.
        name: The bucket's name, the prefix of its two collections.
        chunk_size: The size of each chunk but the last, in bytes: 1 to 16 MiB less 256 bytes.
        checksum: "sha256" stores the SHA-256 of the content in the metadata, None computes none.
        write_concern: Of every operation. None for that of the database.
        read_concern: Of every operation. None for that of the database.
        read_preference: Of every operation. None for that of the database.
        indexes: Whether uploads create the two indexes of GridFS if the bucket is empty. False is for users without
            the privileges `listIndexes` and `createIndex`. Then another user has to call `ensure_indexes()` once.

    Raises:
        BadOption: An argument is wrong.
        UnacknowledgedWriteConcern: With write concern 0 it could not be known whether a file is stored.

    ```python
    bucket = Bucket(client["zoo"], "uploads")
    info = await bucket.upload(b"some content", filename="notes.txt", metadata={"owner": 7})
    assert await bucket.read(info.id, 5, 12) == b"content"
    ```
    """

    def __init__(
        self,
        database: AsyncDatabase[Any],
        name: str = DEFAULT_NAME,
        *,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: Literal["sha256"] | None = "sha256",
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
        read_preference: _ServerMode | None = None,
        indexes: bool = True,
    ) -> None:
        _check_concern("write_concern", write_concern, WriteConcern, "WriteConcern('majority')")
        _check_concern("read_concern", read_concern, ReadConcern, "ReadConcern('majority')")
        _check_concern("read_preference", read_preference, _ServerMode, "ReadPreference.SECONDARY_PREFERRED")
        self.store: Store = Store(
            database,
            name,
            chunk_size=chunk_size,
            checksum=checksum,
            write_concern=write_concern,
            read_concern=read_concern,
            read_preference=read_preference,
            indexes=indexes,
        )

    @property
    def database(self) -> AsyncDatabase[Any]:
        """The database that the bucket is in."""
        return self.store.database

    @property
    def name(self) -> str:
        """The bucket's name, the prefix of its two collections (`fs.files`, `fs.chunks`)."""
        return self.store.name

    @property
    def capabilities(self) -> Capabilities:
        """What the server and the client can do, as far as it is known. All buckets of a client share it.

        `missing` holds the features that a fallback replaces, with the reason. The logger `gridproxy` reports each of
        them once, at level INFO.

        ```python
        print(bucket.capabilities)
        assert "sessions" not in bucket.capabilities.missing
        ```
        """
        return self.store.state.capabilities

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.store!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bucket):
            return NotImplemented
        return self.database == other.database and self.name == other.name

    def __hash__(self) -> int:
        return hash((self.database.name, self.name))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a connection is shared

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (
            self.name,
        )  # a connection cannot be pickled: an object that is pickled with a bucket keeps its name

    def file(self, id: object) -> AsyncGridFile:
        """Return the file object of an id. Does no I/O, so the file may not exist.

        Raises:
            BadId: The id is a file object.

        ```python
        assert await bucket.file(info.id).read() == b"some content"
        ```
        """
        return AsyncGridFile(id, bucket=self)

    # Uploads

    async def upload(
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
                synchronous or asynchronous, an `AsyncGridFile` (whose metadata are kept), or `Staged`. An open file is
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
        info = await bucket.upload(b"a marmot", filename="marmot.txt", metadata={"place": "Alps"})
        assert info.length == 8
        ```
        """
        return await upload_source(self.store, source, upload_request(**options), session=session, progress=progress)

    async def upload_many(
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
        infos = await bucket.upload_many({"one.txt": b"one", "two.txt": b"two"})
        assert [info.filename for info in infos] == ["one.txt", "two.txt"]
        ```
        """
        if single := options.keys() & {"filename", "id"}:
            raise TypeError(f"upload_many() stores several files: {min(single)}= cannot be given")
        return await upload_many(self.store, sources, upload_request(**options), session=session, progress=progress)

    def open_upload(
        self, *, session: Session | None = None, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> Writer:
        """Begin a new file that is written in parts.

        The file is visible after `close()`, or when the block is left without an exception. Awaiting the result starts
        the upload, too.

        Args:
            session: As for `upload`.
            progress: As for `upload`.
            **options: As for `upload`.

        Raises:
            GridProxyError: As `upload`. Options are checked at the call.

        ```python
        async with bucket.open_upload(filename="notes.txt") as upload:
            await upload.write(b"some text")
        assert upload.info.length == 9
        ```
        """
        return Writer(self.store, upload_request(**options), session, progress, known_id=True)

    async def stage(
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
        staged = await bucket.stage(b"a marmot", filename="marmot.txt")
        info = await bucket.publish(staged)
        ```
        """
        return await stage_source(self.store, source, upload_request(**options), progress=progress)

    async def publish(self, staged: Staged, *, session: Session | None = None) -> FileInfo:
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
        async with gridproxy.transaction(client) as tx:
            await bucket.publish(await bucket.stage(b"a marmot"), session=tx.session)
        ```
        """
        return await upload_source(self.store, staged, upload_request(), session=session)

    async def discard(self, staged: Staged | object) -> None:
        """Remove staged chunks, or all chunks under an id that has no record, such as those of a crashed upload.

        An id loses all of its chunks, so an upload in progress under it fails. `collect_garbage` leaves such uploads
        alone.

        Raises:
            FileAlreadyStored: The chunks belong to a file. `delete` removes files.
            UploadInProgress: They were published in a transaction that is not over.

        ```python
        await bucket.discard(await bucket.stage(b"a marmot"))
        ```
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
        twin = await bucket.copy(info.id, filename="twin.txt")
        assert twin.length == info.length
        ```
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

    # Downloads

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
        assert b"".join([block async for block in bucket.stream(info.id)]) == b"some content"
        ```
        """
        check_offset(start, "start")
        if stop is not None:
            check_offset(stop, "stop")
        return DownloadStream(Download(self.store, id, start, stop, session=session))

    async def read(
        self, id: object, start: int = 0, stop: int | None = None, *, session: Session | None = None
    ) -> bytes:
        """Return the bytes of a file from `start` to `stop`, in bytes as for `stream`.

        Raises:
            GridProxyError: As `stream`.

        ```python
        assert await bucket.read(info.id, 0, 4) == b"some"
        ```
        """
        return await read_range(self.store, id, start, stop, session)

    async def read_ranges(
        self, id: object, ranges: Sequence[tuple[int, int]], *, session: Session | None = None
    ) -> list[bytes]:
        """Return the bytes of several ranges of a file. Only the chunks that contain them are fetched, each once.

        Args:
            id: The file's id.
            ranges: Pairs of (start, stop) in bytes, `stop` exclusive. They are clipped to the file.

        Raises:
            GridProxyError: As `stream`.

        ```python
        assert await bucket.read_ranges(info.id, [(0, 4), (5, 12)]) == [b"some", b"content"]
        ```
        """
        return await read_ranges(self.store, id, ranges, session)

    async def read_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, bytes]:
        """Return the contents of many files by id, without the missing ones. Small files share round trips.

        All contents are in memory at once.

        Raises:
            CorruptFile: A file's chunks do not make it up. The error names the file.
            BadId: As `stat_many`.

        ```python
        assert await bucket.read_many([info.id]) == {info.id: b"some content"}
        ```
        """
        return await read_many(self.store, ids, session)

    # Records

    async def stat(self, id: object, *, session: Session | None = None) -> FileInfo:
        """Return the record of a file.

        Raises:
            FileMissing: There is no such file, or it has expired.
            CorruptFile: The record is not that of a file.

        ```python
        assert (await bucket.stat(info.id)).filename == "notes.txt"
        ```
        """
        return await load_info(self.store, id, session)

    async def stat_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, FileInfo]:
        """Return the records of many files by id, in the given order, without those that are missing or expired.

        Raises:
            BadId: An id cannot be a key of a dict, because it is a dict itself.
            CorruptFile: A record is not that of a file.

        ```python
        assert list(await bucket.stat_many([info.id, "missing"])) == [info.id]
        ```
        """
        return await stat_many(self.store, ids, session)

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        batch_size: int = 0,
        session: Session | None = None,
    ) -> AsyncIterator[FileInfo]:
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
        found = [each.filename async for each in bucket.find({"metadata.owner": 7}, sort="-uploadDate")]
        assert found == ["notes.txt"]
        ```
        """
        return FoundFiles(
            self.store,
            filter or {},
            sort=_order(sort),
            skip=skip,
            limit=limit,
            batch_size=batch_size,
            session=session,
        )

    async def find_one(
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
        newest = await bucket.find_one({"metadata.owner": 7}, sort="-uploadDate")
        assert newest == info
        ```
        """
        query = await self._unexpired(filter)
        found = FoundFiles(self.store, query, sort=_order(sort), skip=0, limit=1, batch_size=0, session=session)
        return await anext(found, None)

    async def exists(self, filter: Mapping[str, Any], *, session: Session | None = None) -> bool:
        """Return whether a record matches a filter. Expired files do not count.

        Args:
            filter: As for `find`. For one id it is `{"_id": {"$eq": id}}`.

        Raises:
            BadOption: `filter` is not a mapping.

        ```python
        assert await bucket.exists({"filename": "notes.txt"})
        ```
        """
        if not isinstance(filter, Mapping):
            raise BadOption(f"exists() takes a filter such as {{'filename': 'notes.txt'}}, not {filter!r}")
        return bool(await self.store.find_ids(await self._unexpired(filter), self.store.session_for(session), limit=1))

    async def _unexpired(self, filter: Mapping[str, Any] | None) -> dict[str, Any]:
        current = {"expires_at": {"$not": {"$lte": await server_now(self.store)}}}
        return {"$and": [filter, current]} if filter else current

    def revisions(self, filename: str, *, session: Session | None = None) -> AsyncIterator[FileInfo]:
        """Return an iterator of the records of a name, the oldest first: revision 0, 1, and so on (GridFS spec).

        Expired files are included, and `by_name` does not count them.

        Args:
            filename: The stored name.

        Raises:
            BadOption: The name is not a str, or contains NUL.
            CorruptFile: As `find`.

        ```python
        await bucket.upload(b"another content", filename="notes.txt")
        assert [each.length async for each in bucket.revisions("notes.txt")] == [12, 15]
        ```
        """
        check_filename(filename)
        return self.find({"filename": filename}, sort=_OLDEST_FIRST, session=session)

    async def prune(self, filename: str, *, keep: int, session: Session | None = None) -> int:
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
        await bucket.upload(b"another content", filename="notes.txt")
        assert await bucket.prune("notes.txt", keep=1) == 1
        ```
        """
        check_filename(filename)
        if type(keep) is not int or keep < 1:
            raise BadOption(f"keep is a number of revisions, at least 1, not {keep!r}")
        session = self.store.session_for(session)
        newest_first = [(key, DESCENDING) for key, _ in _OLDEST_FIRST]
        query = await self._unexpired({"filename": filename})
        return await remove_files(
            self.store, await self.store.find_ids(query, session, sort=newest_first, skip=keep), session
        )

    async def by_name(self, filename: str, revision: int = -1, *, session: Session | None = None) -> AsyncGridFile:
        """Return the file of a name and revision (GridFS spec). Expired files are not counted.

        Args:
            filename: The stored name.
            revision: 0 is the oldest file of this name, 1 the next. -1 is the newest, -2 the one before.

        Raises:
            FileMissing: There is no such name or revision.
            BadOption: The name or the revision is of the wrong type.

        ```python
        assert (await bucket.by_name("notes.txt")).id == info.id
        ```
        """
        check_filename(filename)
        _check_revision(revision)
        session = self.store.session_for(session)
        now = await server_now(self.store)
        async with lock(session):
            found = self.store.files.find_one(
                {"filename": filename, "expires_at": {"$not": {"$lte": now}}},
                sort=[(key, ASCENDING if revision >= 0 else DESCENDING) for key, _ in _OLDEST_FIRST],
                skip=revision if revision >= 0 else -revision - 1,
                session=session,
            )
            record = await interruptible(found)
        if record is None:
            asked = "" if revision == -1 else f" and the revision {revision}"
            raise FileMissing(message=f"no file in {self.store!r} has the name {filename!r}{asked}")
        info = FileInfo.from_record(record)
        return AsyncGridFile(info.id, bucket=self, info=info)

    async def rename(self, id: object, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give one file another name.

        Returns:
            The new record.

        Raises:
            FileMissing: There is no file `id`.
            BadOption: The name is not a str, or contains NUL.

        ```python
        await bucket.rename(info.id, "notes2.txt")
        ```
        """
        return await rename_file(self.store, id, filename, session)

    async def rename_by_name(self, filename: str, new: str, *, session: Session | None = None) -> int:
        """Give every revision of a name another name.

        Returns:
            How many files there were.

        Raises:
            FileMissing: There is no file of this name (GridFS spec).
            BadOption: A name is not a str, or contains NUL.

        ```python
        assert await bucket.rename_by_name("notes.txt", "notes2.txt") == 1
        ```
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
        await bucket.update_metadata(info.id, place="Alps", unset=["owner"])
        ```
        """
        return await update_file(self.store, id, changes, unset, more, session)

    async def set_expiry(self, id: object, at: datetime | None, *, session: Session | None = None) -> FileInfo:
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

        await bucket.set_expiry(info.id, datetime.now(UTC) + timedelta(days=7))
        assert (await bucket.set_expiry(info.id, None)).expires_at is None
        ```
        """
        return await set_file_expiry(self.store, id, at, session)

    # Removal

    async def delete(self, id: object, *, session: Session | None = None) -> None:
        """Remove a file, and a picture's variants. In a transaction the chunks are removed with the commit.

        If there is no file, all chunks under the id are removed (GridFS spec), so an upload in progress under it fails.
        A file that another client stores under the id during the call stays whole.

        Raises:
            FileMissing: There is no file `id`.

        ```python
        await bucket.delete(info.id)
        ```
        """
        if not await remove_file(self.store, id, session):
            raise FileMissing(id, bucket=self.store.description)

    async def delete_by_name(self, filename: str, *, session: Session | None = None) -> int:
        """Remove every revision of a name.

        Returns:
            How many files there were.

        Raises:
            FileMissing: There is no file of this name (GridFS spec).
            BadOption: The name is not a str, or contains NUL.

        ```python
        assert await bucket.delete_by_name("notes.txt") == 1
        ```
        """
        check_filename(filename)
        ids = await self.store.find_ids({"filename": filename}, self.store.session_for(session))
        if not ids:
            raise FileMissing(message=f"no file in {self.store!r} has the name {filename!r}")
        return await remove_files(self.store, ids, session)

    async def delete_many(self, ids: Iterable[object], *, session: Session | None = None) -> int:
        """Remove many files by id. An id without a file is not an error, and loses its chunks as with `delete`.

        Returns:
            How many files there were.

        ```python
        assert await bucket.delete_many([info.id, "missing"]) == 1
        ```
        """
        return await remove_files(self.store, ids, session)

    # The bucket as a whole

    async def ensure_indexes(self, *, force: bool = False) -> None:
        """Create the two indexes of the GridFS spec, if they are missing and no file is stored.

        The first upload of a client does so by itself, and an upload after each minute, unless the bucket was made with
        `indexes=False`.

        Args:
            force: Whether to look again at once, and to create them even if files are stored.

        Raises:
            IndexesNotAllowed: The user lacks the privileges `listIndexes` or `createIndex`.

        ```python
        await bucket.ensure_indexes(force=True)
        ```
        """
        await ensure_indexes(self.store, force=force, asked=True)

    async def verify(self, id: object, *, session: Session | None = None, progress: Progress | None = None) -> FileInfo:
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
        await bucket.verify(info.id)
        ```
        """
        return await verify_file(self.store, id, session, progress)

    def check(
        self,
        *,
        references: References | None = None,
        older_than: timedelta = timedelta(0),
        progress: Progress | None = None,
    ) -> AsyncIterator[Finding]:
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
        assert [finding async for finding in bucket.check()] == []
        ```
        """
        return check_bucket(self.store, parse_references(self.store, references), check_age(older_than), progress)

    async def collect_garbage(
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
        report = await bucket.collect_garbage()
        assert (report.dry_run, report.files) == (True, 0)
        ```
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
        """Remove the whole bucket with its files and indexes. A missing bucket is not an error.

        ```python
        await Bucket(client["zoo"], "old").drop()
        ```
        """
        await run_to_completion(self.store.drop(), client=self.store.client)


# Dates of two revisions may be equal.
_OLDEST_FIRST = (("uploadDate", ASCENDING), ("_id", ASCENDING))


def _order(sort: str | Sequence[tuple[str, int]] | None) -> Sequence[tuple[str, int]] | None:
    if not isinstance(sort, str):
        return sort
    return [(sort.removeprefix("-"), DESCENDING if sort.startswith("-") else ASCENDING)]


def _check_concern(name: str, value: object, kind: type, example: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise BadOption(f"{name} is one of pymongo's, such as {example}, and not {value!r}")


def _check_revision(revision: object) -> None:
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise BadOption(f"revision is a whole number, not {revision!r}")
