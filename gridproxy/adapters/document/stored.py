"""StoredDocument: what the collection holds of a document, as far as we know, and how a change of it is written.

Compare and set: of two writers of one file field one is refused. What was sent and got no answer is known as our own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import bson
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from gridproxy.errors import DocumentMissing, StaleDocument, ValidationError
from gridproxy.file.connection import get_database
from gridproxy.file.values import ids_in
from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session, in_transaction

from .fields import Field, ListField
from .file_fields import FileField
from .raw import exactly

Raw = dict[str, Any]


class StoredDocument:
    """One document beside its collection; `Document` gives it fields to be used by."""

    _fields: ClassVar[dict[str, Field[Any, Any]]] = {}
    _collection_name: ClassVar[str] = ""
    _db_alias: ClassVar[str | None] = None

    def _begin(self, id: object) -> None:
        self._id = id
        self._stored: Raw | None = None  # what the collection holds as far as we know, None while nothing
        self._made_id = False  # whether the id was made here, and is nobody else's
        self._outcome_unknown: list[Raw] = []  # what was sent, and no answer came, or it can be taken back

    # Where it lies

    def _session(self, session: Session | None) -> Session | None:
        return session or bound_session(self._collection().database.client)

    @classmethod
    def _collection(cls) -> AsyncCollection[Raw]:
        database = get_database(cls._db_alias)
        options: Any = database.codec_options.with_options(document_class=dict)
        return database.get_collection(cls._collection_name, codec_options=options)

    # What is different

    def _differs(self, stored: Raw, name: str, now: Any) -> bool:
        return not self._same(name, self._fields[name].untouched(stored.get(name)), now)

    def _same(self, name: str, one: Any, other: Any) -> bool:
        # As BSON, where 1, 1.0 and True are three things.
        return self._encoded(name, one) == self._encoded(name, other)

    def _encoded(self, name: str, value: Any) -> bytes:
        try:
            return bson.encode({"": value}, codec_options=get_database(self._db_alias).codec_options)
        except (InvalidDocument, OverflowError, ValueError) as error:
            raise ValidationError(name, f"this cannot be stored: {error}") from error

    # Writing

    async def _insert(self, now: Raw, session: Session | None) -> Raw:
        # Kept after a failure too: whoever saves again must not make a second document of an insert that did land.
        if self._id is None:
            self._id, self._made_id = ObjectId(), True
        document = {"_id": self._id, **now}
        landed = await self._landed(session)
        if landed is None:
            try:
                async with lock(session):
                    await self._collection().insert_one(document, session=session)
            except DuplicateKeyError:
                landed = await self._landed(session)  # an earlier attempt, only now
                if landed is None:
                    raise
            except PyMongoError:
                self._outcome_unknown.append(document)
                raise
            else:
                if in_transaction(session):
                    self._outcome_unknown.append(document)
                return document
        return await self._update(landed, now, session)

    async def _landed(self, session: Session | None) -> Raw | None:
        """The insert without an answer that has landed. It is no one else's if its id is our own, or all that it is."""
        inserts = [sent for sent in self._outcome_unknown if "_id" in sent]
        found = await self._found(session) if inserts else None
        if found is None:
            return None
        same = (sent for sent in inserts if self._same("id", found, sent))
        return next(same, inserts[-1] if self._made_id else None)

    async def _update(self, stored: Raw, now: Raw, session: Session | None) -> Raw:
        # What was sent without an answer may have been written: it is sent again, even where it is as before now.
        sent = {name for each in self._outcome_unknown for name in each}
        changes = {name: value for name, value in now.items() if name in sent or self._differs(stored, name, value)}
        if not changes:
            return stored
        # Compare and set: two writers of one file field cannot both win, and the loser's file is still whole.
        before = {name: stored.get(name) for name in changes if self._holds_files(name)}
        while not await self._update_once(before, changes, session):
            found = await self._found(session)
            if found is None:
                raise DocumentMissing(f"{type(self).__name__} {self._id!r} was deleted; nothing was written")
            for name, expected in before.items():
                # What we have sent without an answer is our own change, and no one else's.
                ours = [expected, changes[name], *(each[name] for each in self._outcome_unknown if name in each)]
                if not any(self._same(name, ids_in(found.get(name)), ids_in(value)) for value in ours):
                    raise StaleDocument(f"{type(self).__name__} {self._id!r}", name)
            before = {name: found.get(name) for name in before}
        return {**stored, **changes}

    async def _update_once(self, before: Raw, changes: Raw, session: Session | None) -> bool:
        query = {"_id": id_filter(self._id), **{name: exactly(value) for name, value in before.items()}}
        try:
            async with lock(session):
                result = await self._collection().update_one(query, {"$set": changes}, session=session)
        except PyMongoError as error:
            if not isinstance(error, DuplicateKeyError):  # of a unique index: an answer
                self._outcome_unknown.append(changes)
            raise
        if result.matched_count and in_transaction(session):
            self._outcome_unknown.append(changes)
        return result.matched_count > 0

    async def _found(self, session: Session | None) -> Raw | None:
        session = self._session(session)
        async with lock(session):
            return await self._collection().find_one({"_id": id_filter(self._id)}, session=session)

    def _holds_files(self, name: str) -> bool:
        field: Field[Any, Any] | None = self._fields[name]
        while isinstance(field, ListField):
            field = field.inner
        return isinstance(field, FileField)
