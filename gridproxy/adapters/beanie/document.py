"""Files in Beanie's documents: `class Animal(FileDocument, Document): photo: AsyncGridFile`."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from beanie import Document
from bson import ObjectId
from pymongo.errors import DuplicateKeyError, PyMongoError

from gridproxy.errors import BadId, BadOption, ValidationError
from gridproxy.fields.attacher import delete_owner, mark_outcome_unknown, references, refuse_open_files, save_owner
from gridproxy.fields.discovery import exchange_files, files_in, models_in
from gridproxy.file.attachment import attach
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.values import assign
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.tasks import run_to_completion

from .embedded import raw_values, remember_files
from .fields import file_fields, resolve_options, using_document_database
from .queries import RefusingFindMany, RefusingFindOne
from .typed_document import TypedDocument

if TYPE_CHECKING:
    from pymongo.results import DeleteResult

T = TypeVar("T")


class FileDocument(TypedDocument):
    """What makes a Beanie document keep its files: mix it in first, `class Animal(FileDocument, Document)`.

    Fields are `photo: AsyncGridFile = AsyncGridFile()`, with options `Annotated[AsyncGridFile, FileOptions(...)]`; also
    in lists, dicts and embedded models. Files lie in the document's own database unless the options name another one.
    A class raises `BadOption` where it is mixed in behind the document class.

    Giving or assigning bytes, a path or an open file does no I/O: it is content for the next save. A file, its id (an
    `ObjectId` or 24 hex digits), a snapshot or None moves the reference. Anything else, and a file that lies elsewhere,
    raises pydantic's `ValidationError` in the constructor, in lists and in optional fields, and gridproxy's own where
    it is assigned to any other field. `NotInitialised` is raised before `init_beanie`.

    An embedded model takes whatever is assigned to it, and so do lists and dicts. That becomes content, or a reference,
    when the document is written or deleted; for what can be no file these raise gridproxy's `ValidationError` with the
    path ("lines.0.scan"), and nothing is written. Where the model validates assignments by itself, and in a copy of a
    document, such content does not replace the file that was there, which is left for `check`.

    `insert`, `save`, `save_changes` and `replace` store assigned content and then remove what was replaced; `delete`
    removes the files of fields with `on_delete="delete"`. `update` and its like write what they are told, and no more.
    What saves raises what `AsyncGridFile.replace` raises of content, `BadId` for a file whose id is no `ObjectId`, and
    `FileMissing` for a file of a transaction whose commit got no answer and did not come true. What saves, deletes or
    synchronises raises `UploadInProgress` while a file of the document is being written; whatever writes, what Beanie
    and pymongo raise. No file is lost then.

    Bulk writes and queries that write (`insert_many`, `find(...).update`, `delete_all`, a `bulk_writer`) run no hooks:
    they remove no file, and refuse content that is not stored (`InvalidDocument`, of `bson`; gridproxy's
    `ValidationError` where a query or `update` is told to set a field to it). Without `use_revision` a
    stale document's save writes its old file's id back, and the other writer's file is left for `check`. After a
    transaction that was aborted the document has to be loaded again.

    Parameters and results are Beanie's; `session` is pymongo's, None for none.
    """

    # Queries that write, and `update`, which is one of them.
    _find_one_query_class: ClassVar[type] = RefusingFindOne
    _find_many_query_class: ClassVar[type] = RefusingFindMany

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        order = cls.__mro__
        if Document not in order or order.index(Document) < order.index(FileDocument):
            raise BadOption(
                f"write FileDocument before the document class: class {cls.__name__}(FileDocument, Document)"
            )

    def __init__(self, *args: Any, **values: Any) -> None:
        with using_document_database(type(self)):
            super().__init__(*args, **values)
        self._take_in({id(file) for _, file in files_in(values)})

    def __setattr__(self, name: str, value: Any) -> None:
        field = file_fields(type(self)).get(name)
        if field is None:
            super().__setattr__(name, value)
            return
        given = {id(file) for _, file in files_in(value)}
        with using_document_database(type(self)):
            value = field.assigned(vars(self).get(name), value, name)
        for path, file in files_in(value):
            attachment = file._attachment
            if attachment is not None and attachment.unowned and id(file) not in given:
                file._attachment = None  # made from an id that was only assigned: it may be somebody else's file
            self._take(f"{name}.{path}" if path else name, file, given)
        with using_document_database(type(self)):
            super().__setattr__(name, value)

    def __copy__(self) -> Any:
        copied = super().__copy__()
        held = vars(copied)
        held.update({name: copy.copy(value) for name, value in held.items() if isinstance(value, AsyncGridFile)})
        copied._take_in()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        copied = super().__deepcopy__(memo)
        copied._take_in()
        return copied

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._take_in(())  # a pickled bucket has kept its name only

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        # Whatever encodes a document comes by here, bulk writes and event handlers too: nothing raw is ever written.
        self._take_assigned()
        # With `keep_nulls = False` Beanie sets what this gives and unsets what is null: an empty file may not be both.
        keep_nulls = type(self).get_settings().keep_nulls
        for name, value in super().__iter__():
            nothing = isinstance(value, AsyncGridFile) and not value and value._content is None
            yield name, None if nothing and not keep_nulls else value

    def _parse_value(self, name: str, value: Any) -> Any:
        # A lazily parsed document reads its fields without their options.
        field = file_fields(type(self)).get(name)
        if field is None:
            return super()._parse_value(name, value)
        with using_document_database(type(self)):
            return field.adapter.validate_python(value)

    def _set_attr(self, name: str, value: Any) -> None:
        with using_document_database(type(self)):
            super()._set_attr(name, value)
        self._take_in(())

    # Saving

    async def insert(self, *, session: Session | None = None, **options: Any) -> Self:
        """Beanie's `insert`, with the document's files."""
        return await self._save(lambda: super(FileDocument, self).insert(session=session, **options), session)

    async def save(self, session: Session | None = None, *args: Any, **options: Any) -> Self:
        """Beanie's `save`, with the document's files."""
        return await self._save(lambda: super(FileDocument, self).save(session, *args, **options), session)

    async def replace(
        self,
        ignore_revision: bool = False,
        session: Session | None = None,
        bulk_writer: Any = None,
        *args: Any,
        **options: Any,
    ) -> Self:
        """Beanie's `replace`, with the document's files."""

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).replace(ignore_revision, session, bulk_writer, *args, **options)

        return await (write() if bulk_writer is not None else self._save(write, session))

    async def save_changes(
        self,
        ignore_revision: bool = False,
        session: Session | None = None,
        bulk_writer: Any = None,
        *args: Any,
        **options: Any,
    ) -> Self | None:
        """Beanie's `save_changes`, with the document's files; None where nothing had changed."""

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).save_changes(ignore_revision, session, bulk_writer, *args, **options)

        return await (write() if bulk_writer is not None else self._save(write, session))

    async def _save(self, write: Callable[[], Awaitable[T]], session: Session | None) -> T:
        self._take_assigned()
        self._take_in()
        token = _saving.set(self)
        try:
            return await save_owner(self, self._held_files, write, session)
        finally:
            _saving.reset(token)

    async def update(self, *args: Any, session: Session | None = None, bulk_writer: Any = None, **options: Any) -> Self:
        """Beanie's `update`: what a file field holds and was not told to write stays here, unsaved.

        What was replaced goes, too, where the new file's id was among what was written. Raises `ValidationError` for
        content: an update has no place to store it.
        """

        def write() -> Awaitable[Self]:
            return super(FileDocument, self).update(*args, session=session, bulk_writer=bulk_writer, **options)

        if bulk_writer is not None:
            return await write()
        self._take_assigned()
        if _saving.get() is self:
            with self._keeping_files():
                return await write()
        return await run_to_completion(self._update(write, session))

    async def _update(self, write: Callable[[], Awaitable[T]], session: Session | None) -> T:
        held = [file for _, file in self._held_files()]
        try:
            with self._keeping_files() as written:
                result = await write()
        except PyMongoError as error:
            if not isinstance(error, DuplicateKeyError):
                mark_outcome_unknown(references(held))
            raise

        async def done() -> T:
            return result

        # Some of the files may have been among what was written: the stored document tells.
        settled = [(path, file) for path, file in written if file._busy is None]
        return await save_owner(self, lambda: settled, done, session)

    async def sync(self, *args: Any, **options: Any) -> None:
        """Beanie's `sync`: the stored document's files; what was put here and never saved is left for the collector."""
        refuse_open_files(self._held_files())
        with self._keeping_files(unsaved=False):
            await super().sync(*args, **options)

    async def validate_self(self, *args: Any, **options: Any) -> None:
        """Beanie's `validate_self`, which makes every value anew: the files stay the objects that they are."""
        with self._keeping_files():
            await super().validate_self(*args, **options)

    # Deleting

    async def delete(
        self, session: Session | None = None, bulk_writer: Any = None, *args: Any, **options: Any
    ) -> DeleteResult | None:
        """Beanie's `delete`; then the files of fields with `on_delete="delete"`, if there was such a document.

        pymongo's result, None with a `bulk_writer`.
        """

        def write() -> Awaitable[Any]:
            return super(FileDocument, self).delete(session, bulk_writer, *args, **options)

        return await (write() if bulk_writer is not None else self._delete(write, session))

    async def hard_delete(
        self, session: Session | None = None, bulk_writer: Any = None, *args: Any, **options: Any
    ) -> DeleteResult | None:
        """As `delete`, of a `DocumentWithSoftDelete`, whose own `delete` removes neither document nor file."""
        parent: Any = super()

        def write() -> Awaitable[Any]:
            result: Awaitable[Any] = parent.hard_delete(session, bulk_writer, *args, **options)
            return result

        return await (write() if bulk_writer is not None else self._delete(write, session))

    async def _delete(
        self, write: Callable[[], Awaitable[DeleteResult | None]], session: Session | None
    ) -> DeleteResult | None:
        results = []

        async def deleted() -> bool:
            result = await write()
            results.append(result)
            return result is not None and result.deleted_count > 0

        self._take_assigned()
        self._take_in()
        await delete_owner(self._held_files(), deleted, session)
        return results[0]

    # Inside

    def _held_files(self) -> Iterator[tuple[str, AsyncGridFile]]:
        # By the field's name, and not by the whole path: within a list a file may move, and is the same field's.
        return ((path.partition(".")[0], file) for path, file in self._files_by_path())

    def _files_by_path(self) -> Iterator[tuple[str, AsyncGridFile]]:
        return files_in(self, beyond=_is_document)

    def _take_in(self, given: Collection[int] | None = None) -> None:
        for path, file in list(self._files_by_path()):
            self._take(path, file, given)
        remember_files(models_in(self, beyond=_is_document))

    def _take_assigned(self) -> None:
        """What was assigned in embedded models, or put into lists and dicts by hand, becomes files."""
        raw = list(raw_values([("", self), *models_in(self, beyond=_is_document)]))
        if raw:
            held = {id(file) for _, file in self._files_by_path()}
            with using_document_database(type(self)):
                for value in raw:
                    value.normalise(held)

    def _take(self, path: str, file: AsyncGridFile, given: Collection[int] | None) -> None:
        """Let a file be one of this document's, in its database.

        What somebody has given, rather than stored, may lie elsewhere: `given` are the objects, None means all.
        """
        attachment, name = file._attachment, path.partition(".")[0]
        if attachment is None or attachment.unowned or attachment.belongs_to(self, name):
            field = file_fields(type(self)).get(name)
            # A default is not validated, and does not know of the field's options; nor does what was put into a list.
            bare = field is not None and (path == name or file.options == FileOptions())
            options = resolve_options(type(self), field.options if field and bare else file.options)
            if (given is None or id(file) in given) and file.info is not None and file.options != options:
                _check_place(name, file, options)
            file._options = options
        attach(file, self, name)

    @contextmanager
    def _keeping_files(self, *, unsaved: bool = True) -> Iterator[list[tuple[str, AsyncGridFile]]]:
        """Beanie makes every value anew from the stored document: keep the files, as the objects that they are.

        Bound is the list of those that the stored document points to, filled when the block has been left.
        """
        before = dict(self._files_by_path())
        by_id = {file.id: file for file in before.values() if isinstance(file.id, ObjectId)}
        written: list[tuple[str, AsyncGridFile]] = []
        with using_document_database(type(self)):  # embedded models that validate assignments are given these files
            yield written

        def choose(path: str, came: AsyncGridFile | None) -> AsyncGridFile | None:
            held = before.get(path)
            if came is held:
                return came
            id = None if came is None else came.id
            known = by_id.get(id) if isinstance(id, ObjectId) else None
            same = held if held is not None and held.id == id else known
            if same is not None and same._content is None:
                if same._info is None and came is not None:
                    same._info = came.info
                written.append((path, same))
                return same
            if unsaved and held is not None and _is_unsaved(held, id):
                return held
            if came is not None:
                came._attachment = None  # it belonged to the document that it was loaded into for a moment
                attach(came, self, path.partition(".")[0], stored=True)
            return came

        exchange_files(self, choose, beyond=_is_document)
        self._take_in()


_saving: ContextVar[FileDocument | None] = ContextVar("gridproxy_beanie_saving", default=None)


def _is_document(value: object) -> bool:
    return isinstance(value, Document)


def _is_unsaved(file: AsyncGridFile, stored: object) -> bool:
    """Whether the file has changed since its document was saved, and `stored` is what the document points to still."""
    attachment = file._attachment
    if attachment is None or attachment.put_here(stored):
        return False
    return file._content is not None or file._busy is not None or attachment.put_here(file.id)


def _check_place(name: str, file: AsyncGridFile, options: FileOptions) -> None:
    try:
        assign(file, file, options)
    except BadId as error:
        raise ValidationError(name, str(error)) from error
