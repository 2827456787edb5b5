"""Document: fields with names, saved in one collection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from bson import ObjectId
from pymongo.errors import PyMongoError

from gridproxy.errors import BadId, BadOption, DocumentMissing, ValidationError
from gridproxy.fields.attacher import (
    complete_snapshots,
    confirm_stored,
    delete_files,
    join,
    mark_outcome_unknown,
    references,
    refuse_open_files,
    saved,
    store_content,
    unstored,
)
from gridproxy.file.attachment import FileRef
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.values import ids_in
from gridproxy.gridfs.records.ids import check_id, id_filter
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.transactions.transaction_log import TransactionLog, is_foreign_transaction, transaction_log_of
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import run_to_completion

from .fields import Field
from .file_fields import FileField
from .memory import remember_state, remember_values, remember_written
from .query import Objects
from .raw import copied, flat
from .stored import Raw, StoredDocument


class Document(StoredDocument):
    """A document of one collection: `class Animal(Document): genus = StringField()`.

    The collection is named after the class in snake case, or `class Animal(Document, collection="zoo")`; the
    database is that of `gridproxy.connect`, for `db_alias` where the class names one. `id` is the document's `_id`,
    None before the first save. Equal are saved documents of one class and id; unhashable. `Animal.objects` is the
    `QuerySet` of all of them.

    Fields are given as keywords, or assigned; neither does any I/O, and what is not given has its default. Raises
    `ValidationError` naming the field for a value that it cannot hold, and in the constructor for a name that is no
    field's and for an `id` that is none (caused by a `BadId`). A class raises `BadOption` for a field that is called
    like one of Document's own names.

    Methods take `session=`, and calls on one document take turns. They raise `NotConnected` where no database is known,
    and pymongo's own errors.
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # equality is by an id that a save gives
    objects: ClassVar[Objects] = Objects()

    def __init_subclass__(cls, *, collection: str | None = None, db_alias: str | None = None) -> None:
        super().__init_subclass__()
        cls._fields = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                cls._fields.pop(name, None)  # a field that a subclass made something else of
                if isinstance(value, Field):
                    cls._fields[name] = value
        for name in cls._fields:
            if name.startswith("_") or hasattr(Document, name):
                raise BadOption(f"{cls.__name__}: a field cannot be called {name!r}, a Document's own name")
        cls._collection_name = collection or _snake_case(cls.__name__)
        if db_alias is not None:
            cls._db_alias = db_alias

    def __init__(self, *, id: object = None, **values: Any) -> None:
        try:
            check_id(id)
        except BadId as error:
            raise ValidationError("id", f"{id!r} cannot be a document's id") from error
        self._begin(id)
        for name in values:
            if name not in self._fields:
                raise self._unknown(name)
        for name, field in self._fields.items():
            self._values[name] = field.assigned(self, values[name]) if name in values else field.new_value(self)

    def _begin(self, id: object) -> None:
        super()._begin(id)
        self._values: dict[str, Any] = {}
        self._turn = asyncio.Lock()

    @property
    def id(self) -> Any:
        """The document's `_id`, of any type; None before the first save, unless one was given."""
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return self is other or (type(self) is type(other) and self._id is not None and self._id == other._id)

    def __repr__(self) -> str:
        shown = "".join(f" {name}={value!r}" for name, value in self._values.items())
        return f"<{type(self).__name__} id={self._id!r}{shown}>"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "made_id": self._made_id,
            "values": self._values,
            "stored": self._stored,
            "unsure": self._outcome_unknown,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["id"])
        self._made_id, self._stored, self._outcome_unknown = state["made_id"], state["stored"], list(state["unsure"])
        for name, value in state["values"].items():
            self._values[name] = self._fields[name].cloned(self, value)

    # Saving

    async def save(self, *, session: Session | None = None) -> Self:
        """Store the document: the whole of a new one, of another only the fields that changed. Gives itself back.

        Assigned content is stored first, and raises what `AsyncGridFile.replace` raises; replaced files go after the
        document was written. Raises `ValidationError` naming the field that is required and empty, or holds what cannot
        be stored; `UploadInProgress` while a file of it is being written, or takes part in another transaction;
        `FileMissing` for a file of a transaction whose commit got no answer and did not come true; `StaleDocument` when
        somebody else changed a file field meanwhile; `DocumentMissing` when it was deleted.

        Nothing is lost then, and a failed save may be repeated; content that can be read only once has to be assigned
        again. So may one in a transaction that was aborted: after `gridproxy.transaction` everything is what it was
        before; after a transaction of pymongo's own `reload()` what had its files deleted there.
        """
        async with self._turn:
            refuse_open_files(self._named_files())
            self._join(session)
            self._check_fields()
            while (file := unstored(self._files())) is not None:
                await store_content(file, session)
                self._check_fields()  # more may have been assigned, or put into lists, meanwhile
            await confirm_stored(self._files(), session)
            await complete_snapshots(self._files(), session)
            # Copied, since lists and dicts may be changed in place while they are on their way.
            now = {name: copied(field.stored(self._values[name])) for name, field in self._fields.items()}
            for name, value in now.items():
                self._encoded(name, value)
            join(self._files(), session)  # those that came meanwhile
            # A cancelled write lands all the same, so it is seen to its end, and the old files' removal with it.
            await run_to_completion(self._write(now, references(self._files()), session))
        return self

    def _join(self, session: Session | None) -> TransactionLog | None:
        join(self._files(), session)
        if (tx_log := transaction_log_of(self._session(session))) is not None:
            remember_state(self, tx_log)
        return tx_log

    def _check_fields(self) -> None:
        for name, field in self._fields.items():
            value = self._values[name]
            # Only what changed, since what other code has stored may not fit; content put into a list by hand always.
            by_hand = isinstance(value, list) and self._holds_files(name)
            if self._stored is None or by_hand or self._differs(self._stored, name, field.stored(value)):
                value = self._values[name] = field.checked_again(self, value)
            if field.required and self._is_empty(field, value):
                raise ValidationError(name, "this field is required, and is empty")

    @staticmethod
    def _is_empty(field: Field[Any, Any], value: Any) -> bool:
        if isinstance(field, FileField):
            return not value and value._content is None
        return value is None or value in ([], {})

    async def _write(self, now: Raw, written: list[tuple[AsyncGridFile, FileRef]], session: Session | None) -> None:
        session = self._session(session)
        try:
            if self._stored is None:
                stored = await self._insert(now, session)
            else:
                stored = await self._update(self._stored, now, session)
        except PyMongoError:
            if self._outcome_unknown:
                mark_outcome_unknown(written)
            raise
        # Inside a transaction this may still be taken back, and what was sent stays without an answer.
        if not is_foreign_transaction(session):
            self._stored = stored
        if (tx_log := transaction_log_of(session)) is not None:
            remember_written(self, tx_log)
        elif not in_transaction(session):
            self._outcome_unknown.clear()
        await saved(written, session)

    async def reload(self, *, session: Session | None = None) -> Self:
        """Take every field from the collection again, and forget what was changed here. Gives itself back.

        Raises `DocumentMissing` where it is not stored, `UploadInProgress` while a file of it is being written. A file
        that was put here and never saved is left for the collector.
        """
        async with self._turn:
            refuse_open_files(self._named_files())
            if (tx_log := self._join(session)) is not None:
                remember_values(self, tx_log)
            raw = None if self._id is None else await self._found(session)
            if raw is None:
                raise DocumentMissing(f"{type(self).__name__} {self._id!r} is not stored")
            for name, field in self._fields.items():
                current = self._values[name]
                value = self._values[name] = field.loaded(self, copied(raw.get(name)))
                if isinstance(field, FileField):
                    self._values[name] = _kept(current, value)
            self._stored = raw
            self._outcome_unknown.clear()
        return self

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the document, then the files of fields with `on_delete="delete"`; `save` would store it anew.

        Raises `DocumentMissing` where it is not stored, `UploadInProgress` while a file of it is being written; every
        file stays then.
        """
        async with self._turn:
            refuse_open_files(self._named_files())
            self._join(session)
            await run_to_completion(self._delete(session))

    async def _delete(self, session: Session | None) -> None:
        collection = self._collection()
        session = self._session(session)
        query = {"_id": id_filter(self._id)}
        async with lock(session):
            deleted = self._id is not None and (await collection.delete_one(query, session=session)).deleted_count
        if not deleted:
            raise DocumentMissing(f"{type(self).__name__} {self._id!r} is not stored")
        before = self._stored or {}
        if not is_foreign_transaction(session):
            self._stored = None
            self._outcome_unknown.clear()
        for name, field in self._fields.items():
            files = [file for file in field.files(self._values[name]) if file.options.on_delete == "delete"]
            await delete_files(files, flat(ids_in(before.get(name))), session)

    # Inside

    def _files(self) -> Iterator[AsyncGridFile]:
        for _, file in self._named_files():
            yield file

    def _named_files(self) -> Iterator[tuple[str, AsyncGridFile]]:
        for name, field in self._fields.items():
            for file in field.files(self._values[name]):
                yield name, file

    @classmethod
    def _from_stored(cls, raw: Raw) -> Self:
        document = cls.__new__(cls)
        document._begin(raw.get("_id"))
        document._stored = raw
        for name, field in cls._fields.items():
            document._values[name] = field.loaded(document, copied(raw.get(name)))
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
        if stored == "_id":
            if isinstance(value, str) and ObjectId.is_valid(value):  # an id out of a URL, or a str that is the id
                return {stored: {"$in": [ObjectId(value), value]}}
            return {stored: id_filter(value)}
        owner = cls.__new__(cls)  # blank: defaults are not made for a question
        owner._begin(None)
        return cls._fields[name].condition(owner, value)

    @classmethod
    def _unknown(cls, name: str) -> ValidationError:
        return ValidationError(name, f"{cls.__name__} has no such field; it has {', '.join(['id', *cls._fields])}")


def _kept(current: AsyncGridFile, loaded: AsyncGridFile) -> AsyncGridFile:
    """The proxy that somebody may hold already, now of what was loaded; not one that another document holds too."""
    attachment = current._attachment
    if attachment is None or attachment.shared:
        return loaded
    current._point_to(loaded.id, (current.info if current.id == loaded.id else None) or loaded.info)
    attachment.forget((current.id, current.info))
    return current


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
