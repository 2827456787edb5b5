"""The garbage collector beside an open transaction: the file is kept, or the transaction fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

import gridproxy
from gridproxy import Bucket, FileMissing
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.operations.update import touch_record
from gridproxy.gridfs.records.file_info import REFERENCED_AT, FileInfo
from gridproxy.upkeep import document_paths

from .trial import collected
from .whole import Database, stored_files

ANIMALS = [("animals", "photo")]


@pytest.fixture
async def old(bucket: Bucket) -> FileInfo:
    """Return a file that no document points to. For the collector of the tests it is a day old."""
    await bucket.database["animals"].insert_one({"photo": None})
    return await bucket.upload(b"an old file")


async def save(database: Database, bucket: Bucket, id: object, session: Any = None) -> None:
    """Do what a document does that begins to point to an existing file."""
    await touch_record(bucket.store, id, session)
    await database["animals"].insert_one({"photo": id}, session=session)


async def test_the_collector_waits_for_a_transaction_that_refers_to_an_old_file(
    bucket: Bucket, database: Database, old: FileInfo
) -> None:
    async with gridproxy.transaction(database.client) as tx:
        await save(database, bucket, old.id, tx.session)
        collecting = asyncio.create_task(collected_later(bucket))
        await asyncio.sleep(0.2)
    await collecting
    assert await stored_files(database) == {old.id: b"an old file"}
    assert (await bucket.stat(old.id)).extra == {}


async def collected_later(bucket: Bucket) -> None:
    await collected(bucket, ANIMALS)


async def test_a_transaction_cannot_refer_to_a_file_that_the_collector_removes(
    bucket: Bucket, database: Database, old: FileInfo
) -> None:
    with pytest.raises(OperationFailure) as caught:
        async with gridproxy.transaction(database.client) as tx:
            assert await bucket.stat(old.id, session=tx.session) == old
            await collected(bucket, ANIMALS)
            await save(database, bucket, old.id, tx.session)
    assert caught.value.has_error_label("TransientTransactionError")
    with pytest.raises(FileMissing):
        await save(database, bucket, old.id)
    assert await stored_files(database) == {}


async def test_a_picture_and_its_variants_stay_for_a_document_that_is_saved_during_the_scan(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database["animals"].insert_one({"photo": None})
    id = ObjectId()
    variant = await bucket.upload(b"small", metadata={"variant_of": id})
    await bucket.upload(b"large", id=id, metadata={"thumbnail_id": variant.id})
    unreferenced = document_paths.unreferenced
    calls = 0

    async def saved_after_the_scan(*arguments: Any) -> Any:
        nonlocal calls
        found = await unreferenced(*arguments)
        calls += 1
        if calls == 1:
            assert list(found) == [id, variant.id]
            await save(database, bucket, id)
        return found

    monkeypatch.setattr("gridproxy.upkeep.collect_garbage.unreferenced", saved_after_the_scan)
    await collected(bucket, ANIMALS)
    assert await stored_files(database) == {id: b"large", variant.id: b"small"}


async def test_a_young_file_is_not_touched(bucket: Bucket) -> None:
    info = await bucket.upload(b"young")
    await touch_record(bucket.store, info.id, None, info)
    assert REFERENCED_AT not in (await bucket.store.find_record(info.id) or {})


# A transaction of the caller's


class Pet(Document):
    photo = FileField()


@pytest.mark.parametrize("saved_within", [False, True], ids=["put within", "put and saved within"])
@pytest.mark.parametrize("how", ["put", "new_file", "assigned"])
async def test_a_save_does_not_point_to_a_file_that_pymongos_own_transaction_rolled_back(
    database: Database, how: str, saved_within: bool
) -> None:
    with gridproxy.using(database):
        pet = await Pet().save()
        async with database.client.start_session() as session:
            await session.start_transaction()
            if how == "put":
                await pet.photo.put(b"roar", session=session)
            elif how == "new_file":
                async with pet.photo.new_file(session=session):
                    pet.photo.write(b"roar")
            else:
                pet.photo = b"roar"
            if saved_within or how == "assigned":
                await pet.save(session=session)
            await session.abort_transaction()
        with pytest.raises(FileMissing):
            await pet.save()
        assert not (await Pet.objects.get()).photo


async def test_a_save_after_the_commit_of_pymongos_own_transaction_succeeds(database: Database) -> None:
    with gridproxy.using(database):
        pet = Pet()
        async with database.client.start_session() as session:
            await session.start_transaction()
            await pet.photo.put(b"roar", session=session)
            await pet.save(session=session)
            await session.commit_transaction()
        assert pet.photo.state.outcome_unknown
        await pet.save()
        assert not pet.photo.state.outcome_unknown
        assert await (await Pet.objects.get()).photo.read() == b"roar"
