"""The quickstart with ODMantic, on pymongo's native client.

    pip install 'gridproxy-mongo[embedded,odmantic]'
    python examples/odmantic_zoo.py

Uses the server that MONGODB_URI names, else an embedded one for this run.
"""

from __future__ import annotations

import asyncio
import io
import sys
import uuid
from typing import Annotated, Any

from odmantic import EmbeddedModel, Model
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, FileOptions
from gridproxy.adapters.odmantic import AsyncEngine, FileModel
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri


class Cage(FileModel, EmbeddedModel):
    number: int
    plan: AsyncGridFile


class Animal(FileModel, Model):
    genus: str
    family: str = ""
    photo: Annotated[AsyncGridFile, FileOptions(on_delete="delete")]
    sounds: list[AsyncGridFile] = []  # noqa: RUF012  # pydantic copies it for each document
    cage: Cage


def animal(**values: Any) -> Animal:
    """Make an animal. Its file fields take bytes, paths, open files and ids, which their annotation cannot say."""
    return Animal(**{"cage": Cage(number=1, plan=AsyncGridFile()), **values})


async def quickstart(engine: AsyncEngine) -> None:
    marmot = animal(genus="Marmota", family="Sciuridae")
    marmot_photo = io.BytesIO(b"\xff\xd8 a marmot on its meadow")
    await marmot.photo.put(marmot_photo, content_type="image/jpeg")
    await engine.save(marmot)
    print(f"saved: the document holds {marmot.photo.id}")

    found = await engine.find_one(Animal, Animal.genus == "Marmota")
    assert found is not None
    photo = await found.photo.read()
    print(f"found: {len(photo)} bytes of {found.photo.metadata['content_type']}")

    await found.cage.plan.new_file()
    await found.cage.plan.write("some_plan_data")
    await found.cage.plan.write("some_more_plan_data")
    await found.cage.plan.close()
    async with found.photo.new_file(replace=True):
        found.photo.write(b"some-data")
    await engine.save(found)
    print(f"written bit by bit: {await found.photo.read()!r}, and in the cage {await found.cage.plan.read()!r}")

    await found.photo.delete()
    await found.photo.put(b"another marmot", content_type="image/png")
    await engine.save(found)
    await found.photo.replace(b"yet another marmot", content_type="image/png")
    print(f"replaced, not saved: others still see {await seen_by_others(engine, found)!r}")
    await engine.save(found)
    print(f"replaced and saved: others see {await seen_by_others(engine, found)!r}")


async def seen_by_others(engine: AsyncEngine, document: Animal) -> bytes:
    found = await engine.find_one(Animal, Animal.id == document.id)
    assert found is not None
    return await found.photo.read()


async def what_odmantic_adds(engine: AsyncEngine) -> None:
    pika = animal(genus="Ochotona", photo=b"a pika", sounds=[b"peep", b"peep peep"])
    await engine.save(pika)
    print(f"assigned content was stored by the save: {[await sound.read() for sound in pika.sounds]}")

    one, other = [await engine.find_one(Animal, Animal.genus == "Ochotona") for _ in range(2)]
    assert one is not None
    assert other is not None
    await one.photo.replace(b"a new photo")
    await engine.save(one)
    other.family = "Ochotonidae"
    await engine.save(other)
    print(f"a stale copy that changed something else left the new photo: {await seen_by_others(engine, pika)!r}")

    async with engine.transaction() as transaction:
        other.genus = "never"
        await transaction.save(other)
        await transaction.abort()
    await engine.delete(one)
    print(f"deleted, its photo too: {not await one.photo.exists()}")


async def left(database: Any) -> None:
    files = [info.id async for info in gridproxy.Bucket(database).find()]
    chunks = database["fs.chunks"]
    orphans = await chunks.count_documents({"files_id": {"$nin": files}})
    print(f"left in the bucket: {await chunks.count_documents({})} chunks, of them without a file: {orphans}")


async def run(uri: str) -> None:
    async with AsyncMongoClient[Any](uri) as client:
        name = f"gridproxy_odmantic_{uuid.uuid4().hex[:8]}"
        engine = AsyncEngine(client, name)
        await engine.configure_database([Animal])
        gridproxy.connect(client[name])  # for documents that no engine has seen yet
        try:
            await quickstart(engine)
            await what_odmantic_adds(engine)
            await left(client[name])
        finally:
            gridproxy.disconnect()
            await client.drop_database(name)


def main() -> None:
    try:
        with server_uri() as (uri, label):
            print(f"server: {label}")
            asyncio.run(run(uri))
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server to run on: {error}")
    print("All of the quickstart ran. Its code: examples/odmantic_zoo.py")


if __name__ == "__main__":
    main()
