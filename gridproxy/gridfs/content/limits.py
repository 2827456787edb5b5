"""The limits of a field on its content, which are checked during the upload and before the file becomes visible."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gridproxy.errors import BadOption, ContentTypeRefused, TooLarge, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.runtime.extras import require_extra

from .sniffing import OCTET_STREAM, canonical_type, has_signature, sniff

# How many bytes are inspected. Signatures are in the first few hundred bytes, dimensions of pictures after them.
HEAD_BYTES = 64 * 1024

# Gets the info and the first bytes of a file that is not stored yet. Refuses it with False or by raising ValueError.
Validator = Callable[[FileInfo, bytes], object] | Callable[[FileInfo, bytes], Awaitable[object]]

_PATTERN = re.compile(r"[\w.+-]+/(\*|[\w.+-]+)|\*/\*")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one field or one upload. The defaults accept everything."""

    max_size: int | None = None
    content_types: tuple[str, ...] | None = None
    validators: tuple[Validator, ...] = ()
    field: str | None = None

    @property
    def look_inside(self) -> bool:
        """Whether a limit inspects the content's first bytes."""
        return self.content_types is not None or bool(self.validators)

    def check_size(self, length: int) -> None:
        """Raise `TooLarge` if content with `length` bytes so far is too long."""
        if self.max_size is not None and length > self.max_size:
            raise TooLarge(self.max_size, field=self.field, actual=length)

    def checked_type(self, declared: str | None, head: bytes) -> str | None:
        """Return the content type to store: the declared one if the content may be of it, else the sniffed one.

        Raises `ContentTypeRefused` if neither is allowed, or if the two contradict each other.
        """
        if self.content_types is None:
            return declared
        sniffed = sniff(head)
        found = next(iter(sniffed.types), None)  # empty content counts as text
        claimed = OCTET_STREAM if declared is None else canonical_type(declared)
        exactly = claimed in map(canonical_type, self.content_types)
        if claimed == OCTET_STREAM and not (exactly and declared is not None):  # octet-stream declares nothing
            fitting = next((kind for kind in sniffed.types if self._allows(kind)), None)
            if fitting is None:
                raise self._not_allowed(found, empty=not head)
            return fitting if sniffed.sure else declared
        if not self._allows(claimed):
            raise self._not_allowed(declared, empty=False)
        # A type without a known signature is trusted if `content_types` names it, but not if only a pattern matches.
        if sniffed.confirms(claimed) or (exactly and not sniffed.active and not has_signature(claimed)):
            return declared
        contrast = f"its first bytes are {found or 'of an unknown type'}" if head else "it is empty"
        raise ContentTypeRefused(
            f"the content is declared as {declared!r}, but {contrast}",
            field=self.field,
            limit=self.content_types,
            actual=found,
        )

    def _allows(self, kind: str) -> bool:
        family = f"{kind.partition('/')[0]}/*"
        return any(each in ("*/*", family) or canonical_type(each) == kind for each in self.content_types or ())

    def _not_allowed(self, actual: str | None, *, empty: bool) -> ContentTypeRefused:
        return ContentTypeRefused(
            f"{'empty content' if empty else actual or 'content of an unknown type'} is not one of the allowed types "
            f"({', '.join(self.content_types or ())})",
            field=self.field,
            limit=self.content_types,
            actual=actual,
        )


NO_LIMITS = Limits()


def checked_content_types(types: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """Return the patterns in lower case. Raises `BadOption` if one is not valid or the extra `sniff` is missing."""
    if types is None:
        return None
    is_one = isinstance(types, str) or not isinstance(types, Iterable)
    patterns: tuple[object, ...] = (types,) if is_one else tuple(types)
    if not patterns:
        raise BadOption("content_types is empty, so nothing could be stored. Use None to allow every type")
    for each in patterns:
        if not isinstance(each, str) or not _PATTERN.fullmatch(each):
            raise BadOption(f"content_types are media types such as 'image/png' or 'image/*', not {each!r}")
    require_extra("puremagic", "sniff", "content_types")
    return tuple(str(each).lower() for each in patterns)


def checked_validators(validators: Iterable[Validator] | Validator | None) -> tuple[Validator, ...]:
    """Return the validators as a tuple. Raises `BadOption` if one is not callable."""
    if callable(validators):
        return (validators,)
    if not isinstance(validators, Iterable | None):
        raise BadOption(f"validators are callables that take (info, head), not {type_name(validators)}")
    found = tuple(validators or ())
    for each in found:
        if not callable(each):
            raise BadOption(f"a validator is a callable that takes (info, head), not {type_name(each)}")
    return found
