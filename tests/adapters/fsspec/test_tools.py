"""Programs that open URLs: pandas, Arrow, zarr, universal_pathlib, fsspec's own tools and Litestar."""

from __future__ import annotations

import asyncio
import gzip
import warnings
from pathlib import Path
from typing import Any

import fsspec
import fsspec.generic
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from litestar import Litestar, get
from litestar.response import File
from litestar.testing import TestClient
from pymongo.database import Database

from gridproxy.adapters.fsspec import GridFSFileSystem, file
from gridproxy.gridfs.download import download

Synchronous = Database[dict[str, Any]]


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"number": range(1000), "name": [f"marmot {number}" for number in range(1000)]})


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "deep/er/t.csv"])
def test_pandas_reads_and_writes_csv(name: str, table: pd.DataFrame, options: dict[str, Any]) -> None:
    url = f"gridfs://data/{name}"
    table.to_csv(url, index=False, storage_options=options)
    assert pd.read_csv(url, storage_options=options).equals(table)


def test_pandas_reads_and_writes_parquet(table: pd.DataFrame, options: dict[str, Any]) -> None:
    table.to_parquet("gridfs://data/t.parquet", storage_options=options)
    found = pd.read_parquet("gridfs://data/t.parquet", columns=["name"], storage_options=options)
    assert found.equals(table[["name"]])


def test_pandas_stores_nothing_if_writing_fails(
    table: pd.DataFrame, fs: GridFSFileSystem, options: dict[str, Any]
) -> None:
    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError("this cell cannot be written")

    broken = pd.concat([table, pd.DataFrame({"number": [0], "name": [Unwritable()]})])
    with pytest.raises(RuntimeError, match="this cell"):
        broken.to_csv("gridfs://data/t.csv", chunksize=100, storage_options=options)
    assert fs.find("") == []


def test_arrow_writes_and_scans_a_dataset(table: pd.DataFrame, fs: GridFSFileSystem) -> None:
    arrow = pa.Table.from_pandas(table.assign(part=table["number"] % 3))
    pa.dataset.write_dataset(
        arrow, "data/set", format="parquet", partitioning=["part"], partitioning_flavor="hive", filesystem=fs
    )
    assert len(fs.find("data/set")) == 3
    dataset = pa.dataset.dataset("data/set", format="parquet", partitioning="hive", filesystem=fs)
    found = dataset.to_table(columns=["number"], filter=pa.dataset.field("part") == 2)
    assert found["number"].to_pylist() == list(range(2, 1000, 3))


