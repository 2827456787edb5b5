"""AsyncGridFile.new_file, write, close and abort: a new file, written bit by bit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import gridproxy
from gridproxy import AsyncGridFile, BadOption, BadSource, FileAlreadyStored, FileClosed, FileMissing, UploadInProgress
from gridproxy.gridfs.store.collections import Store

from ..observing import Database, contents, observed

pytestmark = pytest.mark.usefixtures("connected")


# The life of a new file


async def test_the_file_is_visible_and_has_its_id_only_after_close(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.new_file(filename="marmot.jpg", owner=7)
    await photo.write(b"x" * 10)
    assert photo.id is None
    assert not photo
    assert (await contents(database))[0] == 0
    await photo.close()
    assert photo
    assert photo.closed
    assert (photo.filename, photo.content_type, photo.length) == ("marmot.jpg", "image/jpeg", 10)
    assert photo.metadata["owner"] == 7
    assert await photo.read() == b"x" * 10


async def test_an_empty_new_file_is_a_file_of_no_bytes(database: Database) -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        pass
    assert photo
    assert await photo.read() == b""
    assert await contents(database) == (1, 0)


async def test_new_file_does_nothing_before_it_is_awaited(mongodb_uri: str, database: Database) -> None:
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            photo = AsyncGridFile()
            photo.new_file()
            assert photo.closed
            assert commands.seen == []


async def test_bad_options_of_a_new_file_are_refused_at_the_call() -> None:
    with pytest.raises(BadOption):
        AsyncGridFile().new_file(chunk_size=0)


async def test_awaiting_a_new_file_twice_starts_it_once() -> None:
    photo = AsyncGridFile()
    new = photo.new_file()
    await new
    await photo.write(b"once")
    await new
    await photo.close()
    assert await photo.read() == b"once"


async def test_write_returns_the_number_of_bytes() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        assert await photo.write(b"four") == 4
        assert await photo.write("äöü") == 6
        assert await photo.writelines([b"one", "two", bytearray(b"three"), memoryview(b"four")]) == 15
    assert await photo.read() == "fouräöüonetwothreefour".encode()


async def test_writelines_writes_all_or_nothing_without_separators() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        with pytest.raises(BadSource, match="int"):
            photo.writelines([b"never", 7])  # type: ignore[list-item]
        with pytest.raises(BadSource, match="iterable"):
            photo.writelines(b"not a list")  # type: ignore[arg-type]
        photo.writelines(line for line in (b"a\n", b"b\n"))
    assert await photo.read() == b"a\nb\n"


async def test_close_without_a_new_file_seeks_to_the_start() -> None:
    photo = AsyncGridFile()
    await photo.put(b"0123456789")
    assert await photo.read(4) == b"0123"
    await photo.close()
    assert photo.tell() == 0
    assert await photo.read() == b"0123456789"


async def test_closing_and_aborting_an_untouched_proxy_is_no_error() -> None:
    photo = AsyncGridFile()
    await photo.close()
    await photo.abort()
    assert not photo


async def test_the_body_may_close_by_itself(database: Database) -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        photo.write(b"closed inside")
        await photo.close()
        assert photo
    assert await photo.read() == b"closed inside"
    assert await contents(database) == (1, 1)


@pytest.mark.usefixtures("small_batches")
async def test_the_body_may_abort_by_itself(database: Database) -> None:
    photo = AsyncGridFile()
    async with photo.new_file(chunk_size=4):
        await photo.write(b"x" * 100)
        await photo.abort()
        assert photo.closed
    assert not photo
    assert await contents(database) == (0, 0)


async def test_the_body_may_close_one_file_and_leave_another_open() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        photo.write(b"first")
        await photo.close()
        await photo.new_file(replace=True)
        photo.write(b"second")
    assert not photo.closed
    await photo.close()
    assert await photo.read() == b"second"


@pytest.mark.usefixtures("small_batches")
async def test_an_exception_aborts_and_the_proxy_is_what_it_was(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old", filename="old.txt")
    before = photo.id, photo.info
    await photo.read(3)
    with pytest.raises(OSError, match="the camera is gone"):
        async with photo.new_file(replace=True, chunk_size=4):
            await photo.write(b"x" * 100)
            raise OSError("the camera is gone")
    assert (photo.id, photo.info) == before
    assert photo.tell() == 3
    assert await photo.read() == b" old"
    assert await contents(database) == (1, 1)


@pytest.mark.usefixtures("small_batches")
async def test_a_cancellation_aborts_and_leaves_nothing(database: Database) -> None:
    photo = AsyncGridFile()
    writing = asyncio.Event()

    async def body() -> None:
        async with photo.new_file(chunk_size=4):
            await photo.write(b"x" * 100)
            writing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert photo.closed
    assert not photo
    assert await contents(database) == (0, 0)


async def test_after_an_abort_another_new_file_can_begin() -> None:
    photo = AsyncGridFile()
    await photo.new_file()
    photo.write(b"given up")
    await photo.abort()
    async with photo.new_file():
        photo.write(b"kept")
    assert await photo.read() == b"kept"


async def test_a_second_close_while_the_old_file_is_removed_keeps_the_new_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old")
    removing, go_on = asyncio.Event(), asyncio.Event()
    delete_record = Store.delete_record

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        removing.set()
        await go_on.wait()
        return await delete_record(*args, **kwargs)

    monkeypatch.setattr(Store, "delete_record", slowly)
    await photo.new_file(replace=True)
    photo.write(b"the new")
    first = asyncio.create_task(photo.close())
    await removing.wait()
    await photo.close()
    go_on.set()
    await first
    assert await photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_of_two_concurrent_closes_one_stores_the_file_and_the_other_raises(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.new_file()
    photo.write(b"once")
    results = await asyncio.gather(photo.close(), photo.close(), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType", "FileClosed"]
    assert photo.closed
    assert await photo.read() == b"once"
    assert await contents(database) == (1, 1)


async def test_an_abort_during_a_close_is_refused_and_the_file_is_whole(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.new_file()
    photo.write(b"whole")
    results = await asyncio.gather(photo.close(), photo.abort(), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType", "FileClosed"]
    assert await photo.read() == b"whole"
    assert await contents(database) == (1, 1)


# Calls that are refused during a write


async def test_two_new_files_at_once_are_refused(database: Database) -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        photo.write(b"the first")
        with pytest.raises(UploadInProgress, match="being written"):
            await photo.new_file()
        with pytest.raises(UploadInProgress):
            await photo.new_file(replace=True)
    assert await photo.read() == b"the first"
    assert await contents(database) == (1, 1)


async def test_everything_else_is_refused_while_a_file_is_being_written() -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old")
    async with photo.new_file(replace=True):
        photo.write(b"the new")
        for call in (
            photo.read,
            photo.readline,
            photo.stat,
            photo.verify,
            photo.delete,
            photo.copy,
            photo.update_metadata,
            lambda: photo.seek(0),
            lambda: photo.read_range(0, 1),
            lambda: photo.read_ranges([(0, 1)]),
            lambda: photo.rename("x"),
            lambda: photo.replace(b"x"),
            lambda: photo.save_to("never written"),
        ):
            with pytest.raises(UploadInProgress, match="being written"):
                await call()
        for opening in ("open", "stream", "__aiter__"):
            with pytest.raises(UploadInProgress, match="being written"):
                getattr(photo, opening)()
    assert await photo.read() == b"the new"


async def test_put_while_writing_is_refused() -> None:
    photo = AsyncGridFile()
    async with photo.new_file():
        with pytest.raises(UploadInProgress, match="being written"):
            await photo.put(b"x")


async def test_a_write_after_close_is_refused_and_stores_nothing() -> None:
    photo = AsyncGridFile()
    await photo.new_file()
    photo.write(b"x")
    await photo.close()
    with pytest.raises(FileClosed, match="new_file"):
        photo.write(b"y")
    with pytest.raises(FileClosed, match="new_file"):
        photo.writelines([b"y"])
    assert await photo.read() == b"x"


async def test_a_write_without_a_new_file_is_refused() -> None:
    with pytest.raises(FileClosed, match="new_file"):
        AsyncGridFile().write(b"x")


async def test_reading_after_an_aborted_write_raises_file_missing() -> None:
    photo = AsyncGridFile()
    await photo.new_file()
    await photo.abort()
    with pytest.raises(FileMissing, match="empty"):
        await photo.read()


async def test_a_taken_id_is_refused_before_the_first_write() -> None:
    taken = AsyncGridFile()
    await taken.put(b"x", id="taken")
    photo = AsyncGridFile()
    with pytest.raises(FileAlreadyStored):
        await photo.new_file(id="taken")
    assert photo.closed
    assert await taken.read() == b"x"
