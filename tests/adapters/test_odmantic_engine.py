"""AsyncEngine: ODMantic's engine on pymongo's native client, with and without files."""

from __future__ import annotations

import gc
from typing import Any, cast

import pytest
from bson import ObjectId
from odmantic import Model
from odmantic.exceptions import DocumentNotFoundError, DuplicateKeyError
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, OperationFailure

import gridproxy
from gridproxy import AsyncGridFile, BadId, BadOption, BadSource, NotConnected, UploadInProgress, ValidationError
from gridproxy.adapters.odmantic import AsyncEngine, AsyncSession, AsyncTransaction, FileModel

from ..observing import Database, answer_lost, contents
from .odm_zoo import Animal, Deleting, Keeper, again


class Plain(Model):
    name: str
    size: int = 0


@pytest.fixture
def engine(database: Database) -> AsyncEngine:
    """Make an engine on the database of the test, without `connect`."""
    return AsyncEngine(database.client, database.name)


# What ODMantic's own engine does


async def test_models_without_files_are_saved_found_counted_and_deleted(engine: AsyncEngine) -> None:
    by_size: Any = Plain.size  # of a class it is a FieldProxy
    plain = [Plain(name=name, size=size) for size, name in enumerate("abc")]
    assert await engine.save_all(plain) == plain
    assert await engine.save(plain[0]) is plain[0]
    assert [each.name for each in await engine.find(Plain, sort=by_size.desc(), skip=1, limit=1)] == ["b"]
    cursor = engine.find(Plain, by_size > 0)
    assert [each.name async for each in cursor] == ["b", "c"]
    assert [each.name async for each in cursor] == ["b", "c"]
    assert [each.name for each in await cursor] == ["b", "c"]
    assert await engine.count(Plain) == 3
    await engine.delete(plain[0])
    with pytest.raises(DocumentNotFoundError):
        await engine.delete(plain[0])
    assert await engine.remove(Plain, by_size > 0, just_one=True) == 1
    assert await engine.remove(Plain, {"name": {"$in": ["b", "c"]}}) == 1
    assert await engine.find_one(Plain) is None
    assert engine.client is engine.database.client
    assert isinstance(engine.client, AsyncMongoClient)


async def test_an_unread_cursor_sends_nothing_and_warns_of_nothing(engine: AsyncEngine) -> None:
    engine.find(Plain)
    gc.collect()


async def test_a_cursor_that_is_left_early_is_closed(engine: AsyncEngine) -> None:
    await engine.save_all([Plain(name=str(each)) for each in range(3)])
    async for plain in engine.find(Plain):
        assert plain.name == "0"
        break
    assert len(await engine.find(Plain)) == 3


async def test_indexes_are_made_and_their_violation_is_odmantics_error(engine: AsyncEngine) -> None:
    await engine.configure_database([Keeper])
    await engine.configure_database([Keeper], update_existing_indexes=True)
    await engine.save(Keeper(name="Ada"))
    keeper = Keeper(name="Ada", portrait=b"a face")
    with pytest.raises(DuplicateKeyError):
        await engine.save(keeper)
    keeper.name = "Bob"
    await engine.save(keeper)
    assert await keeper.portrait.read() == b"a face"


async def test_sessions(engine: AsyncEngine) -> None:
    async with engine.session() as session:
        assert isinstance(session, AsyncSession)
        animal = await session.save(Animal(photo=b"photo"))
        assert await session.find_one(Animal, Animal.id == animal.id) is not None
        assert await session.count(Animal) == 1
        with pytest.raises(RuntimeError, match="already started"):
            await session.start()
        async with session.transaction() as transaction:
            await transaction.save_all([Animal(), Animal()])
        await session.delete(animal)
        assert await session.remove(Animal) == 2
    assert not session.is_started


async def test_transactions_commit_and_abort_and_end_their_session(engine: AsyncEngine, database: Database) -> None:
    await database.create_collection("plain")
    async with engine.transaction() as transaction:
        assert isinstance(transaction, AsyncTransaction)
        await transaction.save(Plain(name="committed"))
        with pytest.raises(RuntimeError, match="already started"):
            await transaction.start()
    assert not transaction.session.is_started
    with pytest.raises(OSError, match="aborted"):
        async with engine.transaction() as transaction:
            await transaction.save(Plain(name="aborted"))
            raise OSError("aborted")
    assert not transaction.session.is_started
    async with engine.transaction() as transaction:
        await transaction.save(Plain(name="by hand"))
        await transaction.commit()
    async with engine.transaction() as transaction:
        await transaction.save(Plain(name="taken back"))
        await transaction.abort()
    assert {plain.name for plain in await engine.find(Plain)} == {"committed", "by hand"}


