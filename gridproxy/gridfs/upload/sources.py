"""Every kind of input as one stream of blocks of bytes. A source closes only what it opened itself."""

from __future__ import annotations

import functools
import inspect
import io
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, TypeVar, runtime_checkable

from gridproxy.errors import BadSource, type_name
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.runtime.tasks import in_callers_thread, in_daemon_thread, in_thread
from gridproxy.runtime.thread_guard import ThreadGuard

from .source_facts import accepts, ask, base_name, bytes_left, is_form_file, name_of, size_of_open_file, type_of

T = TypeVar("T")

Data = bytes | bytearray | memoryview | str


@runtime_checkable
class Readable(Protocol):
    """A synchronous binary file, read from its current position by a worker thread, or by that of a blocking call."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class AsyncReadable(Protocol):
    """An asynchronous binary file: anyio's, aiofiles', Starlette's `UploadFile`, `asyncio.StreamReader`."""

    def read(self, size: int, /) -> Awaitable[bytes]: ...


@runtime_checkable
class Streamed(Protocol):
    """An object of this package that provides a source: a stored file."""

    def as_source(self) -> Source:
        """Return a source of the whole content."""


class ReadWhole(Protocol):
    """An object whose `read` takes no size: a response, a part of a form, an attachment of a chat."""

    def read(self) -> bytes | Awaitable[bytes]: ...


SourceLike = (
    Data
    | os.PathLike[str]
    | Readable
    | AsyncReadable
    | ReadWhole
    | Iterable[bytes | bytearray | memoryview]
    | AsyncIterable[bytes | bytearray | memoryview]
    | Streamed
)

# The size in bytes of one read from a file.
_READ_BYTES = BATCH_BYTES


class Source(ABC):
    """A stream of blocks of any length. An empty block ends it."""

    name: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, Any] = MappingProxyType({})  # of a stored file, for the new file
    size: int | None = None
    what = "this source"  # for error messages
    repeatable = False  # whether a second source of the same object gives the same bytes

    async def prepare(self) -> None:  # noqa: B027  # most sources have nothing to prepare
        """Find the name and the length if that takes I/O. Called once, before the first read."""

    @abstractmethod
    async def read(self) -> bytes | memoryview:
        """Return the next block. Only the end is empty."""

    async def aclose(self) -> None:  # noqa: B027  # nor anything of their own to close
        """Close what this source opened itself."""


def open_source(source: object, *, encoding: str = "utf-8") -> Source:
    """Return the source for any kind of input, without I/O. Raises `BadSource` if bytes cannot be read from it."""
    if isinstance(source, Source):
        return source
    if type(source) is bytes:
        return _Bytes(source)
    if not isinstance(source, type) and callable(as_source := ask(source, "as_source")):
        opened: Source = as_source()
        return opened
    if isinstance(source, bytes | bytearray | memoryview | str):
        return _Bytes(as_bytes(source, encoding))
    if isinstance(source, os.PathLike):
        return _Path(source)
    if isinstance(source, io.TextIOBase):
        raise BadSource(f"{type_name(source)} is a text-mode file: open it in binary mode ('rb')")
    if not isinstance(source, type) and callable(ask(source, "read")):
        return _open_readable(source)
    if not isinstance(source, type | Mapping):
        if callable(getattr(source, "__aiter__", None)):
            return _AsyncIterable(source)  # type: ignore[arg-type]  # what it yields is checked block by block
        if (data := _buffered(source)) is not None:
            return _Bytes(data)
        if callable(getattr(source, "__iter__", None)):
            return _Iterable(source)  # type: ignore[arg-type]  # what it yields is checked block by block
    if callable(ask(file := ask(source, "file"), "read")) and ask(source, "filename") is not None:
        field = _File(file)  # of a form that aiohttp has parsed
        field.rewinds = True
        return _described(field, source)
    raise BadSource(
        f"{type_name(source)} cannot be read as bytes: give bytes, a str, a path (os.PathLike), "
        "a binary file, an async file, an iterable of bytes or an AsyncGridFile"
    )


def as_bytes(data: object, encoding: str) -> bytes:
    """Return an immutable copy. Raises `BadSource` unless `data` is a str or bytes-like."""
    found = data.encode(encoding) if isinstance(data, str) else _buffered(data)
    if found is None:
        raise BadSource(f"data is bytes or a str, not {type_name(data)}")
    return found


