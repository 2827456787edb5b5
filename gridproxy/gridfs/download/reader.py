"""The two public readers of a stored file: a stream of blocks, and a reader with a position."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream

from gridproxy.errors import BadOption, FileClosed, type_name
from gridproxy.gridfs.records.chunks import Block
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store

from .download import FIRST_BYTES, IN_FLIGHT, Download, check_offset, read_all


class DownloadStream(ByteReceiveStream):
    """A range of a stored file as an async iterator of `bytes` blocks, each of at most one chunk.

    It is also an `anyio.abc.ByteReceiveStream`, fetches ahead in bounded memory and never ends early without an error.

    Raises:
        FileMissing: The file does not exist or has expired.
        CorruptFile: The stored chunks do not match the record.
        FileVanished: The file was deleted during the download.
        anyio.ClosedResourceError: The stream was closed.
        anyio.BusyResourceError: Another task is reading from the stream.

    ```python
    async with bucket.stream(info.id) as stream:
        assert b"".join([block async for block in stream]) == b"some content"
    ```
    """

    def __init__(self, download: Download) -> None:
        self._download = download
        self._pieces: list[bytes] = []
        self._at = 0  # how many bytes of the last piece were returned already
        self._closed = False
        self._guard = anyio.ResourceGuard("reading from")

    async def info(self) -> FileInfo:
        """Return the record of the file, which is fetched together with the first bytes.

        ```python
        async with bucket.stream(info.id) as stream:
            assert (await stream.info()).length == 12
        ```
        """
        return await self._download.load()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one.

        Args:
            max_bytes: The largest number of bytes to return.

        Raises:
            anyio.EndOfStream: All bytes were read.
            BadOption: `max_bytes` is less than 1.

        ```python
        async with bucket.stream(info.id) as stream:
            assert await stream.receive(4) == b"some"
        ```
        """
        if max_bytes < 1:
            raise BadOption(f"max_bytes is at least 1, not {max_bytes!r}")
        return await self._next_piece(max_bytes)

    async def __anext__(self) -> bytes:
        try:
            return await self._next_piece()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def _next_piece(self, max_bytes: int | None = None) -> bytes:
        with self._guard:
            if self._closed:
                raise anyio.ClosedResourceError
            if not self._pieces:
                try:
                    block = await self._download.next()
                except FileClosed:
                    raise anyio.ClosedResourceError from None
                if block is None:
                    raise anyio.EndOfStream
                self._pieces = list(reversed(block.pieces))
            piece, start = self._pieces[-1], self._at
            end = len(piece) if max_bytes is None else start + max_bytes
            if end < len(piece):
                self._at = end
            else:
                self._pieces.pop()
                self._at = 0
            return piece[start:end]

    async def aclose(self) -> None:
        """Close the stream, cancel its running reads and wait for them.

        ```python
        stream = bucket.stream(info.id)
        await stream.aclose()
        ```
        """
        self._closed = True
        self._pieces, self._at = [], 0
        await self._download.aclose()


