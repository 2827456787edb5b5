"""FileModel: which changes of its files an ODMantic model notices, stores and keeps apart."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Optional

import pytest
from bson import ObjectId
from odmantic import Field, Model, Reference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect

from gridproxy import AsyncGridFile, Bucket, InfoNotLoaded
from gridproxy.adapters.odmantic import AsyncEngine, FileModel

from ..observing import Database, answer_lost, contents, observed
from .odm_zoo import Animal, Bare, Cage, Deleting, Feeder, Feeding, Keeper, Ward, Zoo, again


@pytest.fixture
def engine(database: Database) -> AsyncEngine:
    """Make an engine on the database of the test, without `connect`."""
    return AsyncEngine(database.client, database.name)


def modified(document: Any) -> set[str]:
    return set(document.__fields_modified__)


# What is modified


def test_file_fields_are_not_mutable_fields() -> None:
    assert not Animal.__mutable_fields__ & {"photo", "badge", "album", "cage", "cages"}


async def test_a_file_that_changed_marks_its_field(engine: AsyncEngine) -> None:
    animal = await engine.save(Animal(photo=b"one", album=[b"a"], cage=Cage(photo=b"b"), cages=[Cage()]))
    assert modified(animal) == set()
    animal = await again(engine, animal)
    assert modified(animal) == set()
    await animal.photo.replace(b"two")
    assert modified(animal) == {"photo"}
    await animal.photo.revert()
    animal.album[0] = AsyncGridFile()
    assert modified(await engine.save(animal)) == set()
    animal.cage.number = 7
    assert modified(animal) == {"cage"}
    animal.cages[0].photo = b"c"
    assert modified(animal) == {"cage", "cages"}
    await engine.save(animal)
    assert modified(animal) == set()
    found = await again(engine, animal)
    assert await found.photo.read() == b"one"
    assert not found.album[0]
    assert (found.cage.number, await found.cages[0].photo.read()) == (7, b"c")


async def test_a_restored_field_is_not_modified_unless_a_save_may_have_written_it(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await again(engine, await engine.save(Animal(photo=b"old", cage=Cage(number=1))))
    await animal.photo.replace(b"new")
    animal.cage.number = 2
    assert modified(animal) == {"photo", "cage"}
    await animal.photo.revert()
    animal.cage.number = 1
    assert modified(animal) == set()
    await animal.photo.replace(b"new")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"new"
    await animal.photo.revert()
    assert modified(animal) == {"photo"}
    await engine.save(animal)
    assert modified(animal) == set()
    assert await (await again(engine, animal)).photo.read() == b"old"


async def test_a_save_writes_what_changed_and_nothing_else(mongodb_uri: str, database: Database) -> None:
    async with observed(mongodb_uri, database.name) as (other, commands):
        engine = AsyncEngine(other.client, database.name)
        animal = await again(engine, await engine.save(Animal(photo=b"one", album=[b"a"])))
        commands.clear()
        await engine.save(animal)
        assert commands.seen == []
        animal.album.append(animal.photo)
        await engine.save(animal)
        updates = [each["u"] for command in commands.of("update") for each in command["updates"]]
        assert updates == [{"$set": {"album": [animal.album[0].id, animal.photo.id]}}]


async def test_a_snapshot_that_became_stale_is_written_by_the_next_save(engine: AsyncEngine) -> None:
    animal = await engine.save(Animal(badge=b"badge"))
    await AsyncGridFile(animal.badge.id, bucket=Bucket(engine._default_database.database)).rename("renamed.png")
    animal = await again(engine, animal)
    assert animal.badge.filename is None
    await animal.badge.stat()
    assert modified(animal) == {"badge"}
    await engine.save(animal)
    assert (await again(engine, animal)).badge.filename == "renamed.png"


@pytest.mark.parametrize("place", ["photo", "album", "cage", "cages"])
async def test_a_stale_copy_does_not_restore_the_old_file(place: str, engine: AsyncEngine) -> None:
    def file_in(animal: Animal) -> AsyncGridFile:
        found = {"photo": animal.photo, "album": animal.album, "cage": animal.cage, "cages": animal.cages}[place]
        first: Any = found[0] if isinstance(found, list) else found
        return first if isinstance(first, AsyncGridFile) else first.photo

    animal = Animal(photo=b"old", album=[b"old"], cage=Cage(photo=b"old"), cages=[Cage(photo=b"old")])
    await engine.save(animal)
    one, two = await again(engine, animal), await again(engine, animal)
    await file_in(one).replace(b"new")
    await engine.save(one)
    two.genus = "Marmota"
    await engine.save(two)
    found = await again(engine, animal)
    assert found.genus == "Marmota"
    assert await file_in(found).read() == b"new"


async def test_a_file_that_is_replaced_during_a_save_is_saved_by_the_next(
    engine: AsyncEngine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await engine.save(Animal(photo=b"first"))
    await animal.photo.replace(b"second")
    update_one = AsyncCollection.update_one

    async def slowly(*args: Any, **options: Any) -> Any:
        result = await update_one(*args, **options)
        await animal.photo.replace(b"third")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(AsyncCollection, "update_one", slowly)
        await engine.save(animal)
    assert modified(animal) == {"photo"}
    assert await (await again(engine, animal)).photo.read() == b"second"
    await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"third"
    assert await contents(database) == (1, 1)


async def test_after_two_writers_check_finds_the_file_of_the_first(engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    one, two = await again(engine, animal), await again(engine, animal)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await engine.save(one)
    await engine.save(two)
    assert await (await again(engine, animal)).photo.read() == b"two"
    assert await contents(database) == (2, 2)
    one.genus = "Marmota"
    await engine.save(one)
    assert await (await again(engine, animal)).photo.read() == b"two"


# Lists, dicts, embedded models


async def test_content_put_into_a_container_is_stored(engine: AsyncEngine) -> None:
    class Book(FileModel, Model):
        pages: list[AsyncGridFile] = []
        by_name: dict[str, AsyncGridFile] = {}

    book = Book()
    pages = book.pages
    items: Any = pages
    items.append(b"one")
    names: Any = book.by_name
    names["cover"] = b"cover"
    await engine.save(book)
    assert book.pages is pages
    found = await engine.find_one(Book)
    assert found is not None
    assert [await page.read() for page in found.pages] == [b"one"]
    assert await found.by_name["cover"].read() == b"cover"
    found.by_name["cover"] = AsyncGridFile()
    await engine.save(found)
    assert [bool(file) for file in book.by_name.values()] == [True]
    again = await engine.find_one(Book)
    assert again is not None
    assert not again.by_name["cover"]


async def test_a_file_in_an_embedded_model_is_replaced_like_any_other(engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal(cage=Cage(photo=b"old"), cages=[Cage(photo=b"old"), Cage(photo=b"kept")]))
    files = [animal.cage.photo, *(cage.photo for cage in animal.cages)]
    animal.cage.photo = b"new"
    await animal.cages[0].photo.replace(b"new")
    assert await contents(database) == (4, 4)
    await engine.save(animal)
    assert await contents(database) == (3, 3)
    assert [animal.cage.photo, *(cage.photo for cage in animal.cages)] == files
    assert animal.cage.photo is files[0]
    found = await again(engine, animal)
    assert [await cage.photo.read() for cage in found.cages] == [b"new", b"kept"]
    found.cage = Cage(number=3)
    assert not found.cage.photo
    await engine.save(found)
    assert await contents(database) == (3, 3)


async def test_a_plain_embedded_model_is_read_and_stored(engine: AsyncEngine) -> None:
    zoo = await engine.save(Zoo(bare=Bare(photo=b"photo")))
    found = await engine.find_one(Zoo)
    assert found is not None
    assert await found.bare.photo.read() == b"photo"
    await found.bare.photo.replace(b"new")
    await engine.save(found)
    assert not await zoo.bare.photo.exists()


# References


async def test_a_document_that_is_referred_to_is_saved_with_its_own_files(
    engine: AsyncEngine, database: Database
) -> None:
    ward = await engine.save(Ward(keeper=Keeper(name="Ada", portrait=b"a face"), plan=b"a plan"))
    found = await engine.find_one(Ward)
    assert found is not None
    assert await found.keeper.portrait.read() == b"a face"
    await found.keeper.portrait.replace(b"another")
    assert modified(found) == set()
    await engine.save(found)
    assert await contents(database) == (2, 2)
    keeper = await engine.find_one(Keeper)
    assert keeper is not None
    assert await keeper.portrait.read() == b"another"
    # This one was stored before that, and does not know of it.
    ward.plan = b"another plan"
    await engine.save(ward)
    assert await (await engine.find(Keeper))[0].portrait.exists()


async def test_a_found_document_does_not_write_the_files_of_its_references(engine: AsyncEngine) -> None:
    await engine.save(Ward(keeper=Keeper(name="Ada", portrait=b"old")))
    ward = await engine.find_one(Ward)
    keeper = await engine.find_one(Keeper)
    assert ward is not None
    assert keeper is not None
    await keeper.portrait.replace(b"new")
    await engine.save(keeper)
    await engine.save(ward)
    assert await (await engine.find(Keeper))[0].portrait.read() == b"new"


async def test_a_document_may_refer_to_one_without_files(engine: AsyncEngine) -> None:
    await engine.save(Feeding(feeder=Feeder(name="Ada"), plan=b"a plan"))
    found = await engine.find_one(Feeding)
    assert found is not None
    assert (found.feeder.name, await found.plan.read()) == ("Ada", b"a plan")
    assert found.model_dump_doc() == {"_id": found.id, "feeder": found.feeder.id, "plan": found.plan.id}
    assert modified(found) == set()


# Documents that were there before


async def test_a_document_without_its_file_fields_loads_with_empty_ones(engine: AsyncEngine) -> None:
    class Old(FileModel, Model):
        photo: AsyncGridFile
        maybe: Optional[AsyncGridFile]  # noqa: UP045  # ODMantic 1.0 knows no `X | None`
        album: list[AsyncGridFile]
        by_name: dict[str, AsyncGridFile]
        made: AsyncGridFile = Field(default_factory=AsyncGridFile)
        cage: Cage
        cages: list[Cage]
        named: dict[str, Cage]
        keeper: Keeper = Reference()

    await engine._default_database.database["keeper"].insert_one({"_id": (keeper := ObjectId())})
    await engine._default_database.database["old"].insert_one(
        {"keeper": keeper, "cage": {}, "cages": [{"number": 1}], "named": {"a": {}}}
    )
    old = await engine.find_one(Old)
    assert old is not None
    files = [old.photo, old.made, old.cage.photo, old.cages[0].photo, old.named["a"].photo, old.keeper.portrait]
    assert [bool(file) for file in files] == [False] * 6
    assert (old.maybe, old.album, old.by_name) == (None, [], {})
    old.maybe = b"photo"
    await engine.save(old)
    again = await engine.find_one(Old)
    assert again is not None
    assert again.maybe is not None
    assert await again.maybe.read() == b"photo"
    again.maybe = None
    await engine.save(again)
    assert (await engine.find(Old))[0].maybe is None


async def test_an_invalid_document_is_refused_as_by_odmantic(engine: AsyncEngine) -> None:
    from odmantic.exceptions import DocumentParsingError

    for broken in ({"cages": [7]}, {"cages": "no list"}, {"photo": 7}, {"photo": {"filename": "no id"}}):
        await engine._default_database.database["animal"].insert_one(broken)
        with pytest.raises((DocumentParsingError, AttributeError)):  # ODMantic asks a 7 for its keys
            await engine.find_one(Animal)
        await engine._default_database.database["animal"].delete_many({})


# Copies


@pytest.mark.usefixtures("connected")  # a pickled document has no engine
async def test_copies_have_their_own_files_and_the_modified_fields(engine: AsyncEngine) -> None:
    animal = await again(engine, await engine.save(Animal(photo=b"old", album=[b"a"], cage=Cage(photo=b"b"))))
    copies = [copy.copy(animal), copy.deepcopy(animal), pickle.loads(pickle.dumps(animal))]
    for each in copies:
        assert modified(each) == set()
        assert each.photo is not animal.photo
        await each.photo.replace(b"new")
        assert modified(each) == {"photo"}
        assert await animal.photo.read_range(0, None) == b"old"
        await each.photo.revert()
    deep = copies[1]
    assert deep.album[0] is not animal.album[0]
    assert deep.cage.photo is not animal.cage.photo


@pytest.mark.parametrize("deep", [False, True])
async def test_a_model_copy_is_another_document(deep: bool, engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"new")
        other = animal.model_copy(update={"id": ObjectId()}, deep=deep)
        assert other.photo.closed
        assert await other.photo.read() == b"old"
    await engine.save(other)
    await animal.photo.revert()
    assert await engine.count(Animal) == 2
    assert await (await again(engine, other)).photo.read() == b"old"
    assert await contents(database) == (1, 1)


async def test_a_model_update_keeps_the_files_that_it_does_not_name(engine: AsyncEngine) -> None:
    animal = await engine.save(Animal(photo=b"photo", badge=b"badge", album=[b"a"]))
    photo, badge, album = animal.photo, animal.badge, animal.album
    animal.model_update({"genus": "Marmota"})
    assert modified(animal) == {"genus"}
    assert animal.photo is photo
    assert animal.badge is badge
    assert animal.album is album
    animal.model_update({"photo": badge.id, "album": [photo.id]})
    assert modified(animal) == {"genus", "photo", "album"}
    await engine.save(animal)
    found = await again(engine, animal)
    assert (found.genus, found.photo.id, [file.id for file in found.album]) == ("Marmota", badge.id, [photo.id])
    assert await photo.read() == b"photo"
    other = Animal(genus="Pika")
    other.model_update(found, include={"photo"})
    assert (other.genus, other.photo.id) == ("Pika", badge.id)


# The database of the files


@pytest.mark.usefixtures("connected")
async def test_a_new_document_puts_its_files_into_the_ambient_database(engine: AsyncEngine) -> None:
    animal = Animal()
    await animal.photo.put(b"photo")
    await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"photo"


# Beside everything else


def test_the_schema_is_that_of_any_pydantic_model() -> None:
    schema = Keeper.model_json_schema()
    assert {each["type"] for each in schema["properties"]["portrait"]["anyOf"]} == {"string", "null"}
    assert Keeper(name="Ada").model_dump(exclude={"id"}) == {"name": "Ada", "portrait": None}
    assert '"portrait":null' in Keeper(name="Ada").model_dump_json()


async def test_queries_by_file_and_by_id(engine: AsyncEngine) -> None:
    animal = await engine.save(Animal(photo=b"photo"))
    await engine.save(Animal(photo=b"another"))
    for value in (animal.photo.id, animal.photo):
        asked: Any = Animal.photo == value
        assert [found.id for found in await engine.find(Animal, asked)] == [animal.id]
        assert await engine.count(Animal, asked) == 1
        assert await engine.find_one(Animal, {"photo": {"$in": [value]}}) is not None
    asked = Animal.photo == AsyncGridFile()
    assert await engine.remove(Animal, asked) == 0
    assert await engine.remove(Animal, Animal.photo == animal.photo) == 1


async def test_the_record_of_a_found_file_is_loaded_when_it_is_asked_for(engine: AsyncEngine) -> None:
    animal = await again(engine, await engine.save(Animal(photo=b"photo")))
    with pytest.raises(InfoNotLoaded):
        _ = animal.photo.length
    assert (await animal.photo.stat()).length == 5


async def test_deleting_a_model_deletes_its_files(engine: AsyncEngine, database: Database) -> None:
    document = await engine.save(Deleting(photo=b"a", kept=b"b", album=[b"c", b"d"]))
    await engine.delete((await engine.find(Deleting))[0])
    assert await contents(database) == (1, 1)
    assert await document.kept.read() == b"b"
