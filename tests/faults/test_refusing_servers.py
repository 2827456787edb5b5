"""The same operations behind every profile of `refusing`: what a server lacks has a fallback, or is refused clearly."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandSucceededEvent

import gridproxy
from gridproxy import Bucket, CorruptFile, FileAlreadyStored, FileMissing, TransactionsUnsupported
from gridproxy.runtime.capabilities import Feature
from gridproxy.upkeep import bucket_scanner

from ..observing import Commands, Database, contents
from .refusing import PROFILES, Profile, open_profile
from .whole import stored_files

CHUNK = 1024
SMALL = b"one request" * 150  # a chunk and a half
LARGE = bytes(range(256)) * 44  # eleven chunks: six batches
PAGE = 20  # documents that `check` and `collect_garbage` ask for at once in these tests, in place of 1,000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OLD = timedelta(hours=1)


class Done(Commands):
    """Every command that a client sends, and those that succeeded."""

    def __init__(self) -> None:
        super().__init__()
        self.succeeded_commands: list[dict[str, Any]] = []
        self._sent: dict[int, dict[str, Any]] = {}

    def started(self, event: Any) -> None:
        super().started(event)
        self._sent[event.request_id] = self.seen[-1][1]

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.succeeded_commands.append(self._sent[event.request_id])

    def has(self, feature: Feature) -> bool:
        """Whether a command with this feature succeeded."""
        return any(_uses(command, feature) for command in self.succeeded_commands)


def _uses(command: dict[str, Any], feature: Feature) -> bool:
    match feature:
        case Feature.BULK_WRITE:
            return "bulkWrite" in command
        case Feature.SESSIONS:
            return "lsid" in command
        case Feature.TRANSACTIONS:
            return "commitTransaction" in command
        case _:
            return str(feature) in str(command.get("pipeline")) + str(command.get("projection"))


@pytest.fixture(scope="module", params=PROFILES, ids=[profile.name for profile in PROFILES])
async def shown(
    request: pytest.FixtureRequest, mongodb_uri: str
) -> AsyncIterator[tuple[Profile, AsyncMongoClient[dict[str, Any]], Done]]:
    done = Done()
    async with open_profile(mongodb_uri, request.param, done) as (client, _):
        yield request.param, client, done


@pytest.fixture
def profile(shown: tuple[Profile, AsyncMongoClient[dict[str, Any]], Done]) -> Profile:
    return shown[0]


@pytest.fixture
def commands(shown: tuple[Profile, AsyncMongoClient[dict[str, Any]], Done]) -> Done:
    return shown[2]


@pytest.fixture
def bucket(
    shown: tuple[Profile, AsyncMongoClient[dict[str, Any]], Done],
    database: Database,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Bucket:
    """Return a bucket behind the profile. `database` leads to the server itself."""
    monkeypatch.setattr(bucket_scanner, "_DOCUMENTS_PER_PAGE", PAGE)
    return Bucket(shown[1][database.name], chunk_size=CHUNK)


async def transact(bucket: Bucket) -> None:
    async with gridproxy.transaction(bucket.database.client) as tx:
        await bucket.upload(SMALL, session=tx.session)


async def findings(bucket: Bucket, **options: Any) -> set[tuple[str, object]]:
    return {(finding.kind, finding.id) async for finding in bucket.check(**options)}


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("id", [None, "mine"], ids=["new id", "given id"])
async def test_a_file_is_stored_read_and_deleted(bucket: Bucket, database: Database, data: bytes, id: Any) -> None:
    info = await bucket.upload(data, id=id, filename="one.txt", metadata={"owner": 7})
    assert await stored_files(database) == {info.id: data}
    assert await bucket.read(info.id) == data
    assert await bucket.read(info.id, 5, 1500) == data[5:1500]
    assert (await bucket.by_name("one.txt")).id == info.id
    await bucket.verify(info.id)
    with pytest.raises(FileAlreadyStored):
        await bucket.upload(b"another", id=info.id)
    assert await stored_files(database) == {info.id: data}
    await bucket.delete(info.id)
    with pytest.raises(FileMissing):
        await bucket.delete(info.id)
    assert await contents(database) == (0, 0)


async def test_many_files_are_stored_read_and_deleted(bucket: Bucket, database: Database) -> None:
    infos = await bucket.upload_many([b"%d" % n for n in range(60)] + [LARGE, b""])
    assert len(await stored_files(database)) == 62
    assert list((await bucket.read_many([info.id for info in infos])).values())[58:] == [b"58", b"59", LARGE, b""]
    assert await bucket.delete_many([info.id for info in infos]) == 62
    assert await contents(database) == (0, 0)


async def test_one_bad_source_takes_all_of_upload_many_back(bucket: Bucket, database: Database) -> None:
    sources: list[Any] = [b"a", b"b", LARGE * 10, b"c", 17]
    with pytest.raises(gridproxy.BadSource):
        await bucket.upload_many(sources)
    assert await contents(database) == (0, 0)


async def test_staged_chunks_become_a_file_or_go(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(LARGE)
    await bucket.publish(staged)
    assert await stored_files(database) == {staged.id: LARGE}
    with pytest.raises(FileAlreadyStored):
        await bucket.discard(staged.id)
    await bucket.discard(other := await bucket.stage(SMALL))
    await database["fs.chunks"].insert_one({"files_id": "lost", "n": 0, "data": b"x"})
    with pytest.raises(gridproxy.UploadInProgress):
        await bucket.upload(SMALL, id="lost")
    await bucket.discard("lost")
    await bucket.upload(SMALL, id="lost")
    assert await stored_files(database) == {staged.id: LARGE, "lost": SMALL}
    assert other.discarded


@pytest.mark.parametrize("new_id", [None, "twin"], ids=["new id", "given id"])
async def test_a_file_is_copied(bucket: Bucket, database: Database, new_id: Any) -> None:
    info = await bucket.upload(LARGE, filename="one", metadata={"owner": 7})
    twin = await bucket.copy(info.id, new_id=new_id)
    assert (twin.filename, twin.metadata["owner"], twin.sha256) == ("one", 7, info.sha256)
    assert await stored_files(database) == {info.id: LARGE, twin.id: LARGE}
    with pytest.raises(FileAlreadyStored):
        await bucket.copy(info.id, new_id=twin.id)
    await database["fs.chunks"].delete_one({"files_id": info.id, "n": 3})
    with pytest.raises(CorruptFile, match="instead of 11264 in 11"):
        await bucket.copy(info.id, new_id="third")
    await bucket.delete(info.id)
    assert await stored_files(database) == {twin.id: LARGE}


async def test_a_record_is_edited(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(SMALL, filename="one", metadata={"owner": 7, "place": "Alps"})
    edited = await bucket.update_metadata(info.id, {"owner": "$owner", "more": {"a": [1]}}, unset=["place", "none"])
    assert edited.metadata == {"sha256": info.sha256, "owner": "$owner", "more": {"a": [1]}}
    assert (await bucket.rename(info.id, "two")).filename == "two"
    assert await bucket.rename_by_name("two", "three") == 1
    for stored in ({"$set": {"metadata": None}}, {"$unset": {"metadata": ""}}):
        await database["fs.files"].update_one({"_id": info.id}, stored)
        assert (await bucket.update_metadata(info.id, owner=8, unset=["place"])).metadata == {"owner": 8}
    with pytest.raises(FileMissing):
        await bucket.update_metadata("nothing", owner=9)


async def test_every_damage_is_found(bucket: Bucket, database: Database) -> None:
    chunks = database["fs.chunks"]
    whole, missing, short, surplus, text = [(await bucket.upload(LARGE)).id for _ in range(5)]
    await chunks.delete_one({"files_id": missing, "n": 4})
    await chunks.update_one({"files_id": short, "n": 5}, {"$set": {"data": b"short"}})
    await chunks.insert_one({"files_id": surplus, "n": 11, "data": b"more"})
    await chunks.update_one({"files_id": text, "n": 0}, {"$set": {"data": "text"}})
    await chunks.insert_many([{"files_id": "lost", "n": n, "data": b"12"} for n in range(2)])
    assert await findings(bucket) == {
        ("missing", missing),
        ("short", short),
        ("surplus", surplus),
        ("unreadable", text),
        ("orphan", "lost"),
    }
    [orphan] = [finding async for finding in bucket.check() if finding.kind == "orphan"]
    assert (orphan.chunks, orphan.bytes) == (2, 4)
    await bucket.verify(whole)


async def test_more_files_and_documents_than_a_page_are_checked_and_collected(
    bucket: Bucket, database: Database
) -> None:
    # Ids of several types, because servers compare only ids of the same type.
    ids = [*range(PAGE + 5), *(f"{n:04}" for n in range(PAGE + 5)), *(ObjectId() for _ in range(5)), True, 0.5, -7.5]
    record = {"length": 0, "chunkSize": CHUNK, "uploadDate": LONG_AGO}
    await database["fs.files"].insert_many([{"_id": id, **record} for id in ids])
    documents = [{"photo": id} for id in ids[:-1]]
    await database["animals"].insert_many([*documents, {"photo": "gone"}])
    references = [("animals", "photo")]
    assert await findings(bucket, references=references) == {("unreferenced", ids[-1]), ("dangling", "gone")}
    report = await bucket.collect_garbage(OLD, dry_run=False, unreferenced=True, references=references)
    assert report.unreferenced.ids == 1
    assert await database["fs.files"].count_documents({}) == len(ids) - 1


async def test_garbage_is_collected(bucket: Bucket, database: Database) -> None:
    kept = await bucket.upload(LARGE)
    expired = await bucket.upload(SMALL, expires_after=0.001)
    old = [
        {"_id": ObjectId.from_datetime(LONG_AGO + timedelta(seconds=n)), "files_id": "lost", "n": n, "data": b"1234"}
        for n in range(PAGE + 5)
    ]
    await database["fs.chunks"].insert_many(old)
    await database["fs.chunks"].insert_one({"files_id": "young", "n": 0, "data": b"x"})
    await database["fs.chunks"].insert_one({"_id": "no time", "files_id": "odd", "n": 0, "data": b"x"})
    report = await bucket.collect_garbage(OLD)
    assert (report.orphans.chunks, report.orphans.bytes, report.expired.ids) == (PAGE + 5, 4 * (PAGE + 5), 1)
    report = await bucket.collect_garbage(OLD, dry_run=False)
    assert (report.orphans.chunks, report.orphans.bytes, report.expired.ids) == (PAGE + 5, 4 * (PAGE + 5), 1)
    assert (report.young.ids, report.unknown_age.ids) == (1, 1)
    assert {each["files_id"] async for each in database["fs.chunks"].find()} == {kept.id, "young", "odd"}
    assert not await bucket.stat_many([expired.id])


async def test_a_transaction_is_committed_or_refused_before_it_begins(
    bucket: Bucket, database: Database, profile: Profile
) -> None:
    if Feature.TRANSACTIONS not in profile.missing:
        await transact(bucket)
        assert list((await stored_files(database)).values()) == [SMALL]
        return
    for _ in range(2):
        with pytest.raises(TransactionsUnsupported):
            await transact(bucket)
    assert await contents(database) == (0, 0)


async def test_more_than_a_thousand_documents_are_checked_on_a_server_that_ignores_min(
    mongodb_uri: str, database: Database
) -> None:
    [ferret] = [profile for profile in PROFILES if "find.min" in profile.ignored]
    ids = [ObjectId() for _ in range(1010)]
    record = {"length": 0, "chunkSize": CHUNK, "uploadDate": LONG_AGO}
    await database["fs.files"].insert_many([{"_id": id, **record} for id in ids])
    await database["animals"].insert_many([{"photo": id} for id in ids[1:]])
    async with open_profile(mongodb_uri, ferret) as (client, _):
        bucket = Bucket(client[database.name])
        assert await findings(bucket, references=[("animals", "photo")]) == {("unreferenced", ids[0])}


async def use_everything(bucket: Bucket) -> None:
    """Let the client learn what the server does not have."""
    info = await bucket.upload(SMALL)
    assert await bucket.read(info.id) == SMALL
    await bucket.copy(info.id)
    assert await findings(bucket) == set()
    with suppress(TransactionsUnsupported):
        await transact(bucket)


async def test_each_fallback_is_chosen_once_logged_once_and_shown(
    mongodb_uri: str, database: Database, profile: Profile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gridproxy")
    done = Done()
    async with open_profile(mongodb_uri, profile, done) as (client, _):
        bucket = Bucket(client[database.name], chunk_size=CHUNK)
        await use_everything(bucket)
        done.clear()
        await use_everything(bucket)
        assert set(bucket.capabilities.missing) == profile.missing
        assert Bucket(client["another"]).capabilities is bucket.capabilities
        for feature in Feature:
            assert (f"{feature}: native" in repr(bucket.capabilities)) is (feature not in profile.missing)
    logged = [vars(record)["gridfs_feature"] for record in caplog.records if "gridfs_feature" in vars(record)]
    assert sorted(logged) == sorted(profile.missing)
    # After the first refusal the client does not ask again.
    assert [name for name, sent in done.seen if any(_uses(sent, feature) for feature in profile.missing)] == []


async def test_the_page_on_servers_says_what_happened_behind_each_profile(mongodb_uri: str, database: Database) -> None:
    rows = ["| server or client | " + " | ".join(f"{feature}" for feature in Feature) + " |"]
    rows.append("|---" * (len(Feature) + 1) + "|")
    async with AsyncExitStack() as stack:
        for profile in PROFILES:
            done = Done()
            client, _ = await stack.enter_async_context(open_profile(mongodb_uri, profile, done))
            await use_everything(Bucket(client[database.name], chunk_size=CHUNK))
            cells = ["native" if done.has(feature) else "fallback" for feature in Feature]
            if not done.has(Feature.TRANSACTIONS):
                cells[-1] = "refused"
            rows.append(f"| {profile.name} | {' | '.join(cells)} |")
    page = (Path(__file__).parents[2] / "docs" / "servers.md").read_text(encoding="utf-8")
    table = re.search(r"^\| server or client \|.*?(?=\n\n)", page, re.DOTALL | re.MULTILINE)
    assert table is not None
    assert table.group() == "\n".join(rows), "\n" + "\n".join(rows)
