"""One column of a Parquet file through `gridfs://`, beside the same ranges through `Bucket.read_ranges`.

    python -m tests.benchmarks.fsspec_ranges [megabytes] [--rtt 0,5]

It prints the bytes that pyarrow asked for, the bytes of the fetched chunks, and seconds of wall clock and processor.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from fsspec.asyn import sync

from gridproxy.adapters.fsspec import GridFSFileSystem, file
from gridproxy.gridfs.download import download
from tests.proxy import delaying_proxy

from .interface import DATABASE
from .servers import address, benchmark_server, moved

_COLUMNS = 10
_ROUNDS = 5


def parquet(megabytes: int) -> bytes:
    """Return a Parquet file of ten columns and ten groups of rows."""
    rows = megabytes * 1_000_000 // 8 // _COLUMNS
    chance = np.random.default_rng(1)
    table = pa.table({f"column{number}": chance.random(rows) for number in range(_COLUMNS)})
    target = io.BytesIO()
    pa.parquet.write_table(table, target, row_group_size=-(-rows // 10), use_dictionary=False, compression="none")
    return target.getvalue()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of wall clock and of processor time, the least of some rounds."""
    found = []
    for _ in range(_ROUNDS):
        clocks = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clocks[0], time.process_time() - clocks[1]))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def ranges_of(fs: GridFSFileSystem, path: str) -> tuple[list[tuple[int, int]], int]:
    """Return the ranges that pyarrow reads for one column, and how many bytes of chunks are fetched for them."""
    asked: list[tuple[int, int]] = []
    fetched = 0
    read = file.GridFSFile.read

    def noted_read(self: Any, length: int = -1) -> bytes:
        start = self.loc
        data = bytes(read(self, length))
        if data:
            asked.append((start, start + len(data)))
        return data

    async def counted_fetch(store: Any, id: object, start: int, stop: int, **rest: Any) -> bytes:
        nonlocal fetched
        size, length = rest["info"].chunk_size, rest["info"].length
        fetched += min(-(-stop // size) * size, length) - start // size * size
        return await download.read_range(store, id, start, stop, **rest)

    with patch.object(file.GridFSFile, "read", noted_read), patch.object(file, "read_range", counted_fetch):
        pa.parquet.read_table(path, columns=["column3"], filesystem=fs)
    return asked, fetched


def measure(fs: GridFSFileSystem, path: str, place: str) -> None:
    """Print the figures of one distance."""
    asked, fetched = ranges_of(fs, path)
    size = sum(stop - start for start, stop in asked)
    print(f"{place}: {len(asked)} ranges, {size / 1e6:.1f} MB asked, {fetched / size:.2f} times as much fetched")

    def through_url() -> None:
        with fs.open(path) as opened:
            for start, stop in asked:
                opened.seek(start)
                opened.read(stop - start)

    async def direct() -> None:
        bucket, info = await fs.files.file(path)
        await bucket.read_ranges(info.id, asked)

    base = timed(lambda: sync(fs.loop, direct))
    works: dict[str, Callable[[], object]] = {
        "fs.open, as pyarrow reads": through_url,
        "fs.cat_ranges": lambda: fs.cat_ranges([path] * len(asked), *map(list, zip(*asked, strict=True))),
        "pyarrow.parquet.read_table": lambda: pa.parquet.read_table(path, columns=["column3"], filesystem=fs),
    }
    print(f"  {'Bucket.read_ranges':28} {base[0]:6.3f} s, processor {base[1]:.3f} s")
    for name, work in works.items():
        wall, cpu = timed(work)
        print(f"  {name:28} {wall:6.3f} s, processor {cpu:.3f} s, ratios {wall / base[0]:.2f} and {cpu / base[1]:.2f}")


def main() -> None:
    """Measure at every distance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", nargs="?", type=int, default=200)
    parser.add_argument("--rtt", default="0,5", help="milliseconds, separated by commas")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        uri, _, label = stack.enter_context(benchmark_server())
        print(label)
        near = GridFSFileSystem(uri=uri, database=DATABASE)
        stack.callback(near.close)
        near.pipe("data/t.parquet", parquet(chosen.megabytes))
        host, port = address(uri, {})
        for rtt in map(float, chosen.rtt.split(",")):
            if not rtt:
                measure(near, "data/t.parquet", "no distance")
                continue
            proxy = stack.enter_context(delaying_proxy(host, port, rtt / 1000))
            far = GridFSFileSystem(uri=moved(uri, proxy), database=DATABASE)
            stack.callback(far.close)
            measure(far, "data/t.parquet", f"{rtt:g} ms")


if __name__ == "__main__":
    main()
