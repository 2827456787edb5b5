"""Preconditions, rule by rule and in their order (RFC 9110, 13)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gridproxy.http import Validators, Verdict, evaluate, format_date, parse_date, range_applies

BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
FILE = Validators('"abc"', datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC))

PERFORM, NOT_MODIFIED, FAILED = Verdict.PERFORM, Verdict.NOT_MODIFIED, Verdict.FAILED

CASES = [
    ({}, PERFORM),
    # If-Match: the strong comparison
    ({"if-match": '"abc"'}, PERFORM),
    ({"if-match": "*"}, PERFORM),
    ({"if-match": '"x", "abc"'}, PERFORM),
    ({"if-match": '"x","y"'}, FAILED),
    ({"if-match": 'W/"abc"'}, FAILED),
    ({"if-match": '"x,abc"'}, FAILED),
    ({"if-match": ""}, FAILED),
    ({"if-match": "abc"}, FAILED),
    # If-Unmodified-Since, only without If-Match
    ({"if-unmodified-since": BEFORE}, FAILED),
    ({"if-unmodified-since": MODIFIED}, PERFORM),
    ({"if-unmodified-since": AFTER}, PERFORM),
    ({"if-unmodified-since": "yesterday"}, PERFORM),
    ({"if-unmodified-since": BEFORE, "if-match": '"abc"'}, PERFORM),
    ({"if-unmodified-since": AFTER, "if-match": '"x"'}, FAILED),
    # If-None-Match: the weak comparison
    ({"if-none-match": '"abc"'}, NOT_MODIFIED),
    ({"if-none-match": 'W/"abc"'}, NOT_MODIFIED),
    ({"if-none-match": "*"}, NOT_MODIFIED),
    ({"if-none-match": '"x", W/"y",\t"abc"'}, NOT_MODIFIED),
    ({"if-none-match": '"x"'}, PERFORM),
    ({"if-none-match": '"ABC"'}, PERFORM),
    ({"if-none-match": "abc"}, PERFORM),
    ({"if-none-match": ""}, PERFORM),
    # If-Modified-Since, only without If-None-Match
    ({"if-modified-since": BEFORE}, PERFORM),
    ({"if-modified-since": MODIFIED}, NOT_MODIFIED),
    ({"if-modified-since": AFTER}, NOT_MODIFIED),
    ({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, NOT_MODIFIED),
    ({"if-modified-since": "Sun Nov  6 08:49:37 1994"}, NOT_MODIFIED),
    ({"if-modified-since": "0"}, PERFORM),
    ({"if-modified-since": f"{AFTER}, {AFTER}"}, PERFORM),
    ({"if-modified-since": AFTER, "if-none-match": '"x"'}, PERFORM),
    ({"if-modified-since": BEFORE, "if-none-match": '"abc"'}, NOT_MODIFIED),
    # both kinds: a failed one comes before what the client has already
    ({"if-match": '"x"', "if-none-match": '"abc"'}, FAILED),
    ({"if-match": '"abc"', "if-none-match": '"abc"'}, NOT_MODIFIED),
    ({"if-match": '"abc"', "if-modified-since": AFTER}, NOT_MODIFIED),
    ({"if-unmodified-since": BEFORE, "if-modified-since": AFTER}, FAILED),
    ({"if-unmodified-since": AFTER, "if-modified-since": AFTER}, NOT_MODIFIED),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("request_fields", "verdict"), CASES)
def test_a_reading_request_with_these_fields_is(method: str, request_fields: dict[str, str], verdict: Verdict) -> None:
    assert evaluate(method, request_fields, FILE) is verdict


@pytest.mark.parametrize(
    ("request_fields", "verdict"),
    [
        ({"if-none-match": '"abc"'}, FAILED),
        ({"if-none-match": "*"}, FAILED),
        ({"if-none-match": '"x"'}, PERFORM),
        ({"if-modified-since": AFTER}, PERFORM),
        ({"if-match": '"x"'}, FAILED),
    ],
)
def test_a_writing_request_with_these_fields_is(request_fields: dict[str, str], verdict: Verdict) -> None:
    assert evaluate("PUT", request_fields, FILE) is verdict


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
@pytest.mark.parametrize("date", [BEFORE, AFTER])
def test_date_conditions_are_ignored_for_a_file_without_a_date(name: str, date: str) -> None:
    assert evaluate("GET", {name: date}, Validators('"abc"', None)) is PERFORM


def test_a_file_without_an_etag_matches_only_the_star() -> None:
    nameless = Validators(None, None)
    assert evaluate("GET", {"if-match": '"abc"'}, nameless) is FAILED
    assert evaluate("GET", {"if-match": "*"}, nameless) is PERFORM
    assert evaluate("GET", {"if-none-match": '"abc"'}, nameless) is PERFORM


def test_a_weak_etag_of_the_application_never_matches_strongly() -> None:
    weak = Validators('W/"abc"', None)
    assert evaluate("GET", {"if-match": 'W/"abc"'}, weak) is FAILED
    assert evaluate("GET", {"if-none-match": '"abc"'}, weak) is NOT_MODIFIED
    assert not range_applies({"if-range": 'W/"abc"'}, weak)


@pytest.mark.parametrize(
    ("request_fields", "applies"),
    [
        ({}, True),
        ({"if-range": '"abc"'}, True),
        ({"if-range": '"x"'}, False),
        ({"if-range": 'W/"abc"'}, False),
        ({"if-range": '"abc", "x"'}, False),
        ({"if-range": "*"}, False),
        # a date is weak: two files can be stored within its second (8.8.2.2)
        ({"if-range": MODIFIED}, False),
        ({"if-range": "Sunday, 06-Nov-94 08:49:37 GMT"}, False),
        ({"if-range": BEFORE}, False),
        ({"if-range": AFTER}, False),
        ({"if-range": "tomorrow"}, False),
        ({"if-range": ""}, False),
    ],
)
def test_if_range_lets_a_range_count(request_fields: dict[str, str], applies: bool) -> None:
    assert range_applies(request_fields, FILE) is applies


# Dates


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (MODIFIED, (1994, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        ("Sun Nov  6 08:49:37 1994", (1994, 11, 6, 8, 49, 37)),
        ("Wed Nov 16 08:49:37 1994", (1994, 11, 16, 8, 49, 37)),
        ("Sunday, 06-Nov-30 08:49:37 GMT", (2030, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-76 08:49:37 GMT", (2076, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-77 08:49:37 GMT", (1977, 11, 6, 8, 49, 37)),
        # none of the three forms
        ("", None),
        ("now", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("1994-11-06T08:49:37Z", None),
        ("784111777", None),
        # the form of a date, and no day or time of any
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    ],
)
def test_a_date_is_read_in_the_three_forms_of_the_rfc(value: str, moment: tuple[int, ...] | None) -> None:
    expected = None if moment is None else datetime(*moment, tzinfo=UTC)  # type: ignore[misc,arg-type]  # six numbers
    assert parse_date(value, now=datetime(2026, 1, 1, tzinfo=UTC)) == expected


def test_a_date_is_written_in_one_form_and_in_whole_seconds() -> None:
    moment = datetime.fromisoformat("1994-11-06T09:49:37.999+01:00")
    assert format_date(moment) == MODIFIED
    assert parse_date(format_date(moment)) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
