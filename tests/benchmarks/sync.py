"""`gridproxy.sync` beside the asynchronous calls and beside pymongo's synchronous `GridFSBucket`.

    python -m tests.benchmarks.sync [--rounds 7] [--megabytes 100]

Each row is the least of some rounds, in alternation. The ratio is that of our blocking call to the other one, so below
1 the blocking call is faster. The stub server answers at once, so what is measured is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from gridfs import GridFSBucket
from pymongo import AsyncMongoClient, MongoClient

from gridproxy import Bucket
from gridproxy import sync as blocking
from tests.proxy import child_server

from .interface import DATABASE
from .servers import benchmark_server
from .stub import stub_id

_KILOBYTE = 1024
_RECORDS = 500
_PIECE = 64 * 1024
Work = Callable[[], object]


@dataclass
class Contenders:
    """The three ways to one server."""

    runner: asyncio.Runner
    ours: blocking.Bucket
    theirs: GridFSBucket
    awaited: Bucket

    def wait(self, make: Callable[[], Awaitable[object]]) -> Work:
        """Return blocking work that awaits `make()` in the loop of the asynchronous bucket."""

        async def work() -> None:
            await make()

        return lambda: self.runner.run(work())


class Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Return the number of bytes."""
        return len(data)


@contextmanager
def contenders(uri: str, options: dict[str, Any], bucket: str) -> Iterator[Contenders]:
    """Connect all three."""
    with (
        asyncio.Runner() as runner,
        blocking.Client(uri, **options) as client,
        MongoClient[dict[str, Any]](uri, **options) as other,
    ):
        own = AsyncMongoClient[dict[str, Any]](uri, **options)
        theirs = GridFSBucket(other[DATABASE], bucket)
        yield Contenders(runner, client.bucket(DATABASE, bucket), theirs, Bucket(own[DATABASE], bucket))
        runner.run(own.close())


def seconds(works: list[Work], repeat: int, rounds: int) -> list[float]:
    """Return the least seconds of each work, which take turns."""
    least = [math.inf] * len(works)
    for _ in range(rounds + 1):  # the first one warms up
        for number, work in enumerate(works):
            before = time.perf_counter()
            for _ in range(repeat):
                work()
            least[number] = min(least[number], (time.perf_counter() - before) / repeat)
    return least


def rows_of_stub(all_: Contenders, size: int, small: int) -> Iterator[tuple[str, int, list[Work]]]:
    """Yield the name, the repetitions and the works (ours, asynchronous, pymongo) of each row."""
    ours, theirs, awaited = all_.ours, all_.theirs, all_.awaited
    for length in (_KILOBYTE, size):
        repeat = small if length == _KILOBYTE else 1
        yield (f"upload {_size_text(length)}", repeat, _uploads(all_, bytes(length)))
        yield (f"read {_size_text(length)}", repeat, _reads(all_, stub_id(length)))

    data, id = bytes(size), stub_id(size)

    def write(file: Any) -> None:
        with file:
            shutil.copyfileobj(io.BytesIO(data), file, _PIECE)

    async def write_awaited() -> None:
        source = io.BytesIO(data)
        async with awaited.open_upload() as writer:
            while block := source.read(_PIECE):
                await writer.write(block)

    yield (
        f"write {_size_text(size)} in 64 KiB pieces",
        1,
        [
            lambda: write(ours.create()),
            all_.wait(write_awaited),
            lambda: write(theirs.open_upload_stream("name")),
        ],
    )

    async def copy_awaited() -> None:
        async with awaited.file(id).open() as reader:
            while await reader.read(_PIECE):
                pass

    yield (
        f"copy {_size_text(size)} in 64 KiB pieces",
        1,
        [
            lambda: shutil.copyfileobj(ours.open(id), Nowhere(), _PIECE),
            all_.wait(copy_awaited),
            lambda: shutil.copyfileobj(theirs.open_download_stream(id), Nowhere(), _PIECE),
        ],
    )

    async def stream_awaited() -> None:
        async for _ in awaited.stream(id):
            pass

    yield (
        f"stream {_size_text(size)} block by block",
        1,
        [
            lambda: sum(map(len, ours.stream(id))),
            all_.wait(stream_awaited),
            lambda: sum(map(len, iter(theirs.open_download_stream(id).readchunk, b""))),
        ],
    )


