"""The quickstart with pydantic's models and pymongo alone: no ODM.

    pip install 'gridproxy-mongo[pydantic,examples]'
    python examples/pydantic_pymongo.py

Uses the server that MONGODB_URI names, else an embedded one for this run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Annotated, Any

from bson import ObjectId
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, FileOptions
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri


class Animal(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)  # for ObjectId

    id: ObjectId = Field(default_factory=ObjectId, alias="_id")
    genus: str
    family: str
    # It needs no default: without a value the field holds an empty file with the options of the field.
    photo: Annotated[AsyncGridFile, FileOptions(max_size=10_000_000)]


class Zoo:
    """The part of an ODM: a model has no save of its own, so its writer finalizes its files."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection

    async def save(self, animal: Animal) -> None:
        await self.collection.replace_one({"_id": animal.id}, animal.model_dump(by_alias=True), upsert=True)
        await animal.photo.finalize()  # removes replaced files after the document is written

    async def marmot(self) -> Animal:
        return Animal.model_validate(await self.collection.find_one({"genus": "Marmota"}))


async def quickstart(zoo: Zoo, folder: Path) -> None:
    animal = Animal.model_validate({"genus": "Marmota", "family": "Sciuridae"})
    with open(folder / "marmot.jpg", "rb") as marmot_photo:
        await animal.photo.put(marmot_photo, content_type="image/jpeg")
    await zoo.save(animal)
    print(f"put and saved: {animal.photo!r}")

    animal = await zoo.marmot()
    photo = await animal.photo.read()
    print(f"read again: {len(photo)} bytes of {animal.photo.metadata['content_type']}")

    await animal.photo.delete()
    await animal.photo.new_file()
    await animal.photo.write("some_image_data")
    await animal.photo.write("some_more_image_data")
    await animal.photo.close()
    await zoo.save(animal)
    print(f"written bit by bit: {await (await zoo.marmot()).photo.read()!r}")

    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"some-data")
    await zoo.save(animal)
    print(f"and in a block: {await (await zoo.marmot()).photo.read()!r}")

    animal = await zoo.marmot()
    old = AsyncGridFile(animal.photo.id)
    with open(folder / "another_marmot.png", "rb") as another_marmot:
        await animal.photo.replace(another_marmot, content_type="image/png")
    print(f"replaced; before the save the old file is there: {await old.exists()}")
    await zoo.save(animal)
    print(f"after the save: {await old.exists()}")

    await animal.photo.replace(b"a mistake")
    await animal.photo.revert()
    print(f"replaced and reverted: {animal.photo.content_type}")
    print(f"as an API would send it: {animal.model_dump_json(include={'genus', 'photo'})}")


async def run(uri: str) -> None:
    async with AsyncMongoClient[Any](uri) as client:
        database = client[f"gridproxy_pydantic_{uuid.uuid4().hex[:8]}"]
        try:
            with tempfile.TemporaryDirectory() as name, gridproxy.using(database):
                folder = Path(name)
                Image.new("RGB", (640, 480), "#8a6642").save(folder / "marmot.jpg")
                Image.new("RGB", (640, 480), "#b08d57").save(folder / "another_marmot.png")
                await quickstart(Zoo(database["animals"]), folder)
                known = [info.id async for info in gridproxy.Bucket(database).find()]
                orphans = await database.fs.chunks.count_documents({"files_id": {"$nin": known}})
                print(f"files left: {len(known)}, of one document; chunks, of them without a file: {orphans}")
        finally:
            await client.drop_database(database)


def main() -> None:
    try:
        with server_uri() as (uri, label):
            print(f"server: {label}")
            asyncio.run(run(uri))
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server to run on: {error}")
    print("All of the quickstart ran. Its code: examples/pydantic_pymongo.py")


if __name__ == "__main__":
    main()
