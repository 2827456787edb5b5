"""FileDocument: what each of Beanie's ways of writing does with the files of a document."""

from __future__ import annotations

from typing import Any

import pytest
from beanie import BulkWriter, Document, PydanticObjectId
from beanie.exceptions import RevisionIdWasChanged
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.errors import AutoReconnect, DuplicateKeyError

from gridproxy import AsyncGridFile, BadId, BadOption, UploadInProgress
from gridproxy.adapters.beanie import FileDocument
from gridproxy.gridfs.operations.delete import remove_file

from ..observing import Database, answer_lost, contents
from .beanie_zoo import Animal, Home, Nullless, StatefulBadge, Validating, beanie_of, found, setting


@pytest.fixture(autouse=True)
async def _beanie(database: Database) -> None:
    await beanie_of(database)


async def upserted(animal: Animal) -> None:
    await Animal.find_one(Animal.name == "nobody").upsert(setting({Animal.name: "x"}), on_insert=animal)


INSERTS: dict[str, Any] = {
    "insert": lambda animal: animal.insert(),
    "create": lambda animal: animal.create(),
    "insert_one": Animal.insert_one,
    "save": lambda animal: animal.save(),
    "upsert": upserted,
}
WRITES: dict[str, Any] = {
    "save": lambda animal: animal.save(),
    "save_changes": lambda animal: animal.save_changes(),
    "replace": lambda animal: animal.replace(),
    "replace ignoring": lambda animal: animal.replace(True, None),
}


@pytest.mark.parametrize("way", INSERTS)
async def test_every_insert_stores_assigned_content(way: str, database: Database) -> None:
    animal = Animal(photo=b"photo", sound=b"sound", album=[b"a", b"b"], by_name={"x": b"x"}, home={"door": b"door"})
    await INSERTS[way](animal)
    again = await found()
    assert [await file.read() for file in (again.photo, again.sound, *again.album)] == [b"photo", b"sound", b"a", b"b"]
    assert [await again.by_name["x"].read(), await again.home.door.read()] == [b"x", b"door"]
    assert await contents(database) == (5, 5)
    assert await contents(database, "sounds") == (1, 1)


@pytest.mark.parametrize("way", WRITES)
async def test_every_write_of_the_document_removes_replaced_files_and_keeps_the_objects(
    way: str, database: Database
) -> None:
    await Animal(
        photo=b"old", album=[b"a", b"b"], pair=(b"1", b"2"), home=Home.model_validate({"door": b"door"})
    ).insert()
    animal = await found()
    files = [animal.photo, *animal.album, animal.home.door]
    for file in files:
        await file.replace(b"new")
    animal.sound = b"assigned"
    before = await contents(database)
    await WRITES[way](animal)
    held = [animal.photo, *animal.album, animal.home.door]
    assert [one is other for one, other in zip(held, files, strict=True)] == [True] * 4
    assert before == (10, 10)
    assert await contents(database) == (6, 6)
    again = await found()
    assert [await file.read() for file in (again.photo, *again.album, again.home.door)] == [b"new"] * 4
    assert await again.sound.read() == b"assigned"
    assert not animal.is_changed


async def test_save_changes_without_changes_writes_nothing(database: Database) -> None:
    await Animal(photo=b"photo").insert()
    animal = await found()
    assert await animal.save_changes() is None
    assert await contents(database) == (1, 1)


async def test_an_update_of_another_field_does_not_save_files(database: Database) -> None:
    await Animal(name="a", photo=b"old", album=[b"one"]).insert()
    animal = await found()
    photo = animal.photo
    await photo.replace(b"new")
    animal.sound = b"assigned"
    await animal.set({Animal.name: "b"})
    assert animal.photo is photo
    assert (await found()).name == "b"
    assert await (await found()).photo.read() == b"old"
    assert animal.is_changed
    await animal.save()
    assert await (await found()).photo.read() == b"new"
    assert await (await found()).sound.read() == b"assigned"
    assert await contents(database) == (2, 2)


async def test_an_update_leaves_an_open_writer_alone() -> None:
    await Animal(name="a", photo=b"old").insert()
    animal = await found()
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"new")
        await animal.inc({"age": 1})
        for call in (animal.save, animal.save_changes, animal.replace, animal.sync, animal.delete):
            with pytest.raises(UploadInProgress, match=r"photo: .*being written"):
                await call()
    await animal.save()
    assert await (await found()).photo.read() == b"new"


