"""An open file of a file system, for asynchronous code."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from fsspec.asyn import AbstractAsyncStreamedFile

from gridproxy.errors import FileClosed
from gridproxy.gridfs.download.reader import Reader
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload.writer import Writer

from .paths import file_entry
from .tree import FileSystem


class AsyncGridFSFile(AbstractAsyncStreamedFile):
    """An open file whose `read`, `write` and `close` are awaited. `await fs.open_async(path)` returns it.

    A file that is written becomes visible when it is closed, and not if the `async with` block raises an exception.

    ```py
    async with await fs.open_async("data/notes.txt", "wb") as file:
        await file.write(b"some text")
    ```
    """

    def __init__(
        self,
        fs: FileSystem,
        path: str,
        mode: str,
        *,
        record: FileInfo | None = None,
        reader: Reader | None = None,
        writer: Writer | None = None,
    ) -> None:
        self.closed: bool = False
        self.loc: int = 0
        self.record: FileInfo | None = record
        self._reader = reader
        self._writer = writer
        if record is not None:
            self._details = file_entry(path.partition("/")[0], record)
        super().__init__(fs, path, mode, cache_type="none", size=None if record is None else record.length)

    async def read(self, length: int | None = -1) -> bytes:
        """Return the next bytes, or all remaining ones if `length` is negative or None. Fewer only at the end."""
        if self._reader is None:
            raise FileClosed("this file is open for writing")
        await self._reader.seek(self.loc)
        data = await self._reader.read(length)
        self.loc = self._reader.tell()
        return data

    async def write(self, data: bytes) -> int:
        """Write bytes and return their number."""
        if self._writer is None:
            raise FileClosed("this file is open for reading")
        written = await self._writer.write(data)
        self.loc += written
        return written

    async def flush(self, force: bool = False) -> None:
        """Send what was written, except for the last part of the file, which `close` sends."""
        if self._writer is not None:
            await self._writer.flush()

    async def close(self) -> None:
        """Close the file. A file that was written becomes visible, and its older revisions are removed."""
        if self.closed:
            return
        self.closed = True
        if self._reader is not None:
            await self._reader.aclose()
        if self._writer is not None:
            try:
                await self.fs.files.publish(self._writer, self.path)
            except BaseException as error:
                await self._writer.abort(error)
                raise

    async def discard(self) -> None:
        """Close the file without storing it."""
        self.closed = True
        if self._writer is not None:
            await self._writer.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._writer is not None:
            self.closed = True
            await self._writer.abort(error)
        else:
            await self.close()

    def __del__(self) -> None:
        self.closed = True  # the writer warns if it is dropped open
