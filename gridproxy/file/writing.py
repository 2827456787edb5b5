"""The write side of a file: content as a whole, or a new file piece by piece."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

from gridproxy.gridfs.content.variants import without_references
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import UploadRequest
from gridproxy.gridfs.upload.sources import Source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress

from .state import FileState, HasState

F = TypeVar("F", bound=HasState)


class StoredFile(Source):
    """A stored file as the source of another upload."""

    repeatable = True
    name: str | None
    content_type: str | None
    size: int | None
    metadata: Mapping[str, Any]

    def __init__(self, stream: DownloadStream) -> None:
        self._stream = stream

    async def prepare(self) -> None:
        info = await self._stream.info()
        self.name, self.content_type, self.size = info.filename, info.content_type, info.length
        kept = {key: value for key, value in info.metadata.items() if key not in ("content_type", "sha256")}
        self.metadata = without_references(kept)

    async def read(self) -> bytes:
        return await anext(self._stream, b"")

    async def aclose(self) -> None:
        await self._stream.aclose()


async def close_writer(state: FileState) -> None:
    """End the new file that is being written, and point to it."""
    writer = state.writer
    assert writer is not None, "the caller looked for it"
    try:
        info = await writer.close()
    finally:
        state.end_writing(writer)
    # There is no await since the writer ended, so a second close() finds no writer and replaces nothing again.
    await state.replace_with(writer.upload.store, info, writer.upload.session, writer.upload.began)


async def abort_writer(state: FileState, writer: Writer, cause: BaseException | None = None) -> None:
    """Remove what was written so far."""
    try:
        await writer.abort(cause)
    finally:
        state.end_writing(writer)


class NewFile(Generic[F]):
    """What `new_file()` returns: await it, or enter it with `async with`. `as` binds the file.

    Awaiting it again has no effect.

    Raises:
        FileAlreadyStored: The file is stored already, and `replace=True` was not given.
        UploadInProgress: The file is being written.
    """

    def __init__(
        self, file: F, request: UploadRequest, replace: bool, session: Session | None, progress: Progress | None
    ) -> None:
        self._file = file
        self._request = request
        self._replace = replace
        self._session = session
        self._progress = progress
        self._writer: Writer | None = None

    async def _start(self) -> NewFile[F]:
        state = self._file.state
        if self._writer is None:
            writer = Writer(state.store(), self._request, self._session, self._progress)
            if state.id is not None and not self._replace:
                state.check_idle()
                raise state.stored_already("new_file")
            with state.exclusive("being written") as extend:
                state.enlist(writer.upload.session)
                await writer.start()
                state.writer = self._writer = writer
                extend()
        return self

    def __await__(self) -> Generator[Any, None, NewFile[F]]:
        return self._start().__await__()

    async def __aenter__(self) -> F:
        await self._start()
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The block may have closed or aborted the writer, and may have begun another one.
        state, writer = self._file.state, self._writer
        if writer is None or state.writer is not writer:
            return
        if error is None:
            await close_writer(state)
        else:
            await abort_writer(state, writer, error)
