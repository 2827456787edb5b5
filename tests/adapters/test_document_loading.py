"""Documents that other code has stored, and documents as values: equality, repr, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gridproxy import Bucket, ValidationError
from gridproxy.adapters.document import Document, FileField, ListField

from ..observing import Database
from .plain_zoo import Animal, Keeper
from .zoo import updates_of, watched

pytestmark = pytest.mark.usefixtures("connected")


# What other code has stored


async def test_a_document_of_other_code_loads_as_it_is_and_keeps_the_rest(mongodb_uri: str, database: Database) -> None:
    photo = await Bucket(database).upload(b"put by MongoEngine")
    raw = {
        "_id": 7,
        "_cls": "Zoo.Animal",
        "genus": "Marmota",
        "legs": "four",
        "born": datetime(2024, 1, 1, tzinfo=UTC),
        "tags": ["furry", 7],
        "anything": "no list",
        "photo": photo.id,
        "weight": {"kg": 5},
    }
    await database["animal"].insert_one(raw)
    stored = await database["animal"].find_one({})
    async with watched(mongodb_uri, database) as commands:
        animal: Any = await Animal.objects(genus="Marmota").get()
        assert (animal.id, animal.legs, animal.tags, animal.anything, animal.extra) == (
            7,
            "four",
            ["furry", 7],
            "no list",
            {},
        )
        assert animal.born == datetime(2024, 1, 1, tzinfo=UTC)
        assert await animal.photo.read() == b"put by MongoEngine"

        assert await updates_of(commands, animal.save) == []
        animal.genus = "Pika"
        assert await updates_of(commands, animal.save) == [{"genus": "Pika"}]
        await animal.photo.replace(b"replaced")
        await animal.save()
    assert stored is not None
    assert await database["animal"].find_one({}) == {**stored, "genus": "Pika", "photo": animal.photo.id}
    animal.tags.append("loud")
    with pytest.raises(ValidationError, match=r"tags\.1"):
        await animal.save()
    animal.tags = ["loud"]
    assert copy.copy(animal).anything == "no list"
    animal.anything = ["a list"]
    await animal.save()
    await animal.reload()
    assert (animal.tags, animal.anything) == (["loud"], ["a list"])


async def test_invalid_values_are_refused_when_the_document_is_stored_again(database: Database) -> None:
    await database["animal"].insert_one({"anything": "no list"})
    animal = await Animal.objects.get()
    await animal.delete()
    with pytest.raises(ValidationError, match="anything"):
        await animal.save()


async def test_a_document_without_any_of_the_fields_loads_empty(mongodb_uri: str, database: Database) -> None:
    await database["animal"].insert_one({"_id": "bare"})
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal.objects.get()
        assert (animal.genus, animal.tags, animal.extra, bool(animal.photo)) == (None, [], {}, False)
        assert await updates_of(commands, animal.save) == []
        animal.photo = b"x"
        animal.tags.append("furry")
        (update,) = await updates_of(commands, animal.save)
    assert set(update) == {"photo", "tags"}
    assert await database["animal"].find_one({}) == {"_id": "bare", "photo": animal.photo.id, "tags": ["furry"]}


async def test_a_snapshot_in_an_id_field_is_read_by_its_id_and_kept(mongodb_uri: str, database: Database) -> None:
    info = await Bucket(database).upload(b"in a snapshot")
    snapshot = {"_id": info.id, "filename": "marmot.jpg", "length": 13}
    await database["animal"].insert_one({"_id": 1, "photo": snapshot})
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal.objects.get()
        assert await animal.photo.read() == b"in a snapshot"
        assert await updates_of(commands, animal.save) == []
        await animal.photo.replace(b"replaced")
        await animal.save()
    assert await database["animal"].find_one({}) == {"_id": 1, "photo": animal.photo.id}
    assert await database["fs.files"].count_documents({}) == 1


# Equality, repr, copies


async def test_saved_documents_are_equal_by_class_and_id() -> None:
    animal = await Animal(genus="Marmota").save()
    found = await Animal.objects.get()
    assert animal == found
    assert animal is not found
    assert Animal() != Animal()
    fresh = Animal()
    assert fresh == fresh  # noqa: PLR0124  # itself, even without an id
    assert await Keeper(id=animal.id).save() != animal
    assert animal != animal.id
    with pytest.raises(TypeError, match="unhashable"):
        hash(animal)


async def test_repr_shows_what_it_holds() -> None:
    animal = Animal(genus="Marmota", tags=["furry"])
    assert repr(animal).startswith("<Animal id=None genus='Marmota' legs=None")
    assert "photo=<AsyncGridFile empty>" in repr(animal)
    await animal.save()
    assert f"id={animal.id!r}" in repr(animal)


COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]


@pytest.mark.parametrize("copied", COPIES)
async def test_a_copy_is_another_object_of_the_same_document(
    copied: Callable[[Animal], Animal], mongodb_uri: str, database: Database
) -> None:
    animal = Animal(genus="Marmota", tags=["furry"], extra={"a": 1}, photo=b"the photo")
    before = copied(animal)
    await animal.save()
    animal.legs = 4
    other = copied(animal)
    assert other == animal
    assert (other.genus, other.legs, other.tags, other.extra) == ("Marmota", 4, ["furry"], {"a": 1})
    assert other.photo == animal.photo
    assert other.photo is not animal.photo
    assert other.photo.info == animal.photo.info
    assert other.photo.options == animal.photo.options
    other.tags.append("of the copy")
    other.extra["b"] = "of the copy"
    assert (animal.tags, animal.extra) == (["furry"], {"a": 1})
    async with watched(mongodb_uri, database) as commands:
        (update,) = await updates_of(commands, other.save)
    assert set(update) == {"legs", "tags", "extra"}
    await before.save()
    assert before.id != animal.id
    assert await before.photo.read() == b"the photo"


async def test_content_in_a_list_that_no_save_has_seen_yet_is_copied_too() -> None:
    class Album(Document):
        photos = ListField(FileField())

    album = Album()
    album.photos.append(b"by hand")
    other = await copy.deepcopy(album).save()
    assert await other.photos[0].read() == b"by hand"
    assert album.photos == [b"by hand"]


@pytest.mark.parametrize("copied", [copy.deepcopy, COPIES[2]])
async def test_a_deep_copy_shares_nothing_that_changes(copied: Callable[[Animal], Animal]) -> None:
    animal = await Animal(extra={"a": {"b": [1]}}, anything=[{"n": 1}]).save()
    other = copied(animal)
    other.extra["a"]["b"].append(2)
    other.anything[0]["n"] = 2
    await animal.save()
    assert (await Animal.objects.get()).extra == {"a": {"b": [1]}}
    await other.save()
    assert (await Animal.objects.get()).extra == {"a": {"b": [1, 2]}}


class WithBucket(Document):
    """At module level, where pickle finds it; its bucket is put in by the test."""

    photo = FileField()


@pytest.mark.parametrize("copied", COPIES)
async def test_a_copy_keeps_the_buckets_of_its_fields(
    copied: Callable[[WithBucket], WithBucket], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(database.client[f"{database.name}_elsewhere"], "photos")
    field = FileField(bucket=bucket)
    field.__set_name__(WithBucket, "photo")
    monkeypatch.setitem(WithBucket.document_schema.fields, "photo", field)
    try:
        document = await WithBucket(photo=b"elsewhere").save()
        other = copied(document)
        assert other.photo.options.bucket is bucket
        assert await other.photo.read() == b"elsewhere"
    finally:
        await database.client.drop_database(bucket.database.name)
