"""After a cancelled read the next one returns the right bytes, and no task is left running."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from gridproxy import AsyncGridFile, Bucket, FileClosed

from .cancelling import Outcome, Way, Work, cancelled_everywhere, run_cancelled
from .conftest import CHUNK
from .matrix import Fault, Matrix

# pymongo 4.20 does not close a socket if connecting is cancelled, so the garbage collector does it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

# Eleven and a half chunks. The first range has one of them, every other range two.
DATA = b"".join(b"%06d\n" % number for number in range(23 * CHUNK // 14))
LONG = 6

Read = Callable[[AsyncGridFile], Awaitable[object]]


async def stored(bucket: Bucket) -> AsyncGridFile:
    file = AsyncGridFile(bucket=bucket)
    await file.put(DATA)
    return file


async def streamed(file: AsyncGridFile) -> bytes:
    async with file.stream(100) as stream:
        return b"".join([block async for block in stream])


async def read_by_reader(file: AsyncGridFile) -> bytes:
    async with file.open() as reader:
        await reader.seek(-3 * CHUNK, io.SEEK_END)
        return await reader.read(2 * CHUNK) + await reader.readline() + await reader.read()


READS: dict[str, tuple[Read, object]] = {
    "read": (lambda file: file.read(), DATA),
    "read_range": (lambda file: file.read_range(100, 5 * CHUNK), DATA[100 : 5 * CHUNK]),
    "read_ranges": (lambda file: file.read_ranges([(9000, 9010), (5, 3000)]), [DATA[9000:9010], DATA[5:3000]]),
    "stream": (streamed, DATA[100:]),
    "open": (read_by_reader, DATA[-3 * CHUNK :]),
    "exists": (lambda file: file.exists(), True),
}


@pytest.mark.parametrize("name", READS)
async def test_a_cancelled_read_can_be_repeated(bucket: Bucket, name: str, matrix: Matrix) -> None:
    read, expected = READS[name]
    file = await stored(bucket)

    async def make() -> Work:
        fresh = AsyncGridFile(file.id, bucket=bucket)

        async def check(returned: bool) -> None:
            if not returned:
                assert fresh.tell() == 0
            await fresh.seek(0)
            assert await read(fresh) == expected

        return Work(lambda: read(fresh), check)

    matrix.survived(name, Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG))


@pytest.mark.parametrize("readline", [False, True], ids=["read(size)", "readline"])
async def test_a_cancelled_read_does_not_move_the_position(bucket: Bucket, readline: bool) -> None:
    lines = b"".join([b"x" * 5 * CHUNK, b"\n", b"y" * 2 * CHUNK, b"\n", b"z" * 4 * CHUNK])
    info = await bucket.upload(lines)

    async def make() -> Work:
        file = bucket.file(info.id)
        read: list[bytes] = []

        async def run() -> None:
            read.append(await (file.readline() if readline else file.read(5 * CHUNK)))
            read.append(await (file.readline() if readline else file.read(3 * CHUNK)))

        async def check(_: bool) -> None:
            assert file.tell() == sum(map(len, read))
            assert b"".join([*read, await file.read()]) == lines

        return Work(run, check, may_run_on=True)

    await cancelled_everywhere(make, stride=3)


async def test_a_stream_continues_after_a_cancelled_receive(bucket: Bucket) -> None:
    file = await stored(bucket)
    for number, way in enumerate(Way):
        async with file.stream() as stream:
            got: list[bytes] = []

            async def block() -> None:
                got.append(await stream.receive(CHUNK // 2 + 1))  # noqa: B023  # it is called in this iteration

            at, returned = number % 3, Outcome.RETURNED
            while len(b"".join(got)) < len(DATA):
                returned = await run_cancelled(block, at, way, may_run_on=True)
                at = at + 1 if returned is Outcome.CANCELLED else 0
            assert b"".join(got) == DATA


@pytest.mark.parametrize("before", [None, b"what was there before"], ids=["no file", "an old file"])
async def test_a_cancelled_save_to_keeps_the_old_target_or_completes_it(
    bucket: Bucket, tmp_path: Path, before: bytes | None, matrix: Matrix
) -> None:
    file, target = await stored(bucket), tmp_path / "marmot.jpg"

    async def make() -> Work:
        target.unlink(missing_ok=True)
        if before is not None:
            target.write_bytes(before)

        async def check(returned: bool) -> None:
            there = target.read_bytes() if target.exists() else None
            assert there == DATA or (there == before and not returned)
            assert [path.name for path in tmp_path.iterdir()] == ([] if there is None else [target.name])

        return Work(lambda: file.save_to(target), check)

    matrix.survived("save_to", Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG))


async def test_a_cancelled_put_of_a_stored_file_ends_its_reads(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(DATA[: 4 * CHUNK])

    async def make() -> Work:
        other = AsyncGridFile(bucket=bucket)

        async def check(returned: bool) -> None:
            assert bool(other) is returned
            await other.delete()
            assert await file.read_range(0, None) == DATA[: 4 * CHUNK]

        return Work(lambda: other.put(file), check)

    await cancelled_everywhere(make, stride=LONG)


def fetching() -> list[str]:
    """Return the names of the running fetches."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("Store.")]


async def test_closing_a_stream_ends_a_waiting_receive(bucket: Bucket) -> None:
    file = await stored(bucket)
    for received, turns in itertools.product(range(3), range(8)):
        stream = file.stream()
        for _ in range(received):
            await stream.receive()
        receiving = asyncio.create_task(anext(stream))
        for _ in range(turns):
            await asyncio.sleep(0)
        await stream.aclose()
        await asyncio.wait({receiving})
        assert not fetching()
        error = receiving.exception()
        assert isinstance(error, anyio.ClosedResourceError) or DATA[received * CHUNK :].startswith(receiving.result())


async def test_closing_a_reader_ends_a_waiting_read(bucket: Bucket) -> None:
    file = await stored(bucket)
    for read, turns in itertools.product(range(3), range(8)):
        reader = file.open()
        await reader.read(read * CHUNK)
        reading = asyncio.create_task(reader.read(3 * CHUNK))
        for _ in range(turns):
            await asyncio.sleep(0)
        await reader.aclose()
        await asyncio.wait({reading})
        assert not fetching()
        error = reading.exception()
        assert isinstance(error, FileClosed) or DATA[read * CHUNK :].startswith(reading.result())
