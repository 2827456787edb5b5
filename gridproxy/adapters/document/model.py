"""Document: fields with names, saved in one collection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from gridproxy.errors import BadId, BadOption, DocumentMissing, ValidationError
from gridproxy.fields.attacher import Attacher, HeldFile, delete_files, is_refusal, mark_outcome_unknown, saved
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.state import FileState
from gridproxy.gridfs.records.ids import check_id, id_filter
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.transactions.transaction_log import is_foreign_transaction, transaction_log_of
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import in_transaction
from gridproxy.runtime.tasks import run_to_completion

from .base import BaseDocument, DocumentState, Raw, copied
from .fields import Field
from .file_fields import FileField
from .query import Objects
from .schema import Hierarchy, Schema


class Document(BaseDocument):
    """A document of one collection: `class Animal(Document): genus = StringField()`.

    The collection is named after the class in snake case, or `class Animal(Document, collection="zoo")`. The database
    is that of `gridproxy.connect`, for `db_alias` if the class names one. Two saved documents of one class and id are
    equal. A document is not hashable. `Animal.objects` is the `QuerySet` of all of them.

    A subclass has the fields of its base class and a collection of its own. With `allow_inheritance=True` a class and
    its subclasses share one collection. Each document has the name of its class as `_cls`, as in MongoEngine, and a
    query finds the documents of a class and of its subclasses. `meta = {...}` may give the three keywords.

    Fields are given as keywords, or assigned. Neither does any I/O, and a field that is not given has its default.
    Methods accept `session=`, and calls on one document take turns. They raise `NotConnected` if no database is known,
    and pymongo's own errors. A class raises `BadOption` for a field with the name of a member of Document.

    Args:
        id: The `_id`, of any type that MongoDB accepts. None for a new `ObjectId` at the first save.
        **values: The fields.

    Raises:
        ValidationError: A field cannot hold its value, there is no such field, or `id` cannot be an id.

    ```python
    from gridproxy.adapters.document import Document, FileField, StringField

    class Animal(Document):
        genus = StringField()
        photo = FileField()

    animal = await Animal(genus="Marmota", photo=b"a marmot").save()
    assert await (await Animal.objects(genus="Marmota").first()).photo.read() == b"a marmot"
    ```
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # equality is by an id that a save gives
    objects: ClassVar[Objects] = Objects()
    document_schema: ClassVar[Schema]
    """The fields and the collection of the class, for queries and fields."""

    document_alias: ClassVar[str | None]

    def __init_subclass__(
        cls, *, collection: str | None = None, db_alias: str | None = None, allow_inheritance: bool | None = None
    ) -> None:
        super().__init_subclass__()
        settings = _settings(
            cls, {"collection": collection, "db_alias": db_alias, "allow_inheritance": allow_inheritance}
        )
        fields: dict[str, Field[Any, Any]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                fields.pop(name, None)  # a subclass replaced the field by something else
                if isinstance(value, Field):
                    fields[name] = value
        for name in fields:
            if name.startswith("_") or hasattr(Document, name):
                raise BadOption(
                    f"{cls.__name__}: a field cannot be called {name!r}, a member of Document has this name"
                )
        if settings["db_alias"] is not None:
            cls.document_alias = settings["db_alias"]
        hierarchy = _hierarchy(cls, settings)
        collection = hierarchy.collection if hierarchy else settings["collection"] or _collection_name(cls.__name__)
        cls.document_schema = Schema(cls, fields, collection, cls.document_alias, hierarchy)

    def __init__(self, *, id: object = None, **values: Any) -> None:
        try:
            check_id(id)
        except BadId as error:
            raise ValidationError("id", f"{id!r} cannot be a document's id") from error
        schema = self.document_schema
        self._begin(id)
        for name in values:
            if name not in schema.fields:
                raise schema.unknown(name)
        for name, field in schema.fields.items():
            value = field.assigned(self, values[name]) if name in values else field.new_value(self)
            self.document_state.values[name] = value

    def _begin(self, id: object) -> None:
        self.document_state: DocumentState = DocumentState(id)
        self._lock = asyncio.Lock()
        self._attacher = Attacher(self, self._held_files)

    @property
    def id(self) -> Any:
        """The document's `_id`, of any type. None before the first save, unless one was given."""
        return self.document_state.id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return self is other or (type(self) is type(other) and self.id is not None and self.id == other.id)

    def __repr__(self) -> str:
        shown = "".join(f" {name}={value!r}" for name, value in self.document_state.values.items())
        return f"<{type(self).__name__} id={self.id!r}{shown}>"

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self.document_state))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["id"])
        self.document_state.made_id, self.document_state.stored = state["made_id"], state["stored"]
        self.document_state.outcome_unknown = list(state["outcome_unknown"])
        for name, value in state["values"].items():
            self.document_state.values[name] = self.document_schema.fields[name].cloned(self, value)

    # Saving

    async def save(self, *, session: Session | None = None) -> Self:
        """Store the document: all of a new one, of another only the fields that changed.

        Assigned content is stored first. Replaced files are removed after the document was written. If the server
        refuses the document, the content is removed again and the fields have it back, so that the save can be
        repeated. Content that can be read only once has to be assigned again. The same holds for a transaction that was
        aborted. After an aborted transaction of pymongo's own, `reload()` a document of which files were deleted in it.

        Returns:
            This document.

        Raises:
            ValidationError: A required field is empty, or a field holds a value that cannot be stored.
            UploadInProgress: A file of the document is being written, or takes part in another transaction.
            FileMissing: A file was stored in a transaction that was not committed.
            StaleDocument: Another client changed a file field since the document was loaded.
            DocumentMissing: The document was deleted.
            GridProxyError: As `AsyncGridFile.replace` raises for the content.

        ```python
        animal.photo = b"another marmot"
        await animal.save()
        ```
        """
        async with self._lock:
            self._enlist(session)
            self._check_fields()
            # More may be assigned, or put into lists, during each upload.
            await self._attacher.store_content(session, check=self._check_fields)
            # The server completes a cancelled write, so it is waited for, and then the old files are removed.
            await run_to_completion(self._write(session), client=self.document_schema.client)
        return self

    def _enlist(self, session: Session | None) -> None:
        self._attacher.attach(session)
        if (tx_log := transaction_log_of(self.document_schema.session_for(session))) is not None:
            self.document_state.enlist(tx_log)

    def _check_fields(self) -> None:
        schema, state = self.document_schema, self.document_state
        for name, field in schema.fields.items():
            value = state.values[name]
            # Only changed fields, because other code may have stored any value. Lists of files may have been changed in
            # place.
            in_place = isinstance(value, list) and schema.holds_files(name)
            if state.stored is None or in_place or schema.differs(state.stored, name, field.stored(value)):
                value = state.values[name] = field.checked_again(self, value)
            if field.required and _is_empty(value):
                raise ValidationError(name, "this field is required, and is empty")

    async def _write(self, session: Session | None) -> None:
        state, schema = self.document_state, self.document_schema
        files: list[FileState] = []
        try:
            # Copies, because lists and dicts may be changed in place during the write.
            now = {name: copied(field.stored(state.values[name])) for name, field in schema.fields.items()}
            for name, value in now.items():
                schema.encoded(name, value)
            files = [file.state for file in self._attacher.attach(session)]
            written = [(file, file.ref) for file in files]
            session = schema.session_for(session)
            stored = await schema.write(state, now, session)
        except BaseException as error:
            if is_refusal(error):
                await self._attacher.roll_back(session, error)
            else:
                mark_outcome_unknown(files)
            raise
        # In a transaction the write may still be rolled back, and stays among those that were not answered.
        if not is_foreign_transaction(session):
            state.stored = stored
        if (tx_log := transaction_log_of(session)) is not None:
            state.enlist_written(tx_log)
        elif not in_transaction(session):
            state.outcome_unknown.clear()
        await saved(written, session)

    async def reload(self, *, session: Session | None = None) -> Self:
        """Load every field from the collection again, and forget what was changed here.

        A file that was put here and never saved is left for the garbage collector.

        Returns:
            This document.

        Raises:
            DocumentMissing: It is not stored.
            UploadInProgress: A file of the document is being written.

        ```python
        animal = await Animal(genus="Pika").save()
        await animal.reload()
        ```
        """
        async with self._lock:
            self._enlist(session)
            state, schema = self.document_state, self.document_schema
            if (tx_log := transaction_log_of(schema.session_for(session))) is not None:
                state.enlist_values(tx_log)
            raw = None if state.id is None else await schema.find(state.id, session)
            if raw is None:
                raise self._missing()
            for name, field in schema.fields.items():
                current = state.values[name]
                value = state.values[name] = field.loaded(self, copied(raw.get(name)))
                if isinstance(field, FileField):
                    state.values[name] = _kept(current, value)
            state.stored = raw
            state.outcome_unknown.clear()
        return self

    def _missing(self) -> DocumentMissing:
        return DocumentMissing(f"{type(self).__name__} {self.id!r} is not stored")

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the document, then the files of fields with `on_delete="delete"`. `save` would store it anew.

        Raises:
            DocumentMissing: It is not stored. Every file stays then.
            UploadInProgress: A file of the document is being written. Every file stays then.

        ```python
        await animal.delete()
        ```
        """
        async with self._lock:
            self._enlist(session)
            await run_to_completion(self._delete(session), client=self.document_schema.client)

    async def _delete(self, session: Session | None) -> None:
        state, schema = self.document_state, self.document_schema
        collection, session = schema.collection(), schema.session_for(session)
        query = {"_id": id_filter(state.id)}
        async with lock(session):
            deleted = None if state.id is None else await collection.find_one_and_delete(query, session=session)
        if deleted is None:
            raise self._missing()
        if not is_foreign_transaction(session):
            state.stored = None
            state.outcome_unknown.clear()
        # The server says which files the document had: another client may have replaced them.
        await delete_files([file.state for _, file in self._held_files()], schema.stored_files(self, deleted), session)

    def _held_files(self) -> Iterator[HeldFile]:
        for name, field in self.document_schema.fields.items():
            for file in field.files(self.document_state.values[name]):
                yield name, file

    @classmethod
    def from_raw(cls, raw: Raw) -> Self:
        """Return the document of what its collection holds, as queries load it: of a subclass if `_cls` names one.

        Args:
            raw: The stored document.

        Raises:
            ValidationError: The class allows inheritance, and `_cls` names a class that is not one of its subclasses.

        ```python
        assert Animal.from_raw({"_id": 1, "genus": "Marmota"}).genus == "Marmota"
        ```
        """
        kind: type[Self] = cls.document_schema.kind_of(raw)  # type: ignore[assignment]  # this class or a subclass
        document = kind.__new__(kind)
        cls._begin(document, raw.get("_id"))
        document.document_state.stored = raw
        for name, field in kind.document_schema.fields.items():
            document.document_state.values[name] = field.loaded(document, copied(raw.get(name)))
        return document


def _is_empty(value: Any) -> bool:
    if isinstance(value, AsyncGridFile):
        return not value and value.state.content is None
    return value is None or value in ([], {})


def _kept(current: AsyncGridFile, loaded: AsyncGridFile) -> AsyncGridFile:
    """Return the file object that the caller may hold, now of the loaded file, unless another document holds it too."""
    state, attachment = current.state, current.state.attachment
    if attachment is None or attachment.shared:
        return loaded
    state.set_file(loaded.id, (state.info if state.id == loaded.id else None) or loaded.info)
    attachment.reloaded(state.ref)
    return current


def _collection_name(name: str) -> str:
    """Return MongoEngine's name for the collection of a class: `PDFReport` is in "p_d_f_report"."""
    return "".join(f"_{each}" if each.isupper() else each for each in name).strip("_").lower()


