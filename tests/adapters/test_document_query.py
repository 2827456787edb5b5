"""Animal.objects(...): which documents, in which order, and that values never act as operators."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, BadOption, DocumentMissing, MultipleDocumentsFound, NotConnected, ValidationError
from gridproxy.adapters.document import (
    DateTimeField,
    DictField,
    Document,
    FileField,
    IntField,
    ListField,
    QuerySet,
    StringField,
)

from ..observing import Database, observed


class Animal(Document):
    genus = StringField()
    legs = IntField()
    born = DateTimeField()
    tags = ListField(StringField())
    anything = ListField()
    extra = DictField()
    photo = FileField()
    album = ListField(FileField())


pytestmark = pytest.mark.usefixtures("connected")


@pytest.fixture
async def zoo(connected: None) -> list[Animal]:
    animals = [
        Animal(genus="Marmota", legs=4, tags=["furry", "loud"]),
        Animal(genus="Homo", legs=2, tags=["loud"]),
        Animal(genus="Anas", legs=2, extra={"a": 1}),
        Animal(genus="Vipera", legs=0),
    ]
    return [await animal.save() for animal in animals]


def names(animals: list[Animal]) -> list[str | None]:
    return [animal.genus for animal in animals]


async def test_an_id_can_be_given_as_hex_digits(zoo: list[Animal]) -> None:
    for asked in (zoo[1].id, str(zoo[1].id), str(zoo[1].id).upper()):
        assert await Animal.objects(id=asked).get() == zoo[1]
    assert await Animal.objects(id=str(ObjectId())).first() is None


@pytest.mark.parametrize("id", ["marmot", 7, "0123456789abcdef01234567", b"twelve bytes", {"$gt": ""}])
async def test_ids_of_other_types_are_compared_as_they_are(id: object, zoo: list[Animal]) -> None:
    if isinstance(id, dict):
        assert await Animal.objects(id=id).count() == 0
        return
    await Animal(id=id, genus="Ochotona").save()
    assert (await Animal.objects(id=id).get()).genus == "Ochotona"


async def test_first_returns_one_document_or_none(zoo: list[Animal]) -> None:
    assert await Animal.objects(genus="Homo").first() == zoo[1]
    assert await Animal.objects(genus="Nobody").first() is None


async def test_get_returns_the_only_document_or_raises(zoo: list[Animal]) -> None:
    assert await Animal.objects(genus="Homo").get() == zoo[1]
    with pytest.raises(DocumentMissing, match="Nobody") as missing:
        await Animal.objects(genus="Nobody").get()
    assert isinstance(missing.value, LookupError)
    with pytest.raises(MultipleDocumentsFound, match="legs"):
        await Animal.objects(legs=2).get()


@pytest.mark.usefixtures("zoo")
async def test_to_list_count_and_async_for_agree() -> None:
    two_legged = Animal.objects(legs=2).order_by("genus")
    assert names(await two_legged.to_list()) == ["Anas", "Homo"]
    assert await two_legged.count() == 2
    assert [animal.genus async for animal in two_legged] == ["Anas", "Homo"]
    assert [animal.genus async for animal in two_legged] == ["Anas", "Homo"]
    assert len(await Animal.objects.to_list()) == await Animal.objects.count() == 4
    assert len(await Animal.objects().to_list()) == 4


@pytest.mark.usefixtures("zoo")
async def test_order_skip_and_limit_make_a_window() -> None:
    ordered = Animal.objects.order_by("legs", "-genus")
    assert names(await ordered.to_list()) == ["Vipera", "Homo", "Anas", "Marmota"]
    assert names(await ordered.skip(1).limit(2).to_list()) == ["Homo", "Anas"]
    assert await ordered.skip(1).limit(2).count() == 2
    assert await ordered.skip(3).count() == 1
    first = await ordered.skip(1).first()
    assert first is not None
    assert first.genus == "Homo"
    assert await ordered.skip(4).first() is None
    assert (await ordered.skip(3).get()).genus == "Marmota"
    assert (await ordered.limit(1).get()).genus == "Vipera"
    assert len(await ordered.limit(0).to_list()) == 4
    assert names(await Animal.objects.order_by("-id").limit(1).to_list()) == ["Vipera"]


@pytest.mark.usefixtures("zoo")
async def test_each_call_returns_a_new_query_set() -> None:
    loud = Animal.objects(tags="loud")
    two_legged_and_loud = loud(legs=2)
    loud.limit(1)
    loud.order_by("genus")
    assert names(await two_legged_and_loud.to_list()) == ["Homo"]
    assert await loud.count() == 2
    assert await loud(genus="Marmota")(genus="Homo").count() == 0


@pytest.mark.usefixtures("zoo")
async def test_a_filter_is_sent_as_it_is() -> None:
    assert await Animal.objects({"legs": {"$lt": 4}}).count() == 3
    assert names(await Animal.objects({"legs": {"$lt": 4}}, genus="Anas").to_list()) == ["Anas"]
    with pytest.raises(BadOption, match="mapping"):
        Animal.objects("Marmota")  # type: ignore[arg-type]


@pytest.mark.usefixtures("zoo")
async def test_delete_removes_all_matches_and_returns_their_number() -> None:
    assert await Animal.objects(legs=2).delete() == 2
    assert await Animal.objects(legs=2).delete() == 0
    assert await Animal.objects.count() == 2
    for window in (Animal.objects.skip(1), Animal.objects.limit(1)):
        with pytest.raises(BadOption, match="every document"):
            await window.delete()
    assert await Animal.objects.count() == 2


async def test_a_bulk_delete_leaves_the_files() -> None:
    class Owner(Document):
        photo = FileField(on_delete="delete")

    owner = await Owner(photo=b"x").save()
    assert await Owner.objects.delete() == 1
    assert await owner.photo.exists()


# What is compared


async def test_a_list_is_queried_by_an_item_or_as_a_whole(zoo: list[Animal]) -> None:
    assert await Animal.objects(tags="loud").count() == 2
    assert await Animal.objects(tags=["furry", "loud"]).get() == zoo[0]
    assert await Animal.objects(tags=["loud", "furry"]).count() == 0
    assert await Animal.objects(tags=[]).count() == 2
    await Animal(anything=[1, {"a": 1}]).save()
    assert await Animal.objects(anything=1).count() == 1
    assert await Animal.objects(anything={"a": 1}).count() == 1


async def test_a_dict_is_compared_whole(zoo: list[Animal]) -> None:
    assert await Animal.objects(extra={"a": 1}).get() == zoo[2]
    assert await Animal.objects(extra={"a": {"$gt": 0}}).count() == 0


async def test_a_datetime_is_compared_in_utc() -> None:
    born = datetime.fromisoformat("2024-05-01T12:00:00+02:00")
    await Animal(born=born).save()
    assert await Animal.objects(born=born.astimezone(UTC)).count() == 1


async def test_none_matches_null_and_missing_fields(database: Database) -> None:
    await Animal(genus=None).save()
    await database["animal"].insert_one({"legs": 4})
    assert await Animal.objects(genus=None).count() == 2


async def test_a_file_is_queried_by_itself_its_id_or_its_hex() -> None:
    animal = await Animal(photo=b"photo", album=[b"one", b"two"]).save()
    for asked in (animal.photo, animal.photo.id, str(animal.photo.id)):
        assert await Animal.objects(photo=asked).get() == animal
    for asked in (animal.album[1], animal.album[1].id, str(animal.album[1].id), list(animal.album)):
        assert await Animal.objects(album=asked).get() == animal
    assert await Animal.objects(photo=ObjectId()).count() == 0
    empty = await Animal().save()
    assert await Animal.objects(photo=None).get() == empty
    assert await Animal.objects(photo=AsyncGridFile()).get() == empty


async def test_a_query_by_a_file_does_not_make_it_shared(database: Database) -> None:
    animal = await Animal(photo=b"the old", album=[b"one"]).save()
    Animal.objects(photo=animal.photo, album=animal.album)
    Animal.objects(album=animal.album[0])
    await animal.photo.replace(b"the new")
    await animal.album[0].replace(b"another one")
    await animal.save()
    assert await database["fs.files"].count_documents({}) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("genus", {"$ne": None}),
        ("genus", {"$gt": ""}),
        ("genus", re.compile(".*")),
        ("legs", {"$gt": 0}),
        ("born", {"$exists": True}),
        ("tags", {"$ne": "x"}),
        ("tags", re.compile(".*")),
        ("tags", [{"$ne": "x"}]),
        ("photo", {"$ne": None}),
        ("photo", {"_id": {"$ne": None}}),
        ("photo", b"content"),
        ("album", {"$ne": None}),
        ("album", [{"$ne": None}]),
        ("extra", re.compile(".*")),
    ],
)
@pytest.mark.usefixtures("zoo")
async def test_an_operator_is_refused_by_a_field_that_cannot_hold_it(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Animal.objects(**{name: value})
    assert caught.value.field.startswith(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", {"$ne": None}),
        ("id", {"$gt": ""}),
        ("id", re.compile(".*")),
        ("id", ["a"]),
        ("extra", {"$ne": None}),
        ("extra", {"$nor": []}),
        ("anything", {"$ne": None}),
        ("anything", re.compile(".*")),
    ],
)
@pytest.mark.usefixtures("zoo")
async def test_an_operator_in_a_keyword_is_a_value(name: str, value: Any) -> None:
    await Animal(anything=["text"]).save()
    assert await Animal.objects(**{name: value}).count() == 0
    assert await Animal.objects(**{name: value}).to_list() == []
    assert await Animal.objects(**{name: value}).delete() == 0


@pytest.mark.parametrize("ask", [lambda: Animal.objects(genuss=1), lambda: Animal.objects.order_by("-genuss")])
async def test_an_unknown_field_is_named(ask: Any) -> None:
    with pytest.raises(ValidationError, match=r"genuss.*id, genus") as caught:
        ask()
    assert caught.value.field == "genuss"


@pytest.mark.parametrize("count", [-1, 1.5, True, "2", None])
async def test_skip_and_limit_take_numbers_of_documents(count: Any) -> None:
    with pytest.raises(BadOption, match="skip"):
        Animal.objects.skip(count)
    with pytest.raises(BadOption, match="limit"):
        Animal.objects.limit(count)


async def test_objects_is_an_attribute_of_the_class_only() -> None:
    with pytest.raises(ValidationError, match=r"Animal\.objects"):
        _ = Animal().objects
    assert isinstance(Animal.objects, QuerySet)
    assert "Marmota" in repr(Animal.objects(genus="Marmota"))


# When and where it is asked


async def test_no_query_is_sent_before_it_is_awaited(mongodb_uri: str, database: Database) -> None:
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            asked = Animal.objects(genus="Marmota").order_by("legs").skip(1).limit(2)
            repr(asked)
            assert commands.seen == []
            assert await asked.first() is None
            assert [name for name, _ in commands.seen] == ["find"]
            assert commands.of("find")[0]["limit"] == 1


async def test_a_query_without_a_connection_raises_not_connected() -> None:
    gridproxy.disconnect()
    with pytest.raises(NotConnected):
        await Animal.objects.first()


async def test_every_query_runs_in_the_given_session(
    client: AsyncMongoClient[dict[str, Any]], zoo: list[Animal]
) -> None:
    async with client.start_session() as session, await session.start_transaction():
        await Animal(genus="Uncommitted").save(session=session)
        asked = Animal.objects(genus="Uncommitted").session(session)
        assert await asked.count() == 1
        assert len(await asked.to_list()) == 1
        assert await asked.first() is not None
        await asked.get()
        assert [animal.genus async for animal in asked] == ["Uncommitted"]
        assert await Animal.objects(genus="Uncommitted").count() == 0
        assert await asked.delete() == 1
    assert await Animal.objects.count() == len(zoo)


async def test_an_iteration_can_be_left_early(database: Database) -> None:
    await database["animal"].insert_many({"legs": number} for number in range(150))  # more than a cursor's first batch
    seen = []
    async for animal in Animal.objects.order_by("legs"):
        seen.append(animal.legs)
        if len(seen) == 3:
            break
    assert seen == [0, 1, 2]
