"""AsyncGridFile: one object that stands for one file."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from .copying import copy_file
from .editing import rename_file, update_file
from .errors import BadOption, FileAlreadyStored, FileClosed
from .info import FileInfo
from .ledger import Memory
from .new_file import NewFile
from .options import FileOptions, UploadRequest, upload_request
from .pictures import upload_picture
from .progress import Progress
from .readable import ReadableFile
from .removal import remove_file
from .schema import file_json_schema, file_schema
from .sources import Data, Source, SourceLike, open_source
from .staging import Staged
from .store import Session, Store
from .tasks import settle
from .upload import upload_source
from .variants import named_variants, thumbnail_id
from .writer import Writer

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

__all__ = ["AsyncGridFile", "NewFile"]


class AsyncGridFile(ReadableFile):
    """One file in MongoDB GridFS: empty (false) or stored (true, `id` is not None).

    `bucket` is a `Bucket`, a bucket's name, or None for "fs"; a name is looked up in the database that `connect` (or
    `using`) gave for `alias` (None for "default"), at each operation and never before: making, copying, comparing and
    pickling need no connection. `options` say both. Raises `BadOption` for what is no bucket, `BadId` for a file in the
    place of an id. Equal are files of the same (id, bucket, alias). Unhashable, since the id changes.

    The record's fields (`length`, `metadata`, ...) are known after any put, read, stat or open, and from a snapshot;
    before that they raise `InfoNotLoaded`.

    Every method that does I/O takes `session=`; raises pymongo's own errors where the server or the network fails,
    `NotConnected` where no database is known, `BadOption` where that can have no such bucket, and `UploadInProgress`
    while this very file is being written, has assigned content that is not saved yet, or is to be changed while it
    takes part in a transaction that is another one than the call's.

    ```python
    file = AsyncGridFile()
    await file.put(b"some content", filename="notes.txt", reviewed=False)
    assert await file.read() == b"some content"
    ```
    """

    _writer: Writer | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        return file_schema(cls, FileOptions.of_field())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return file_json_schema(schema, handler)

    @property
    def closed(self) -> bool:
        """False while a new file is being written, between `new_file()` and `close()` or `abort()`."""
        return self._writer is None

    @property
    def thumbnail(self) -> AsyncGridFile:
        """A picture's thumbnail, a file of its own; an empty one where there is none."""
        info = self._known("thumbnail")
        return self._variant(thumbnail_id(info.metadata, info.extra))

    @property
    def variants(self) -> Mapping[str, AsyncGridFile]:
        """A picture's variants by their names, files of their own; empty where there are none."""
        return {name: self._variant(id) for name, id in named_variants(self._known("variants").metadata).items()}

    def _variant(self, id: object) -> AsyncGridFile:
        known = self._variants.get(repr(id))  # the same object each time: it has a position
        if not isinstance(known, AsyncGridFile):
            known = AsyncGridFile(id, bucket=self._options.bucket, alias=self._options.db_alias)
            self._variants[repr(id)] = known
        return known

    # Putting in

    async def put(
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
        **more_metadata: Any,
    ) -> FileInfo:
        """Store all of `source` as this file; its info. `content_type` and all further keywords land in `metadata`.

        `source` is bytes-like, a str (stored in `encoding`), a path (`os.PathLike`), a binary file or an iterable of
        bytes, asynchronous or not, another file, or `Staged`; what came open is read from where it stands, and not
        closed. `filename` falls back to the base name of the source's name, `content_type` to a guess by it, then to
        what the source says, `chunk_size` (bytes) to the bucket's, `id` to a new `ObjectId`. The file is missing from
        `expires_at` on (a naive datetime is UTC), or `expires_after` seconds, or a timedelta, from now. `progress` is
        called with (bytes done, bytes in all or None).

        Raises `FileAlreadyStored` on a stored file or for an `id` of one, `UploadInProgress` for an `id` with chunks
        alone, `BadSource`, `BadOption`, `BadMetadata`, `BadId`, `FileRefused` (`TooLarge`, `ContentTypeRefused`,
        `PictureRefused`), `CorruptFile` (it paused until `collect_garbage` took its chunks), `FileClosed` (its
        transaction ended meanwhile), or what the source, a validator or `progress` raised; nothing is stored then.
        After `OutcomeUnknown` it may be.
        """
        request = upload_request(
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            id=id,
            expires_at=expires_at,
            expires_after=expires_after,
            limits=self._limits(),
            more_metadata=more_metadata,
        )
        if self._id is not None:
            raise self._stored_already("put")
        return await self._put(source, request, session, progress)

    async def replace(
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
        **more_metadata: Any,
    ) -> FileInfo:
        """Store `source` as `put` does, then let go of the old file: at once, or once its document was saved.

        A failure leaves the old file untouched and this object pointing to it. Raises as `put` does on an empty file;
        where only the old file's removal failed, the error has a note that says so.
        """
        request = upload_request(
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            id=id,
            expires_at=expires_at,
            expires_after=expires_after,
            limits=self._limits(),
            more_metadata=more_metadata,
        )
        return await self._put(source, request, session, progress)

    async def _put(
        self,
        source: SourceLike | Staged,
        request: UploadRequest,
        session: Session | None,
        progress: Progress | None,
    ) -> FileInfo:
        opened: Source | Staged
        # Opened (which does no I/O) before this file is busy: it may be its own source.
        if isinstance(source, ReadableFile):
            opened = source.as_source(session)  # it may have been put in the same transaction
        else:
            opened = source if isinstance(source, Staged) else open_source(source, encoding=request.encoding)
        with self._exclusive("being put"):
            store = self._store()
            self._join(store.session_for(session))
            image = self._options.image
            if image is None:
                info = await upload_source(store, opened, request, session=session, progress=progress)
            else:
                info = await upload_picture(store, opened, request, image, session=session, progress=progress)
            await self._swap(store, info, session)
            return info

    async def _swap(self, store: Store, info: FileInfo, session: Session | None) -> None:
        """Point to the new file, then let go of the old one."""
        old = self._id
        self._point_to(info.id, info)
        if old is None or old == info.id:  # what was staged can be published again, under the same id
            return
        if self._attachment is not None:
            self._attachment.supersede(store, old)
            return
        try:
            await remove_file(store, old, session)
        except PyMongoError as error:
            error.add_note(f"The new file {info.id!r} is stored and in place; the old one {old!r} may be left.")
            raise

    def new_file(
        self,
        *,
        replace: bool = False,
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
        **more_metadata: Any,
    ) -> NewFile:
        """Begin a new file: `await file.new_file()` and later `close()`, or `async with file.new_file():`.

        The file becomes visible, and this object gets its id, at `close()`. Leaving the block by an exception or a
        cancellation aborts, and everything is as before. Raises `FileAlreadyStored` on a stored file unless told
        `replace=True`, `UploadInProgress` where one is open already, for options as `put`, `BadOption` for a picture.
        """
        if self._options.image is not None:
            raise BadOption("a picture is decoded whole and not written bit by bit: put() or replace() it")
        request = upload_request(
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            encoding=encoding,
            chunk_size=chunk_size,
            id=id,
            expires_at=expires_at,
            expires_after=expires_after,
            limits=self._limits(),
            more_metadata=more_metadata,
        )
        return NewFile(self, request, replace, session, progress)

    def write(self, data: Data) -> Awaitable[int]:
        """Take a copy of `data` (str is encoded) at the call, in order; awaiting the result applies back-pressure.

        The result is the number of bytes. Un-awaited ones are kept and sent at `close()`. Raises `FileClosed` without a
        new file, `BadSource`, `BufferFull` past 64 MiB un-awaited (nothing is taken), `TooLarge`, or the first failure
        of a former write.
        """
        return self._writing().write(data)

    def writelines(self, lines: Iterable[Data]) -> Awaitable[int]:
        """Take each of them as `write` does, all or none; nothing is put between them. The bytes are counted in all."""
        return self._writing().writelines(lines)

    def _writing(self) -> Writer:
        if self._writer is None:
            raise FileClosed("no new file is open for writing here: `await file.new_file()` first")
        return self._writer

    async def close(self) -> None:
        """End a new file: it is visible, and this object has its id, when this returns.

        Raises as `put`, the first failure of any write among it, and nothing is stored then; `FileClosed` while it is
        being closed already. Where no new file is open, the position goes back to the start.
        """
        writing = self._writer
        if writing is None:
            await self._let_go_of_reader()
            return
        try:
            info = await writing.close()
        finally:
            self._end_writing(writing)
        # Nothing was awaited since it ended: a second close() finds no writer, and swaps nothing again.
        await self._swap(writing.upload.store, info, writing.upload.session)

    async def abort(self) -> None:
        """Give a new file up, and everything is as before; without one no effect. `FileClosed` while it is closing."""
        writing = self._writer
        if writing is not None:
            try:
                await writing.abort()
            finally:
                self._end_writing(writing)

    async def _start_writing(self, writing: Writer, replace: bool) -> None:
        if self._id is not None and not replace:
            self._refuse_while_busy()
            raise self._stored_already("new_file")
        with self._exclusive("being written") as hold:
            self._join(writing.upload.session)
            await writing.start()
            self._writer = writing
            hold()

    def _end_writing(self, writing: Writer) -> None:
        if self._writer is writing and writing.finished:
            self._writer, self._busy = None, None

    def _stored_already(self, call: str) -> FileAlreadyStored:
        return FileAlreadyStored(
            self._id,
            message=f"{call}() on a field that holds the file {self._id!r}; it was left as it is. "
            "Use replace(), or new_file(replace=True)",
        )

    async def update_metadata(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        session: Session | None = None,
        **more: Any,
    ) -> FileInfo:
        """Set keys of the metadata (`changes`, and keywords) and `unset` others, in one step; the new info.

        Raises `FileMissing`, `BadMetadata` for what cannot be stored, is said twice, or is not the caller's (`sha256`).
        """
        store, id = self._readable()
        self._join(store.session_for(session))
        return self._edited(await update_file(store, id, changes, unset, more, session))

    async def rename(self, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give the stored file another name; the new info. Raises `FileMissing`, `BadOption` for what is no name."""
        store, id = self._readable()
        self._join(store.session_for(session))
        return self._edited(await rename_file(store, id, filename, session))

    def _edited(self, info: FileInfo) -> FileInfo:
        self._loaded(info.id)(info)
        return info

    async def copy(
        self,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
        **more_metadata: Any,
    ) -> AsyncGridFile:
        """A second file with the same bytes, copied inside the server; what is not given stays as it is here.

        `metadata` stands for all of the original's, keywords for single keys; `id`, `expires_at` (UTC) and
        `expires_after` (seconds) are as `put` has them, but no copy expires unless told. Raises `FileMissing`,
        `CorruptFile` (nothing is made of half a file), `FileAlreadyStored` or `UploadInProgress` where `id` is taken,
        `BadMetadata`, `BadId`, `BadOption` (inside a transaction, too), `OutcomeUnknown`.
        """
        info = await copy_file(
            *self._readable(),
            id=id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            expires_at=expires_at,
            expires_after=expires_after,
            more_metadata=more_metadata,
            session=session,
        )
        return AsyncGridFile(info.id, options=self._options, info=info)

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the file, and a picture's variants; this object is empty then. No error where there is none."""
        with self._exclusive("being deleted"):
            self._join(self._session(session))
            self._content = None
            if self._id is not None:
                # Together, since a cancellation is raised only after the removal came to its end.
                await settle(self._remove(self._store(), self._id, session))

    async def _remove(self, store: Store, id: object, session: Session | None) -> None:
        await remove_file(store, id, session)
        self._point_to(None, None)

    async def finalize(self, *, session: Session | None = None) -> None:
        """The document that holds this file was saved by hand: remove the files that it replaced. Else no effect.

        Where the document was saved in a transaction of ours, so is this called, and the files go with its commit.
        """
        if self._attachment is not None:
            through = self._session(session)
            self._join(through)
            await self._attachment.finalize(through)

    async def revert(self, *, session: Session | None = None) -> None:
        """Go back to the file that the saved document points to, and remove the new one. Unheld: no effect."""
        if self._attachment is not None:
            with self._exclusive("being reverted"):
                through = self._session(session)
                self._join(through)
                await self._attachment.revert(through)

    def _memory(self) -> Memory:
        memory = super()._memory()

        def aborted() -> None:
            memory.aborted()
            if self._writer is not None:
                self._end_writing(self._writer)  # if it is the one that was given up

        return replace(memory, aborted=aborted)
