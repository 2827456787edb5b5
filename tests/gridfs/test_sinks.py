"""A stream of blocks is written to a path, completely or not at all, or to a file object block by block."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest

from gridproxy import BadSource
from gridproxy.gridfs.download.sinks import save

from ..naming import shown

PIECES = [b"some ", b"", b"marmot ", b"bytes" * 1000]
DATA = b"".join(PIECES)


async def blocks() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece


async def failing_blocks() -> AsyncIterator[bytes]:
    yield b"half a "
    raise ConnectionError("the server is gone")


async def put(sink: Any) -> None:
    await save(blocks(), sink, len(DATA), None)


# Paths


@pytest.mark.parametrize("kind", [str, Path, anyio.Path])
async def test_a_path_gets_all_the_bytes(tmp_path: Path, kind: Any) -> None:
    target = tmp_path / "marmot.bin"
    await put(kind(target))
    assert target.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["marmot.bin"]


async def test_the_target_never_has_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "marmot.bin"
    target.write_bytes(b"old")
    seen = []

    async def watched() -> AsyncIterator[bytes]:
        async for block in blocks():
            seen.append(target.read_bytes())
            yield block

    await save(watched(), target, len(DATA), None)
    assert seen == [b"old"] * len(PIECES)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("existing", [None, b"old"])
async def test_a_failure_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path: Path, existing: bytes | None) -> None:
    target = tmp_path / "marmot.bin"
    if existing is not None:
        target.write_bytes(existing)
    with pytest.raises(ConnectionError):
        await save(failing_blocks(), target, 20, None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if existing is None else [existing])


async def test_a_cancellation_leaves_no_temporary_file(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"half a "
        started.set()
        await asyncio.Event().wait()

    saving = asyncio.create_task(save(endless(), tmp_path / "marmot.bin", 20, None))
    await started.wait()
    assert len(os.listdir(tmp_path)) == 1
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert os.listdir(tmp_path) == []


async def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "marmot.bin"
    target.write_bytes(b"old")
    target.chmod(0o640)
    await put(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes() == DATA


async def test_a_symbolic_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target, link = folder / "marmot.bin", tmp_path / "link"
    for _ in range(2):  # first a dangling link, then a link to a file
        if not link.is_symlink():
            link.symlink_to(target)
        await put(link)
        assert link.is_symlink()
        assert target.read_bytes() == DATA
        assert os.listdir(folder) == ["marmot.bin"]


async def test_a_folder_is_refused_and_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for sink in (folder, f"{folder}/"):
        with pytest.raises(IsADirectoryError, match="this is a directory"):
            await put(sink)
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(folder) == []


async def test_a_device_or_a_pipe_is_refused_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a device or a pipe would be replaced"):
        await put(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


async def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await put(tmp_path / "missing" / "marmot.bin")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 255, "猫" * 85, "🐿" * 63, ".hidden", "with space"])
async def test_any_name_that_the_file_system_allows_is_accepted(tmp_path: Path, name: str) -> None:
    await put(tmp_path / name)
    assert (tmp_path / name).read_bytes() == DATA


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files, which acts like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "marmot.bin"
    target.write_bytes(b"old")
    with files_of_at_most(100), pytest.raises(OSError, match="too large"):
        await put(target)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["marmot.bin"]


# Writables


class Partial:
    """A raw file that writes at most seven bytes at a time."""

    def __init__(self) -> None:
        self.data = b""
        self.threads: set[int] = set()

    def write(self, data: bytes) -> int:
        self.threads.add(threading.get_ident())
        part = bytes(data[:7])
        self.data += part
        return len(part)


class AsyncPartial(Partial):
    async def write(self, data: bytes) -> int:  # type: ignore[override]  # the same, asynchronously
        await asyncio.sleep(0)
        return super().write(data)


class HiddenAwaitable(Partial):
    """A file with a plain function that returns an awaitable."""

    def write(self, data: bytes) -> Any:
        written = super().write(data)

        async def later() -> int:
            return written

        return later()


class Silent(Partial):
    """A file that writes everything and returns any value."""

    def __init__(self, answer: object = None) -> None:
        super().__init__()
        self._answer = answer

    def write(self, data: bytes) -> Any:
        self.data += data
        return self._answer


async def test_a_file_is_written_from_its_position_and_not_closed(tmp_path: Path) -> None:
    memory = io.BytesIO(b"before ")
    memory.seek(7)
    await put(memory)
    assert memory.getvalue() == b"before " + DATA

    with (tmp_path / "raw").open("wb", buffering=0) as raw, tempfile.NamedTemporaryFile() as temporary:
        for file in (raw, temporary):
            await put(file)
            assert not file.closed
        temporary.seek(0)
        assert temporary.read() == DATA
    assert (tmp_path / "raw").read_bytes() == DATA


async def test_asynchronous_files_are_awaited(tmp_path: Path) -> None:
    async with (
        await anyio.open_file(tmp_path / "anyio", "wb") as of_anyio,
        aiofiles.open(tmp_path / "aiofiles", "wb") as of_aiofiles,
    ):
        await put(of_anyio)
        await put(of_aiofiles)
    assert (tmp_path / "anyio").read_bytes() == (tmp_path / "aiofiles").read_bytes() == DATA


@pytest.mark.parametrize("kind", [Partial, AsyncPartial, HiddenAwaitable])
async def test_a_partial_write_is_continued(kind: type[Partial]) -> None:
    sink = kind()
    await put(sink)
    assert sink.data == DATA


async def test_synchronous_files_run_in_a_thread_and_asynchronous_ones_in_the_loop() -> None:
    synchronous, asynchronous = Partial(), AsyncPartial()
    await put(synchronous)
    await put(asynchronous)
    assert threading.get_ident() not in synchronous.threads
    assert asynchronous.threads == {threading.get_ident()}


@pytest.mark.parametrize("answer", [None, True, False, "ok", 10**9, -1], ids=shown)
async def test_a_write_with_another_result_counts_as_complete(answer: object) -> None:
    sink = Silent(answer)
    await put(sink)
    assert sink.data == DATA


async def test_a_file_that_accepts_no_bytes_is_an_error() -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any) -> Any:  # the result of a full non-blocking file
            return None

    for sink in (Full(), Silent(0)):
        with pytest.raises(BlockingIOError, match=f"{type(sink).__name__} accepted no bytes"):
            await put(sink)


async def test_a_stream_writer_is_written_in_its_loop_and_drained() -> None:
    received = bytearray()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(-1))
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await put(writer)
        assert not writer.is_closing()
        writer.close()
        await writer.wait_closed()
        await done.wait()
    assert bytes(received) == DATA


async def test_a_text_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "text").open("w") as text:
        for sink in (text, io.StringIO()):
            with pytest.raises(BadSource, match="needs a path or a binary file"):
                await put(sink)


@pytest.mark.parametrize("sink", [None, 5, b"path", object(), [b"a"]], ids=shown)
async def test_an_object_that_is_not_writable_is_named(sink: object) -> None:
    with pytest.raises(BadSource, match=f"not {type(sink).__name__}"):
        await put(sink)


async def test_an_error_of_the_file_is_raised_unchanged() -> None:
    class Broken:
        def write(self, data: bytes) -> int:
            raise BrokenPipeError("reader is gone")

    with pytest.raises(BrokenPipeError, match="reader is gone"):
        await put(Broken())


# Progress


@pytest.mark.parametrize("target", ["path", "writable"])
async def test_progress_gets_the_bytes_done_and_the_bytes_in_all(tmp_path: Path, target: str) -> None:
    reports: list[tuple[int, int | None]] = []
    sink = tmp_path / "a" if target == "path" else io.BytesIO()
    await save(blocks(), sink, len(DATA), lambda done, total: reports.append((done, total)))
    assert reports == [(5, len(DATA)), (5, len(DATA)), (12, len(DATA)), (len(DATA), len(DATA))]


async def test_progress_may_be_a_coroutine_function_and_its_error_ends_the_transfer(tmp_path: Path) -> None:
    reports = []

    async def progress(done: int, total: int | None) -> None:
        await asyncio.sleep(0)
        reports.append(done)
        if len(reports) == 2:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        await save(blocks(), tmp_path / "a", len(DATA), progress)
    assert len(reports) == 2
    assert os.listdir(tmp_path) == []