async def test_an_update_of_the_file_field_removes_the_replaced_file(database: Database) -> None:
    await Animal(photo=b"old", album=[b"one"]).insert()
    animal = await found()
    photo, one = animal.photo, animal.album[0]
    await photo.replace(b"new")
    await animal.set({Animal.photo: photo})
    assert animal.photo is photo
    assert await contents(database) == (2, 2)
    # A list that the server has changed: the objects are found again by their ids.
    await animal.update({"$push": {"album": {"$each": [photo.id], "$position": 0}}})
    assert animal.album == [photo, one]
    assert animal.album[1] is one
    await animal.set({Animal.photo: None})
    assert not animal.photo
    assert await animal.album[0].read() == b"new"


async def test_after_an_update_a_field_has_the_value_of_the_other_client(database: Database) -> None:
    animal = await Animal(photo=b"old").insert()
    other = await found()
    await animal.photo.replace(b"mine")
    await other.photo.replace(b"theirs")
    await other.save()
    await animal.set({Animal.name: "x"})
    assert await animal.photo.read() == b"theirs"
    await animal.photo.replace(b"last")
    await animal.save()
    assert await (await found()).photo.read() == b"last"
    assert await contents(database) == (2, 2)  # "mine" is left for check


async def test_an_update_with_a_lost_answer_removes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    animal = await Animal(photo=b"old").insert()
    old = AsyncGridFile(animal.photo.id, options=animal.photo.options)
    await animal.photo.replace(b"new")
    with answer_lost(monkeypatch, "find_one_and_update"), pytest.raises(AutoReconnect):
        await animal.set({Animal.photo: animal.photo})
    new = AsyncGridFile(animal.photo.id, options=animal.photo.options)
    await animal.photo.revert()
    assert [await old.exists(), await new.exists()] == [True, True]
    assert await (await found()).photo.read() == b"new"


async def test_an_update_that_violates_a_unique_index_has_a_known_outcome(database: Database) -> None:
    await Animal(name="taken").insert()
    animal = await Animal(name="b", photo=b"old").insert()
    await database["Animal"].create_index("name", unique=True)
    await animal.photo.replace(b"new")
    # Beanie 2.0 takes every duplicate for a changed revision.
    with pytest.raises((DuplicateKeyError, RevisionIdWasChanged)):
        await animal.set({Animal.name: "taken"})
    await animal.photo.revert()
    assert await animal.photo.read() == b"old"
    assert await contents(database) == (1, 1)


async def test_events_see_the_files_as_they_are() -> None:
    animal = await Animal(photo=b"old").insert()
    await animal.photo.replace(b"new")
    assert animal.is_changed
    assert animal.get_changes() == {"photo": animal.photo.id}
    animal.photo = b"assigned"
    assert animal.is_changed
    assert "not stored yet" in repr(animal.get_changes()["photo"])
    assert animal.get_changes() == animal.get_changes()


async def test_rollback_restores_the_stored_files() -> None:
    await Animal(photo=b"old", album=[b"one"]).insert()
    animal = await found()
    photo = animal.photo
    animal.photo = b"assigned"
    animal.name = "changed"
    animal.album = []
    animal.rollback()
    assert animal.photo is photo
    assert await photo.read() == b"old"
    assert await animal.album[0].read() == b"one"
    await photo.replace(b"new")
    animal.rollback()
    assert await animal.photo.read() == b"old"
    assert not animal.is_changed


async def test_rollback_of_a_snapshot_keeps_the_known_info() -> None:
    document = await StatefulBadge(badge=b"data").insert()
    badge = document.badge
    document.badge = None
    document.rollback()
    assert document.badge.length == 4
    assert document.badge == badge


async def test_an_empty_file_is_not_a_conflict_if_nulls_are_left_out() -> None:
    document = await Nullless(name=None).insert()
    document.name = "x"
    await document.save()
    assert "photo" not in (await Nullless.get_pymongo_collection().find_one() or {})
    document.photo = b"data"
    await document.save()
    assert await (await found(Nullless)).photo.read() == b"data"
    photo = document.photo
    await photo.delete()
    await document.save()
    assert document.photo is photo
    assert "photo" not in (await Nullless.get_pymongo_collection().find_one() or {})


async def test_a_document_that_is_validated_on_save_keeps_its_files(database: Database) -> None:
    document = await Validating(photo=b"photo", home=Home.model_validate({"door": b"door"})).insert()
    photo, door = document.photo, document.home.door
    await photo.replace(b"new")
    document.home.door = b"assigned"  # pydantic turns it into a file
    await document.save()
    assert document.photo is photo
    assert document.home.door is not door
    assert await (await found(Validating)).photo.read() == b"new"
    assert await (await found(Validating)).home.door.read() == b"assigned"
    # In an embedded model an assignment moves the reference: the old door is left for the collector.
    assert await contents(database) == (3, 3)


