"""Documents and files that MongoEngine wrote, and those that it reads from us: hierarchies, pictures, failures."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import deepcopy
from io import BytesIO
from typing import Any

import mongoengine as me
import pytest
from beanie import Document as BeanieDocument
from beanie import init_beanie
from bson import ObjectId
from PIL import Image
from pydantic import BaseModel, Field

import gridproxy
from gridproxy import AsyncGridFile, BadOption, Bucket, FileAlreadyStored, FileMissing, ValidationError
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.document import DictField, Document, FileField, ImageField, IntField, ListField, StringField

from ..observing import Database, contents, orphans

pytestmark = pytest.mark.usefixtures("connected", "both")


def picture(color: str = "brown") -> bytes:
    Image.new("RGB", (60, 40), color).save(encoded := BytesIO(), "PNG")
    return encoded.getvalue()


class Theirs:
    """The classes of MongoEngine. They have the names that ours have."""

    class Creature(me.Document):
        meta = {"allow_inheritance": True}
        name = me.StringField()
        photo = me.ImageField(size=(30, 30), thumbnail_size=(10, 10))
        scan = me.FileField()
        album = me.ListField(me.FileField())

    class Rodent(Creature):
        teeth = me.IntField()

    class Marmot(Rodent):
        burrow = me.StringField()

    class Bird(Creature):
        pass

    class Part(me.EmbeddedDocument):
        meta = {"allow_inheritance": True}
        file = me.FileField()

    class Wing(Part):
        span = me.IntField()

    class Body(me.Document):
        part = me.EmbeddedDocumentField("Part")


class Creature(Document):
    meta = {"allow_inheritance": True}
    name = StringField()
    photo = ImageField(size=(30, 30), thumbnail_size=(10, 10), on_delete="delete")
    scan = FileField()
    album = ListField(FileField())


class Rodent(Creature):
    teeth = IntField()


class Marmot(Rodent):
    burrow = StringField()


@pytest.fixture
def both(mongodb_uri: str, database: Database) -> Iterator[None]:
    """Connect MongoEngine to the database of the test."""
    me.connect(database.name, host=mongodb_uri, uuidRepresentation="standard")
    try:
        yield
    finally:
        me.disconnect_all()
        for kind in (Theirs.Creature, Theirs.Rodent, Theirs.Marmot, Theirs.Bird, Theirs.Body):
            kind._collection = None  # it keeps the collection of the database that it saw first


# Hierarchies


async def test_documents_of_a_hierarchy_are_found_as_their_classes() -> None:
    Theirs.Creature(name="any").save()
    Theirs.Rodent(name="vole", teeth=16).save()
    Theirs.Marmot(name="marmot", teeth=22, burrow="deep").save()

    found = {animal.name: animal async for animal in Creature.objects}
    assert {name: type(animal) for name, animal in found.items()} == {"any": Creature, "vole": Rodent, "marmot": Marmot}
    marmot: Any = found["marmot"]
    assert (marmot.teeth, marmot.burrow) == (22, "deep")
    assert [animal.name async for animal in Rodent.objects.order_by("name")] == ["marmot", "vole"]
    assert [animal.name async for animal in Marmot.objects] == ["marmot"]
    assert await Rodent.objects(name="any").first() is None
    assert await Rodent.objects({"$or": [{"name": "any"}, {"name": "vole"}]}).count() == 1


async def test_mongoengine_finds_our_documents_as_their_classes(database: Database) -> None:
    await Creature(name="any").save()
    await Rodent(name="vole", teeth=16).save()
    await Marmot(name="marmot", teeth=22, burrow="deep").save()

    found = {animal.name: animal for animal in Theirs.Creature.objects}
    kinds = {name: type(animal) for name, animal in found.items()}
    assert kinds == {"any": Theirs.Creature, "vole": Theirs.Rodent, "marmot": Theirs.Marmot}
    assert (found["marmot"].teeth, found["marmot"].burrow) == (22, "deep")
    assert [animal.name for animal in Theirs.Marmot.objects] == ["marmot"]
    names = await database["creature"].distinct("_cls")
    assert names == ["Creature", "Creature.Rodent", "Creature.Rodent.Marmot"]


async def test_a_document_keeps_its_class_through_saves_of_both() -> None:
    Theirs.Marmot(name="marmot", teeth=22).save()
    ours: Any = await Creature.objects.get()
    ours.name, ours.burrow, ours.scan = "groundhog", "deep", b"a footprint"
    await ours.save()

    theirs = Theirs.Rodent.objects.get()
    assert type(theirs) is Theirs.Marmot
    assert (theirs.name, theirs.teeth, theirs.burrow) == ("groundhog", 22, "deep")
    assert theirs.scan.read() == b"a footprint"
    theirs.name = "marmot"
    theirs.scan.replace(b"another footprint")
    theirs.save()

    await ours.reload()
    assert (type(ours), ours.name, await ours.scan.read()) == (Marmot, "marmot", b"another footprint")


async def test_a_query_of_a_subclass_deletes_only_its_own() -> None:
    for kind in (Theirs.Creature, Theirs.Rodent, Theirs.Marmot, Theirs.Bird):
        kind(name=kind.__name__).save()
    assert await Rodent.objects.delete() == 2
    assert sorted(animal.name for animal in Theirs.Creature.objects) == ["Bird", "Creature"]


async def test_a_subclass_that_was_not_imported_is_not_found_and_not_read_as_another_class(database: Database) -> None:
    Theirs.Bird(name="bird").save()
    assert await Creature.objects.count() == 0
    raw = await database["creature"].find_one({})
    assert raw is not None
    with pytest.raises(
        ValidationError, match=r"_cls: 'Creature\.Bird' is not Creature or a subclass .*Creature\.Rodent"
    ):
        Creature.from_raw(raw)
    with pytest.raises(ValidationError, match=r"'Creature' is not Marmot"):
        Marmot.from_raw({**raw, "_cls": "Creature"})


async def test_a_subclass_that_is_declared_later_is_found(database: Database) -> None:
    Theirs.Bird(name="bird").save()

    class Zoo(Document, collection="creature", allow_inheritance=True):
        name = StringField()

    await database["creature"].insert_one({"_cls": "Zoo.Ape", "name": "ape"})
    assert await Zoo.objects.count() == 0

    class Ape(Zoo):
        pass

    assert type(await Zoo.objects.get()) is Ape


async def test_a_class_without_inheritance_keeps_the_class_of_a_document(database: Database) -> None:
    class Plain(Document, collection="creature"):
        name = StringField()
        scan = FileField()

    Theirs.Rodent(name="vole").save()
    vole = await Plain.objects.get()
    vole.name, vole.scan = "mouse", b"a footprint"
    await vole.save()
    assert (Theirs.Rodent.objects.get().name, Theirs.Rodent.objects.get().scan.read()) == ("mouse", b"a footprint")
    await Plain(name="new").save()
    assert await database["creature"].count_documents({"_cls": {"$exists": False}}) == 1


async def test_copies_and_pickles_keep_the_class() -> None:
    marmot = await Marmot(name="marmot", scan=b"a footprint").save()
    for copy in (deepcopy(marmot), pickle.loads(pickle.dumps(marmot))):
        assert type(copy) is Marmot
        assert copy == marmot
        copy.name = "copy"
        await copy.save()
    assert [animal.name for animal in Theirs.Marmot.objects] == ["copy"]


async def test_a_save_that_was_rolled_back_stores_the_class_again(database: Database) -> None:
    marmot = Marmot(name="marmot")
    with pytest.raises(RuntimeError):
        async with gridproxy.transaction(database.client) as tx:
            await marmot.save(session=tx.session)
            raise RuntimeError("changed my mind")
    await marmot.save()
    assert type(Theirs.Creature.objects.get()) is Theirs.Marmot


async def test_a_subclass_without_inheritance_has_a_collection_of_its_own(database: Database) -> None:
    class Base(Document):  # what MongoEngine calls abstract
        name = StringField()

    class First(Base, allow_inheritance=True):
        pass

    class Second(First):
        pass

    class Third(Base):
        pass

    for kind in (First, Second, Third):
        await kind(name="a").save()
    assert sorted([raw["_cls"] async for raw in database["first"].find()]) == ["First", "First.Second"]
    assert "_cls" not in (await database["third"].find_one({}) or {"_cls": "missing"})


@pytest.mark.parametrize(
    ("bases", "keywords", "message"),
    [
        ((Creature,), {"collection": "a"}, "cannot have collection of its own"),
        ((Creature,), {"collection": "a", "db_alias": "b"}, "cannot have collection and db_alias of its own"),
        ((Creature,), {"allow_inheritance": False}, "cannot have allow_inheritance=False of its own"),
        ((Marmot, type("Other", (Document,), {}, allow_inheritance=True)), {}, "cannot inherit from Marmot and Other"),
    ],
)
async def test_a_class_has_one_place_in_one_collection(
    bases: tuple[type, ...], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=f"Refused: .*{message}"):
        type("Refused", bases, {}, **keywords)
    assert "Creature.Refused" not in repr(Creature.objects)


class InBeanie:
    """The same in Beanie."""

    class Creature(FileDocument, BeanieDocument):
        name: str | None = None
        scan: AsyncGridFile = AsyncGridFile()

        class Settings:
            name = "creature"
            is_root = True
            class_id = "_cls"

    class Rodent(Creature):
        teeth: int | None = None

    class Wing(BaseModel):
        kind: str = Field("Wing", alias="_cls")
        file: AsyncGridFile = AsyncGridFile()
        span: int

    class Body(FileDocument, BeanieDocument):
        part: InBeanie.Wing

        class Settings:
            name = "body"


async def test_beanie_shares_a_hierarchy_with_both(database: Database) -> None:
    await init_beanie(database=database, document_models=[InBeanie.Creature, InBeanie.Rodent])
    theirs = Theirs.Rodent(teeth=16)
    theirs.scan.put(b"a footprint")
    theirs.save()
    beanies = await InBeanie.Creature.find(with_children=True).to_list()
    assert [type(each) for each in beanies] == [InBeanie.Rodent]
    assert await beanies[0].scan.read() == b"a footprint"
    await beanies[0].scan.replace(b"another footprint")
    await beanies[0].save()
    await InBeanie.Rodent(name="vole").insert()
    assert [each.scan.read() for each in Theirs.Rodent.objects.order_by("-name")] == [None, b"another footprint"]
    assert await Rodent.objects.count() == 2


async def test_beanie_keeps_the_class_of_an_embedded_document(database: Database) -> None:
    await init_beanie(database=database, document_models=[InBeanie.Body])
    wing = Theirs.Wing(span=3)
    wing.file.put(b"a feather")
    Theirs.Body(part=wing).save()
    body = await InBeanie.Body.find_one()
    assert body is not None
    await body.part.file.replace(b"two feathers")
    await body.save()
    part = Theirs.Body.objects.get().part
    assert (type(part), part.span, part.file.read()) == (Theirs.Wing, 3, b"two feathers")


@pytest.mark.parametrize(
    "name", ["PDFReport", "Animal", "BlogPost", "A", "_Private", "A_B", "HTTPServer2", "ÖkoZoo", "MeinÖkoZoo", "ǅungla"]
)
async def test_a_collection_has_the_name_that_mongoengine_gives_it(name: str) -> None:
    ours: Any = type(name, (Document,), {"name": StringField()})
    theirs: Any = type(name, (me.Document,), {})
    assert ours.document_schema.collection().name == theirs._get_collection_name()


# Files


async def test_custom_keys_are_in_extra_of_their_files_and_in_metadata_of_ours() -> None:
    theirs = Theirs.Creature()
    theirs.scan.put(b"a", filename="a.txt", content_type="text/plain", photographer="Ada")
    theirs.save()
    ours = await Creature.objects.get()
    await ours.scan.stat()
    assert (ours.scan.filename, ours.scan.content_type) == ("a.txt", "text/plain")
    assert ours.scan.info is not None
    assert ours.scan.info.extra["photographer"] == "Ada"
    await ours.scan.replace(b"b", content_type="text/plain", photographer="Ada")
    await ours.save()
    assert ours.scan.metadata["photographer"] == "Ada"
    assert Theirs.Creature.objects.get().scan.metadata["photographer"] == "Ada"


@pytest.mark.parametrize("way", ["replace", "delete the file", "delete the document"])
async def test_a_picture_of_mongoengine_goes_with_its_thumbnail(way: str, database: Database) -> None:
    theirs = Theirs.Creature()
    theirs.photo.put(BytesIO(picture()))
    theirs.save()
    ours = await Creature.objects.get()
    thumbnail = await ours.photo.get()
    assert thumbnail is not None
    assert (ours.photo.size, ours.photo.format) == ((30, 20), "PNG")
    assert Image.open(BytesIO(await ours.photo.thumbnail.read())).size == (10, 7)
    if way == "replace":
        await ours.photo.replace(picture("green"))
        await ours.save()
    elif way == "delete the file":
        await ours.photo.delete()
    else:
        await ours.delete()
    assert await contents(database, "images") == ((2, 2) if way == "replace" else (0, 0))


async def test_mongoengine_reads_our_pictures_but_not_what_metadata_hold(database: Database) -> None:
    await Creature(photo=picture()).save()
    theirs = Theirs.Creature.objects.get()
    assert Image.open(BytesIO(theirs.photo.read())).size == (30, 20)
    for name in ("size", "thumbnail", "delete"):
        with pytest.raises(AttributeError):
            getattr(theirs.photo, name)()
    assert await contents(database, "images") == (2, 2)


async def test_a_list_of_files_is_read_and_changed_by_both() -> None:
    theirs = Theirs.Creature()
    for content in (b"first", b"second"):
        file = me.fields.GridFSProxy()
        file.put(content)
        theirs.album.append(file)
    theirs.save()
    ours = await Creature.objects.get()
    assert [await file.read() for file in ours.album] == [b"first", b"second"]
    ours.album[0] = b"changed"
    ours.album.append(b"third")
    await ours.save()
    assert [file.read() for file in Theirs.Creature.objects.get().album] == [b"changed", b"second", b"third"]


async def test_a_dict_field_keeps_an_embedded_document_with_its_class(database: Database) -> None:
    class Body(Document):
        part = DictField()

    wing = Theirs.Wing(span=3)
    wing.file.put(b"a feather")
    Theirs.Body(part=wing).save()
    body = await Body.objects.get()
    assert await Bucket(database).file(body.part["file"]).read() == b"a feather"
    body.part["file"] = (await Bucket(database).upload(b"two feathers")).id
    await body.save()
    part = Theirs.Body.objects.get().part
    assert (type(part), part.span, part.file.read()) == (Theirs.Wing, 3, b"two feathers")


# What is different on purpose: the table in docs/mongoengine.md


async def test_an_empty_field() -> None:
    assert Theirs.Creature().scan.read() is None
    with pytest.raises(FileMissing):
        await Creature().scan.read()
    theirs = Theirs.Creature()
    theirs.scan.put(b"")
    theirs.save()
    assert theirs.scan.read() == b""
    assert await (await Creature.objects.get()).scan.read() == b""


async def test_a_file_that_is_gone() -> None:
    id = ObjectId()
    theirs = Theirs.Creature()
    theirs.scan.grid_id = id
    theirs.save()
    assert Theirs.Creature.objects.get().scan.read() is None
    scan = (await Creature.objects.get()).scan
    assert scan.id == id
    assert not await scan.exists()
    with pytest.raises(FileMissing):
        await scan.read()


async def test_a_file_whose_chunks_are_gone(database: Database) -> None:
    theirs = Theirs.Creature()
    theirs.scan.put(b"a footprint")
    theirs.save()
    await database["fs.chunks"].delete_many({})
    assert Theirs.Creature.objects.get().scan.read() == ""
    with pytest.raises(gridproxy.CorruptFile):
        await (await Creature.objects.get()).scan.read()


class Failing(BytesIO):
    """A source that fails in the middle."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the disk is gone")
        return super().read(size)


