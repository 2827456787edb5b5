"""Files in Beanie's documents: `class Animal(FileDocument, Document): photo: AsyncGridFile`."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from beanie import Document
from beanie.exceptions import DocumentNotFound, RevisionIdWasChanged
from bson import ObjectId
from pydantic import ValidationError as PydanticValidationError
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.bucket import Bucket
from gridproxy.errors import BadId, BadOption, GridProxyError, ValidationError
from gridproxy.fields.attacher import (
    Attacher,
    HeldFile,
    StoredFile,
    is_refusal,
    mark_outcome_unknown,
    refuse_open_files,
)
from gridproxy.fields.default_database import DefaultDatabase
from gridproxy.fields.discovery import files_in, models_in, same_objects, values_of
from gridproxy.file.attachment import Attachment, Proof
from gridproxy.file.connection import using
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.state import FileState
from gridproxy.file.values import assign
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.client_state import Client
from gridproxy.runtime.session_lock import lock_owner
from gridproxy.runtime.tasks import run_to_completion

from .embedded import raw_values, remember_files
from .fields import KNOWN, DocumentClass, class_of, using_document_database
from .queries import FileFindMany, FileFindOne
from .saving import Saving, WatchedCollection, current
from .typed_document import NAO, TypedDocument

if TYPE_CHECKING:
    from pymongo.results import DeleteResult

T = TypeVar("T")

_HOLDERS = (AsyncGridFile, list, dict, tuple)
_SETTLED = (AsyncGridFile, NoneType, type(NAO))  # what a field of one file holds when nothing raw is in it
# The errors by which Beanie says that no document was written.
_REFUSALS = (RevisionIdWasChanged, DocumentNotFound)
_SNAPSHOT_KEYS = frozenset({"_id", "filename", "length", "chunk_size", "content_type", "upload_date", "metadata"})


@dataclass
class _WholeSnapshot:
    """A snapshot, which is compared and written as one value."""

    value: dict[str, Any]


def _with_whole_snapshots(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _WholeSnapshot(part) if isinstance(part, dict) and part.keys() == _SNAPSHOT_KEYS else part
        for key, part in value.items()
    }


class FileDocument(TypedDocument):
    """What makes a Beanie document keep its files: mix it in first, `class Animal(FileDocument, Document)`.

    Fields are `photo: AsyncGridFile = AsyncGridFile()`, with options `Annotated[AsyncGridFile, FileOptions(...)]`, also
    in lists, dicts and embedded models. Files are in the document's own database unless the options name another one.

    Giving or assigning bytes, a path or an open file does no I/O: it is content for the next save. A file, its id (an
    `ObjectId` or 24 hex digits), a snapshot or None moves the reference. An embedded model accepts any value, and so do
    lists and dicts: such values become content or references when the document is written or deleted. If the model
    validates assignments by itself, and in a copy of a document, such content does not replace the file that was there,
    which is left for `check`.

    `insert`, `save`, `save_changes` and `replace` store assigned content and then remove what was replaced. `delete`
    removes the files of fields with `on_delete="delete"`. `update` and its like write what they are given. No file is
    lost if one of them fails.

    Bulk writes and queries that write (`insert_many`, `find(...).update`, `delete_all`, a `bulk_writer`) run no hooks:
    they remove no file, and refuse content that is not stored (`InvalidDocument`, of `bson`). Without `use_revision` a
    stale document's save writes its old file's id back, and the other writer's file is left for `check`. After a
    transaction that was aborted the document has to be loaded again.

    Arguments and results are Beanie's. `session` is pymongo's.

    Raises:
        BadOption: The class is mixed in behind the document class.
        NotInitialised: `init_beanie` was not called.
        ValidationError: A value cannot be a file: pydantic's error in the constructor, in lists and in optional fields,
            and this package's for other assignments. The path of a value in an embedded model is named
            ("lines.0.scan").
        BadId: A file's id is not an `ObjectId`, on writing.
        UploadInProgress: A file of the document is being written, on saving, deleting or synchronising.
        FileMissing: A file was stored in a transaction that was not committed, on saving.
        GridProxyError: As `AsyncGridFile.replace` raises for content, on saving.
    """

    # Queries that write, and `update`, which is one of them.
    _find_one_query_class: ClassVar[type] = FileFindOne
    _find_many_query_class: ClassVar[type] = FileFindMany

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        order = cls.__mro__
        if Document not in order or order.index(Document) < order.index(FileDocument):
            raise BadOption(
                f"write FileDocument before the document class: class {cls.__name__}(FileDocument, Document)"
            )

    def __init__(self, *args: Any, **values: Any) -> None:
        kind = type(self)
        known: DocumentClass = kind.__dict__.get(KNOWN) or class_of(kind)
        database = known.default_database(kind)  # raises NotInitialised
        given: Collection[int] = ()
        searched = not known.plan.flat
        for name in values if known.input_names is None else known.input_names:
            searched = searched or _may_hold(values.get(name))
        # What cannot hold a file needs no database: documents are loaded from scalars and ids.
        if searched:
            given = {id(file) for _, file in files_in(values)}
            with using(database.database):
                super().__init__(*args, **values)
        else:
            super().__init__(*args, **values)
        saving = current.get()
        if saving is None or not saving.is_merging:
            if not known.plan.flat:
                remember_files(models_in(self, beyond=_is_document))
            for path, file in known.plan.files(self, _is_document):
                _take(self, known, database, path, file, given)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Run pydantic's `model_validate`. Beanie calls it for each document that it loads."""
        known: DocumentClass = cls.__dict__.get(KNOWN) or class_of(cls)
        simple = known.has_plain_constructor and type(obj) is dict and not options
        for name in known.input_names or () if simple else ():
            value = obj.get(name)
            simple = simple and (value is None or type(value) is ObjectId or not _may_hold(value))
        if not simple:
            return super().model_validate(obj, **options)
        # As the three constructors do, in half of their time.
        database = known.default_database(cls)
        document = cls.__new__(cls)
        cls.__pydantic_validator__.validate_python(dict(obj), self_instance=document)
        saving = current.get()
        if saving is None or not saving.is_merging:
            values = values_of(document, "__dict__")
            for name, field in known.fields.items():
                value = values[name]
                if isinstance(value, AsyncGridFile):
                    _take_new(document, known, database, name, value, field.options)
                elif value is not None and isinstance(value, list | tuple | dict):
                    for file in value.values() if isinstance(value, dict) else value:
                        if isinstance(file, AsyncGridFile):
                            _take_new(document, known, database, name, file, known.options(name, file.state.options))
        return document

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        known = kind.__dict__.get(KNOWN) or class_of(kind)  # looked up here, since Beanie assigns every field
        plan = known.plan
        if plan.flat and name not in plan.depths:
            if name == "id" and vars(self).get(name) not in (None, value):
                _disown(self)  # it is another document from now on
            super().__setattr__(name, value)
            return
        field = known.fields.get(name)
        if field is None:
            super().__setattr__(name, value)
            return
        held = vars(self).get(name)
        if held is NAO:
            held = getattr(self, name)  # a lazily parsed document: what is replaced has to be known
        merging = _merging.get()
        if merging is not None and merging[0] is self and _same_files(held, value):
            merging[1].add(name)
            return  # Beanie merges what it loaded into the document: the same file stays the same object
        given = {id(file) for _, file in files_in(value)}
        database = known.default_database(kind)
        with using(database.database):
            value = field.assigned(held, value, name)
        for path, file in files_in(value):
            attachment = file.state.attachment
            if attachment is not None and attachment.unowned and id(file) not in given:
                file.state.attachment = (
                    None  # made from an id that was only assigned: the file may be another document's
                )
            _take(self, known, database, f"{name}.{path}" if path else name, file, given)
        with using(database.database):
            super().__setattr__(name, value)

    def __copy__(self) -> Any:
        copied = super().__copy__()
        held = vars(copied)
        held.update({name: copy.copy(value) for name, value in held.items() if isinstance(value, AsyncGridFile)})
        _take_in(copied, proof=Proof.COPIED)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        copied = super().__deepcopy__(memo)
        _take_in(copied, proof=Proof.COPIED)
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Run pydantic's `model_copy`. A copy with another id is another document, and owns no file of this one."""
        copied = super().model_copy(update=update, deep=deep)
        if copied.id != self.id:
            _disown(copied)
        return copied

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        _take_in(self, (), proof=Proof.COPIED)  # a pickled bucket has kept its name only

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        # Every encoding of the document calls this, those of bulk writes and event handlers too, so that no raw content
        # is ever written.
        self._take_assigned()
        # With `keep_nulls = False` Beanie sets the values and unsets the nulls: an empty file must not be both.
        if type(self).get_settings().keep_nulls:
            return super().__iter__()
        return self._without_empty_files()

    def _without_empty_files(self) -> Iterator[tuple[str, Any]]:
        for name, value in super().__iter__():
            empty = isinstance(value, AsyncGridFile) and not value and value.state.content is None
            yield name, None if empty else value

    def _parse_value(self, name: str, value: Any) -> Any:
        # A lazily parsed document reads its fields without their options.
        field = class_of(type(self)).fields.get(name)
        if field is None:
            return super()._parse_value(name, value)
        with using_document_database(type(self)):
            return field.adapter.validate_python(value)

    def _set_attr(self, name: str, value: Any) -> None:
        # So a lazily parsed document takes a value out of what the collection holds.
        with using_document_database(type(self)):
            super()._set_attr(name, value)
        _take_in(self, (), proof=Proof.LOADED)

    def _save_state(self) -> None:
        # Beanie calls this when it has parsed a stored document, and after a save.
        super()._save_state()
        saving = current.get()
        values = values_of(self, "__dict__")
        if values.get("id") is not None and (saving is None or not (saving.document is self or saving.is_merging)):
            known: DocumentClass = type(self).__dict__.get(KNOWN) or class_of(type(self))
            taken = known.plan.flat
            for name in known.fields if taken else ():
                value = values.get(name)
                for file in value if type(value) is list else (value,):
                    if file is not None:
                        attachment = file.state.attachment if isinstance(file, AsyncGridFile) else None
                        taken = taken and attachment is not None and attachment.loaded(self, name, file.state.id)
            if not taken:
                _take_in(self, (), proof=Proof.LOADED)

    def _collect_updates(self, old_dict: dict[str, Any], new_dict: dict[str, Any]) -> dict[str, Any]:
        # Beanie compares sub-documents key by key. A snapshot is one value: it is of one file.
        updates = super()._collect_updates(_with_whole_snapshots(old_dict), _with_whole_snapshots(new_dict))
        return {path: value.value if isinstance(value, _WholeSnapshot) else value for path, value in updates.items()}

    @classmethod
    def get_pymongo_collection(cls) -> AsyncCollection[Any]:
        """Return Beanie's collection, watched while a document of this class is being saved."""
        saving = current.get()
        if saving is None or type(saving.document) is not cls:
            return super().get_pymongo_collection()
        return cast("AsyncCollection[Any]", WatchedCollection(super().get_pymongo_collection(), saving))

    # Saving

    async def insert(self, *, session: Session | None = None, **options: Any) -> Self:
        """Run Beanie's `insert`, with the document's files."""
        return await self._save(lambda: super(FileDocument, self).insert(session=session, **options), session)

    async def save(self, session: Session | None = None, *args: Any, **options: Any) -> Self:
        """Run Beanie's `save`, with the document's files."""
        return await self._save(lambda: super(FileDocument, self).save(session, *args, **options), session)

    async def replace(
        self,
        ignore_revision: bool = False,
        session: Session | None = None,
        bulk_writer: Any = None,
        *args: Any,
        **options: Any,
    ) -> Self:
        """Run Beanie's `replace`, with the document's files."""

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).replace(ignore_revision, session, bulk_writer, *args, **options)

        return await (self._collected(write) if bulk_writer is not None else self._save(write, session))

    async def save_changes(
        self,
        ignore_revision: bool = False,
        session: Session | None = None,
        bulk_writer: Any = None,
        *args: Any,
        **options: Any,
    ) -> Self | None:
        """Run Beanie's `save_changes`, with the document's files. Returns None if nothing had changed."""

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).save_changes(ignore_revision, session, bulk_writer, *args, **options)

        return await (self._collected(write) if bulk_writer is not None else self._save(write, session))

    async def _save(self, write: Callable[[], Awaitable[T]], session: Session | None) -> T:
        self._prepare()
        attacher = self._new_attacher()
        token = current.set(Saving(self, attacher))
        try:
            return await attacher.save(write, session, refusals=_REFUSALS, observed=True)
        finally:
            current.reset(token)

    async def _collected(self, write: Callable[[], Awaitable[T]]) -> T:
        """Let a bulk writer collect the operation, which does not load the document either."""
        token = current.set(Saving(self, self._new_attacher(), stores=False))
        try:
            return await write()
        finally:
            current.reset(token)

    async def update(self, *args: Any, session: Session | None = None, bulk_writer: Any = None, **options: Any) -> Self:
        """Run Beanie's `update`. A file that a field holds, and that the update does not name, stays unsaved.

        A replaced file is removed if the new file's id was among what was written.

        Raises:
            ValidationError: The update sets a field to content, which it cannot store.
        """

        def write() -> Awaitable[Self]:
            return super(FileDocument, self).update(*args, session=session, bulk_writer=bulk_writer, **options)

        if bulk_writer is not None:
            return await self._collected(write)
        saving = current.get()
        if saving is not None and saving.document is self and saving.stores:
            with self._keeping_files():
                return await write()
        self._prepare()
        async with lock_owner(self):
            return await run_to_completion(
                self._update(write, session, self._document_client), client=self._document_client
            )

    async def _update(self, write: Callable[[], Awaitable[T]], session: Session | None, client: Client) -> T:
        held: list[FileState] = [file.state for _, file in self._held_files()]
        attacher = self._new_attacher()
        token = current.set(Saving(self, attacher, stores=False))
        try:
            with self._keeping_files() as written:
                result = await write()
        except BaseException as error:
            if attacher.may_have_written and not is_refusal(error, _REFUSALS):
                mark_outcome_unknown(held)
            raise
        finally:
            current.reset(token)

        async def done() -> T:
            return result

        # Some of the files may have been written: the stored document says which.
        idle = [(path, file) for path, file in written if file.state.busy is None]
        return await Attacher(self, lambda: idle, client=client).save(done, session)

    async def sync(self, *args: Any, **options: Any) -> None:
        """Run Beanie's `sync`. A file that was put here and never saved is left for the garbage collector."""
        refuse_open_files(self._held_files())
        with self._keeping_files(unsaved=False):
            await super().sync(*args, **options)

    async def validate_self(self, *args: Any, **options: Any) -> None:
        """Run Beanie's `validate_self`, which makes every value anew. The files stay the objects that they are."""
        if not type(self).get_settings().validate_on_save:
            await super().validate_self(*args, **options)
            return
        with self._keeping_files():
            await super().validate_self(*args, **options)

    # Deleting

    async def delete(
        self, session: Session | None = None, bulk_writer: Any = None, *args: Any, **options: Any
    ) -> DeleteResult | None:
        """Run Beanie's `delete`, then remove the files of fields with `on_delete="delete"`.

        Files are removed only if there was such a document. Returns pymongo's result, or None with a `bulk_writer`.
        """

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).delete(session, bulk_writer, *args, **options)

        return await (self._collected(write) if bulk_writer is not None else self._delete(write, session))

    async def hard_delete(
        self, session: Session | None = None, bulk_writer: Any = None, *args: Any, **options: Any
    ) -> DeleteResult | None:
        """As `delete`, of a `DocumentWithSoftDelete`, whose own `delete` removes neither document nor file."""
        parent: Any = super()

        def write() -> Awaitable[Any]:
            result: Awaitable[Any] = parent.hard_delete(session, bulk_writer, *args, **options)
            return result

        return await (self._collected(write) if bulk_writer is not None else self._delete(write, session))

    async def _delete(
        self, write: Callable[[], Awaitable[DeleteResult | None]], session: Session | None
    ) -> DeleteResult | None:
        results = []

        async def deleted() -> bool | list[StoredFile]:
            result = await write()
            results.append(result)
            if result is None or not result.deleted_count:
                return False
            return True if saving.deleted is None else self._files_of(saving.deleted)

        self._prepare()
        attacher = self._new_attacher()
        saving = Saving(self, attacher)
        token = current.set(saving)
        try:
            await attacher.delete(deleted, session)
        finally:
            current.reset(token)
        return results[0]

    def _files_of(self, raw: Mapping[str, Any]) -> list[StoredFile]:
        """Return the files that a stored document points to."""
        try:
            stored = type(self).model_validate(raw)
        except (PydanticValidationError, GridProxyError):  # other code wrote it: what this object knows has to do
            return []
        return [(file.options, file.id) for _, file in class_of(type(self)).plan.files(stored, _is_document)]

    # Inside

    def _prepare(self) -> None:
        """Parse what was not parsed yet, and make files of content that was assigned anywhere."""
        self.parse_store()
        known = class_of(type(self))
        settled = known.plan.direct
        if settled:
            database, values = known.default_database(type(self)), values_of(self, "__dict__")
            for name, field in known.fields.items():
                file = values.get(name)  # `model_construct` may leave some out
                settled = settled and (file is None or _is_settled(self, name, file, database.options(field.options)))
        if not settled:
            self._take_assigned()
            _take_in(self)

    @property
    def _document_client(self) -> Client:
        return class_of(type(self)).default_database(type(self)).database.client

    def _new_attacher(self) -> Attacher:
        return Attacher(self, self._held_files, client=self._document_client)

    def _held_files(self) -> list[HeldFile]:
        # By the field's name: within a list a file may move, and is still in the same field.
        return class_of(type(self)).plan.held(self, _is_document)

    def _take_assigned(self) -> None:
        """Make files of content that was assigned in embedded models, or put into lists and dicts by hand."""
        plan = class_of(type(self)).plan
        raw_fields = not plan.direct
        for name in plan.depths:
            raw_fields = raw_fields or not isinstance(vars(self).get(name), _SETTLED)
        if not raw_fields:
            return
        models = [] if plan.flat else models_in(self, beyond=_is_document)
        raw = list(raw_values([("", self), *models]))
        if raw:
            held = {id(file) for _, file in plan.files(self, _is_document)}
            with using_document_database(type(self)):
                for value in raw:
                    value.normalise(held)

    @contextmanager
    def _keeping_files(self, *, unsaved: bool = True) -> Iterator[list[HeldFile]]:
        """Keep the files as the objects that they are, while Beanie makes every value anew from the stored document.

        Bound is the list of files that the stored document points to. It is filled at the end of the block.
        """
        kind = type(self)
        plan = class_of(kind).plan
        held_before = plan.values(self) if plan.flat else {}
        before = {} if plan.flat else dict(plan.files(self, _is_document))
        written: list[HeldFile] = []
        merged: set[str] = set()
        token = _merging.set((self, merged))
        try:
            # Embedded models that validate assignments are given these files.
            if plan.flat:
                yield written
            else:
                with using_document_database(kind):
                    yield written
        finally:
            _merging.reset(token)
            if (saving := current.get()) is not None:
                saving.is_merging = False

        if plan.flat:
            values = values_of(self, "__dict__")
            same = True
            for name, value in held_before.items():
                same = same and (value is None or name in merged) and same_objects(values.get(name), value)
            if same:  # as after a save that changed no file
                written += plan.held(self, _is_document)
                return
            before = dict(plan.files_of(held_before))
        by_id = {file.state.id: file for file in before.values() if isinstance(file.state.id, ObjectId)}

        def choose(path: str, came: AsyncGridFile | None) -> AsyncGridFile | None:
            held, field = before.get(path), path.partition(".")[0]
            if came is held:
                if held is not None and field in merged:
                    written.append((field, held))
                return came
            id = None if came is None else came.id
            known = by_id.get(id) if isinstance(id, ObjectId) else None
            kept = held if held is not None and held.id == id else known
            if kept is not None and kept.state.content is None:
                if kept.state.info is None and came is not None:
                    kept.state.info = came.info
                written.append((field, kept))
                return kept
            if unsaved and held is not None and _is_unsaved(held, id):
                return held
            if came is not None:
                came.state.attachment = None  # it was loaded into another document for a moment
                came.state.attach(self, field, Proof.LOADED)
            return came

        if plan.exchange(self, choose, _is_document):
            _take_in(self)


