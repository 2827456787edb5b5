"""FileDocument: the short way in which a document with single files is loaded, beside pydantic's own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import anyio
import pytest
from beanie import Document, init_beanie
from beanie.odm.documents import Document as BeanieDocument
from bson import ObjectId
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile, Bucket, FileOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.beanie.fields import class_of

from ..observing import Database, contents


class Pet(FileDocument, Document):
    name: str
    photo: Annotated[AsyncGridFile, FileOptions(max_size=100)] = AsyncGridFile()
    scan: AsyncGridFile | None = Field(None, alias="Scan")
    _calls: list[str] = PrivateAttr(default_factory=list)


class Extended(Pet):
    age: int = 3


class Constructed(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()
    _seen: bool = PrivateAttr(default=False)

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self._seen = True


class Chosen(FileDocument, Document):
    photo: AsyncGridFile = Field(AsyncGridFile(), validation_alias=AliasChoices("photo", "picture"))


SHARED = AsyncGridFile(ObjectId())


class Substituted(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()

    @field_validator("photo", mode="after")
    @classmethod
    def _same_for_all(cls, value: AsyncGridFile) -> AsyncGridFile:
        return SHARED


class Forbidding(FileDocument, Document):
    model_config = ConfigDict(extra="forbid")

    photo: AsyncGridFile = AsyncGridFile()


class Renaming(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()

    @model_validator(mode="before")
    @classmethod
    def _take_the_old_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "picture" in values:
            values["photo"] = values.pop("picture")
        return values


class Completed(FileDocument, Document):
    name: str
    photo: AsyncGridFile = AsyncGridFile()

    @model_validator(mode="after")
    def _put_another_in_its_place(self) -> Completed:
        return OTHERS.setdefault(self.name, self)


OTHERS: dict[str, Completed] = {}


class Required(FileDocument, Document):
    name: str
    photo: AsyncGridFile
    scan: AsyncGridFile | None


KINDS: list[type[Document]] = [
    Pet,
    Extended,
    Constructed,
    Chosen,
    Substituted,
    Forbidding,
    Renaming,
    Completed,
    Required,
]


@pytest.fixture(autouse=True)
async def _beanie(database: Database) -> None:
    await init_beanie(database=database, document_models=KINDS)


@contextmanager
def pydantics_own_way(*kinds: type[FileDocument]) -> Iterator[None]:
    for kind in kinds:
        class_of(kind).has_plain_constructor = False
    try:
        yield
    finally:
        for kind in kinds:
            class_of(kind).has_plain_constructor = True


def facts(document: Any) -> object:
    files = [document.photo, document.scan] if isinstance(document, Pet) else [document.photo]
    attachments = [None if file is None else file.state.attachment for file in files]
    return (
        {**document.__dict__, "id": None},
        document.model_fields_set,
        document.__pydantic_private__,
        [None if file is None else (file.id, file.options) for file in files],
        [
            None if one is None else (one.belongs_to(document, one.field or ""), one.owned, one.referenced)
            for one in attachments
        ],
    )


async def test_beanie_and_pydantic_do_no_more_than_the_short_way() -> None:
    """If this fails, a new version does more in a constructor. `FileDocument.model_validate` has to do it, too."""
    named = set(BeanieDocument.__init__.__code__.co_names)
    assert named - {"super", "Document"} == {"__init__", "get_pymongo_collection"}
    assert {"__pydantic_validator__", "validate_python"} <= set(BaseModel.__init__.__code__.co_names)


@pytest.mark.parametrize("raw", [{"name": "one"}, {"name": "two", "Scan": ObjectId()}, {"name": "three", "Scan": None}])
@pytest.mark.parametrize("kind", [Pet, Extended])
async def test_a_document_is_loaded_as_in_pydantics_own_way(kind: type[Pet], raw: dict[str, Any]) -> None:
    stored = {**raw, "photo": ObjectId()}
    assert class_of(kind).has_plain_constructor
    await kind.get_pymongo_collection().insert_one(stored)
    ours = await kind.find_one({"name": raw["name"]})
    with pydantics_own_way(kind):
        theirs = await kind.find_one({"name": raw["name"]})
    assert type(ours) is type(theirs) is kind
    assert facts(ours) == facts(theirs)
    assert ours is not None
    assert ours.photo.state.attachment is not None
    assert ours.photo.state.attachment.owned == (stored["photo"],)
    assert ours.id == stored["_id"]


async def test_a_loaded_document_removes_the_file_that_it_replaces(database: Database) -> None:
    await Pet(name="one", photo=b"old").insert()
    loaded = await Pet.find_one({"name": "one"})
    assert loaded is not None
    loaded.photo = b"new"  # type: ignore[assignment]  # content for the next save
    await loaded.save()
    assert await contents(database) == (1, 1)
    assert await loaded.photo.read() == b"new"


async def test_a_document_that_is_only_validated_owns_nothing() -> None:
    id = ObjectId()
    file = Pet.model_validate({"name": "one", "photo": id}).photo
    assert file.options.max_size == 100
    assert file.state.attachment is not None
    assert file.state.attachment.owned == ()


async def test_content_and_wrong_values_are_refused_as_in_pydantics_own_way() -> None:
    wrong: list[dict[str, Any]] = [{"photo": 5}, {"name": 5}, {"name": "one", "photo": "zz"}, {}]
    for raw in wrong:
        with pytest.raises(ValidationError) as ours:
            Pet.model_validate(raw)
        with pydantics_own_way(Pet), pytest.raises(ValidationError) as theirs:
            Pet.model_validate(raw)
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Forbidding.model_validate({"tail": 1})


async def test_content_is_accepted() -> None:
    assert Pet.model_validate({"name": "one", "photo": b"new"}).photo.state.content == b"new"


async def test_a_model_validator_may_rename_the_key_of_a_file(database: Database) -> None:
    file = await Bucket(database).upload(b"near")
    near = Bucket(database).file(file.id)
    for made in (Renaming(picture=near), Renaming.model_validate({"picture": near})):
        assert made.photo is near
        assert await made.photo.read_range(0, 4) == b"near"
    assert Renaming.model_validate({"picture": file.id}).photo == near


@pytest.mark.filterwarnings("ignore:A custom validator is returning a value other than `self`")
async def test_a_model_validator_may_return_another_document() -> None:
    first = Completed.model_validate({"name": "one", "photo": ObjectId()})
    assert Completed.model_validate({"name": "one", "photo": ObjectId()}) is OTHERS["one"] is first


async def test_a_document_without_values_for_its_files_is_saved(database: Database) -> None:
    made = Required.model_construct(name="one")
    await made.insert()
    assert "photo" not in (await database["Required"].find_one({}) or {})


async def test_an_unused_file_in_a_cluster_that_is_down_does_not_matter() -> None:
    down = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False, serverSelectionTimeoutMS=60_000)
    pet = await Pet(name="one", photo=b"content", Scan=None).insert()
    pet.scan = AsyncGridFile(bucket=Bucket(down["archive"]))
    with anyio.fail_after(20):
        await pet.save()
        await pet.delete()


async def test_a_constructor_of_the_users_own_is_called() -> None:
    loaded = Constructed.model_validate({"photo": ObjectId()})
    assert loaded._seen
    assert not class_of(Constructed).has_plain_constructor


async def test_a_field_with_several_names_is_loaded_in_pydantics_own_way() -> None:
    assert not class_of(Chosen).has_plain_constructor
    id = ObjectId()
    assert Chosen.model_validate({"picture": id}).photo.id == id


async def test_a_file_that_two_documents_are_given_is_shared(database: Database) -> None:
    one, two = (Substituted.model_validate({"photo": ObjectId()}) for _ in range(2))
    assert one.photo is two.photo is SHARED
    assert SHARED.state.attachment is not None
    assert SHARED.state.attachment.shared
    assert SHARED.options.bucket == Bucket(database)
