"""The kinds of work that are timed, and how: contenders take turns at every single operation."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .contenders import contender
from .interface import DRIVER, MOTOR, OURS, OURS_BARE, PYMONGO, Contender
from .results import STUB, Growth, Row, goal_of
from .stub import stub_id

__all__ = ["FULL", "QUICK", "WORKS", "Files", "Place", "Sizes", "Work", "measure_growth", "measure_works", "size_text"]

_KB, _MB = 1024, 1024 * 1024
_RANGE = 64 * _KB
# From here on an operation is long enough to be timed alone, and large enough to leave garbage behind.
_LARGE = 4 * _MB


@dataclass(frozen=True)
class Sizes:
    """How much is moved; in bytes, or a number of files."""

    small: int
    medium: int
    large: int
    streams: tuple[int, ...]
    growth: tuple[int, ...]
    many: int
    concurrent: int
    fewer: int  # divides the operations of one round


FULL = Sizes(
    small=_KB,
    medium=_MB,
    large=100 * _MB,
    streams=(100 * _MB, 1024 * _MB),
    growth=tuple(size * _MB for size in (1, 3, 10, 32, 100, 320, 1024)),
    many=200,
    concurrent=32,
    fewer=1,
)
QUICK = Sizes(
    small=_KB,
    medium=_MB,
    large=8 * _MB,
    streams=(16 * _MB,),
    growth=tuple(size * _MB for size in (1, 10, 20)),
    many=20,
    concurrent=8,
    fewer=4,
)


def size_text(size: int) -> str:
    """Format a size for people: 1 KB is 1024 bytes here."""
    for unit, factor in (("GB", 1024 * _MB), ("MB", _MB), ("KB", _KB)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Files:
    """What lies in the bucket that is read from; all contenders read the same files."""

    bucket: str
    small: Sequence[Any]
    medium: Any
    large: Any


@dataclass
class Place:
    """A server at a distance, and the contenders' clients for it."""

    key: str
    rtt: float  # ms
    contenders: Mapping[str, Contender]
    sizes: Sizes
    files: Files
    contents: bytes = field(repr=False)
    path: Path  # of a file with the contents

    def upload_bucket(self, name: str, kind: str) -> str:
        """Yield a bucket of the contender's own. Large files in it would slow down pymongo's index check."""
        return f"up_{kind}_{name.lower().replace(' ', '_').replace(',', '').replace('=', '_')}"


_Run = Callable[[Place, str, Contender], Awaitable[Any]]


@dataclass(frozen=True)
class Work:
    """One kind of work. `run` is timed; what it returns goes to `tidy`, which is not."""

    name: str
    label: Callable[[Sizes], str]
    run: _Run
    tidy: Callable[[Place, str, Contender, Any], Awaitable[object]] | None = None
    repeat: tuple[int, int] = (1, 1)  # operations of one round: without delay, and with one
    large: bool = False
    stub: bool = False
    bare: bool = False  # whether a checksum makes a difference, so that the work is done without one, too
    cpu: bool = False  # whether the processor time is a row of its own, too
    ceiling: bool = False  # whether the driver alone does it, too
    most_rtt: float = float("inf")


async def _upload(place: Place, name: str, one: Contender, *, kind: str) -> Any:
    size = {"small": place.sizes.small, "medium": place.sizes.medium, "large": place.sizes.large}[kind]
    return await one.upload(place.upload_bucket(name, kind), place.contents[:size])


async def _upload_path(place: Place, name: str, one: Contender) -> Any:
    return await one.upload(place.upload_bucket(name, "large"), place.path)


async def _delete_large(place: Place, name: str, one: Contender, id: Any) -> None:
    await one.delete(place.upload_bucket(name, "large"), id)


async def _read(place: Place, _: str, one: Contender, *, kind: str) -> None:
    id, size = {
        "small": (place.files.small[0], place.sizes.small),
        "medium": (place.files.medium, place.sizes.medium),
        "large": (place.files.large, place.sizes.large),
    }[kind]
    assert len(await one.read(place.files.bucket + kind, id)) == size


async def _stream(place: Place, _: str, one: Contender) -> None:
    assert await one.stream(place.files.bucket + "large", place.files.large) == place.sizes.large


async def _first_byte(place: Place, _: str, one: Contender) -> Any:
    return await one.first_block(place.files.bucket + "large", place.files.large)


async def _end(_place: Place, _name: str, _one: Contender, close: Any) -> None:
    await close()


async def _middle(place: Place, _: str, one: Contender) -> None:
    at = place.sizes.large // 2
    found = await one.read_range(place.files.bucket + "large", place.files.large, at, at + _RANGE)
    assert len(found) == _RANGE


async def _upload_concurrently(place: Place, name: str, one: Contender) -> None:
    bucket, content = place.upload_bucket(name, "small"), place.contents[: place.sizes.small]
    await asyncio.gather(*(one.upload(bucket, content) for _ in range(place.sizes.concurrent)))


async def _upload_concurrently_plain(place: Place, name: str, one: Contender) -> None:
    with one.without_bulk_write():
        await _upload_concurrently(place, name, one)


