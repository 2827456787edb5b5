"""Fields with `store="snapshot"`: the stored metadata, kept up to date, and conversions from and to ids."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from bson import ObjectId

from gridproxy import AsyncGridFile, BadOption, Bucket, InfoNotLoaded, StaleDocument, rewrite_references
from gridproxy.adapters.document import Document, FileField, ListField, StringField
from gridproxy.gridfs.operations.many import stat_many

from ..observing import Database, contents
from .zoo import updates_of, watched

pytestmark = pytest.mark.usefixtures("connected")


class Animal(Document):
    genus = StringField()
    photo = FileField(store="snapshot")
    album = ListField(FileField(store="snapshot"))


class Plain(Document, collection="animal"):
    """The same documents, before the field was made to keep snapshots."""

    genus = StringField()
    photo = FileField()
    album = ListField(FileField())


async def stored(database: Database) -> Any:
    return await database["animal"].find_one({})


async def marmot() -> Animal:
    animal = Animal(genus="Marmota")
    await animal.photo.put(b"a photo", filename="marmot.jpg", mood="calm")
    await animal.save()
    return await Animal.objects.get()


async def test_a_document_stores_the_shown_fields_of_its_file(database: Database) -> None:
    animal = await marmot()
    snapshot = (await stored(database))["photo"]
    assert set(snapshot) == {"_id", "filename", "length", "chunk_size", "content_type", "upload_date", "metadata"}
    assert (snapshot["filename"], snapshot["length"], snapshot["content_type"]) == ("marmot.jpg", 7, "image/jpeg")
    assert (animal.photo.id, animal.photo.filename, animal.photo.length) == (snapshot["_id"], "marmot.jpg", 7)
    assert animal.photo.metadata["mood"] == "calm"
    assert animal.photo.upload_date is not None
    assert animal.photo.upload_date.tzinfo is UTC
    assert await animal.photo.read() == b"a photo"


async def test_a_page_of_100_documents_shows_names_and_sizes_in_one_query(mongodb_uri: str, database: Database) -> None:
    infos = await Bucket(database).upload_many({f"{n}.jpg": b"x" * n for n in range(100)})
    await database["animal"].insert_many([{"photo": info.snapshot()} for info in infos])
    async with watched(mongodb_uri, database) as commands:
        shown = {animal.photo.filename: animal.photo.length async for animal in Animal.objects}
        assert [name for name, _ in commands.seen] == ["find"]
    assert shown == {f"{n}.jpg": n for n in range(100)}


@pytest.mark.parametrize("edit", ["delete and put", "replace", "new_file", "assign", "rename", "update_metadata"])
async def test_every_change_of_an_attached_file_is_in_the_next_save(edit: str, database: Database) -> None:
    animal = await marmot()
    photo = animal.photo
    if edit == "delete and put":
        await photo.delete()
        await photo.put(b"another", filename="other.jpg")
    elif edit == "replace":
        await photo.replace(b"another", filename="other.jpg")
    elif edit == "new_file":
        async with photo.new_file(replace=True, filename="other.jpg"):
            photo.write(b"another")
    elif edit == "assign":
        animal.photo = b"another"
    elif edit == "rename":
        await photo.rename("other.jpg")
    else:
        await photo.update_metadata(mood="angry")
    await animal.save()
    shown = (await Animal.objects.get()).photo.info
    assert shown is not None
    assert shown.snapshot() == (await Bucket(database).stat(shown.id)).snapshot()
    assert shown.filename == {"update_metadata": "marmot.jpg", "assign": None}.get(edit, "other.jpg")


async def test_a_change_through_a_bucket_is_seen_by_stat_and_written_by_the_save(
    mongodb_uri: str, database: Database
) -> None:
    await marmot()
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal.objects.get()
        await Bucket(database).rename(animal.photo.id, "renamed.jpg")
        assert await updates_of(commands, animal.save) == []
        assert animal.photo.filename == "marmot.jpg"  # outdated until the next query
        await animal.photo.stat()
        assert animal.photo.filename == "renamed.jpg"
        [changed] = await updates_of(commands, animal.save)
        assert changed["photo"]["filename"] == "renamed.jpg"
        assert await updates_of(commands, animal.save) == []


async def test_an_unchanged_snapshot_is_not_written(mongodb_uri: str, database: Database) -> None:
    await marmot()
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal.objects.get()
        await animal.photo.stat()
        await animal.photo.read()
        assert await updates_of(commands, animal.save) == []


async def test_an_edit_of_a_file_that_another_client_replaced_is_stale() -> None:
    animal, other = await marmot(), await Animal.objects.get()
    await other.photo.replace(b"theirs")
    await other.save()
    animal.photo = b"ours"
    with pytest.raises(StaleDocument):
        await animal.save()


async def test_two_edits_of_one_files_metadata_are_both_kept(database: Database) -> None:
    animal, other = await marmot(), await Animal.objects.get()
    await other.photo.update_metadata(mood="angry")
    await other.save()
    await animal.photo.update_metadata(seen=True)
    await animal.save()  # the same file, so no change is lost
    assert (await stored(database))["photo"]["metadata"].items() >= {"mood": "angry", "seen": True}.items()


async def test_a_file_that_is_gone_keeps_its_bare_id(database: Database) -> None:
    gone = ObjectId()
    animal = await Animal(photo=gone).save()
    assert (await stored(database))["photo"] == gone
    assert animal.photo.info is None


# From one form to the other


async def test_documents_with_ids_are_loaded_found_and_changed_by_their_next_save(
    mongodb_uri: str, database: Database
) -> None:
    plain = Plain(genus="Marmota", photo=b"a photo", album=[b"one", b"two"])
    await plain.save()
    async with watched(mongodb_uri, database) as commands:
        animal = await Animal.objects.get()
        with pytest.raises(InfoNotLoaded):
            animal.photo.filename  # noqa: B018  # the property is what is tried
        animal.genus = "marmota"
        commands.clear()
        await animal.save()
        assert [name for name, _ in commands.seen] == ["find", "update"]
    raw = await stored(database)
    assert raw["photo"]["length"] == 7
    assert [each["length"] for each in raw["album"]] == [3, 3]


async def test_documents_with_snapshots_are_loaded_and_found_by_a_field_that_keeps_ids(database: Database) -> None:
    animal = Animal(photo=b"a photo", album=[b"one", b"two"])
    await animal.save()
    plain = await Plain.objects.get()
    assert (plain.photo.length, await plain.album[1].read()) == (7, b"two")
    await plain.photo.replace(b"another")
    await plain.save()
    assert (await stored(database))["photo"] == plain.photo.id
    assert await contents(database) == (3, 3)


@pytest.mark.parametrize("kind", [Animal, Plain])
@pytest.mark.parametrize("saved_as", [Animal, Plain])
async def test_a_query_finds_both_forms(kind: Any, saved_as: Any) -> None:
    saved = await saved_as(genus="Marmota", photo=b"a photo", album=[b"one", b"two"]).save()
    await saved_as(genus="Vulpes").save()
    found = [
        {"photo": saved.photo},
        {"photo": saved.photo.id},
        {"photo": str(saved.photo.id)},
        {"album": saved.album[1]},
        {"album": list(saved.album)},
        {"album": [each.id for each in saved.album]},
    ]
    for question in found:
        assert [each.id for each in await kind.objects(**question).to_list()] == [saved.id], question
    for question in [{"album": saved.album[:1]}, {"album": saved.album[::-1]}, {"photo": ObjectId()}]:
        assert await kind.objects(**question).count() == 0, question
    assert [each.genus for each in await kind.objects(photo=None).to_list()] == ["Vulpes"]
    assert [each.genus for each in await kind.objects(album=[]).to_list()] == ["Vulpes"]


# Rewritten in bulk


async def many(database: Database, count: int = 105) -> list[Any]:
    infos = await Bucket(database).upload_many({f"{n}.txt": str(n).encode() for n in range(count)})
    await database["zoo"].insert_many([{"_id": n, "photo": info.id, "n": n} for n, info in enumerate(infos)])
    return [info.id for info in infos]


async def test_ids_become_snapshots_and_snapshots_ids(mongodb_uri: str, database: Database) -> None:
    ids = await many(database)
    bucket = Bucket(database)
    assert await rewrite_references(database["zoo"], "photo", bucket) == 105
    rows = await database["zoo"].find({}).to_list()
    assert [(row["photo"]["_id"], row["photo"]["filename"], row["n"]) for row in rows] == [
        (id, f"{n}.txt", n) for n, id in enumerate(ids)
    ]
    assert await rewrite_references(database["zoo"], "photo", bucket) == 0
    assert await rewrite_references(database["zoo"], "photo", store="id") == 105
    assert [row["photo"] for row in await database["zoo"].find({}).to_list()] == ids
    assert await rewrite_references(database["zoo"], "photo", "fs", store="id") == 0


async def test_an_outdated_snapshot_is_renewed(database: Database) -> None:
    animal = await marmot()
    bucket = Bucket(database)
    await bucket.rename(animal.photo.id, "renamed.jpg")
    assert await rewrite_references(database["animal"], "photo", bucket) == 1
    assert (await Animal.objects.get()).photo.filename == "renamed.jpg"


async def test_references_below_lists_and_documents_are_found(database: Database) -> None:
    bucket = Bucket(database)
    one, two, three = (info.id for info in await bucket.upload_many([b"1", b"22", b"333"]))
    gone = ObjectId()
    zoo = database["zoo"]
    await zoo.insert_one(
        {
            "_id": 1,
            "album": [one, None, gone, two],
            "owner": {"photo": three},
            "items": [{"photo": one}, {"name": "no photo"}, {"photo": {"_id": two}}, 7],
            "odd": {"photo": {"no": "id"}},
            "nested": [[one], [two]],
        }
    )
    await zoo.insert_one({"_id": 2, "album": "not a list", "owner": None})
    for field in ("album", "owner.photo", "items.photo", "items.2.photo", "items.9.photo", "odd.photo", "nested.0"):
        await rewrite_references(zoo, field, bucket)
    found = await zoo.find_one({"_id": 1})
    assert found is not None
    lengths = [each["length"] if isinstance(each, dict) else each for each in found["album"]]
    assert lengths == [1, None, gone, 2]
    assert found["owner"]["photo"]["length"] == 3
    assert [each.get("photo", {}).get("length") for each in found["items"][:3]] == [1, None, 2]
    assert (found["items"][3], found["odd"]) == (7, {"photo": {"no": "id"}})
    assert ([each["length"] for each in found["nested"][0]], found["nested"][1]) == ([1], [two])
    assert await zoo.find_one({"_id": 2}) == {"_id": 2, "album": "not a list", "owner": None}


async def test_a_concurrent_change_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    [_, other] = await many(database, 2)
    zoo = database["zoo"]
    times = 0

    async def slow(*arguments: Any) -> Any:
        nonlocal times
        times += 1
        infos = await stat_many(*arguments)
        await zoo.update_one({"_id": 0}, {"$set": {"photo": other if times == 1 else None}})
        return infos

    monkeypatch.setattr("gridproxy.fields.rewrite_references.stat_many", slow)
    assert await rewrite_references(zoo, "photo", Bucket(database)) == 1
    rows = await zoo.find({}, sort=[("_id", 1)]).to_list()
    assert rows[0]["photo"] is None
    assert rows[1]["photo"]["_id"] == other
    assert times == 3


async def test_a_document_that_changes_on_every_attempt_is_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await many(database, 4)
    zoo = database["zoo"]
    await zoo.delete_many({"_id": {"$ne": 0}})
    coming = iter(ids[1:])

    async def slow(*arguments: Any) -> Any:
        infos = await stat_many(*arguments)
        await zoo.update_one({"_id": 0}, {"$set": {"photo": next(coming)}})
        return infos

    monkeypatch.setattr("gridproxy.fields.rewrite_references.stat_many", slow)
    assert await rewrite_references(zoo, "photo", Bucket(database)) == 0
    assert await zoo.find_one({}) == {"_id": 0, "photo": ids[3], "n": 0}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"collection": "zoo"}, "AsyncCollection"),
        ({"field": "photo."}, "field"),
        ({"field": None}, "field"),
        ({"field": "$where"}, "field"),
        ({"store": "both"}, "store"),
        ({"bucket": 7}, "bucket"),
    ],
)
async def test_invalid_arguments_are_refused(arguments: Any, match: str, database: Database) -> None:
    with pytest.raises(BadOption, match=match):
        await rewrite_references(**{"collection": database["zoo"], "field": "photo", **arguments})


async def test_a_file_in_a_snapshot_field_may_be_given_as_one() -> None:
    animal = await marmot()
    other = Animal()
    other.photo = AsyncGridFile(animal.photo.id)
    await other.save()
    assert other.photo.filename == "marmot.jpg"
