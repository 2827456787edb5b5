"""Anything that holds bytes -> one stream of blocks.

`open_source` is the only place that knows kinds of input. A source gives blocks of bytes of any length (short reads are
normal) until an empty one, knows its name and its length where these can be known, and closes what it opened itself,
never what the caller handed over.
"""

from __future__ import annotations

import functools
import inspect
import io
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol, runtime_checkable

from gridproxy.errors import BadSource, type_name
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.runtime.tasks import in_thread

Data = bytes | bytearray | memoryview | str


@runtime_checkable
class Readable(Protocol):
    """A synchronous binary file: read in a worker thread, from where it stands."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class AsyncReadable(Protocol):
    """An asynchronous binary file: anyio's, aiofiles', Starlette's `UploadFile`, `asyncio.StreamReader`."""

    def read(self, size: int, /) -> Awaitable[bytes]: ...


@runtime_checkable
class Streamed(Protocol):
    """An object of this package that can be read as a source of its own: a stored file."""

    def as_source(self) -> Source:
        """A source of the whole content."""


SourceLike = (
    Data
    | os.PathLike[str]
    | Readable
    | AsyncReadable
    | Iterable[bytes | bytearray | memoryview]
    | AsyncIterable[bytes | bytearray | memoryview]
    | Streamed
)

# Bytes asked of a file at once.
_READ_BYTES = BATCH_BYTES


class Source(ABC):
    """Blocks of bytes, then an empty one."""

    name: str | None = None
    content_type: str | None = None
    size: int | None = None
    what = "this source"  # for error messages
    repeatable = False  # whether a second source of the same thing gives the same bytes

    async def prepare(self) -> None:  # noqa: B027  # most sources have nothing to prepare
        """Learn name and length, where that takes I/O; called once, before the first read."""

    @abstractmethod
    async def read(self) -> bytes | memoryview:
        """The next block; empty at the end, and only there."""

    async def aclose(self) -> None:  # noqa: B027  # nor anything of their own to close
        """Close what this source opened itself."""


def open_source(source: object, *, encoding: str = "utf-8") -> Source:
    """The stream of blocks of whatever came; no I/O yet.

    Raises `BadSource` naming what came where bytes cannot be read from it.
    """
    if isinstance(source, Source):
        return source
    if type(source) is bytes:
        return _Bytes(source)
    if isinstance(source, Streamed):
        return source.as_source()
    if isinstance(source, bytes | bytearray | memoryview | str):
        return _Bytes(as_bytes(source, encoding))
    if isinstance(source, os.PathLike):
        return _Path(source)
    if isinstance(source, io.TextIOBase):
        raise BadSource(f"{type_name(source)} is a text-mode file; open it in binary mode ('rb')")
    if isinstance(source, type | Mapping):
        raise BadSource(_no_source(source))
    if callable(getattr(source, "read", None)):
        return _File(source)
    if callable(getattr(source, "__aiter__", None)):
        return _AsyncIterable(source)  # type: ignore[arg-type]  # what it yields is checked block by block
    data = _buffered(source)
    if data is not None:
        return _Bytes(data)
    if callable(getattr(source, "__iter__", None)):
        return _Iterable(source)  # type: ignore[arg-type]  # what it yields is checked block by block
    raise BadSource(_no_source(source))


def as_bytes(data: object, encoding: str) -> bytes:
    """A copy that nobody can change any more; raises `BadSource` for what is neither bytes-like nor a str."""
    found = data.encode(encoding) if isinstance(data, str) else _buffered(data)
    if found is None:
        raise BadSource(f"bytes or a str are needed, not {type_name(data)}")
    return found


def _no_source(source: object) -> str:
    return (
        f"{type_name(source)} is nothing that bytes can be read from: give bytes, a str, a path (os.PathLike), "
        "a binary file, an async file, an iterable of bytes or an AsyncGridFile"
    )