async def _read_concurrently(place: Place, _: str, one: Contender) -> None:
    ids = place.files.small[: place.sizes.concurrent]
    await asyncio.gather(*(one.read(place.files.bucket + "small", id) for id in ids))


async def _upload_many(place: Place, name: str, one: Contender, *, gathered: bool) -> None:
    contents = [place.contents[: place.sizes.small]] * place.sizes.many
    await one.upload_many(place.upload_bucket(name, "small"), contents, gathered=gathered)


async def _read_many(place: Place, _: str, one: Contender, *, gathered: bool) -> None:
    await one.read_many(place.files.bucket + "small", place.files.small, gathered=gathered)


async def _read_gathered(place: Place, _: str, one: Contender) -> None:
    await asyncio.gather(*(one.read(place.files.bucket + "small", id) for id in place.files.small))


async def _stat_many(place: Place, _: str, one: Contender, *, gathered: bool) -> None:
    await one.stat_many(place.files.bucket + "small", place.files.small, gathered=gathered)


def _sized(text: str, kind: str) -> Callable[[Sizes], str]:
    return lambda sizes: text.format(size_text(getattr(sizes, kind)))


def _many(text: str) -> Callable[[Sizes], str]:
    return lambda sizes: text.format(sizes.many, size_text(sizes.small))


def _concurrent(text: str) -> Callable[[Sizes], str]:
    return lambda sizes: text.format(sizes.concurrent, size_text(sizes.small))


def _pair(name: str, text: str, run: Any) -> list[Work]:
    """Measure work on many files: one call, one after another, and all gathered."""
    return [
        Work(f"{name}", _many(text + ", theirs in turn"), partial(run, gathered=False), most_rtt=5),
        Work(f"{name}-gathered", _many(text + ", theirs gathered"), partial(run, gathered=True)),
    ]


WORKS: Sequence[Work] = [
    Work(
        "upload-small",
        _sized("upload {}", "small"),
        partial(_upload, kind="small"),
        repeat=(20, 8),
        stub=True,
        ceiling=True,
    ),
    Work(
        "upload-medium",
        _sized("upload {}", "medium"),
        partial(_upload, kind="medium"),
        repeat=(4, 2),
        stub=True,
        bare=True,
        ceiling=True,
    ),
    Work(
        "upload-large",
        _sized("upload {}", "large"),
        partial(_upload, kind="large"),
        tidy=_delete_large,
        large=True,
        stub=True,
        bare=True,
        ceiling=True,
    ),
    Work(
        "upload-path",
        _sized("upload {} from a path", "large"),
        _upload_path,
        tidy=_delete_large,
        large=True,
        stub=True,
        bare=True,
        ceiling=True,
        most_rtt=0,
    ),
    Work("upload-concurrent", _concurrent("upload {} x {} at once"), _upload_concurrently, repeat=(2, 2)),
    Work(
        "upload-concurrent-plain",
        _concurrent("upload {} x {} at once, no bulkWrite"),
        _upload_concurrently_plain,
        repeat=(2, 2),
    ),
    *_pair("upload-many", "upload {} x {}", _upload_many),
    Work(
        "download-small",
        _sized("download {}", "small"),
        partial(_read, kind="small"),
        repeat=(30, 8),
        stub=True,
        cpu=True,
        ceiling=True,
    ),
    Work(
        "download-medium",
        _sized("download {}", "medium"),
        partial(_read, kind="medium"),
        repeat=(8, 4),
        stub=True,
        ceiling=True,
    ),
    Work(
        "download-large",
        _sized("download {}", "large"),
        partial(_read, kind="large"),
        large=True,
        stub=True,
        ceiling=True,
    ),
    Work("stream-large", _sized("stream {}, keep nothing", "large"), _stream, large=True, stub=True, ceiling=True),
    Work("download-concurrent", _concurrent("download {} x {} at once"), _read_concurrently, repeat=(2, 2), cpu=True),
    Work("read-gathered", _many("download {} x {}, all gathered"), _read_gathered, cpu=True),
    *_pair("read-many", "download {} x {}", _read_many),
    Work(
        "stat-many",
        _many("records of {} files, theirs gathered"),
        partial(_stat_many, gathered=True),
    ),
    Work("first-byte", _sized("first byte of {}", "large"), _first_byte, tidy=_end, repeat=(4, 4)),
    Work("middle", _sized("64 KB from the middle of {}", "large"), _middle, repeat=(3, 2)),
]


