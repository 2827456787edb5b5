"""AsyncGridFile in pydantic's models: what a field takes, what it dumps and refuses, copies, and replaced files."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from bson import ObjectId
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

import gridproxy
from gridproxy import AsyncGridFile, BadOption, BadSource, FileOptions

from ..observing import Database, contents

HEX = "0123456789abcdef01234567"
SNAPSHOT = {
    "_id": HEX,
    "filename": "marmot.jpg",
    "length": 4,
    "chunk_size": 255,
    "content_type": "image/jpeg",
    "upload_date": "2026-01-02T03:04:05Z",
    "metadata": {"content_type": "image/jpeg"},
}


class Animal(BaseModel):
    genus: str = ""
    photo: AsyncGridFile = AsyncGridFile()


class Snapped(BaseModel):
    photo: Annotated[AsyncGridFile, FileOptions(store="snapshot")]


class Home(BaseModel):
    door: AsyncGridFile
    windows: list[AsyncGridFile] = []


class Everywhere(Animal):
    named: Annotated[AsyncGridFile, FileOptions(bucket="named")]
    perhaps: AsyncGridFile | None = None
    named_perhaps: Annotated[AsyncGridFile | None, FileOptions(bucket="named")] = None
    # What people have written before there was `X | None`, and what failed once.
    old_perhaps: Annotated[Optional[AsyncGridFile], FileOptions(bucket="named")] = None  # noqa: UP045
    album: Annotated[list[AsyncGridFile], FileOptions(bucket="albums")] = []
    by_name: dict[str, AsyncGridFile] = {}
    pair: tuple[AsyncGridFile, AsyncGridFile] | None = None
    home: Home | None = None


@dataclasses.dataclass
class Plain:
    photo: AsyncGridFile
    sound: Annotated[AsyncGridFile, FileOptions(bucket="sounds")] = dataclasses.field(default_factory=AsyncGridFile)


# What a field takes


@pytest.mark.parametrize("value", [ObjectId(HEX), HEX, HEX.upper(), {"_id": ObjectId(HEX)}, {"_id": HEX}, SNAPSHOT])
def test_an_id_is_accepted_in_every_form(value: object) -> None:
    if not isinstance(value, dict) or "length" in value:
        assert Animal.model_validate({"photo": value}).photo.id == ObjectId(HEX)
    else:
        with pytest.raises(ValidationError, match="not a snapshot of a file"):
            Animal.model_validate({"photo": value})


def test_a_missing_value_and_null_are_an_empty_file() -> None:
    for animal in (Animal(), Animal.model_validate({"photo": None}), Animal.model_validate_json('{"photo": null}')):
        assert isinstance(animal.photo, AsyncGridFile)
        assert not animal.photo
    assert not Snapped.model_validate({}).photo
    assert Animal().photo is not Animal().photo


def test_a_file_stays_the_same_object() -> None:
    file = AsyncGridFile(ObjectId(HEX))
    assert Animal(photo=file).photo is file
    assert Animal(photo=file).model_dump() == {"genus": "", "photo": ObjectId(HEX)}


async def test_a_snapshot_sets_the_info() -> None:
    for photo in (
        Snapped.model_validate({"photo": SNAPSHOT}).photo,
        Snapped.model_validate_json(json.dumps({"photo": SNAPSHOT})).photo,
        Animal.model_validate({"photo": SNAPSHOT}).photo,
    ):
        assert (photo.filename, photo.length, photo.content_type) == ("marmot.jpg", 4, "image/jpeg")
        assert photo.upload_date is not None
        assert photo.upload_date.isoformat() == "2026-01-02T03:04:05+00:00"


def test_options_apply_to_files_in_every_container() -> None:
    values = dict.fromkeys(("named", "perhaps", "named_perhaps", "old_perhaps"), HEX)
    model = Everywhere.model_validate(
        {**values, "album": [HEX], "by_name": {"a": HEX}, "pair": [HEX, None], "home": {"windows": [HEX]}}
    )
    assert model.perhaps is not None
    assert model.named_perhaps is not None
    assert model.old_perhaps is not None
    assert model.pair is not None
    assert model.home is not None
    options = [file.options.bucket for file in (model.named, model.named_perhaps, model.old_perhaps)]
    assert options == ["named"] * 3
    assert model.album[0].options.bucket == "albums"
    assert [model.perhaps.options, model.by_name["a"].options, model.pair[0].options] == [FileOptions()] * 3
    assert model.home.windows[0].id == ObjectId(HEX)
    assert not model.home.door
    assert model.model_dump()["old_perhaps"] == ObjectId(HEX)
    assert Everywhere.model_validate_json(model.model_dump_json()) == model


def test_none_is_kept_in_an_optional_field() -> None:
    model = Everywhere.model_validate({"old_perhaps": None})
    assert model.old_perhaps is None
    assert model.model_dump(mode="json")["old_perhaps"] is None
    assert model.named.options.bucket == "named"


def test_dataclasses_through_a_type_adapter() -> None:
    adapter = TypeAdapter(Plain)
    plain = adapter.validate_python({"photo": HEX, "sound": ObjectId(HEX)})
    assert plain.sound.options.bucket == "sounds"
    assert adapter.dump_python(plain) == {"photo": ObjectId(HEX), "sound": ObjectId(HEX)}
    assert adapter.dump_python(plain, mode="json") == {"photo": HEX, "sound": HEX}
    assert adapter.validate_json(adapter.dump_json(plain)) == plain


def test_a_subclass_is_kept() -> None:
    class Photo(AsyncGridFile):
        pass

    class Portrait(BaseModel):
        photo: Photo

    assert type(Portrait.model_validate({"photo": HEX}).photo) is Photo


# What it dumps


async def test_dumps_of_ids_and_snapshots(connected: None) -> None:
    model = Snapped.model_validate({})
    info = await model.photo.put(b"data", filename="marmot.jpg", tags=[ObjectId(HEX)])
    assert model.model_dump()["photo"] == info.snapshot()
    dumped = json.loads(model.model_dump_json())["photo"]
    assert dumped["_id"] == str(info.id)
    assert dumped["metadata"]["tags"] == [HEX]
    again = Snapped.model_validate_json(model.model_dump_json())
    assert (again.photo, again.photo.length) == (model.photo, 4)
    # An id alone where the record was never seen.
    assert Snapped.model_validate({"photo": HEX}).model_dump() == {"photo": ObjectId(HEX)}


def test_an_id_of_another_kind_is_shown_in_json() -> None:
    assert Animal(photo=AsyncGridFile(7)).model_dump(mode="json")["photo"] == 7
    assert "Regex" in Animal(photo=AsyncGridFile(_regex())).model_dump(mode="json")["photo"]


def _regex() -> object:
    from bson import Regex

    return Regex("a")


def test_a_value_that_is_not_a_file_is_dumped_unchanged() -> None:
    animal = Animal.model_construct(photo=HEX)
    assert animal.model_dump()["photo"] == HEX


def test_content_that_is_not_stored_cannot_be_dumped() -> None:
    animal = Animal.model_validate({"photo": b"content"})
    for dump in (animal.model_dump, animal.model_dump_json):
        with pytest.raises(ValueError, match=r"not stored yet: `await model\.field\.put\(content\)`, or save"):
            dump()


@pytest.mark.parametrize("content", [b"content", bytearray(b"content"), memoryview(b"content")])
def test_content_in_the_place_of_a_file_cannot_be_dumped(content: Any) -> None:
    animal = Animal()
    animal.photo = content
    for dump in (animal.model_dump, animal.model_dump_json):
        with pytest.raises(ValueError, match=r"in the place of a file.* instead, or .*validate_assignment"):
            dump()


# Its JSON schema


def test_the_json_schema_is_an_id_or_null() -> None:
    schema = Animal.model_json_schema()
    id, null = schema["properties"]["photo"]["anyOf"]
    assert (id["type"], id["pattern"]) == ("string", "^[0-9a-fA-F]{24}$")
    assert null == {"type": "null"}
    assert "required" not in schema
    _, snapshot, _ = Snapped.model_json_schema()["properties"]["photo"]["anyOf"]
    assert set(snapshot["properties"]) == set(SNAPSHOT)
    assert snapshot["required"] == ["_id"]


def test_fastapi_shows_it() -> None:
    app = FastAPI()

    @app.post("/animals")
    def create(animal: Animal) -> Snapped:
        return Snapped(photo=animal.photo)

    schemas = app.openapi()["components"]["schemas"]
    assert schemas["Animal"]["properties"]["photo"]["anyOf"][0]["type"] == "string"
    kinds = [form["type"] for form in schemas["Snapped"]["properties"]["photo"]["anyOf"]]
    assert kinds == ["string", "object", "null"]


# What it refuses


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nonsense", r"'nonsense' is not a file's id \(24 hex digits\)"),
        ({"id": HEX}, r"a mapping with the file's id under '_id', not \{'id'"),
        ({"_id": {"$gt": ""}}, r"a mapping with the file's id under '_id'"),
        ({**SNAPSHOT, "length": -1}, r"not a snapshot of a file: .*length"),
        ({**SNAPSHOT, "upload_date": "yesterday"}, r"not a snapshot of a file: .*yesterday"),
        (7, r"int"),
        (1.5, r"float"),
        (True, r"bool"),
    ],
)
def test_a_value_that_is_not_a_file_is_named(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Animal.model_validate({"photo": value})
    assert caught.value.errors()[0]["type"] == "grid_file"
    assert caught.value.errors()[0]["loc"] == ("photo",)
    with pytest.raises(ValidationError, match=message):
        Animal.model_validate_json(json.dumps({"photo": value}))


def test_invalid_python_values_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"text"):
        Animal.model_validate({"photo": io.StringIO("text")})
    with pytest.raises(ValidationError, match=r"needed, not list"):
        Animal.model_validate_json('{"photo": [1]}')


def test_a_file_of_another_bucket_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"is in .*'sounds'.* keeps its files in .*put its content here"):
        Everywhere.model_validate({"named": AsyncGridFile(ObjectId(HEX), bucket="sounds")})
    # An empty one has nothing to leave behind.
    assert Everywhere(named=AsyncGridFile()).named.options.bucket == "named"


def test_options_without_a_file_are_an_error() -> None:
    with pytest.raises(BadOption, match=r"annotates a field that holds AsyncGridFile, and there is none in .*str"):

        class Wrong(BaseModel):
            name: Annotated[str, FileOptions()]


# Replaced files, and copies


async def stored_animal() -> Animal:
    """As it comes from a collection."""
    animal = Animal()
    await animal.photo.put(b"old")
    return Animal.model_validate(animal.model_dump())


async def test_a_plain_model_keeps_replaced_files_until_finalize(connected: None, database: Database) -> None:
    animal = await stored_animal()
    await animal.photo.replace(b"new")
    assert await contents(database) == (2, 2)
    await animal.photo.revert()
    assert await animal.photo.read() == b"old"
    await animal.photo.replace(b"newer")
    await animal.photo.finalize()
    assert await animal.photo.read() == b"newer"
    assert await contents(database) == (1, 1)


async def test_assigned_content_is_refused_by_a_read_and_stored_by_hand(connected: None) -> None:
    class Assigning(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        photo: Annotated[AsyncGridFile, FileOptions(max_size=4)]

    animal = Assigning.model_validate({})
    animal.photo = b"data"  # type: ignore[assignment]  # pydantic turns it into a file
    with pytest.raises(gridproxy.UploadInProgress, match="not stored yet"):
        await animal.photo.read()
    with pytest.raises(gridproxy.TooLarge):
        await animal.photo.put(b"too much")
    await animal.photo.put(b"data")
    assert await animal.photo.read() == b"data"


@pytest.mark.parametrize("store", ["put", "replace", "new_file", "delete"])
async def test_put_discards_assigned_content(store: str, connected: None, database: Database) -> None:
    animal = Animal.model_validate({"photo": b"given"})
    if store == "new_file":
        async with animal.photo.new_file():
            animal.photo.write(b"put")
    elif store == "delete":
        await animal.photo.delete()
    else:
        await getattr(animal.photo, store)(b"put")
    again = Animal.model_validate(animal.model_dump())
    assert again.photo == animal.photo
    assert not again.photo if store == "delete" else await again.photo.read() == b"put"
    assert await contents(database) == ((0, 0) if store == "delete" else (1, 1))


async def test_every_copy_of_a_model_keeps_the_old_file_too(connected: None, database: Database) -> None:
    animal = await stored_animal()
    for copied in (animal.model_copy(deep=True), copy.deepcopy(animal), pickle.loads(pickle.dumps(animal))):
        assert copied.photo is not animal.photo
        assert copied == animal
        await copied.photo.replace(b"new")
        assert await AsyncGridFile(animal.photo.id).read() == b"old"
        await copied.photo.revert()
    assert await contents(database) == (1, 1)
    assert animal.model_copy().photo is animal.photo


async def test_a_model_copied_during_a_write_has_the_old_file(connected: None) -> None:
    animal = await stored_animal()
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"new")
        copies = [animal.model_copy(deep=True), copy.deepcopy(animal), pickle.loads(pickle.dumps(animal))]
        for copied in copies:
            assert copied.photo.closed
            assert await copied.photo.read() == b"old"
        assert animal.model_copy().photo is animal.photo
        assert animal.model_dump()["photo"] == copies[0].photo.id
    assert await animal.photo.read() == b"new"
    assert await AsyncGridFile(copies[0].photo.id).read() == b"old"


def test_content_that_can_be_read_once_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    with open(tmp_path / "a", "rb") as opened:
        animal = Animal.model_validate({"photo": opened})
        with pytest.raises(BadSource, match="only once"):
            copy.deepcopy(animal)
    assert copy.deepcopy(Animal.model_validate({"photo": b"data"})).photo.state.content == b"data"


def test_the_package_does_not_import_pydantic() -> None:
    code = "import sys, gridproxy, gridproxy.adapters.document as d; sys.exit('pydantic' in sys.modules)"
    run: Any = subprocess.run([sys.executable, "-c", code], check=False)
    assert run.returncode == 0
