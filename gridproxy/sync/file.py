"""The file object of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, Unpack, overload

from gridproxy import bucket as asynchronous
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.download.sinks import SinkLike
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import TransferOptions
from gridproxy.gridfs.upload.sources import Data, Source, SourceLike
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.runtime.progress import Progress

from .portal import call, in_callers_thread, listed
from .streams import DownloadStream, NewFile, Pulled, Reader


class Connected(Protocol):
    """The bucket of a file, which knows the asynchronous one of this process."""

    def asynchronous(self) -> asynchronous.Bucket:
        """Return the asynchronous bucket of this process."""


class GridFile:
    """One file in MongoDB GridFS, for code that does not await: empty (false) or stored (true).

    `Bucket.file` returns it. Each method is that of `gridproxy.AsyncGridFile`, and blocks until it is done. In the
    examples `file` is a stored file.

    ```python
    file = bucket.file(None)
    file.put(b"some content", filename="notes.txt", reviewed=False)
    assert file.read() == b"some content"
    ```
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the id changes

    def __init__(self, bucket: Connected, file: AsyncGridFile) -> None:
        self.bucket: Connected = bucket
        """The bucket that the file is in."""
        self._file = file

    def asynchronous(self) -> AsyncGridFile:
        """Return the asynchronous file of this process, which works only in the event loop of this package.

        ```python
        assert file.asynchronous().id == file.id
        ```
        """
        bucket = self.bucket.asynchronous()
        if self._file.options.bucket is not bucket:  # this process was forked
            self._file = AsyncGridFile(self._file.id, bucket=bucket, info=self._file.info)
        return self._file

    def __bool__(self) -> bool:
        return self.id is not None

    def __eq__(self, other: object) -> bool:
        return self.asynchronous() == other.asynchronous() if isinstance(other, GridFile) else NotImplemented

    def __repr__(self) -> str:
        return repr(self.asynchronous()).replace("AsyncGridFile", "gridproxy.sync.GridFile", 1)

    def __iter__(self) -> DownloadStream:
        return self.stream()

    def as_source(self, session: Session | None = None) -> Source:
        """Return the whole content as a source of another upload.

        Raises:
            FileMissing: The file is empty.

        ```python
        assert bucket.upload(file.as_source()).length == file.length
        ```
        """
        return self.asynchronous().as_source(session)

    def get(self, *, session: Session | None = None) -> Self | None:
        """Return this file with its record loaded, by MongoEngine's name, or None if it is empty.

        Raises:
            FileMissing: The file was deleted, or has expired.

        ```python
        assert bucket.file(None).get() is None
        ```
        """
        file = self.asynchronous()
        return None if call("AsyncGridFile.get", lambda: file.get(session=session)) is None else self

    @property
    def variants(self) -> Mapping[str, GridFile]:
        """A picture's variants by name, each a file of its own. Empty if there are none."""
        return {name: GridFile(self.bucket, file) for name, file in self.asynchronous().variants.items()}

    @property
    def id(self) -> object:
        """The stored file's id, or None if the file is empty."""
        file = self.asynchronous()
        return file.id

    @property
    def info(self) -> FileInfo | None:
        """The record as it was last seen, or None before the first put, read, stat or open."""
        file = self.asynchronous()
        return file.info

    @property
    def closed(self) -> bool:
        """False while a new file is being written, between `new_file()` and `close()` or `abort()`."""
        file = self.asynchronous()
        return file.closed

    @property
    def filename(self) -> str | None:
        """The stored name. None if the file has none, or is empty."""
        file = self.asynchronous()
        return file.filename

    @property
    def content_type(self) -> str | None:
        """The media type as `FileInfo.content_type` reads it, or None if the record has none."""
        file = self.asynchronous()
        return file.content_type

    @property
    def length(self) -> int:
        """The length in bytes, 0 if the file is empty."""
        file = self.asynchronous()
        return file.length

    @property
    def grid_id(self) -> object:
        """The file's id, by MongoEngine's name."""
        file = self.asynchronous()
        return file.grid_id

    @property
    def size(self) -> tuple[int, int] | None:
        """A picture's (width, height) in pixels, by MongoEngine's name, or None for other files. See `length`."""
        file = self.asynchronous()
        return file.size

    @property
    def upload_date(self) -> datetime | None:
        """The time when the upload ended, aware, in UTC. None if another writer did not store it."""
        file = self.asynchronous()
        return file.upload_date

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The stored metadata, read-only. `update_metadata` edits them."""
        file = self.asynchronous()
        return file.metadata

    @property
    def chunk_size(self) -> int | None:
        """The size of each chunk but the last, in bytes. None if the file is empty."""
        file = self.asynchronous()
        return file.chunk_size

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the content in hex, or None if it was not computed."""
        file = self.asynchronous()
        return file.sha256

    @property
    def etag(self) -> str | None:
        """A strong entity tag (RFC 9110, 8.8.3), quotes included. None if the file is empty."""
        file = self.asynchronous()
        return file.etag

    @property
    def width(self) -> int | None:
        """A picture's width in pixels, or None if the file was not stored as a picture."""
        file = self.asynchronous()
        return file.width

    @property
    def height(self) -> int | None:
        """A picture's height in pixels, or None if the file was not stored as a picture."""
        file = self.asynchronous()
        return file.height

    @property
    def format(self) -> str | None:
        """A picture's format as Pillow names it ("JPEG"), or None if the file was not stored as a picture."""
        file = self.asynchronous()
        return file.format

    @property
    def thumbnail(self) -> GridFile:
        """A picture's thumbnail, a file of its own. Empty if the picture has none."""
        file = self.asynchronous()
        return GridFile(self.bucket, file.thumbnail)

    @overload
    def put(self, source: SourceLike | Staged, **options: Unpack[TransferOptions]) -> FileInfo: ...
    @overload
    def put(self, source: SourceLike | Staged, **options: Any) -> FileInfo: ...
    def put(
        self,
        source: SourceLike | Staged,
        *,
        session: Session | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> FileInfo:
        """Store all of `source` as this file.

        Args:
            source: Bytes, a str, a path (`os.PathLike`), a binary file, a response or an iterable of bytes, each
                synchronous or asynchronous, a `GridFile` (whose metadata are kept), or `Staged`. An open file is
                read from its position and not closed. A form's file, such as Starlette's `UploadFile`, is rewound.
            session: A session of pymongo's. In a transaction only the record takes part in it.
            progress: Called with (bytes done, bytes in all or None).
            **options: Those of `UploadOptions`: filename, content_type, metadata, encoding, chunk_size (bytes), id,
                expires_at (UTC) and expires_after (seconds). Any other keyword is stored in the metadata, and so is
                `content_type`.

        Returns:
            The record of the stored file.

        Raises:
            FileAlreadyStored: This file is stored already, or `id` is taken.
            UploadInProgress: There are chunks under `id`, and no file.
            BadSource: Bytes cannot be read from the source.
            BadOption: An option is wrong (`BadMetadata`, `BadId` for those), or a keyword is almost the name of one.
            FileRefused: A limit of the field refuses the content (`TooLarge`, `ContentTypeRefused`, `PictureRefused`).
            CorruptFile: The upload paused until the garbage collector removed its chunks.
            FileClosed: The transaction ended during the upload.
            OutcomeUnknown: The server did not answer. The file may be stored. After any other error it is not.

        ```python
        file = bucket.file(None)
        info = file.put(b"a marmot", filename="marmot.txt", place="Alps")
        assert (info.length, info.metadata["place"]) == (8, "Alps")
        ```
        """
        file = self.asynchronous()
        progress = in_callers_thread(progress)
        return call("AsyncGridFile.put", lambda: file.put(source, session=session, progress=progress, **options))

    @overload
    def replace(self, source: SourceLike | Staged, **options: Unpack[TransferOptions]) -> FileInfo: ...
    @overload
    def replace(self, source: SourceLike | Staged, **options: Any) -> FileInfo: ...
    def replace(
        self,
        source: SourceLike | Staged,
        *,
        session: Session | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> FileInfo:
        """Store `source` as `put` does, then remove the old file: at once, or after the document has been saved.

        If this fails, the old file is unchanged and still this object's file. If only the removal of the old file
        fails, the error has a note that says so.

        Args:
            source: As for `put`.
            session: As for `put`, and so are `progress` and `**options`.

        Returns:
            The record of the new file.

        Raises:
            GridProxyError: As `put` on an empty file.

        ```python
        file.replace(b"another marmot", filename="marmot2.txt")
        assert file.read() == b"another marmot"
        ```
        """
        file = self.asynchronous()
        progress = in_callers_thread(progress)
        return call(
            "AsyncGridFile.replace", lambda: file.replace(source, session=session, progress=progress, **options)
        )

    @overload
    def new_file(self, *, replace: bool = False, **options: Unpack[TransferOptions]) -> NewFile[Self]: ...
    @overload
    def new_file(self, *, replace: bool = False, **options: Any) -> NewFile[Self]: ...
    def new_file(
        self, *, replace: bool = False, session: Session | None = None, progress: Progress | None = None, **options: Any
    ) -> NewFile[Self]:
        """Begin a new file: `file.new_file()` and later `close()`, or `with file.new_file():`.

        The file becomes visible, and this object gets its id, at `close()`. If the block is left by an exception, the
        new file is removed and everything is as before.

        Args:
            replace: Whether a stored file may be replaced.
            session: As for `put`, and so are `progress` and `**options`.

        Returns:
            A context manager, which need not be entered.

        Raises:
            BadOption: An option is wrong, or this is a field for pictures, which are stored as a whole.

        ```python
        with file.new_file(replace=True, filename="notes.txt"):
            file.write("some text")
        assert file.length == 9
        ```
        """
        file = self.asynchronous()
        progress = in_callers_thread(progress)
        return NewFile(self, file.new_file(replace=replace, session=session, progress=progress, **options))

    def write(self, data: Data) -> int:
        """Write `data`, and wait while the server is slow.

        Args:
            data: Bytes, or a str that is encoded (UTF-8 unless `new_file` was given another encoding).

        Returns:
            The number of bytes.

        Raises:
            FileClosed: No new file is open.
            BadSource: `data` is not bytes and not a str.
            TooLarge: The file is longer than its field allows.
            PyMongoError: An earlier write failed.

        ```python
        with file.new_file(replace=True):
            file.write(b"one")
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.write", lambda: file.write(data))

    def writelines(self, lines: Iterable[Data]) -> int:
        """Copy each item as `write` does, all or none, and nothing between them.

        Args:
            lines: An iterable of bytes and str.

        Returns:
            The number of bytes of all items.

        Raises:
            FileClosed: As `write`, and so are `BadSource` and `TooLarge`.

        ```python
        with file.new_file(replace=True):
            file.writelines(["one\\n", b"two\\n"])
        ```
        """
        file = self.asynchronous()
        lines = listed(lines)
        return call("AsyncGridFile.writelines", lambda: file.writelines(lines))

    def close(self) -> None:
        """End a new file. It is visible, and this object has its id, when this returns.

        If no new file is open, the position returns to the start.

        Raises:
            FileClosed: The file is being closed already.
            GridProxyError: As `put`, or the first failure of a write. Nothing is stored then.

        ```python
        file.new_file(replace=True)
        file.write(b"one")
        file.close()
        ```
        """
        file = self.asynchronous()
        call("AsyncGridFile.close", file.close)

    def abort(self) -> None:
        """Give up a new file, so that everything is as before. Has no effect without one.

        Raises:
            FileClosed: The file is being closed at this moment.

        ```python
        file.new_file(replace=True)
        file.abort()
        ```
        """
        file = self.asynchronous()
        call("AsyncGridFile.abort", file.abort)

    def read(self, size: int | None = -1, *, session: Session | None = None) -> bytes:
        """Return the next bytes from the position on.

        Calls take turns. `open()` gives a reader with another position.

        Args:
            size: The number of bytes. Negative or None for all the rest.

        Returns:
            At most `size` bytes, and fewer only at the end of the file.

        Raises:
            FileMissing: The file is empty, was deleted, or has expired.
            CorruptFile: The chunks do not make up the file.
            FileVanished: The file was deleted during the read.
            FileClosed: `close()` was called during the read. The position does not change then.

        ```python
        assert file.read(8) == b"a marmot"
        assert file.read() == b" and another"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.read", lambda: file.read(size, session=session))

    def readline(self, size: int | None = -1, *, session: Session | None = None) -> bytes:
        """Return the bytes up to and including the next newline, or empty bytes at the end.

        Args:
            size: The largest number of bytes to return. Negative or None for no limit.

        ```python
        assert file.readline() == b"a marmot and another"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.readline", lambda: file.readline(size, session=session))

    def readlines(self, hint: int | None = -1, *, session: Session | None = None) -> list[bytes]:
        """Return the lines from the position on, each with its newline.

        Args:
            hint: How many bytes are enough: the line that reaches this number is the last one. Negative, 0 or None for
                all lines.

        ```python
        assert file.readlines() == [b"a marmot and another"]
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.readlines", lambda: file.readlines(hint, session=session))

    def readinto(self, buffer: bytearray | memoryview | Any, *, session: Session | None = None) -> int:
        """Read the next bytes into a writable buffer and return their number, which is lower only at the end.

        Args:
            buffer: A bytearray, a memoryview, an array or another writable buffer.

        Raises:
            BadOption: `buffer` is not a writable buffer.

        ```python
        buffer = bytearray(8)
        assert (file.readinto(buffer), buffer) == (8, b"a marmot")
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.readinto", lambda: file.readinto(buffer, session=session))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict", *, session: Session | None = None) -> str:
        """Return the bytes from the position on as text. Newlines stay as they are stored.

        Args:
            encoding: The encoding of the stored bytes.
            errors: What to do with bytes that are not text in it, as for `bytes.decode`.

        Raises:
            BadOption: The encoding is not known.
            UnicodeDecodeError: The bytes are not text in this encoding.

        ```python
        assert file.read_text() == "a marmot and another"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.read_text", lambda: file.read_text(encoding, errors, session=session))

    def lines(
        self, encoding: str = "utf-8", errors: str = "strict", *, session: Session | None = None
    ) -> Iterator[str]:
        """Return an iterator of all lines as text, each with its newline as it is stored.

        It begins at the start of the file and has a position of its own, as `stream` has.

        Args:
            encoding: The encoding of the stored bytes.
            errors: What to do with bytes that are not text in it, as for `bytes.decode`.

        Raises:
            BadOption: The encoding is not known.
            FileMissing: The file is empty. Reading raises as `read`.
            UnicodeDecodeError: On iterating, if the bytes are not text in this encoding.

        ```python
        assert [line for line in file.lines()] == ["a marmot and another"]
        ```
        """
        file = self.asynchronous()
        return Pulled("AsyncGridFile.lines", file.lines(encoding, errors, session=session))

    def seek(self, offset: int, whence: int = os.SEEK_SET, *, session: Session | None = None) -> int:
        """Move the position. It may be beyond the end.

        Args:
            offset: In bytes.
            whence: From the start (0), the position (1) or the end (2), as in `io`.

        Returns:
            The new position, in bytes from the start.

        Raises:
            BadOption: The position would be before the start, or `whence` is another number.

        ```python
        file.seek(-7, 2)
        assert file.read() == b"another"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.seek", lambda: file.seek(offset, whence, session=session))

    def tell(self) -> int:
        """Return the position, in bytes from the start. It is 0 after a put, a replace and a close.

        ```python
        assert file.tell() == 0
        ```
        """
        file = self.asynchronous()
        return file.tell()

    def open(self, *, session: Session | None = None) -> Reader:
        """Return an independent reader with a position of its own.

        Raises:
            FileMissing: The file is empty. Reading raises as `read`.

        ```python
        with file.open() as reader:
            assert reader.read(8) == b"a marmot"
        ```
        """
        file = self.asynchronous()
        return Reader(file.open(session=session))

    def stream(self, start: int = 0, stop: int | None = None, *, session: Session | None = None) -> DownloadStream:
        """Return the bytes as blocks, fetched ahead in bounded memory.

        The stream is an iterator of bytes with a position of its own.

        Args:
            start: The first byte.
            stop: The byte after the last one. None, or a number beyond the end, for the end.

        Raises:
            BadOption: An offset is negative.
            FileMissing: The file is empty. Reading raises as `read`.

        ```python
        assert b"".join([block for block in file.stream(2, 8)]) == b"marmot"
        ```
        """
        file = self.asynchronous()
        return DownloadStream(file.stream(start, stop, session=session))

    def read_range(self, start: int, stop: int | None, *, session: Session | None = None) -> bytes:
        """Return the bytes from `start` to `stop`, and fetch only the chunks that contain them.

        Args:
            start: The first byte.
            stop: The byte after the last one. None, or a number beyond the end, for the end.

        Raises:
            BadOption: An offset is negative.

        ```python
        assert file.read_range(2, 8) == b"marmot"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.read_range", lambda: file.read_range(start, stop, session=session))

    def read_ranges(self, ranges: Sequence[tuple[int, int]], *, session: Session | None = None) -> list[bytes]:
        """Return the bytes of several ranges. A chunk that several of them touch is fetched once.

        Args:
            ranges: Pairs of (start, stop) in bytes, `stop` exclusive. They are clipped to the file.

        Returns:
            One bytes object for each range, in the same order.

        Raises:
            BadOption: An offset is negative.

        ```python
        assert file.read_ranges([(0, 1), (2, 8)]) == [b"a", b"marmot"]
        ```
        """
        file = self.asynchronous()
        ranges = listed(ranges)
        return call("AsyncGridFile.read_ranges", lambda: file.read_ranges(ranges, session=session))

    def save_to(self, sink: SinkLike, progress: Progress | None = None, *, session: Session | None = None) -> FileInfo:
        """Write the file to a path or to a binary file.

        A path is written under another name and then renamed, so that no half file is ever seen. A synchronous file is
        written in this thread. The stored filename is not used.

        Args:
            sink: A path, or an object with `write(data)`, synchronous or not.
            progress: Called with (bytes done, bytes in all), and awaited if it returns an awaitable.

        Raises:
            BadSource: The sink cannot be written to.
            OSError: Writing failed. A path is unchanged then, a writable may have received a part.

        ```python
        import io
        file.save_to(buffer := io.BytesIO())
        assert buffer.getvalue() == b"a marmot and another"
        ```
        """
        file = self.asynchronous()
        progress = in_callers_thread(progress)
        return call("AsyncGridFile.save_to", lambda: file.save_to(sink, progress, session=session))

    def stat(self, *, session: Session | None = None) -> FileInfo:
        """Return the record as it is now.

        Raises:
            FileMissing: The file is empty, was deleted, or has expired.
            CorruptFile: The record is not that of a file.

        ```python
        assert file.stat().length == 20
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.stat", lambda: file.stat(session=session))

    def exists(self, *, session: Session | None = None) -> bool:
        """Return whether the file is stored at this moment. An expired file is not.

        Raises:
            CorruptFile: The record is not that of a file.

        ```python
        assert file.exists()
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.exists", lambda: file.exists(session=session))

    def verify(self, *, session: Session | None = None) -> FileInfo:
        """Read the file again and compare number and sizes of its chunks, and the SHA-256 if the record has one.

        Memory is bounded.

        Raises:
            CorruptFile: The message says what is wrong.

        ```python
        file.verify()
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.verify", lambda: file.verify(session=session))

    def update_metadata(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        session: Session | None = None,
        **more: Any,
    ) -> FileInfo:
        """Set and unset keys of the metadata in one step.

        Args:
            changes: Keys and their new values.
            unset: Keys to remove.
            **more: More keys and their new values.

        Returns:
            The new record.

        Raises:
            FileMissing: The file is empty or was deleted.
            BadMetadata: A value cannot be stored, a key is given twice, or the key is `sha256`.
            ContentTypeRefused: A key names a type that the `content_types` of the field or the content refuse.

        ```python
        info = file.update_metadata(place="Alps", unset=["owner"])
        assert info.metadata["place"] == "Alps"
        ```
        """
        file = self.asynchronous()
        unset = listed(unset)
        return call(
            "AsyncGridFile.update_metadata", lambda: file.update_metadata(changes, unset=unset, session=session, **more)
        )

    def rename(self, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give the stored file another name.

        Returns:
            The new record.

        Raises:
            FileMissing: The file is empty or was deleted.
            BadOption: The name is not a str, or contains NUL.

        ```python
        assert file.rename("marmota.txt").filename == "marmota.txt"
        ```
        """
        file = self.asynchronous()
        return call("AsyncGridFile.rename", lambda: file.rename(filename, session=session))

    def copy(self, *, session: Session | None = None, **options: Any) -> GridFile:
        """Make a second file with the same bytes. The server copies them if it has `$merge`.

        Args:
            session: A session of pymongo's. It must not be in a transaction.
            **options: Those of `put` but for `encoding` and `chunk_size`. What is not given stays as in the original.
                `metadata` replaces all metadata of the original, other keywords set single keys. A copy does not expire
                unless `expires_at` (UTC) or `expires_after` (seconds) is given.

        Returns:
            The copy.

        Raises:
            FileMissing: The file is empty or was deleted.
            CorruptFile: Chunks are missing. No copy is made.
            FileAlreadyStored: `id` is taken.
            UploadInProgress: There are chunks under `id`, and no file.
            BadOption: An option is wrong, or the session is in a transaction.
            OutcomeUnknown: The server did not answer. The copy may be stored.

        ```python
        twin = file.copy(filename="twin.txt")
        assert twin.read() == file.read()
        ```
        """
        file = self.asynchronous()
        return GridFile(self.bucket, call("AsyncGridFile.copy", lambda: file.copy(session=session, **options)))

    def delete(self, *, session: Session | None = None) -> None:
        """Remove the file and a picture's variants. This object is empty then. A missing file is not an error.

        ```python
        file.delete()
        assert not file
        ```
        """
        file = self.asynchronous()
        call("AsyncGridFile.delete", lambda: file.delete(session=session))
