"""Decide the status, the header fields and the bytes of a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conditions import CONDITIONS, Validators, Verdict, evaluate, range_applies
from .dates import parse_date
from .description import OCTET_STREAM
from .ranges import Multipart, Span, content_range, parse_ranges

Field = tuple[str, str]

# These fields describe the content, so a response without content omits them (RFC 9110, 15.4.5).
_CONTENT_FIELDS = frozenset({"accept-ranges", "last-modified", "repr-digest"}).union(
    f"content-{each}" for each in ("digest", "disposition", "encoding", "language", "range", "type")
)
_CACHE_FIELDS = frozenset({"cache-control", "expires"})


@dataclass(frozen=True)
class Answer:
    """A decided response: what `answer` returns.

    `fields` has names in lower case. `spans` are the parts of the file to send, and is empty for a response without
    content. `multipart` is the frame around several spans, otherwise None.

    ```python
    not_found = http.Answer(404, [("content-length", "0")], [])
    ```
    """

    status: int
    fields: list[Field]
    spans: list[Span]
    multipart: Multipart | None = None


def answer(
    method: str, request: Mapping[str, str], fields: Sequence[Field], length: int, *, status: int = 200
) -> Answer:
    """Decide how to answer a request for a stored file.

    Ranges (RFC 9110, 14) apply to GET, conditions (RFC 9110, 13) to GET and HEAD. Both apply only if `status` is 200.

    ```python
    part = http.answer("GET", {"range": "bytes=0-9"}, [("etag", '"a"')], 100)
    assert (part.status, part.spans) == (206, [(0, 10)])
    ```

    Args:
        method: The request method in upper case.
        request: The request's fields, names in lower case. Repeated fields are joined by commas.
        fields: The fields that describe the file, for example from `describe`.
        length: The file's length in bytes.
        status: The status of a response with the whole file.

    Returns:
        The status, the fields and the spans to send.
    """
    described = dict(fields)
    whole = [(name, value) for name, value in fields if name != "content-length"]
    if status == 200 and method in ("GET", "HEAD") and any(name in request for name in CONDITIONS):
        validators = Validators(described.get("etag"), parse_date(described.get("last-modified", "")))
        verdict = evaluate(method, request, validators)
        if verdict is Verdict.NOT_MODIFIED:
            return Answer(304, _without(whole, _CONTENT_FIELDS), [])
        if verdict is Verdict.FAILED:
            return _refusal(412, whole)
        # RFC 9110, 14.2 defines ranges for GET only.
        if method == "GET" and "range" in request and range_applies(request, validators):
            spans = parse_ranges(request["range"], length)
            if spans is not None:
                return _partial(whole, described.get("content-type", OCTET_STREAM), spans, length)
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
    # A cache must not keep an error for as long as the file.
    kept = _without(fields, _CONTENT_FIELDS | _CACHE_FIELDS)
    return Answer(status, [*kept, *own, ("content-length", "0")], [])


def _without(fields: list[Field], names: frozenset[str]) -> list[Field]:
    return [(name, value) for name, value in fields if name not in names]
