"""The quickstart with Beanie's documents.

    pip install 'gridproxy-mongo[beanie,examples]'
    python examples/beanie_zoo.py

Uses the server that MONGODB_URI names, else an embedded one for this run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Annotated, Any

from beanie import Document, init_beanie
from PIL import Image
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile, Bucket, FileOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri


class Animal(FileDocument, Document):
    genus: str
    family: str
    photo: AsyncGridFile = AsyncGridFile()
    # In its own bucket. It is deleted with the document, which stores its metadata, too.
    poster: Annotated[AsyncGridFile, FileOptions(bucket="posters", store="snapshot", on_delete="delete")] = (
        AsyncGridFile()
    )
    album: list[AsyncGridFile] = []  # noqa: RUF012  # pydantic copies the default for each document


async def marmot() -> Animal:
    """Find the marmot, as another process would."""
    found = await Animal.find_one(Animal.genus == "Marmota")
    assert found is not None
    return found


async def quickstart(folder: Path, database: Any) -> None:
    animal = Animal(genus="Marmota", family="Sciuridae")
    with open(folder / "marmot.jpg", "rb") as marmot_photo:
        await animal.photo.put(marmot_photo, content_type="image/jpeg")
    await animal.insert()
    print(f"put and inserted: {animal.photo!r}")

    animal = await marmot()
    photo = await animal.photo.read()
    print(f"read again: {len(photo)} bytes of {animal.photo.metadata['content_type']}")

    await animal.photo.delete()
    await animal.photo.new_file()
    await animal.photo.write("some_image_data")
    await animal.photo.write("some_more_image_data")
    await animal.photo.close()
    await animal.save()
    print(f"written bit by bit: {await (await marmot()).photo.read()!r}")

    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"some-data")
    await animal.save()
    print(f"and in a block: {await (await marmot()).photo.read()!r}")

    old = AsyncGridFile(animal.photo.id, bucket=Bucket(database))
    with open(folder / "another_marmot.png", "rb") as another_marmot:
        await animal.photo.replace(another_marmot, content_type="image/png")
    print(f"replaced; before save() the old file is there: {await old.exists()}")
    await animal.save()
    print(f"after save(): {await old.exists()}")


async def more_of_it(folder: Path, database: Any) -> None:
    animal = await marmot()
    animal.poster = folder / "marmot.jpg"  # type: ignore[assignment]  # save() stores it as a file
    animal.album = [b"one", b"two"]  # type: ignore[list-item]  # save() stores these, too
    await animal.save()
    again = await marmot()
    print(f"assigned and saved: {again.poster.filename}, {again.poster.length} bytes, known without asking the server")
    print(f"an album: {[await each.read() for each in again.album]}")
    found = await Animal.find(Animal.album == again.album[1]).count()
    print(f"documents with this file in their album: {found}")
    await again.delete()
    left = [f"{name}: {await database[name].count_documents({})}" for name in ("Animal", "posters.files", "fs.files")]
    known = [info.id async for info in Bucket(database).find()]
    orphans = await database.fs.chunks.count_documents({"files_id": {"$nin": known}})
    print(f"deleted, the poster with it; what is left: {', '.join(left)}; chunks, of them without a file: {orphans}")


async def run(uri: str) -> None:
    async with AsyncMongoClient[Any](uri) as client:
        database = client[f"gridproxy_zoo_{uuid.uuid4().hex[:8]}"]
        try:
            await init_beanie(database, document_models=[Animal])
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                Image.new("RGB", (640, 480), "#8a6642").save(folder / "marmot.jpg")
                Image.new("RGB", (640, 480), "#b08d57").save(folder / "another_marmot.png")
                await quickstart(folder, database)
                await more_of_it(folder, database)
        finally:
            await client.drop_database(database)


def main() -> None:
    try:
        with server_uri() as (uri, label):
            print(f"server: {label}")
            asyncio.run(run(uri))
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server to run on: {error}")
    print("All of the quickstart ran. Its code: examples/beanie_zoo.py")


if __name__ == "__main__":
    main()
