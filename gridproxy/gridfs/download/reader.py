"""What a consumer of a stored file holds: a stream of blocks, or a reader with a position."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream

from gridproxy.errors import BadOption, FileClosed
from gridproxy.gridfs.records.chunks import Block
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store

from .download import FIRST_BYTES, IN_FLIGHT, Download, check_offset, read_all


class DownloadStream(ByteReceiveStream):
    """The bytes `start` to `stop` of a stored file as blocks of at most a chunk, fetched ahead in bounded memory.

    An async iterator of bytes, and an `anyio.abc.ByteReceiveStream`. `aclose()` (or leaving `async with`) ends what is
    on its way; a stream dropped half-read leaks nothing. Reading raises `FileMissing` (for an expired file too),
    `CorruptFile`, and `FileVanished` where it was deleted meanwhile: it never ends short. As anyio has it,
    `anyio.ClosedResourceError` after `aclose()`, and `anyio.BusyResourceError` for two readers at once.
    """

    def __init__(self, download: Download) -> None:
        self._download = download
        self._pieces: list[bytes] = []
        self._closed = False
        self._guard = anyio.ResourceGuard("reading from")

    async def info(self) -> FileInfo:
        """The record of the file being streamed; the first bytes come with it."""
        return await self._download.load()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, at least one and at most `max_bytes`.

        Raises `anyio.EndOfStream` at the end, `BadOption` for less than 1.
        """
        if max_bytes < 1:
            raise BadOption(f"max_bytes is at least 1, not {max_bytes!r}")
        piece = await self._next_piece()
        if len(piece) > max_bytes:
            self._pieces.append(piece[max_bytes:])
            piece = piece[:max_bytes]
        return piece

    async def __anext__(self) -> bytes:
        try:
            return await self._next_piece()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def _next_piece(self) -> bytes:
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
            return self._pieces.pop()

    async def aclose(self) -> None:
        """End the stream; what was on its way is gone when this returns."""
        self._closed = True
        self._pieces = []
        await self._download.aclose()


class Reader:
    """A stored file with a position of its own, read like a binary file; stays with the bucket that it was opened on.

    `async with file.open() as reader:` (or `reader = await file.open()`). Calls from several tasks take turns.
    `position` is where it begins, in bytes from the start; `chunk_size`, in bytes, a guess until the record is known,
    which `on_info` is told then.

    Reading raises `FileMissing` (for an expired file too), `CorruptFile`, `FileVanished` where it was deleted
    meanwhile, and `FileClosed` after `aclose()`; the position stays then.
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
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self._position}"
        return f"<Reader of {self.id!r} in {self.store!r}: {state}>"

    async def _opened(self) -> Reader:
        async with self._turn:
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what was fetched; reading raises `FileClosed` afterwards."""
        self.closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        download, self._download, self._block = self._download, None, None
        if download is not None:
            await download.aclose()

    @property
    def info(self) -> FileInfo | None:
        """The record that this reader goes by; None before the first read."""
        return self._info

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position to `offset` bytes from the start, the position or the end (`whence` 0, 1 or 2, as in `io`);
        the new one, in bytes from the start.

        Beyond the end is legal; before the start, and for another `whence`, it raises `BadOption`.
        """
        async with self._turn:
            if whence == os.SEEK_SET:
                position = offset
            elif whence == os.SEEK_CUR:
                position = self._position + offset
            elif whence == os.SEEK_END:
                position = (await self._load()).length + offset
            else:
                raise BadOption(f"whence is 0, 1 or 2, not {whence!r}")
            self._position = check_offset(position, "the position")
            return self._position

    async def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, fewer only at the end, then empty; all the rest where `size` is negative or None."""
        async with self._turn:
            self._check_open()
            if size is None or size < 0:
                return await self._read_rest()
            gathered: list[bytes] = []
            missing = size
            with self._moving_on():
                while missing:
                    piece, at = await self._piece(missing)
                    if not piece:
                        break
                    gathered.append(piece[at : at + missing])
                    missing -= len(gathered[-1])
                    self._position += len(gathered[-1])
            return b"".join(gathered)

    async def readline(self) -> bytes:
        """The bytes up to and including the next newline; what is left where there is none; empty at the end."""
        async with self._turn:
            self._check_open()
            gathered: list[bytes] = []
            ended = False
            with self._moving_on():
                while not ended:
                    piece, at = await self._piece(1)
                    if not piece:
                        break
                    end = piece.find(b"\n", at) + 1
                    ended = end > 0
                    gathered.append(piece[at : end or None])
                    self._position += len(gathered[-1])
            return b"".join(gathered)

    @contextmanager
    def _moving_on(self) -> Iterator[None]:
        # What was gathered goes with the error: the next read begins where this one did.
        position = self._position
        try:
            yield
        except BaseException:
            self._position = position
            raise

    async def _read_rest(self) -> bytes:
        position = self._position
        head: list[bytes] = []
        block = self._block
        if block is not None and block.offset <= position < block.end:
            head, at = block.pieces_from(position)
            head[0] = head[0][at:]
            position = block.end
        download, self._download, self._block = self._download, None, None
        if download is not None and download.next_offset != position:
            await download.aclose()
            download = None
        # Sequential from here to the end is certain, so all that may be on its way at once is.
        rest = await read_all(download or self._from(position, FIRST_BYTES, ahead=IN_FLIGHT), head)
        self._position += len(rest)
        return rest

    async def _piece(self, wanted: int) -> tuple[bytes, int]:
        """The piece that holds the position, and the place in it; empty at the end. Does not move the position."""
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
            await self._let_go()
            download = None
        if download is None:
            download = self._download = self._from(position, wanted)
        try:
            block = await download.next()
            while block is not None and block.end <= position:
                block = await download.next()
        except Exception:
            await self._let_go()  # so that the next read asks anew
            raise
        self._info, self._block = download.info, block

    def keep(self, info: FileInfo, content: bytes) -> None:
        """Take the whole content, fetched by other means, for what was read ahead."""
        self._info, self._block = info, Block(0, [content], len(content))

    def _from(self, position: int, first: int, *, ahead: int = 0) -> Download:
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
            self._info = await self._download.load()
        return self._info

    def _check_open(self) -> None:
        if self.closed:
            raise FileClosed("this reader is closed; open() another")