async def test_a_file_replaced_in_a_transaction_follows_its_outcome(engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    async with engine.transaction() as transaction:
        found = await transaction.find_one(Animal, Animal.id == animal.id)
        assert found is not None
        found.photo = b"new"
        await transaction.save(found)
        assert await (await again(engine, animal)).photo.read() == b"old"
        await transaction.abort()
    found = await again(engine, animal)
    assert await found.photo.read() == b"old"
    async with engine.transaction() as transaction:
        await found.photo.replace(b"new", session=cast(Any, transaction.get_driver_session()))
        await transaction.save(found)
    assert await (await again(engine, animal)).photo.read() == b"new"
    assert await animal.photo.read() == b"old"  # a foreign transaction leaves it to the collector


async def test_our_transaction_removes_the_old_file_or_restores_it(engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    old = animal.photo.id
    with pytest.raises(OSError, match="taken back"):
        async with gridproxy.transaction(database.client) as tx:
            await animal.photo.replace(b"new", session=tx.session)
            animal.album = [b"one"]
            await engine.save(animal, session=tx.session)
            raise OSError("taken back")
    assert animal.photo.id == old
    assert await (await again(engine, animal)).photo.read() == b"old"
    animal = await again(engine, animal)
    async with gridproxy.transaction(database.client) as tx:
        await animal.photo.replace(b"new", session=tx.session)
        await engine.save(animal, session=tx.session)
        await engine.delete(await engine.save(Deleting(photo=b"gone"), session=tx.session), session=tx.session)
    assert await (await again(engine, animal)).photo.read() == b"new"
    assert await contents(database) == (1, 1)


# Files


async def test_delete_removes_files_after_the_document_and_only_then(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await engine.save(Deleting(photo=b"photo"))
    await engine.remove(Deleting)
    with pytest.raises(DocumentNotFoundError):
        await engine.delete(document)
    assert await document.photo.read() == b"photo"
    document = await engine.save(Deleting(photo=b"photo"))

    async def fail(*args: object, **options: object) -> None:
        raise OperationFailure("not today")

    with monkeypatch.context() as patched:
        patched.setattr(AsyncCollection, "find_one_and_delete", fail)
        with pytest.raises(OperationFailure):
            await engine.delete(document)
    assert await document.photo.read() == b"photo"


async def test_remove_keeps_the_files(engine: AsyncEngine, database: Database) -> None:
    await engine.save(Deleting(photo=b"photo"))
    assert await engine.remove(Deleting) == 1
    assert await contents(database) == (1, 1)


async def test_after_a_save_with_a_lost_answer_both_files_are_kept(
    engine: AsyncEngine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    await animal.photo.replace(b"new")
    with answer_lost(monkeypatch, "update_one"), pytest.raises(AutoReconnect):
        await engine.save(animal)
    assert animal.__fields_modified__ == {"photo"}
    assert await contents(database) == (2, 2)
    await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"new"
    assert await contents(database) == (1, 1)


async def test_a_document_whose_file_is_being_written_is_neither_saved_nor_deleted(engine: AsyncEngine) -> None:
    animal = await engine.save(Animal(photo=b"old"))
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"new")
        for call in (engine.save, engine.delete):
            with pytest.raises(UploadInProgress, match="photo: this file is being written"):
                await call(animal)
    await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"new"


async def test_a_file_in_two_documents_is_never_removed_automatically(engine: AsyncEngine) -> None:
    one = await engine.save(Deleting(photo=b"shared"))
    two = await engine.save(Deleting(photo=one.photo))
    assert two.photo is one.photo
    shared = AsyncGridFile(one.photo.id, bucket=one.photo.options.bucket)
    await engine.delete(one)
    await two.photo.replace(b"new")
    await engine.save(two)
    assert await shared.read() == b"shared"


# Bad input


async def test_an_engine_works_on_pymongos_async_client_alone(mongodb_uri: str, database: Database) -> None:
    with MongoClient[Any](mongodb_uri) as client, pytest.raises(BadOption, match=r"not on pymongo\..*MongoClient"):
        AsyncEngine(client)
    with pytest.raises(BadOption, match="not on NoneType"):
        AsyncEngine(None)
    with pytest.raises(ValueError, match="database name cannot contain"):
        AsyncEngine(database.client, "a/b")


def test_the_mixin_must_be_before_the_model() -> None:
    with pytest.raises(BadOption, match=r"Turned: write FileModel before Model, class Turned\(FileModel, Model\)"):

        class Turned(Model, FileModel):  # type: ignore[misc]  # that is what is tested
            photo: AsyncGridFile

    with pytest.raises(BadOption, match="Alone: write FileModel before Model"):

        class Alone(FileModel):
            photo: AsyncGridFile


@pytest.mark.parametrize("given", [7, "no id", {"$ne": None}, {"filename": "no id"}, {"_id": {"$gt": ""}}, object()])
def test_a_value_that_is_not_a_file_is_refused_with_the_field(given: Any) -> None:
    with pytest.raises(ValueError, match="photo"):
        Animal(photo=given)
    with pytest.raises(ValueError, match="album"):
        Animal(album=[given])
    animal = Animal()
    photo = animal.photo
    for field in ("photo", "badge"):
        with pytest.raises(ValidationError, match=field):
            setattr(animal, field, given)
    assert animal.photo is photo
    assert not photo


async def test_a_file_of_another_bucket_or_database_is_refused(
    engine: AsyncEngine, database: Database, client: AsyncMongoClient[Any]
) -> None:
    animal = await engine.save(Animal())
    with gridproxy.using(database):
        other = AsyncGridFile(bucket="other")
        await other.put(b"elsewhere")
        with pytest.raises(ValidationError, match=r"photo: .*is in bucket 'other'"):
            animal.photo = other
    assert not animal.photo
    elsewhere = client[f"{database.name}_elsewhere"]
    fresh = Animal()
    with gridproxy.using(elsewhere):
        await fresh.photo.put(b"elsewhere")
        with pytest.raises(BadId, match=r"Animal\.photo: .* is in .*, and its document belongs to"):
            await engine.save(fresh)
        assert await fresh.photo.read() == b"elsewhere"
    assert await engine.count(Animal) == 1
    await client.drop_database(elsewhere)


async def test_only_assigned_content_needs_no_connection(engine: AsyncEngine) -> None:
    animal = Animal()
    with pytest.raises(NotConnected, match=r"gridproxy\.connect.*before that assign the content"):
        await animal.photo.put(b"photo")
    animal.photo = b"photo"
    await engine.save(animal)
    assert await animal.photo.read() == b"photo"


async def test_an_id_that_could_not_be_loaded_again_is_not_saved(engine: AsyncEngine, database: Database) -> None:
    animal = await engine.save(Animal())
    await animal.photo.put(b"photo", id="marmot.jpg")
    with pytest.raises(BadId, match=r"Animal\.photo: the id of a model's file must be an ObjectId: 'marmot\.jpg'"):
        await engine.save(animal)
    assert (await again(engine, animal)).photo.id is None
    await animal.photo.revert()
    await engine.save(animal)


async def test_content_of_a_model_without_the_mixin_is_not_stored(engine: AsyncEngine) -> None:
    class Unmixed(Model):
        photo: AsyncGridFile

    with pytest.raises(ValueError, match=r"content was assigned to this field and is not stored yet.*FileModel"):
        await engine.save(Unmixed(photo=b"content"))
    with pytest.raises(NotConnected, match="FileModel"):
        await Unmixed(photo=None).photo.put(b"content")
    assert await engine.count(Unmixed) == 0


async def test_an_object_that_is_not_a_document_is_not_saved(engine: AsyncEngine) -> None:
    for thing in (None, 7, Animal):
        with pytest.raises(TypeError, match="AsyncEngine saves documents"):
            await engine.save(thing)  # type: ignore[type-var]  # that is what is tested
    with pytest.raises(TypeError):
        await engine.find_one(AsyncGridFile)  # type: ignore[type-var]  # that is what is tested


async def test_content_that_can_be_read_once_is_not_stored_in_part(engine: AsyncEngine) -> None:
    def once() -> Any:
        yield b"half"
        raise OSError("unplugged")

    animal = await engine.save(Animal(photo=b"old"))
    animal.photo = once()
    with pytest.raises(OSError, match="unplugged"):
        await engine.save(animal)
    with pytest.raises(BadSource, match="assign it again"):
        await engine.save(animal)
    animal.photo = animal.photo.id
    await engine.save(animal)
    assert await (await again(engine, animal)).photo.read() == b"old"


async def test_a_missing_reference_raises_the_error_of_odmantic(engine: AsyncEngine, database: Database) -> None:
    from odmantic.exceptions import DocumentParsingError

    from .odm_zoo import Ward

    await database["ward"].insert_one({"keeper": ObjectId()})
    with pytest.raises(DocumentParsingError, match="keeper"):
        await engine.find_one(Ward)