def _buffered(source: object) -> bytes | None:
    """Return an immutable copy of a bytes-like object (such as an array), and None for any other object."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, numbers.Number):
        return None  # numpy's numbers have a buffer
    try:
        # `bytes(source)` would make zeros from an object that is also an index.
        return memoryview(source).tobytes()  # type: ignore[arg-type]  # a TypeError is the answer that it is not bytes-like
    except TypeError:
        return None


def _block(item: object, what: str) -> bytes:
    """Return one item as an immutable block of bytes."""
    if (block := _buffered(item)) is not None:
        return block
    if isinstance(item, str):
        raise BadSource(f"{what} returned a str: open it in binary mode, or encode the str")
    raise BadSource(f"{what} returned {type_name(item)} instead of bytes")


class Spent(Source):
    """A source that could be read only once and was read already."""

    def __init__(self, what: str) -> None:
        self.what = what

    async def read(self) -> bytes:
        raise BadSource(f"{self.what} was read already, in a transaction that was aborted. Give the content again")


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
    """A file that this source opens itself. A cancellation does not wait for a thread that reads it."""

    repeatable = True

    def __init__(self, path: os.PathLike[Any]) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._guard = ThreadGuard(self._close)
        self._may_be_silent = False
        self.name = base_name(path)

    async def prepare(self) -> None:
        self._may_be_silent = not await self._in_thread(functools.partial(os.path.isfile, self._path))
        await self._in_thread(self._open)

    def _open(self) -> None:
        self._file = open(self._path, "rb")  # noqa: SIM115  # closed by aclose()
        self.size = size_of_open_file(self._file.fileno())

    async def read(self) -> bytes:
        assert self._file is not None
        return await self._in_thread(functools.partial(self._file.read, _READ_BYTES))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        guarded = functools.partial(self._guard.run, work)
        # A pipe or a device may send nothing for ever, and Python waits for other threads than daemons when it exits.
        return await (in_daemon_thread(guarded) if self._may_be_silent else in_thread(guarded, abandon=True))

    async def aclose(self) -> None:
        self._guard.finish()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


class _File(Source):
    """Any object with `read(size)`, synchronous or not. `read` is the method to call if it is another one."""

    def __init__(self, file: Any, read: Callable[[int], Any] | None = None) -> None:
        self._file = file
        self._read = file.read if read is None else read
        self.what = type_name(file)
        self.name, self.content_type = name_of(file), type_of(file)
        self.rewinds = is_form_file(file)
        self._asynchronous = inspect.iscoroutinefunction(self._read)

    async def prepare(self) -> None:
        if self.rewinds:
            # A framework or a validation may have read it before.
            await _call(self._file.seek, 0)
        if not self._asynchronous:
            self.size = await in_callers_thread(functools.partial(bytes_left, self._file))

    async def read(self) -> bytes:
        if self._asynchronous:
            item = await self._read(_READ_BYTES)
        else:
            item = await in_callers_thread(functools.partial(self._read, _READ_BYTES))
            if inspect.isawaitable(item):  # a wrapper whose `read` is not a coroutine function
                self._asynchronous = True
                item = await item
        if item is None:
            raise BadSource(f"{self.what} returned None: a non-blocking file cannot be a source")
        return _block(item, self.what)


class _Whole(Source):
    """An object whose `read()` takes no size and returns everything."""

    def __init__(self, file: Any) -> None:
        self._file: Any | None = file
        self.what = type_name(file)
        self.name, self.content_type = name_of(file), type_of(file)

    async def read(self) -> bytes:
        file, self._file = self._file, None
        if file is None:
            return b""
        return _block(await _call(file.read), self.what)


class _AiohttpBody(_File):
    """A response or a request of aiohttp. If its stream `content` was read already, `read()` has kept the bytes."""

    async def prepare(self) -> None:
        if isinstance(self._file, Mapping) and (self.content_type or "").startswith("multipart/"):
            raise BadSource(f"{self.what} contains a form, not a file: put the parts of `await request.multipart()`")
        if self._file.content.at_eof():
            whole = _Whole(self._file)
            self._read, self._asynchronous = lambda _: whole.read(), True


async def _call(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a coroutine function here and any other function in a worker thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await in_callers_thread(functools.partial(function, *arguments))
    return await result if inspect.isawaitable(result) else result


def _open_readable(file: Any) -> Source:
    """Return the source of an object with `read`. Raises `BadSource` if that returns something else."""
    if isinstance(file, io.IOBase) or (not isinstance(file, Mapping) and accepts(file.read, _READ_BYTES)):
        return _File(file)
    if callable(read_chunk := ask(file, "read_chunk")):  # a part of a form in aiohttp
        if callable(at_eof := ask(file, "at_eof")) and at_eof():
            raise BadSource(f"{type_name(file)} was read already: put it before it is read, or put the bytes")
        return _File(file, read_chunk)
    if callable(ask(ask(file, "content"), "iter_chunked")):
        return _AiohttpBody(file, file.content.read)
    if callable(aiter_bytes := ask(file, "aiter_bytes")):  # a response of httpx
        if callable(iter_bytes := ask(file, "iter_bytes")) and not hasattr(ask(file, "stream"), "__aiter__"):
            return _described(_Iterable(iter_bytes()), file)
        return _described(_AsyncIterable(aiter_bytes(), own=True), file)
    if accepts(file.read):
        return _Whole(file)
    raise BadSource(f"{type_name(file)} cannot be read as bytes: its read() does not return the next bytes")


def _described(source: Source, file: object) -> Source:
    source.what, source.name, source.content_type = type_name(file), name_of(file), type_of(file)
    return source


class _Iterable(Source):
    """The items of an iterable, joined in a worker thread because a generator may block."""

    def __init__(self, items: Iterable[object]) -> None:
        self.what = type_name(items)
        self.repeatable = isinstance(items, Sequence)
        self._items: Iterable[object] = items
        self._iterator: Iterator[object] | None = None
        if isinstance(items, list | tuple) and all(isinstance(item, bytes) for item in items):
            self.size = sum(map(len, items))

    async def read(self) -> bytes:
        return await in_callers_thread(self._join)

    def _join(self) -> bytes:
        joined = bytearray()
        if self._iterator is None:
            self._iterator = iter(self._items)  # not before, because it may block
        for item in self._iterator:
            joined += _block(item, self.what)
            if len(joined) >= _READ_BYTES:
                break
        return bytes(joined)


class _AsyncIterable(Source):
    def __init__(self, items: AsyncIterable[object], *, own: bool = False) -> None:
        self.what = type_name(items)
        self._items: AsyncIterator[object] = aiter(items)
        self._own = own or self._items is not items

    async def read(self) -> bytes:
        async for item in self._items:
            if block := _block(item, self.what):
                return block
        return b""

    async def aclose(self) -> None:
        close = getattr(self._items, "aclose", None)
        if self._own and close is not None:
            await close()
