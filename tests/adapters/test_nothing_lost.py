"""Saves that fail half-way, hooks, clones, snapshots and lazy parsing: no file is lost, and none is left over."""

from __future__ import annotations

import asyncio
import copy
import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from beanie import Document, Save, after_event, before_event, init_beanie
from beanie.exceptions import RevisionIdWasChanged
from beanie.operators import NotIn, Or
from bson import ObjectId
from odmantic import Field, Model
from pydantic import BaseModel, ConfigDict
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile, BadOption, BadSource, Bucket, FileMissing, FileOptions, wrap_field
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.document import Document as OwnDocument
from gridproxy.adapters.document import FileField, StringField
from gridproxy.adapters.odmantic import AsyncEngine, FileModel

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")


class Own(OwnDocument):
    name = StringField(required=True)
    photo = FileField()
    kept = FileField(on_replace="keep")


class Animal(FileDocument, Document):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()
    attached: Annotated[AsyncGridFile, FileOptions(on_delete="delete")] = AsyncGridFile()
    album: list[AsyncGridFile] = []


class Revised(FileDocument, Document):
    album: list[AsyncGridFile] = []

    class Settings:
        use_revision = True


class Snapshots(FileDocument, Document):
    name: str = ""
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = AsyncGridFile()

    class Settings:
        use_state_management = True


class Hooked(FileDocument, Document):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()

    @before_event(Save)
    async def assign(self) -> None:
        if self.name == "before":
            self.photo = b"from the hook"  # type: ignore[assignment]  # content
        if self.name == "put":
            await self.photo.replace(b"put by the hook")

    @after_event(Save)
    async def fail(self) -> None:
        if self.name == "after":
            raise OSError("the hook failed")


@pytest.fixture(autouse=True)
async def _beanie(database: Database) -> None:
    await init_beanie(database, document_models=[Animal, Revised, Snapshots, Hooked])


# Ownership


async def test_a_copy_with_another_id_owns_no_file_of_the_original(database: Database) -> None:
    await Animal(photo=b"of the original").insert()
    original = await Animal.find_one()
    assert original is not None
    clones = [original.model_copy(update={"id": None}), Animal(**original.model_dump(exclude={"id"}))]
    clones.append(copy.deepcopy(original))
    clones[-1].id = ObjectId()  # type: ignore[assignment]  # an ObjectId is what Beanie's own is
    for clone in clones:
        await clone.photo.replace(b"of the clone")
        await clone.save()
    assert await original.photo.read() == b"of the original"


async def test_a_copy_of_the_same_document_owns_its_file(database: Database) -> None:
    await Animal(photo=b"old").insert()
    found = await Animal.find_one()
    assert found is not None
    twin = copy.deepcopy(found)
    await twin.photo.replace(b"new")
    await twin.save()
    assert await contents(database) == (1, 1)


class Wrapped:
    avatar_id: Any = None
    avatar = wrap_field("avatar_id")


class Plain(BaseModel):
    model_config = ConfigDict(validate_assignment=True)
    photo: AsyncGridFile


async def test_an_id_in_a_wrapped_attribute_or_a_plain_model_may_be_of_another_document() -> None:
    owner = AsyncGridFile()
    await owner.put(b"of the owner")
    user = Wrapped()
    user.avatar_id = owner.id
    assigned = Plain(photo=AsyncGridFile())
    assigned.photo = owner.id  # type: ignore[assignment]  # an id, which the model validates
    for file in (user.avatar, Plain(photo=owner.id).photo, assigned.photo):  # type: ignore[arg-type]  # an id
        await file.replace(b"another")
        await file.finalize()
        assert await owner.read(0) == b""
        assert await owner.exists()


async def test_a_plain_model_that_was_loaded_owns_its_file(database: Database) -> None:
    owner = AsyncGridFile()
    await owner.put(b"old")
    loaded = Plain.model_validate({"photo": owner.id})
    await loaded.photo.replace(b"new")
    await loaded.photo.finalize()
    assert await contents(database) == (1, 1)


