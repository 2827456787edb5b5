"""Limits: what a field lets in, checked while the content comes and before a file is made of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gridproxy.errors import BadOption, ContentTypeRefused, TooLarge, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.runtime.extras import require_extra

from .sniffing import OCTET_STREAM, canonical_type, has_signature, sniff

# What is looked at of each file, in bytes: signatures lie in the first few hundred, dimensions of pictures behind them.
HEAD_BYTES = 64 * 1024

# Sees the info and the first bytes of a file that is not stored yet; refuses by raising ValueError, or with False.
Validator = Callable[[FileInfo, bytes], object] | Callable[[FileInfo, bytes], Awaitable[object]]

_PATTERN = re.compile(r"[\w.+-]+/(\*|[\w.+-]+)|\*/\*")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one field, or of one upload; none of them set lets everything in."""

    max_size: int | None = None
    content_types: tuple[str, ...] | None = None
    validators: tuple[Validator, ...] = ()
    field: str | None = None

    @property
    def look_inside(self) -> bool:
        """Whether anything wants to see the content's first bytes."""
        return self.content_types is not None or bool(self.validators)

    def check_size(self, length: int) -> None:
        """Raise `TooLarge` for content of which `length` bytes have come."""
        if self.max_size is not None and length > self.max_size:
            raise TooLarge(self.max_size, field=self.field, actual=length)

    def checked_type(self, declared: str | None, head: bytes) -> str | None:
        """The content type to store: as declared, where the content may be that; else what its first bytes say.

        Raises `ContentTypeRefused` where neither is allowed here, or where the two contradict each other.
        """
        if self.content_types is None:
            return declared
        sniffed = sniff(head)
        found = next(iter(sniffed.types), None)  # nothing at all is text, too
        said = OCTET_STREAM if declared is None else canonical_type(declared)
        exactly = said in map(canonical_type, self.content_types)
        if said == OCTET_STREAM and not (exactly and declared is not None):  # says nothing
            fitting = next((kind for kind in sniffed.types if self._allows(kind)), None)
            if fitting is None:
                raise self._none_of(found, empty=not head)
            return fitting if sniffed.sure else declared
        if not self._allows(said):
            raise self._none_of(declared, empty=False)
        # A type that no signature is known for is taken at its word where it is named, and not by a pattern.
        if sniffed.confirms(said) or (exactly and not sniffed.active and not has_signature(said)):
            return declared
        says = f"its first bytes say {found or 'nothing of the kind'}" if head else "is empty"
        raise ContentTypeRefused(
            f"the content is called {declared!r}, and {says}",
            field=self.field,
            limit=self.content_types,
            actual=found,
        )

    def _allows(self, kind: str) -> bool:
        family = f"{kind.partition('/')[0]}/*"
        return any(each in ("*/*", family) or canonical_type(each) == kind for each in self.content_types or ())

    def _none_of(self, actual: str | None, *, empty: bool) -> ContentTypeRefused:
        return ContentTypeRefused(
            f"{'empty content' if empty else actual or 'content of no known type'} is none of the types allowed here "
            f"({', '.join(self.content_types or ())})",
            field=self.field,
            limit=self.content_types,
            actual=actual,
        )


def checked_content_types(types: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """The patterns in lower case; raises `BadOption` for what is none, and where the extra `sniff` is missing."""
    if types is None:
        return None
    if not isinstance(types, Iterable):
        raise BadOption(f"content_types are media types such as 'image/png' or 'image/*', not {type_name(types)}")
    given: tuple[object, ...] = (types,) if isinstance(types, str) else tuple(types)
    if not given:
        raise BadOption("content_types names no type at all, so nothing could be stored; None lets every type in")
    for each in given:
        if not isinstance(each, str) or not _PATTERN.fullmatch(each):
            raise BadOption(f"content_types are media types such as 'image/png' or 'image/*', not {each!r}")
    require_extra("puremagic", "sniff", "content_types")
    return tuple(str(each).lower() for each in given)


def checked_validators(validators: Iterable[Validator] | Validator | None) -> tuple[Validator, ...]:
    """The callables; raises `BadOption` for what is none."""
    if callable(validators):
        return (validators,)
    if not isinstance(validators, Iterable | None):
        raise BadOption(f"validators are callables that take (info, head), not {type_name(validators)}")
    given = tuple(validators or ())
    for each in given:
        if not callable(each):
            raise BadOption(f"a validator is a callable that takes (info, head), not {type_name(each)}")
    return given
