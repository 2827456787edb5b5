"""Two at once: uploads under one id, readers and writers of one file, many files through few connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, FileClosed, FileInfo, UploadInProgress
from gridproxy.gridfs.operations import copy
from gridproxy.gridfs.records.file_info import UPLOAD_ID
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.gridfs.upload import upload
from gridproxy.runtime.capabilities import Feature

from ..observing import without
from .conftest import CHUNK
from .whole import Database, stored_files

EMPTY, SMALL, OTHER = b"", b"one request" * 150, b"another one" * 150
LARGE = bytes(range(256)) * 44  # eleven chunks: six batches


async def upload_late(bucket: Bucket, data: bytes, turns: int) -> FileInfo:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await bucket.upload(data, id="mine")


async def unchecked(*_: object) -> None:
    """In the place of the look whether an id is free: both uploads have looked, and found that it is."""


@pytest.mark.parametrize("checked", [True, False], ids=["as it comes", "past the check"])
@pytest.mark.parametrize(
    ("one", "other"),
    [(EMPTY, EMPTY), (EMPTY, SMALL), (SMALL, SMALL), (SMALL, OTHER), (SMALL, LARGE), (LARGE, LARGE)],
    ids=["empty, empty", "empty, small", "equal", "small, small", "small, large", "large, large"],
)
async def test_of_two_uploads_under_one_id_exactly_one_wins(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, one: bytes, other: bytes, checked: bool
) -> None:
    await bucket.ensure_indexes()
    if not checked:
        monkeypatch.setattr(upload, "check_id_is_free", unchecked)
    for turns in range(-4, 5):
        tasks = [
            asyncio.create_task(upload_late(bucket, one, max(0, turns))),
            asyncio.create_task(upload_late(bucket, other, max(0, -turns))),
        ]
        await asyncio.wait(tasks)
        errors = [task.exception() for task in tasks]
        assert errors.count(None) == 1, errors
        loser = next(error for error in errors if error is not None)
        assert isinstance(loser, FileAlreadyStored | UploadInProgress)
        assert not hasattr(loser, "__notes__")
        assert await stored_files(bucket.database) == {"mine": one if errors[0] is None else other}
        await bucket.delete("mine")


@pytest.mark.parametrize("checked", [True, False], ids=["as it comes", "past the check"])
@pytest.mark.parametrize(
    ("copied", "uploaded"),
    [(EMPTY, SMALL), (SMALL, SMALL), (SMALL, LARGE), (LARGE, SMALL), (LARGE, LARGE)],
    ids=["empty, small", "small, small", "small, large", "large, small", "large, large"],
)
async def test_of_a_copy_and_an_upload_under_one_id_exactly_one_wins(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, copied: bytes, uploaded: bytes, checked: bool
) -> None:
    original = await bucket.upload(copied)
    uploaded = uploaded[::-1]  # to be told from the copy
    if not checked:
        monkeypatch.setattr(upload, "check_id_is_free", unchecked)
        monkeypatch.setattr(copy, "check_id_is_free", unchecked)
    for turns in (0, 2, 4, 8, 16):
        tasks = [
            asyncio.create_task(bucket.copy(original.id, new_id="mine")),
            asyncio.create_task(upload_late(bucket, uploaded, turns)),
        ]
        await asyncio.wait(tasks)
        errors = [task.exception() for task in tasks]
        assert errors.count(None) == 1, errors
        loser = next(error for error in errors if error is not None)
        assert isinstance(loser, FileAlreadyStored | UploadInProgress)
        assert not hasattr(loser, "__notes__")
        kept = copied if errors[0] is None else uploaded
        assert await stored_files(bucket.database) == {original.id: copied, "mine": kept}
        await bucket.delete("mine")


async def test_a_copy_puts_no_chunk_beside_another_uploads_first(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await bucket.upload(LARGE)
    writer = await bucket.open_upload(id="mine")
    await writer.write(LARGE)  # its first batch is there, the others are held back
    monkeypatch.setattr(copy, "check_id_is_free", unchecked)
    with pytest.raises(UploadInProgress):
        await bucket.copy(original.id, new_id="mine")
    await writer.close()
    assert await stored_files(bucket.database) == {original.id: LARGE, "mine": LARGE}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (DuplicateKeyError("E11000 duplicate key error", 11000), UploadInProgress),
        (OperationFailure("no", 2), OperationFailure),
    ],
    ids=["a chunk was there", "anything else"],
)
async def test_a_server_that_refuses_to_copy_a_chunk_is_understood(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, error: OperationFailure, raised: type[Exception]
) -> None:
    # MongoDB tells of it, the embedded server passes over it, and no failpoint can be told to give this code.
    async def refuse(*_: object) -> None:
        raise error

    original = await bucket.upload(LARGE)
    monkeypatch.setattr(Store, "copy_chunks", refuse)
    with pytest.raises(raised):
        await bucket.copy(original.id, new_id="mine")
    assert await stored_files(bucket.database) == {original.id: LARGE}


@pytest.mark.parametrize("data", [EMPTY, SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("bulk_write", [True, False], ids=["8.0", "before 8.0"])
async def test_an_id_of_a_concurrent_empty_file_gets_no_chunk(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, data: bytes, bulk_write: bool
) -> None:
    await bucket.upload(EMPTY, id="mine", filename="the first")
    if not bulk_write:
        without(bucket, Feature.BULK_WRITE)
    monkeypatch.setattr(upload, "check_id_is_free", unchecked)
    with pytest.raises(FileAlreadyStored):
        await bucket.upload(data, id="mine")
    assert await stored_files(bucket.database) == {"mine": EMPTY}
    assert (await bucket.stat("mine")).filename == "the first"


@pytest.mark.parametrize("data", [EMPTY, SMALL, LARGE], ids=["empty", "small", "large"])
async def test_an_id_in_use_is_refused_before_a_byte_is_sent(bucket: Bucket, data: bytes) -> None:
    await bucket.upload(OTHER, id="mine")
    with pytest.raises(FileAlreadyStored):
        await bucket.upload(data, id="mine")
    with pytest.raises(FileAlreadyStored):
        await bucket.open_upload(id="mine")
    assert await stored_files(bucket.database) == {"mine": OTHER}


async def test_chunks_without_a_record_keep_their_id_until_they_are_discarded(bucket: Bucket) -> None:
    staged = await bucket.stage(SMALL, id="mine")
    with pytest.raises(UploadInProgress):
        await bucket.upload(OTHER, id="mine")
    await bucket.discard("mine")
    await bucket.upload(OTHER, id="mine")
    assert await stored_files(bucket.database) == {staged.id: OTHER}


async def test_a_repeated_request_puts_no_chunk_beside_another_uploads(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a request is lost, it had not landed, and somebody else was quicker with the first chunk."""

    async def lost(*_: object) -> None:
        await bucket.store.chunks.insert_one({"files_id": "mine", "n": 0, "data": OTHER[:CHUNK]})
        raise AutoReconnect("the answer was lost")

    monkeypatch.setattr(Store, "insert_small_files", lost)
    with pytest.raises(UploadInProgress):
        await bucket.upload(SMALL, id="mine")
    assert [chunk["data"] async for chunk in bucket.store.chunks.find()] == [OTHER[:CHUNK]]


