"""Conditional requests (RFC 9110, 13)."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .dates import parse_date

CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"})
"""The request fields, in lower case, that can change a response from the whole file to something else."""

_ENTITY_TAG = re.compile('(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")')


class Verdict(enum.Enum):
    """The result of the preconditions of a request: perform it, answer 304, or answer 412."""

    PERFORM = "perform"
    NOT_MODIFIED = "not modified"
    FAILED = "precondition failed"


@dataclass(frozen=True)
class Validators:
    """The validators of a file (RFC 9110, 8.8). None means that the file has no such validator.

    `etag` includes its quotes, and `W/` if it is weak. `last_modified` is in UTC and whole seconds.
    """

    etag: str | None
    last_modified: datetime | None


def evaluate(method: str, request: Mapping[str, str], validators: Validators) -> Verdict:
    """Evaluate the preconditions of a request for an existing file, in the order of RFC 9110, 13.2.2.

    `If-Range` is evaluated by `range_applies` instead.

    ```python
    verdict = http.evaluate("GET", {"if-none-match": '"a"'}, http.Validators('"a"', None))
    assert verdict is http.Verdict.NOT_MODIFIED
    ```

    Args:
        method: The request method in upper case.
        request: The request's fields, names in lower case.
        validators: The validators of the stored file.

    Returns:
        Whether to perform the request, answer 304, or answer 412.
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
    """Check whether `If-Range` (RFC 9110, 13.1.5) allows the Range field to be applied.

    A date never matches. Two files can be stored within its second, so it is a weak validator (RFC 9110, 8.8.2.2), and
    the client would join parts of both.

    ```python
    assert not http.range_applies({"if-range": '"old"'}, http.Validators('"new"', None))
    ```

    Args:
        request: The request's fields, names in lower case.
        validators: The validators of the stored file.

    Returns:
        True if there is no `If-Range` field, or if it matches the stored file.
    """
    condition = request.get("if-range")
    if condition is None:
        return True
    return condition == validators.etag and not condition.startswith("W/")


def _modified_since(value: str | None, validators: Validators) -> bool | None:
    """Return None if the field is absent or is not a date, or if the file has no date to compare it with."""
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