async def test_on_replace_keep_never_removes_the_old_file(database: Database) -> None:
    document = await Own(name="a", kept=b"old").save()
    await document.kept.replace(b"new")
    await document.save()
    assert await contents(database) == (2, 2)
    with pytest.raises(BadOption, match="on_replace is 'keep' or 'delete'"):
        FileOptions(on_replace="remove")  # type: ignore[arg-type]  # the error is the point


# Saves


async def test_content_that_can_be_read_once_says_so_after_a_save_that_failed(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "photo").write_bytes(b"from a file")
    await database["own"].create_index("name", unique=True)
    await Own(name="taken").save()
    with (tmp_path / "photo").open("rb") as file:
        document = Own(name="taken", photo=file, kept=b"bytes")
        with pytest.raises(Exception, match="duplicate key"):
            await document.save()
        assert await contents(database) == (0, 0)
        document.name = "free"
        with pytest.raises(BadSource, match="assign it again"):
            await document.save()
        assert await contents(database) == (0, 0)
        document.photo = b"again"
        await document.save()
    assert await contents(database) == (2, 2)


async def test_five_appends_at_once_with_revisions_leave_no_file_of_the_losers(database: Database) -> None:
    await Revised().insert()
    documents = [await Revised.find_one() for _ in range(5)]

    async def append(document: Any, number: int) -> None:
        document.album.append(b"%d" % number)
        await document.save()

    results = await asyncio.gather(*(append(each, n) for n, each in enumerate(documents)), return_exceptions=True)
    assert sum(isinstance(each, RevisionIdWasChanged) for each in results) == 4
    assert await contents(database) == (1, 1)


async def test_an_after_event_that_fails_keeps_the_file_that_was_saved(database: Database) -> None:
    document = await Hooked(photo=b"old").insert()
    document.name = "after"
    await document.photo.replace(b"new")
    with pytest.raises(OSError, match="the hook failed"):
        await document.save()
    await document.photo.revert()
    stored = await Hooked.find_one()
    assert stored is not None
    assert await stored.photo.read() == b"new"
    assert await contents(database) == (1, 1)


@pytest.mark.parametrize(("name", "content"), [("before", b"from the hook"), ("put", b"put by the hook")])
async def test_content_of_a_before_event_is_stored_with_the_document(
    name: str, content: bytes, database: Database
) -> None:
    document = Hooked(name=name, photo=b"old")
    await document.save()
    stored = await Hooked.find_one()
    assert stored is not None
    assert await stored.photo.read() == content
    assert document.photo.id == stored.photo.id
    assert await contents(database) == (1, 1)


async def test_raw_content_that_pydantic_let_in_is_stored_as_a_file(database: Database, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"from a path")
    for value, content in ((b"raw", b"raw"), (tmp_path / "photo", b"from a path")):
        document = Animal().model_copy(update={"photo": value})
        await document.insert()
        constructed = Animal.model_construct(name="x", photo=value, attached=AsyncGridFile(), album=[])
        await constructed.insert()
        for id in (document.id, constructed.id):
            found = await Animal.get(id)
            assert found is not None
            assert await found.photo.read() == content


async def test_save_changes_writes_a_snapshot_as_a_whole(database: Database) -> None:
    document = Snapshots(name="a")
    await document.badge.put(b"a picture", content_type="image/png", colour="red")
    await document.insert()
    await document.badge.replace(b"text", content_type="text/plain")
    await document.save_changes()
    stored = await database["Snapshots"].find_one({})
    assert stored is not None
    assert document.badge.info is not None
    assert stored["badge"] == {**document.badge.info.snapshot(), "upload_date": stored["badge"]["upload_date"]}
    stale = await Snapshots.find_one()
    assert stale is not None
    document.badge = None  # type: ignore[assignment]  # empties the field
    await document.save_changes()
    await stale.badge.replace(b"newer")
    await stale.save_changes()
    found = await Snapshots.find_one()
    assert found is not None
    assert await found.badge.read() == b"newer"


