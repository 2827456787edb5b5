"""What is assigned inside of a Beanie document's embedded models: pydantic takes it as it comes, and it is content."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from beanie import BulkWriter, Document, Save, before_event, init_beanie
from bson import ObjectId
from bson.errors import InvalidDocument
from pydantic import BaseModel, ConfigDict, RootModel

from gridproxy import AsyncGridFile, Bucket, FileOptions, NotConnected, TooLarge, ValidationError
from gridproxy.adapters.beanie import FileDocument

from ..naming import shown
from ..observing import Database, contents, orphans
from .beanie_zoo import found, setting


class Stamp(BaseModel):
    print: Annotated[AsyncGridFile, FileOptions(bucket="stamps", max_size=10)]


class Line(BaseModel):
    scan: AsyncGridFile = AsyncGridFile()
    pages: list[AsyncGridFile] = []
    by_name: dict[str, list[AsyncGridFile]] = {}
    pair: tuple[AsyncGridFile, AsyncGridFile] | None = None
    perhaps: Annotated[AsyncGridFile | None, "as people write it"] = None
    stamp: Stamp | None = None
    note: Any = None


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    pages: list[AsyncGridFile] = []


class Pages(RootModel[list[AsyncGridFile]]):
    pass


class Slotted(BaseModel):
    __slots__ = ()
    scan: AsyncGridFile = AsyncGridFile()


class Order(FileDocument, Document):
    name: str = ""
    cover: AsyncGridFile = AsyncGridFile()
    album: list[AsyncGridFile] = []
    first: Line = Line()
    lines: list[Line] = []
    by_name: dict[str, Line] = {}
    pair: tuple[Line, Line] | None = None
    frozen: Frozen = Frozen()
    pages: Pages = Pages([])
    slotted: Slotted = Slotted()

    class Settings:
        use_state_management = True


class Stamping(FileDocument, Document):
    first: Line = Line()

    @before_event(Save)
    def stamp(self) -> None:
        raw(self.first, scan=b"from the event")


@pytest.fixture(autouse=True)
async def _beanie(database: Database) -> None:
    await init_beanie(database, document_models=[Order, Stamping])


def raw(model: BaseModel, **values: Any) -> None:
    """Assign what the fields' types do not allow, as people do."""
    for name, value in values.items():
        setattr(model, name, value)


async def stored(**values: Any) -> Order:
    await Order(**values).insert()
    document = await found(Order)
    assert isinstance(document, Order)
    return document


async def in_database() -> Mapping[str, Any]:
    document: Mapping[str, Any] = await Order.get_pymongo_collection().find_one() or {}
    return document


WRITES: dict[str, Any] = {
    "save": lambda order: order.save(),
    "save_changes": lambda order: order.save_changes(),
    "replace": lambda order: order.replace(),
}


