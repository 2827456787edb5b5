"""Transfers beside a loop of pymongo, which reads and uploads one file after the other.

    python -m tests.benchmarks.moving [--files 2000] [--bytes 10000] [--rtt 5] [--baseline 200] [--large 200]

It prints seconds, the ratio to pymongo, and the peak of memory that Python has allocated. The loop of pymongo is
measured with `--baseline` files, because it takes the same time for each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import tracemalloc
from contextlib import ExitStack
from typing import Any

from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient

from gridproxy import Bucket, TransferReport, transfer
from tests.proxy import delaying_proxy

from .interface import DATABASE
from .servers import address, benchmark_server, moved

_MEGABYTE = 1_000_000
Client = AsyncMongoClient[dict[str, Any]]


async def one_by_one(client: Client, count: int) -> float:
    """Return the seconds that pymongo takes to read and to upload so many files, with their ids and metadata."""
    source = AsyncGridFSBucket(client[DATABASE], "small")
    target = AsyncGridFSBucket(client[DATABASE], "pymongo")
    begun = time.perf_counter()
    async for file in source.find({}, limit=count):
        content = await file.read()
        await target.upload_from_stream_with_id(file._id, file.filename, content, metadata=file.metadata)
    return time.perf_counter() - begun


async def timed_transfer(source: Bucket, target: Bucket) -> tuple[float, TransferReport]:
    """Return the seconds of a transfer to an empty bucket."""
    await target.drop()
    await target.ensure_indexes()
    begun = time.perf_counter()
    report = await transfer(source, target)
    seconds = time.perf_counter() - begun
    assert report.ok, report
    return seconds, report


async def peak_of(source: Bucket, target: Bucket) -> float:
    """Return the megabytes that Python has allocated at once during a transfer."""
    tracemalloc.start()
    try:
        await timed_transfer(source, target)
        return tracemalloc.get_traced_memory()[1] / _MEGABYTE
    finally:
        tracemalloc.stop()


async def measure(near: str, far: str, options: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Print the figures."""
    async with Client(near, **options) as client, Client(far, **options) as slow, Client(far, **options) as other:
        small = Bucket(client[DATABASE], "small")
        await small.upload_many({f"{n}.bin": os.urandom(chosen.bytes) for n in range(chosen.files)})
        await Bucket(client[DATABASE], "large").upload([os.urandom(_MEGABYTE)] * chosen.large)
        await Bucket(client[DATABASE], "pymongo").drop()
        each = await one_by_one(slow, chosen.baseline) / chosen.baseline
        print(f"{'pymongo, one after the other':40} {each * chosen.files:7.2f} s  (from {chosen.baseline} files)")
        here = Bucket(slow[DATABASE], "small")
        for name, target in (
            ("transfer inside one server", Bucket(slow[DATABASE], "target")),
            ("transfer between two clients", Bucket(other[DATABASE], "target")),
        ):
            seconds, _ = await timed_transfer(here, target)
            print(f"{name:40} {seconds:7.2f} s  {each * chosen.files / seconds:5.1f} times as fast")
        for name, bucket in (("small files", "small"), (f"one file of {chosen.large} MB", "large")):
            peak = await peak_of(Bucket(client[DATABASE], bucket), Bucket(other[DATABASE], "target"))
            print(f"{'memory between two clients, ' + name:50} {peak:5.1f} MB")


def main() -> None:
    """Measure at one distance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=10_000)
    parser.add_argument("--rtt", type=float, default=5.0, help="milliseconds")
    parser.add_argument("--baseline", type=int, default=200)
    parser.add_argument("--large", type=int, default=200, help="megabytes")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        uri, options, label = stack.enter_context(benchmark_server())
        print(f"{label}\n{chosen.files} files of {chosen.bytes} bytes, {chosen.rtt:g} ms away")
        far = uri
        if chosen.rtt:
            host, port = address(uri, {})
            far = moved(uri, stack.enter_context(delaying_proxy(host, port, chosen.rtt / 1000)))
        asyncio.run(measure(uri, far, options, chosen))


if __name__ == "__main__":
    main()
