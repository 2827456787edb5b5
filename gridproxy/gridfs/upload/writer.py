"""Writer: a new file that is written bit by bit."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterable
from types import TracebackType

from gridproxy.errors import FileClosed
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.progress import Progress

from .options import UploadRequest
from .sources import Data
from .upload import State, Upload


class Writer:
    """One new file; awaiting it or entering it starts it, and `close()` makes it visible.

    Leaving `async with` by an exception, a cancellation included, aborts it: nothing stays behind then. One that is
    dropped before its end warns with `ResourceWarning`; its chunks are left to `collect_garbage`.
    """

    def __init__(
        self,
        store: Store,
        request: UploadRequest,
        session: Session | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.upload: Upload = Upload(store, request.completed_by(None, None), session, progress)

    def __repr__(self) -> str:
        return f"<Writer of {self.upload!r}>"

    @property
    def id(self) -> object:
        """The id that the file has, or will have."""
        return self.upload.id

    @property
    def info(self) -> FileInfo | None:
        """The stored file's info; None before `close()`."""
        return self.upload.info

    @property
    def closed(self) -> bool:
        """Whether no byte can be written (any more)."""
        return self.upload.state is not State.OPEN

    async def start(self) -> Writer:
        """Begin; a second time no effect.

        Raises `FileAlreadyStored` or `UploadInProgress` for an id that is taken, `BadId`, `BadMetadata` or `BadOption`
        for what BSON does not have, or what is too large for a document.
        """
        if self.upload.state is State.NEW:
            await self.upload.start()
        return self

    def __await__(self) -> Generator[object, None, Writer]:
        return self.start().__await__()

    async def __aenter__(self) -> Writer:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self.abort(error)
        elif not self.finished:
            await self.close()

    @property
    def finished(self) -> bool:
        """Whether it came to an end, by `close()` or `abort()`."""
        return self.upload.state in (State.STORED, State.ABORTED)

    def write(self, data: Data) -> Awaitable[int]:
        """Take a copy of `data` (str is encoded) at the call, in order; awaiting applies back-pressure.

        Gives the number of bytes. Raises `BadSource`, `BufferFull` where more than 64 MiB would wait un-awaited,
        `FileClosed` where it is not open (nothing is taken then), or what a former batch failed with.
        """
        return self._open_upload().write(data)

    def writelines(self, lines: Iterable[Data]) -> Awaitable[int]:
        """Take each of them as `write` does, all or none; nothing is put between them. The bytes are counted in all."""
        return self._open_upload().writelines(lines)

    def _open_upload(self) -> Upload:
        if self.upload.state is State.NEW:
            raise FileClosed("this file is not open yet: await it, or enter it by `async with`, first")
        return self.upload

    async def close(self) -> FileInfo:
        """Send what is left and make the file visible; its info. A second time: the same info.

        Raises the first failure of any batch, `FileAlreadyStored` or `UploadInProgress` where somebody else has the id
        by now, `CorruptFile` where it paused for so long that `collect_garbage` took its chunks, and `FileClosed` where
        it is not open, or its transaction ended meanwhile; nothing is stored then. After `OutcomeUnknown` it may be.
        """
        if self.upload.info is not None:
            return self.upload.info
        return await self._open_upload().finish()

    async def abort(self, cause: BaseException | None = None) -> None:
        """Take back what was sent. After `close()`, or a second time: no effect; `FileClosed` while it is closing.

        A clean-up that fails is noted on `cause`, or raised where there is none.
        """
        await self.upload.abort(cause)