class Reader:
    """A stored file that is read like a binary file, with its own position. `AsyncGridFile.open` returns it.

    Calls of several tasks wait for each other. An error or a cancellation does not move the position. `async for` gives
    the lines from the position on, as bytes.

    Raises:
        FileMissing: The file does not exist or has expired.
        CorruptFile: The stored chunks do not match the record.
        FileVanished: The file was deleted while it was read.
        FileClosed: The reader was closed.

    ```python
    async with bucket.file(info.id).open() as reader:
        assert await reader.seek(5) == 5
        assert await reader.read() == b"content"
    ```
    """

    def __init__(
        self,
        store: Store,
        id: object,
        position: int = 0,
        *,
        chunk_size: int | None = None,
        session: Session | None = None,
        on_info: Callable[[FileInfo], None] | None = None,
    ) -> None:
        self.store = store
        self.id = id
        self.session = session
        self.closed: bool = False
        self._chunk_size = chunk_size
        self._on_info = on_info
        self._position = position
        self._info: FileInfo | None = None
        self._download: Download | None = None
        self._block: Block | None = None
        self._line_piece: tuple[bytes, int] = b"", 0  # the last piece with a line, and its offset in the file
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self._position}"
        return f"<Reader of {self.id!r} in {self.store!r}: {state}>"

    async def _opened(self) -> Reader:
        async with self._lock:
            await self._load()
        return self

    def __await__(self) -> Generator[Any, None, Reader]:
        return self._opened().__await__()

    async def __aenter__(self) -> Reader:
        try:
            return await self._opened()
        except BaseException:
            await self.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the reader and drop its fetched bytes. A read that is running raises `FileClosed`.

        ```python
        reader = await bucket.file(info.id).open()
        await reader.aclose()
        ```
        """
        self.closed = True
        await self._reset()

    async def _reset(self) -> None:
        download, self._download, self._block = self._download, None, None
        self._line_piece = b"", 0
        if download is not None:
            await download.aclose()

    @property
    def info(self) -> FileInfo | None:
        """The file's record, or None before the first read."""
        return self._info

    @property
    def block(self) -> Block | None:
        """The fetched bytes around the position, or None if there are none."""
        return self._block

    def tell(self) -> int:
        """Return the position, in bytes from the start.

        ```python
        bytes_left = info.length - reader.tell()
        ```
        """
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it, in bytes from the start.

        Args:
            offset: A number of bytes. The new position may be after the end of the file.
            whence: 0, 1 or 2 for an offset from the start, the position or the end, as in `io`.

        Raises:
            BadOption: The new position is before the start, or `whence` is not valid.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert await reader.seek(-7, 2) == 5
        ```
        """
        async with self._lock:
            if whence == os.SEEK_SET:
                position = offset
            elif whence == os.SEEK_CUR:
                position = self._position + offset
            elif whence == os.SEEK_END:
                position = (await self._load()).length + offset
            else:
                raise BadOption(f"whence is 0 (start), 1 (position) or 2 (end), not {whence!r}")
            self._position = check_offset(position, "the position")
            return self._position

    async def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, or all remaining ones if `size` is negative or None. Fewer only at the end.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert await reader.read(4) == b"some"
        ```
        """
        async with self._lock:
            self._check_open()
            return await (self._read_rest() if size is None or size < 0 else self._gather(size))

    async def readline(self, size: int | None = -1) -> bytes:
        """Return the bytes up to and including the next newline, or all remaining ones. Empty at the end.

        Args:
            size: The largest number of bytes to return. Negative or None for no limit.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert await reader.readline() == b"some content"
        ```
        """
        limit = None if size is None or size < 0 else size
        if limit is None and (line := self._fetched_line()):
            return line
        async with self._lock:
            self._check_open()
            return await self._gather(limit, line=True)

    def _fetched_line(self) -> bytes:
        """Return the next line if it is in the fetched piece of the line before, else nothing."""
        piece, start = self._line_piece
        at = self._position - start
        if not 0 < at < len(piece) or self.closed or self._lock.locked():
            return b""
        line = piece[at : piece.find(b"\n", at) + 1]
        self._position += len(line)
        return line

    async def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the remaining lines, each with its newline.

        Args:
            hint: How many bytes are enough: the line that reaches this number is the last one. Negative, 0 or None for
                all lines.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert await reader.readlines() == [b"some content"]
        ```
        """
        lines: list[bytes] = []
        length = 0
        async for line in self:
            lines.append(line)
            length += len(line)
            if hint is not None and 0 < hint <= length:
                break
        return lines

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    async def readinto(self, buffer: bytearray | memoryview | Any) -> int:
        """Read the next bytes into a writable buffer and return their number, which is lower only at the end.

        Args:
            buffer: A bytearray, a memoryview, an array or another writable buffer.

        Raises:
            BadOption: `buffer` is not a writable buffer.

        ```python
        buffer = bytearray(4)
        async with bucket.file(info.id).open() as reader:
            assert (await reader.readinto(buffer), buffer) == (4, b"some")
        ```
        """
        try:
            view = memoryview(buffer).cast("B")
        except TypeError:
            raise BadOption(f"readinto() needs a writable buffer of bytes, not {type_name(buffer)}") from None
        with view:
            if view.readonly:
                raise BadOption(f"readinto() needs a writable buffer, and this {type_name(buffer)} of bytes is not one")
            data = await self.read(len(view))
            view[: len(data)] = data
        return len(data)

    async def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return all remaining bytes as text. Newlines stay as they are stored.

        Args:
            encoding: The encoding of the stored bytes.
            errors: What to do with bytes that are not text in it, as for `bytes.decode`.

        Raises:
            BadOption: The encoding is not known.
            UnicodeDecodeError: The bytes are not text in this encoding.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert await reader.read_text() == "some content"
        ```
        """
        decoder = text_decoder(encoding, errors)
        return decoder.decode(await self.read(), True)

    def lines(self, encoding: str = "utf-8", errors: str = "strict") -> AsyncIterator[str]:
        """Return an iterator of the remaining lines as text, each with its newline as it is stored.

        Args:
            encoding: The encoding of the stored bytes.
            errors: What to do with bytes that are not text in it, as for `bytes.decode`.

        Raises:
            BadOption: The encoding is not known.
            UnicodeDecodeError: On iterating, if the bytes are not text in this encoding.

        ```python
        async with bucket.file(info.id).open() as reader:
            assert [line async for line in reader.lines()] == ["some content"]
        ```
        """
        return self._decoded_lines(text_decoder(encoding, errors))

    async def _decoded_lines(self, decoder: codecs.IncrementalDecoder) -> AsyncIterator[str]:
        # Each read ends at the byte of a newline. In UTF-16 that byte may be a part of any character, so the text is
        # looked through again. In other encodings the position is after the yielded line.
        text, raw = "", b"-"
        while raw:
            raw = await self.readline()
            text += decoder.decode(raw, not raw)
            *lines, text = text.split("\n")
            for line in lines:
                yield line + "\n"
        if text:
            yield text

    async def _gather(self, size: int | None, *, line: bool = False) -> bytes:
        """Return the next `size` bytes, or at most `size` bytes of the next line. None means no limit."""
        gathered: list[bytes] = []
        start, missing = self._position, size
        try:
            while missing != 0:
                piece, at = await self._piece(1 if missing is None else missing)
                if not piece:
                    break
                if line and not at:
                    await asyncio.sleep(0)  # a chunk may have thousands of lines, and other tasks wait
                    self._check_open()
                stop = len(piece) if missing is None else min(len(piece), at + missing)
                newline = piece.find(b"\n", at, stop) + 1 if line else 0
                if line:
                    self._line_piece = piece, self._position - at
                gathered.append(piece[at : newline or stop])
                self._position += len(gathered[-1])
                if newline:
                    break
                if missing is not None:
                    missing -= stop - at
        except BaseException:
            # The gathered bytes are lost, so the next read has to return them again.
            self._position = start
            raise
        return b"".join(gathered)

    async def _read_rest(self) -> bytes:
        position = self._position
        head: list[bytes] = []
        block = self._block
        if block is not None and block.offset <= position < block.end:
            head, at = block.pieces_from(position)
            head[0] = head[0][at:]
            position = block.end
        self._block = None
        if self._download is not None and self._download.next_offset != position:
            await self._reset()
        if self._download is None:
            # The rest is certainly read in sequence, so the largest number of ranges is fetched ahead.
            self._download = self._from(position, FIRST_BYTES, ahead=IN_FLIGHT)
        try:
            rest = await read_all(self._download, head)
        finally:
            self._download = None
        self._check_open()
        self._position += len(rest)
        return rest

    async def _piece(self, wanted: int) -> tuple[bytes, int]:
        """Return the piece with the byte at the position and that byte's index in it. The piece is empty at the end."""
        if self._block is None or not self._block.offset <= self._position < self._block.end:
            await self._fetch(wanted)
        if self._block is None:
            return b"", 0
        pieces, at = self._block.pieces_from(self._position)
        return pieces[0], at

    async def _fetch(self, wanted: int) -> None:
        self._block, position = None, self._position
        if self._info is not None and position >= self._info.length > 0:
            return
        download = self._download
        if download is not None and not (download.next_offset == position or download.reaches(position)):
            await self._reset()
            download = None
        if download is None:
            download = self._download = self._from(position, wanted)
        try:
            block = await download.next()
            while block is not None and block.end <= position:
                block = await download.next()
        except Exception:
            await self._reset()  # so that the next read fetches again
            raise
        self._check_open()
        self._info, self._block = download.info, block

    def keep(self, info: FileInfo, content: bytes) -> None:
        """Use the whole content, which the caller fetched in another way, as fetched bytes."""
        self._info, self._block = info, Block(0, [content], len(content))

    def _from(self, position: int, first: int, *, ahead: int = 0) -> Download:
        self._check_open()
        return Download(
            self.store,
            self.id,
            position,
            info=self._info,
            chunk_size=self._chunk_size,
            session=self.session,
            on_info=self._on_info,
            first=first,
            ahead=ahead,
        )

    async def _load(self) -> FileInfo:
        self._check_open()
        if self._info is None:
            if self._download is None:
                self._download = self._from(self._position, FIRST_BYTES)
            info = await self._download.load()
            self._check_open()
            self._info = info
        return self._info

    def _check_open(self) -> None:
        if self.closed:
            raise FileClosed(f"the reader of the file {self.id!r} is closed: open() another one")


def text_decoder(encoding: str, errors: str = "strict") -> codecs.IncrementalDecoder:
    """Return a decoder. Raises `BadOption` if the encoding is not one of text, or `errors` is not known."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding or "?", errors).read()
        codecs.lookup_error(errors)
        return codecs.getincrementaldecoder(encoding)(errors)
    except (LookupError, TypeError, ValueError) as error:
        raise BadOption(f"encoding {encoding!r} with errors={errors!r} cannot decode text: {error}") from None
