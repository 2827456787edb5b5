"""wrap_field: refused use, with errors that name the field. Nothing is stored or lost."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest
from bson import ObjectId

import gridproxy
from gridproxy import AsyncGridFile, BadId, BadOption, BadSource, NotConnected, UploadInProgress, wrap_field
from gridproxy.adapters.document import Document, FileField

from ..naming import shown
from ..observing import Database, contents
from .wrapped import Data, HexPydantic, Plain

connected = pytest.mark.usefixtures("connected")


@pytest.mark.parametrize("attribute", [None, 3, "", "avatar id", "a.b", AsyncGridFile()])
def test_an_invalid_attribute_name_is_refused(attribute: Any) -> None:
    with pytest.raises(BadOption, match="name of an attribute"):
        wrap_field(attribute)


def test_options_are_checked_when_the_class_is_made() -> None:
    with pytest.raises(BadOption, match="as_ is 'id' or 'hex'"):
        wrap_field("avatar_id", as_="str")  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(BadOption, match="max_size"):
        wrap_field("avatar_id", max_size=-1)


def test_a_field_that_wraps_itself() -> None:
    class User:
        avatar = wrap_field("avatar")

    with pytest.raises(BadOption, match=r"User\.avatar wraps itself"):
        _ = User().avatar


@pytest.mark.parametrize("asked", [AsyncGridFile(), ObjectId()])
def test_a_query_by_the_field_names_the_attribute_to_compare(asked: Any) -> None:
    with pytest.raises(BadOption, match=r"avatar is not a field of queries: .*`avatar_id == file\.id`"):
        _ = Plain.avatar == asked
    with pytest.raises(BadOption, match="avatar_id"):
        _ = Plain.avatar != asked
    assert len({Plain.avatar, Plain.avatar}) == 1
    assert Plain.avatar != wrap_field("avatar_id")
    assert Plain.avatar is not None


def test_a_missing_attribute_raises_attribute_error() -> None:
    class User:
        avatar = wrap_field("avatar_id")

    with pytest.raises(AttributeError, match="avatar_id"):
        _ = User().avatar


@pytest.mark.parametrize("value", ["no id", "", b"twelve bytes", 17, 1.5, {"$ne": None}, [ObjectId()], object()])
@connected
async def test_an_attribute_with_another_value_raises_bad_id(value: object, database: Database) -> None:
    user: Any = Plain("Ada")
    file = user.avatar
    user.avatar_id = value
    with pytest.raises(BadId, match=r"Plain\.avatar_id .*24 hex digits or None, and not"):
        _ = user.avatar
    for call in (
        file.read,
        lambda: file.put(b"x"),
        lambda: file.replace(b"x"),
        file.delete,
        file.new_file().__aenter__,
    ):
        with pytest.raises(BadId, match=r"Plain\.avatar_id"):
            await call()
    assert user.avatar_id is value
    assert await contents(database) == (0, 0)


@connected
async def test_assigned_content_is_refused(tmp_path: Path) -> None:
    user = Plain("Ada")
    (tmp_path / "face.png").write_bytes(b"a face")
    for value in (b"a face", bytearray(b"a face"), io.BytesIO(b"a face"), tmp_path / "face.png"):
        with pytest.raises(BadSource, match=r"Plain\.avatar takes a file, an id or None.*put\(\) or replace\(\)"):
            user.avatar = value
    assert user.avatar_id is None
    assert not user.avatar


@pytest.mark.parametrize("value", ["no id", {"$ne": None}, {"_id": ObjectId()}, 17, object()])
@connected
async def test_assigned_values_that_are_not_ids_are_refused(value: Any) -> None:
    file = AsyncGridFile()
    await file.put(b"a face")
    user = Data("Ada", file.id)  # type: ignore[arg-type]  # an ObjectId
    with pytest.raises((BadId, BadSource)):
        user.avatar = value
    assert await user.avatar.read() == b"a face"


@connected
async def test_a_file_of_another_bucket(database: Database) -> None:
    other = AsyncGridFile(bucket="other")
    await other.put(b"elsewhere")
    user = Plain("Ada")
    with pytest.raises(BadId, match=r"is in bucket 'other' and this field keeps its files in bucket 'fs'"):
        user.avatar = other
    assert user.avatar_id is None
    user.avatar = AsyncGridFile(bucket="other")  # an empty file is in no bucket
    assert user.avatar_id is None
    assert other.options.bucket == "other"


@connected
async def test_a_file_that_is_being_written() -> None:
    user, other = Plain("Ada"), Plain("Bob")
    async with user.avatar.new_file():
        user.avatar.write(b"a face")
        with pytest.raises(UploadInProgress):
            other.avatar = user.avatar
        with pytest.raises(UploadInProgress):
            user.avatar = None
        with pytest.raises(UploadInProgress):
            await user.avatar.read()
    assert await user.avatar.read() == b"a face"
    assert other.avatar_id is None


def test_a_wrapped_file_is_not_deleted_from_its_object() -> None:
    with pytest.raises(AttributeError, match=r"Plain\.avatar cannot be deleted: assign None"):
        del Plain("Ada").avatar


@connected
async def test_use_without_a_connection_raises_not_connected() -> None:
    gridproxy.disconnect()
    user = Plain("Ada")
    with pytest.raises(NotConnected):
        await user.avatar.put(b"a face")
    assert user.avatar_id is None


# Classes that cannot be wrapped


class Row(tuple[Any, ...]):
    __slots__ = ()
    avatar_id = None
    avatar = wrap_field("avatar_id")


@dataclasses.dataclass(slots=True)
class NoWeakref:
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


@pytest.mark.parametrize("kind", [Row, NoWeakref])
def test_a_class_without_weak_references_is_refused(kind: Any) -> None:
    with pytest.raises(BadOption, match=re.escape(f"{kind.__name__} takes no weak references")):
        _ = kind().avatar


@dataclasses.dataclass(frozen=True)
class FrozenData:
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


@attrs.frozen
class FrozenAttrs:
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


class FrozenPydantic(pydantic.BaseModel, frozen=True, arbitrary_types_allowed=True):
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


class FrozenField(pydantic.BaseModel, arbitrary_types_allowed=True):
    avatar_id: ObjectId | None = pydantic.Field(None, frozen=True)
    avatar = wrap_field("avatar_id")


class ReadOnly:
    avatar = wrap_field("avatar_id")

    def __init__(self, avatar_id: ObjectId | None = None) -> None:
        self._avatar_id = avatar_id

    @property
    def avatar_id(self) -> ObjectId | None:
        return self._avatar_id


@pytest.mark.parametrize("kind", [FrozenData, FrozenAttrs, FrozenPydantic, FrozenField, ReadOnly])
@connected
async def test_a_frozen_class_can_only_be_read(kind: Any, database: Database) -> None:
    file = AsyncGridFile()
    await file.put(b"a face")
    user, empty = kind(avatar_id=file.id), kind()
    assert await user.avatar.read() == b"a face"
    for call in (
        lambda: empty.avatar.put(b"x"),
        lambda: user.avatar.replace(b"x"),
        lambda: user.avatar.new_file(replace=True).__aenter__(),
        user.avatar.delete,
    ):
        with pytest.raises(BadOption, match=rf"{kind.__name__}\.avatar_id is frozen"):
            await call()
    for value in (None, ObjectId(), file):
        # A frozen class may say so by itself, before anybody is asked.
        with pytest.raises((BadOption, AttributeError, pydantic.ValidationError)):
            user.avatar = value
    assert user.avatar_id == file.id
    assert await contents(database) == (1, 1)


def test_an_annotation_that_cannot_be_read() -> None:
    class User:
        avatar = wrap_field("avatar_id")
        avatar_id: NowhereDefined | None = None  # type: ignore[name-defined]  # noqa: F821  # that is what is tested

    user = User()
    with pytest.raises(BadOption, match=r"User\.avatar_id is empty, and its annotation cannot be read.*as_="):
        user.avatar = ObjectId()
    assert user.avatar_id is None
    user.avatar = None


# Classes that refuse an id


class Picky:
    avatar = wrap_field("avatar_id")
    refusing = False
    _id: ObjectId | None = None

    @property
    def avatar_id(self) -> ObjectId | None:
        return self._id

    @avatar_id.setter
    def avatar_id(self, id: ObjectId | None) -> None:
        if self.refusing and id != self._id:
            raise ValueError("not today")
        self._id = id


@connected
async def test_an_id_refused_by_the_class_raises_its_error_and_leaves_no_file(database: Database) -> None:
    user = Picky()
    await user.avatar.put(b"a face")
    before = user.avatar.info
    user.refusing = True
    with pytest.raises(ValueError, match="not today") as caught:
        await user.avatar.replace(b"another")
    assert caught.value.__notes__ == ["Picky.avatar: the new file was removed again."]
    with pytest.raises(ValueError, match="not today"):
        async with user.avatar.new_file(replace=True):
            user.avatar.write(b"another")
    with pytest.raises(ValueError, match="not today"):
        await user.avatar.delete()
    with pytest.raises(ValueError, match="not today"):
        user.avatar = None
    assert user.avatar.info == before
    assert await user.avatar.read() == b"a face"
    assert await contents(database) == (1, 1)


class Required(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_assignment=True)
    avatar_id: str
    avatar = wrap_field("avatar_id")


@connected
async def test_a_file_of_a_required_attribute_is_not_deleted(database: Database) -> None:
    file = AsyncGridFile()
    await file.put(b"a face")
    user = Required(avatar_id=str(file.id))
    with pytest.raises(pydantic.ValidationError):
        await user.avatar.delete()
    assert await user.avatar.read() == b"a face"


@connected
async def test_a_failed_removal_keeps_the_id(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Plain("Ada")
    await user.avatar.put(b"a face")
    before = user.avatar_id

    async def cut(*args: object) -> None:
        raise ConnectionResetError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr("gridproxy.file.state.remove_file", cut)
        with pytest.raises(ConnectionResetError):
            await user.avatar.delete()
    assert user.avatar_id == before
    assert await user.avatar.read() == b"a face"


@pytest.mark.parametrize("id", [17, "marmot", str(ObjectId())], ids=shown)
@connected
async def test_ids_of_other_kinds_do_not_fit_into_the_attribute(id: object, database: Database) -> None:
    user = HexPydantic(name="Ada")
    with pytest.raises(BadId, match=r"HexPydantic\.avatar_id names files by ObjectId only"):
        await user.avatar.put(b"a face", id=id)
    assert user.avatar_id is None
    assert await contents(database) == (0, 0)


# One file in two places


@connected
async def test_a_wrapped_file_in_a_document_is_never_removed_automatically(database: Database) -> None:
    class Album(Document):
        cover = FileField(on_delete="delete")

    user = Plain("Ada")
    await user.avatar.put(b"a face")
    album = await Album(cover=user.avatar).save()
    old = user.avatar.id
    await user.avatar.replace(b"another")
    await user.avatar.finalize()
    await album.save()
    await album.delete()
    assert await AsyncGridFile(old).read() == b"a face"
    assert await user.avatar.read() == b"another"