async def measure_works(works: Sequence[Work], place: Place, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Measure all works at one place, and return the rows."""
    samples: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for turn in range(rounds):
        for work in works:
            say(f"{place.key}, {place.rtt:g} ms, round {turn + 1} of {rounds}: {work.name}")
            for name, sample in (await _sample(work, place, turn)).items():
                samples.setdefault(work.name, {}).setdefault(name, []).append(sample)
    return [row for work in works for row in _rows(work, place, samples[work.name])]


async def _sample(work: Work, place: Place, start: int) -> dict[str, tuple[float, float]]:
    """Seconds of wall clock and of CPU of one operation, for each contender: the mean of a few, taken in turns."""
    repeat = max(1, work.repeat[place.rtt > 0] // place.sizes.fewer)
    # A checksum is CPU: it shows where nothing is waited for.
    unwanted = {OURS_BARE: not work.bare or place.rtt > 0, DRIVER: not work.ceiling}
    names = [name for name in place.contenders if not unwanted.get(name)]
    wall, cpu = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for turn in range(start, start + repeat):
        first = turn % len(names)
        turned = names[first:] + names[:first]
        # Forwards and backwards: nobody is always the one who comes after a spendthrift.
        for name in turned[:: -1 if turn % 2 else 1]:
            one = place.contenders[name]
            if work.large:
                gc.collect()
            cpu_before, before = time.process_time(), time.perf_counter()
            result = await work.run(place, name, one)
            wall[name] += time.perf_counter() - before
            cpu[name] += time.process_time() - cpu_before
            if work.tidy is not None:
                await work.tidy(place, name, one, result)
    return {name: (wall[name] / repeat, cpu[name] / repeat) for name in names}


def _rows(work: Work, place: Place, samples: Mapping[str, Sequence[tuple[float, float]]]) -> list[Row]:
    rows = []
    where = ", stub server" if place.key == STUB else ""
    for subject in (OURS, OURS_BARE) if OURS_BARE in samples else (OURS,):
        for index, clock in enumerate(["", "-cpu"] if work.cpu or (work.large and place.key == STUB) else [""]):
            key = work.name + ("-bare" if subject == OURS_BARE else "") + clock
            label = work.label(place.sizes) + (": CPU" if clock else "") + where
            row = Row(key, label, place.key, place.rtt, "s", subject, goal_of(key, place.key, place.rtt))
            for name in (PYMONGO, subject, DRIVER, MOTOR):
                if name in samples:
                    row.values[name] = [sample[index] for sample in samples[name]]
            rows.append(row)
    return rows


@asynccontextmanager
async def at_place(
    key: str, rtt: float, uri: str, options: Mapping[str, Any], names: Sequence[str], sizes: Sizes, files: Files
) -> AsyncIterator[Place]:
    """Every contender connected and warm: indexes made, and connections in its pool."""
    async with AsyncExitStack() as stack:
        contenders = {name: await stack.enter_async_context(contender(name, uri, options)) for name in names}
        contents = os.urandom(sizes.large)
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "contents"
        path.write_bytes(contents)
        place = Place(key, rtt, contenders, sizes, files, contents, path)
        for name, one in contenders.items():
            for kind in ("small", "medium", "large"):
                await one.upload(place.upload_bucket(name, kind), b"warm")
            # A driver opens its connections two at a time, and whoever is served first needs no more of them.
            for _ in range(6):
                await _read_concurrently(place, name, one)
        yield place


async def make_files(uri: str, options: Mapping[str, Any], sizes: Sizes) -> Files:
    """Store the files that are read."""
    content = os.urandom(sizes.large)
    async with contender(OURS, uri, options) as one:
        small = [await one.upload("in_small", content[: sizes.small]) for _ in range(sizes.many)]
        medium = await one.upload("in_medium", content[: sizes.medium])
        return Files("in_", small, medium, await one.upload("in_large", content))


def stub_files(sizes: Sizes) -> Files:
    """Return the files that are read, as the stub server has them."""
    return Files("in_", [stub_id(sizes.small)] * sizes.many, stub_id(sizes.medium), stub_id(sizes.large))


async def measure_growth(
    key: str, uri: str, options: Mapping[str, Any], sizes: Sequence[int], rounds: int, say: Callable[[str], None]
) -> list[Growth]:
    """Seconds for files of growing size, streamed up and down, ours and pymongo's."""
    found = {(name, way): Growth(key, name, way) for way in ("up", "down") for name in (OURS, PYMONGO)}
    block = os.urandom(_MB)
    async with AsyncExitStack() as stack:
        contenders = {name: await stack.enter_async_context(contender(name, uri, options)) for name in (OURS, PYMONGO)}
        for name, one in contenders.items():
            # The first file makes the indexes and warms up.
            await one.upload_blocks(f"growth_{name}", block, 1)
        for size in sizes:
            # What takes long is steady enough to be taken once.
            for turn in range(rounds if size <= 100 * _MB or key == STUB else 1):
                say(f"{key}: growth, {size_text(size)}, round {turn + 1}")
                for name, one in contenders.items():
                    bucket = f"growth_{name}"
                    before = time.perf_counter()
                    id = await one.upload_blocks(bucket, block, size // _MB)
                    between = time.perf_counter()
                    assert await one.stream(bucket, stub_id(size) if key == STUB else id) == size
                    after = time.perf_counter()
                    await one.delete(bucket, id)
                    found[name, "up"].seconds.setdefault(size, []).append(between - before)
                    found[name, "down"].seconds.setdefault(size, []).append(after - between)
    return list(found.values())
