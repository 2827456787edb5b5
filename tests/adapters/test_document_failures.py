"""Saves that race, fail, or whose answer is lost: nothing is lost, and they can be repeated."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

import gridproxy
from gridproxy import AsyncGridFile, DocumentMissing, StaleDocument
from gridproxy.adapters.document.schema import Schema
from gridproxy.gridfs.store.collections import Store

from ..faults.failing import FailingServer, failing_server
from ..observing import Commands, Database, answer_lost, contents, orphans
from .zoo import Animal, found, stored

pytestmark = pytest.mark.usefixtures("connected")


# Two writers


async def test_the_second_of_two_writers_is_stale_and_both_files_are_whole(database: Database) -> None:
    one = await stored(photo=b"the old", genus="Marmota")
    two = await found()
    one.photo = b"of the first"
    two.photo = b"of the second"
    two.genus = "Pika"
    await one.save()
    for _ in range(2):
        with pytest.raises(StaleDocument, match="photo") as caught:
            await two.save()
        assert caught.value.field == "photo"
    assert (await found()).genus == "Marmota"
    assert await (await found()).photo.read() == b"of the first"
    assert two.photo.state.content == b"of the second"  # given back: the refused save stored nothing
    assert await contents(database) == (1, 1)
    await two.reload()
    assert await two.photo.read() == b"of the first"
    two.photo = b"of the second, again"
    await two.save()
    assert await (await found()).photo.read() == b"of the second, again"
    assert await orphans(database) == []


async def test_two_writers_of_one_list_of_files_do_not_both_win(database: Database) -> None:
    one = await stored(album=[b"first"])
    two = await found()
    one.album.append(b"second")
    two.album.append(b"another second")
    await one.save()
    with pytest.raises(StaleDocument, match="album"):
        await two.save()
    assert [await each.read() for each in (await found()).album] == [b"first", b"second"]
    assert two.album[1].state.content == b"another second"  # given back: the refused save stored nothing
    assert await contents(database) == (2, 2)


async def test_a_writer_of_another_field_is_not_stale() -> None:
    one = await stored(photo=b"the old", genus="Marmota")
    two = await found()
    one.photo = b"the new"
    await one.save()
    two.genus = "Pika"
    await two.save()
    assert (await found()).genus == "Pika"
    assert await (await found()).photo.read() == b"the new"


async def test_a_field_that_another_client_emptied_is_stale() -> None:
    one = await stored(photo=b"the old")
    two = await found()
    one.photo = None
    await one.save()
    await two.photo.replace(b"the new")
    with pytest.raises(StaleDocument):
        await two.save()


async def test_of_two_writers_at_once_one_wins_every_time_and_no_file_is_lost() -> None:
    for _ in range(50):
        one = await stored(photo=b"the old")
        two = await Animal.objects(id=one.id).get()
        await asyncio.gather(one.photo.replace(b"one"), two.photo.replace(b"two"))
        results = await asyncio.gather(one.save(), two.save(), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Animal", "StaleDocument"]
        won = b"one" if results[0] is one else b"two"
        assert await (await Animal.objects(id=one.id).get()).photo.read() == won
        assert [await one.photo.read(), await two.photo.read()] == [b"one", b"two"]


async def test_a_document_deleted_by_another_client_is_missing_and_both_files_are_whole() -> None:
    animal = await stored(photo=b"the old")
    old = animal.photo.id
    await animal.photo.replace(b"the new")
    await Animal.objects.delete()
    with pytest.raises(DocumentMissing):
        await animal.save()
    assert await animal.photo.read() == b"the new"
    assert await AsyncGridFile(old).exists()


# Saves that fail


@pytest.fixture
async def server(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], database: Database, connected: None
) -> AsyncIterator[FailingServer]:
    """Connect documents to a client that fails on request. `client` never fails."""
    async with failing_server(mongodb_uri, client, Commands(), retryWrites=False) as server:
        gridproxy.connect(server.client[database.name])
        yield server


async def test_a_save_that_could_not_reach_the_server_keeps_the_old_and_can_be_repeated(
    database: Database, server: FailingServer
) -> None:
    animal = await stored(photo=b"the old")
    animal.photo = b"the new"
    await server.fail("update", times=1, closeConnection=True)
    with pytest.raises(AutoReconnect):
        await animal.save()
    assert await (await found()).photo.read() == b"the old"
    assert await animal.photo.read() == b"the new"
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_an_insert_that_could_not_reach_the_server_can_be_repeated(
    database: Database, server: FailingServer
) -> None:
    animal = Animal(genus="Marmota")
    await server.fail("insert", times=1, closeConnection=True)
    with pytest.raises(AutoReconnect):
        await animal.save()
    assert await Animal.objects.count() == 0
    await animal.save()
    assert await found() == animal


async def test_an_update_whose_answer_was_lost_is_neither_stale_nor_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await stored(photo=b"the old", album=[b"first"])
    animal.photo = b"the new"
    animal.album.append(b"second")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await animal.save()
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (3, 3)


async def test_another_replace_after_a_lost_answer_is_not_stale(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await stored(photo=b"first", genus="Marmota")
    for data in (b"second", b"third"):
        await animal.photo.replace(data)
        with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
            await animal.save()
    animal = copy.copy(animal)
    animal.genus = "Pika"
    await animal.photo.replace(b"fourth")
    await animal.save()
    assert (await found()).genus == "Pika"
    assert await (await found()).photo.read() == b"fourth"
    assert await orphans(database) == []


async def test_a_second_file_field_changed_after_a_lost_answer_is_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    animal = await stored(photo=b"the old", album=[b"first"])
    await animal.photo.replace(b"the new")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await animal.save()
    animal.album.append(b"second")
    await animal.save()
    assert [await each.read() for each in (await found()).album] == [b"first", b"second"]


async def test_a_value_restored_after_a_lost_answer_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    animal = await stored(photo=b"the old", genus="Marmota")
    await animal.photo.replace(b"the new")
    animal.genus = "Pika"
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await animal.save()
    assert (await found()).genus == "Pika"
    await animal.photo.revert()
    animal.genus = "Marmota"
    await animal.save()
    assert (await found()).genus == "Marmota"
    assert await (await found()).photo.read() == b"the old"
    await animal.save()


async def test_a_change_by_another_client_after_a_lost_answer_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await animal.save()
    other = await found()
    assert await other.photo.read() == b"the new"
    other.photo = None
    await other.save()
    with pytest.raises(StaleDocument):
        await animal.save()
    assert not (await found()).photo


async def test_an_insert_whose_answer_was_lost_is_repeated_as_an_update(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = Animal(genus="Marmota", photo=b"first")
    with answer_lost(monkeypatch, "insert_one"), pytest.raises(AutoReconnect):
        await animal.save()
    assert await Animal.objects.count() == 1
    await animal.photo.replace(b"second")
    animal.genus = "Pika"
    await animal.save()
    assert (await found()).genus == "Pika"
    assert await (await found()).photo.read() == b"second"
    assert await contents(database) == (1, 1)


async def test_an_insert_that_succeeds_only_on_its_retry_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    animal = Animal(genus="Marmota")
    with answer_lost(monkeypatch, "insert_one"), pytest.raises(AutoReconnect):
        await animal.save()
    find, not_yet = Schema.find, [None]

    async def found_later(self: Schema, id: object, session: Any) -> Any:
        return not_yet.pop() if not_yet else await find(self, id, session)

    monkeypatch.setattr(Schema, "find", found_later)
    animal.genus = "Pika"
    await animal.save()
    assert (await found()).genus == "Pika"


async def test_after_a_lost_answer_the_document_of_another_client_is_not_overwritten(
    database: Database, server: FailingServer
) -> None:
    await database["animal"].insert_one({"_id": "marmot", "genus": "Somebody's"})
    animal = Animal(id="marmot", genus="Mine", photo=b"mine")
    await server.fail("insert", times=1, closeConnection=True)
    with pytest.raises(AutoReconnect):
        await animal.save()
    for _ in range(2):
        with pytest.raises(DuplicateKeyError):
            await animal.save()
    assert await database["animal"].find_one({}) == {"_id": "marmot", "genus": "Somebody's"}


async def test_a_duplicate_key_is_raised_after_a_lost_answer(database: Database, server: FailingServer) -> None:
    await database["animal"].create_index("genus", unique=True)
    await database["animal"].insert_one({"genus": "Marmota"})
    animal = Animal(genus="Marmota")
    await server.fail("insert", times=1, closeConnection=True)
    with pytest.raises(AutoReconnect):
        await animal.save()
    with pytest.raises(DuplicateKeyError):
        await animal.save()
    animal.genus = "Pika"
    await animal.save()
    assert await Animal.objects.count() == 2


async def test_after_a_lost_answer_revert_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await animal.save()
    await animal.photo.revert()
    assert await animal.photo.read() == b"the old"
    assert await (await found()).photo.read() == b"the new"


async def test_a_server_that_refuses_the_document_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise OperationFailure("Document failed validation", 121)

    animal = await stored(photo=b"the old")
    animal.photo = b"the new"
    with monkeypatch.context() as patched:
        patched.setattr(type(database["animal"]), "update_one", refused)
        with pytest.raises(OperationFailure):
            await animal.save()
    assert await (await found()).photo.read() == b"the old"
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_a_failed_removal_is_raised_and_repeated_by_the_next_save(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise AutoReconnect("no primary")

    animal = await stored(photo=b"first")
    await animal.photo.replace(b"second")
    await animal.photo.replace(b"third")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete_record", refused)
        with pytest.raises(AutoReconnect):
            await animal.save()
    assert await (await found()).photo.read() == b"third"
    assert (await contents(database))[0] == 3
    await animal.save()
    assert await contents(database) == (1, 1)


async def test_a_revert_with_a_failed_removal_restores_the_file_and_the_next_save_removes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise AutoReconnect("no primary")

    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete_record", refused)
        with pytest.raises(AutoReconnect):
            await animal.photo.revert()
    assert await animal.photo.read() == b"the old"
    await animal.save()
    assert await (await found()).photo.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_of_two_contents_the_one_that_fails_keeps_the_document_as_it_was(database: Database) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk is gone")

    animal = await stored(photo=b"the old", album=[b"first"])
    animal.photo = b"the new"
    animal.album.append(broken())
    with pytest.raises(OSError, match="the disk is gone"):
        await animal.save()
    assert await (await found()).photo.read() == b"the old"
    assert len((await found()).album) == 1
    animal.album.pop()
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (2, 2)


async def test_an_update_with_a_duplicate_key_has_a_known_outcome(database: Database) -> None:
    await database["animal"].create_index("genus", unique=True)
    await stored(genus="Marmota")
    animal = await stored(genus="Pika", photo=b"the old")
    animal.genus = "Marmota"
    await animal.photo.replace(b"the new")
    with pytest.raises(DuplicateKeyError):
        await animal.save()
    await animal.photo.revert()
    animal.genus = "Pika"
    await animal.save()
    assert await animal.photo.read() == b"the old"
    assert await contents(database) == (1, 1)
