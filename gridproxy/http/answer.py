"""The whole decision: what was asked, what there is -> status, fields, and which bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conditions import Validators, Verdict, evaluate, range_applies
from .dates import parse_date
from .media_types import OCTET_STREAM
from .multipart import Multipart
from .ranges import Span, content_range, parse_ranges

Field = tuple[str, str]

# Of the content, and so wrong, or needless, where none of it is sent (RFC 9110, 15.4.5); `etag` stays.
_OF_CONTENT = frozenset(
    {
        "accept-ranges",
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "last-modified",
        "repr-digest",
    }
)
_OF_CACHES = frozenset({"cache-control", "expires"})


@dataclass(frozen=True)
class Answer:
    """A status, fields (names in lower case), and the spans of the file to send: none where no content goes out.

    `multipart` is the frame around several spans, None where there is none to send.
    """

    status: int
    fields: list[Field]
    spans: list[Span]
    multipart: Multipart | None = None


def answer(
    method: str, request: Mapping[str, str], fields: Sequence[Field], length: int, *, status: int = 200
) -> Answer:
    """How to answer a request for a file of `length` bytes that `fields` describe (see `describe`).

    `method` is in upper case; `request` has the fields of the request by their names in lower case, the lines of one
    joined by commas. Ranges (RFC 9110, 14) and conditions (13) count for GET (conditions for HEAD, too) and the
    `status` 200; anything else has been decided by whoever answers with a file.
    """
    said = dict(fields)
    whole = [(name, value) for name, value in fields if name != "content-length"]
    if status == 200 and method in ("GET", "HEAD"):
        validators = Validators(said.get("etag"), parse_date(said.get("last-modified", "")))
        verdict = evaluate(method, request, validators)
        if verdict is Verdict.NOT_MODIFIED:
            return Answer(304, _without(whole, _OF_CONTENT), [])
        if verdict is Verdict.FAILED:
            return _refusal(412, whole)
        # RFC 9110, 14.2: no other method than GET has ranges.
        if method == "GET" and "range" in request and range_applies(request, validators):
            spans = parse_ranges(request["range"], length)
            if spans is not None:
                return _partial(whole, said.get("content-type", OCTET_STREAM), spans, length)
    content: list[Span] = [] if method == "HEAD" else [(0, length)]
    return Answer(status, [*whole, ("content-length", str(length))], content)


def _partial(fields: list[Field], media_type: str, spans: list[Span], length: int) -> Answer:
    if not spans:
        return _refusal(416, fields, ("content-range", content_range(None, length)))
    if len(spans) == 1:
        start, stop = spans[0]
        own = [("content-range", content_range(spans[0], length)), ("content-length", str(stop - start))]
        return Answer(206, [*fields, *own], spans)
    multipart = Multipart(spans, length, media_type)
    own = [("content-type", multipart.content_type), ("content-length", str(multipart.content_length))]
    return Answer(206, [*_without(fields, frozenset({"content-type"})), *own], spans, multipart)


def _refusal(status: int, fields: list[Field], *own: Field) -> Answer:
    # Nor is it to be kept as long as the file would be.
    kept = _without(fields, _OF_CONTENT | _OF_CACHES)
    return Answer(status, [*kept, *own, ("content-length", "0")], [])


def _without(fields: list[Field], names: frozenset[str]) -> list[Field]:
    return [(name, value) for name, value in fields if name not in names]
