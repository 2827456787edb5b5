"""The whole decision: status, fields, and which bytes (RFC 9110, 13 to 15)."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from gridproxy.http import Answer, answer

ETAG = '"abc"'
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
FIELDS = [
    ("content-type", "image/png"),
    ("content-disposition", "inline"),
    ("accept-ranges", "bytes"),
    ("etag", ETAG),
    ("last-modified", MODIFIED),
    ("repr-digest", "sha-256=:x:"),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "max-age=60"),
    ("vary", "cookie"),
    ("set-cookie", "a=1"),
    ("set-cookie", "b=2"),
]
WHOLE = [(0, 10)]
RANGE = {"range": "bytes=2-4"}


def ask(method: str = "GET", request: dict[str, str] | None = None, *, status: int = 200, length: int = 10) -> Answer:
    return answer(method, request or {}, FIELDS, length, status=status)


@pytest.mark.parametrize(
    ("method", "request_fields", "status", "spans"),
    [
        ("GET", {}, 200, WHOLE),
        ("HEAD", {}, 200, []),
        ("GET", RANGE, 206, [(2, 5)]),
        ("GET", {"range": "bytes=0-"}, 206, WHOLE),
        ("GET", {"range": "bytes=0-1,5-6"}, 206, [(0, 2), (5, 7)]),
        ("GET", {"range": "bytes=10-"}, 416, []),
        ("GET", {"range": "apples=1-2"}, 200, WHOLE),
        ("GET", {"range": "bytes=nonsense"}, 200, WHOLE),
        # only GET has ranges
        ("HEAD", RANGE, 200, []),
        ("HEAD", {"range": "bytes=10-"}, 200, []),
        ("POST", RANGE, 200, WHOLE),
        # the order of 13.2.2: preconditions first, If-Range and Range last
        ("GET", {**RANGE, "if-range": ETAG}, 206, [(2, 5)]),
        ("GET", {**RANGE, "if-range": MODIFIED}, 200, WHOLE),
        ("GET", {**RANGE, "if-range": '"old"'}, 200, WHOLE),
        ("GET", {**RANGE, "if-range": BEFORE}, 200, WHOLE),
        ("GET", {"range": "bytes=10-", "if-range": '"old"'}, 200, WHOLE),
        ("GET", {"range": "bytes=10-", "if-range": ETAG}, 416, []),
        ("GET", {"if-range": '"old"'}, 200, WHOLE),
        ("GET", {**RANGE, "if-none-match": ETAG}, 304, []),
        ("GET", {"range": "bytes=10-", "if-none-match": ETAG}, 304, []),
        ("GET", {**RANGE, "if-none-match": '"old"'}, 206, [(2, 5)]),
        ("GET", {**RANGE, "if-match": '"old"', "if-range": ETAG}, 412, []),
        ("GET", {**RANGE, "if-match": ETAG}, 206, [(2, 5)]),
        ("GET", {"if-modified-since": MODIFIED}, 304, []),
        ("HEAD", {"if-none-match": ETAG}, 304, []),
        ("HEAD", {"if-match": '"old"'}, 412, []),
        # what another method does has been decided already
        ("POST", {"if-match": '"old"'}, 200, WHOLE),
        ("", {"if-none-match": ETAG}, 200, WHOLE),
    ],
)
def test_a_request_is_answered_with(
    method: str, request_fields: dict[str, str], status: int, spans: list[tuple[int, int]]
) -> None:
    given = ask(method, request_fields)
    assert (given.status, given.spans) == (status, spans)
    assert (given.multipart is not None) is (len(spans) > 1)


@pytest.mark.parametrize("request_fields", [RANGE, {"if-none-match": ETAG}, {"if-match": '"x"'}])
@pytest.mark.parametrize("status", [201, 404])
def test_another_status_is_sent_with_the_whole_file(status: int, request_fields: dict[str, str]) -> None:
    given = ask(request=request_fields, status=status)
    assert (given.status, given.spans) == (status, WHOLE)


def test_the_headers_of_a_framework_are_accepted() -> None:
    assert answer("GET", Headers({"Range": "bytes=2-4"}), FIELDS, 10).spans == [(2, 5)]


def test_the_whole_file_is_sent_with_all_fields_and_its_length() -> None:
    assert ask().fields == [*FIELDS, ("content-length", "10")]
    assert ask("HEAD").fields == ask().fields


def test_a_length_header_that_the_application_set_is_replaced() -> None:
    given = answer("GET", {}, [("content-length", "7")], 10)
    assert given.fields == [("content-length", "10")]


def test_each_part_has_its_content_range() -> None:
    assert ask(request=RANGE).fields == [*FIELDS, ("content-range", "bytes 2-4/10"), ("content-length", "3")]


def test_several_parts_say_so_each_for_itself() -> None:
    given = ask(request={"range": "bytes=0-1,5-6"})
    assert given.multipart is not None
    assert given.fields == [
        *FIELDS[1:],
        ("content-type", given.multipart.content_type),
        ("content-length", str(given.multipart.content_length)),
    ]
    assert b"Content-Type: image/png\r\n" in given.multipart.opening((0, 2))


KEPT = [("x-content-type-options", "nosniff"), ("vary", "cookie"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]


def test_not_modified_keeps_the_fields_that_caches_need() -> None:
    given = ask(request={"if-none-match": ETAG})
    assert sorted(given.fields) == sorted([("etag", ETAG), ("cache-control", "max-age=60"), *KEPT])


@pytest.mark.parametrize(
    ("request_fields", "own"),
    [
        ({"if-match": '"x"'}, []),
        ({"range": "bytes=10-"}, [("content-range", "bytes */10")]),
    ],
)
def test_a_refusal_has_no_content_and_is_not_kept(request_fields: dict[str, str], own: list[tuple[str, str]]) -> None:
    given = ask(request=request_fields)
    assert sorted(given.fields) == sorted([("etag", ETAG), ("content-length", "0"), *own, *KEPT])


def test_an_empty_file_is_whole_and_has_no_part() -> None:
    assert ask(length=0).spans == [(0, 0)]
    assert ask(length=0, request={"range": "bytes=-5"}).status == 200
    refused = ask(length=0, request={"range": "bytes=0-"})
    assert refused.status == 416
    assert ("content-range", "bytes */0") in refused.fields


def test_parts_of_something_without_a_type_are_bytes() -> None:
    given = answer("GET", {"range": "bytes=0-1,5-6"}, [], 10)
    assert given.multipart is not None
    assert b"Content-Type: application/octet-stream\r\n" in given.multipart.opening((0, 2))