async def test_replacing_by_a_source_that_fails(database: Database) -> None:
    theirs = Theirs.Creature()
    theirs.scan.put(b"old")
    theirs.save()
    ours = await Creature.objects.get()
    with pytest.raises(OSError, match="the disk is gone"):
        await ours.scan.replace(Failing(bytes(600_000)))
    assert (await contents(database), await orphans(database)) == ((1, 1), [])
    assert await (await Creature.objects.get()).scan.read() == b"old"

    with pytest.raises(OSError, match="the disk is gone"):
        theirs.scan.replace(Failing(bytes(600_000)))
    assert Theirs.Creature.objects.get().scan.read() is None
    assert (await contents(database))[0] == 0


async def test_a_file_that_is_never_closed() -> None:
    theirs = Theirs.Creature()
    theirs.scan.new_file()
    theirs.scan.write(b"half")
    theirs.save()
    assert theirs.scan
    assert Theirs.Creature.objects.get().scan.read() is None
    ours = Creature()
    await ours.scan.new_file()
    await ours.scan.write(b"half")
    assert not ours.scan
    await ours.scan.abort()


async def test_putting_twice() -> None:
    theirs, ours = Theirs.Creature(), Creature()
    theirs.scan.put(b"one")
    with pytest.raises(me.fields.GridFSError):
        theirs.scan.put(b"two")
    await ours.scan.put(b"one")
    with pytest.raises(FileAlreadyStored):
        await ours.scan.put(b"two")
