"""The Range field, rule by rule (RFC 9110, 14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridproxy.http import MAX_RANGES, Multipart, content_range, parse_ranges

IGNORED = None
UNSATISFIABLE: list[tuple[int, int]] = []


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        # one range, and its ends
        ("bytes=0-4", [(0, 5)]),
        ("bytes=4-4", [(4, 5)]),
        ("bytes=4-", [(4, 10)]),
        ("bytes=0-", [(0, 10)]),
        ("bytes=0-9", [(0, 10)]),
        ("bytes=4-10", [(4, 10)]),
        ("bytes=4-99999999999999999999999999", [(4, 10)]),
        ("bytes=000000000000000000000000004-5", [(4, 6)]),
        # the last bytes
        ("bytes=-3", [(7, 10)]),
        ("bytes=-10", [(0, 10)]),
        ("bytes=-99999999999999999999999999", [(0, 10)]),
        # nothing of it is there
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=10-12", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=99999999999999999999999999-", UNSATISFIABLE),
        ("bytes=10-,-0,20-30", UNSATISFIABLE),
        # several: in their order, without those that are not there
        ("bytes=0-0,5-6", [(0, 1), (5, 7)]),
        ("bytes=5-6,0-0", [(5, 7), (0, 1)]),
        ("bytes=0-0, -1", [(0, 1), (9, 10)]),
        ("bytes=0-1,50-60,-2", [(0, 2), (8, 10)]),
        ("bytes=50-60,3-3", [(3, 4)]),
        # a list may have empty elements and white space (5.6.1)
        ("bytes=,0-1,,\t5-6 ,", [(0, 2), (5, 7)]),
        # ranges that overlap or touch become one, in the place of its first (15.3.7.2)
        ("bytes=0-4,2-6", [(0, 7)]),
        ("bytes=2-6,0-4", [(0, 7)]),
        ("bytes=0-4,5-6", [(0, 7)]),
        ("bytes=8-9,4-5,0-1,5-6", [(8, 10), (4, 7), (0, 2)]),
        ("bytes=0-,0-,0-", [(0, 10)]),
        ("bytes=3-4,0-9", [(0, 10)]),
        # the unit is case-insensitive, other units are ignored (14.2)
        ("BYTES=0-4", [(0, 5)]),
        ("lines=0-4", IGNORED),
        ("=0-4", IGNORED),
        ("0-4", IGNORED),
        ("bytes", IGNORED),
        ("", IGNORED),
        # bad syntax: all of it is ignored
        ("bytes=", IGNORED),
        ("bytes=,", IGNORED),
        ("bytes=-", IGNORED),
        ("bytes=4-2", IGNORED),
        ("bytes=0-1,4-2", IGNORED),
        ("bytes=a-b", IGNORED),
        ("bytes=0-1;5-6", IGNORED),
        ("bytes=+0-4", IGNORED),
        ("bytes=0 - 4", IGNORED),
        ("bytes=--4", IGNORED),
        ("bytes=0x0-0x4", IGNORED),
        ("bytes=\u0660-\u0664", IGNORED),
        ("bytes=0-1, bytes=5-6", IGNORED),
        (f"bytes=0-{'9' * 401}", IGNORED),
    ],
)
def test_of_ten_bytes_a_range_field_asks_for(value: str, spans: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(value, 10) == spans


@pytest.mark.parametrize(
    ("value", "spans"),
    [("bytes=0-", UNSATISFIABLE), ("bytes=0-0", UNSATISFIABLE), ("bytes=-0", UNSATISFIABLE), ("bytes=-1", IGNORED)],
)
def test_of_an_empty_file_no_range_can_be_given(value: str, spans: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(value, 0) == spans


def test_many_ranges_are_too_many() -> None:
    asked = [f"{at}-{at}" for at in range(0, 2 * MAX_RANGES, 2)]
    spans = parse_ranges("bytes=" + ",".join(asked), 1000)
    assert spans is not None
    assert len(spans) == MAX_RANGES
    assert parse_ranges("bytes=" + ",".join([*asked, "900-"]), 1000) is IGNORED


numbers = st.integers(0, 40).map(str)
ranges = st.lists(st.tuples(numbers, numbers | st.just("")).map("-".join) | numbers.map("-{}".format), min_size=1)


@given(ranges, st.integers(0, 30))
def test_no_byte_is_sent_twice_or_without_request(asked: list[str], length: int) -> None:
    wanted: set[int] = set()
    for each in asked:
        first, _, last = each.partition("-")
        if first:
            wanted |= set(range(length)[int(first) : int(last) + 1 if last else None])
        elif int(last):
            wanted |= set(range(length)[-int(last) :])
    spans = parse_ranges("bytes=" + ",".join(asked), length)
    if spans is not None:
        sent = [byte for start, stop in spans for byte in range(start, stop)]
        assert sorted(sent) == sorted(wanted)


def test_content_range_names_the_bytes_or_none() -> None:
    assert content_range((0, 5), 10) == "bytes 0-4/10"
    assert content_range((9, 10), 10) == "bytes 9-9/10"
    assert content_range(None, 10) == "bytes */10"


def test_the_frame_of_a_multipart_surrounds_its_parts() -> None:
    multipart = Multipart([(0, 2), (8, 10)], 10, "image/png", boundary="XYZ")
    content = b"0123456789"
    body = b"".join(multipart.opening((start, stop)) + content[start:stop] for start, stop in ((0, 2), (8, 10)))
    body += multipart.closing
    assert multipart.content_type == "multipart/byteranges; boundary=XYZ"
    assert body == (
        b"\r\n--XYZ\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--XYZ\r\nContent-Type: image/png\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
        b"\r\n--XYZ--\r\n"
    )
    assert multipart.content_length == len(body)


def test_every_multipart_has_its_own_boundary() -> None:
    boundaries = {Multipart([], 0, "a/b").boundary for _ in range(20)}
    assert len(boundaries) == 20
    assert all(len(each) <= 70 for each in boundaries)  # RFC 2046, 5.1.1
