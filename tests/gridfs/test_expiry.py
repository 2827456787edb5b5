"""Expired files are missing to every read, can be found by a query and are kept by a copy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest

from gridproxy import AsyncGridFile, Bucket, FileMissing, FileOptions, prefetch
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.records.file_info import utc_now

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")

PAST, SOON = timedelta(seconds=-1), timedelta(hours=1)


class Form(Document):
    upload = FileField(store="snapshot")


async def opened(file: AsyncGridFile) -> None:
    async with file.open():
        pass


async def streamed(file: AsyncGridFile) -> None:
    async for _ in file:
        pass


# Each way to read a file.
READS: dict[str, Callable[[AsyncGridFile], Awaitable[Any]]] = {
    "read": lambda file: file.read(),
    "a part": lambda file: file.read(3),
    "readline": lambda file: file.readline(),
    "seek": lambda file: file.seek(0, 2),
    "open": opened,
    "stream": streamed,
    "read_range": lambda file: file.read_range(0, 3),
    "read_ranges": lambda file: file.read_ranges([(0, 3)]),
    "save_to": lambda file: file.save_to(BytesIO()),
    "stat": lambda file: file.stat(),
    "verify": lambda file: file.verify(),
    "copy": lambda file: file.copy(),
    "as a source": lambda file: AsyncGridFile().put(file),
    "bucket.read": lambda file: Bucket(file.state.store().database).read(file.id),
    "bucket.stat": lambda file: Bucket(file.state.store().database).stat(file.id),
    "bucket.copy": lambda file: Bucket(file.state.store().database).copy(file.id),
    "bucket.verify": lambda file: Bucket(file.state.store().database).verify(file.id),
    "by_name": lambda file: Bucket(file.state.store().database).by_name("form.txt"),
}


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("known", [True, False])
async def test_an_expired_file_is_missing_to_every_read(way: str, known: bool) -> None:
    file = AsyncGridFile()
    await file.put(b"content", filename="form.txt", expires_after=PAST)
    with pytest.raises(FileMissing):
        await READS[way](file if known else AsyncGridFile(file.id))


@pytest.mark.parametrize("way", READS)
async def test_a_file_before_its_expiry_can_be_read(way: str) -> None:
    file = AsyncGridFile()
    await file.put(b"content", filename="form.txt", expires_after=SOON)
    await READS[way](AsyncGridFile(file.id))


async def test_reads_of_many_files_leave_out_the_expired_ones(database: Database) -> None:
    bucket = Bucket(database)
    there = await bucket.upload(b"there", filename="a", expires_after=SOON)
    gone = await bucket.upload(b"gone", filename="a", expires_after=PAST)
    assert list(await bucket.stat_many([there.id, gone.id])) == [there.id]
    assert await bucket.read_many([there.id, gone.id]) == {there.id: b"there"}
    assert (await bucket.by_name("a")).id == there.id
    files = [AsyncGridFile(there.id), AsyncGridFile(gone.id)]
    await prefetch([{"files": files}], "files", content=True)
    assert [file.info is not None for file in files] == [True, False]
    assert not await files[1].exists()


async def test_a_query_finds_expired_files(database: Database) -> None:
    bucket = Bucket(database)
    moment = datetime(2020, 2, 3, 4, 5, 6, 789_999, tzinfo=UTC)
    gone = await bucket.upload(b"gone", expires_at=moment)
    await bucket.upload(b"there", expires_after=SOON)
    await bucket.upload(b"for good")
    found = [info async for info in bucket.find({"expires_at": {"$lte": utc_now()}})]
    assert [(info.id, info.expires_at) for info in found] == [(gone.id, moment.replace(microsecond=789_000))]
    record = await database["fs.files"].find_one({"_id": gone.id})
    assert record is not None
    assert isinstance(record["expires_at"], datetime)


async def test_a_reader_can_finish_after_the_file_expires(database: Database) -> None:
    file = AsyncGridFile()
    await file.put(bytes(range(100)), expires_after=SOON, chunk_size=10)
    async with file.open() as reader:
        assert await reader.read(5) == bytes(range(5))
        await database["fs.files"].update_one({}, {"$set": {"expires_at": utc_now()}})
        assert await reader.read() == bytes(range(5, 100))


async def test_a_copy_of_an_expiring_file_does_not_expire(database: Database) -> None:
    waiting = AsyncGridFile()
    await waiting.put(b"the upload", filename="cv.txt", expires_after=SOON)
    form = Form()
    form.upload = await waiting.copy()
    await form.save()
    await database["fs.files"].update_one({"_id": waiting.id}, {"$set": {"expires_at": utc_now()}})
    assert await (await Form.objects.get()).upload.read() == b"the upload"
    assert (await form.upload.stat()).expires_at is None
    with pytest.raises(FileMissing):
        await waiting.read()


async def test_a_snapshot_of_an_expired_file_is_shown_but_not_read(database: Database) -> None:
    form = Form()
    await form.upload.put(b"the upload", filename="cv.txt", expires_after=PAST)
    await form.save()
    form = await Form.objects.get()
    assert form.upload.filename == "cv.txt"
    with pytest.raises(FileMissing):
        await form.upload.read()


async def test_an_expired_file_can_be_replaced_and_deleted(database: Database) -> None:
    file = AsyncGridFile(options=FileOptions())
    await file.put(b"old", expires_after=PAST)
    await file.replace(b"new", expires_after=PAST)
    assert await contents(database) == (1, 1)
    await file.delete()
    assert await contents(database) == (0, 0)


async def test_a_ttl_index_on_the_records_alone_would_leave_the_chunks(database: Database) -> None:
    # The test does by hand what such an index would do, which is why the package creates none.
    file = AsyncGridFile()
    await file.put(b"content", expires_after=PAST)
    await database["fs.files"].delete_many({"expires_at": {"$lte": utc_now()}})
    assert await contents(database) == (0, 1)
    assert "expireAfterSeconds" not in str(await database["fs.files"].index_information())
