"""An open file of a file system, for synchronous code."""

from __future__ import annotations

import io
import sys
import warnings
from types import TracebackType
from typing import Any

from fsspec.asyn import sync
from fsspec.spec import AbstractBufferedFile

from gridproxy.gridfs.download.download import read_range
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload.options import UploadOptions
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.events import logger
from gridproxy.runtime.with_blocks import error_that_ends_block

from .cache import ChunkCache
from .paths import PROTOCOL, file_entry
from .tree import FileSystem


class GridFSFile(AbstractBufferedFile):
    """An open file. `GridFSFileSystem.open` returns it.

    A file that is read stays the same revision, also if another client overwrites the name. If its content is removed,
    reading raises `FileVanished`. A file that is written becomes visible when it is closed, and not if the `with` block
    raises an exception. A file that is dropped open warns with `ResourceWarning`, and nothing is stored.

    ```py
    with fs.open("data/notes.txt", "wb") as file:
        file.write(b"some text")
    ```
    """

    def __init__(
        self,
        fs: FileSystem,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_type: str = ChunkCache.name,
        cache_options: dict[str, Any] | None = None,
        size: int | None = None,
        *,
        record: FileInfo | None = None,
        options: UploadOptions | None = None,
        **kwargs: Any,
    ) -> None:
        self.closed: bool = True  # until the file is open, for `__del__`
        self.forced: bool = False
        self.record: FileInfo | None = record
        self._options: UploadOptions = options or {}
        self._writer: Writer | None = None
        # An exception that is handled already when the file is opened does not end the file's block.
        self._handled: BaseException | None = sys.exception()
        if record is not None:
            self._bucket: str = path.partition("/")[0]
            self._details = file_entry(self._bucket, record)
            if block_size in (None, "default"):
                block_size = record.chunk_size or None
            size = record.length
        super().__init__(
            fs, path, mode, block_size, autocommit, cache_type, cache_options, size, record=record, **kwargs
        )

    # Reading

    def _fetch_range(self, start: int, end: int) -> bytes:
        assert self.record is not None
        return bytes(sync(self.fs.loop, self._read, start, end))

    async def _read(self, start: int, end: int) -> bytes:
        # The bucket of the running loop: in a forked process it is another one than at the opening.
        record = self.record
        assert record is not None
        return await read_range(self.fs.files.bucket(self._bucket).store, record.id, start, end, info=record)

    # Writing

    def _initiate_upload(self) -> None:
        self._writer = sync(self.fs.loop, self.fs.files.open_upload, self.path, self._options)

    def _upload_chunk(self, final: bool = False) -> bool:
        sync(self.fs.loop, self._send, self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    async def _send(self, data: bytes) -> None:
        assert self._writer is not None
        await self._writer.write(data)

    def commit(self) -> None:
        """Make the file visible. `close` does so, unless the file was opened in a transaction of fsspec's."""
        writer, self._writer = self._writer, None
        if writer is not None:
            sync(self.fs.loop, self.fs.files.publish, writer, self.path)

    def discard(self) -> None:
        """Close the file without storing it."""
        self.forced = True
        self.closed = True
        writer, self._writer = self._writer, None
        if writer is not None:
            sync(self.fs.loop, writer.abort)

    def close(self) -> None:
        """Close the file. A file that was written becomes visible, unless an exception ends a `with` block."""
        if self.closed:
            return
        if self.mode == "rb":
            super().close()
            return
        if (error := error_that_ends_block(self._handled)) is not None:
            logger.warning("%s://%s was not stored, because %r ended its block", PROTOCOL, self.path, error)
            self.discard()
            return
        try:
            super().close()
        except BaseException:
            self.discard()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.mode != "rb":
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        if self.closed:
            return
        if self.mode == "rb":
            self.closed = True
            return
        self.closed = True
        warnings.warn(
            f"{PROTOCOL}://{self.path} was not closed, so it was not stored: use `with`",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        writer, loop = self._writer, self.fs.loop
        if writer is not None and loop is not None and loop.is_running():
            # Not awaited: the garbage collector may run in the loop.
            loop.call_soon_threadsafe(lambda: loop.create_task(writer.abort()))

    def __reduce__(self) -> tuple[Any, ...]:
        # The same revision is opened again, with its position.
        if self.mode != "rb":
            raise TypeError(f"{PROTOCOL}://{self.path} is open for writing and cannot be pickled")
        return _reopen, (
            self.fs,
            self.path,
            self.record,
            self.blocksize,
            self.cache.name if self.cache is not None else "none",
            self.loc,
        )


def _reopen(fs: FileSystem, path: str, record: FileInfo, block_size: int, cache_type: str, position: int) -> GridFSFile:
    file = GridFSFile(fs, path, block_size=block_size, cache_type=cache_type, record=record)
    file.seek(position)
    return file


class CompressedFile(io.RawIOBase):
    """A file that is compressed while it is written. Codecs do not close the file that they write to."""

    def __init__(self, codec: Any, file: Any) -> None:
        self._codec = codec
        self._file = file

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Compress and write bytes."""
        self._codec.write(data)
        return len(memoryview(data).cast("B"))

    def close(self) -> None:
        """End the compressed content and close the file."""
        if self.closed:
            return
        try:
            self._codec.close()
        except BaseException:
            self._file.discard()
            raise
        finally:
            super().close()
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
