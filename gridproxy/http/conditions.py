"""Conditional requests (RFC 9110, 13): does the client have it already, and is it still the same?"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .dates import parse_date

CONDITIONS = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"},
)
"""The fields, in lower case, that can make more, or less, of an answer than the whole of the file."""

_ENTITY_TAG = re.compile('(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")')


class Verdict(enum.Enum):
    """What the preconditions of a request say: go on, answer 304, or answer 412."""

    PERFORM = "perform"
    NOT_MODIFIED = "not modified"
    FAILED = "precondition failed"


@dataclass(frozen=True)
class Validators:
    """What tells one state of a resource from another; None where there is no such thing.

    `etag` has its quotes (and `W/`, where it is weak). `last_modified` is in UTC and whole seconds, as `parse_date`
    gives it.
    """

    etag: str | None
    last_modified: datetime | None


def evaluate(method: str, request: Mapping[str, str], validators: Validators) -> Verdict:
    """The preconditions of a request for something that exists, in the order of RFC 9110, 13.2.2.

    `method` and `request` are as in `answer`. `If-Range` is no precondition: see `range_applies`.
    """
    reading = method in ("GET", "HEAD")
    if "if-match" in request:
        if not _matches(request["if-match"], validators.etag, strong=True):
            return Verdict.FAILED
    elif _modified_since(request.get("if-unmodified-since"), validators) is True:
        return Verdict.FAILED
    if "if-none-match" in request:
        if _matches(request["if-none-match"], validators.etag, strong=False):
            return Verdict.NOT_MODIFIED if reading else Verdict.FAILED
    elif reading and _modified_since(request.get("if-modified-since"), validators) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.PERFORM


def range_applies(request: Mapping[str, str], validators: Validators) -> bool:
    """Whether `If-Range`, if there is one, lets the Range field count: the client's part is of this very state.

    RFC 9110, 13.1.5. A date is as good as its second: of two files that a URL had within one, the second could be taken
    for the first.
    """
    condition = request.get("if-range")
    if condition is None:
        return True
    if validators.etag is not None and condition == validators.etag:
        return not condition.startswith("W/")
    date = parse_date(condition)
    return date is not None and date == validators.last_modified


def _modified_since(value: str | None, validators: Validators) -> bool | None:
    """None where the field is to be ignored: it is absent, no date, or there is nothing to compare it with."""
    date = None if value is None else parse_date(value)
    if date is None or validators.last_modified is None:
        return None
    return validators.last_modified > date


def _matches(listed: str, etag: str | None, *, strong: bool) -> bool:
    if listed == "*":
        return True
    ours = None if etag is None else _ENTITY_TAG.fullmatch(etag)
    if ours is None or (strong and ours["weak"]):
        return False
    tags = _ENTITY_TAG.finditer(listed)
    return any(tag["opaque"] == ours["opaque"] and not (strong and tag["weak"]) for tag in tags)