@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "path", "open file", "generator"])
async def test_content_assigned_in_an_embedded_model_is_stored_and_replaces(
    way: str, kind: str, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(b"new")
    content: dict[str, Any] = {
        "bytes": b"new",
        "bytearray": bytearray(b"new"),
        "path": tmp_path / "new",
        "open file": io.BytesIO(b"new"),
        "generator": (part for part in (b"n", b"ew")),
    }
    order = await stored(lines=[{"scan": b"old"}, {"scan": b"other"}])
    scan = order.lines[0].scan
    raw(order.lines[0], scan=content[kind])
    await WRITES[way](order)
    assert order.lines[0].scan is scan
    assert await scan.read() == b"new"
    assert (await in_database())["lines"][0]["scan"] == scan.id
    assert [await line.scan.read() for line in (await found(Order)).lines] == [b"new", b"other"]
    assert await contents(database) == (2, 2)  # the old one went
    assert await orphans(database) == []


async def test_assigned_content_is_stored_in_every_kind_of_embedded_model(database: Database) -> None:
    stamped = {"stamp": {"print": b"old"}}
    old: dict[str, Any] = {"scan": b"old", "pages": [b"old"], **stamped}
    order = await stored(first=old, lines=[old], by_name={"a": old}, pair=(old, old))
    assert await contents(database) == (10, 10)
    assert order.pair is not None
    for line in (order.first, order.lines[0], order.by_name["a"], *order.pair):
        assert line.stamp is not None
        raw(line, scan=b"new", perhaps=b"new", pair=[b"1", b"2"])
        raw(line.stamp, print=b"new")
        pages: Any = line.pages
        pages.append(b"more")
        by_name: Any = line.by_name
        by_name["x"] = [b"x"]
    await order.save()
    again = await found(Order)
    for line in (again.first, again.lines[0], again.by_name["a"], *again.pair):
        files = [line.scan, line.perhaps, line.stamp.print, *line.pages, *line.by_name["x"], *line.pair]
        assert [await file.read() for file in files] == [b"new", b"new", b"new", b"old", b"more", b"x", b"1", b"2"]
    assert await contents(database) == (35, 35)
    assert await contents(database, "stamps") == (5, 5)


async def test_a_new_document_and_a_new_model_in_it_take_content_too(database: Database) -> None:
    order = Order(lines=[Line(), Line()])
    raw(order.lines[0], scan=b"a")
    raw(order.pages, root=[b"p"])
    raw(order.slotted, scan=b"s")
    order.first.stamp = Stamp.model_construct()
    await Order.insert_one(order)
    again = await found(Order)
    assert not again.first.stamp.print
    again.lines.append(Line())
    raw(again.lines[2], scan=b"c")
    await again.save()
    again = await found(Order)
    assert [bool(line.scan) for line in again.lines] == [True, False, True]
    files = [again.lines[0].scan, again.lines[2].scan, again.pages.root[0], again.slotted.scan]
    assert [await file.read() for file in files] == [b"a", b"c", b"p", b"s"]
    assert await contents(database) == (4, 4)


async def test_ids_none_and_snapshots_move_the_reference(database: Database) -> None:
    other = await Bucket(database).upload(b"other")
    order = await stored(lines=[{"scan": b"a", "perhaps": b"p"}, {"scan": b"b"}, {"scan": b"c"}])
    raw(order.lines[0], scan=str(other.id), perhaps=None)
    raw(order.lines[1], scan=None)
    raw(order.lines[2], scan=other.snapshot())
    await order.save()
    assert [line["scan"] for line in (await in_database())["lines"]] == [other.id, None, other.id]
    assert order.lines[0].perhaps is None
    assert not order.lines[1].scan
    assert await contents(database) == (5, 5)  # what a reference moved away from stays, as in the document's own fields
    raw(order.lines[0], perhaps=b"new")
    await order.save()
    assert await (await found(Order)).lines[0].perhaps.read() == b"new"
    assert await contents(database) == (6, 6)


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"scan": 5}, "lines.1.scan"),
        ({"scan": "marmot.jpg"}, "lines.1.scan"),
        ({"scan": {}}, "lines.1.scan"),
        ({"perhaps": 5}, "lines.1.perhaps"),
        ({"pages": b"data"}, "lines.1.pages"),
        ({"pages": AsyncGridFile()}, "lines.1.pages"),
        ({"pages": {}}, "lines.1.pages"),
        ({"pages": [b"data", 5]}, "lines.1.pages.1"),
        ({"by_name": {"x": [5]}}, "lines.1.by_name.x.0"),
    ],
    ids=str,
)
async def test_a_value_that_is_not_a_file_is_refused_with_its_path_and_nothing_is_written(
    values: Any, path: str, database: Database
) -> None:
    order = await stored(name="before", lines=[{"scan": b"a"}, {"scan": b"b"}])
    before = await in_database()
    raw(order.lines[0], scan=b"new")
    raw(order.lines[1], **values)
    order.name = "after"
    for call in (order.save, order.save_changes, order.replace, order.delete, lambda: order.set({Order.name: "x"})):
        with pytest.raises(ValidationError) as refusal:
            await call()
        assert refusal.value.field == path
    new = Order(lines=[Line(), Line()])
    raw(new.lines[1], **values)
    for insert in (new.insert, new.save, lambda: Order.insert_one(new), lambda: Order.insert_many([new])):
        with pytest.raises(ValidationError, match=path):
            await insert()
    assert await in_database() == before
    assert await Order.count() == 1
    assert await contents(database) == (2, 2)


async def test_a_limit_of_an_embedded_field_holds_and_nothing_is_written(database: Database) -> None:
    order = await stored(lines=[{"stamp": {"print": b"small"}}])
    before = await in_database()
    assert order.lines[0].stamp is not None
    raw(order.lines[0].stamp, print=b"more than ten bytes")
    with pytest.raises(TooLarge):
        await order.save()
    assert await in_database() == before
    assert await contents(database, "stamps") == (1, 1)


async def test_bulk_writes_refuse_content_in_embedded_models_and_lists(database: Database) -> None:
    order = await stored(lines=[{"scan": b"old"}])
    before = await in_database()
    for way in ("replace", "save_changes"):
        order = await found(Order)
        raw(order.lines[0], scan=b"new")
        with pytest.raises(InvalidDocument, match="not stored yet"):
            async with BulkWriter() as writer:
                await getattr(order, way)(bulk_writer=writer)
    new = Order(album=[b"a"])
    listed = Order()
    album: Any = listed.album
    album.append(b"b")
    inside = Order(lines=[Line()])
    raw(inside.lines[0], scan=b"c")
    for document in (new, listed, inside):
        with pytest.raises(InvalidDocument, match="not stored yet"):
            await Order.insert_many([document])
    assert await in_database() == before
    assert await Order.count() == 1
    await order.save()
    assert await (await found(Order)).lines[0].scan.read() == b"new"
    assert await contents(database) == (1, 1)


