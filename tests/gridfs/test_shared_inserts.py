"""Small files that are stored at once without `bulkWrite` share their inserts, and each has its own error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern
from pymongo.errors import AutoReconnect, BulkWriteError

from gridproxy import Bucket, UniqueIndexViolation
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.upload.shared_inserts import SharedInserts
from gridproxy.runtime import shared_requests
from gridproxy.runtime.capabilities import Feature

from ..observing import Database
from ..traffic import Traffic, watched

pytestmark = [
    # pymongo drops the socket of a connection that is cancelled while it is being opened.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

CONTENTS = [f"the picture of marmot {number}".encode() for number in range(32)]

Place = tuple[Bucket, Traffic]


@pytest.fixture
async def place(mongodb_uri: str, database: Database) -> AsyncIterator[Place]:
    """Yield a bucket with its indexes through a client that knows that the server has no `bulkWrite`."""
    async with watched(mongodb_uri, database.name) as (same, traffic):
        bucket = Bucket(same)
        await bucket.upload(b"the first file makes the indexes")
        bucket.capabilities.replace(Feature.BULK_WRITE, "no such command: 'bulkWrite'")
        traffic.clear()
        yield bucket, traffic


async def uploads(bucket: Bucket, contents: list[bytes], **options: Any) -> list[Any]:
    works = [bucket.upload(content, filename=content.decode(), **options) for content in contents]
    return await asyncio.gather(*works, return_exceptions=True)


async def assert_stored(bucket: Bucket, contents: list[bytes]) -> None:
    """Assert that these files are whole, and that there is nothing else but the first file of the fixture."""
    found = {info.filename: await bucket.read(info.id) async for info in bucket.find()}
    assert {name: content for name, content in found.items() if name} == {each.decode(): each for each in contents}
    assert len(await bucket.store.chunks.distinct("files_id")) == len(found)
    assert await bucket.store.chunks.count_documents({}) == len(found)


async def test_files_that_are_stored_at_once_share_two_inserts(place: Place) -> None:
    bucket, traffic = place
    infos = await uploads(bucket, CONTENTS)
    assert [name for name, _ in traffic.seen] == ["insert", "insert"]
    assert [info.filename for info in infos] == [content.decode() for content in CONTENTS]
    assert len({info.id for info in infos}) == 32
    await assert_stored(bucket, CONTENTS)


async def test_a_lone_file_takes_two_inserts_of_its_own(place: Place) -> None:
    bucket, traffic = place
    await bucket.upload(CONTENTS[0], filename=CONTENTS[0].decode())
    assert [len(command["documents"]) for command in traffic.of("insert")] == [1, 1]
    await assert_stored(bucket, CONTENTS[:1])


async def test_files_that_arrive_while_others_are_stored_share(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, traffic = place
    monkeypatch.setattr(shared_requests, "RUNNING", 1)
    insert, asked, go = Store.insert_chunks, asyncio.Event(), asyncio.Event()

    async def slow(store: Store, documents: list[Record], **options: Any) -> None:
        asked.set()
        await go.wait()
        await insert(store, documents, **options)

    monkeypatch.setattr(Store, "insert_chunks", slow)
    works = [asyncio.create_task(bucket.upload(CONTENTS[0], filename=CONTENTS[0].decode()))]
    await asyncio.wait_for(asked.wait(), 10)
    for content in CONTENTS[1:10]:
        works.append(asyncio.create_task(bucket.upload(content, filename=content.decode())))
        await asyncio.sleep(0.001)
    go.set()
    await asyncio.gather(*works)
    assert sorted(len(command["documents"]) for command in traffic.of("insert")) == [1, 1, 9, 9]
    await assert_stored(bucket, CONTENTS[:10])


async def test_a_group_has_at_most_two_megabytes(place: Place) -> None:
    bucket, traffic = place
    await asyncio.gather(*(bucket.upload(bytes(64 * 1024)) for _ in range(40)))
    assert max(len(command["documents"]) for command in traffic.of("insert")) == 32


@pytest.mark.parametrize(
    "options", [{"id": 7}, {"large": True}, {"deadline": True}], ids=["own id", "large", "deadline"]
)
async def test_what_cannot_be_shared_is_stored_alone(place: Place, options: dict[str, Any]) -> None:
    bucket, traffic = place

    async def store(n: int) -> None:
        if "deadline" in options:
            with pymongo.timeout(30):
                await bucket.upload(b"a")
        else:
            id: dict[str, Any] = {"id": n} if "id" in options else {}
            await bucket.upload(bytes(65 * 1024) if "large" in options else b"a", **id)

    await asyncio.gather(store(1), store(2))
    assert [len(command["documents"]) for command in traffic.of("insert")] == [1] * 4


async def test_buckets_with_another_write_concern_do_not_share(place: Place) -> None:
    bucket, traffic = place
    surer = Bucket(bucket.store.database, write_concern=WriteConcern(w=1, j=True))
    await asyncio.gather(*(each.upload(b"a") for each in (bucket, bucket, surer, surer)))
    assert [len(command["documents"]) for command in traffic.of("insert")] == [2] * 4
    assert [command.get("writeConcern", {}).get("j") for command in traffic.of("insert")].count(True) == 2


async def test_a_file_that_an_index_refuses_fails_alone(place: Place) -> None:
    bucket, _ = place
    await bucket.store.files.create_index("metadata.number", unique=True, sparse=True)
    works = [
        bucket.upload(content, filename=content.decode(), metadata={"number": min(n, 6)})
        for n, content in enumerate(CONTENTS[:8])
    ]
    found = await asyncio.gather(*works, return_exceptions=True)
    failed = [each for each in found if isinstance(each, Exception)]
    assert [type(each) for each in failed] == [UniqueIndexViolation]
    left = [content for content, each in zip(CONTENTS, found, strict=False) if not isinstance(each, Exception)]
    await assert_stored(bucket, left)


def lost(after: bool) -> Callable[[Any], Any]:
    """Return a wrapper of an insert whose first answer is lost, `after` the server carried it out or before."""

    def wrap(insert: Any) -> Any:
        calls = 0

        async def broken(store: Store, *args: Any, **options: Any) -> None:
            nonlocal calls
            calls += 1
            if after or calls > 1:
                await insert(store, *args, **options)
            if calls == 1:
                raise AutoReconnect("the connection was cut")

        return broken

    return wrap


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("command", ["insert_chunks", "insert_records"])
async def test_files_of_a_failed_insert_are_stored_one_by_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: str, after: bool
) -> None:
    bucket, _ = place
    monkeypatch.setattr(Store, command, lost(after)(getattr(Store, command)))
    found = await uploads(bucket, CONTENTS[:6])
    assert not [each for each in found if isinstance(each, Exception)]
    await assert_stored(bucket, CONTENTS[:6])


async def test_a_write_concern_that_is_not_met_is_an_error_of_each_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, _ = place
    insert = Store.insert_records

    async def unsafe(store: Store, records: list[Record]) -> None:
        await insert(store, records)
        raise BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting timed out"}]})

    monkeypatch.setattr(Store, "insert_records", unsafe)
    found = await uploads(bucket, CONTENTS[:4])
    assert [type(each) for each in found] == [BulkWriteError] * 4
    await assert_stored(bucket, [])


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_upload_leaves_the_others_alone(place: Place, turns: int) -> None:
    bucket, _ = place
    works = [asyncio.create_task(bucket.upload(each, filename=each.decode())) for each in CONTENTS[:4]]
    for _ in range(turns):
        await asyncio.sleep(0)
    works[1].cancel()
    found = await asyncio.gather(*works, return_exceptions=True)
    done = [content for content, each in zip(CONTENTS, found, strict=False) if not isinstance(each, BaseException)]
    assert CONTENTS[1] not in done
    await assert_stored(bucket, done)
    assert len(done) == 3
    assert SharedInserts.of(bucket.store)._running == 0


@pytest.mark.parametrize("turns", [1, 3, 5, 8])
async def test_uploads_that_are_all_cancelled_leave_nothing(place: Place, turns: int) -> None:
    bucket, _ = place
    works = [asyncio.create_task(bucket.upload(each)) for each in CONTENTS[:4]]
    for _ in range(turns):
        await asyncio.sleep(0)
    for each in works:
        each.cancel()
    await asyncio.wait(works)
    await assert_stored(bucket, [])
    assert all(each.cancelled() for each in works)
    assert SharedInserts.of(bucket.store)._running == 0


async def test_inserts_that_all_callers_left_are_cancelled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, _ = place
    monkeypatch.setattr("gridproxy.runtime.tasks.SETTLE_SECONDS", 0.05)
    asked, ended = asyncio.Event(), asyncio.Event()

    async def stuck(store: Store, documents: list[Record], **options: Any) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(Store, "insert_chunks", stuck)
    works = [asyncio.create_task(bucket.upload(each)) for each in CONTENTS[:2]]
    await asyncio.wait_for(asked.wait(), 10)
    for each in works:
        each.cancel()
    await asyncio.wait(works)
    await asyncio.wait_for(ended.wait(), 10)
    assert SharedInserts.of(bucket.store)._running == 0
