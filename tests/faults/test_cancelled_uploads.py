"""An upload that is cancelled, wherever and however: nothing stays behind, and the proxy is what it was."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from gridproxy import AsyncGridFile, Bucket, FileInfo
from gridproxy.gridfs.store import indexes
from gridproxy.gridfs.store.collections import Store

from .cancelling import Work, cancelled_everywhere
from .conftest import CHUNK
from .matrix import Fault, Matrix
from .whole import stored_files

# pymongo 4.20 closes a socket that it is connecting on errors only, and leaves it to the collector when cancelled.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

SMALL = b"one request" * 10
LARGE = bytes(range(256)) * 22  # five chunks and a half: three batches
OLD = b"the old file" * 100
# Work of many steps is cancelled at each of them in one of the six ways.
LONG = 6

Source = Callable[[Path], Any]
Check = Callable[[bool], Awaitable[None]]


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1500):
        await asyncio.sleep(0)
        yield data[at : at + 1500]


def generated(data: bytes) -> Any:
    return (data[at : at + 999] for at in range(0, len(data), 999))


SOURCES: dict[str, Source] = {
    "bytes": lambda path: path.read_bytes(),
    "a sync file": lambda path: io.BytesIO(path.read_bytes()),
    "a path": lambda path: path,
    "a generator": lambda path: generated(path.read_bytes()),
    "an async generator": lambda path: blocks(path.read_bytes()),
}


def as_put(file: AsyncGridFile, data: bytes) -> Check:
    """Return the check of work that stores `data` as an empty file. The file is empty again afterwards."""
    bucket = file.options.bucket
    assert isinstance(bucket, Bucket)

    async def check(returned: bool) -> None:
        assert await stored_files(bucket.database) == ({file.id: data} if returned else {})
        assert bool(file) is returned
        assert file.closed
        await file.delete()

    return check


def as_replaced(file: AsyncGridFile, data: bytes) -> Check:
    """Return the check of work that replaces OLD by `data`.

    A cancellation that comes while the old file is being removed already is raised when it is gone.
    """
    bucket, old = file.options.bucket, file.id
    assert isinstance(bucket, Bucket)

    async def check(returned: bool) -> None:
        files = await stored_files(bucket.database)
        assert files == ({old: OLD} if file.id == old else {file.id: data})
        assert not (returned and file.id == old)
        assert file.closed
        assert await file.read() == files[file.id]
        await file.delete()

    return check


@pytest.mark.parametrize("id", [None, "mine"], ids=["its own id", "the caller's id"])
@pytest.mark.parametrize("data", [b"", SMALL], ids=["nothing", "a small file"])
async def test_a_cancelled_put_of_one_request_leaves_nothing(
    bucket: Bucket, data: bytes, id: object, matrix: Matrix
) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        return Work(lambda: file.put(data, id=id), as_put(file, data))

    matrix.survived("put small", Fault.CANCELLED, await cancelled_everywhere(make))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
async def test_a_cancelled_put_of_several_batches_leaves_nothing(
    bucket: Bucket, tmp_path: Path, source: Source, matrix: Matrix
) -> None:
    path = tmp_path / "source"
    path.write_bytes(LARGE)

    async def make() -> Work:
        file, content = AsyncGridFile(bucket=bucket), source(path)
        return Work(lambda: file.put(content), as_put(file, LARGE))

    matrix.survived("put large", Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG))


async def test_a_cancelled_put_of_several_batches_under_the_callers_id_leaves_nothing(bucket: Bucket) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        return Work(lambda: file.put(LARGE, id="mine"), as_put(file, LARGE))

    await cancelled_everywhere(make, stride=2)


async def test_the_first_upload_into_a_bucket_leaves_nothing_but_its_indexes(bucket: Bucket) -> None:
    async def make() -> Work:
        await bucket.drop()
        file = AsyncGridFile(bucket=bucket)
        return Work(lambda: file.put(SMALL), as_put(file, SMALL))

    await cancelled_everywhere(make, stride=LONG)


async def test_a_scope_that_is_cancelled_while_the_indexes_are_made_stores_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = indexes._create

    async def cancelling(store: Store, force: bool) -> None:
        scope.cancel()
        await create(store, force)

    monkeypatch.setattr(indexes, "_create", cancelling)
    with anyio.CancelScope() as scope:
        await bucket.upload(SMALL)
    assert scope.cancelled_caught
    assert await stored_files(bucket.database) == {}


async def test_a_cancelled_upload_of_a_bucket_leaves_nothing(bucket: Bucket) -> None:
    async def make() -> Work:
        info: list[FileInfo] = []

        async def upload() -> None:
            info.append(await bucket.upload(LARGE, metadata={"owner": 7}))

        async def check(returned: bool) -> None:
            assert await stored_files(bucket.database) == {each.id: LARGE for each in info}
            assert bool(info) is returned
            await bucket.delete_many(each.id for each in info)

        return Work(upload, check)

    await cancelled_everywhere(make, stride=LONG)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["a small file", "several batches"])
async def test_a_cancelled_replace_leaves_the_old_file_or_the_new_one(
    bucket: Bucket, data: bytes, matrix: Matrix
) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.put(OLD)
        return Work(lambda: file.replace(data), as_replaced(file, data))

    matrix.survived("replace", Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG if data is LARGE else 3))


# Bit by bit


async def write_awaited(file: AsyncGridFile) -> None:
    for piece in generated(LARGE):
        await file.write(piece)


async def write_unawaited(file: AsyncGridFile) -> None:
    for piece in generated(LARGE):
        file.write(piece)


async def write_mixed(file: AsyncGridFile) -> None:
    for number, piece in enumerate(generated(LARGE)):
        written = file.write(piece)
        if number % 3 == 2:
            await written


WRITES = pytest.mark.parametrize(
    "write", [write_awaited, write_unawaited, write_mixed], ids=["awaited", "un-awaited", "mixed"]
)


@WRITES
async def test_a_cancelled_block_of_writes_leaves_nothing(
    bucket: Bucket, write: Callable[[AsyncGridFile], Awaitable[None]], matrix: Matrix
) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)

        async def run() -> None:
            async with file.new_file(id="mine"):
                await write(file)

        return Work(run, as_put(file, LARGE))

    matrix.survived("write, close", Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG))


async def test_a_cancelled_block_over_a_stored_file_leaves_the_old_one_or_the_new_one(bucket: Bucket) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.put(OLD)

        async def run() -> None:
            async with file.new_file(replace=True):
                await write_mixed(file)

        return Work(run, as_replaced(file, LARGE))

    await cancelled_everywhere(make, stride=LONG)


async def test_cancelled_calls_leave_nothing_once_the_file_is_aborted(bucket: Bucket) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)

        async def run() -> None:
            await file.new_file()
            try:
                await write_mixed(file)
                await file.close()
            except asyncio.CancelledError:
                await file.abort()
                raise

        return Work(run, as_put(file, LARGE))

    await cancelled_everywhere(make, stride=LONG)


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["nothing", "a small file", "several batches"])
async def test_a_cancelled_close_leaves_nothing(bucket: Bucket, data: bytes) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.new_file()
        file.write(data)

        async def check(returned: bool) -> None:
            await file.abort()  # what was cancelled before its first step is open still
            await as_put(file, data)(returned)

        return Work(file.close, check)

    await cancelled_everywhere(make, stride=LONG if data is LARGE else 1)


async def test_a_cancelled_abort_has_removed_everything(bucket: Bucket) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.new_file()
        await write_awaited(file)

        async def check(returned: bool) -> None:
            await file.abort()
            await as_put(file, b"")(False)

        return Work(file.abort, check)

    await cancelled_everywhere(make, stride=2)


@pytest.mark.parametrize("explicit", [False, True], ids=["in a block", "by calls"])
async def test_a_cancelled_open_upload_leaves_nothing(bucket: Bucket, explicit: bool) -> None:
    async def make() -> Work:
        writer = bucket.open_upload(filename="marmot.jpg", id=7)

        async def by_calls() -> None:
            try:
                await writer
                await writer.write(LARGE[: 5 * CHUNK])
                await writer.writelines([LARGE[5 * CHUNK :]])
                await writer.close()
            except asyncio.CancelledError:
                await writer.abort()
                raise

        async def in_block() -> None:
            async with writer:
                await writer.write(LARGE[: 5 * CHUNK])
                writer.write(LARGE[5 * CHUNK :])

        async def check(returned: bool) -> None:
            assert await stored_files(bucket.database) == ({7: LARGE} if returned else {})
            assert (writer.info is not None) is returned
            assert writer.closed
            await bucket.delete_many([7])

        return Work(by_calls if explicit else in_block, check)

    await cancelled_everywhere(make, stride=LONG)


# A write that is given up has been taken all the same


async def test_a_cancelled_write_neither_loses_nor_doubles_bytes(bucket: Bucket) -> None:
    # Each fills a batch and more, so that each waits for one of those on their way.
    pieces = [bytes([number]) * (2 * CHUNK + 150) for number in range(7)]

    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.new_file()
        taken = pieces[:3]
        for piece in taken:
            await file.write(piece)

        async def write() -> None:
            taken.append(pieces[3])
            await file.write(pieces[3])

        async def check(_: bool) -> None:
            for piece in pieces[len(taken) :]:
                await file.write(piece)
            await file.close()
            await as_put(file, b"".join(pieces))(True)

        return Work(write, check, may_run_on=True)

    await cancelled_everywhere(make)


# Copies and deletions


async def test_a_cancelled_copy_leaves_nothing(bucket: Bucket, matrix: Matrix) -> None:
    original = AsyncGridFile(bucket=bucket)
    await original.put(LARGE)

    async def make() -> Work:
        copies: list[AsyncGridFile] = []

        async def copy() -> None:
            copies.append(await original.copy(filename="a copy"))

        async def check(returned: bool) -> None:
            assert await stored_files(bucket.database) == dict.fromkeys(
                [original.id, *(each.id for each in copies)], LARGE
            )
            assert bool(copies) is returned
            for each in copies:
                await each.delete()

        return Work(copy, check)

    matrix.survived("copy", Fault.CANCELLED, await cancelled_everywhere(make, stride=LONG))


async def test_a_cancelled_delete_has_removed_all_or_nothing(bucket: Bucket, matrix: Matrix) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        await file.put(OLD)

        async def check(returned: bool) -> None:
            assert await stored_files(bucket.database) == ({file.id: OLD} if file else {})
            assert not (returned and file)
            await file.delete()

        return Work(file.delete, check)

    matrix.survived("delete", Fault.CANCELLED, await cancelled_everywhere(make, stride=2))


async def test_a_cancelled_delete_of_a_bucket_has_removed_all_or_nothing(bucket: Bucket) -> None:
    async def make() -> Work:
        info = await bucket.upload(OLD)

        async def check(returned: bool) -> None:
            assert not (await stored_files(bucket.database) and returned)
            await bucket.delete_many([info.id])

        return Work(lambda: bucket.delete(info.id), check)

    await cancelled_everywhere(make, stride=2)
