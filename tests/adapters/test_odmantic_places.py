"""FileModel: where its files lie, and ODMantic's own engine beside a bucket."""

# Without lazy annotations: the classes here name what lies in a test.

from typing import Annotated, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from odmantic import AIOEngine, Model

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileOptions
from gridproxy.adapters.odmantic import AsyncEngine, FileModel

from ..observing import Database, contents


@pytest.fixture
def engine(database: Database) -> AsyncEngine:
    """An engine on the test's own database; nothing is connected."""
    return AsyncEngine(database.client, database.name)


async def test_a_file_lies_where_its_options_say_then_with_its_document(
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