# The document that Beanie is merging a loaded one into, and the fields whose file stayed.
_merging: ContextVar[tuple[FileDocument, set[str]] | None] = ContextVar("gridproxy_beanie_merging", default=None)


def _same_files(current: object, value: object) -> bool:
    """Return whether the files in `value` are those that the field holds. Their records are kept."""
    if isinstance(value, list):
        if not (isinstance(current, list) and value and len(value) == len(current)):
            return False
        pairs = zip(current, value, strict=True)
    else:
        pairs = zip((current,), (value,), strict=True)
    for one, other in pairs:
        if not (isinstance(one, AsyncGridFile) and isinstance(other, AsyncGridFile)):
            return False
        state, came = one.state, other.state
        if came.id != state.id or state.content is not None:
            return False
        if state.info is None:
            state.info = came.info
    return True


def _take_new(
    document: FileDocument,
    known: DocumentClass,
    database: DefaultDatabase,
    name: str,
    file: AsyncGridFile,
    options: FileOptions,
) -> None:
    """Let a file that was made while this document was loaded be one of its files."""
    state = file.state
    if state.attachment is None or state.attachment.unowned:
        state.options = database.options(options)
        state.attachment = Attachment((state.id, state.info), document, name)
    else:  # a validator of the model's own has returned a file of another document
        _take(document, known, database, name, file, ())


