"""Which fields of a Beanie document hold files, in which database, and what is stored of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, get_args
from weakref import WeakKeyDictionary

from beanie import Document
from beanie.exceptions import CollectionWasNotInitialized
from beanie.odm.utils.encoder import DEFAULT_CUSTOM_ENCODERS
from bson import ObjectId
from pydantic import TypeAdapter
from pymongo.asynchronous.database import AsyncDatabase

from ...annotations import is_file, options_in, parts_of
from ...connection import using
from ...errors import BadId, NotConnected
from ...field_value import stored_value
from ...file import AsyncGridFile
from ...home import Home
from ...options import FileOptions
from .typed_document import TypedDocument

__all__ = ["FileField", "NotInitialised", "at_home", "file_fields", "options_at_home"]


class NotInitialised(NotConnected, CollectionWasNotInitialized):
    """A document of a class that Beanie has not been given yet: `init_beanie` comes first.

    It is a `NotConnected`, and Beanie's own `CollectionWasNotInitialized`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"{kind} belongs to no database yet: `await init_beanie(database=..., document_models=[{kind}])` first"
        )


@dataclass(frozen=True)
class FileField:
    """A field whose type has a file in it: what takes its values, its options, and whether it may hold None."""

    adapter: TypeAdapter[Any]
    options: FileOptions
    optional: bool


_fields: WeakKeyDictionary[type[TypedDocument], dict[str, FileField]] = WeakKeyDictionary()
_homes: WeakKeyDictionary[type[TypedDocument], Home] = WeakKeyDictionary()


def file_fields(kind: type[TypedDocument]) -> dict[str, FileField]:
    """The fields of a class that hold files, by their names; what lies in embedded models is theirs."""
    found = _fields.get(kind)
    if found is None:
        assert issubclass(kind, Document), "FileDocument refuses any other class"
        found = _fields[kind] = {
            name: FileField(
                _adapter(field.annotation, field.metadata),
                options_in(field.annotation, field.metadata),
                NoneType in get_args(field.annotation),
            )
            for name, field in kind.model_fields.items()
            if any(map(is_file, parts_of(field.annotation)))
        }
    return found


def _adapter(annotation: Any, metadata: list[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[(annotation, *metadata)] if metadata else annotation)


def at_home(kind: type[TypedDocument]) -> AbstractContextManager[None]:
    """Inside the block a file without a database of its own is one of the document's database."""
    return using(_database(kind))


def options_at_home(kind: type[TypedDocument], options: FileOptions) -> FileOptions:
    """The same options, in the document's database where they name none of their own."""
    database, home = _database(kind), _homes.get(kind)
    if home is None or home.database is not database:
        home = _homes[kind] = Home(database)
    return home.options(options)


def _database(kind: type[TypedDocument]) -> AsyncDatabase[Any]:
    try:
        return kind.get_pymongo_collection().database
    except CollectionWasNotInitialized as error:
        raise NotInitialised(kind.__name__) from error


def _encoded(file: AsyncGridFile) -> object:
    """What Beanie stores of a file, or asks for in a query."""
    if file._content is not None:
        return _Unstored(file._content)
    value = stored_value(file)
    if isinstance(value, ObjectId | dict | None):
        return value
    raise BadId(
        f"a field of a Beanie document holds a file whose id is an ObjectId; {value!r} could not be loaded again"
    )


@dataclass(eq=False)
class _Unstored:
    """Nothing that BSON has, so that it differs from whatever is stored, and cannot be stored."""

    content: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unstored) and self.content is other.content

    __hash__ = None  # type: ignore[assignment]  # the way Python spells "unhashable"

    def __repr__(self) -> str:
        return "content that was assigned to a file field and is not stored yet: put() it, or save its document"


# Beanie has one table for documents, embedded values, updates and queries, and asks nobody else.
DEFAULT_CUSTOM_ENCODERS[AsyncGridFile] = _encoded
