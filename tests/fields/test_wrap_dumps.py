"""wrap_field leaves no trace: dumps, schemas and stored documents are byte for byte those of the bare class."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Optional

import attrs
import beanie
import bson
import odmantic
import pydantic
import pytest
from beanie import PydanticObjectId
from beanie.odm.utils.encoder import Encoder
from bson import ObjectId
from pydantic import TypeAdapter

from gridproxy import AsyncGridFile, wrap_field

from ..observing import Database

ID = ObjectId("6b08cb52497f240f44e4bd84")


# Each makes one class: with the file, or without.


def plain(wrapped: bool) -> Any:
    class User:
        if wrapped:
            avatar = wrap_field("avatar_id")

        def __init__(self, name: str, avatar_id: ObjectId | None = None) -> None:
            self.name = name
            self.avatar_id = avatar_id

    return User


def data(wrapped: bool) -> Any:
    @dataclasses.dataclass
    class User:
        name: str
        avatar_id: ObjectId | None = None
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def slotted(wrapped: bool) -> Any:
    @dataclasses.dataclass(slots=True, weakref_slot=True)
    class User:
        name: str
        avatar_id: ObjectId | None = None
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def with_attrs(wrapped: bool) -> Any:
    @attrs.define
    class User:
        name: str
        avatar_id: ObjectId | None = None
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def with_pydantic(wrapped: bool) -> Any:
    class User(pydantic.BaseModel):
        name: str
        avatar_id: PydanticObjectId | None = None
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def with_hex(wrapped: bool) -> Any:
    class User(pydantic.BaseModel):
        name: str
        avatar_id: str | None = pydantic.Field(None, pattern="^[0-9a-f]{24}$", alias="avatarId")
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def with_beanie(wrapped: bool) -> Any:
    class User(beanie.Document):
        name: str
        avatar_id: PydanticObjectId | None = None
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


def with_odmantic(wrapped: bool) -> Any:
    class User(odmantic.Model):
        name: str
        avatar_id: Optional[ObjectId] = None  # noqa: UP045  # ODMantic 1.0 knows no `X | None`
        if wrapped:
            avatar = wrap_field("avatar_id")

    return User


CLASSES = [plain, data, slotted, with_attrs, with_pydantic, with_hex]
ODMS = [with_beanie, with_odmantic]


def dumps(user: Any) -> list[object]:
    """Everything that can be had of an object, as text or bytes."""
    shown: list[object] = [dict(getattr(user, "__dict__", {})), repr(user).partition(" object at ")[0]]
    if dataclasses.is_dataclass(user) and not isinstance(user, type):
        shown += [dataclasses.asdict(user), dataclasses.astuple(user)]
    if attrs.has(type(user)):
        shown.append(attrs.asdict(user))
    if isinstance(user, pydantic.BaseModel):
        for unset, none, alias in itertools.product((False, True), repeat=3):
            shown.append(user.model_dump_json(exclude_unset=unset, exclude_none=none, by_alias=alias))
            shown.append(bson.encode(user.model_dump(exclude_unset=unset, exclude_none=none, by_alias=alias)))
        shown.append(sorted(user.model_fields_set))
    if isinstance(user, beanie.Document):
        shown.append(bson.encode(Encoder(to_db=True).encode(user)))
    if isinstance(user, odmantic.Model):
        shown += [bson.encode(user.model_dump_doc()), sorted(user.__fields_modified__)]
    return shown


def schema(kind: Any) -> list[object]:
    """Return the description of a class."""
    shown: list[object] = [str(inspect.signature(kind)), kind.__annotations__]
    if dataclasses.is_dataclass(kind):
        shown += [[(field.name, field.type) for field in dataclasses.fields(kind)]]
    if attrs.has(kind):
        shown.append([field.name for field in attrs.fields(kind)])
    if issubclass(kind, pydantic.BaseModel):
        shown += [kind.model_json_schema(), TypeAdapter(list[kind]).json_schema(), list(kind.model_fields)]
    if issubclass(kind, odmantic.Model):
        shown += [sorted(kind.__odm_fields__), sorted(kind.__mutable_fields__), kind.__collection__]
    return shown


@pytest.mark.parametrize("make", [*CLASSES, *ODMS], ids=lambda make: make.__name__)
async def test_dumps_and_schemas_are_those_of_the_unwrapped_class(
    make: Callable[[bool], Any], database: Database
) -> None:
    bare, wrapped = make(False), make(True)
    if make is with_beanie:
        await beanie.init_beanie(database, document_models=[bare])
        await beanie.init_beanie(database, document_models=[wrapped])
    assert schema(wrapped) == schema(bare)
    known = {"id": ObjectId()} if make in ODMS else {}
    given: str | ObjectId = str(ID) if make is with_hex else ID
    for name in ("avatarId", "avatar_id") if make is with_hex else ("avatar_id",):
        user, other = wrapped(name="Ada", **known, **{name: given}), bare(name="Ada", **known, **{name: given})
        assert user.avatar is user.avatar
        assert dumps(user) == dumps(other)
    # An assignment through the file is one to the attribute.
    user, other = wrapped(name="Ada", **known), bare(name="Ada", **known)
    assert not user.avatar
    assert dumps(user) == dumps(other)
    user.avatar, other.avatar_id = ID, given
    if make is with_odmantic:
        user.__fields_modified__.discard("avatar")  # ODMantic notes every assignment, but stores only its fields
    assert dumps(user) == dumps(other)
    user.avatar, other.avatar_id = None, None
    assert dumps(user)[:2] == dumps(other)[:2]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("make", [with_pydantic, with_hex], ids=lambda make: make.__name__)
async def test_a_failed_put_leaves_the_model_as_it_was(make: Callable[[bool], Any]) -> None:
    user = make(True)(name="Ada")
    before = dumps(user)

    def broken() -> Any:
        yield b"some"
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        await user.avatar.put(broken())
    with pytest.raises(OSError, match="unplugged"):
        async with user.avatar.new_file():
            raise OSError("unplugged")
    assert dumps(user) == before


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("make", [with_pydantic, with_hex, with_odmantic], ids=lambda make: make.__name__)
async def test_the_stored_id_is_that_of_the_unwrapped_class(make: Callable[[bool], Any], database: Database) -> None:
    known = {"id": ObjectId()} if make in ODMS else {}
    user = make(True)(name="Ada", **known)
    info = await user.avatar.put(b"a face")
    other = make(False)(name="Ada", **known)
    other.avatar_id = str(info.id) if make is with_hex else info.id
    await database["user"].insert_one(user.model_dump())
    raw = await database["user"].find_one({}, {"_id": False})
    assert raw == other.model_dump()
    assert dumps(user) == dumps(other)
    assert await AsyncGridFile(info.id).read() == b"a face"