def test_one_column_of_a_parquet_file_fetches_little_more_than_arrow_asks_for(
    fs: GridFSFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 20 columns of 400 kB in each of 3 groups. The chunks are as much smaller than 255 KiB as the file than 200 MB.
    columns = {f"column{number}": pa.array(range(number, number + 150_000), pa.int64()) for number in range(20)}
    with fs.open("data/t.parquet", "wb", chunk_size=32 * 1024) as target:
        pa.parquet.write_table(
            pa.table(columns), target, row_group_size=50_000, use_dictionary=False, compression="none"
        )
    asked: list[int] = []
    fetched: list[int] = []
    read, fetch = file.GridFSFile.read, download.read_range

    def counted_read(self: Any, length: int = -1) -> bytes:
        asked.append(len(found := read(self, length)))
        return bytes(found)

    async def counted_fetch(store: Any, id: object, start: int, stop: int, **rest: Any) -> bytes:
        size = rest["info"].chunk_size
        fetched.append(min(-(-stop // size) * size, rest["info"].length) - start // size * size)
        return await fetch(store, id, start, stop, **rest)

    monkeypatch.setattr(file.GridFSFile, "read", counted_read)
    monkeypatch.setattr(file, "read_range", counted_fetch)
    found = pa.parquet.read_table("data/t.parquet", columns=["column7"], filesystem=fs)
    assert found["column7"].to_pylist() == list(range(7, 150_007))
    assert 1_200_000 <= sum(asked) <= sum(fetched) < 1.2 * sum(asked) < 0.1 * fs.size("data/t.parquet")


def test_zarr_writes_and_reads_arrays(options: dict[str, Any], fs: GridFSFileSystem) -> None:
    import numpy as np
    import zarr

    url = "gridfs://data/array.zarr"
    values = np.arange(10_000).reshape(100, 100)
    array = zarr.create_array(url, shape=values.shape, chunks=(30, 30), dtype="int64", storage_options=options)
    array[:] = values
    array.attrs["place"] = "Alps"
    again = zarr.open_array(url, mode="r", storage_options=options)
    assert np.array_equal(np.asarray(again[:]), values)
    assert np.array_equal(np.asarray(again[5:40, 7]), values[5:40, 7])
    assert again.attrs["place"] == "Alps"
    assert "data/array.zarr/zarr.json" in fs.find("data")
    # zarr made an asynchronous file system in its own event loop. Its client is closed there.
    store: Any = again.store
    zarr.core.sync.sync(store.fs.aclose())
    zarr.core.sync.sync(array.store.fs.aclose())  # type: ignore[attr-defined]


def test_universal_pathlib_walks_the_paths(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not explicitly implemented", category=UserWarning)
        from upath import UPath

        root = UPath("gridfs://data", **options)
    path = root / "notes" / "one.txt"
    path.write_text("some text")
    assert path.read_text() == "some text"
    assert (path.is_file(), path.parent.is_dir(), path.suffix, path.stat().st_size) == (True, True, ".txt", 9)
    assert path.stat().st_mtime > 1e9
    assert [each.name for each in root.rglob("*.txt")] == ["one.txt"]
    with pytest.raises(FileExistsError):
        path.parent.mkdir()
    path.rename(root / "two.txt")
    assert [each.name for each in root.iterdir()] == ["two.txt"]
    (root / "two.txt").unlink()
    assert not (root / "two.txt").exists()


def test_gzip_reads_and_writes_an_open_file(fs: GridFSFileSystem) -> None:
    with fs.open("data/x.gz", "wb") as target, gzip.open(target, "wt") as text:
        text.write("some text")
    with fs.open("data/x.gz", "rb") as source, gzip.open(source, "rt") as text:
        assert text.read() == "some text"
    with fsspec.open("gridfs://data/x.gz", "rt", compression="infer", **fs.storage_options) as text:
        assert text.read() == "some text"


def test_rsync_copies_to_and_from_other_file_systems(
    fs: GridFSFileSystem, options: dict[str, Any], tmp_path: Path
) -> None:
    instance = {"default_method": "options", "storage_options": {"gridfs": options}}
    memory = fsspec.filesystem("memory")
    memory.pipe({"/zoo/a/1": b"1", "/zoo/b": b"22"})
    try:
        fsspec.generic.rsync("memory:///zoo", "gridfs://data/zoo", inst_kwargs=instance)
        assert fs.cat(fs.find("data/zoo")) == {"data/zoo/a/1": b"1", "data/zoo/b": b"22"}
        fsspec.generic.rsync("gridfs://data/zoo", f"file://{tmp_path}/zoo", inst_kwargs=instance)
        assert (tmp_path / "zoo" / "a" / "1").read_bytes() == b"1"
        (tmp_path / "zoo" / "b").write_bytes(b"333")
        (tmp_path / "zoo" / "c").write_bytes(b"c")
        (tmp_path / "zoo" / "a" / "1").unlink()
        fsspec.generic.rsync(f"file://{tmp_path}/zoo", "gridfs://data/zoo", inst_kwargs=instance, delete_missing=True)
        assert fs.cat(fs.find("data/zoo")) == {"data/zoo/b": b"333", "data/zoo/c": b"c"}
        fsspec.generic.rsync("gridfs://data/zoo", "memory:///back", inst_kwargs=instance)
        assert memory.cat("/back/b") == b"333"
    finally:
        memory.store.clear()


def test_chained_urls_and_mappings(fs: GridFSFileSystem, options: dict[str, Any], tmp_path: Path) -> None:
    fs.pipe("data/x", b"some text")
    chained = {"gridfs": options, "simplecache": {"cache_storage": str(tmp_path)}}
    with fsspec.open("simplecache::gridfs://data/x", **chained) as file:
        assert file.read() == b"some text"
    mapping = fs.get_mapper("data/map")
    mapping["a/b"] = b"1"
    assert (list(mapping), mapping["a/b"]) == (["a/b"], b"1")


def test_litestar_serves_files(fs: GridFSFileSystem) -> None:
    fs.pipe("data/photos/marmot.txt", b"a marmot")
    fs.pipe("data/large.bin", bytes(3_000_000))

    @get("/small", sync_to_thread=False)
    def small() -> File:
        return File(path="data/photos/marmot.txt", file_system=fs)

    @get("/large", sync_to_thread=False)
    def large() -> File:
        return File(path="data/large.bin", file_system=fs)

    # Its own configuration of the root logger would stay for the tests that follow.
    with TestClient(Litestar([small, large], openapi_config=None, logging_config=None)) as client:
        answer = client.get("/small")
        assert (answer.status_code, answer.content) == (200, b"a marmot")
        assert answer.headers["last-modified"]
        assert client.get("/large").content == bytes(3_000_000)


def test_blocking_methods_work_inside_a_running_loop(fs: GridFSFileSystem) -> None:
    async def main() -> bytes:
        fs.pipe("data/x", b"content")
        return bytes(fs.cat("data/x"))

    assert asyncio.run(main()) == b"content"
