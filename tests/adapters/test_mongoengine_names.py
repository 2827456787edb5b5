"""Names and defaults of MongoEngine: `meta`, collections, the bucket of pictures, and names of a file."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from bson import ObjectId
from PIL import Image

import gridproxy
from gridproxy import AsyncGridFile, BadOption, Bucket, FileMissing
from gridproxy.adapters.document import Document, FileField, ImageField, StringField

from ..observing import Database

pytestmark = pytest.mark.usefixtures("connected")


def picture() -> bytes:
    Image.new("RGB", (30, 20)).save(encoded := BytesIO(), "PNG")
    return encoded.getvalue()


async def ids(bucket: Bucket) -> set[object]:
    return {info.id async for info in bucket.find()}


class Animal(Document):
    meta = {"collection": "all_animals"}
    name = StringField()
    portrait = ImageField(thumbnail_size=(10, 10))
    scan = FileField(collection_name="scans")
    drawing = ImageField(collection_name="drawings")


async def test_meta_names_the_collection(database: Database) -> None:
    await Animal(name="marmot").save()
    stored = await database["all_animals"].find_one({})
    assert stored is not None
    assert stored["name"] == "marmot"


async def test_meta_names_the_database(database: Database) -> None:
    other = database.client[f"{database.name}_other"]
    gridproxy.connect(other, alias="other")
    try:

        class Elsewhere(Document):
            meta = {"db_alias": "other"}
            photo = FileField()

        saved = await Elsewhere(photo=b"a photo").save()
        assert await other["elsewhere"].count_documents({}) == 1
        assert await ids(Bucket(other)) == {saved.photo.id}
    finally:
        gridproxy.disconnect("other")
        await database.client.drop_database(other)


@pytest.mark.parametrize(
    ("meta", "keywords", "message"),
    [
        ({"indexes": ["name"]}, {}, "not 'indexes'"),
        ({"abstract": True}, {}, "not 'abstract'"),
        ({"allow_inheritance": "yes"}, {}, "is a bool, not 'yes'"),
        ({"allow_inheritance": True}, {"allow_inheritance": True}, "Give one of the two"),
        ({}, {"collection": ""}, "is a str, not ''"),
        ({"collection": 7}, {}, "is a str, not 7"),
        ({"collection": ""}, {}, "is a str, not ''"),
        ({"collection": "a"}, {"collection": "b"}, "Give one of the two"),
    ],
)
async def test_other_keys_of_meta_are_refused_by_name(
    meta: dict[str, Any], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=f"Refused: .*{message}"):
        type("Refused", (Document,), {"meta": meta}, **keywords)


async def test_a_field_may_be_called_meta() -> None:
    class Page(Document):
        meta = StringField()

    assert Page(meta="viewport").meta == "viewport"


@pytest.mark.parametrize(
    ("name", "collection"),
    [
        ("PDFReport", "p_d_f_report"),
        ("Animal", "animal"),
        ("BlogPost", "blog_post"),
        ("A", "a"),
        ("_Private", "private"),
    ],
)
async def test_a_collection_is_called_as_in_mongoengine(database: Database, name: str, collection: str) -> None:
    await type(name, (Document,), {"name": StringField()})(name="a").save()
    assert await database[collection].count_documents({}) == 1


async def test_pictures_are_in_the_bucket_of_mongoengine(database: Database) -> None:
    animal = await Animal(portrait=picture(), scan=b"a scan", drawing=picture()).save()
    assert await ids(Bucket(database, "images")) == {animal.portrait.id, animal.portrait.thumbnail.id}
    assert await ids(Bucket(database, "scans")) == {animal.scan.id}
    assert await ids(Bucket(database, "drawings")) == {animal.drawing.id}
    assert await ids(Bucket(database)) == set()
    with pytest.raises(FileMissing, match=f"bucket 'images' of the database '{database.name}'"):
        await Animal(portrait=ObjectId()).portrait.read()


async def test_a_field_has_one_bucket() -> None:
    with pytest.raises(BadOption, match="give one of the two"):
        FileField(bucket="a", collection_name="b")
    assert ImageField(bucket="a").options.bucket == "a"


async def test_a_file_has_the_names_of_mongoengine(database: Database) -> None:
    animal = await Animal(portrait=picture(), scan=b"a scan").save()
    animal = await Animal.objects.get()
    assert animal.scan.grid_id == animal.scan.id
    assert await animal.scan.get() is animal.scan
    assert animal.scan.length == 6
    assert animal.scan.size is None
    portrait = await animal.portrait.get()
    assert portrait is not None
    assert portrait.size == (30, 20)
    assert await animal.drawing.get() is None
    with pytest.raises(FileMissing):
        await AsyncGridFile(ObjectId(), bucket=Bucket(database)).get()
