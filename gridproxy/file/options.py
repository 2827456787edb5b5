"""FileOptions: how one field keeps its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from gridproxy.errors import BadOption, type_name
from gridproxy.gridfs.content.images import ImageOptions
from gridproxy.gridfs.content.limits import NO_LIMITS, Limits, Validator, checked_content_types, checked_validators
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


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How one field keeps its files; the same declaration for every adapter.

    `bucket` is a `Bucket`, a bucket's name, or None for "fs"; `db_alias` the alias given to `connect`, None for that of
    the document, else "default". `store` says what the document keeps: the file's "id" (the default), or a "snapshot"
    of its metadata. `on_delete` says what becomes of the file when its document is deleted: "keep" (the default) or
    "delete".

    Limits: `max_size` (bytes) stops an upload at the byte that is too many. `content_types` ("image/png", "image/*")
    are the types that may come in; the first bytes have to bear out what the name or the sender says (extra `sniff`,
    asked for here and now). `validators` are called with the info and the first 64 KiB of a file before there is one,
    synchronous ones in a worker thread, and refuse by raising ValueError or returning False. A refusal is a
    `FileRefused` with the field, the limit and what came; nothing is stored then.

    `image` makes it a field of pictures: see `ImageOptions`.

    In a pydantic model it annotates a field: `photo: Annotated[AsyncGridFile, FileOptions(bucket="photos")]`. It holds
    for the default `= AsyncGridFile()` too, and for those of `Field(default=..., default_factory=...)` only where that
    says `validate_default=True`: pydantic looks at no default else.

    Raises `BadOption` for values that no field can have, and where an extra is missing.
    """

    bucket: BucketLike | str | None = field(default=None, kw_only=False)
    db_alias: str | None = None
    store: StoreAs = "id"
    on_delete: OnDelete = "keep"
    on_replace: OnReplace = "delete"
    max_size: int | None = None
    content_types: Iterable[str] | str | None = None
    validators: Iterable[Validator] | Validator | None = None
    image: ImageOptions | None = None
    _limits: Limits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.store not in ("id", "snapshot"):
            raise BadOption(f"store is 'id' or 'snapshot', not {self.store!r}")
        if self.on_delete not in ("keep", "delete"):
            raise BadOption(f"on_delete is 'keep' or 'delete', not {self.on_delete!r}")
        if self.on_replace not in ("keep", "delete"):
            raise BadOption(f"on_replace is 'keep' or 'delete', not {self.on_replace!r}")
        if self.max_size is not None:
            _check_max_size(self.max_size)
        # By its class, since a database of pymongo's has any attribute that it is asked for.
        if (
            self.bucket is not None
            and not isinstance(self.bucket, str)
            and not hasattr(type(self.bucket), "open_upload")
        ):
            raise BadOption(f"bucket is a Bucket, a bucket's name or None, not {type_name(self.bucket)}")
        if self.db_alias is not None and not isinstance(self.db_alias, str):
            raise BadOption(f"db_alias is a str, not {type_name(self.db_alias)}")
        if self.image is not None and not isinstance(self.image, ImageOptions):
            raise BadOption(f"image is an ImageOptions(...), not {type_name(self.image)}")
        limits = NO_LIMITS
        if self.max_size is not None or self.content_types is not None or self.validators is not None:
            limits = Limits(
                max_size=self.max_size,
                content_types=checked_content_types(self.content_types),
                validators=checked_validators(self.validators),
            )
        # As tuples, which cannot change and can be read more than once.
        object.__setattr__(self, "content_types", limits.content_types)
        object.__setattr__(self, "validators", limits.validators)
        object.__setattr__(self, "_limits", limits)

    def limits(self, field: str | None = None) -> Limits:
        """Return the limits of a field of this name; None for the name that the options were given to."""
        return self._limits if field is None or field == self._limits.field else replace(self._limits, field=field)

    def for_field(self, name: str | None) -> FileOptions:
        """Return the same options, with the field's name for error messages."""
        named = replace(self)
        object.__setattr__(named, "_limits", self.limits(name))
        return named

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