async def test_a_repeated_request_makes_no_file_of_another_uploads_chunks(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk had landed before the connection broke, and behind it lie the remains of somebody else's."""

    async def lost(store: Store, chunks: list[Record], _: list[Record]) -> None:
        await store.chunks.insert_many([chunks[0], {"files_id": "mine", "n": 1, "data": OTHER[CHUNK:]}])
        raise AutoReconnect("the connection broke in its midst")

    monkeypatch.setattr(Store, "insert_small_files", lost)
    with pytest.raises(UploadInProgress):
        await bucket.upload(SMALL, id="mine")
    assert [chunk["data"] async for chunk in bucket.store.chunks.find()] == [OTHER[CHUNK:]]
    assert not await bucket.store.files.count_documents({})


@pytest.mark.parametrize("of_winner", [{UPLOAD_ID: ObjectId()}, {}], ids=["of this package", "of another driver"])
async def test_the_loser_takes_back_nothing_of_the_winners(
    bucket: Bucket, of_winner: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes in the same millisecond: the winner's record looks as the loser's would."""
    insert_small_file = Store.insert_small_files

    def another(document: Record) -> Record:
        return {key: value for key, value in document.items() if key != UPLOAD_ID} | of_winner

    async def late(store: Store, chunks: list[Record], records: list[Record]) -> None:
        winner = [{**another(chunk), "_id": f"of the winner {chunk['n']}"} for chunk in chunks]
        await store.chunks.insert_many(winner)
        await store.files.insert_many([another(record) for record in records])
        await insert_small_file(store, chunks, records)

    monkeypatch.setattr(Store, "insert_small_files", late)
    with pytest.raises((FileAlreadyStored, UploadInProgress)):
        await bucket.upload(SMALL, id="mine")
    assert await stored_files(bucket.database) == {"mine": SMALL}


async def test_a_cancelled_loser_takes_back_nothing_of_the_winners(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserting = asyncio.Event()
    insert_record = Store.insert_record

    async def late(store: Store, record: Record, session: Session | None = None) -> None:
        await store.files.insert_one(dict(record))
        inserting.set()
        await insert_record(store, record, session)

    monkeypatch.setattr(Store, "insert_record", late)
    losing = asyncio.create_task(bucket.upload(EMPTY, id="mine"))
    await inserting.wait()
    losing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await losing
    assert await stored_files(bucket.database) == {"mine": EMPTY}


async def test_a_file_is_not_aborted_while_another_task_closes_it(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.new_file()
    file.write(LARGE)
    closing = asyncio.create_task(file.close())
    await asyncio.sleep(0)
    with pytest.raises(FileClosed):
        await file.abort()
    await closing
    assert await stored_files(bucket.database) == {file.id: LARGE}


# Few connections


@pytest.fixture(params=[1, 2])
async def narrow(
    mongodb_uri: str, database: Database, small_batches: None, request: pytest.FixtureRequest
) -> AsyncIterator[Bucket]:
    """Yield a bucket with this many connections."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, maxPoolSize=request.param) as client:
        yield Bucket(client[database.name], chunk_size=CHUNK)


async def test_twenty_uploads_and_downloads_pass_through_few_connections(narrow: Bucket, database: Database) -> None:
    async def there_and_back(number: int) -> None:
        data = bytes([number]) * (number % 4) * 1500
        info = await narrow.upload(data, id=number if number % 2 else None)
        async with narrow.stream(info.id) as stream:
            blocks, _ = await asyncio.gather(taken(stream), narrow.stat(info.id))
        assert blocks == data == await narrow.read(info.id)
        if number % 5 == 0:
            await narrow.delete(info.id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(there_and_back(number) for number in range(20)))
    assert len(await stored_files(database)) == 16


async def taken(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in stream])


async def test_a_slow_reader_holds_no_connection_that_others_wait_for(narrow: Bucket, database: Database) -> None:
    info = await narrow.upload(LARGE)
    async with asyncio.timeout(60), narrow.stream(info.id) as first, narrow.stream(info.id) as second:
        await first.receive()
        await second.receive()
        other = await narrow.upload(LARGE)
        assert await narrow.read(other.id) == LARGE
    assert await stored_files(database) == {info.id: LARGE, other.id: LARGE}
