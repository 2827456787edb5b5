"""Small reads at once share their commands, and each gets its own file, error and cancellation."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import anyio
import pymongo
import pytest
from bson import Int64, ObjectId
from bson.decimal128 import Decimal128
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.errors import AutoReconnect, OperationFailure

from gridproxy import Bucket, CorruptFile, FileMissing
from gridproxy.gridfs.download import head
from gridproxy.gridfs.download.head import SharedReads
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.runtime import shared_requests

from ..observing import Database
from ..traffic import Traffic, watched

pytestmark = [
    # pymongo drops the socket of a connection that is cancelled while it is being opened.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

CONTENTS = [f"the picture of marmot {number}".encode() for number in range(32)]


@pytest.fixture
async def small(mongodb_uri: str, database: Database) -> AsyncIterator[tuple[Bucket, list[ObjectId], Traffic]]:
    """Yield a bucket with 32 small files through a client of its own, which is new to the package."""
    ids = [ObjectId() for _ in CONTENTS]
    for id, content in zip(ids, CONTENTS, strict=True):
        await Bucket(database).upload(content, id=id)
    async with watched(mongodb_uri, database.name) as (same, traffic):
        yield Bucket(same), ids, traffic


Small = tuple[Bucket, list[ObjectId], Traffic]


async def all_at_once(works: list[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*works, return_exceptions=True)


def names(traffic: Traffic) -> list[str]:
    return [name for name, _ in traffic.seen]


async def test_a_lone_read_is_one_command(small: Small) -> None:
    bucket, ids, traffic = small
    assert await bucket.read(ids[0]) == CONTENTS[0]
    assert names(traffic) == ["aggregate"]


async def test_reads_that_start_together_share_two_commands_for_each_group(small: Small) -> None:
    bucket, ids, traffic = small
    assert await all_at_once([bucket.read(id) for id in ids]) == CONTENTS
    # The length of the files is not known yet. A group has 16 files of the guessed length.
    assert names(traffic) == ["find"] * 4
    traffic.clear()
    assert await all_at_once([bucket.read(id) for id in ids]) == CONTENTS
    assert names(traffic) == ["find"] * 2


async def test_files_of_one_bucket_share_whichever_object_reads_them(small: Small) -> None:
    bucket, ids, traffic = small
    twin = Bucket(bucket.store.database)
    await asyncio.gather(*(bucket.read(id) for id in ids))
    traffic.clear()
    reads: list[Awaitable[bytes]] = [bucket.read(ids[0]), twin.read(ids[1]), bucket.file(ids[2]).read()]
    assert await all_at_once([*reads, twin.file(ids[3]).open().read()]) == CONTENTS[:4]
    assert names(traffic) == ["find"] * 2


async def test_reads_with_another_preference_do_not_share(small: Small) -> None:
    bucket, ids, traffic = small
    nearest = Bucket(bucket.store.database, read_preference=ReadPreference.NEAREST)
    await all_at_once([bucket.read(ids[0]), bucket.read(ids[1]), nearest.read(ids[2]), nearest.read(ids[3])])
    modes = [command.get("$readPreference", {}).get("mode") for command in traffic.of("find")]
    assert len(modes) == 4
    assert modes.count("nearest") == 2


async def test_reads_that_arrive_while_others_run_share(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, ids, traffic = small
    monkeypatch.setattr(shared_requests, "RUNNING", 1)
    find, asked, go = Store.find_head, asyncio.Event(), asyncio.Event()

    async def slow(store: Store, *args: Any) -> Any:
        asked.set()
        await go.wait()
        return await find(store, *args)

    monkeypatch.setattr(Store, "find_head", slow)
    reading = [asyncio.create_task(bucket.read(ids[0]))]
    await asyncio.wait_for(asked.wait(), 10)
    for id in ids[1:10]:
        reading.append(asyncio.create_task(bucket.read(id)))
        await asyncio.sleep(0.001)
    assert names(traffic) == []
    go.set()
    assert await asyncio.gather(*reading) == CONTENTS[:10]
    assert sorted(names(traffic)) == ["aggregate", "find", "find"]


async def test_one_file_read_by_many_gives_each_its_own_record(small: Small) -> None:
    bucket, ids, _ = small
    await bucket.update_metadata(ids[0], tags=["a"])
    files = [bucket.file(ids[0]) for _ in range(5)]
    assert await all_at_once([file.read() for file in files]) == [CONTENTS[0]] * 5
    infos = [file.info for file in files]
    assert all(info is not None and info.metadata["tags"] == ["a"] for info in infos)
    assert len({id(info.metadata["tags"]) for info in infos if info is not None}) == 5


async def test_a_missing_an_expired_and_a_damaged_file_fail_alone(small: Small) -> None:
    bucket, ids, _ = small
    chunks = bucket.store.chunks
    await chunks.delete_one({"files_id": ids[1]})
    first = await chunks.find_one({"files_id": ids[2]}, {"_id": 0})
    await chunks.insert_one({**(first or {}), "n": 1, "data": b"surplus"})
    await bucket.store.files.update_one({"_id": ids[3]}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    await bucket.store.files.update_one({"_id": ids[4]}, {"$set": {"length": 3}})
    wanted: list[object] = [ids[0], ids[1], ids[2], ids[3], ids[4], "missing", ids[5]]
    found = await all_at_once([bucket.read(id) for id in wanted])
    assert found[0] == CONTENTS[0]
    assert found[6] == CONTENTS[5]
    assert [type(each) for each in found[1:6]] == [CorruptFile, CorruptFile, FileMissing, CorruptFile, FileMissing]


async def test_each_read_asks_for_itself_if_the_shared_query_fails(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, ids, traffic = small

    async def failing(store: Store, ids: list[Any], session: object = None) -> list[Record]:
        raise AutoReconnect("the connection was cut")

    monkeypatch.setattr(Store, "find_records", failing)
    assert await all_at_once([bucket.read(id) for id in ids[:6]]) == CONTENTS[:6]
    assert names(traffic).count("aggregate") == 6
    monkeypatch.undo()
    traffic.clear()
    assert await all_at_once([bucket.read(id) for id in ids[:6]]) == CONTENTS[:6]
    assert names(traffic) == ["find"] * 2


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event, list[str]]:
    """Hold the shared queries for records. Return the events of their start and of their end, and what happened."""
    find, asked, go = Store.find_records, asyncio.Event(), asyncio.Event()
    happened: list[str] = []

    async def slow(store: Store, *args: Any) -> list[Record]:
        asked.set()
        try:
            await go.wait()
        except asyncio.CancelledError:
            happened.append("cancelled")
            raise
        return await find(store, *args)

    monkeypatch.setattr(Store, "find_records", slow)
    return asked, go, happened


async def test_a_cancelled_read_leaves_the_others_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, ids, _ = small
    asked, go, happened = held(monkeypatch)
    reading = [asyncio.create_task(bucket.read(id)) for id in ids[:4]]
    await asyncio.wait_for(asked.wait(), 10)
    reading[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading[1]
    go.set()
    assert await asyncio.gather(reading[0], *reading[2:]) == [CONTENTS[0], *CONTENTS[2:4]]
    assert happened == []


async def test_a_query_that_all_readers_left_is_cancelled(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, ids, _ = small
    asked, _, happened = held(monkeypatch)
    with anyio.move_on_after(10) as scope:
        async with anyio.create_task_group() as readers:
            for id in ids[:4]:
                readers.start_soon(bucket.read, id)
            await asked.wait()
            readers.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert happened == ["cancelled"]
    monkeypatch.undo()
    assert await all_at_once([bucket.read(id) for id in ids[:4]]) == CONTENTS[:4]


@pytest.mark.parametrize("turns", range(6))
async def test_reads_cancelled_at_any_turn_block_no_later_ones(small: Small, turns: int) -> None:
    bucket, ids, _ = small
    for together in (1, 3):
        for _ in range(10):  # more than run at once
            reading = [asyncio.create_task(bucket.read(id)) for id in ids[:together]]
            for _ in range(turns):
                await asyncio.sleep(0)
            for each in reading:
                each.cancel()
            await asyncio.wait(reading)
    assert SharedReads.of(bucket.store)._running == 0
    with anyio.fail_after(10):
        assert await all_at_once([bucket.read(id) for id in ids]) == CONTENTS


async def test_a_read_with_a_deadline_of_pymongo_asks_alone(small: Small) -> None:
    bucket, ids, traffic = small
    with pymongo.timeout(20):
        assert await all_at_once([bucket.read(id) for id in ids[:3]]) == CONTENTS[:3]
    assert names(traffic) == ["aggregate"] * 3
    assert all("maxTimeMS" in command for command in traffic.of("aggregate"))


async def test_reads_in_a_session_see_their_transaction(small: Small) -> None:
    bucket, ids, traffic = small
    async with bucket.store.client.start_session() as session, await session.start_transaction():
        info = await bucket.upload(b"not committed", session=session)
        assert await bucket.read(info.id, session=session) == b"not committed"
        with pytest.raises(FileMissing):
            await bucket.read(info.id)
        traffic.clear()
        await bucket.read(ids[0], session=session)
        assert names(traffic) == ["find", "find"]


async def test_files_of_several_chunks_are_read_whole(small: Small) -> None:
    bucket, ids, _ = small
    long = [(await bucket.upload(bytes([number]) * 3000, chunk_size=1000)).id for number in range(5)]
    found = await all_at_once([bucket.read(id) for id in [*long, *ids[:5]]])
    assert found == [bytes([number]) * 3000 for number in range(5)] + CONTENTS[:5]
    found = await all_at_once([bucket.read(id, 500, 2500) for id in long])
    assert found == [bytes([number]) * 2000 for number in range(5)]
    pieces = await all_at_once([bucket.file(id).open().read(5) for id in long])
    assert pieces == [bytes([number]) * 5 for number in range(5)]


async def test_reads_of_large_files_do_not_share(small: Small) -> None:
    bucket, ids, traffic = small
    large = [(await bucket.upload(bytes(600_000))).id for _ in range(12)]
    for id in large:
        await bucket.read(id)
    traffic.clear()
    await asyncio.gather(*(bucket.read(id) for id in large))
    assert names(traffic) == ["aggregate"] * 12
    for _ in range(40):
        await bucket.read(ids[0])
    traffic.clear()
    await asyncio.gather(*(bucket.read(id) for id in ids[:12]))
    assert names(traffic) == ["find"] * 2


ODD_IDS: list[object] = ["a", "", 7, Int64(2**40), True, 7.5, b"bytes", {"a": 1}, ("x" * 500), 8]


async def test_ids_of_every_kind_are_read_beside_each_other(database: Database) -> None:
    bucket = Bucket(database)
    record = {"length": 1, "chunkSize": 255 * 1024, "uploadDate": bucket.store.now()}
    await database["fs.files"].insert_many([{"_id": id, **record} for id in ODD_IDS])
    contents = [bytes([number]) for number in range(len(ODD_IDS))]
    chunks = zip(ODD_IDS, contents, strict=True)
    await database["fs.chunks"].insert_many([{"files_id": id, "n": 0, "data": content} for id, content in chunks])
    assert await all_at_once([bucket.read(id) for id in ODD_IDS]) == contents
    assert await all_at_once([bucket.read(8.0), bucket.read(Decimal128("8")), bucket.read(8)]) == [contents[-1]] * 3


async def test_a_server_without_lookup_is_asked_by_two_commands(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, ids, traffic = small

    async def refused(*_: object) -> Any:
        raise OperationFailure("Unrecognized pipeline stage name: '$lookup'", 40324)

    monkeypatch.setattr(Store, "find_head", refused)
    assert await bucket.read(ids[0]) == CONTENTS[0]
    monkeypatch.undo()
    assert await bucket.read(ids[1]) == CONTENTS[1]
    assert names(traffic) == ["find"] * 4
    assert "$lookup" in bucket.capabilities.missing


async def test_a_client_in_a_second_loop_raises_and_does_not_wait(small: Small) -> None:
    bucket, ids, _ = small
    await asyncio.gather(*(bucket.read(id) for id in ids))

    def elsewhere() -> None:
        asyncio.run(asyncio.wait_for(bucket.read(ids[0]), 10))

    with pytest.raises(RuntimeError, match="loop"):
        await asyncio.to_thread(elsewhere)


async def test_shared_reads_keep_no_client_alive(mongodb_uri: str, database: Database) -> None:
    info = await Bucket(database).upload(b"a")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri)
    bucket = Bucket(client[database.name])
    await asyncio.gather(*(bucket.read(info.id) for _ in range(3)))
    await client.close()
    dropped = weakref.ref(client)
    del client, bucket
    for _ in range(5):
        await asyncio.sleep(0)
        gc.collect()
    assert dropped() is None


async def test_only_a_thousand_buckets_are_remembered(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_requests, "BUCKETS", 3)
    for name in "abcdef":
        bucket = Bucket(database, name)
        info = await bucket.upload(name.encode())
        assert await all_at_once([bucket.read(info.id), bucket.read(info.id)]) == [name.encode()] * 2
    of_client = head._shared._of_client.get(database.client)
    assert of_client is not None
    assert {key[1] for key in of_client} == {"d", "e", "f"}


async def test_a_file_object_learns_its_record_from_a_shared_read(small: Small) -> None:
    bucket, ids, _ = small
    files = [bucket.file(id) for id in ids]
    await asyncio.gather(*(file.read() for file in files))
    assert [file.length for file in files] == [len(content) for content in CONTENTS]