async def test_a_lazily_parsed_document_removes_the_files_that_nobody_read(database: Database) -> None:
    await Animal(photo=b"old", attached=b"goes with it").insert()
    [lazy] = await Animal.find_all(lazy_parse=True).to_list()
    lazy.photo = b"new"  # type: ignore[assignment]  # content
    await lazy.save()
    assert await contents(database) == (2, 2)
    [lazy] = await Animal.find_all(lazy_parse=True).to_list()
    await lazy.delete()
    assert await contents(database) == (1, 1)


async def test_a_save_after_an_aborted_transaction_of_pymongo_does_not_point_to_its_file(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    document = await Own(name="a", photo=b"old").save()
    async with client.start_session() as session:
        await session.start_transaction()
        await document.photo.replace(b"new", session=session)
        await document.save(session=session)
        await session.abort_transaction()
    document.name = "b"
    with pytest.raises(FileMissing):
        await document.save()
    stored = await Own.objects.first()
    assert stored is not None
    assert await stored.photo.read() == b"old"


async def test_documents_with_snapshots_are_found_by_their_file_and_its_id(database: Database) -> None:
    await init_beanie(database=database, document_models=[Snapshots])
    found, other, empty = Snapshots(name="found"), Snapshots(name="other"), Snapshots(name="empty")
    await found.badge.put(b"found")
    await other.badge.put(b"other")
    for each in (found, other, empty):
        await each.save()
    found.name = "found again"
    await found.save_changes()
    key: Any = Snapshots.badge

    async def names(*queries: Any) -> list[str]:
        return [each.name for each in await Snapshots.find(*queries).sort("name").to_list()]

    for asked in (found.badge, found.badge.id):
        assert await names(key == asked) == ["found again"]
        assert await names({"badge": {"$in": [asked]}}) == ["found again"]
        assert await names(Or(key == asked, Snapshots.name == "other")) == ["found again", "other"]
        assert await names(key == asked, Snapshots.name == "other") == []
        assert await names(key != asked) == ["empty", "other"]
        assert await names(NotIn(key, [asked, other.badge])) == ["empty"]
        one = await Snapshots.find_one(key == asked)
        assert one is not None
        assert one.name == "found again"
        assert await Snapshots.find(key == asked).count() == 1
    assert await names(key == None) == ["empty"]  # noqa: E711 — Beanie's operator, not a comparison
    await Snapshots.find(key == found.badge).update({"$set": {"name": "renamed"}})
    assert await names() == ["empty", "other", "renamed"]


class Kept(FileModel, Model):
    name: str
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = Field(key_name="b", default=AsyncGridFile())


async def test_odmantic_models_with_snapshots_are_found_by_their_file_and_its_id(database: Database) -> None:
    engine = AsyncEngine(database.client, database.name)
    found = await engine.save(Kept.model_validate({"name": "found", "badge": b"found"}))
    await engine.save(Kept.model_validate({"name": "other", "badge": b"other"}))
    key: Any = Kept.badge
    for asked in (found.badge, found.badge.id):
        one = await engine.find_one(Kept, key == asked)
        assert one is not None
        assert one.name == "found"
        assert await engine.count(Kept, key == asked) == 1
        assert await engine.count(Kept, key.in_([asked])) == 1
        assert await engine.count(Kept, key != asked) == 1
    assert await engine.remove(Kept, key == found.badge) == 1


@pytest.mark.parametrize("kind", [Animal, Own])
async def test_the_garbage_collector_spares_an_old_file_that_a_save_begins_to_point_to(
    database: Database, kind: Any
) -> None:
    await init_beanie(database=database, document_models=[Animal])
    bucket = Bucket(database)
    old = await bucket.upload(b"old")
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    await database["fs.files"].update_one({"_id": old.id}, {"$set": {"uploadDate": long_ago}})

    async def noted() -> Any:
        record = await database["fs.files"].find_one({"_id": old.id})
        return (record or {}).get("referenced_at")

    document = kind(name="a badger", photo=old.id)
    await document.save()
    first = await noted()
    assert first is not None
    await document.save()
    assert await noted() == first
    # A collection that lacks the document stands for a scan that ended before the save.
    await database["others"].insert_one({"photo": None})
    await bucket.collect_garbage(dry_run=False, unreferenced=True, references=[("others", "photo")])
    assert await bucket.file(old.id).read() == b"old"
