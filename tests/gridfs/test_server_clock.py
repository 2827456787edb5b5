"""Chunk ids, dates and expiry use the server's clock, however wrong the client's clock is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gridproxy import Bucket, FileMissing
from gridproxy.gridfs.records import file_info
from gridproxy.gridfs.store import collections, server_clock
from gridproxy.runtime import client_state

from ..observing import Database, contents
from ..traffic import watched

CHUNK = 100
HOUR = timedelta(hours=1)
SKEWS = [timedelta(hours=-2), timedelta(minutes=-10), timedelta(0), timedelta(minutes=10), timedelta(hours=2)]
EVERY_SKEW = pytest.mark.parametrize("skew", SKEWS, ids=lambda skew: f"{skew.total_seconds() / 60:+.0f} min")


def set_clock(monkeypatch: pytest.MonkeyPatch, skew: timedelta) -> None:
    """Let the client's clock differ from the server's, which is that of this machine."""
    clock: Callable[[], float] = lambda: time.time() + skew.total_seconds()  # noqa: E731
    for module in (file_info, collections, server_clock):
        monkeypatch.setattr(module, "local_time", clock)


def is_now(moment: datetime | None) -> bool:
    return moment is not None and abs(datetime.now(UTC) - moment) < timedelta(seconds=5)


@pytest.fixture
def skewed(bucket: Bucket, skew: timedelta, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a bucket of a client whose clock is wrong."""
    set_clock(monkeypatch, skew)
    return bucket


@EVERY_SKEW
@pytest.mark.parametrize("way", ["small", "large", "many", "copy", "staged", "transaction"])
async def test_dates_and_chunk_ids_are_the_servers(skewed: Bucket, small_batches: None, way: str) -> None:
    if way == "many":
        (info,) = await skewed.upload_many([b"many"])
    elif way == "copy":
        original = await skewed.upload(bytes(1000))
        await skewed.store.chunks.delete_many({"files_id": {"$ne": original.id}})
        info = await skewed.copy(original.id)
    elif way == "staged":
        info = await skewed.publish(await skewed.stage(bytes(1000)))
    elif way == "transaction":
        async with skewed.database.client.start_session() as session, await session.start_transaction():
            info = await skewed.upload(bytes(1000), session=session)
    else:
        async with skewed.open_upload() as upload:
            await upload.write(bytes(10 if way == "small" else 1000))
        info = await skewed.stat(upload.id)
    assert is_now(info.upload_date)
    ids = [chunk["_id"] async for chunk in skewed.store.chunks.find({}, {"_id": 1})]
    assert len(ids) == len(set(ids))
    assert all(is_now(id.generation_time) for id in ids)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system cannot change the time zone of a process")
@pytest.mark.parametrize("zone", ["XXX6", "XXX-9"])
async def test_the_time_zone_of_the_machine_does_not_matter(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        info = await bucket.upload(b"a marmot")
    time.tzset()
    assert is_now(info.upload_date)


@EVERY_SKEW
async def test_a_running_upload_and_a_new_file_are_too_young_for_the_collector(
    skewed: Bucket, database: Database
) -> None:
    await database["animals"].insert_one({"photo": None})
    running = await skewed.stage(bytes(1000))
    info = await skewed.upload(b"a second ago")
    report = await skewed.collect_garbage(HOUR, False, unreferenced=True, references=[("animals", "photo")])
    assert (report.removed.ids, report.young.ids) == (0, 1)
    findings = [finding async for finding in skewed.check(references=[("animals", "photo")], older_than=HOUR)]
    assert findings == []
    await skewed.publish(running)
    await skewed.verify(info.id)
    assert [finding async for finding in skewed.check()] == []


@EVERY_SKEW
async def test_a_file_expires_by_the_servers_clock(skewed: Bucket, database: Database) -> None:
    there = await skewed.upload(b"there", filename="name", expires_after=60)
    gone = await skewed.upload(b"gone", filename="name", expires_after=-60)
    absolute = await skewed.upload(b"there", expires_at=datetime.now(UTC) + timedelta(minutes=1))
    assert there.expires_at is not None
    assert is_now(there.expires_at - timedelta(minutes=1))
    # Another client, which has not asked for the server's time yet.
    client_state._states.set(database.client, client_state.ClientState(database.client))
    assert await skewed.read(there.id) == await skewed.read(absolute.id) == b"there"
    with pytest.raises(FileMissing):
        await skewed.stat(gone.id)
    assert list(await skewed.stat_many([there.id, gone.id])) == [there.id]
    client_state._states.set(database.client, client_state.ClientState(database.client))
    assert (await skewed.by_name("name")).id == there.id
    await skewed.collect_garbage(HOUR, False)
    assert await contents(database) == (2, 2)


@pytest.mark.parametrize(
    ("first", "second"), [*zip(SKEWS, reversed(SKEWS), strict=True), (SKEWS[4], SKEWS[4])], ids=str
)
async def test_the_newest_revision_is_the_one_that_was_stored_last(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, first: timedelta, second: timedelta
) -> None:
    client = bucket.database.client
    infos = []
    for skew in (first, second):
        set_clock(monkeypatch, skew)
        client_state._states.set(client, client_state.ClientState(client))
        store = Bucket(bucket.database)
        infos.append(await store.upload(b"x", filename="name"))
        time.sleep(0.5)  # more than the measurement is wrong by, on a machine that is busy
    assert (await bucket.by_name("name")).id == infos[1].id
    assert (await bucket.by_name("name", 0)).id == infos[0].id


async def test_the_clock_is_measured_once_and_again_after_it_was_set(
    database: Database, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(mongodb_uri, database.name) as (same, traffic):
        for name in ("fs", "fs", "other"):
            await Bucket(same, name).upload(b"x", filename="x")
            await Bucket(same, name).by_name("x")
        assert len(traffic.of("hello")) == 1
        set_clock(monkeypatch, timedelta(hours=1))
        info = await Bucket(same).upload(b"x")
        assert is_now(info.upload_date)
        assert len(traffic.of("hello")) == 2


async def test_a_server_that_does_not_tell_its_time_has_that_of_the_client(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> dict[str, Any]:
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket.database), "command", refuse)
        await bucket.ensure_indexes()
    set_clock(monkeypatch, timedelta(seconds=-20))
    info = await bucket.upload(b"x")
    assert info.upload_date is not None
    assert datetime.now(UTC) - info.upload_date > timedelta(seconds=15)