def _settings(cls: type, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a class, also from MongoEngine's `meta`. Raises `BadOption` for any other key of it."""
    given = dict(keywords)
    meta = vars(cls).get("meta")
    for key, value in meta.items() if isinstance(meta, Mapping) else ():
        if key not in given:
            raise BadOption(
                f"{cls.__name__}: meta has the keys {', '.join(given)} here, not {key!r}. Use pymongo for indexes "
                "and other settings of the collection"
            )
        if given[key] is not None:
            raise BadOption(
                f"{cls.__name__}: {key} is given in meta and as a keyword of the class. Give one of the two"
            )
        given[key] = value
    for key in ("collection", "db_alias"):
        if given[key] is not None and (not isinstance(given[key], str) or not given[key]):
            raise BadOption(f"{cls.__name__}: {key} is a str, not {given[key]!r}")
    if not isinstance(given["allow_inheritance"], bool | None):
        raise BadOption(f"{cls.__name__}: allow_inheritance is a bool, not {given['allow_inheritance']!r}")
    return given


def _hierarchy(cls: type[Document], settings: Mapping[str, Any]) -> Hierarchy | None:
    """Return the place of a class among those in its collection, or None if it has a collection of its own."""
    schemas = [base.document_schema for base in cls.__bases__ if hasattr(base, "document_schema")]
    parents = [schema for schema in schemas if schema.hierarchy is not None]
    if not parents:
        if not settings["allow_inheritance"]:
            return None
        collection = settings["collection"] or _collection_name(cls.__name__)
        hierarchy = Hierarchy(cls.__name__, collection, {})
    elif len(parents) > 1:
        names = " and ".join(schema.name for schema in parents)
        raise BadOption(
            f"{cls.__name__}: a document has one place in one collection, so it cannot inherit from {names}"
        )
    else:
        parent = parents[0].hierarchy
        own = [key for key in ("collection", "db_alias") if settings[key] is not None]
        if own or settings["allow_inheritance"] is False:
            raise BadOption(
                f"{cls.__name__}: it is in the collection of {parents[0].name}, which allows inheritance, so it cannot "
                f"have {' and '.join(own) or 'allow_inheritance=False'} of its own"
            )
        hierarchy = Hierarchy(f"{parent.name}.{cls.__name__}", parent.collection, parent.classes)
    hierarchy.classes[hierarchy.name] = cls
    return hierarchy
