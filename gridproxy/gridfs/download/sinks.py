"""Writes downloaded blocks to a local path or to a file object."""

from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import io
import os
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import BinaryIO, Protocol, runtime_checkable

from gridproxy.errors import BadSource, type_name
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tasks import in_callers_thread, in_thread
from gridproxy.runtime.thread_guard import ThreadGuard

_ROOT = 0
# As the kernel of Linux has it.
_MOST_LINKS = 40


@runtime_checkable
class Writable(Protocol):
    """A synchronous binary file, which is written in a worker thread."""

    def write(self, data: bytes, /) -> object: ...


@runtime_checkable
class AsyncWritable(Protocol):
    """An asynchronous binary file."""

    def write(self, data: bytes, /) -> Awaitable[object]: ...


SinkLike = str | os.PathLike[str] | Writable | AsyncWritable


async def save(blocks: AsyncIterator[bytes], sink: SinkLike, total: int, progress: Progress | None) -> None:
    """Write all blocks to `sink`. A path gets the complete file or none, a file object gets each block at once."""
    if isinstance(sink, str | os.PathLike):
        await _save_to_path(blocks, sink, total, progress)
        return
    write = _writer(sink)
    done = 0
    async for block in blocks:
        await _write_all(sink, write, block)
        done += len(block)
        await report(progress, done, total)


def _writer(sink: object) -> Callable[[bytes], Awaitable[object]]:
    write = getattr(sink, "write", None)
    if isinstance(sink, io.TextIOBase) or not callable(write):
        raise BadSource(f"save_to needs a path or a binary file to write to, not {type_name(sink)}")
    if isinstance(sink, asyncio.StreamWriter):
        stream = sink  # its `write` has to run in the event loop

        async def write_and_drain(block: bytes) -> None:
            stream.write(block)
            await stream.drain()

        return write_and_drain
    if inspect.iscoroutinefunction(write):
        function: Callable[[bytes], Awaitable[object]] = write
        return function

    async def write_in_thread(block: bytes) -> object:
        written = await in_callers_thread(functools.partial(write, block))
        return await written if inspect.isawaitable(written) else written

    return write_in_thread


async def _write_all(sink: object, write: Callable[[bytes], Awaitable[object]], block: bytes) -> None:
    while block:
        written = await write(block)
        if (type(written) is int and written == 0) or (written is None and isinstance(sink, io.RawIOBase)):
            raise BlockingIOError(f"{type_name(sink)} accepted no bytes: pass a blocking file, not a non-blocking one")
        # Raw files may write only a part. Others return the full length or another value.
        block = block[written:] if type(written) is int and 0 < written < len(block) else b""


async def _save_to_path(
    blocks: AsyncIterator[bytes], path: str | os.PathLike[str], total: int, progress: Progress | None
) -> None:
    part = _PartFile(path)
    guard = ThreadGuard(part.discard)
    try:
        await in_thread(functools.partial(guard.run, part.open))
        done = 0
        async for block in blocks:
            await in_thread(functools.partial(guard.run, functools.partial(part.write, block)))
            done += len(block)
            await report(progress, done, total)
        await in_thread(functools.partial(guard.run, part.commit))
    except BaseException:
        # Not in a thread, so that no cancellation can interrupt it. Deleting one file is fast.
        guard.finish()
        raise


class _PartFile:
    """A temporary file in the target's folder, renamed when it is complete. Its methods block."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._target = ""
        self._temporary = ""
        self._new_mode = 0o600
        self._file: BinaryIO | None = None

    def open(self) -> None:
        self._target = _resolve(self._path)
        if os.path.isdir(self._target):
            raise IsADirectoryError(f"save_to({self._target!r}): this is a directory. Pass the path of a file in it")
        if os.path.exists(self._target) and not os.path.isfile(self._target):
            raise OSError(
                f"save_to({self._target!r}): a device or a pipe would be replaced. Open it and pass the file object"
            )
        folder, name = os.path.split(self._target)
        # 40 characters have at most 160 bytes, and a name may have 255.
        self._temporary = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(6)}.part")
        # The mode of a new file is known from a file, because reading the umask would change it for all threads.
        with open(self._temporary, "xb") as probe:
            self._new_mode = stat.S_IMODE(os.fstat(probe.fileno()).st_mode)
        os.unlink(self._temporary)
        # No other user can read it until it is complete, nor later if this process is killed.
        self._file = open(self._temporary, "xb", opener=_open_private)  # noqa: SIM115  # closed by commit() or discard()

    def write(self, block: bytes) -> None:
        assert self._file is not None
        self._file.write(block)

    def commit(self) -> None:
        assert self._file is not None
        self._file.flush()
        if hasattr(os, "geteuid"):  # Windows has no such modes
            os.fchmod(self._file.fileno(), self._mode())
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._target)

    def _mode(self) -> int:
        """Return the mode of the existing target if it is a file of this user's, else that of a new file."""
        try:
            target = os.lstat(self._target)
        except FileNotFoundError:
            return self._new_mode
        ours = stat.S_ISREG(target.st_mode) and target.st_uid == os.geteuid()
        # Permissions only: with setuid, other users could run the stored bytes as this user.
        return target.st_mode & 0o777 if ours else self._new_mode

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # on a full disk closing flushes and fails again
                self._file.close()
            with suppress(FileNotFoundError):  # it was already renamed
                os.unlink(self._temporary)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _resolve(path: str | os.PathLike[str]) -> str:
    """Return the path without symbolic links. Raises `PermissionError` if one of them is another user's."""
    if not hasattr(os, "geteuid"):  # Windows, where only administrators create links
        return os.path.realpath(path)
    done, pending, links = "/", os.path.join(os.getcwd(), os.fspath(path)).split("/")[::-1], 0
    while pending:
        part = pending.pop()
        if part == "..":
            done = os.path.dirname(done)
        if part in ("", ".", ".."):
            continue
        done = os.path.join(done, part)
        if not os.path.islink(done):
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        if os.lstat(done).st_uid not in (os.geteuid(), _ROOT):
            raise PermissionError(
                f"save_to({os.fspath(path)!r}): {done!r} is a symbolic link of another user, which could lead to any "
                "file of yours. Pass the path that it leads to"
            )
        target = os.readlink(done)
        done = "/" if target.startswith("/") else os.path.dirname(done)
        pending += target.split("/")[::-1]
    return done
