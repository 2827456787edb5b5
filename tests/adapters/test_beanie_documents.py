"""FileDocument: loading, querying, copying and deleting Beanie's documents, and the database of their files."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, Any

import pytest
from beanie import BulkWriter, DeleteRules, Document, WriteRules, init_beanie
from beanie.exceptions import CollectionWasNotInitialized
from beanie.operators import In
from pydantic import BaseModel, ValidationError

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileOptions, GridProxyError, NotConnected, TooLarge
from gridproxy.adapters.beanie import FileDocument, NotInitialised

from ..observing import Database, contents
from .beanie_zoo import Animal, Badged, Beast, Home, Keeper, Marmot, Soft, beanie_of, found


@pytest.fixture(autouse=True)
async def _beanie(database: Database) -> None:
    await beanie_of(database)


class NeverInitialised(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()


class Archived(FileDocument, Document):
    photo: Annotated[AsyncGridFile, FileOptions(db_alias="archive")] = AsyncGridFile()
    scan: AsyncGridFile = AsyncGridFile()


class Perhaps(FileDocument, Document):
    photo: Annotated[AsyncGridFile, FileOptions(bucket="photos", max_size=4)] | None = None
    album: list[Annotated[AsyncGridFile, FileOptions(bucket="photos", max_size=4)]] = []


class PhotoOnly(BaseModel):
    photo: AsyncGridFile


# Finding


async def test_documents_are_found_by_a_file_and_by_an_id(database: Database) -> None:
    one = await Animal(name="one", photo=b"1", album=[b"a"], home=Home.model_validate({"door": b"door"})).insert()
    await Animal(name="two", photo=b"2").insert()
    home: Any = one.home
    for query in (
        Animal.photo == one.photo,
        Animal.photo == one.photo.id,
        {"photo": one.photo},
        In(Animal.photo, [one.photo]),
        Animal.album == one.album[0],
        {"album": one.album},
        {"home.door": home.door},
    ):
        assert [animal.name for animal in await Animal.find(query).to_list()] == ["one"], query
    assert await Animal.find(Animal.sound == None).count() == 2  # noqa: E711  # Beanie's way of asking
    badged = await Badged(badge=b"data").insert()
    assert await Badged.find_one({"badge._id": badged.badge.id}) == badged


async def test_projections_have_the_file(database: Database) -> None:
    await Animal(photo=b"data").insert()
    projected = await Animal.find_one().project(PhotoOnly)
    assert projected is not None
    assert projected.photo.id == (await found()).photo.id
    with gridproxy.using(database):
        assert await projected.photo.read() == b"data"


async def test_a_lazily_parsed_document_has_its_files_in_its_database(database: Database) -> None:
    await Animal(name="lazy", photo=b"photo", sound=b"sound", album=[b"a"]).insert()
    await Badged(badge=b"data").insert()
    (animal,) = await Animal.find(lazy_parse=True).to_list()
    assert [await animal.sound.read(), await animal.photo.read()] == [b"sound", b"photo"]
    assert animal.sound.options.max_size == 100
    assert (animal.name, animal.perhaps) == ("lazy", None)
    await animal.photo.replace(b"new")
    await animal.save()
    assert await (await found()).photo.read() == b"new"
    (badged,) = await Badged.find(lazy_parse=True).to_list()
    assert badged.badge.length == 4


async def test_subclasses_are_found_with_their_own_fields(database: Database) -> None:
    await Marmot(photo=b"photo", whistle=b"whistle").insert()
    await Beast(photo=b"beast").insert()
    beasts = await Beast.find_all(with_children=True).to_list()
    marmot = next(beast for beast in beasts if isinstance(beast, Marmot))
    assert len(beasts) == 2
    assert await marmot.whistle.read() == b"whistle"
    await marmot.delete()
    assert await contents(database, "sounds") == (0, 0)
    assert await contents(database) == (2, 2)


async def test_links_lead_to_documents_with_files_of_their_own(database: Database) -> None:
    animal: Any = Animal(photo=b"linked")
    keeper = Keeper(badge=b"badge", animals=[animal], favourite=animal)
    await keeper.insert(link_rule=WriteRules.WRITE)
    fetched: Any = await Keeper.find_one()
    await fetched.fetch_all_links()  # `fetch_links=True` asks for a $lookup that the embedded server answers wrongly
    linked: Any = fetched.animals[0]
    assert await linked.photo.read() == b"linked"
    await linked.photo.replace(b"new")
    await fetched.save()
    assert await (await found()).photo.read() == b"linked"  # the keeper's save is not the animal's
    await linked.save()
    assert await (await found()).photo.read() == b"new"
    again: Any = await Keeper.find_one()
    await again.fetch_all_links()
    assert await again.favourite.photo.read() == b"new"
    await again.delete(link_rule=DeleteRules.DELETE_LINKS)
    assert await Animal.find_one() is None
    assert await contents(database) == (1, 1)  # the animal's photo is kept, the keeper's badge is not


async def test_options_hold_for_defaults_too(database: Database) -> None:
    animal = Animal()
    with pytest.raises(TooLarge):
        await animal.sound.put(b"x" * 101)
    await animal.sound.put(b"sound")
    assert await contents(database, "sounds") == (1, 1)


# The database of the files


async def test_files_are_in_the_database_of_the_document(database: Database) -> None:
    other = database.client[f"{database.name}_other"]
    with gridproxy.using(other):
        animal = Animal(photo=b"data")
        animal.album.append(AsyncGridFile())
        await animal.insert()
        await animal.album[0].put(b"one")
        await animal.save()
    assert await contents(database) == (2, 2)
    assert await (await found()).album[0].read() == b"one"


async def test_a_file_of_another_database_is_refused(database: Database) -> None:
    other = database.client[f"{database.name}_other"]
    with gridproxy.using(other):
        foreign = AsyncGridFile()
        await foreign.put(b"data")
        with pytest.raises(ValidationError, match=r"photo\n.* put its content here"):
            Animal(photo=foreign)
        animal = await Animal().insert()
        with pytest.raises(gridproxy.ValidationError, match=r"photo: .* put its content here"):
            animal.photo = foreign
        animal.album.append(foreign)
        with pytest.raises(gridproxy.ValidationError, match=r"album: .* put its content here"):
            await animal.save()
    await database.client.drop_database(other)


async def test_a_database_in_the_options_is_used_first(database: Database) -> None:
    await init_beanie(database, document_models=[Archived])
    archive = database.client[f"{database.name}_archive"]
    with gridproxy.using(archive, alias="archive"):
        document = await Archived(photo=b"archived", scan=b"here").insert()
        assert await contents(archive) == (1, 1)
        assert await contents(database) == (1, 1)
        assert await (await found(Archived)).photo.read() == b"archived"
        document.photo = b"again"  # it becomes a file
        await document.save()
        assert await contents(archive) == (1, 1)
    await database.client.drop_database(archive)


async def test_a_class_initialised_with_another_database_uses_it(database: Database) -> None:
    await Animal(photo=b"one").insert()
    other = database.client[f"{database.name}_other"]
    await beanie_of(other)
    await Animal(photo=b"other").insert()
    assert await contents(other) == (1, 1)
    await database.client.drop_database(other)


async def test_an_uninitialised_class_raises_with_the_call_to_make() -> None:
    with pytest.raises(NotInitialised, match=r"document_models=\[NeverInitialised\]\)` first") as caught:
        NeverInitialised()
    for kind in (NotConnected, GridProxyError, CollectionWasNotInitialized):
        assert isinstance(caught.value, kind)


# Copying


async def test_copies_have_files_of_their_own(database: Database) -> None:
    animal = await Animal(photo=b"old", sound=b"sound").insert()
    for copied in (
        animal.model_copy(),
        copy.copy(animal),
        animal.model_copy(deep=True),
        pickle.loads(pickle.dumps(animal)),
    ):
        assert copied.photo is not animal.photo
        assert copied.photo == animal.photo
        assert copied.sound.options == animal.sound.options
        await copied.photo.replace(b"of the copy")
        assert await AsyncGridFile(animal.photo.id, bucket=Bucket(database)).read() == b"old"
        await copied.photo.revert()
    assert await contents(database) == (1, 1)


async def test_copies_during_a_write_have_the_old_file(database: Database) -> None:
    animal = await Animal(photo=b"old").insert()
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"new")
        copies = [animal.model_copy(), copy.deepcopy(animal)]
    assert [await copied.photo.read() for copied in copies] == [b"old", b"old"]
    assert await animal.photo.read() == b"new"


async def test_a_file_is_dumped_as_its_id(database: Database) -> None:
    animal = await Animal(photo=b"data").insert()
    assert animal.model_dump()["photo"] == animal.photo.id
    assert Animal.model_validate_json(animal.model_dump_json()).photo == animal.photo
    assert Animal.model_validate(animal) is animal


# Assigning


async def test_a_value_that_is_not_a_file_is_refused_with_the_field(database: Database) -> None:
    animal = await Animal(photo=b"data").insert()
    photo = animal.photo
    values: list[tuple[Any, str]] = [
        (7, "photo: int cannot be read as bytes"),
        ("no id", "photo: 'no id' is not a file's id"),
        ({"no": "id"}, "photo: a snapshot of a file"),
    ]
    for value, message in values:
        with pytest.raises(gridproxy.ValidationError, match=message):
            animal.photo = value
    for name, value in (("album", [7]), ("perhaps", 7)):
        with pytest.raises(ValidationError, match="1 validation error"):
            setattr(animal, name, value)
    assert animal.photo is photo


async def test_files_of_an_assigned_list_of_ids_are_not_removed(database: Database) -> None:
    somebodys = await Animal(photo=b"somebody's").insert()
    document = await Soft(attached=b"mine").insert()
    document.attached = somebodys.photo.id  # it becomes a file
    await document.hard_delete()
    animal = await Animal(album=[b"a"]).insert()
    animal.album = [somebodys.photo.id, animal.album[0]]  # they become files
    assert await animal.album[0].read() == b"somebody's"
    await animal.save()
    assert await Animal.find(Animal.album == somebodys.photo).count() == 1


# Deleting


async def test_a_soft_delete_removes_no_file_and_a_hard_one_does(database: Database) -> None:
    document = await Soft(attached=b"data").insert()
    await document.delete()
    assert await Soft.find_one() is None
    assert await contents(database) == (1, 1)
    again = (await Soft.find_many_in_all().to_list())[0]
    assert await again.attached.read() == b"data"
    fresh = await Soft(attached=b"fresh").insert()
    await fresh.hard_delete()
    assert not fresh.attached
    assert await contents(database) == (1, 1)


async def test_deletes_of_many_documents_remove_no_file(database: Database) -> None:
    await Keeper(badge=b"data").insert()
    await Keeper.delete_all()
    keeper = await Keeper(badge=b"data").insert()
    await Keeper.find(Keeper.id == keeper.id).delete()
    keeper = await Keeper(badge=b"data").insert()
    async with BulkWriter() as writer:
        await keeper.delete(bulk_writer=writer)
    assert await Keeper.count() == 0
    soft = await Soft(attached=b"data").insert()
    async with BulkWriter() as writer:
        await soft.hard_delete(bulk_writer=writer)
    assert await contents(database) == (4, 4)


async def test_delete_returns_the_result_of_beanie(database: Database) -> None:
    keeper = await Keeper(badge=b"data").insert()
    result = await keeper.delete()
    assert result is not None
    assert result.deleted_count == 1
    assert not keeper.badge
    again = await keeper.delete()
    assert again is not None
    assert again.deleted_count == 0


async def test_options_inside_the_type_of_a_field_apply(database: Database) -> None:
    await init_beanie(database, document_models=[Perhaps])
    document = await Perhaps(photo=b"data", album=[b"1", b"2"]).insert()
    assert await contents(database, "photos") == (3, 3)
    assert await contents(database) == (0, 0)
    document.photo = b"12345"
    with pytest.raises(TooLarge):
        await document.save()
    document = await found(Perhaps)
    assert await document.photo.read() == b"data"
    document.album.append(b"12345")
    with pytest.raises(TooLarge):
        await document.save()
