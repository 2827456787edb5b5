"""wrap_field: a file for an attribute that holds its id, in any class.

The class dumps and stores the same values as before, and has the same schema.
"""

from __future__ import annotations

import copy
import inspect
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, TypeVar, overload

from bson import ObjectId

from gridproxy.bucket import Bucket
from gridproxy.errors import BadId, BadOption, BadSource, type_name
from gridproxy.file.attachment import Attachment, FileRef, Proof
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions, OnReplace
from gridproxy.file.pydantic import parts_of, pydantic_fields
from gridproxy.file.state import FileState
from gridproxy.file.values import assign
from gridproxy.gridfs.content.images import ImageOptions
from gridproxy.gridfs.content.limits import Inspector, Validator
from gridproxy.gridfs.download.reader import Reader
from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

from .discovery import files_in

T = TypeVar("T")

IdForm = Literal["id", "hex"]

_UNSEEN = object()


def wrap_field(
    attribute: str,
    *,
    as_: IdForm | None = None,
    bucket: Bucket | str | None = None,
    db_alias: str | None = None,
    on_replace: OnReplace = "delete",
    max_size: int | None = None,
    content_types: Iterable[str] | str | None = None,
    validators: Iterable[Validator] | Validator | None = None,
    inspect: Inspector | None = None,
    image: ImageOptions | None = None,
) -> WrappedField:
    """Return a file for an attribute that holds a file's id: `avatar = wrap_field("avatar_id")`.

    It works in every mutable class that supports weak references, and gives each object its own `AsyncGridFile`. A
    replaced file is kept until the caller has saved the object and calls `finalize()`. `revert()` restores it.
    Assigning a file, an id or None moves the reference and removes nothing.

    Args:
        attribute: The attribute, which holds an `ObjectId`, its 24 hex digits or None, and keeps its form.
        as_: The form for an empty attribute: "id" (an `ObjectId`) or "hex". None for "hex" if the attribute is
            annotated as `str`, else "id".
        bucket: This and the other options are those of `FileOptions`.
        db_alias: The alias given to `connect`.
        max_size: In bytes.
        content_types: The accepted types.
        validators: Functions that refuse a file.
        inspect: An async function that sees the whole content and may refuse it.
        image: The options of a picture.

    Raises:
        BadOption: An argument is invalid. On use: the class cannot be wrapped, or the object is frozen.
        BadId: On use: the attribute holds another value.
        BadSource: On use: content is assigned.

    ```python
    class User:
        avatar_id = None
        avatar = wrap_field("avatar_id", max_size=1_000_000)

    user = User()
    await user.avatar.put(b"a face")
    assert user.avatar_id == user.avatar.id
    ```
    """
    _check_attribute(attribute)
    if as_ not in (None, "id", "hex"):
        raise BadOption(f"as_ is 'id' or 'hex', not {as_!r}")
    options = FileOptions(
        bucket=bucket,
        db_alias=db_alias,
        on_replace=on_replace,
        max_size=max_size,
        content_types=content_types,
        validators=validators,
        inspect=inspect,
        image=image,
    )
    return WrappedField(attribute, as_, options)