def _buffered(source: object) -> bytes | None:
    """A copy of what is bytes-like (an array, too), which nobody can change any more; None for anything else."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, numbers.Number):
        return None  # numpy's have a buffer, and are numbers all the same
    try:
        # Not `bytes(source)`, which makes so many zeros of what can be an index as well.
        return memoryview(source).tobytes()  # type: ignore[arg-type]  # the question is whether it can
    except TypeError:
        return None


def _base_name(name: object) -> str | None:
    """The last part of a name or path; None where there is none (a file descriptor's number, an empty name)."""
    if isinstance(name, str | os.PathLike):
        path = os.fspath(name)
        return (os.path.basename(path) or None) if isinstance(path, str) else None
    return None


def _block(item: object, what: str) -> bytes:
    """One item as a block of bytes that stay as they are."""
    block = _buffered(item)
    if block is not None:
        return block
    if isinstance(item, str):
        raise BadSource(f"{what} gave a str; open it in binary mode, or encode what it gives")
    raise BadSource(f"{what} gave {type_name(item)} instead of bytes")


class Spent(Source):
    """Stands for content that can be read only once, and was."""

    def __init__(self, what: str) -> None:
        self.what = what

    async def read(self) -> bytes:
        raise BadSource(f"{self.what} was read already, in a transaction that was aborted: give the content again")


class _Bytes(Source):
    repeatable = True

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = memoryview(data)
        self._at = 0

    async def read(self) -> memoryview:
        block = self._data[self._at : self._at + _READ_BYTES]
        self._at += len(block)
        return block


class _Path(Source):
    repeatable = True

    def __init__(self, path: os.PathLike[Any]) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.name = _base_name(path)

    async def prepare(self) -> None:
        await in_thread(self._open)

    def _open(self) -> None:
        self._file = open(self._path, "rb")  # noqa: SIM115  # closed by aclose()
        self.size = os.fstat(self._file.fileno()).st_size

    async def read(self) -> bytes:
        assert self._file is not None
        return await in_thread(functools.partial(self._file.read, _READ_BYTES))

    async def aclose(self) -> None:
        if self._file is not None:
            self._file.close()


class _File(Source):
    """Any object with `read(size)`, synchronous or not; Starlette's UploadFile brings `filename` and `content_type`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.what = type_name(file)
        self._asynchronous = inspect.iscoroutinefunction(file.read)
        # The standard library's files have a `name`; to ask a GzipFile for its `filename` is deprecated.
        uploaded_as = None if isinstance(file, io.IOBase) else getattr(file, "filename", None)
        self.name = _base_name(uploaded_as) or _base_name(getattr(file, "name", None))
        declared = getattr(file, "content_type", None)
        self.content_type = declared if isinstance(declared, str) else None

    async def prepare(self) -> None:
        if not self._asynchronous:
            self.size = await in_thread(functools.partial(_bytes_left, self._file))

    async def read(self) -> bytes:
        if self._asynchronous:
            item = await self._file.read(_READ_BYTES)
        else:
            item = await in_thread(functools.partial(self._file.read, _READ_BYTES))
            if inspect.isawaitable(item):  # a wrapper that is asynchronous without looking so
                self._asynchronous = True
                item = await item
        if item is None:
            raise BadSource(f"{self.what} gave None: a non-blocking file cannot be a source")
        return _block(item, self.what)


def _bytes_left(file: Any) -> int | None:
    """How many bytes a file has ahead; None where that cannot be known without reading it.

    Compressed files look for their end by unpacking themselves, so only files are asked that are known not to.
    """
    file = getattr(file, "file", file)  # the wrapper that `tempfile` puts around one
    if not isinstance(file, io.BufferedReader | io.BufferedRandom | io.FileIO | io.BytesIO):
        return None
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, ValueError):  # a pipe; a closed file
        return None
    return max(0, end - here)


class _Iterable(Source):
    """Items are gathered in a worker thread: a generator may well block on what it reads."""

    def __init__(self, items: Iterable[object]) -> None:
        self.what = type_name(items)
        self.repeatable = isinstance(items, Sequence)
        self._items: Iterator[object] = iter(items)
        if isinstance(items, list | tuple) and all(isinstance(item, bytes) for item in items):
            self.size = sum(map(len, items))

    async def read(self) -> bytes:
        return await in_thread(self._gather)

    def _gather(self) -> bytes:
        gathered = bytearray()
        for item in self._items:
            gathered += _block(item, self.what)
            if len(gathered) >= _READ_BYTES:
                break
        return bytes(gathered)


class _AsyncIterable(Source):
    def __init__(self, items: AsyncIterable[object]) -> None:
        self.what = type_name(items)
        self._items: AsyncIterator[object] = aiter(items)
        self._own = self._items is not items

    async def read(self) -> bytes:
        async for item in self._items:
            block = _block(item, self.what)
            if block:
                return block
        return b""

    async def aclose(self) -> None:
        close = getattr(self._items, "aclose", None)
        if self._own and close is not None:
            await close()
