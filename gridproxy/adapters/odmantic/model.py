"""Files in the models of ODMantic: `class Animal(FileModel, Model): photo: AsyncGridFile`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pydantic
from bson import ObjectId
from odmantic.exceptions import DocumentParsingError
from odmantic.model import EmbeddedModel, Model, _BaseODMModel
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from gridproxy.bucket import Bucket
from gridproxy.errors import BadId, BadOption, BadSource
from gridproxy.fields.attacher import HeldFile, StoredFile
from gridproxy.fields.default_database import DefaultDatabase
from gridproxy.fields.discovery import files_in
from gridproxy.file.attachment import Attachment, Proof
from gridproxy.file.connection import store_for, using
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.values import ids_in, stored_value, validate_assignment
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

from .fields import FileField, completed, file_fields, plan_of

if TYPE_CHECKING:
    _Mixed = _BaseODMModel
else:
    _Mixed = object  # ODMantic makes a collection of every subclass of Model


@dataclass
class _State:
    default_database: DefaultDatabase | None = None
    clean: dict[str, object] = field(default_factory=dict)  # the stored values of the file fields
    sent: dict[str, object] = field(default_factory=dict)  # the values dumped for a save that has not succeeded


# An ODMantic model accepts no attributes but its fields.
_states: WeakIdentityMap[FileModel, _State] = WeakIdentityMap()
_modified: Any = vars(_BaseODMModel)["__fields_modified__"]
_HOLDERS = (AsyncGridFile, list, dict, tuple)


class FileModel(_Mixed):
    """The mixin that lets an ODMantic model hold files: `class Animal(FileModel, Model)`.

    Embedded models that hold files need it, too. Fields are `photo: AsyncGridFile`, with options
    `Annotated[AsyncGridFile, FileOptions(...)]`, also in lists, dicts and embedded models. Unless the options name
    another database, files are in that of the engine that found or saved the document, and before that in the one of
    `connect`. A changed file marks its field as modified. A save writes only modified fields.

    Giving or assigning bytes, a path or an open file does no I/O: it is content for the next save. A file, its id (an
    `ObjectId` or 24 hex digits), a snapshot or None moves the reference.

    `AsyncEngine` stores assigned content and removes files. With ODMantic's own `AIOEngine`, put files by `await
    photo.put(...)`, and call `photo.finalize()` after a save.

    Raises:
        BadOption: The class is mixed in behind the model.
        ValidationError: A value cannot be a file, or the file is in another database or bucket: pydantic's error in
            the constructor, in lists and in optional fields, and this package's for other assignments.
        BadId: As above, if the model belongs to an engine.

    ```python
    from odmantic import Model
    from gridproxy.adapters.odmantic import AsyncEngine, FileModel

    class Otter(FileModel, Model):
        photo: AsyncGridFile

    otter = await AsyncEngine(client, "zoo").save(Otter(photo=b"an otter"))
    assert await otter.photo.read() == b"an otter"
    ```
    """

    __mutable_fields__: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        order = cls.__mro__
        if _BaseODMModel not in order or order.index(_BaseODMModel) < order.index(FileModel):
            raise BadOption(f"{cls.__name__}: write FileModel before Model, class {cls.__name__}(FileModel, Model)")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        # ODMantic writes mutable fields on every save, so a stale copy would write its old reference.
        cls.__mutable_fields__ = cls.__mutable_fields__ - file_fields(cls).keys()

    def __init__(self, **values: Any) -> None:
        # Documents are loaded from scalars and ids, which hold no files.
        searched = not plan_of(type(self)).flat or any(isinstance(value, _HOLDERS) for value in values.values())
        given = [file for _, file in files_in(values)] if searched else []
        # A file that another document holds is in the database of that document, so this one must be there, too.
        placed = [(file, bucket) for file in given if isinstance(bucket := file.options.bucket, Bucket)]
        with using(placed[0][1].database) if placed else nullcontext():
            super().__init__(**values)
        for file, bucket in placed:
            # It has the options of its field now, but is still in its old bucket.
            if file and file.options.bucket != bucket and file.options.db_alias is None:
                file.state.options = replace(file.options, bucket=bucket)
        _take_in(self, {id(file) for file in given})

    def __setattr__(self, name: str, value: Any) -> None:
        kept = file_fields(type(self)).get(name)
        if kept is None:
            super().__setattr__(name, value)
            return
        given = {id(file) for _, file in files_in(value)}
        with _using_default_database(self):
            super().__setattr__(name, self._assigned(name, kept, value))
        _take_in(self, given)

    def _assigned(self, name: str, kept: FileField, value: Any) -> Any:
        current = vars(self).get(name)
        if not kept.direct or not isinstance(current, AsyncGridFile) or (value is None and kept.optional):
            return value
        return validate_assignment(current, value, name)

    # What is modified

    def _fields_modified(self) -> set[str]:
        modified: set[str] = _modified.__get__(self)
        state = _state(self)
        for name, before in state.clean.items():
            if _stored_form(self, name) != before:
                modified.add(name)
            elif name not in state.sent:
                modified.discard(name)
        return modified

    def _set_fields_modified(self, names: set[str]) -> None:
        _modified.__set__(self, names)
        state = _state(self)
        if names:  # ODMantic marks all fields: nothing is stored
            state.clean = {}
            return
        # The model was saved or loaded. A file may have changed during the save, so the dumped value counts.
        written, state.sent = state.sent, {}
        for name in file_fields(type(self)):
            if name in written:
                state.clean[name] = written[name]
            elif name not in state.clean:
                state.clean[name] = _stored_form(self, name)

    if TYPE_CHECKING:  # ODMantic has a slot of this name
        __fields_modified__: ClassVar[set[str]]
    else:
        __fields_modified__ = property(
            _fields_modified,
            _set_fields_modified,
            doc="The names of the fields that the next save writes, with those of changed files.",
        )

    def model_dump_doc(self, include: Any = None) -> dict[str, Any]:
        """Return the document to be stored. See ODMantic's `model_dump_doc`.

        Raises:
            BadSource: Content was assigned and is not stored.
            BadId: The id of a file is not an `ObjectId`.

        ```python
        assert otter.model_dump_doc()["photo"] == otter.photo.id
        ```
        """
        names = [name for name in file_fields(type(self)) if include is None or name in include]
        for name, file in held_files(self):
            if name in names:
                _check_storable(f"{type(self).__name__}.{name}", file)
        document = super().model_dump_doc(include)
        if include is not None:
            _state(self).sent.update({name: _stored_form(self, name) for name in names})
        return document

    def model_update(self, patch_object: Any, **options: Any) -> None:
        """Change fields as ODMantic's `model_update` does. An unchanged file stays the same object.

        Raises as an assignment does.

        ```python
        otter.model_update({"photo": file.id})
        ```
        """
        before = {name: vars(self)[name] for name in file_fields(type(self))}
        modified = set(self.__fields_modified__)
        with _using_default_database(self):
            super().model_update(patch_object, **options)
        for name, value in before.items():
            new, vars(self)[name] = vars(self)[name], value
            if _ids(new) != _ids(value):
                setattr(self, name, new.id if isinstance(new, AsyncGridFile) else new)
            elif name not in modified:
                _modified.__get__(self).discard(name)

    # Loading

    @classmethod
    def model_validate_doc(cls, raw_doc: dict[str, Any]) -> Self:
        """Return the model of a stored document. A file field that it lacks is empty.

        Raises ODMantic's `DocumentParsingError`.

        ```python
        assert not Otter.model_validate_doc({"_id": file.id}).photo
        ```
        """
        errors, values = cls._parse_doc_to_obj(completed(cls, raw_doc))
        if errors:
            raise DocumentParsingError(errors=errors, model=cls)
        try:
            document = cls.model_validate(values)
        except pydantic.ValidationError as error:
            # ODMantic fails on errors of other types than pydantic's own.
            raise DocumentParsingError(errors=[_custom(each) for each in error.errors()], model=cls) from error
        _attach_loaded(document)
        return document

    # Copies

    def __copy__(self) -> Self:
        copied: Self = super().__copy__()
        held = vars(copied)
        held.update({name: copy.copy(value) for name, value in held.items() if isinstance(value, AsyncGridFile)})
        return self._carried(copied)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._carried(super().__deepcopy__(memo))

    def _carried(self, copied: Self) -> Self:
        """Add to a copy what pydantic does not copy."""
        state = _state(self)
        _modified.__set__(copied, set(self.__fields_modified__))
        _states.set(copied, _State(default_database=state.default_database, clean=dict(state.clean)))
        _take_in(copied, None, Proof.COPIED)
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "modified": self.__fields_modified__, "clean": _state(self).clean}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        _modified.__set__(self, state["modified"])
        _state(self).clean = state["clean"]
        _take_in(self, None, Proof.COPIED)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Run pydantic's `model_copy`. A copy with another id is another document, and owns no file of this one."""
        copied: Self = super().model_copy(update=dict(update or {}), deep=deep)
        if getattr(copied, "id", None) != getattr(self, "id", None):
            _disown(copied)
        return copied


_UNSTORED = object()


def _state(model: FileModel) -> _State:
    state = _states.get(model)
    if state is None:
        state = _State()
        _states.set(model, state)
    return state


def _stored_form(model: FileModel, name: str) -> object:
    value = vars(model)[name]
    if isinstance(value, AsyncGridFile):
        return _UNSTORED if value.state.content is not None else stored_value(value)
    if any(file.state.content is not None for _, file in files_in(value)):
        return _UNSTORED
    return model.model_dump(include={name})[name]


def _disown(model: FileModel) -> None:
    for _, file in held_files(model):
        if file.state.attachment is not None:
            file.state.attachment.disown()


def _attach_loaded(model: FileModel) -> None:
    for name, file in held_files(model):
        file.state.attachment = Attachment(file.state.ref, model, name, Proof.LOADED)
    # ODMantic marks a referenced document as modified as a whole. Its files are unchanged.
    for name in model.__references__:
        document = getattr(model, name)
        if isinstance(document, FileModel):
            _attach_loaded(document)
            fields = file_fields(type(document))
            _modified.__get__(document).difference_update(fields)
            _state(document).clean = {each: _stored_form(document, each) for each in fields}


def held_files(model: FileModel) -> list[HeldFile]:
    """Return the files of a document with their fields' names, without those of documents that it refers to."""
    return [(path.partition(".")[0], file) for path, file in plan_of(type(model)).files(model, _is_document)]


def stored_files(model: FileModel, raw: Mapping[str, Any], database: DefaultDatabase) -> list[StoredFile]:
    """Return the files that a stored document points to. Those in embedded models are known to the model only."""
    kind: Any = type(model)
    return [
        (database.options(kept.options), id)
        for name, kept in file_fields(kind).items()
        if not kept.embeds
        for id in _ids_of(raw.get(kind.__odm_fields__[name].key_name))
    ]


def _ids_of(raw: object) -> list[object]:
    if isinstance(raw, Mapping) and "_id" not in raw:
        raw = list(raw.values())
    ids = ids_in(raw)
    return ids if isinstance(ids, list) else [ids]


def set_default_database(model: FileModel, default_database: DefaultDatabase) -> None:
    """Let the document's files be in this database, unless their options name another one."""
    _state(model).default_database = default_database
    _take_in(model, None)


def check_containers(model: FileModel) -> None:
    """Make files of content that the caller put into a list or a dict."""
    for name, kept in file_fields(type(model)).items():
        value = vars(model)[name]
        parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not kept.direct and any(not isinstance(part, AsyncGridFile | _BaseODMModel) for part in parts):
            setattr(model, name, value)
            checked = vars(model)[name]
            value.clear()
            value.extend(checked) if isinstance(value, list) else value.update(checked)
            vars(model)[name] = value


def _using_default_database(model: FileModel) -> AbstractContextManager[None]:
    default_database = _state(model).default_database
    return nullcontext() if default_database is None else using(default_database.database)


def _take_in(model: FileModel, given: Collection[int] | None, proof: Proof = Proof.NONE) -> None:
    """Attach the files to this document. `given` are those that the caller passed as files, None for all."""
    default_database = _state(model).default_database
    plan = plan_of(type(model))
    if not plan.flat:
        for inner in _embedded(list(vars(model).values())):
            _state(inner).default_database = default_database
    for name, file in held_files(model):
        attachment = file.state.attachment
        unowned = attachment is not None and attachment.unowned
        if unowned and given is not None and id(file) not in given:
            # Made from an assigned id: the file may belong to another document.
            file.state.attachment = attachment = None
        if isinstance(model, EmbeddedModel):
            continue  # its document owns them
        if default_database is not None:
            kept = file_fields(type(model))[name]
            options = default_database.options(file.options if kept.embeds else kept.options)
            if file.options is not options:
                _check_place(f"{type(model).__name__}.{name}", file, options)
                if attachment is None or unowned or attachment.belongs_to(model, name):
                    file.state.options = options
        file.state.attach(model, name, proof)


def _is_document(value: object) -> bool:
    return isinstance(value, Model)


def _embedded(value: object) -> Iterator[FileModel]:
    """Yield the embedded file models in a value, at any depth."""
    if isinstance(value, FileModel):
        if isinstance(value, EmbeddedModel):
            yield value
            yield from _embedded(list(vars(value).values()))
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _embedded(part)


def _custom(error: ErrorDetails) -> InitErrorDetails:
    kind = PydanticCustomError(error["type"], "{message}", {"message": error["msg"]})
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"])


def _ids(value: object) -> list[tuple[str, object]]:
    return [(path, file.id) for path, file in files_in(value)]


def _check_storable(place: str, file: AsyncGridFile) -> None:
    if file.state.content is not None:
        raise BadSource(
            f"{place}: content was assigned and is not stored yet: use AsyncEngine.save(), or `await` put() or "
            "replace() first, because ODMantic's own engine cannot store it"
        )
    if file.id is not None and not isinstance(file.id, ObjectId):
        raise BadId(f"{place}: the id of a model's file must be an ObjectId: {file.id!r} could not be loaded again")


def _check_place(place: str, file: AsyncGridFile, options: FileOptions) -> None:
    """Raise `BadId` for a file in another database than its document's."""
    attachment = file.state.attachment
    is_new = file.info is not None and (attachment is None or attachment.is_new(file.id))
    if file.id is None or not (is_new or isinstance(file.options.bucket, Bucket)):
        return  # a file of which only the id is known is in the document's database
    actual, wanted = (store_for(each.bucket, each.db_alias) for each in (file.options, options))
    if not actual.same_as(wanted):
        raise BadId(f"{place}: {file!r} is in {actual!r}, and its document belongs to {wanted!r}")
