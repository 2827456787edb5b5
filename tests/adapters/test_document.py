"""The built-in Document: where it lives, what a save writes, reload and delete."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError

import gridproxy
from gridproxy import DocumentMissing, NotConnected, ValidationError
from gridproxy.adapters.document import Document, FileField, IntField, StringField

from ..observing import Database
from .plain_zoo import Animal, Keeper
from .zoo import updates_of, watched


class HTTPRequestLog(Document):
    path = StringField()


class Archived(Document, db_alias="archive"):
    name = StringField()
    photo = FileField()


pytestmark = pytest.mark.usefixtures("connected")


# Where documents live


@pytest.mark.parametrize(("document", "collection"), [(Animal, "animal"), (Keeper, "staff")])
async def test_a_collection_has_the_given_name_or_that_of_the_class(
    document: type[Document], collection: str, database: Database
) -> None:
    await document().save()
    assert await database.list_collection_names() == [collection]


async def test_a_class_name_becomes_snake_case_as_in_mongoengine(database: Database) -> None:
    await HTTPRequestLog(path="/").save()
    assert await database.list_collection_names() == ["h_t_t_p_request_log"]


async def test_a_subclass_has_a_collection_of_its_own(database: Database) -> None:
    class HeadKeeper(Keeper):
        keys = IntField()

    await HeadKeeper(name="Ada", keys=3).save()
    assert await database["head_keeper"].count_documents({"name": "Ada", "keys": 3}) == 1
    assert await Keeper.objects.count() == 0


async def test_documents_and_files_of_an_alias_are_in_its_database(database: Database) -> None:
    elsewhere = database.client[f"{database.name}_archive"]
    gridproxy.connect(elsewhere, alias="archive")
    try:

        class StillArchived(Archived):
            pass

        for document in (Archived, StillArchived):
            archived = await document(name="a", photo=b"x").save()
            assert await document.objects(name="a").get() == archived
            assert await archived.photo.read() == b"x"
        assert await elsewhere["fs.files"].count_documents({}) == 2
        assert await database.list_collection_names() == []
    finally:
        gridproxy.disconnect("archive")
        await database.client.drop_database(elsewhere.name)


async def test_every_call_without_a_connection_raises_not_connected() -> None:
    gridproxy.disconnect()
    animal = Animal(genus="Marmota", id="a")
    for call in (animal.save, animal.reload, animal.delete, Animal.objects.count):
        with pytest.raises(NotConnected, match="connect"):
            await call()
    with pytest.raises(NotConnected, match="archive"):
        await Archived().save()


async def test_the_database_is_looked_up_on_each_call(database: Database) -> None:
    elsewhere = database.client[f"{database.name}_elsewhere"]
    animal = Animal(genus="Marmota")
    try:
        with gridproxy.using(elsewhere):
            await animal.save()
            assert await Animal.objects.count() == 1
        assert await Animal.objects.count() == 0
    finally:
        await database.client.drop_database(elsewhere.name)


# Saving


async def test_the_first_save_sets_the_id_and_stores_every_field(database: Database) -> None:
    animal = Animal(genus="Marmota", legs=4)
    assert animal.id is None
    assert await animal.save() is animal
    assert isinstance(animal.id, ObjectId)
    assert await database["animal"].find_one({}) == {
        "_id": animal.id,
        "genus": "Marmota",
        "legs": 4,
        "born": None,
        "tags": [],
        "anything": [],
        "extra": {},
        "photo": None,
    }


@pytest.mark.parametrize("id", ["marmot", 7, {"kind": "marmot"}])
async def test_an_id_can_be_given(id: Any) -> None:
    await Animal(id=id, genus="Marmota").save()
    assert (await Animal.objects(id=id).get()).genus == "Marmota"


async def test_a_taken_id_is_refused_and_the_document_there_is_left() -> None:
    await Animal(id="marmot", genus="Marmota").save()
    with pytest.raises(DuplicateKeyError):
        await Animal(id="marmot", genus="Impostor").save()
    assert (await Animal.objects(id="marmot").get()).genus == "Marmota"


async def test_a_save_writes_only_what_changed(mongodb_uri: str, database: Database) -> None:
    async with watched(mongodb_uri, database) as commands:
        await Animal(genus="Marmota", legs=4, tags=["furry"], extra={"a": {"b": [1]}}).save()
        animal = await Animal.objects.get()
        assert await updates_of(commands, animal.save) == []
        assert commands.seen == []

        animal.genus = "Marmota"
        assert await updates_of(commands, animal.save) == []
        animal.genus = "Pika"
        assert await updates_of(commands, animal.save) == [{"genus": "Pika"}]
        assert await updates_of(commands, animal.save) == []

        animal.tags.append("loud")
        animal.legs = 3
        assert await updates_of(commands, animal.save) == [{"legs": 3, "tags": ["furry", "loud"]}]
        animal.extra["a"]["b"].append(2)
        assert await updates_of(commands, animal.save) == [{"extra": {"a": {"b": [1, 2]}}}]
        animal.extra["a"]["b"].pop()
        animal.extra["a"]["b"].append(2)
        assert await updates_of(commands, animal.save) == []


async def test_1_true_and_1_0_are_different_values(mongodb_uri: str, database: Database) -> None:
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal(anything=[1], extra={"a": 1}).save()
        for value in (True, 1.0, 1, False, 0, Int64(0)):
            animal.anything[0] = value
            animal.extra["a"] = value
            assert await updates_of(commands, animal.save) == [{"anything": [value], "extra": {"a": value}}]
            found = await Animal.objects.get()
            assert [type(found.anything[0]), type(found.extra["a"])] == [type(value)] * 2


async def test_a_new_document_keeps_its_containers_through_saves() -> None:
    animal = Animal(tags=["furry"], extra={"a": 1}, anything=[{"n": 1}])
    tags, extra, inner = animal.tags, animal.extra, animal.anything[0]
    await animal.save()
    tags.append("loud")
    extra["b"] = 2
    inner["n"] = 2
    await animal.save()
    tags.append("shy")
    await animal.save()
    assert animal.tags is tags
    found = await Animal.objects.get()
    assert (found.tags, found.extra, found.anything) == (["furry", "loud", "shy"], {"a": 1, "b": 2}, [{"n": 2}])


async def test_a_change_during_a_save_is_saved_by_the_next_save(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await Animal(tags=["furry"], extra={"a": 1}).save()
    collection = type(database["animal"])
    update_one = collection.update_one

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        result = await update_one(*args, **kwargs)
        animal.tags.append("meanwhile")
        animal.extra["b"] = "meanwhile"
        return result

    animal.tags.append("loud")
    with monkeypatch.context() as patched:
        patched.setattr(collection, "update_one", slowly)
        await animal.save()
    await animal.save()
    found = await Animal.objects.get()
    assert found.tags == ["furry", "loud", "meanwhile"]
    assert found.extra == {"a": 1, "b": "meanwhile"}


async def test_two_writers_of_different_fields_both_win() -> None:
    one = await Animal(genus="Marmota", legs=4).save()
    two = await Animal.objects.get()
    one.genus = "Pika"
    two.legs = 3
    await asyncio.gather(one.save(), two.save())
    found = await Animal.objects.get()
    assert (found.genus, found.legs) == ("Pika", 3)


async def test_saves_of_one_document_run_one_after_the_other(database: Database) -> None:
    animal = Animal(genus="Marmota", photo=b"content that is put once")
    await asyncio.gather(*(animal.save() for _ in range(5)))
    assert await Animal.objects.count() == 1
    assert await database["fs.files"].count_documents({}) == 1


async def test_saving_a_deleted_document_raises_document_missing_and_writes_nothing() -> None:
    animal = await Animal(genus="Marmota").save()
    await Animal.objects.delete()
    animal.genus = "Pika"
    with pytest.raises(DocumentMissing, match="nothing was written"):
        await animal.save()
    assert await Animal.objects.count() == 0


async def test_values_that_the_databases_codec_knows_are_stored(database: Database) -> None:
    options = database.codec_options.with_options(uuid_representation=UuidRepresentation.STANDARD, tz_aware=True)
    number = uuid.uuid4()
    with gridproxy.using(database.with_options(codec_options=options)):
        animal = await Animal(extra={"no": number}, born=datetime(2024, 1, 1, tzinfo=UTC)).save()
        animal.extra["another"] = number
        await animal.save()
        found = await Animal.objects.get()
        assert found.extra == {"no": number, "another": number}
        assert found.born == datetime(2024, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError, match="extra"):
        await Animal(extra={"no": number}).save()


async def test_a_session_carries_save_reload_and_delete(client: AsyncMongoClient[dict[str, Any]]) -> None:
    animal = await Animal(genus="Marmota").save()
    async with client.start_session() as session:
        async with await session.start_transaction():
            animal.genus = "Pika"
            await animal.save(session=session)
            assert (await Animal.objects.get()).genus == "Marmota"
            await animal.reload(session=session)
            assert animal.genus == "Pika"
            await Animal(id="new").save(session=session)
            await Animal(id="new").reload(session=session)
        assert await Animal.objects.count() == 2
        async with await session.start_transaction():
            await animal.delete(session=session)
            assert await Animal.objects.count() == 2
    assert await Animal.objects.count() == 1


# Reload, delete


async def test_reload_loads_every_field_and_discards_changes(database: Database) -> None:
    animal = await Animal(genus="Marmota", tags=["furry"], extra={"a": {"b": 1}}).save()
    photo = animal.photo
    await database["animal"].update_one({}, {"$set": {"genus": "Pika", "legs": 4, "extra": {"a": {"b": 2}}}})
    animal.tags.append("forgotten")
    animal.photo = b"forgotten"
    assert await animal.reload() is animal
    assert (animal.genus, animal.legs, animal.tags) == ("Pika", 4, ["furry"])
    assert animal.photo is photo
    assert not photo
    animal.extra["a"]["b"] = 3
    animal.anything.append(1)
    await animal.save()
    found = await Animal.objects.get()
    assert (found.extra, found.anything) == ({"a": {"b": 3}}, [1])
    assert await database["fs.files"].count_documents({}) == 0


async def test_reloading_an_unstored_document_raises_document_missing(database: Database) -> None:
    await database["animal"].insert_one({"_id": None, "genus": "Nobody's"})
    with pytest.raises(DocumentMissing):
        await Animal().reload()
    animal = await Animal(genus="Marmota").save()
    await animal.delete()
    with pytest.raises(DocumentMissing):
        await animal.reload()
    assert animal.genus == "Marmota"


async def test_delete_removes_the_document_once(database: Database) -> None:
    await database["animal"].insert_one({"_id": None, "genus": "Nobody's"})
    with pytest.raises(DocumentMissing):
        await Animal().delete()
    animal = await Animal(genus="Marmota").save()
    await animal.delete()
    assert await database["animal"].count_documents({}) == 1
    with pytest.raises(DocumentMissing):
        await animal.delete()


async def test_a_deleted_document_can_be_saved_again_with_its_id() -> None:
    animal = await Animal(genus="Marmota").save()
    id = animal.id
    await animal.delete()
    await animal.save()
    assert animal.id == id
    assert await Animal.objects.get() == animal
