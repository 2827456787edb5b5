"""Documents in a transaction of the caller's own: what may still be taken back is not taken for granted."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile

from ..observing import Database
from .zoo import Animal, Deleting, found, stored

pytestmark = pytest.mark.usefixtures("connected")


async def test_in_a_foreign_transaction_the_old_file_is_kept(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    animal = await stored(photo=b"the old")
    old = animal.photo.id
    async with client.start_session() as session, await session.start_transaction():
        await animal.photo.replace(b"the new", session=session)
        await animal.save(session=session)
        assert await (await found()).photo.read() == b"the old"
    assert await (await found()).photo.read() == b"the new"
    assert await AsyncGridFile(old).read() == b"the old"


async def test_a_transaction_that_is_aborted_can_be_run_again(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    await database.create_collection("animal")
    animal, new = await stored(id="old", photo=b"the old", genus="Marmota"), Animal()
    async with client.start_session() as session:

        async def callback() -> None:
            animal.genus = "Pika"
            await animal.photo.replace(b"the new", session=session)
            await animal.save(session=session)
            animal.album = [None]
            await animal.save(session=session)
            new.genus = "New"
            await new.save(session=session)
            new.genus = "Newer"
            await new.save(session=session)

        with pytest.raises(OSError, match="aborted"):
            async with await session.start_transaction():
                await callback()
                raise OSError("aborted")
        assert (await found()).genus == "Marmota"
        assert await (await found()).photo.read() == b"the old"
        async with await session.start_transaction():
            await callback()
    for _ in range(2):
        assert await Animal.objects.count() == 2
        as_stored = await Animal.objects(id="old").get()
        assert (as_stored.genus, len(as_stored.album)) == ("Pika", 1)
        assert await as_stored.photo.read() == b"the new"
        assert (await Animal.objects(id=new.id).get()).genus == "Newer"
        await animal.save()
        await new.save()


async def test_a_new_document_changed_by_another_client_after_its_transaction_is_still_ours(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    await database.create_collection("animal")
    animal = Animal(genus="Marmota")
    async with client.start_session() as session, await session.start_transaction():
        await animal.save(session=session)
    await database["animal"].update_one({}, {"$set": {"somebody": "else's"}})
    animal.genus = "Pika"
    await animal.save()
    raw = await database["animal"].find_one({})
    assert raw is not None
    assert (raw["genus"], raw["somebody"]) == ("Pika", "else's")


async def test_in_a_bound_session_the_old_file_is_kept(client: AsyncMongoClient[dict[str, Any]]) -> None:
    animal = await stored(photo=b"the old")
    old = animal.photo.id
    async with client.start_session() as session:
        if not hasattr(session, "bind"):
            pytest.skip("this pymongo has no bind()")
        async with session.bind(end_session=False):
            with pytest.raises(OSError, match="aborted"):
                async with await session.start_transaction():
                    animal.photo = b"the new"
                    await animal.save()
                    raise OSError("aborted")
    assert await (await found()).photo.read() == b"the old"
    assert await AsyncGridFile(old).read() == b"the old"


async def test_a_delete_in_an_aborted_transaction_loses_no_file(client: AsyncMongoClient[dict[str, Any]]) -> None:
    document = await Deleting(photo=b"the photo").save()
    async with client.start_session() as session:
        with pytest.raises(OSError, match="aborted"):
            async with await session.start_transaction():
                await document.delete(session=session)
                raise OSError("aborted")
    assert await (await Deleting.objects.get()).photo.read() == b"the photo"