async def test_content_that_an_event_assigns_in_an_embedded_model_is_stored(database: Database) -> None:
    document = Stamping()
    await document.save()
    assert await (await found(Stamping)).first.scan.read() == b"from the event"
    assert await contents(database) == (1, 1)


async def test_an_update_of_another_field_does_not_store_assigned_content(database: Database) -> None:
    order = await stored(lines=[{"scan": b"old"}])
    raw(order.lines[0], scan=b"new")
    assert order.is_changed
    assert "not stored yet" in repr(order.get_changes())
    await order.set({Order.name: "x"})
    assert await (await found(Order)).lines[0].scan.read() == b"old"
    await order.save()
    assert await (await found(Order)).lines[0].scan.read() == b"new"
    assert await contents(database) == (1, 1)


@pytest.mark.parametrize("value", [b"new", bytearray(b"new"), Path("new"), io.BytesIO(b"new")], ids=shown)
async def test_an_update_refuses_content_for_a_file_field(value: Any, database: Database) -> None:
    order = await stored(cover=b"old")
    before, query = await in_database(), cast(Any, Order)
    for update in (
        lambda: order.set({Order.cover: value}),
        lambda: order.update({"$set": {"name": "x", "cover": value}}),
        lambda: query.find(query.name == "").set({query.cover: value}),
        lambda: query.find_all().inc({"n": 1}).set({query.cover: value}),
        lambda: query.find_one(query.name == "").update(setting({query.cover: value})),
        lambda: query.find_one(query.name == "nobody").upsert(setting({query.cover: value}), on_insert=Order()),
    ):
        with pytest.raises(
            ValidationError, match=r"cover: an update writes its values as they are.* assign the content"
        ):
            await update()
    assert await in_database() == before
    await order.set({Order.cover: None})
    assert not order.cover
    assert await contents(database) == (1, 1)


async def test_errors_of_a_class_without_the_mixin_name_the_mixin(database: Database) -> None:
    class Unmixed(Document):
        photo: AsyncGridFile = AsyncGridFile()

    await init_beanie(database, document_models=[Unmixed])
    unmixed: Any = Unmixed
    with pytest.raises(NotConnected, match=r"class X\(FileDocument, Document\)"):
        await unmixed().photo.put(b"content")
    with pytest.raises(InvalidDocument, match=r"class X\(FileDocument, Document\)"):
        await unmixed(photo=b"content").insert()
    assert await unmixed.count() == 0


async def test_sync_discards_assigned_content(database: Database) -> None:
    order = await stored(lines=[{"scan": b"old"}])
    raw(order.lines[0], scan=5)
    await order.sync()
    assert await order.lines[0].scan.read() == b"old"
    assert await contents(database) == (1, 1)


async def test_a_file_moved_to_another_field_is_kept(database: Database) -> None:
    order = await stored(lines=[{"scan": b"old"}, {}])
    order.lines[1].scan = order.lines[0].scan
    raw(order.lines[0], scan=b"new")
    await order.save()
    assert [await line.scan.read() for line in (await found(Order)).lines] == [b"new", b"old"]
    assert await contents(database) == (2, 2)


async def test_delete_removes_the_stored_file_in_a_field_with_assigned_content(database: Database) -> None:
    class Attached(BaseModel):
        file: Annotated[AsyncGridFile, FileOptions(on_delete="delete")]

    class Mail(FileDocument, Document):
        attached: Attached

    await init_beanie(database, document_models=[Mail])
    mail = await Mail(attached={"file": b"old"}).insert()
    raw(mail.attached, file=b"new")
    await mail.delete()
    assert await contents(database) == (0, 0)


async def test_content_assigned_in_a_copy_does_not_replace_the_old_file(database: Database) -> None:
    order = await stored(lines=[{"scan": b"old"}], frozen={"pages": [b"p"]})
    raw(order.lines[0], scan=b"new")
    copied = order.model_copy(deep=True)
    frozen: Any = copied.frozen.pages
    frozen.append(b"q")
    await copied.save()
    again = await found(Order)
    assert await again.lines[0].scan.read() == b"new"
    assert [await file.read() for file in again.frozen.pages] == [b"p", b"q"]
    assert await contents(database) == (4, 4)  # the old one is left for check
    assert isinstance(again.lines[0].scan.id, ObjectId)
