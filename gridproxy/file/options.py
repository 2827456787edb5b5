"""FileOptions: how one field stores its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypedDict, TypeVar

from gridproxy.errors import BadOption, ContentTypeRefused, describe_object, type_name
from gridproxy.gridfs.content.images import ImageOptions
from gridproxy.gridfs.content.limits import (
    NO_LIMITS,
    Inspector,
    Limits,
    Validator,
    checked_content_types,
    checked_inspector,
    checked_validators,
    common_types,
)
from gridproxy.gridfs.store.collections import Store

T = TypeVar("T")

OnDelete = Literal["keep", "delete"]
OnReplace = Literal["keep", "delete"]
StoreAs = Literal["id", "snapshot"]

# The options of the field whose schema pydantic is building, once more for each file that was found in it.
_annotating: ContextVar[list[FileOptions] | None] = ContextVar("gridproxy_annotating", default=None)


class BucketLike(Protocol):
    """A `Bucket`, which is above this module."""

    store: Store

    @property
    def name(self) -> str:
        """The bucket's name."""


class FieldOptions(TypedDict, total=False):
    """The options of a file field, as keywords. See `FileOptions`."""

    bucket: BucketLike | str | None
    db_alias: str | None
    store: StoreAs
    on_delete: OnDelete
    on_replace: OnReplace
    indexes: bool
    max_size: int | None
    content_types: Iterable[str] | str | None
    validators: Iterable[Validator] | Validator | None
    inspect: Inspector | None


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How one field stores its files, for every adapter.

    In a pydantic model it annotates a field, and also applies to the default `= AsyncGridFile()`. For other defaults,
    of `Field(default=..., default_factory=...)`, set `validate_default=True`. A refused file raises `FileRefused` with
    the field, the limit and the actual value, and is not stored.

    Args:
        bucket: A `Bucket`, or a bucket's name. None for "fs".
        db_alias: The alias given to `connect`. None for that of the document, or else "default".
        store: What the document stores: the file's "id", or a "snapshot" of its metadata.
        on_delete: Whether to "keep" or "delete" the file when its document is deleted.
        indexes: As for `Bucket`, if `bucket` is a name or None. A `Bucket` keeps its own choice.
        max_size: The largest size, in bytes. A larger upload is stopped at the first byte over it.
        content_types: The accepted types, such as "image/png" or "image/*". The first bytes of the content must agree
            with the type that its name or sender states. Needs the extra `sniff`.
        validators: Functions of a file's info and first 64 KiB, called before it is stored. They refuse it by raising
            ValueError or returning False. Synchronous ones run in a worker thread.
        inspect: An async function of a file's info and a stream (`anyio.abc.ByteReceiveStream`) of its whole content,
            such as a virus scanner. It is called after the last chunk was written and before the file is visible, and
            refuses the file as a validator does. The stream is read from the server, and need not be read to its end.
        image: The options of a picture.

    Raises:
        BadOption: A value is invalid, or an extra is missing.

    ```python
    from typing import Annotated
    from pydantic import BaseModel

    class Mouse(BaseModel):
        photo: Annotated[AsyncGridFile, FileOptions("photos", max_size=1_000_000)]

    assert Mouse.model_validate({}).photo.options.bucket == "photos"
    ```
    """

    bucket: BucketLike | str | None = field(default=None, kw_only=False)
    db_alias: str | None = None
    store: StoreAs = "id"
    on_delete: OnDelete = "keep"
    on_replace: OnReplace = "delete"
    indexes: bool = True
    max_size: int | None = None
    content_types: Iterable[str] | str | None = None
    validators: Iterable[Validator] | Validator | None = None
    inspect: Inspector | None = None
    image: ImageOptions | None = None
    _limits: Limits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.store not in ("id", "snapshot"):
            raise BadOption(f"store is 'id' or 'snapshot', not {self.store!r}")
        if self.on_delete not in ("keep", "delete"):
            raise BadOption(f"on_delete is 'keep' or 'delete', not {self.on_delete!r}")
        if self.on_replace not in ("keep", "delete"):
            raise BadOption(f"on_replace is 'keep' or 'delete', not {self.on_replace!r}")
        if not isinstance(self.indexes, bool):
            raise BadOption(f"indexes is True or False, not {self.indexes!r}")
        if self.max_size is not None:
            _check_max_size(self.max_size)
        # By its class, since a database of pymongo's has any attribute that it is asked for.
        if (
            self.bucket is not None
            and not isinstance(self.bucket, str)
            and not hasattr(type(self.bucket), "open_upload")
        ):
            raise BadOption(f"bucket is a Bucket, a bucket's name or None, not {describe_object(self.bucket)}")
        if self.db_alias is not None and not isinstance(self.db_alias, str):
            raise BadOption(f"db_alias is a str, not {type_name(self.db_alias)}")
        if self.image is not None and not isinstance(self.image, ImageOptions):
            raise BadOption(f"image is an ImageOptions(...), not {type_name(self.image)}")
        limits = NO_LIMITS
        limited = self.max_size is not None or self.content_types is not None
        if limited or self.validators is not None or self.inspect is not None:
            limits = Limits(
                max_size=self.max_size,
                content_types=checked_content_types(self.content_types),
                validators=checked_validators(self.validators),
                inspect=checked_inspector(self.inspect),
            )
        # Tuples cannot change, and can be read more than once.
        object.__setattr__(self, "content_types", limits.content_types)
        object.__setattr__(self, "validators", limits.validators)
        object.__setattr__(self, "_limits", limits)

    def limits(self, field: str | None = None) -> Limits:
        """Return the limits of a field of this name. None for the name that the options were given to."""
        return self._limits if field is None or field == self._limits.field else replace(self._limits, field=field)

    def for_field(self, name: str | None) -> FileOptions:
        """Return the same options, with the field's name for error messages."""
        named = replace(self)
        object.__setattr__(named, "_limits", self.limits(name))
        return named

    def narrowed(self, *, max_size: int | None = None, content_types: Iterable[str] | str | None = None) -> FileOptions:
        """Return the same options with more limits. What the options refuse stays refused.

        ```python
        options = FileOptions(max_size=1000).narrowed(max_size=5000, content_types="image/*")
        assert (options.max_size, options.content_types) == (1000, ("image/*",))
        ```

        Args:
            max_size: Another limit on the size, in bytes.
            content_types: Another list of accepted types.

        Raises:
            BadOption: A value is invalid, or an extra is missing.
            ContentTypeRefused: No type is in both lists.
        """
        if max_size is not None:
            _check_max_size(max_size)
        sizes = [size for size in (self.max_size, max_size) if size is not None]
        more = checked_content_types(content_types)
        own = checked_content_types(self.content_types)
        types = common_types(own, more)
        if types == ():
            raise ContentTypeRefused(
                f"no type is among those allowed here ({', '.join(own or ())}) and those of the permission "
                f"({', '.join(more or ())})",
                limit=own,
                actual=", ".join(more or ()),
            )
        return replace(self, max_size=min(sizes, default=None), content_types=types).for_field(self._limits.field)

    @classmethod
    def of_field(cls) -> FileOptions:
        """Return the options of the pydantic field whose schema is being built at this moment."""
        asked = _annotating.get()
        if asked is None:
            return cls()
        asked.append(asked[0])
        return asked[0]

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], T]) -> T:
        # The annotation may be around `Optional`, a list or a dict of files.
        asked = [self.for_field(getattr(handler, "field_name", None))]
        token = _annotating.set(asked)
        try:
            schema = handler(source)
        finally:
            _annotating.reset(token)
        if len(asked) == 1:
            raise BadOption(f"FileOptions annotates a field that holds AsyncGridFile, and there is none in {source!r}")
        around = _annotating.get()
        if around is not None and around[0] == self:  # pydantic 2.7 asks twice in a dataclass
            around.append(self)
        return schema

    def in_database(self, alias: str | None) -> FileOptions:
        """Return the same options, in the database of `alias` if they name none."""
        return self if self.db_alias is not None or alias is None else replace(self, db_alias=alias)


def _check_max_size(size: object) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadOption(f"max_size is a number of bytes, not {size!r}")