def _take_in(document: FileDocument, given: Collection[int] | None = None, proof: Proof = Proof.NONE) -> None:
    known = class_of(type(document))
    for path, file in known.plan.files(document, _is_document):
        state = file.state
        attachment = state.attachment
        name = path if path in known.fields else path.partition(".")[0]
        if attachment is not None:
            if proof is Proof.LOADED:
                # The options of a document that was just constructed are known already.
                if attachment.loaded(document, name, state.id):
                    continue
            # An item of a list that was taken in before has kept its options.
            elif path != name and isinstance(state.options.bucket, Bucket) and attachment.belongs_to(document, name):
                continue
        _take(document, known, known.default_database(type(document)), path, file, given, proof)
    if not known.plan.flat:
        remember_files(models_in(document, beyond=_is_document))


def _take(
    document: FileDocument,
    known: DocumentClass,
    database: DefaultDatabase,
    path: str,
    file: AsyncGridFile,
    given: Collection[int] | None,
    proof: Proof = Proof.NONE,
) -> None:
    """Let a file be one of this document's, in its database.

    A file that the user handed over (`given`, None for all) may be in another database.
    """
    state = file.state
    name = path if path in known.fields else path.partition(".")[0]
    attachment = state.attachment
    if attachment is None or attachment.unowned or attachment.belongs_to(document, name):
        field = known.fields.get(name)
        # A default is not validated and does not have the field's options.
        declared = field.options if field is not None and path == name else known.options(name, state.options)
        options = database.options(declared)
        if state.options is not options:
            handed_over = given is None or id(file) in given
            if handed_over and state.info is not None and state.options != options:
                _check_place(name, file, options)
            state.options = options
    state.attach(document, name, proof)


