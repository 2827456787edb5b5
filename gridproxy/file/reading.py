"""ReadableFile: the half of a file proxy that reads."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gridproxy.errors import FileMissing
from gridproxy.gridfs.download.download import Download, check_offset, load_info, read_range, read_ranges
from gridproxy.gridfs.download.reader import DownloadStream, Reader
from gridproxy.gridfs.download.sinks import SinkLike, save
from gridproxy.gridfs.download.verify import verify_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.upload.sources import Source
from gridproxy.runtime.progress import Progress

from .state import Handle


class ReadableFile(Handle):
    """A stored file, read like a binary file, as a stream, in ranges, or into a path."""

    _reader: Reader | None = None

    async def read(self, size: int | None = -1, *, session: Session | None = None) -> bytes:
        """The next `size` bytes from the position on, all the rest where `size` is negative or None; empty at the end.

        Raises `FileMissing` on an empty file and for one that is gone or expired, `CorruptFile`, `FileVanished` where
        it was deleted meanwhile, and `FileClosed` where `close()` came meanwhile; the position stays then. Calls take
        turns; `open()` gives another position.
        """
        return await self._positioned(session).read(size)

    async def readline(self, *, session: Session | None = None) -> bytes:
        """The bytes up to and including the next newline; empty at the end. Raises as `read`."""
        return await self._positioned(session).readline()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, *, session: Session | None = None) -> int:
        """Move the position to `offset` bytes from the start, the position or the end (`whence` 0, 1 or 2, as in `io`);
        the new one, in bytes from the start.

        Beyond the end is legal. Raises as `read`, `BadOption` before the start.
        """
        return await self._positioned(session).seek(offset, whence)

    def tell(self) -> int:
        """The position, in bytes from the start; 0 after a put, a replace and a close."""
        return 0 if self._reader is None else self._reader.tell()

    def _positioned(self, session: Session | None) -> Reader:
        store, id = self._readable()
        reader = self._reader
        if reader is None or not reader.store.same_as(store):
            reader = self._reader = self._new_reader(store, id, session)  # elsewhere it is another file
        elif reader.session is not session:
            reader = self._reader = self._new_reader(store, id, session, reader.tell())
        return reader

    def _new_reader(self, store: Store, id: object, session: Session | None, at: int = 0) -> Reader:
        on_info = self._loaded(id, store.session_for(session))
        return Reader(store, id, at, chunk_size=self._chunk_size_hint(), session=session, on_info=on_info)

    def _keep(self, store: Store, session: Session | None, content: bytes) -> None:
        """Let the next read find the whole content here."""
        assert self._info is not None, "whoever fetched the content knew its length"
        self._reader = self._new_reader(store, self._id, session)
        self._reader.keep(self._info, content)

    def _point_to(self, id: object, info: FileInfo | None) -> None:
        super()._point_to(id, info)
        self._reader = None

    async def _let_go_of_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    def open(self, *, session: Session | None = None) -> Reader:
        """An independent reader with a position of its own: `async with file.open() as reader:`. Raises as `read`, on
        an empty file at the call.
        """
        return self._new_reader(*self._readable(), session)

    def stream(self, start: int = 0, stop: int | None = None, *, session: Session | None = None) -> DownloadStream:
        """Bytes `start` to `stop` (exclusive; None for the end) as blocks, fetched ahead in bounded memory.

        An async iterator of bytes, and an `anyio.abc.ByteReceiveStream`; it has a position of its own, and is clipped
        to the file. Raises `BadOption` for a negative offset, and as `read`, on an empty file at the call.
        """
        store, id = self._readable()
        check_offset(start, "start")
        if stop is not None:
            check_offset(stop, "stop")
        return DownloadStream(
            Download(
                store,
                id,
                start,
                stop,
                chunk_size=self._chunk_size_hint(),
                session=session,
                on_info=self._loaded(id, store.session_for(session)),
            )
        )

    def __aiter__(self) -> DownloadStream:
        return self.stream()

    async def read_range(self, start: int, stop: int | None, *, session: Session | None = None) -> bytes:
        """Exactly the bytes `start` to `stop` (exclusive; None for the end), clipped to the file; only their chunks are
        fetched.

        Raises as `read`, `BadOption` for a negative offset.
        """
        store, id = self._readable()
        on_info = self._loaded(id, store.session_for(session))
        return await read_range(store, id, start, stop, session, self._chunk_size_hint(), on_info)

    async def read_ranges(self, ranges: Sequence[tuple[int, int]], *, session: Session | None = None) -> list[bytes]:
        """The bytes of each of `ranges` (start, stop; exclusive), in the order given and clipped to the file; a chunk
        that several touch is fetched once.

        Raises as `read`, `BadOption` for a negative offset.
        """
        return await read_ranges(*self._readable(), ranges, session)

    async def save_to(
        self,
        sink: SinkLike,
        progress: Progress | None = None,
        *,
        session: Session | None = None,
    ) -> FileInfo:
        """Write the file to a path (beside it, then renamed: no half file is ever seen) or to a binary writable,
        synchronous (in a worker thread) or not; its info.

        The stored filename plays no part in it. `progress` is called with (bytes done, bytes in all), and awaited.
        Raises as `read`, `BadSource` for what cannot be written to, OSError; a path is as it was then, a writable may
        have got a part.
        """
        store, id = self._readable()
        on_info = self._loaded(id, store.session_for(session))
        download = Download(store, id, chunk_size=self._chunk_size_hint(), session=session, on_info=on_info)
        async with DownloadStream(download) as stream:
            info = await stream.info()
            await save(stream, sink, info.length, progress)
        return info

    def as_source(self, session: Session | None = None) -> Source:
        """The whole content, from its start, as a source of another upload; raises `FileMissing` on an empty file."""
        return _StoredFile(self.stream(session=session))

    async def stat(self, *, session: Session | None = None) -> FileInfo:
        """The record as it is now. Raises `FileMissing`, on an empty and for an expired file too, and `CorruptFile`
        where the record cannot be a file's.
        """
        store, id = self._readable()
        loaded = self._loaded(id, store.session_for(session))
        info = await load_info(store, id, session)
        loaded(info)
        return info

    async def exists(self, *, session: Session | None = None) -> bool:
        """Whether the file is stored at this moment; False for an empty and for an expired one. Raises `CorruptFile` as
        `stat` does.
        """
        if self._id is None:
            return False
        try:
            await self.stat(session=session)
        except FileMissing:
            return False
        return True

    async def verify(self, *, session: Session | None = None) -> FileInfo:
        """Read everything again: number and sizes of the chunks, SHA-256 (where the record has one); its info.

        Raises as `read`, `CorruptFile` saying what is wrong. Memory is bounded.
        """
        store, id = self._readable()
        loaded = self._loaded(id, store.session_for(session))
        info = await verify_file(store, id, session)
        loaded(info)
        return info


class _StoredFile(Source):
    repeatable = True

    def __init__(self, stream: DownloadStream) -> None:
        self._stream = stream

    async def prepare(self) -> None:
        info = await self._stream.info()
        self.name, self.content_type, self.size = info.filename, info.content_type, info.length

    async def read(self) -> bytes:
        return await anext(self._stream, b"")

    async def aclose(self) -> None:
        await self._stream.aclose()
