"""Open files: what is stored when they are closed, and what is not when something goes wrong."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import fsspec
import pytest
from pymongo.database import Database

from gridproxy import Bucket, FileClosed
from gridproxy.adapters.fsspec import GridFSFileSystem
from gridproxy.adapters.fsspec.cache import ChunkCache
from tests.observing import Database as AsyncDatabase
from tests.observing import contents, orphans

Synchronous = Database[dict[str, Any]]


class Interrupted(Exception):
    pass


@contextmanager
def passed_on(file: Any) -> Iterator[Any]:
    with file:
        yield file


OPENINGS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "binary": lambda fs, _: fs.open("data/x", "wb"),
    "exclusive": lambda fs, _: fs.open("data/y", "xb"),
    "text": lambda fs, _: fs.open("data/x", "w"),
    "compressed": lambda fs, _: fs.open("data/x", "wb", compression="gzip"),
    "compressed text": lambda fs, _: fs.open("data/x", "wt", compression="bz2"),
    "by URL": lambda _, options: fsspec.open("gridfs://data/x", "wb", **options),
    "text by URL": lambda _, options: fsspec.open("gridfs://data/x", "wt", compression="gzip", **options),
    "wrapped": lambda fs, _: io.TextIOWrapper(fs.open("data/x", "wb")),
    "buffered": lambda fs, _: io.BufferedWriter(fs.open("data/x", "wb")),
    "in a context manager": lambda fs, _: passed_on(fs.open("data/x", "wb")),
}
TEXT = {"text", "compressed text", "text by URL", "wrapped"}


@pytest.mark.parametrize("how", OPENINGS)
@pytest.mark.parametrize("size", [10, 6_000_000], ids=["small", "sent in part"])
def test_a_block_that_raises_stores_nothing(
    how: str, size: int, fs: GridFSFileSystem, options: dict[str, Any], synchronous: Synchronous
) -> None:
    fs.pipe("data/x", b"old")
    with pytest.raises(Interrupted), OPENINGS[how](fs, options) as file:
        content = random.Random(1).randbytes(size)
        file.write(content.decode("latin-1") if how in TEXT else content)
        raise Interrupted
    del file
    assert fs.find("data") == ["data/x"]
    assert fs.cat("data/x") == b"old"
    assert synchronous["data.chunks"].count_documents({}) == 1


@pytest.mark.parametrize("how", OPENINGS)
def test_a_block_that_ends_stores_everything(how: str, fs: GridFSFileSystem, options: dict[str, Any]) -> None:
    with OPENINGS[how](fs, options) as file:
        file.write("content" if how in TEXT else b"content")
    assert len(fs.find("data")) == 1
    codecs = {"compressed": "gzip", "text by URL": "gzip", "compressed text": "bz2"}
    with fs.open(fs.find("data")[0], "rb", compression=codecs.get(how)) as file:
        assert file.read() == b"content"


def test_a_file_that_is_closed_while_an_error_is_handled_is_stored(fs: GridFSFileSystem) -> None:
    file = fs.open("data/x", "wb")
    file.write(b"before")
    try:
        raise Interrupted
    except Interrupted:
        file.write(b" and after")
        file.close()
        with fs.open("data/log", "w") as log:
            log.write("interrupted")
    assert fs.cat(["data/x", "data/log"]) == {"data/x": b"before and after", "data/log": b"interrupted"}


def test_a_block_that_cleans_up_after_an_error_stores_its_own_files(fs: GridFSFileSystem) -> None:
    def write() -> None:
        with fs.open("data/report", "wt") as file:
            file.write("failed")

    with pytest.raises(Interrupted), ExitStack() as stack:
        stack.callback(write)
        raise Interrupted
    assert fs.cat("data/report") == b"failed"


def test_a_file_that_is_dropped_open_warns_and_leaves_nothing(fs: GridFSFileSystem, synchronous: Synchronous) -> None:
    file = fs.open("data/x", "wb")
    file.write(bytes(6_000_000))
    dropped = [file]
    del file
    with pytest.warns(ResourceWarning, match="data/x was not closed, so it was not stored"):
        dropped.clear()
    fs.exists("data/x")  # waits for the loop
    assert synchronous["data.files"].count_documents({}) == 0
    with fs.open("data/x", "wb") as file:
        file.discard()
    assert not fs.exists("data/x")


@pytest.mark.parametrize("mode", ["ab", "a", "r+b", "w+", "rb+"])
def test_a_file_is_not_changed_in_place(mode: str, fs: GridFSFileSystem) -> None:
    fs.pipe("data/x", b"content")
    with pytest.raises(NotImplementedError, match="written as a whole"):
        fs.open("data/x", mode)
    assert fs.cat("data/x") == b"content"


def test_options_of_an_open_file_are_stored_with_it(fs: GridFSFileSystem) -> None:
    with fs.open("data/x", "wb", content_type="text/csv", metadata={"owner": 7}, chunk_size=100) as file:
        file.write(bytes(250))
    info = fs.info("data/x")
    assert (info["content_type"], info["metadata"]["owner"]) == ("text/csv", 7)


def test_files_of_a_transaction_become_visible_together_or_not_at_all(
    fs: GridFSFileSystem, synchronous: Synchronous
) -> None:
    with fs.transaction:
        with fs.open("data/x", "wb") as file:
            file.write(b"1")
        assert not fs.exists("data/x")
    assert fs.cat("data/x") == b"1"
    with pytest.raises(Interrupted), fs.transaction:
        with fs.open("data/y", "wb") as file:
            file.write(b"2")
        raise Interrupted
    assert fs.find("data") == ["data/x"]
    assert synchronous["data.chunks"].count_documents({}) == 1


def test_an_open_file_reads_like_a_local_one(fs: GridFSFileSystem) -> None:
    content = random.Random(2).randbytes(30_000)
    fs.pipe_file("data/x", content, chunk_size=1000)
    expected = io.BytesIO(content)
    chance = random.Random(3)
    with fs.open("data/x") as file:
        for _ in range(300):
            if chance.random() < 0.5:
                position = chance.randrange(31_000)
                assert file.seek(position) == expected.seek(position)
            size = chance.choice([1, 10, 999, 1000, 1001, 5000])
            assert file.read(size) == expected.read(size)
        assert (file.seek(-5, 2), file.read()) == (29_995, content[-5:])
    with fs.open("data/x", "rb") as file, pytest.raises(ValueError, match="closed"):
        file.close()
        file.read()


def test_the_cache_fetches_only_chunks_that_are_read_unless_they_are_read_in_sequence() -> None:
    content = random.Random(4).randbytes(10_000_000)
    fetched: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        fetched.append((start, stop))
        return content[start:stop]

    cache = ChunkCache(1000, fetch, len(content))
    assert cache._fetch(5_500, 5_600) == content[5_500:5_600]
    assert cache._fetch(5_900, 5_950) == content[5_900:5_950]
    assert cache._fetch(2_500, 4_100) == content[2_500:4_100]
    assert cache._fetch(10_000_500, 10_000_600) == b""
    assert fetched == [(5_000, 6_000), (2_000, 5_000)]
    fetched.clear()
    for start in range(0, 5_000_000, 1000):
        assert cache._fetch(start, start + 1000) == content[start : start + 1000]
    assert len(fetched) < 30
    assert max(stop for _, stop in fetched) < 2 * 5_000_000
    fetched.clear()
    assert cache._fetch(0, 2_000_500) == content[:2_000_500]
    assert cache._fetch(2_000_500, 4_000_000) == content[2_000_500:4_000_000]
    assert fetched == [(0, 2_001_000), (2_001_000, 4_000_000)]
    assert len(cache._data) < 2_100_000


async def test_asynchronous_files_read_write_and_abort(database: AsyncDatabase) -> None:
    fs = GridFSFileSystem(database=database, asynchronous=True)
    async with await fs.open_async("data/x", "wb", content_type="text/csv") as file:
        assert await file.write(b"0123") == 4
        await file.flush()
        assert await file.write(b"456789") == 6
        assert not await fs._exists("data/x")
        with pytest.raises(FileClosed):
            await file.read()
    async with await fs.open_async("data/x") as file:
        assert (file.size, await file.read(3), file.tell(), file.seek(-2, 2), await file.read()) == (
            10,
            b"012",
            3,
            8,
            b"89",
        )
        with pytest.raises(FileClosed):
            await file.write(b"1")
    with pytest.raises(Interrupted):
        async with await fs.open_async("data/x", "wb") as file:
            await file.write(b"half")
            raise Interrupted
    with pytest.raises(FileExistsError):
        await fs.open_async("data/x", "xb")
    for mode in ("r", "ab"):
        with pytest.raises(NotImplementedError):
            await fs.open_async("data/x", mode)
    file = await fs.open_async("data/y", "wb")
    await file.discard()
    await file.close()
    assert await fs._cat_file("data/x") == b"0123456789"
    assert await contents(database, "data") == (1, 1)
    assert await orphans(database, "data") == []
    assert (await Bucket(database, "data").by_name("x")).content_type == "text/csv"
