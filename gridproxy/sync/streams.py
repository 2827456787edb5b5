"""What blocking code iterates over, reads and writes."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Self, TypeVar

from gridproxy.errors import BadOption, FileClosed
from gridproxy.file import writing
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.download import reader as download
from gridproxy.gridfs.download.download import check_offset
from gridproxy.gridfs.records.chunks import Block
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload import writer as upload
from gridproxy.gridfs.upload.sources import Data, as_bytes
from gridproxy.runtime.with_blocks import error_that_ends_block

from .portal import current_portal

if TYPE_CHECKING:

    class RawFile(io.RawIOBase, BinaryIO):
        """A raw binary file, which checkers accept wherever a file is accepted."""

        def __enter__(self) -> Self: ...
        def write(self, data: Any, /) -> int: ...

else:
    RawFile = io.RawIOBase

T = TypeVar("T")
F = TypeVar("F")

# Each change of threads takes about 50 microseconds, so one change is for several items: at most this many items or
# bytes, and no item that takes longer than this many seconds.
_ITEMS = 64
_BYTES = 1024 * 1024
_SECONDS = 0.001


class Pulled(Iterator[T]):
    """A blocking iterator over an asynchronous one. `name` is the asynchronous call."""

    goes_on: ClassVar[bool] = False
    """Whether the asynchronous iterator can be used after a call of it was cancelled."""

    def __init__(self, name: str, items: AsyncIterator[T], at_most: int = _ITEMS) -> None:
        self._portal = current_portal()
        self._name = name
        self._items = items
        self._at_most = at_most
        self._ready: deque[T] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._interrupted = False

    def __next__(self) -> T:
        while not self._ready:
            if self._interrupted and not self.goes_on:
                raise FileClosed(f"this iterator of {self._name} was interrupted: begin again")
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._ended:
                raise StopIteration
            self._portal.call(self._name, self._pull)
        return self._ready.popleft()

    async def _pull(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + _SECONDS
        try:
            while len(self._ready) < self._at_most and (not self._ready or clock() < until):
                self._ready.append(await anext(self._items))
        except StopAsyncIteration:
            self._ended = True
        except asyncio.CancelledError:
            self._interrupted = True  # it would end short
            raise
        except Exception as error:  # noqa: BLE001  # raised after the items before it
            self._error = error


class DownloadStream(Pulled[bytes]):
    """The bytes of a stored file as an iterator of blocks, each of at most one chunk, fetched ahead in bounded memory.

    Leaving the `with` block or `close()` ends the fetching. It never ends early without an error.

    Raises:
        FileMissing: The file does not exist or has expired.
        CorruptFile: The stored chunks do not match the record.
        FileVanished: The file was deleted during the download.

    ```python
    with bucket.stream(info.id) as stream:
        assert b"".join(stream) == b"some content"
    ```
    """

    goes_on = True

    def __init__(self, stream: download.DownloadStream) -> None:
        super().__init__("Bucket.stream", stream, at_most=16)
        self._stream = stream

    def info(self) -> FileInfo:
        """Return the record of the file, which is fetched together with the first bytes.

        ```python
        with bucket.stream(info.id) as stream:
            assert stream.info().length == 12
        ```
        """
        return self._portal.call("DownloadStream.info", self._stream.info)

    def close(self) -> None:
        """End the fetching. The stream yields nothing more.

        ```python
        bucket.stream(info.id).close()
        ```
        """
        self._ended = True
        self._ready.clear()
        self._portal.later(self._stream.aclose)  # it may be the destructor of a generator that closes the stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader(RawFile):
    """A stored file that is open for reading: a binary file of the standard library, with a position of its own.

    `io.TextIOWrapper`, `csv`, `zipfile`, `tarfile`, Pillow and pandas read it. Opening it fetches the record and the
    first bytes. A file that is opened stays the same file. It is for one thread at a time.

    Raises:
        FileMissing: The file does not exist or has expired.
        CorruptFile: The stored chunks do not match the record.
        FileVanished: The file was deleted while it was read.
        FileClosed: The reader was closed.

    ```python
    import csv, io
    with bucket.open(info.id) as reader, io.TextIOWrapper(reader) as text:
        assert list(csv.reader(text)) == [["some content"]]
    ```
    """

    def __init__(self, reader: download.Reader) -> None:
        self._portal = current_portal()
        self._reader = reader
        self._position = 0
        self._block: Block | None = None  # fetched bytes
        self._portal.call("AsyncGridFile.open", lambda: reader)

    def __repr__(self) -> str:
        return f"<gridproxy.sync.Reader of {self._reader.id!r}: {'closed' if self.closed else f'at {self._position}'}>"

    @property
    def info(self) -> FileInfo:
        """The file's record."""
        info = self._reader.info
        assert info is not None, "it was fetched at the opening"
        return info

    @property
    def name(self) -> str:
        """The stored name, for `io` and `tarfile`. Empty if the file has none."""
        return self.info.filename or ""

    @property
    def mode(self) -> str:
        """`rb`, as that of files."""
        return "rb"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes from the start.

        ```python
        assert bucket.open(info.id).tell() == 0
        ```
        """
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position and return it, in bytes from the start. Does no I/O.

        Args:
            offset: A number of bytes. The new position may be after the end of the file.
            whence: 0, 1 or 2 for an offset from the start, the position or the end, as in `io`.

        Raises:
            BadOption: The new position is before the start, or `whence` is not valid.

        ```python
        with bucket.open(info.id) as reader:
            assert reader.seek(-7, 2) == 5
        ```
        """
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.info.length}
        if whence not in bases:
            raise BadOption(f"whence is 0 (start), 1 (position) or 2 (end), not {whence!r}")
        self._position = check_offset(bases[whence] + offset, "the position")
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, or all remaining ones if `size` is negative or None. Fewer only at the end.

        ```python
        with bucket.open(info.id) as reader:
            assert reader.read(4) == b"some"
        ```
        """
        self._check_open()
        data = None if size is None or size < 0 else self._fetched(size)
        if data is None:
            data = self._fetch("Reader.read", partial(self._reader.read, size))
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all remaining bytes."""
        return self.read()

    def readinto(self, buffer: bytearray | memoryview | Any, /) -> int:
        """Read the next bytes into a writable buffer and return their number, which is lower only at the end."""
        with memoryview(buffer).cast("B") as view:
            data = self.read(len(view))
            view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and including the next newline, or all remaining ones. Empty at the end.

        Args:
            size: The largest number of bytes to return. Negative or None for no limit.

        ```python
        with bucket.open(info.id) as reader:
            assert list(reader) == [b"some content"]
        ```
        """
        self._check_open()
        line = self._fetched_line(size)
        if not line:
            line = self._fetch("Reader.readline", partial(self._reader.readline, size))
        self._position += len(line)
        return line

    def _fetch(self, name: str, read: Callable[[], Awaitable[bytes]]) -> bytes:
        async def reading() -> bytes:
            await self._reader.seek(self._position)
            data = await read()
            self._block = self._reader.block  # for the next reads, which are often small
            return data

        return self._portal.call(name, reading)

    def _fetched(self, size: int) -> bytes | None:
        """Return `size` bytes from the position on, or None if they are not in the fetched block."""
        block, position = self._block, self._position
        if block is None or not block.offset <= position < block.end or size > block.end - position:
            return None
        pieces, at = block.pieces_from(position)
        if at + size <= len(pieces[0]):
            return pieces[0][at : at + size]
        with memoryview(b"".join(pieces[: 2 + (at + size) // len(pieces[0])])) as joined:
            return bytes(joined[at : at + size])

    def _fetched_line(self, size: int | None) -> bytes:
        """Return the next line if it is in one piece of the fetched block and short enough, else nothing."""
        block, position = self._block, self._position
        if block is None or not block.offset <= position < block.end:
            return b""
        pieces, at = block.pieces_from(position)
        end = pieces[0].find(b"\n", at) + 1
        return pieces[0][at:end] if size is None or size < 0 or end - at <= size else b""

    def close(self) -> None:
        """Close the reader and drop its fetched bytes.

        ```python
        bucket.open(info.id).close()
        ```
        """
        if not self.closed:
            super().close()
            self._block = None
            self._portal.later(self._reader.aclose)  # it may be the garbage collector that closes a file

    def _check_open(self) -> None:
        if self.closed:
            raise FileClosed(f"the reader of the file {self._reader.id!r} is closed: open() another one")


class Writer(RawFile):
    """A new file that is open for writing: a binary file of the standard library. `close()` makes it visible.

    `io.TextIOWrapper`, `csv`, `zipfile`, `tarfile`, Pillow and pandas write to it. Closing a wrapper closes the file.
    If an exception ends the `with` block of the file or of a wrapper, the file is not stored. A writer that is dropped
    while it is open warns with `ResourceWarning`, and nothing is stored. It is for one thread at a time.

    ```python
    with bucket.create(filename="roar.txt") as writer:
        writer.write(b"roar!")
    assert writer.info.length == 5
    ```
    """

    def __init__(self, writer: upload.Writer, encoding: str = "utf-8") -> None:
        self._portal = current_portal()
        self._writer = writer
        self._encoding = encoding
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written = 0
        self._known = sys.exception()
        try:
            self._portal.call("Bucket.open_upload", lambda: writer)
        except BaseException:
            super().close()
            raise

    def __repr__(self) -> str:
        return f"<gridproxy.sync.Writer {self._writer!r}>"

    @property
    def id(self) -> object:
        """The id of the file, known before it is stored."""
        return self._writer.id

    @property
    def info(self) -> FileInfo | None:
        """The info of the stored file, with its length in bytes. None before `close()`."""
        return self._writer.info

    @property
    def name(self) -> str:
        """The name to store, for `io` and `gzip`. Empty if the file has none."""
        return self._writer.upload.request.filename or ""

    @property
    def mode(self) -> str:
        """`wb`, as that of files."""
        return "wb"

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes that were written.

        ```python
        with bucket.create() as writer:
            assert writer.tell() == 0
        ```
        """
        return self._written

    def write(self, data: Data | Any, /) -> int:
        """Write `data`, and wait while the server is slow.

        Args:
            data: Bytes, or a str that is encoded with the `encoding` of the writer.

        Returns:
            The number of bytes.

        Raises:
            BadSource: `data` is not a str or bytes-like.
            FileClosed: The writer is closed.
            Exception: The error of an earlier batch.

        ```python
        with bucket.create() as writer:
            assert writer.write("roar") == 4
        ```
        """
        self._check_open()
        piece = as_bytes(data, self._encoding)
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        self._written += len(piece)
        if self._pending_bytes >= _BYTES:
            self.flush()
        return len(piece)

    def writelines(self, lines: Iterable[Any], /) -> None:
        """Write every item, with nothing between them.

        ```python
        with bucket.create() as writer:
            writer.writelines([b"roar", "!"])
        ```
        """
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand what was written to the upload, which sends it in batches. The last part is sent by `close()`.

        ```python
        with bucket.create() as writer:
            writer.flush()
        ```
        """
        self._check_open()
        if self._pending:
            # The pieces are taken in the call, because Ctrl-C may come before it.
            self._portal.call("Writer.write", lambda: self._writer.writelines(self._take()))

    def _take(self) -> list[bytes]:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        return pending

    def close(self) -> None:
        """Send the rest and make the file visible, unless an exception ends a `with` block. A second call does nothing.

        Raises:
            GridProxyError: As `Bucket.upload`. Nothing is stored, except perhaps after `OutcomeUnknown`.

        ```python
        writer = bucket.create(filename="empty.txt")
        writer.close()
        ```
        """
        if self.closed:
            return
        if (error := error_that_ends_block(self._known)) is not None:
            self.abort(error)
            return
        pending = self._take()
        super().close()

        async def closing() -> None:
            try:
                await self._writer.writelines(pending)
                await self._writer.close()
            except BaseException as failure:
                await self._writer.abort(failure)
                raise

        self._portal.call("Writer.close", closing)

    def abort(self, cause: BaseException | None = None) -> None:
        """Close the writer and remove what was sent.

        Args:
            cause: The error to note a failure of the clean-up on. Without it, the failure is raised.

        ```python
        bucket.create(filename="never.txt").abort()
        ```
        """
        if not self.closed:
            self._take()
            super().close()
            self._portal.call("Writer.abort", partial(self._writer.abort, cause))

    def _check_open(self) -> None:
        if self.closed:
            raise FileClosed("this file is not open for writing any more: it is closed")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort(error)
        else:
            self.close()

    def __del__(self) -> None:
        if not self.closed:
            self._take()
            super().close()
            self._portal.later(self._writer.abort)
            warnings.warn(
                f"{self!r} was not closed, so it was not stored: use `with`", ResourceWarning, stacklevel=2, source=self
            )


class NewFile(Generic[F]):
    """What `GridFile.new_file()` returns. The new file has begun, and leaving the `with` block ends it."""

    def __init__(self, file: F, begun: writing.NewFile[AsyncGridFile]) -> None:
        self._portal = current_portal()
        self._file = file
        self._begun = begun
        self._portal.call("AsyncGridFile.new_file", lambda: begun)

    def __enter__(self) -> F:
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call("AsyncGridFile.new_file", partial(self._begun.__aexit__, kind, error, trace))
