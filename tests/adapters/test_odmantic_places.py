"""FileModel: the database of its files, and ODMantic's own engine beside a bucket."""

# Without lazy annotations: the classes here name objects of a test.

from typing import Annotated, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from odmantic import AIOEngine, Model

import gridproxy
from gridproxy import AsyncGridFile, BadId, Bucket, FileOptions, TooLarge
from gridproxy.adapters.odmantic import AsyncEngine, FileModel

from ..observing import Database, contents


@pytest.fixture
def engine(database: Database) -> AsyncEngine:
    """Make an engine on the database of the test, without `connect`."""
    return AsyncEngine(database.client, database.name)


async def test_the_database_of_a_file_is_that_of_its_options_then_of_its_document(
    engine: AsyncEngine, database: Database, client: Any
) -> None:
    class Placed(FileModel, Model):
        mine: AsyncGridFile
        named: Annotated[AsyncGridFile, FileOptions(bucket="named")]
        aliased: Annotated[AsyncGridFile, FileOptions(db_alias="elsewhere")]
        given: Annotated[AsyncGridFile, FileOptions(bucket=Bucket(database, "given"))]

    elsewhere, ambient = client[f"{database.name}_elsewhere"], client[f"{database.name}_ambient"]
    with gridproxy.using(ambient), gridproxy.using(elsewhere, "elsewhere"):
        placed = await engine.save(Placed(mine=b"a", named=b"b", aliased=b"c", given=b"d"))
        found = await engine.find_one(Placed)
        assert found is not None
        for document in (placed, found):
            files = [document.mine, document.named, document.aliased, document.given]
            assert [await file.read() for file in files] == [b"a", b"b", b"c", b"d"]
    assert await contents(ambient) == (0, 0)
    assert await contents(elsewhere) == (1, 1)
    for bucket in ("fs", "named", "given"):
        assert await contents(database, bucket) == (1, 1)
    await client.drop_database(elsewhere)


async def test_a_file_given_to_a_constructor_stays_in_its_database(
    engine: AsyncEngine, database: Database, client: Any
) -> None:
    class Made(FileModel, Model):
        photo: AsyncGridFile
        album: list[AsyncGridFile] = []
        limited: Annotated[AsyncGridFile, FileOptions(bucket="named", max_size=1)]

    elsewhere = client[f"{database.name}_elsewhere"]
    files = [AsyncGridFile(bucket=Bucket(elsewhere, name)) for name in ("fs", "fs", "named")]
    for file in files:
        await file.put(b"1")
    with gridproxy.using(database):
        made = Made(photo=files[0], album=[files[1]], limited=files[2])
        assert [await file.read() for file in (made.photo, *made.album, made.limited)] == [b"1"] * 3
        with pytest.raises(TooLarge):
            await made.limited.replace(b"12")
        with pytest.raises(BadId, match=r"Made\.photo: .* is in .*, and its document belongs to"):
            await engine.save(made)
        assert await engine.count(Made) == 0
        assert await AsyncEngine(client, elsewhere.name).save(made) is made
        empty = Made(photo=AsyncGridFile(bucket=Bucket(elsewhere)), limited=None)
        await empty.photo.put(b"2")
        await engine.save(empty)
    assert await contents(database) == (1, 1)
    await client.drop_database(elsewhere)


@pytest.mark.usefixtures("connected")
async def test_odmantics_own_engine_on_motor_works_beside_a_bucket(mongodb_uri: str, database: Database) -> None:
    class Owned(FileModel, Model):
        photo: Annotated[AsyncGridFile, FileOptions(bucket=Bucket(database, "owned"))]
        genus: str = ""

    motor: AsyncIOMotorClient[Any] = AsyncIOMotorClient(mongodb_uri)
    engine = AIOEngine(motor, database.name)
    try:
        owned = Owned()
        await owned.photo.put(b"old")
        await engine.save(owned)
        one, two = await engine.find_one(Owned), await engine.find_one(Owned)
        assert one is not None
        assert two is not None
        await one.photo.replace(b"new")
        assert one.__fields_modified__ == {"photo"}
        await engine.save(one)
        assert one.__fields_modified__ == set()
        assert await contents(database, "owned") == (2, 2)
        await one.photo.finalize()
        assert await contents(database, "owned") == (1, 1)
        two.genus = "Marmota"
        await engine.save(two)
        found = await engine.find_one(Owned)
        assert found is not None
        assert (found.genus, await found.photo.read()) == ("Marmota", b"new")
        found.photo = b"content"
        with pytest.raises(gridproxy.BadSource, match=r"Owned\.photo: content .*ODMantic's own engine cannot"):
            await engine.save(found)
    finally:
        motor.close()
