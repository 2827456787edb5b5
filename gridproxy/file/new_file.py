"""NewFile: what begins the writing of a new file, awaited or entered."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import UploadRequest
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress

if TYPE_CHECKING:
    from .writing import WritableFile

F = TypeVar("F", bound="WritableFile")


class NewFile(Generic[F]):
    """What `new_file()` returns: await it, or enter it; `as` binds the file.

    Begun so, it raises what `new_file()` says of a file that is stored or busy. Awaiting it again does nothing.
    """

    def __init__(
        self,
        file: F,
        request: UploadRequest,
        replace: bool,
        session: Session | None,
        progress: Progress | None,
    ) -> None:
        self._file = file
        self._request = request
        self._replace = replace
        self._session = session
        self._progress = progress
        self._writing: Writer | None = None

    async def _start(self) -> NewFile[F]:
        if self._writing is None:
            writing = Writer(self._file._store(), self._request, self._session, self._progress)
            await self._file._start_writing(writing, self._replace)
            self._writing = writing
        return self

    def __await__(self) -> Generator[Any, None, NewFile[F]]:
        return self._start().__await__()

    async def __aenter__(self) -> F:
        await self._start()
        return self._file

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The body may have closed or aborted it, and may have begun another one: that one is not ours to end.
        writing = self._writing
        if writing is None or self._file._writer is not writing:
            return
        if error is None:
            await self._file.close()
            return
        try:
            await writing.abort(error)
        finally:
            self._file._end_writing(writing)
