"""Writer: a new file that is written piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any

from gridproxy.errors import FileClosed
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tracing import UPLOAD, active, start_span

from .options import UploadRequest
from .sources import Data
from .upload import State, Upload, Written


class Writer:
    """A new file that is written piece by piece. `close()` makes it visible.

    Awaiting or entering it starts the upload. An exception in `async with`, such as a cancellation, aborts it, and
    nothing is left. A writer that is dropped while open warns with `ResourceWarning`, and `collect_garbage` removes its
    chunks.

    `zipfile`, `gzip`, `io.TextIOWrapper`, `csv` and others in the standard library can write to it. They do not await
    what they write, so `await writer.flush()` after at most 64 MiB. A wrapper that is closed does not end the file.

    ```python
    async with bucket.open_upload(filename="roar.txt") as writer:
        await writer.write("roar ")
        await writer.writelines([b"roar", b"!"])
    assert writer.info.length == 10
    ```
    """

    def __init__(
        self,
        store: Store,
        request: UploadRequest,
        session: Session | None = None,
        progress: Progress | None = None,
        *,
        known_id: bool = False,
    ) -> None:
        self.upload: Upload = Upload(store, request.completed_by(None, None), session, progress, known_id=known_id)

    def __repr__(self) -> str:
        return f"<Writer of {self.upload!r}>"

    @property
    def id(self) -> object:
        """The id of the file, known before it is stored."""
        return self.upload.id

    @property
    def info(self) -> FileInfo | None:
        """The info of the stored file, with its length in bytes. None before `close()`."""
        return self.upload.info

    @property
    def closed(self) -> bool:
        """Whether `write` is refused: before the start and after the end."""
        return self.upload.state is not State.OPEN

    async def start(self) -> Writer:
        """Start the upload and return this writer. A second call has no effect.

        Raises:
            FileAlreadyStored: The id belongs to another file.
            UploadInProgress: The id has chunks of another upload.
            BadId, BadMetadata, BadOption: BSON cannot store a value, or the record is too large.
        """
        if self.upload.state is State.NEW:
            self.upload.span = start_span(UPLOAD, self.upload.store, self.upload.id)
            try:
                with active(self.upload.span):
                    await self.upload.start()
            except BaseException as error:
                self._end_span(error)
                self.upload.log_failure(error)
                raise
        return self

    def __await__(self) -> Generator[object, None, Writer]:
        return self.start().__await__()

    async def __aenter__(self) -> Writer:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self.abort(error)
        elif not self.finished:
            await self.close()

    @property
    def finished(self) -> bool:
        """Whether `close()` or `abort()` has ended the upload."""
        return self.upload.state in (State.STORED, State.ABORTED)

    def write(self, data: Data) -> Written:
        """Copy `data` at once. Awaiting the result applies back-pressure.

        Args:
            data: Bytes, or a str that is encoded with the `encoding` of the writer.

        Returns:
            The number of bytes, an int that can be awaited.

        Raises:
            BadSource: `data` is not a str or bytes-like.
            BufferFull: More than 64 MiB would be written without awaiting. A single longer write is accepted.
            FileClosed: The writer is not open.
            Exception: The error of an earlier batch.
        """
        return self._open_upload().write(data)

    def writelines(self, lines: Iterable[Data]) -> Written:
        """Write every item or none, with nothing between them. Raises the errors of `write`.

        Args:
            lines: Items that `write` accepts.

        Returns:
            The number of bytes of all items, an int that can be awaited.
        """
        return self._open_upload().writelines(lines)

    def flush(self) -> Written:
        """Return 0, which can be awaited to send what was written without awaiting.

        The last part of the file, less than a batch, is sent by `close()`.

        Raises:
            FileClosed: The writer is not open.

        ```python
        import zipfile
        async with bucket.open_upload(filename="notes.zip") as writer:
            with zipfile.ZipFile(writer, "w") as archive:
                archive.writestr("notes.txt", "some text")
                await writer.flush()
        ```
        """
        return self.write(b"")

    def readable(self) -> bool:
        """Return False, for `io`."""
        return False

    def writable(self) -> bool:
        """Return True, for `io`."""
        return True

    def seekable(self) -> bool:
        """Return False, for `io`."""
        return False

    def _open_upload(self) -> Upload:
        if self.upload.state is State.NEW:
            raise FileClosed("this writer is not started: await it or enter it with `async with` first")
        return self.upload

    def close(self) -> Coroutine[Any, Any, FileInfo]:
        """Send the rest and make the file visible. A second call returns the same info.

        Without `await` it does nothing, so that what `io` closes together with a wrapper stays open.

        Returns:
            The info of the stored file.

        Raises:
            FileAlreadyStored, UploadInProgress: Another client has used the id since the start.
            CorruptFile: `collect_garbage` removed chunks during a long pause.
            FileClosed: The writer is not open, or its transaction has ended.
            OutcomeUnknown: The server did not answer. Only after this error the file may be stored.
        """
        return _Closing(self._close)

    async def _close(self) -> FileInfo:
        if self.upload.info is not None:
            return self.upload.info
        upload = self._open_upload()
        try:
            with active(upload.span):
                info = await upload.finish()
        except BaseException as error:
            if self.finished:
                self._end_span(error)
            raise
        self._end_span()
        return info

    def _end_span(self, error: BaseException | None = None) -> None:
        if self.upload.span is not None:
            self.upload.span.end(error, size=self.upload.length)

    async def abort(self, cause: BaseException | None = None) -> None:
        """Remove what was sent. After `close()` or an earlier `abort()` this has no effect.

        Args:
            cause: The error to note a failure of the clean-up on. Without it, the failure is raised.

        Raises:
            FileClosed: The file is being closed.
        """
        try:
            with active(self.upload.span):
                await self.upload.abort(cause)
        finally:
            if self.finished:
                self._end_span(cause)


class _Closing(Coroutine[Any, Any, FileInfo]):
    """A call of `close`. It starts when it is awaited, because `io` closes what it wraps and drops the result."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, FileInfo]]) -> None:
        self._work = work
        self._running: Coroutine[Any, Any, FileInfo] | None = None

    def _started(self) -> Coroutine[Any, Any, FileInfo]:
        if self._running is None:
            self._running = self._work()
        return self._running

    def send(self, value: Any) -> Any:
        return self._started().send(value)

    def throw(self, *error: Any) -> Any:
        return self._started().throw(*error)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    def __await__(self) -> Generator[Any, Any, FileInfo]:
        return self._started().__await__()