async def test_sync_loads_the_stored_files() -> None:
    animal = await Animal(photo=b"old", sound=b"sound").insert()
    sound = animal.sound
    other = await found()
    await other.photo.replace(b"new")
    await other.save()
    animal.photo = b"assigned"
    await animal.sync()
    assert await animal.photo.read() == b"new"
    assert animal.sound is sound


async def test_a_stale_save_writes_its_old_file_back(database: Database) -> None:
    animal = await Animal(photo=b"old").insert()
    stale = await found()
    await animal.photo.replace(b"new")
    await animal.save()
    stale.name = "stale"
    await stale.save()
    assert not await (await found()).photo.exists()  # which is why Beanie has use_revision
    assert await animal.photo.read() == b"new"
    assert await contents(database) == (1, 1)


async def test_content_put_into_containers_is_stored() -> None:
    animal = await Animal(album=[b"a"]).insert()
    album = animal.album
    album.append(b"b")  # it becomes a file when it is saved
    animal.by_name["c"] = b"c"  # so does this
    animal.album.append(AsyncGridFile())
    await animal.save()
    again = await found()
    assert [await file.read() for file in again.album[:2]] == [b"a", b"b"]
    assert not again.album[2]
    assert await again.by_name["c"].read() == b"c"


async def test_writes_of_many_documents_refuse_content_and_remove_no_file(database: Database) -> None:
    with pytest.raises(InvalidDocument, match="not stored yet"):
        await Animal.insert_many([Animal(photo=b"data")])
    animal = await Animal(photo=b"old").insert()
    await animal.photo.replace(b"new")
    async with BulkWriter() as writer:
        await animal.replace(bulk_writer=writer)
    assert await contents(database) == (2, 2)
    for data in (b"newer", b"newest"):
        await animal.photo.replace(data)
        async with BulkWriter() as writer:
            if data == b"newer":
                await animal.save_changes(bulk_writer=writer)
            else:
                await animal.update(setting({Animal.photo: animal.photo}), bulk_writer=writer)
    assert await contents(database) == (4, 4)
    await animal.save()
    assert await (await found()).photo.read() == b"newest"
    assert await contents(database) == (1, 1)


async def test_an_id_that_could_not_be_loaded_again_is_not_stored() -> None:
    animal = Animal()
    await animal.photo.put(b"data", id="an id of its own")
    with pytest.raises(BadId, match="'an id of its own' could not be loaded again"):
        await animal.insert()
    assert await Animal.find_one() is None


async def test_sessions_reach_files_and_document(database: Database) -> None:
    animal = await Animal(photo=b"old").insert()
    async with database.client.start_session() as session:
        await session.start_transaction()
        animal.photo = b"new"
        await animal.replace(session=session)
        await animal.set({Animal.name: "x"}, session=session)
        assert (await found()).name == ""
        await session.abort_transaction()
    assert await (await found()).photo.read() == b"old"
    assert isinstance((await found()).photo.id, ObjectId)


async def test_an_optional_field_holds_none_or_a_file(database: Database) -> None:
    animal = await Animal().insert()
    assert animal.perhaps is None
    animal.perhaps = b"data"  # it becomes a file
    await animal.save()
    again = await found()
    assert await again.perhaps.read() == b"data"
    await animal.set({Animal.perhaps: None})
    assert animal.perhaps is None
    again.perhaps = None
    await again.save()
    assert (await found()).perhaps is None
    assert await contents(database) == (1, 1)


async def test_the_mixin_must_be_the_first_base() -> None:
    with pytest.raises(BadOption, match="write FileDocument before the document class"):

        class Wrong(Document, FileDocument):  # type: ignore[misc]  # mypy sees it, too
            pass

    with pytest.raises(BadOption, match=r"class Alone\(FileDocument, Document\)"):
        type("Alone", (FileDocument,), {})


async def test_a_document_may_become_another_one_while_its_replaced_file_is_removed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await Animal(photo=b"old").insert()

    async def slow(*arguments: Any) -> None:
        animal.id = PydanticObjectId()
        await remove_file(*arguments)

    monkeypatch.setattr("gridproxy.file.attachment.remove_file", slow)
    animal.photo = b"new"
    await animal.save()
    assert await contents(database) == (1, 1)
    assert await animal.photo.read() == b"new"


async def test_the_files_of_a_list_still_belong_to_the_document_after_an_update(database: Database) -> None:
    animal = await Animal(album=[b"one", b"two"], pair=(b"three", b"four"), by_name={"five": b"five"}).insert()
    await animal.update(setting({Animal.name: "new"}))
    attachments = [file.state.attachment for _, file in animal._held_files()]
    assert not any(one is None or one.shared for one in attachments)
    await animal.album[0].replace(b"new")
    await animal.save()
    assert await contents(database) == (5, 5)
    assert [await file.read() for file in (await found()).album] == [b"new", b"two"]
