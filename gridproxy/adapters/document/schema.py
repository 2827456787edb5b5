"""Schema: the fields of a class of documents, its collection, and how its values are written and compared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from gridproxy.errors import DocumentMissing, StaleDocument, ValidationError
from gridproxy.fields.attacher import StoredFile, is_refusal
from gridproxy.file.connection import get_database
from gridproxy.file.values import ids_in
from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.client_state import Client
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session, in_transaction

from .base import BaseDocument, DocumentState, Raw, exactly, flat
from .fields import Field, ListField
from .file_fields import FileField


@dataclass(frozen=True)
class Hierarchy:
    """The place of a class among the classes that share its collection, as MongoEngine's `_cls` names it.

    Args:
        name: The names of the classes from the first one to this one, such as "Animal.Dog".
        collection: The collection of all of them.
        classes: All of them by their names. Each new subclass is added.
    """

    name: str
    collection: str
    classes: dict[str, type[BaseDocument]]

    def names(self) -> list[str]:
        """Return the name of the class and those of its subclasses."""
        return [name for name in self.classes if name == self.name or name.startswith(f"{self.name}.")]


class Schema:
    """The fields, the collection and the database alias of one class of documents."""

    def __init__(
        self,
        kind: type[BaseDocument],
        fields: dict[str, Field[Any, Any]],
        collection: str,
        alias: str | None,
        hierarchy: Hierarchy | None,
    ) -> None:
        self.name: str = kind.__name__
        self.fields = fields
        self.alias = alias
        self.hierarchy = hierarchy
        self._kind = kind
        self._collection = collection

    def collection(self) -> AsyncCollection[Raw]:
        """Return the collection, in the database of the alias at this moment."""
        database = get_database(self.alias)
        options: Any = database.codec_options.with_options(document_class=dict)
        return database.get_collection(self._collection, codec_options=options)

    @property
    def client(self) -> Client:
        """The client of the database at this moment."""
        return self.collection().database.client

    def session_for(self, session: Session | None) -> Session | None:
        """Return the given session, else the one that pymongo bound around the call."""
        return session or bound_session(self.client)

    # Queries

    def unknown(self, name: str) -> ValidationError:
        """Return the error for a name that is not a field's."""
        return ValidationError(name, f"{self.name} has no such field; it has {', '.join(['id', *self.fields])}")

    def stored_name(self, name: str) -> str:
        """Return the key of a field in the stored document."""
        if name == "id":
            return "_id"
        if name not in self.fields:
            raise self.unknown(name)
        return name

    def conditions(self) -> list[Mapping[str, Any]]:
        """Return the conditions of every query: the classes of its documents, if several share the collection."""
        if self.hierarchy is None:
            return []
        names = self.hierarchy.names()
        return [{"_cls": names[0] if len(names) == 1 else {"$in": names}}]

    def kind_of(self, raw: Raw) -> type[BaseDocument]:
        """Return the class of a stored document: this one or a subclass. Raises `ValidationError` for others."""
        if self.hierarchy is None or "_cls" not in raw:
            return self._kind
        names = self.hierarchy.names()
        if (name := raw["_cls"]) not in names:
            raise ValidationError(
                "_cls", f"{name!r} is not {self.name} or a subclass that has been imported ({', '.join(names)})"
            )
        return self.hierarchy.classes[name]

    def condition(self, name: str, value: Any) -> Mapping[str, Any]:
        """Return the query for a field that equals a value."""
        if self.stored_name(name) == "_id":
            if isinstance(value, str) and ObjectId.is_valid(value):  # an id from a URL, or a str that is the id
                return {"_id": {"$in": [ObjectId(value), value]}}
            return {"_id": id_filter(value)}
        owner = self._kind.__new__(self._kind)  # without its defaults, which a query does not need
        owner.document_state = DocumentState(None)
        return self.fields[name].condition(owner, value)

    # Comparing

    def differs(self, stored: Raw, name: str, now: Any) -> bool:
        """Return whether a field's value is not the stored one."""
        return not self._same(name, self.fields[name].untouched(stored.get(name)), now)

    def _same(self, name: str, one: Any, other: Any) -> bool:
        # As BSON, where 1, 1.0 and True are three values.
        return self.encoded(name, one) == self.encoded(name, other)

    def encoded(self, name: str, value: Any) -> bytes:
        """Return the value as BSON. Raises `ValidationError` naming the field if it cannot be stored."""
        try:
            return bson.encode({"": value}, codec_options=get_database(self.alias).codec_options)
        except (InvalidDocument, OverflowError, ValueError) as error:
            raise ValidationError(name, f"this cannot be stored: {error}") from error

    def holds_files(self, name: str) -> bool:
        """Return whether a field holds a file, or a list of files."""
        return self._file_field(name) is not None

    def _file_field(self, name: str) -> FileField | None:
        field: Field[Any, Any] | None = self.fields[name]
        while isinstance(field, ListField):
            field = field.inner
        return field if isinstance(field, FileField) else None

    # Writing

    async def write(self, state: DocumentState, now: Raw, session: Session | None) -> Raw:
        """Insert the document, or update what changed. Returns what the collection holds now.

        Of two writers of one file field one is refused with `StaleDocument`.
        """
        if state.stored is not None:
            return await self._update(state, state.stored, now, session)
        # The id is kept after a failure: a second save must not make another document if the first insert succeeded.
        if state.id is None:
            state.id, state.made_id = ObjectId(), True
        document = {"_id": state.id, **({"_cls": self.hierarchy.name} if self.hierarchy else {}), **now}
        inserted = await self._inserted_before(state, session)
        if inserted is None:
            try:
                async with lock(session):
                    await self.collection().insert_one(document, session=session)
            except DuplicateKeyError:
                inserted = await self._inserted_before(state, session)  # an earlier attempt that completed only now
                if inserted is None:
                    raise
            except (PyMongoError, asyncio.CancelledError) as error:
                if not is_refusal(error):
                    state.outcome_unknown.append(document)
                raise
            else:
                if in_transaction(session):
                    state.outcome_unknown.append(document)
                return document
        return await self._update(state, inserted, now, session)

    async def _inserted_before(self, state: DocumentState, session: Session | None) -> Raw | None:
        """Return the insert that was not answered and has succeeded: the id was made here, or all values are equal."""
        inserts = [sent for sent in state.outcome_unknown if "_id" in sent]
        found = await self.find(state.id, session) if inserts else None
        if found is None:
            return None
        same = (sent for sent in inserts if self._same("id", found, sent))
        return next(same, inserts[-1] if state.made_id else None)

    async def _update(self, state: DocumentState, stored: Raw, now: Raw, session: Session | None) -> Raw:
        # A write that was not answered may have succeeded. Its fields are sent again, even if they are unchanged now.
        sent = {name for each in state.outcome_unknown for name in each}
        changes = {name: value for name, value in now.items() if name in sent or self.differs(stored, name, value)}
        if not changes:
            return stored
        # Compare and set: two writers of one file field cannot both succeed, and the other one's file is still whole.
        before = {name: stored.get(name) for name in changes if self.holds_files(name)}
        while not await self._update_once(state, before, changes, session):
            found = await self.find(state.id, session)
            if found is None:
                raise DocumentMissing(f"{self.name} {state.id!r} was deleted, and nothing was written")
            for name, expected in before.items():
                # A value that this document has sent without an answer is its own change.
                ours = [expected, changes[name], *(each[name] for each in state.outcome_unknown if name in each)]
                if not any(self._same(name, ids_in(found.get(name)), ids_in(value)) for value in ours):
                    raise StaleDocument(f"{self.name} {state.id!r}", name)
            before = {name: found.get(name) for name in before}
        return {**stored, **changes}

    async def _update_once(self, state: DocumentState, before: Raw, changes: Raw, session: Session | None) -> bool:
        query = {"_id": id_filter(state.id), **{name: exactly(value) for name, value in before.items()}}
        try:
            async with lock(session):
                result = await self.collection().update_one(query, {"$set": changes}, session=session)
        except (PyMongoError, asyncio.CancelledError) as error:
            if not is_refusal(error):
                state.outcome_unknown.append(changes)
            raise
        if result.matched_count and in_transaction(session):
            state.outcome_unknown.append(changes)
        return result.matched_count > 0

    def stored_files(self, owner: BaseDocument, raw: Raw) -> list[StoredFile]:
        """Return the files that a stored document points to, with the options of their fields."""
        return [
            (file_field.options_in(owner), id)
            for name in self.fields
            if (file_field := self._file_field(name)) is not None
            for id in flat(ids_in(raw.get(name)))
        ]

    async def find(self, id: object, session: Session | None) -> Raw | None:
        """Return the stored document of this id."""
        session = self.session_for(session)
        async with lock(session):
            return await self.collection().find_one({"_id": id_filter(id)}, session=session)
