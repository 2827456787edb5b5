"""Which fields of a Beanie document hold files, in which database, and what is stored of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from beanie import Document
from beanie.exceptions import CollectionWasNotInitialized
from beanie.odm.utils.encoder import DEFAULT_CUSTOM_ENCODERS
from bson import ObjectId
from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadId, NotConnected
from gridproxy.fields.default_database import DefaultDatabase
from gridproxy.fields.discovery import FieldPlan, is_file_type, options_in
from gridproxy.file.connection import using
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.pydantic import parts_of
from gridproxy.file.values import stored_value, validate_assignment

from .saving import UnstoredContent, current
from .typed_document import TypedDocument

_PLAIN = FileOptions()


class NotInitialised(NotConnected, CollectionWasNotInitialized):
    """A document's class was used before `init_beanie`. Also Beanie's own `CollectionWasNotInitialized`.

    ```python
    from gridproxy.adapters.beanie import NotInitialised

    assert issubclass(NotInitialised, gridproxy.NotConnected)
    ```
    """

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"{kind} has no database yet: call `await init_beanie(database=..., document_models=[{kind}])` first"
        )


@dataclass(frozen=True)
class FileField:
    """A field that can hold files: the adapter that validates its values, its options, and the types of its values."""

    adapter: TypeAdapter[Any]
    options: FileOptions
    types: tuple[type, ...]

    @property
    def optional(self) -> bool:
        """Whether the field may hold None."""
        return NoneType in self.types

    def assigned(self, current: object, value: Any, path: str) -> Any:
        """Return what the field holds after `value` is assigned in the place of `current`. Does no I/O.

        Raises gridproxy's `ValidationError` with the path if `current` is a file, and pydantic's otherwise.
        """
        if not isinstance(current, AsyncGridFile) or (value is None and self.optional):
            return self.adapter.validate_python(value)
        return validate_assignment(current, value, path)


class DocumentClass:
    """What is known of one class of documents: which of its fields hold files, how deep, and in which database.

    `fields` are the fields that hold files, without those of the models embedded in the document.
    """

    def __init__(self, kind: type[object]) -> None:
        assert issubclass(kind, BaseModel), "FileDocument refuses any other class"
        self.plan: FieldPlan = FieldPlan(kind)
        self.fields: dict[str, FileField] = {
            name: FileField(
                _adapter(field.annotation, field.metadata),
                options_in(field.annotation, field.metadata),
                tuple(_types(field.annotation)),
            )
            for name, field in kind.model_fields.items()
            if any(map(is_file_type, parts_of(field.annotation)))
        }
        # The keys under which a constructor is given the values of these fields. None if it may be any.
        # A validator of the whole model may rename keys, or return another object.
        simple = self.plan.flat and not _validators_of(kind)
        self.input_names: tuple[str, ...] | None = _input_names(kind, self.plan) if simple else None
        constructors = [each for each in kind.__mro__ if "__init__" in vars(each)]
        # Whether a document can be loaded without its constructors, which do no more than to validate.
        self.has_plain_constructor: bool = self.input_names is not None and [
            each.__name__ for each in constructors
        ] == ["FileDocument", "Document", "BaseModel", "object"]
        self._item_options: dict[tuple[str, int], tuple[FileOptions, FileOptions]] = {}
        self._collection: AsyncCollection[Any] | None = None
        self._default_database: DefaultDatabase | None = None

    def options(self, name: str, own: FileOptions) -> FileOptions:
        """Return the options of a file in this field, which has its `own`.

        An item of a list does not have the options of the field. It has its own if they say anything.
        """
        kept = self._item_options.get((name, id(own)))
        if kept is None or kept[0] is not own:
            field = self.fields.get(name)
            kept = own, own if field is None or own != _PLAIN else field.options
            if len(self._item_options) > 1000:  # options that are made anew for each object would grow without a bound
                self._item_options.clear()
            self._item_options[name, id(own)] = kept
        return kept[1]

    def default_database(self, kind: type[TypedDocument]) -> DefaultDatabase:
        """Return the database of the class, which is `kind`. Raises `NotInitialised` before `init_beanie`."""
        try:
            collection: AsyncCollection[Any] | None = kind.get_settings().pymongo_collection
        except CollectionWasNotInitialized as error:
            raise NotInitialised(kind.__name__) from error
        if collection is not self._collection or self._default_database is None:
            assert collection is not None, "init_beanie has set it"
            self._collection, self._default_database = collection, DefaultDatabase(collection.database)
        return self._default_database


# What is known of a class is kept in an attribute of this name: documents are loaded by the thousand, and a dictionary
# of weak references takes longer.
KNOWN = "__gridproxy_class__"


def class_of(kind: type[object]) -> DocumentClass:
    """Return what is known of a class of documents. It is found out at the first use."""
    found: DocumentClass | None = kind.__dict__.get(KNOWN)
    if found is None:
        found = DocumentClass(kind)
        setattr(kind, KNOWN, found)
    return found


def _validators_of(kind: type[BaseModel]) -> set[str]:
    """Return the names of the model's own validators of the whole model, without those of Beanie."""
    own: set[str] = set(kind.__pydantic_decorators__.model_validators)
    beanies: set[str] = set(Document.__pydantic_decorators__.model_validators)
    return own - beanies


def _input_names(kind: type[BaseModel], plan: FieldPlan) -> tuple[str, ...] | None:
    names = list(plan.depths)
    for name in plan.depths:
        for alias in (kind.model_fields[name].alias, kind.model_fields[name].validation_alias):
            if isinstance(alias, AliasChoices | AliasPath):
                return None
            if alias is not None:
                names.append(alias)
    return tuple(dict.fromkeys(names))


def _types(annotation: object) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        for part in get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from _types(part)
    elif annotation is not Any and isinstance(kind := origin or annotation, type):
        yield kind


def _adapter(annotation: Any, metadata: list[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[(annotation, *metadata)] if metadata else annotation)


def using_document_database(kind: type[TypedDocument]) -> AbstractContextManager[None]:
    """Let files without a database of their own be in the document's database, inside the block."""
    return using(class_of(kind).default_database(kind).database)


def _encoded(file: AsyncGridFile) -> object:
    """Return what Beanie stores of a file, or compares in a query."""
    state = file.state
    if state.content is None and state.options.store == "id" and type(state.id) is ObjectId:
        return state.id  # as most files are stored
    if state.content is not None:
        if (saving := current.get()) is not None:
            saving.has_content = True
        return UnstoredContent(file)
    value = stored_value(file)
    if isinstance(value, ObjectId | dict | None):
        return value
    raise BadId(f"the id of a file in a Beanie document must be an ObjectId: {value!r} could not be loaded again")


# Beanie has one table for documents, embedded values, updates and queries.
DEFAULT_CUSTOM_ENCODERS[AsyncGridFile] = _encoded
# What `save_changes` and `update` write is encoded twice. BSON refuses it.
DEFAULT_CUSTOM_ENCODERS[UnstoredContent] = lambda unstored: unstored
