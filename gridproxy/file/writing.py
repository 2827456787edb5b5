"""WritableFile: the half of a file proxy that takes content, whole or bit by bit."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from pymongo.errors import PyMongoError

from gridproxy.errors import BadOption, FileAlreadyStored, FileClosed
from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.operations.pictures import upload_picture
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import Hooks
from gridproxy.gridfs.upload.options import UploadRequest, upload_request
from gridproxy.gridfs.upload.sources import Data, Source, SourceLike, open_source
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.upload import upload_source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress

from .new_file import NewFile
from .reading import ReadableFile


class WritableFile(ReadableFile):
    """A file that is put or replaced whole, or written bit by bit as a new one."""

    _writer: Writer | None = None

    @property
    def closed(self) -> bool:
        """False while a new file is being written, between `new_file()` and `close()` or `abort()`."""
        return self._writer is None

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
    ) -> NewFile[Self]:
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

    def _hooks(self) -> Hooks:
        hooks = super()._hooks()

        def on_abort() -> None:
            hooks.on_abort()
            if self._writer is not None:
                self._end_writing(self._writer)  # if it is the one that was given up

        return replace(hooks, on_abort=on_abort)
