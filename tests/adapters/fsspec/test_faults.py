"""Servers that fail, and calls that are cancelled or time out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

from gridproxy import CorruptFile
from gridproxy.adapters.fsspec import GridFSFileSystem
from tests.faults.cancelling import Work, cancelled_everywhere
from tests.observing import Database as AsyncDatabase
from tests.observing import contents, orphans

Synchronous = Database[dict[str, Any]]


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, *, after: int = 0) -> Iterator[None]:
    """Let a method of pymongo's collections raise an error from its call number `after` on."""
    real = getattr(AsyncCollection, method)
    calls = 0

    def refuse(self: AsyncCollection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncCollection, method, refuse)
        yield


def test_an_error_of_the_server_while_writing_leaves_the_old_file(
    fs: GridFSFileSystem, synchronous: Synchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe("data/x", b"old")
    full = OperationFailure("the disk is full", 14031)
    for after in (0, 1, 2):
        with (
            failing(monkeypatch, "insert_many", full, after=after),
            pytest.raises(OperationFailure, match="full"),
            fs.open("data/x", "wb", block_size=2**20) as file,
        ):
            for _ in range(10):
                file.write(bytes(2**20))
        assert file.closed
    assert fs.cat("data/x") == b"old"
    assert synchronous["data.chunks"].count_documents({}) == synchronous["data.files"].count_documents({}) == 1


def test_an_error_that_is_ignored_still_stores_nothing(
    fs: GridFSFileSystem, synchronous: Synchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fs.open("data/x", "wb", block_size=2**20)
    with failing(monkeypatch, "insert_many", OperationFailure("the disk is full", 14031)):
        for _ in range(10):
            try:
                file.write(bytes(2**20))
            except OperationFailure:
                break
        with pytest.raises((OperationFailure, ValueError)):
            file.close()
    assert not fs.exists("data/x")
    assert synchronous["data.chunks"].count_documents({}) == 0


def test_a_failed_removal_of_the_older_revision_leaves_the_new_file(
    fs: GridFSFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe("data/x", b"old")
    with failing(monkeypatch, "delete_many", AutoReconnect("cut")), pytest.raises(AutoReconnect):
        fs.pipe("data/x", b"new")
    assert fs.cat("data/x") == b"new"
    fs.pipe("data/x", b"newest")
    fs.rm("data/x")
    assert not fs.exists("data/x")


def test_an_error_of_the_server_is_not_a_missing_file(fs: GridFSFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    fs.pipe("data/x", b"content")
    for call in (fs.exists, fs.isfile, fs.isdir, fs.info, fs.cat, fs.find, fs.open):
        with (
            failing(monkeypatch, "find", AutoReconnect("cut")),
            failing(monkeypatch, "find_one", AutoReconnect("cut")),
            pytest.raises(AutoReconnect),
        ):
            call("data/x")
    assert fs.isfile("data/x")


def test_damaged_content_is_an_error_and_never_short(fs: GridFSFileSystem, synchronous: Synchronous) -> None:
    fs.pipe_file("data/x", bytes(1000), chunk_size=100)
    synchronous["data.chunks"].delete_one({"n": 5})
    with pytest.raises(CorruptFile, match="chunk 5"):
        fs.cat("data/x")
    with fs.open("data/x") as file:
        assert file.read(500) == bytes(500)
        with pytest.raises(CorruptFile, match="chunk 5"):
            file.read()
    found = fs.cat_ranges(["data/x", "data/x"], [0, 500], [100, 600])
    assert all(isinstance(each, CorruptFile) for each in found)


def test_a_server_that_does_not_answer_is_an_error(fs: GridFSFileSystem) -> None:
    lost = GridFSFileSystem(uri="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50", database="zoo")
    assert lost is not fs
    for call in (lost.cat, lost.exists, lost.isfile, lost.open, lambda path: lost.pipe(path, b"1")):
        with pytest.raises(ServerSelectionTimeoutError):
            call("data/x")


def test_a_call_that_times_out_stores_nothing(
    fs: GridFSFileSystem, synchronous: Synchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe("data/x", b"old")
    real = AsyncCollection.insert_many

    async def slow(self: AsyncCollection[Any], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(1.5)
        return await real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncCollection, "insert_many", slow)
        with pytest.raises(FSTimeoutError):
            sync(fs.loop, fs._pipe_file, "data/x", bytes(5_000_000), timeout=0.5)
    sync(fs.loop, asyncio.sleep, 3)  # the call was given up, and its clean-up may still run
    assert fs.cat("data/x") == b"old"
    assert synchronous["data.chunks"].count_documents({}) == 1


async def test_a_write_that_is_cancelled_anywhere_leaves_the_old_file_or_the_new_one(database: AsyncDatabase) -> None:
    fs = GridFSFileSystem(database=database, asynchronous=True)

    async def write() -> None:
        async with await fs.open_async("data/x", "wb") as file:
            await file.write(b"new")

    async def check(returned: bool) -> None:
        content = await fs._cat_file("data/x")
        assert content in ((b"new",) if returned else (b"old", b"new"))
        assert await orphans(database, "data") == []
        # A cancellation after the new file is stored may leave the older revision, which the next write removes.
        records, chunks = await contents(database, "data")
        assert records == chunks <= (1 if returned or content == b"old" else 2)
        await fs._pipe_file("data/x", b"newer")
        assert await contents(database, "data") == (1, 1)

    async def make() -> Work:
        await fs._pipe_file("data/x", b"old")
        return Work(write, check)

    assert await cancelled_everywhere(make, stride=9) > 10
