"""The classes that tests of `wrap_field` use: one model in every form that Python and its ODMs have."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import attrs
import beanie
import odmantic
import pydantic
from beanie import PydanticObjectId
from bson import ObjectId

from gridproxy import wrap_field


class Plain:
    avatar = wrap_field("avatar_id")

    def __init__(self, name: str, avatar_id: ObjectId | None = None) -> None:
        self.name = name
        self.avatar_id = avatar_id


@dataclasses.dataclass  # unhashable: it has an __eq__
class Data:
    name: str
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


@dataclasses.dataclass(slots=True, weakref_slot=True)
class Slotted:
    name: str
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


@attrs.define
class Attrs:
    name: str
    avatar_id: ObjectId | None = None
    avatar = wrap_field("avatar_id")


class Pydantic(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_assignment=True)
    name: str
    avatar_id: PydanticObjectId | None = None
    avatar = wrap_field("avatar_id")


class BeanieUser(beanie.Document):
    name: str
    avatar_id: PydanticObjectId | None = None
    avatar = wrap_field("avatar_id")

    class Settings:
        name = "beanie_user"


class OdmanticUser(odmantic.Model):
    name: str
    avatar_id: Optional[ObjectId] = None  # noqa: UP045  # ODMantic 1.0 knows no `X | None`
    avatar = wrap_field("avatar_id")


class HexPydantic(pydantic.BaseModel):
    name: str
    avatar_id: str | None = None
    avatar = wrap_field("avatar_id")


@dataclasses.dataclass
class HexData:
    name: str
    avatar_id: str | None = None
    avatar = wrap_field("avatar_id")


class HexPlain:
    avatar = wrap_field("avatar_id", as_="hex")

    def __init__(self, name: str, avatar_id: Any = None) -> None:
        self.name = name
        self.avatar_id = avatar_id


class HexOdmantic(odmantic.Model):
    name: str
    avatar_id: Optional[str] = None  # noqa: UP045  # ODMantic 1.0 knows no `X | None`
    avatar = wrap_field("avatar_id")


# Any, since that is all that they have in common: `avatar_id`, `avatar` and `name=`.
BY_OBJECT_ID: list[Any] = [Plain, Data, Slotted, Attrs, Pydantic, BeanieUser, OdmanticUser]
BY_HEX: list[Any] = [HexPlain, HexData, HexPydantic, HexOdmantic]
EVERY: list[Any] = [*BY_OBJECT_ID, *BY_HEX]
