"""A server that fails midway: the error comes out plain, nothing stays behind, and the next try works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError, WriteConcernError

from gridproxy import AsyncGridFile, Bucket, OutcomeUnknown

from ..observing import Commands
from .conftest import CHUNK
from .failing import FailingServer
from .whole import Database, stored_files

SMALL = b"one request" * 150  # a chunk and a half
LARGE = bytes(range(256)) * 22  # five chunks and a half: three batches
BATCHES = 3
UNAUTHORIZED = 13


async def assert_untouched(bucket: Bucket, database: Database, server: FailingServer, file: AsyncGridFile) -> None:
    """Nothing lies in the bucket, the proxy is empty, and another try stores the file."""
    await server.recover()
    assert await stored_files(database) == {}
    assert not file
    assert file.closed
    await file.put(LARGE)
    assert await stored_files(database) == {file.id: LARGE}
    await bucket.delete(file.id)


async def put(file: AsyncGridFile) -> None:
    await file.put(LARGE)


async def write_awaited(file: AsyncGridFile) -> None:
    async with file.new_file():
        for at in range(0, len(LARGE), 1000):
            await file.write(LARGE[at : at + 1000])


async def write_unawaited(file: AsyncGridFile) -> None:
    async with file.new_file():
        for at in range(0, len(LARGE), 1000):
            file.write(LARGE[at : at + 1000])


async def replace(file: AsyncGridFile) -> None:
    await file.replace(LARGE)


CALLS = pytest.mark.parametrize("call", [put, write_awaited, write_unawaited, replace])
Call = Callable[[AsyncGridFile], Awaitable[None]]


@pytest.mark.parametrize(
    "store",
    [
        lambda bucket: bucket.upload(SMALL, filename="refused"),
        lambda bucket: bucket.upload(LARGE, filename="refused"),
        lambda bucket: bucket.upload_many({"taken": SMALL, "refused": SMALL}),
        lambda bucket: bucket.copy("there", filename="refused"),
    ],
    ids=["one request", "in batches", "many", "copy"],
)
async def test_a_record_that_the_server_refuses_after_its_chunks_leaves_none(
    bucket: Bucket, database: Database, store: Callable[[Bucket], Awaitable[object]]
) -> None:
    """As a server of somebody's own rules does: nothing here knows of them before the chunks are there."""
    await bucket.upload(SMALL, id="there")
    rule = {"collMod": f"{bucket.name}.files", "validator": {"filename": {"$ne": "refused"}}}
    await database.command(rule)
    with pytest.raises(PyMongoError, match="failed validation") as caught:
        await store(bucket)
    assert not hasattr(caught.value, "__notes__")
    assert await stored_files(database) == {"there": SMALL}


@CALLS
@pytest.mark.parametrize("skip", range(BATCHES + 1), ids=["first batch", "second batch", "third batch", "record"])
async def test_an_error_of_any_insert_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, call: Call, skip: int
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=skip, times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as caught:
        await call(file)
    assert caught.value.code == UNAUTHORIZED
    assert not hasattr(caught.value, "__notes__")
    await assert_untouched(failing, database, server, file)


@CALLS
async def test_a_connection_that_breaks_with_every_batch_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, call: Call
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", closeConnection=True)
    with pytest.raises(ConnectionFailure) as caught:
        await call(file)
    assert not isinstance(caught.value, OutcomeUnknown)
    await assert_untouched(failing, database, server, file)


async def test_a_connection_that_breaks_once_goes_unnoticed(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    for skip in range(BATCHES + 1):
        await server.fail("insert", skip=skip, times=1, closeConnection=True)
        info = await failing.upload(LARGE)
        await server.recover()
        assert await stored_files(database) == {info.id: LARGE}
        await failing.delete(info.id)


async def test_a_record_without_the_wanted_durability_is_removed(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=BATCHES, times=1, writeConcernError={"code": 64, "errmsg": "too few nodes"})
    with pytest.raises(WriteConcernError):
        await file.put(LARGE)
    await assert_untouched(failing, database, server, file)


async def test_an_error_of_the_one_request_comes_out_plain_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database, commands: Commands
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("bulkWrite", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as caught:
        await file.put(SMALL)
    assert caught.value.code == UNAUTHORIZED
    assert len(commands.of("bulkWrite")) == 1
    await assert_untouched(failing, database, server, file)


# Writes after a failure


async def test_the_first_failure_sticks_to_later_writes_and_to_close(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await file.new_file()
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure) as first:
        while True:
            await file.write(b"x" * CHUNK)
    with pytest.raises(OperationFailure) as later:
        file.write(b"more")
    assert later.value is first.value
    with pytest.raises(OperationFailure) as at_close:
        await file.close()
    assert at_close.value is first.value
    await assert_untouched(failing, database, server, file)


async def test_a_block_whose_writes_failed_unseen_raises_at_its_end_and_leaves_nothing(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await server.fail("insert", skip=1, times=1, errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        async with file.new_file():
            try:
                while True:
                    await file.write(b"x" * CHUNK)
            except OperationFailure:
                pass
    await assert_untouched(failing, database, server, file)


async def test_a_writer_that_failed_says_so_again_at_a_second_close(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    writer = await failing.open_upload()
    await server.fail("insert", times=1, errorCode=UNAUTHORIZED)
    writer.write(LARGE)
    for _ in range(2):
        with pytest.raises(OperationFailure):
            await writer.close()
    assert await stored_files(database) == {}


async def test_a_clean_up_that_fails_too_adds_a_note_to_the_error(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    class FailingMidway:
        """Gives two batches, and then an error while the server has become deaf to deletes."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield LARGE
            await server.fail("delete", errorCode=UNAUTHORIZED)
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        await failing.upload(FailingMidway())
    (note,) = caught.value.__notes__
    assert "clean-up failed too" in note
    assert "collect_garbage" in note
    await server.recover()
    assert await database["fs.chunks"].count_documents({})


async def test_a_replace_that_cannot_remove_the_old_file_keeps_the_new_one(
    server: FailingServer, failing: Bucket, database: Database
) -> None:
    file = AsyncGridFile(bucket=failing)
    await file.put(SMALL)
    old = file.id
    await server.fail("findAndModify", errorCode=UNAUTHORIZED)
    with pytest.raises(OperationFailure):
        await file.replace(LARGE)
    await server.recover()
    assert await stored_files(database) == {old: SMALL, file.id: LARGE}