def _check_attribute(name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise BadOption(f"wrap_field needs the name of an attribute that holds a file's id, not {name!r}")


class WrappedField(property):
    """The result of `wrap_field`. It is a property, because ODMs and class decorators ignore properties."""

    def __init__(self, attribute: str, form: IdForm | None, options: FileOptions) -> None:
        super().__init__(doc=f"The file that `{attribute}` refers to.")
        self.attribute = attribute
        self.options = options
        self._form = form
        self._name = ""
        self._files: WeakIdentityMap[object, WrappedFile] = WeakIdentityMap()

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> AsyncGridFile: ...

    def __get__(self, instance: object | None, owner: type | None = None, /) -> Self | AsyncGridFile:
        return self if instance is None else self._file_of(instance)

    def __set__(self, instance: object, value: object, /) -> None:
        file = self._file_of(instance)
        file.state.check_idle()
        if value is not file:
            file.state.move_to(instance, *self._assigned(instance, value).state.ref)

    def __eq__(self, other: object) -> bool:
        # An ODM knows no field of this name, so its query would be `False`.
        if isinstance(other, AsyncGridFile | ObjectId):
            raise BadOption(
                f"{self._name} is not a field of queries: compare the id that {self.attribute} holds, "
                f"`{self.attribute} == file.id`"
            )
        return self is other

    def __hash__(self) -> int:
        return property.__hash__(self)

    def __delete__(self, instance: object, /) -> None:
        raise AttributeError(
            f"{self.place(instance)} cannot be deleted: assign None, or `await` its delete() to remove the file"
        )

    def _assigned(self, owner: object, value: object) -> AsyncGridFile:
        if isinstance(value, AsyncGridFile):
            value.state.check_idle()
            value = copy.copy(value)  # only to check whether it may be held here
        file = assign(AsyncGridFile(options=self.options), value, self.options)
        if file.state.content is not None:
            raise BadSource(
                f"{self.place(owner)} takes a file, an id or None, because assigned content would never be stored. "
                f"`await` its put() or replace() instead"
            )
        return file

    def _file_of(self, owner: object) -> WrappedFile:
        file = self._files.get(owner)
        if file is not None:
            file.state.follow()
            return file
        if self._name == self.attribute:
            raise BadOption(f"{self.place(owner)} wraps itself: wrap_field needs the name of another attribute")
        try:
            reference = weakref.ref(owner)
        except TypeError as error:
            raise BadOption(
                f"{type(owner).__qualname__} takes no weak references, and wrap_field needs them: leave out __slots__, "
                "add '__weakref__' to them, or use dataclass(slots=True, weakref_slot=True)"
            ) from error
        file = WrappedFile(reference, self)
        self._files.set(owner, file)
        return file

    def place(self, owner: object) -> str:
        """Return the name of the field for messages."""
        return f"{type(owner).__qualname__}.{self._name}"

    def read_id(self, owner: object) -> tuple[ObjectId | None, IdForm | None]:
        """Return the id and its form, which is None for an empty attribute."""
        value = getattr(owner, self.attribute)
        if value is None or isinstance(value, ObjectId):
            return value, None if value is None else "id"
        if isinstance(value, str) and ObjectId.is_valid(value):
            return ObjectId(value), "hex"
        raise BadId(
            f"{type(owner).__qualname__}.{self.attribute} must hold a file's id: an ObjectId, its 24 hex digits "
            f"or None, and not {type_name(value)} {value!r}"
        )

    def write_id(self, owner: object, id: object, form: IdForm | None) -> None:
        """Assign an id to the attribute. Raises `BadId` if it is not an `ObjectId` or None."""
        if id is not None and not isinstance(id, ObjectId):
            raise BadId(f"{type(owner).__qualname__}.{self.attribute} names files by ObjectId only, not by {id!r}")
        as_hex = id is not None and (form or self.form_of_new(owner)) == "hex"
        setattr(owner, self.attribute, str(id) if as_hex else id)

    def form_of_new(self, owner: object) -> IdForm:
        """Return the form for an empty attribute."""
        return self._form or _declared_form(type(owner), self.attribute)

    def refuse_frozen(self, owner: object) -> None:
        """Raise `BadOption` if the attribute cannot be assigned."""
        kind: Any = type(owner)
        fields = pydantic_fields(kind)
        if fields is not None:
            # An assignment as a trial would change what such a model dumps.
            field = fields.get(self.attribute)
            frozen = bool(kind.model_config.get("frozen")) or (field is not None and bool(field.frozen))
        else:
            try:
                setattr(owner, self.attribute, getattr(owner, self.attribute))
                frozen = False
            except AttributeError:
                frozen = True
        if frozen:
            raise BadOption(
                f"{kind.__qualname__}.{self.attribute} is frozen: {self.place(owner)} can be read, but not changed"
            )


class WrappedState(FileState):
    """The state of one object's file. Its id is the value of the object's attribute.

    During a write it keeps the file that it had at the start. A value that is assigned to the attribute during the
    write is overwritten at the end. Its file is kept.
    """

    home: object
    reader: Reader | None
    attachment: Attachment | None

    def __init__(self, owner: weakref.ref[object], field: WrappedField) -> None:
        self._field = field
        self._owner: Callable[[], object | None] = lambda: None  # until the end of __init__
        self._form: IdForm | None = None
        self._pinned = False
        self._known_info: FileInfo | None = None
        super().__init__(None, field.options)
        self._owner = owner
        self._known_id: object = _UNSEEN
        self.follow()

    @property
    def id(self) -> object:
        """The id that the attribute holds."""
        self.follow()
        return self._known_id

    @id.setter
    def id(self, id: object) -> None:
        owner = self._owner()
        if owner is not None:
            self._field.write_id(owner, id, self._form)
        self._known_id = id

    @property
    def info(self) -> FileInfo | None:
        """The record of the file, if it is known."""
        self.follow()
        return self._known_info

    @info.setter
    def info(self, info: FileInfo | None) -> None:
        self._known_info = info

    def follow(self) -> None:
        """Take the id that the attribute holds now. Other code may have assigned it."""
        owner = self._owner()
        if owner is None or self.busy is not None or self._pinned:
            return
        id, form = self._field.read_id(owner)
        self._form = form or self._form
        if id != self._known_id:
            self._known_id = id
            self._known_info = self.reader = self.home = None
            self._attach_anew(owner)

    def _attach_anew(self, owner: object) -> None:
        # A reference that the caller moved replaces no file, and `revert` must not remove its file.
        self.attachment = Attachment(self.ref, owner, self._field.attribute)

    def move_to(self, owner: object, id: object, info: FileInfo | None) -> None:
        """Point to another file, as an assignment does."""
        self._field.refuse_frozen(owner)
        self.set_file(id, info)
        self._attach_anew(owner)

    @contextmanager
    def exclusive(self, doing: str) -> Iterator[Callable[[], None]]:
        self.check_idle()
        self.follow()
        owner = self._owner()
        if owner is not None:
            self._field.refuse_frozen(owner)
            self._form = self._form or self._field.form_of_new(owner)
        with super().exclusive(doing) as extend:
            yield extend

    async def replace_with(self, store: Store, info: FileInfo, session: Session | None, since: float) -> None:
        self._pinned = True  # close() ends the write before it reads the id of the replaced file
        try:
            old, old_info = self._known_id, self._known_info
            try:
                self.set_file(info.id, info)
            except BaseException as error:
                self._known_id, self._known_info = old, old_info
                error.add_note(f"{self._field.place(self._owner())}: the new file was removed again.")
                await remove_file(store, info.id, session)
                raise
            self._known_id, self._known_info = old, old_info
            await super().replace_with(store, info, session, since)
        finally:
            self._pinned = False

    async def remove(self, store: Store, id: object, session: Session | None) -> None:
        # A class may refuse None: this must fail before the file is removed.
        info = self._known_info
        self.set_file(None, None)
        try:
            await super().remove(store, id, session)
        except BaseException:
            self.set_file(id, info)
            raise

    def refs_beside(self) -> list[tuple[FileState, FileRef]]:
        """Return what the object's other wrapped attributes point to."""
        owner = self._owner()
        fields = [each for kind in type(owner).__mro__ for each in vars(kind).values()]
        others = [each for each in fields if isinstance(each, WrappedField) and each is not self._field]
        states = [each.__get__(owner).state for each in others]
        return [(state, state.ref) for state in states]


class WrappedFile(AsyncGridFile):
    """The file of one object: its id is the value of the object's attribute."""

    state: WrappedState

    def __init__(self, owner: weakref.ref[object], field: WrappedField) -> None:
        self.state = WrappedState(owner, field)

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        # Only this file belongs to the object. A copy does not.
        return AsyncGridFile, (), self.__getstate__()

    async def finalize(self, *, session: Session | None = None) -> None:
        """Remove the replaced files, after the caller has saved the object.

        Files of the object's other wrapped attributes are kept. Transactions are as for `AsyncGridFile.finalize`.
        """
        assert self.state.attachment is not None, "__init__ attached it"
        through = self.state.session_for(session)
        self.state.enlist(through)
        await self.state.attachment.saved(self.state.ref, self.state.refs_beside(), through)


def mark_loaded(document: T) -> T:
    """Note that a document, or an object with wrapped attributes, was loaded from the database with its files.

    Only then it owns them: a file that is replaced later is removed after the save, or by `finalize()`. The adapters of
    this package, and pydantic's `model_validate`, do so by themselves.

    Args:
        document: What was loaded.

    Returns:
        The same object.

    ```python
    class User:
        avatar_id = info.id
        avatar = wrap_field("avatar_id", bucket=bucket)

    user = gridproxy.fields.mark_loaded(User())
    await user.avatar.replace(b"another face")
    await user.avatar.finalize()
    assert await bucket.read_many([info.id]) == {}
    ```
    """
    for path, file in files_in(document):
        file.state.attach(document, path.partition(".")[0], Proof.LOADED)
    for kind in type(document).__mro__:
        for member in vars(kind).values():
            if isinstance(member, WrappedField):
                state = member.__get__(document).state
                state.attach(document, member.attribute, Proof.LOADED)
    return document


def _declared_form(kind: Any, attribute: str) -> IdForm:
    """Return the form that an annotation asks for: hex for a `str`, unless it names ObjectId, too."""
    fields = pydantic_fields(kind)
    if fields is not None and attribute in fields:
        declared = fields[attribute].annotation
    else:
        try:
            declared = _annotation(kind, attribute)
        except (AttributeError, NameError, SyntaxError, TypeError) as error:
            raise BadOption(
                f"{kind.__qualname__}.{attribute} is empty, and its annotation cannot be read ({error}): "
                "call wrap_field with as_='id' or as_='hex'"
            ) from error
    classes = [each for each in parts_of(declared) if isinstance(each, type)]
    return "hex" if str in classes and not any(issubclass(each, ObjectId) for each in classes) else "id"


def _annotation(kind: type, attribute: str) -> object:
    """Return the annotation of this attribute alone, because others may name types that only type checkers import."""
    for base in kind.__mro__:
        given = inspect.get_annotations(base)
        if attribute in given:
            alone = {"__annotations__": {attribute: given[attribute]}, "__module__": base.__module__}
            return typing.get_type_hints(type(base.__name__, (), alone))[attribute]
    return None
