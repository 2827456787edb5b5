"""Document: fields with names, saved in one collection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import bson
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure, DuplicateKeyError

from ...connection import get_database
from ...errors import BadOption, DocumentMissing, StaleDocument, ValidationError
from ...file import AsyncGridFile
from ...info import id_filter
from ...options import check_id
from ...owner import Attachment, delete_files, refuse_open_files, saved, store_content
from ...store import Session
from ...tasks import settle
from .fields import Field, FileField, ListField
from .query import Objects

__all__ = ["Document"]

Raw = dict[str, Any]


class Document:
    """A document of one collection: `class Animal(Document): genus = StringField()`.

    The collection is named after the class in snake case, or `class Animal(Document, collection="zoo")`; the
    database is that of
    `gridproxy.connect`, for `db_alias` where the class names one. `id` is the document's `_id`, None before the
    first save.
    Equal are saved documents of one class and id.
    """

    __hash__ = None  # type: ignore[assignment]  # equality is by an id that a save gives
    objects: ClassVar[Objects] = Objects()

    _fields: ClassVar[dict[str, Field[Any, Any]]] = {}
    _collection_name: ClassVar[str] = ""
    _db_alias: ClassVar[str | None] = None

    def __init_subclass__(cls, *, collection: str | None = None, db_alias: str | None = None) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for name in own:
            if name.startswith("_") or hasattr(Document, name):
                raise BadOption(f"{cls.__name__}: a field cannot be called {name!r}, a Document's own name")
        cls._fields = {**cls._fields, **own}
        cls._collection_name = collection or _snake_case(cls.__name__)
        if db_alias is not None:
            cls._db_alias = db_alias

    def __init__(self, *, id: object = None, **values: Any) -> None:
        check_id(id)
        self._begin(id)
        for name in values:
            if name not in self._fields:
                raise self._unknown(name)
        for name, field in self._fields.items():
            self._values[name] = field.new_value(self)
            if name in values:
                self._values[name] = field.assigned(self, values[name])

    def _begin(self, id: object) -> None:
        self._id = id
        self._values: dict[str, Any] = {}
        self._stored: Raw | None = None  # what the collection holds as far as we know, None while nothing
        self._unsure = False  # an insert whose outcome nobody told

    @property
    def id(self) -> Any:
        """The document's `_id`; None before the first save, unless one was given."""
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return self is other or (type(self) is type(other) and self._id is not None and self._id == other._id)

    def __repr__(self) -> str:
        shown = "".join(f" {name}={value!r}" for name, value in self._values.items())
        return f"<{type(self).__name__} id={self._id!r}{shown}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"id": self._id, "values": self._values, "stored": self._stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["id"])
        self._stored = state["stored"]
        for name, value in state["values"].items():
            self._values[name] = self._fields[name].cloned(self, value)

    # Saving

    async def save(self, *, session: Session | None = None) -> Self:
        """Store the document: the whole of a new one, of another only the fields that changed. Gives itself back.

        Assigned content is stored first; replaced files go after the document was written. Raises `ValidationError`
        naming the field,
        `UploadInProgress` while a file of it is being written, `StaleDocument` when somebody else changed a file field
        meanwhile, `DocumentMissing` when it was deleted; nothing is lost then, and a failed save may be repeated.
        """
        refuse_open_files(self._named_files())
        self._check_fields()
        for file in self._files():
            await store_content(file, session)
        # A cancelled write lands all the same, so it is seen to its end, and the old files' removal with it.
        await settle(self._write(session))
        return self

    def _check_fields(self) -> None:
        for name, field in self._fields.items():
            value = self._values[name]
            if self._stored is None or isinstance(field, ListField) or self._differs(name, field.stored(value)):
                value = self._values[name] = field.assigned(self, value)
            if field.required and self._is_empty(field, value):
                raise ValidationError(name, "this field is required, and is empty")

    @staticmethod
    def _is_empty(field: Field[Any, Any], value: Any) -> bool:
        if isinstance(field, FileField):
            return not value and value._content is None
        return value is None or value in ([], {})

    def _differs(self, name: str, now: Any) -> bool:
        assert self._stored is not None
        return not _same(name, self._stored.get(name), now)

    async def _write(self, session: Session | None) -> None:
        now = {name: field.stored(self._values[name]) for name, field in self._fields.items()}
        for name, value in now.items():
            _encoded(name, value)
        if self._stored is None:
            await self._insert(now, session)
        else:
            await self._update(now, session)
        self._stored = _copied(now)
        await saved(self._files(), session)

    async def _insert(self, now: Raw, session: Session | None) -> None:
        # Kept after a failure too: whoever saves again must not make a second document of an insert that did land.
        self._id = ObjectId() if self._id is None else self._id
        try:
            await self._collection().insert_one({"_id": self._id, **now}, session=session)
        except ConnectionFailure:
            self._unsure = True
            raise
        except DuplicateKeyError:
            if not self._unsure:
                raise
            self._stored = await self._collection().find_one({"_id": id_filter(self._id)}, session=session)
            await self._update(now, session)
        self._unsure = False

    async def _update(self, now: Raw, session: Session | None) -> None:
        assert self._stored is not None
        changes = {name: value for name, value in now.items() if self._differs(name, value)}
        if not changes:
            return
        # Compare and set: two writers of one file field cannot both win, and the loser's file is still whole.
        before = {name: _expected(self._stored.get(name)) for name in changes if self._holds_files(name)}
        query = {"_id": id_filter(self._id), **before}
        update = {"$set": changes}
        if (await self._collection().update_one(query, update, session=session)).matched_count:
            return
        found = await self._collection().find_one({"_id": id_filter(self._id)}, session=session)
        if found is None:
            raise DocumentMissing(f"{type(self).__name__} {self._id!r} was deleted; nothing was written")
        for name in before:
            # An earlier attempt whose answer was lost has written our own value: that is no one else's change.
            if not _same(name, found.get(name), now[name]):
                raise StaleDocument(f"{type(self).__name__} {self._id!r}", name)
        await self._collection().update_one({"_id": id_filter(self._id)}, update, session=session)

    def _holds_files(self, name: str) -> bool:
        field = self._fields[name]
        return isinstance(field, FileField) or (isinstance(field, ListField) and isinstance(field.inner, FileField))

    async def reload(self, *, session: Session | None = None) -> Self:
        """Take every field from the collection again, and forget what was changed here. Gives itself back.

        Raises `DocumentMissing`. A file that was put here and never saved is left for the collector.
        """
        refuse_open_files(self._named_files())
        raw = await self._collection().find_one({"_id": id_filter(self._id)}, session=session)
        if raw is None:
            raise DocumentMissing(f"{type(self).__name__} {self._id!r} is not stored")
        for name, field in self._fields.items():
            current = self._values[name]
            value = self._values[name] = field.loaded(self, raw.get(name))
            if isinstance(field, FileField):
                self._values[name] = _kept(current, value)
        self._stored = raw
        return self

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the document, then the files of fields with `on_delete="delete"`. Raises `DocumentMissing`."""
        refuse_open_files(self._named_files())
        await settle(self._delete(session))

    async def _delete(self, session: Session | None) -> None:
        query = {"_id": id_filter(self._id)}
        if not (await self._collection().delete_one(query, session=session)).deleted_count:
            raise DocumentMissing(f"{type(self).__name__} {self._id!r} is not stored")
        self._stored = None
        await delete_files([file for file in self._files() if file.options.on_delete == "delete"], session)

    # Inside

    def _files(self) -> Iterator[AsyncGridFile]:
        for _, file in self._named_files():
            yield file

    def _named_files(self) -> Iterator[tuple[str, AsyncGridFile]]:
        for name, field in self._fields.items():
            for file in field.files(self._values[name]):
                # What was put into a list by hand is a file only once the list was checked.
                if isinstance(file, AsyncGridFile):
                    yield name, file

    @classmethod
    def _collection(cls) -> AsyncCollection[Raw]:
        database = get_database(cls._db_alias)
        options: Any = database.codec_options.with_options(document_class=dict)
        return database.get_collection(cls._collection_name, codec_options=options)

    @classmethod
    def _from_stored(cls, raw: Raw) -> Self:
        document = cls.__new__(cls)
        document._begin(raw.get("_id"))
        document._stored = raw
        for name, field in cls._fields.items():
            document._values[name] = field.loaded(document, _copied(raw.get(name)))
        return document

    @classmethod
    def _stored_name(cls, name: str) -> str:
        if name == "id":
            return "_id"
        if name not in cls._fields:
            raise cls._unknown(name)
        return name

    @classmethod
    def _compared(cls, name: str, value: Any) -> Mapping[str, Any]:
        stored = cls._stored_name(name)
        return {stored: id_filter(value) if stored == "_id" else cls._fields[name].query(cls(), value)}

    @classmethod
    def _unknown(cls, name: str) -> ValidationError:
        return ValidationError(name, f"{cls.__name__} has no such field; it has {', '.join(['id', *cls._fields])}")


def _kept(current: AsyncGridFile, loaded: AsyncGridFile) -> AsyncGridFile:
    """The proxy that somebody may hold already, pointing to what was loaded.

    Not where another document holds it too.
    """
    holder = current._holder
    if not isinstance(holder, Attachment) or holder.shared:
        return loaded
    current._point_to(loaded.id, current.info if current.id == loaded.id else None)
    holder.mark_saved(forget=True)
    return current


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _expected(value: Any) -> Any:
    return {"$eq": value} if isinstance(value, list) else id_filter(value)


def _encoded(name: str, value: Any) -> bytes:
    try:
        return bson.encode({"": value})
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise ValidationError(name, f"this cannot be stored: {error}") from error


def _same(name: str, one: Any, other: Any) -> bool:
    # As BSON, where 1, 1.0 and True are three things.
    return _encoded(name, one) == _encoded(name, other)


def _copied(value: Any) -> Any:
    """Containers anew, scalars as they are: what is changed in place must show against what was stored."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
