"""The limits of a field on its content, which are checked during the upload and before the file becomes visible."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction, isroutine

from anyio.abc import ByteReceiveStream

from gridproxy.errors import BadOption, ContentTypeRefused, TooLarge, describe_object, shown, type_name
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.media_types import (
    OCTET_STREAM,
    canonical_type,
    describe_type,
    is_specific,
    named_types,
    names_of,
)
from gridproxy.runtime.extras import require_extra

from .sniffing import Sniffed, certain_type, contradicts, has_signature, sniff

# Gets the info and the first bytes of a file that is not stored yet. Refuses it with False or by raising ValueError.
Validator = Callable[[FileInfo, bytes], object] | Callable[[FileInfo, bytes], Awaitable[object]]

# Gets the info and a stream of all bytes of a file that is not stored yet. Refuses it as a validator does.
Inspector = Callable[[FileInfo, ByteReceiveStream], Awaitable[object]]

# The type that the source of an upload declares, and the type that belongs to its filename.
Guesses = tuple[str | None, str | None]

_PATTERN = re.compile(r"[\w.+-]+/(\*|[\w.+-]+)|\*/\*")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one field or one upload. The defaults accept everything."""

    max_size: int | None = None
    content_types: tuple[str, ...] | None = None
    validators: tuple[Validator, ...] = ()
    inspect: Inspector | None = None
    field: str | None = None

    @property
    def look_inside(self) -> bool:
        """Whether a limit inspects the content's first bytes."""
        return self.content_types is not None or bool(self.validators)

    def check_size(self, length: int) -> None:
        """Raise `TooLarge` if content with `length` bytes so far is too long."""
        if self.max_size is not None and length > self.max_size:
            raise TooLarge(self.max_size, field=self.field, actual=length)

    def checked_type(
        self, declared: str | None, head: bytes, guesses: Guesses | None = None, filename: str | None = None
    ) -> str | None:
        """Return the content type to store.

        This is `declared`, or without it the first of the `guesses` that the content may be of, or the sniffed type.
        Raises `ContentTypeRefused` if it is not allowed, or if the content contradicts it.
        """
        if guesses is not None:
            declared = None
        if self.content_types is None:
            return declared if guesses is None else likeliest_type(guesses, head)
        sniffed = sniff(head)
        claims = [declared] if declared is not None else [each for each in guesses or () if is_specific(each)]
        refusals = []
        for claim in claims:
            if claim is not None and (not _says_nothing(claim) or self._names(OCTET_STREAM)):
                try:
                    return self._checked_claim(claim, sniffed, head, filename)
                except ContentTypeRefused as error:
                    refusals.append(error)
        honest = any(claim is not None and sniffed.confirms(canonical_type(claim)) for claim in claims)
        # A guess may be wrong about what is inside a container: sound or a film.
        if not refusals or (guesses is not None and honest and not sniffed.text):
            fitting = next((kind for kind in sniffed.types if self._allows(kind)), None)
            if fitting is not None:
                return fitting
        raise refusals[0] if refusals else self._not_allowed(next(iter(sniffed.types), None), head, filename)

    def check_other_types(self, kind: str | None, metadata: Mapping[str, object]) -> None:
        """Raise `ContentTypeRefused` if a key of the metadata names another type than the one that was checked.

        Other programs that serve the file may look there.
        """
        if self.content_types is None:
            return
        for key, named in named_types(metadata).items():
            if kind is None or canonical_type(named) != canonical_type(kind):
                raise ContentTypeRefused(
                    f"the metadata key {key!r} names the type {shown(named)}, and the content is "
                    f"{'of an unknown type' if kind is None else describe_type(kind)}: leave the key out",
                    field=self.field,
                    limit=self.content_types,
                    actual=named,
                )

    def _checked_claim(self, claim: str, sniffed: Sniffed, head: bytes, filename: str | None) -> str:
        kind = canonical_type(claim)
        if not self._allows(kind):
            raise self._not_allowed(claim, head, filename)
        # A type without a known signature is trusted if `content_types` names it, but not if only a pattern matches.
        trusted = self._names(kind) and not sniffed.active and (kind == OCTET_STREAM or not has_signature(kind))
        known_binary = kind.startswith("text/") and sniffed.types and not sniffed.text
        if sniffed.confirms(kind) or (trusted and not known_binary):
            return claim
        found = next(iter(sniffed.types), None)
        looks = "its first bytes are of an unknown type" if found is None else f"it looks like {describe_type(found)}"
        raise ContentTypeRefused(
            f"{self._subject(filename)} is not {describe_type(claim)} ({looks if head else 'it is empty'})",
            field=self.field,
            limit=self.content_types,
            actual=found,
        )

    def _names(self, kind: str) -> bool:
        return kind in map(canonical_type, self.content_types or ())

    def _allows(self, kind: str) -> bool:
        families = {f"{name.partition('/')[0]}/*" for name in names_of(kind)}
        return any(
            each == "*/*" or each in families or canonical_type(each) == kind for each in self.content_types or ()
        )

    def _not_allowed(self, actual: str | None, head: bytes, filename: str | None) -> ContentTypeRefused:
        found = "empty" if not head else "of an unknown type" if actual is None else describe_type(actual)
        allowed = ", ".join(describe_type(each) for each in self.content_types or ())
        return ContentTypeRefused(
            f"{self._subject(filename)} is {found}, which is not allowed here (allowed: {allowed})",
            field=self.field,
            limit=self.content_types,
            actual=actual,
        )

    def _subject(self, filename: str | None) -> str:
        return repr(filename) if filename else "this" if self.field else "This"


NO_LIMITS = Limits()

# Generic names of containers, which a telling name of the file makes more precise.
_CONTAINER_NAMES = frozenset({"application/zip", "application/ole-storage", "application/cdfv2"})


def likeliest_type(guesses: Guesses, head: bytes) -> str | None:
    """Return the type that the source declares unless the content contradicts it, else the name's, else the bytes'."""
    declared, named = guesses
    if declared is None or contradicts(head, declared):
        return named or certain_type(head)
    if named is not None and canonical_type(declared) in _CONTAINER_NAMES and not contradicts(head, named):
        return named
    return declared


def _says_nothing(claim: str) -> bool:
    return canonical_type(claim) == OCTET_STREAM


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


def common_types(some: tuple[str, ...] | None, others: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the patterns of the types that both lists accept. None accepts every type."""
    if some is None or others is None:
        return others if some is None else some
    narrower = [each for each in some if any(_covers(other, each) for other in others)]
    narrower += [each for each in others if any(_covers(other, each) for other in some)]
    return tuple(dict.fromkeys(narrower))


def _covers(pattern: str, other: str) -> bool:
    """Return whether `pattern` accepts every type that `other` accepts."""
    if pattern in ("*/*", other):
        return True
    if other.endswith("/*"):
        return False
    names = names_of(canonical_type(other))
    if pattern.endswith("/*"):
        return any(name.startswith(pattern[:-1]) for name in names)
    return canonical_type(pattern) in names


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


def checked_inspector(inspector: Inspector | None) -> Inspector | None:
    """Return the inspector. Raises `BadOption` if it is not an async function."""
    is_object = callable(inspector) and not isroutine(inspector)  # a partial, or an object with `async def __call__`
    if inspector is None or is_object or iscoroutinefunction(inspector):
        return inspector
    raise BadOption(f"inspect is an async function that takes (info, stream), not {describe_object(inspector)}")