def _uploads(all_: Contenders, data: bytes) -> list[Work]:
    return [
        lambda: all_.ours.upload(data),
        all_.wait(lambda: all_.awaited.upload(data)),
        lambda: all_.theirs.upload_from_stream("name", data),
    ]


def _reads(all_: Contenders, id: object) -> list[Work]:
    return [
        lambda: all_.ours.read(id),
        all_.wait(lambda: all_.awaited.read(id)),
        lambda: all_.theirs.open_download_stream(id).read(),
    ]


def rows_of_server(all_: Contenders) -> Iterator[tuple[str, int, list[Work]]]:
    """Yield the rows of records and of small files, which need a real server."""
    ours, theirs, awaited = all_.ours, all_.theirs, all_.awaited
    infos = ours.upload_many([bytes(_KILOBYTE)] * _RECORDS)
    ids = [info.id for info in infos]

    async def find_awaited() -> None:
        async for _ in awaited.find():
            pass

    yield (
        f"find {_RECORDS} records",
        1,
        [lambda: list(ours.find()), all_.wait(find_awaited), lambda: list(theirs.find())],
    )
    yield (
        "record of one file",
        20,
        [
            lambda: ours.stat(ids[0]),
            all_.wait(lambda: awaited.stat(ids[0])),
            lambda: next(theirs.find({"_id": ids[0]})),
        ],
    )
    yield (
        "100 bytes of a file of 1 KB",
        20,
        [
            lambda: ours.read(ids[0], 100, 200),
            all_.wait(lambda: awaited.read(ids[0], 100, 200)),
            lambda: _range(theirs.open_download_stream(ids[0]), 100, 200),
        ],
    )
    yield (
        "upload and delete 1 KB",
        5,
        [
            lambda: ours.delete(ours.upload(b"1" * _KILOBYTE).id),
            all_.wait(lambda: _upload_and_delete(awaited)),
            lambda: theirs.delete(theirs.upload_from_stream("name", b"1" * _KILOBYTE)),
        ],
    )


async def _upload_and_delete(bucket: Bucket) -> None:
    await bucket.delete((await bucket.upload(b"1" * _KILOBYTE)).id)


def _range(file: Any, start: int, stop: int) -> bytes:
    file.seek(start)
    return bytes(file.read(stop - start))


def _size_text(length: int) -> str:
    return f"{length // 1_000_000} MB" if length >= 1_000_000 else f"{length // 1024} KB"


def _show(name: str, found: list[float]) -> None:
    ours, awaited, theirs = found
    print(f"  {name:32} {ours * 1000:10.3f} ms  {ours / awaited:6.2f}  {ours / theirs:6.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=200, help="calls with 1 KB in one round")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        port = stack.enter_context(child_server("tests.benchmarks.stub"))
        uri, options, label = stack.enter_context(benchmark_server())
        print(f"  {'':32} {'blocking':>13}  {'/async':>6}  {'/pymongo':>6}")
        print("stub server")
        stub = stack.enter_context(contenders(f"mongodb://127.0.0.1:{port}/", {}, "fs"))
        for name, repeat, works in rows_of_stub(stub, chosen.megabytes * 1_000_000, chosen.repeat):
            _show(name, seconds(works, repeat, chosen.rounds))
        print(label)
        server = stack.enter_context(contenders(uri, options, "fs"))
        for name, repeat, works in rows_of_server(server):
            _show(name, seconds(works, repeat, chosen.rounds))


if __name__ == "__main__":
    main()
