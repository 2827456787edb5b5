"""AsyncGridFile: one object that represents one file."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, overload

from gridproxy.errors import BadId, BadOption, FileClosed, FileMissing, shown
from gridproxy.gridfs.content.variants import named_variants, thumbnail_id
from gridproxy.gridfs.download.download import load_info, read_range, read_ranges
from gridproxy.gridfs.download.reader import DownloadStream, Reader, text_decoder
from gridproxy.gridfs.download.sinks import SinkLike, save
from gridproxy.gridfs.download.verify import verify_file
from gridproxy.gridfs.operations.copy import copy_file
from gridproxy.gridfs.operations.pictures import upload_picture
from gridproxy.gridfs.operations.update import rename_file, update_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.media_types import TYPE_KEYS
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.upload.content_check import check_stored
from gridproxy.gridfs.upload.options import TransferOptions, UploadRequest, split_metadata, upload_request
from gridproxy.gridfs.upload.sources import Data, Source, SourceLike, open_source
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.upload import Written, upload_source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tasks import run_to_completion

from .options import BucketLike, FileOptions
from .pydantic import apply_options_to_default, file_json_schema, file_schema
from .state import FileState, state_in
from .writing import NewFile, StoredFile, abort_writer, close_writer

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_DEFAULT_OPTIONS = FileOptions()
_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class AsyncGridFile:
    """One file in MongoDB GridFS: empty (false) or stored (true, `id` is not None).

    A file needs no connection until an operation is called: it can be made, copied, compared and pickled without one.
    The bucket is looked up on each operation. Two files are equal if id, bucket and alias are equal. A file is not
    hashable, because its id changes.

    The fields of the record (`length`, `metadata`, ...) are known after a put, read, stat or open, and from a
    snapshot. Before that they raise `InfoNotLoaded`. Those of an empty file are None, its length is 0, and its metadata
    are empty.

    Every method that does I/O accepts `session=`, a session of pymongo's. It raises pymongo's own errors if the server
    or the network fails, `NotConnected` if no database is known, `BadOption` if the database cannot have such a bucket,
    and `UploadInProgress` while the file is being written, has assigned content that is not saved, or takes part in
    another transaction than the call. Everything that reads raises as `read`. In the examples `file` is a stored file.

    Args:
        id: The id of a stored file, of any type that MongoDB accepts as `_id`. None for an empty file.
        bucket: A `Bucket`, or the name of one in the database that `connect` or `using` gave for `alias`.
            None for "fs".
        alias: The alias of the database. None for "default".
        options: Bucket, alias and the limits of a field, in place of `bucket` and `alias`.
        info: The record, if the caller has it.

    Raises:
        BadOption: `bucket` is not a bucket, or `options` was given beside `bucket` or `alias`.
        BadId: The id is a file object.

    ```python
    file = AsyncGridFile()
    await file.put(b"some content", filename="notes.txt", reviewed=False)
    assert await file.read() == b"some content"
    ```
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the way Python spells "unhashable"

    def __init__(
        self,
        id: object = None,
        *,
        bucket: BucketLike | str | None = None,
        alias: str | None = None,
        options: FileOptions | None = None,
        info: FileInfo | None = None,
    ) -> None:
        if isinstance(id, AsyncGridFile):
            raise BadId("an AsyncGridFile is not an id: pass its .id")
        if options is None:
            plain = bucket is None and alias is None
            options = _DEFAULT_OPTIONS if plain else FileOptions(bucket=bucket, db_alias=alias)
        elif bucket is not None or alias is not None:
            raise BadOption("options= names the bucket and the alias already")
        self.state: FileState = FileState(id, options, info)
        """What fields and adapters use: see `gridproxy.fields`."""

    def __bool__(self) -> bool:
        return self.state.id is not None

    def __eq__(self, other: object) -> bool:
        return self.state.key() == other.state.key() if isinstance(other, AsyncGridFile) else NotImplemented

    def __repr__(self) -> str:
        id, info = self.state.ref
        name = "" if info is None else f" {shown(info.filename)} {info.length} bytes"
        doing = f", {self.state.busy}" if self.state.busy else ""
        return f"<{type(self).__name__} {'empty' if id is None else f'id={shown(id)}'}{name}{doing}>"

    # Copies and pydantic

    def __getstate__(self) -> dict[str, Any]:
        if self.state.default_of is not None:
            apply_options_to_default(self, *self.state.default_of)
        return self.state.to_copy()

    def __setstate__(self, copied: dict[str, Any]) -> None:
        self.state = FileState.from_copy(copied)

    def __set_name__(self, owner: type, name: str) -> None:
        # pydantic copies a default for each new object and validates none. The options of the field are applied then.
        if not hasattr(owner, "__pydantic_fields_set__") or vars(owner).get(name) is not self:
            return
        default = self
        if self.state.default_of is not None:  # one object is the default of several fields
            default = type(self)(self.state.id, options=self.state.options, info=self.state.info)
            setattr(owner, name, default)
        default.state.default_of = owner, name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        plain = cls.__init__ is AsyncGridFile.__init__ and cls.__new__ is object.__new__
        return file_schema(cls, FileOptions.of_field(), plain=plain)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return file_json_schema(schema, handler)

    # What is known without I/O

    @property
    def id(self) -> object:
        """The stored file's id, or None if the file is empty."""
        return self.state.id

    @property
    def options(self) -> FileOptions:
        """The bucket, the database and the limits of this file."""
        return self.state.options

    @property
    def info(self) -> FileInfo | None:
        """The record as it was last seen, or None before the first put, read, stat or open."""
        return self.state.info

    @property
    def closed(self) -> bool:
        """False while a new file is being written, between `new_file()` and `close()` or `abort()`."""
        return self.state.writer is None

    def _record(self, field: str) -> FileInfo | None:
        """Return the record, or None for an empty file. Raises `InfoNotLoaded` for a stored file that was not read."""
        return None if self.state.id is None and self.state.info is None else self.state.known(field)

    @property
    def filename(self) -> str | None:
        """The stored name. None if the file has none, or is empty."""
        info = self._record("filename")
        return None if info is None else info.filename

    @property
    def content_type(self) -> str | None:
        """The media type as `FileInfo.content_type` reads it, or None if the record has none."""
        info = self._record("content_type")
        return None if info is None else info.content_type

    @property
    def length(self) -> int:
        """The length in bytes, 0 if the file is empty."""
        info = self._record("length")
        return 0 if info is None else info.length

    @property
    def grid_id(self) -> object:
        """The file's id, by MongoEngine's name."""
        return self.id

    @property
    def size(self) -> tuple[int, int] | None:
        """A picture's (width, height) in pixels, by MongoEngine's name, or None for other files. See `length`."""
        width, height = self.width, self.height
        return None if width is None or height is None else (width, height)

    async def get(self, *, session: Session | None = None) -> Self | None:
        """Return this file with its record loaded, by MongoEngine's name, or None if it is empty.

        Args:
            session: A session of pymongo's.

        Raises:
            FileMissing: The file was deleted, or has expired.

        ```python
        assert await AsyncGridFile().get() is None
        file = await AsyncGridFile(info.id, bucket=bucket).get()
        assert file.length == info.length
        ```
        """
        if self.state.id is None and self.state.content is None:
            return None
        await self.stat(session=session)
        return self

    @property
    def upload_date(self) -> datetime | None:
        """The time when the upload ended, aware, in UTC. None if another writer did not store it."""
        info = self._record("upload_date")
        return None if info is None else info.upload_date

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The stored metadata, read-only. `update_metadata` edits them."""
        info = self._record("metadata")
        return _NO_METADATA if info is None else info.metadata

    @property
    def chunk_size(self) -> int | None:
        """The size of each chunk but the last, in bytes. None if the file is empty."""
        info = self._record("chunk_size")
        return None if info is None else info.chunk_size

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the content in hex, or None if it was not computed."""
        info = self._record("sha256")
        return None if info is None else info.sha256

    @property
    def etag(self) -> str | None:
        """A strong entity tag (RFC 9110, 8.8.3), quotes included. None if the file is empty."""
        info = self._record("etag")
        return None if info is None else info.etag

    @property
    def width(self) -> int | None:
        """A picture's width in pixels, or None if the file was not stored as a picture."""
        width: int | None = self._measure("width")
        return width

    @property
    def height(self) -> int | None:
        """A picture's height in pixels, or None if the file was not stored as a picture."""
        height: int | None = self._measure("height")
        return height

    @property
    def format(self) -> str | None:
        """A picture's format as Pillow names it ("JPEG"), or None if the file was not stored as a picture."""
        name: str | None = self._measure("format")
        return name

    def _measure(self, measure: str) -> Any:
        info = self._record(measure)
        return None if info is None else info.metadata.get(measure, info.extra.get(measure))

    @property
    def thumbnail(self) -> AsyncGridFile:
        """A picture's thumbnail, a file of its own. Empty if the picture has none."""
        info = self._record("thumbnail")
        id = None if info is None else thumbnail_id(info.metadata, info.extra)
        # MongoEngine's thumbnails do not name their picture. Only a record has its key, never a snapshot.
        named = info is not None and info.metadata.get("thumbnail_id") is not None
        return self._variant(id, self.state.id if named else None)

    @property
    def variants(self) -> Mapping[str, AsyncGridFile]:
        """A picture's variants by name, each a file of its own. Empty if there are none."""
        info = self._record("variants")
        metadata = _NO_METADATA if info is None else info.metadata
        return {name: self._variant(id, self.state.id) for name, id in named_variants(metadata).items()}

    def _variant(self, id: object, picture: object) -> AsyncGridFile:
        known = self.state.variants.get(repr(id))  # the same object each time, because it has a position
        if not isinstance(known, AsyncGridFile):
            known = AsyncGridFile(id, bucket=self.options.bucket, alias=self.options.db_alias)
            known.state.home, known.state.picture = self.state.home, picture
            self.state.variants = {**self.state.variants, repr(id): known}
        return known

    # Writing

    @overload
    async def put(self, source: SourceLike | Staged, **options: Unpack[TransferOptions]) -> FileInfo: ...

    @overload
    async def put(self, source: SourceLike | Staged, **options: Any) -> FileInfo: ...

    async def put(
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
                synchronous or asynchronous, an `AsyncGridFile` (whose metadata are kept), or `Staged`. An open file is
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
        file = AsyncGridFile()
        info = await file.put(b"a marmot", filename="marmot.txt", place="Alps")
        assert (info.length, info.metadata["place"]) == (8, "Alps")
        ```
        """
        request = self._request(options)
        if self.state.id is not None:
            raise self.state.stored_already("put")
        return await self._store(source, request, session, progress)

    @overload
    async def replace(self, source: SourceLike | Staged, **options: Unpack[TransferOptions]) -> FileInfo: ...

    @overload
    async def replace(self, source: SourceLike | Staged, **options: Any) -> FileInfo: ...

    async def replace(
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
        await file.replace(b"another marmot", filename="marmot2.txt")
        assert await file.read() == b"another marmot"
        ```
        """
        return await self._store(source, self._request(options), session, progress)

    async def _store(
        self, source: SourceLike | Staged, request: UploadRequest, session: Session | None, progress: Progress | None
    ) -> FileInfo:
        """Store all of `source` and point to it. The old file is removed, or kept until the document was saved."""
        state = self.state
        began = time.monotonic()
        opened: Source | Staged
        # Opened (which does no I/O) before the file is busy, because the file may be its own source.
        if (other := state_in(source)) is not None:
            opened = StoredFile(other.stream(session=session))  # it may have been put in the same transaction
        else:
            opened = source if isinstance(source, Staged) else open_source(source, encoding=request.encoding)
        with state.exclusive("being put"):
            store = state.store()
            state.enlist(store.session_for(session))
            image = state.options.image
            if image is None:
                info = await upload_source(store, opened, request, session=session, progress=progress)
            else:
                info = await upload_picture(store, opened, request, image, session=session, progress=progress)
            await state.replace_with(store, info, session, began)
            return info

    def _request(self, options: dict[str, Any]) -> UploadRequest:
        known, metadata = split_metadata(options)
        return upload_request(**known, limits=self.state.limits(), more_metadata=metadata)

    @overload
    def new_file(self, *, replace: bool = False, **options: Unpack[TransferOptions]) -> NewFile[Self]: ...

    @overload
    def new_file(self, *, replace: bool = False, **options: Any) -> NewFile[Self]: ...

    def new_file(
        self,
        *,
        replace: bool = False,
        session: Session | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> NewFile[Self]:
        """Begin a new file: `await file.new_file()` and later `close()`, or `async with file.new_file():`.

        The file becomes visible, and this object gets its id, at `close()`. If the block is left by an exception or a
        cancellation, the new file is removed and everything is as before.

        Args:
            replace: Whether a stored file may be replaced.
            session: As for `put`, and so are `progress` and `**options`.

        Returns:
            An object to await or to enter. Both start the new file.

        Raises:
            BadOption: An option is wrong, or this is a field for pictures, which are stored as a whole.

        ```python
        async with file.new_file(replace=True, filename="notes.txt"):
            file.write("some text")
        assert file.length == 9
        ```
        """
        if self.options.image is not None:
            raise BadOption("a picture is decoded as a whole and cannot be written in parts: put() or replace() it")
        return NewFile(self, self._request(options), replace, session, progress)

    def write(self, data: Data) -> Written:
        """Copy `data` at the call, in order. Await the result to be held back while the server is slow.

        Args:
            data: Bytes, or a str that is encoded (UTF-8 unless `new_file` was given another encoding).

        Returns:
            The number of bytes, an int that can be awaited. Without `await` the data is kept and sent at `close()`.

        Raises:
            FileClosed: No new file is open.
            BadSource: `data` is not bytes and not a str.
            BufferFull: More than 64 MiB would wait without being awaited. Nothing was taken. A single longer write is
                taken.
            TooLarge: The file is longer than its field allows.
            PyMongoError: An earlier write failed.

        ```python
        async with file.new_file(replace=True):
            await file.write(b"one")
        ```
        """
        return self._open_writer().write(data)

    def writelines(self, lines: Iterable[Data]) -> Written:
        """Copy each item as `write` does, all or none, and nothing between them.

        Args:
            lines: An iterable of bytes and str.

        Returns:
            The number of bytes of all items, an int that can be awaited.

        Raises:
            FileClosed: As `write`, and so are `BadSource`, `BufferFull` and `TooLarge`.

        ```python
        async with file.new_file(replace=True):
            await file.writelines(["one\\n", b"two\\n"])
        ```
        """
        return self._open_writer().writelines(lines)

    def _open_writer(self) -> Writer:
        if self.state.writer is None:
            raise FileClosed("no new file is open for writing here: `await file.new_file()` first")
        return self.state.writer

    async def close(self) -> None:
        """End a new file. It is visible, and this object has its id, when this returns.

        If no new file is open, the position returns to the start.

        Raises:
            FileClosed: The file is being closed already.
            GridProxyError: As `put`, or the first failure of a write. Nothing is stored then.

        ```python
        await file.new_file(replace=True)
        await file.write(b"one")
        await file.close()
        ```
        """
        if self.state.writer is not None:
            await close_writer(self.state)
            return
        reader, self.state.reader = self.state.reader, None
        if reader is not None:
            await reader.aclose()

    async def abort(self) -> None:
        """Give up a new file, so that everything is as before. Has no effect without one.

        Raises:
            FileClosed: The file is being closed at this moment.

        ```python
        await file.new_file(replace=True)
        await file.abort()
        ```
        """
        if self.state.writer is not None:
            await abort_writer(self.state, self.state.writer)

    # Reading

    async def read(self, size: int | None = -1, *, session: Session | None = None) -> bytes:
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
        assert await file.read(8) == b"a marmot"
        assert await file.read() == b" and another"
        ```
        """
        return await self.state.positioned_reader(session).read(size)

    async def readline(self, size: int | None = -1, *, session: Session | None = None) -> bytes:
        """Return the bytes up to and including the next newline, or empty bytes at the end.

        Args:
            size: The largest number of bytes to return. Negative or None for no limit.

        ```python
        assert await file.readline() == b"a marmot and another"
        ```
        """
        return await self.state.positioned_reader(session).readline(size)

    async def readlines(self, hint: int | None = -1, *, session: Session | None = None) -> list[bytes]:
        """Return the lines from the position on, each with its newline.

        Args:
            hint: How many bytes are enough: the line that reaches this number is the last one. Negative, 0 or None for
                all lines.

        ```python
        assert await file.readlines() == [b"a marmot and another"]
        ```
        """
        return await self.state.positioned_reader(session).readlines(hint)

    async def readinto(self, buffer: bytearray | memoryview | Any, *, session: Session | None = None) -> int:
        """Read the next bytes into a writable buffer and return their number, which is lower only at the end.

        Args:
            buffer: A bytearray, a memoryview, an array or another writable buffer.

        Raises:
            BadOption: `buffer` is not a writable buffer.

        ```python
        buffer = bytearray(8)
        assert (await file.readinto(buffer), buffer) == (8, b"a marmot")
        ```
        """
        return await self.state.positioned_reader(session).readinto(buffer)

    async def read_text(
        self, encoding: str = "utf-8", errors: str = "strict", *, session: Session | None = None
    ) -> str:
        """Return the bytes from the position on as text. Newlines stay as they are stored.

        Args:
            encoding: The encoding of the stored bytes.
            errors: What to do with bytes that are not text in it, as for `bytes.decode`.

        Raises:
            BadOption: The encoding is not known.
            UnicodeDecodeError: The bytes are not text in this encoding.

        ```python
        assert await file.read_text() == "a marmot and another"
        ```
        """
        text_decoder(encoding, errors)  # an unknown one is refused before the file is looked at
        return await self.state.positioned_reader(session).read_text(encoding, errors)

    def lines(
        self, encoding: str = "utf-8", errors: str = "strict", *, session: Session | None = None
    ) -> AsyncIterator[str]:
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
        assert [line async for line in file.lines()] == ["a marmot and another"]
        ```
        """
        return self.open(session=session).lines(encoding, errors)

    async def seek(self, offset: int, whence: int = os.SEEK_SET, *, session: Session | None = None) -> int:
        """Move the position. It may be beyond the end.

        Args:
            offset: In bytes.
            whence: From the start (0), the position (1) or the end (2), as in `io`.

        Returns:
            The new position, in bytes from the start.

        Raises:
            BadOption: The position would be before the start, or `whence` is another number.

        ```python
        await file.seek(-7, 2)
        assert await file.read() == b"another"
        ```
        """
        return await self.state.positioned_reader(session).seek(offset, whence)

    def tell(self) -> int:
        """Return the position, in bytes from the start. It is 0 after a put, a replace and a close.

        ```python
        assert file.tell() == 0
        ```
        """
        return 0 if self.state.reader is None else self.state.reader.tell()

    def open(self, *, session: Session | None = None) -> Reader:
        """Return an independent reader with a position of its own.

        Raises:
            FileMissing: The file is empty. Reading raises as `read`.

        ```python
        async with file.open() as reader:
            assert await reader.read(8) == b"a marmot"
        ```
        """
        return self.state.new_reader(*self.state.require_stored(), session)

    def stream(self, start: int = 0, stop: int | None = None, *, session: Session | None = None) -> DownloadStream:
        """Return the bytes as blocks, fetched ahead in bounded memory.

        The stream is an async iterator of bytes and an `anyio.abc.ByteReceiveStream`, with a position of its own.

        Args:
            start: The first byte.
            stop: The byte after the last one. None, or a number beyond the end, for the end.

        Raises:
            BadOption: An offset is negative.
            FileMissing: The file is empty. Reading raises as `read`.

        ```python
        assert b"".join([block async for block in file.stream(2, 8)]) == b"marmot"
        ```
        """
        return self.state.stream(start, stop, session=session)

    def __aiter__(self) -> DownloadStream:
        return self.stream()

    async def read_range(self, start: int, stop: int | None, *, session: Session | None = None) -> bytes:
        """Return the bytes from `start` to `stop`, and fetch only the chunks that contain them.

        Args:
            start: The first byte.
            stop: The byte after the last one. None, or a number beyond the end, for the end.

        Raises:
            BadOption: An offset is negative.

        ```python
        assert await file.read_range(2, 8) == b"marmot"
        ```
        """
        store, id = self.state.require_stored()
        on_info = self.state.on_info(store, id, store.session_for(session))
        return await read_range(store, id, start, stop, session, self.state.chunk_size_hint, on_info)

    async def read_ranges(self, ranges: Sequence[tuple[int, int]], *, session: Session | None = None) -> list[bytes]:
        """Return the bytes of several ranges. A chunk that several of them touch is fetched once.

        Args:
            ranges: Pairs of (start, stop) in bytes, `stop` exclusive. They are clipped to the file.

        Returns:
            One bytes object for each range, in the same order.

        Raises:
            BadOption: An offset is negative.

        ```python
        assert await file.read_ranges([(0, 1), (2, 8)]) == [b"a", b"marmot"]
        ```
        """
        return await read_ranges(*self.state.require_stored(), ranges, session)

    async def save_to(
        self, sink: SinkLike, progress: Progress | None = None, *, session: Session | None = None
    ) -> FileInfo:
        """Write the file to a path or to a binary file.

        A path is written under another name and then renamed, so that no half file is ever seen. A synchronous file is
        written in a worker thread. The stored filename is not used.

        Args:
            sink: A path, or an object with `write(data)`, synchronous or not.
            progress: Called with (bytes done, bytes in all), and awaited if it returns an awaitable.

        Raises:
            BadSource: The sink cannot be written to.
            OSError: Writing failed. A path is unchanged then, a writable may have received a part.

        ```python
        import io
        await file.save_to(buffer := io.BytesIO())
        assert buffer.getvalue() == b"a marmot and another"
        ```
        """
        async with self.state.stream(session=session) as stream:
            info = await stream.info()
            await save(stream, sink, info.length, progress)
        return info

    def as_source(self, session: Session | None = None) -> Source:
        """Return the whole content as a source of another upload.

        Raises:
            FileMissing: The file is empty.

        ```python
        await AsyncGridFile().put(file.as_source())
        ```
        """
        return StoredFile(self.state.stream(session=session))

    async def stat(self, *, session: Session | None = None) -> FileInfo:
        """Return the record as it is now.

        Raises:
            FileMissing: The file is empty, was deleted, or has expired.
            CorruptFile: The record is not that of a file.

        ```python
        assert (await file.stat()).length == 20
        ```
        """
        store, id = self.state.require_stored()
        keep = self.state.on_info(store, id, store.session_for(session))
        info = await load_info(store, id, session)
        keep(info)
        return info

    async def exists(self, *, session: Session | None = None) -> bool:
        """Return whether the file is stored at this moment. An expired file is not.

        Raises:
            CorruptFile: The record is not that of a file.

        ```python
        assert await file.exists()
        ```
        """
        if self.state.id is None:
            return False
        try:
            await self.stat(session=session)
        except FileMissing:
            return False
        return True

    async def verify(self, *, session: Session | None = None) -> FileInfo:
        """Read the file again and compare number and sizes of its chunks, and the SHA-256 if the record has one.

        Memory is bounded.

        Raises:
            CorruptFile: The message says what is wrong.

        ```python
        await file.verify()
        ```
        """
        store, id = self.state.require_stored()
        keep = self.state.on_info(store, id, store.session_for(session))
        info = await verify_file(store, id, session)
        keep(info)
        return info

    # Changing a stored file

    async def update_metadata(
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
        info = await file.update_metadata(place="Alps", unset=["owner"])
        assert info.metadata["place"] == "Alps"
        ```
        """
        store, id = self.state.require_stored()
        self.state.enlist(store.session_for(session))
        unset = unset if isinstance(unset, str | bytes) else list(unset)
        if isinstance(changes, Mapping | None):  # update_file refuses others
            await self._check_retyped({**(changes or {}), **more}, unset, session)
        return self._edited(store, await update_file(store, id, changes, unset, more, session))

    async def _check_retyped(
        self, changes: Mapping[str, Any], unset: Iterable[object] = (), session: Session | None = None
    ) -> None:
        """Check a new type against the content, if the field has checked the old one."""
        limits = self.state.limits()
        if limits.content_types is None or TYPE_KEYS.isdisjoint([*changes, *unset]):
            return
        store, id = self.state.require_stored()
        info = await load_info(store, id, session)
        metadata = {key: value for key, value in {**info.metadata, **changes}.items() if key not in unset}
        await check_stored(store, replace(info, metadata=metadata), limits)

    async def rename(self, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give the stored file another name.

        Returns:
            The new record.

        Raises:
            FileMissing: The file is empty or was deleted.
            BadOption: The name is not a str, or contains NUL.

        ```python
        assert (await file.rename("marmota.txt")).filename == "marmota.txt"
        ```
        """
        store, id = self.state.require_stored()
        self.state.enlist(store.session_for(session))
        return self._edited(store, await rename_file(store, id, filename, session))

    def _edited(self, store: Store, info: FileInfo) -> FileInfo:
        self.state.on_info(store, info.id)(info)
        return info

    async def copy(self, *, session: Session | None = None, **options: Any) -> AsyncGridFile:
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
        twin = await file.copy(filename="twin.txt")
        assert await twin.read() == await file.read()
        ```
        """
        known: dict[str, Any]
        known, metadata = split_metadata(options)  # type: ignore[assignment]  # a TypedDict is a dict
        if fixed := known.keys() & {"chunk_size", "encoding"}:
            raise BadOption(f"copy() keeps the chunks of the original: {min(fixed)}= cannot be given")
        given = known.get("metadata")
        named = {**(given if isinstance(given, Mapping) else {}), **metadata}
        if known.get("content_type") is not None:
            named["content_type"] = known["content_type"]
        await self._check_retyped(named, session=session)
        store, id = self.state.require_stored()
        info = await copy_file(store, id, **known, more_metadata=metadata, session=session)
        copied = AsyncGridFile(info.id, options=self.options, info=info)
        copied.state.home = store.origin
        return copied

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the file and a picture's variants. This object is empty then. A missing file is not an error.

        ```python
        await file.delete()
        assert not file
        ```
        """
        state = self.state
        with state.exclusive("being deleted"):
            state.enlist(state.session_for(session))
            state.content = None
            if state.id is not None:
                # As one step, because a cancellation is raised only after the removal has ended.
                store = state.store()
                await run_to_completion(state.remove(store, state.id, session), client=store.client)

    async def finalize(self, *, session: Session | None = None) -> None:
        """Remove the files that this one replaced, because the caller has saved the document that holds it.

        Has no effect if no document holds the file. If the document was saved in a transaction of this package, pass
        its session, and the files are removed with the commit.

        ```python
        await file.finalize()
        ```
        """
        if self.state.attachment is not None:
            through = self.state.session_for(session)
            self.state.enlist(through)
            await self.state.attachment.saved(self.state.ref, (), through)

    async def revert(self, *, session: Session | None = None) -> None:
        """Point to the saved document's file again, and remove the new one.

        Has no effect if no document holds the file.

        ```python
        await file.revert()
        ```
        """
        if self.state.attachment is not None:
            with self.state.exclusive("being reverted"):
                through = self.state.session_for(session)
                self.state.enlist(through)
                await self.state.attachment.revert(self.state, through)
