"""FilesApp.for_field: the file in one field of a document, whichever ODM it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import beanie
import odmantic
import pytest
from beanie import init_beanie
from bson import ObjectId
from starlette.requests import Request

from gridproxy import AsyncGridFile, BadOption, FileOptions
from gridproxy.adapters import document
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.odmantic import AsyncEngine, FileModel
from gridproxy.adapters.starlette import FilesApp, Grant
from tests.observing import Database, contents
from tests.web.test_files_app import PNG, allow, browsing

LIMITED = FileOptions(max_size=1000)


class Plain(document.Document):
    name = document.StringField()
    photo = document.FileField(max_size=1000)


class Tracked(FileDocument, beanie.Document):
    name: str = ""
    photo: Annotated[AsyncGridFile, LIMITED] = AsyncGridFile()

    class Settings:
        use_state_management = True


class Revised(FileDocument, beanie.Document):
    name: str = ""
    photo: Annotated[Optional[AsyncGridFile], LIMITED] = None  # noqa: UP045  # as people write it

    class Settings:
        use_revision = True


class Modelled(FileModel, odmantic.Model):
    name: str = ""
    photo: Annotated[AsyncGridFile, LIMITED]


@dataclass
class Kind:
    model: Any
    engine: AsyncEngine | None

    async def make(self) -> Any:
        made = self.model(name="a")
        await self.save(made)
        return made

    async def save(self, made: Any) -> None:
        await (made.save() if self.engine is None else self.engine.save(made))

    async def load(self, id: object) -> Any:
        if self.engine is not None:
            return await self.engine.find_one(self.model, self.model.id == id)
        found: Awaitable[Any] = self.model.objects(id=id).first() if self.model is Plain else self.model.get(id)
        return await found

    def app(self, authorize: Any = allow) -> FilesApp:
        return FilesApp.for_field(self.model, "photo", authorize=authorize, engine=self.engine)


@pytest.fixture(params=[Plain, Tracked, Revised, Modelled], ids=lambda model: model.__name__)
async def kind(request: pytest.FixtureRequest, connected: None, database: Database) -> Kind:
    if issubclass(request.param, beanie.Document):
        await init_beanie(database=database, document_models=[request.param])
    is_odmantic = issubclass(request.param, odmantic.Model)
    return Kind(request.param, AsyncEngine(database.client, database.name) if is_odmantic else None)


async def test_the_file_of_a_document_is_stored_replaced_and_removed(kind: Kind, database: Database) -> None:
    made = await kind.make()
    path = f"/{made.id}"
    async with browsing(kind.app()) as browser:
        empty = [await browser.get(path), await browser.delete(path)]
        first = await browser.put(path, content=PNG, headers={"Content-Type": "image/png"})
        second = await browser.post(path, files={"photo": ("b.txt", b"a badger", "text/plain")})
        read = await browser.get(path)
        late = await browser.put(path, content=b"late", headers={"If-Match": first.headers["etag"]})
        assert await contents(database) == (1, 1)
        assert await (await kind.load(made.id)).photo.read() == b"a badger"
        removed = await browser.delete(path, headers={"If-Match": second.headers["etag"]})
        gone = await browser.get(path)
    assert [answer.status_code for answer in empty] == [404, 404]
    assert (first.status_code, first.headers["location"]) == (201, path)
    assert (second.status_code, second.json()["filename"], second.json()["url"]) == (200, "b.txt", path)
    assert (read.content, read.headers["etag"], late.status_code) == (b"a badger", second.headers["etag"], 412)
    assert (removed.status_code, gone.status_code) == (204, 404)
    assert not (await kind.load(made.id)).photo
    assert await contents(database) == (0, 0)


async def test_what_the_field_or_the_permission_refuses_changes_nothing(kind: Kind, database: Database) -> None:
    async def limited(request: Request, action: str, found: object) -> Grant:
        return Grant(max_size=500, content_types="image/*", metadata={"owner": 7})

    made = await kind.make()
    async with browsing(kind.app(limited)) as browser:
        stored = await browser.put(f"/{made.id}", content=PNG)
        refused = [await browser.put(f"/{made.id}", content=each) for each in (PNG + bytes(500), b"%PDF-1.7")]
    async with browsing(kind.app()) as browser:
        refused.append(await browser.put(f"/{made.id}", content=bytes(1001)))
    assert (stored.status_code, [answer.status_code for answer in refused]) == (201, [413, 415, 413])
    loaded = await kind.load(made.id)
    assert await loaded.photo.read() == PNG
    assert (await loaded.photo.stat()).metadata["owner"] == 7
    assert await contents(database) == (1, 1)


async def test_authorize_is_given_the_document(kind: Kind, database: Database) -> None:
    seen: list[tuple[str, str | None]] = []

    async def no(request: Request, action: str, found: Any) -> bool:
        seen.append((action, None if found is None else found.name))
        return False

    made = await kind.make()
    async with browsing(kind.app(no)) as browser:
        answers = [await browser.request(method, f"/{made.id}") for method in ("GET", "PUT", "DELETE")]
        answers += [await browser.get(f"/{key}") for key in (ObjectId(), "no%20id")]
    assert {answer.status_code for answer in answers} == {403}
    assert seen == [("read", "a"), ("create", "a"), ("delete", "a"), ("read", None), ("read", None)]


async def test_a_document_is_never_made(kind: Kind, database: Database) -> None:
    async with browsing(kind.app()) as browser:
        answers = [
            await browser.request(method, f"/{key}", content=b"1")
            for method in ("GET", "PUT", "DELETE")
            for key in (ObjectId(), "no%20id", "%7B%22$ne%22:1%7D")
        ]
    assert {answer.status_code for answer in answers} == {404}
    collection = +kind.model if kind.engine else getattr(kind.model, "document_schema", None)
    assert collection is not None or await kind.model.count() == 0
    assert await contents(database) == (0, 0)


async def test_a_file_that_is_gone_can_be_stored_again(kind: Kind, database: Database) -> None:
    made = await kind.make()
    async with browsing(kind.app()) as browser:
        await browser.put(f"/{made.id}", content=b"1")
        await database["fs.files"].delete_many({})
        assert (await browser.get(f"/{made.id}")).status_code == 404
        assert (await browser.put(f"/{made.id}", content=b"2")).status_code == 201
        assert (await browser.get(f"/{made.id}")).content == b"2"


@pytest.mark.parametrize("kind", [Plain, Revised], indirect=True)  # the other two have no revision: the last one wins
async def test_of_two_replacements_at_once_one_is_refused(kind: Kind, database: Database) -> None:
    """The other one is whole, and nothing of the refused one is left."""
    made = await kind.make()
    between: list[Callable[[], Awaitable[Any]]] = []

    async def allow_between(request: Request, action: str, found: object) -> bool:
        while between:
            await between.pop()()
        return True

    async with browsing(kind.app(allow_between)) as browser:
        between.append(lambda: browser.put(f"/{made.id}", content=b"first"))
        late = await browser.put(f"/{made.id}", content=b"late")
        assert late.status_code == 409
        assert (await browser.get(f"/{made.id}")).content == b"first"
    assert await contents(database) == (1, 1)


@pytest.mark.parametrize("kind", [Revised], indirect=True)
async def test_other_errors_of_a_save_are_not_hidden(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await kind.make()

    async def fail(self: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(Revised, "save", fail)
    async with browsing(kind.app()) as browser:
        with pytest.raises(RuntimeError, match="the disk is full"):
            await browser.put(f"/{made.id}", content=b"1")


@pytest.mark.parametrize("kind", [Plain], indirect=True)
async def test_a_field_that_holds_no_file_is_named(kind: Kind) -> None:
    made = await kind.make()
    async with browsing(FilesApp.for_field(Plain, "name", authorize=allow)) as browser:
        with pytest.raises(BadOption, match="'name' holds str, not a file"):
            await browser.get(f"/{made.id}")