def _is_settled(document: FileDocument, name: str, value: object, options: FileOptions) -> bool:
    """Return whether a value is a file that the document has taken in as the one of this field."""
    if not isinstance(value, AsyncGridFile):
        return False
    state = value.state
    return state.options is options and state.attachment is not None and state.attachment.belongs_to(document, name)


def _disown(document: FileDocument) -> None:
    for _, file in class_of(type(document)).plan.files(document, _is_document):
        if file.state.attachment is not None:
            file.state.attachment.disown()


def _may_hold(value: object) -> bool:
    """Return whether a raw value may hold a file or a record. A list of ids, as documents store it, does not."""
    if type(value) is not list:
        return isinstance(value, _HOLDERS)
    for item in value:  # noqa: SIM110  # a generator takes longer, and documents are loaded by the thousand
        if type(item) is not ObjectId and item is not None:
            return True
    return False


def _is_document(value: object) -> bool:
    return isinstance(value, Document)


def _is_unsaved(file: AsyncGridFile, stored: object) -> bool:
    """Return whether the file has changed since the save, and `stored` is what the document still points to."""
    attachment = file.state.attachment
    if attachment is None or attachment.is_new(stored):
        return False
    return file.state.content is not None or file.state.busy is not None or attachment.is_new(file.id)


def _check_place(name: str, file: AsyncGridFile, options: FileOptions) -> None:
    try:
        assign(file, file, options)
    except BadId as error:
        raise ValidationError(name, str(error)) from error
