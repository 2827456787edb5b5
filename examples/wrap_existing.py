"""The quickstart with ids that a model holds already: a dataclass, and a pydantic model that keeps hex strings.

    pip install 'gridproxy-mongo[embedded,pydantic]'
    python examples/wrap_existing.py

Uses the server that MONGODB_URI names, else an embedded one for this run.
"""

from __future__ import annotations

import asyncio
import io
import sys
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from bson import ObjectId
from pydantic import BaseModel
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import wrap_field
from gridproxy.embedded import EmbeddedServerUnavailable, server_uri


@dataclass
class Animal:
    genus: str
    family: str = ""
    photo_id: ObjectId | None = None
    photo = wrap_field("photo_id")


class User(BaseModel):
    name: str
    avatar_id: str | None = None
    avatar = wrap_field("avatar_id", bucket="avatars", max_size=1024 * 1024)


async def quickstart(animals: Any) -> None:
    marmot = Animal(genus="Marmota", family="Sciuridae")
    marmot_photo = io.BytesIO(b"\xff\xd8 a marmot on its meadow")
    await marmot.photo.put(marmot_photo, content_type="image/jpeg")
    await animals.insert_one(asdict(marmot))
    print(f"stored: {asdict(marmot)}")

    marmot = await found(animals)
    photo = await marmot.photo.read()
    print(f"found: {len(photo)} bytes of {marmot.photo.metadata['content_type']}")

    async with marmot.photo.new_file(replace=True):
        marmot.photo.write("some_image_data")
        marmot.photo.write("some_more_image_data")
    print(f"written bit by bit: {await marmot.photo.read()!r}")
    await marmot.photo.revert()
    print(f"reverted: {await marmot.photo.read()!r}")

    await marmot.photo.replace(b"another marmot", content_type="image/png")
    old = (await found(animals)).photo
    print(f"replaced: the document that others see still has {await old.read()!r}")
    await animals.update_one({"genus": "Marmota"}, {"$set": {"photo_id": marmot.photo_id}})
    await marmot.photo.finalize()
    print(f"updated and finalized: is the old file there? {await old.exists()}")

    await marmot.photo.delete()
    await animals.update_one({"genus": "Marmota"}, {"$set": {"photo_id": marmot.photo_id}})
    print(f"deleted: {marmot}")


async def found(animals: Any) -> Animal:
    return Animal(**await animals.find_one({"genus": "Marmota"}, {"_id": False}))


async def hex_strings() -> None:
    user = User(name="Ada")
    before = User.model_json_schema()
    await user.avatar.put(b"a face", filename="ada.png")
    print(f"a hex string stays one: {user.model_dump_json()}")
    again = User.model_validate_json(user.model_dump_json())
    print(f"and finds the file again: {await again.avatar.read()!r}, {again.avatar.filename}")
    print(f"the schema is what it was: {User.model_json_schema() == before}, {list(User.model_fields)}")


async def left(database: Any) -> None:
    files = [info.id async for info in gridproxy.Bucket(database, "avatars").find()]
    chunks = database["avatars.chunks"]
    orphans = await chunks.count_documents({"files_id": {"$nin": files}})
    print(f"left in the bucket: {await chunks.count_documents({})} chunks, of them without a file: {orphans}")


async def run(uri: str) -> None:
    async with AsyncMongoClient[Any](uri) as client:
        database = client[f"gridproxy_wrap_{uuid.uuid4().hex[:8]}"]
        try:
            with gridproxy.using(database):
                await quickstart(database["animals"])
                await hex_strings()
                await left(database)
        finally:
            await client.drop_database(database)


def main() -> None:
    try:
        with server_uri() as (uri, label):
            print(f"server: {label}")
            asyncio.run(run(uri))
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server to run on: {error}")
    print("All of the quickstart ran. Its code: examples/wrap_existing.py")


if __name__ == "__main__":
    main()
