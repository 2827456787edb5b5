"""The fields that describe a file: type, file name and digest (RFC 6266, 8187, 9110, 9530)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridproxy import FileInfo
from gridproxy.http import (
    OCTET_STREAM,
    can_run,
    checked_media_type,
    content_disposition,
    describe,
    is_loaded,
    repr_digest,
)

SHA256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"  # of "hello world"
DIGEST = "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:"


def stored(**changes: Any) -> FileInfo:
    record = {
        "_id": 1,
        "length": 11,
        "chunkSize": 4,
        "uploadDate": datetime(1994, 11, 6, 8, 49, 37, 123000, tzinfo=UTC),
        "filename": "marmot.jpg",
        "metadata": {"content_type": "image/jpeg", "sha256": SHA256},
    }
    return FileInfo.from_record({**record, **changes})


@pytest.mark.parametrize(
    ("filename", "rest"),
    [
        (None, ""),
        ("", ""),
        ("plain.txt", '; filename="plain.txt"'),
        ("with space.txt", '; filename="with space.txt"'),
        ("it's (1) & [2]; a=b, c.txt", '; filename="it\'s (1) & [2]; a=b, c.txt"'),
        # what is not ASCII comes twice: for old recipients without its marks, for all others as it is
        ("café.txt", "; filename=\"cafe.txt\"; filename*=UTF-8''caf%C3%A9.txt"),
        ("日本.png", "; filename=\"__.png\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.png"),
        ("€ rates", "; filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates"),
        ("\N{HAMSTER FACE}.gif", "; filename=\"_.gif\"; filename*=UTF-8''%F0%9F%90%B9.gif"),
        ("a\N{FULLWIDTH SOLIDUS}b", "; filename=\"a_b\"; filename*=UTF-8''a%EF%BC%8Fb"),
        # what few recipients unquote, and what some decode
        ('say "hi".txt', "; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
        ("100%25.txt", "; filename=\"100_25.txt\"; filename*=UTF-8''100%2525.txt"),
        # a name of GridFS may look like a path
        ("photos/2026/marmot.jpg", '; filename="marmot.jpg"'),
        ("C:\\fakepath\\marmot.jpg", '; filename="marmot.jpg"'),
        ("../../etc/passwd", '; filename="passwd"'),
        ("photos/", '; filename="photos"'),
        ("/", ""),
        ("..", ""),
        # no line of the header ends early, and no name is written backwards
        ("a\r\nSet-Cookie: x=y.txt", '; filename="aSet-Cookie: x=y.txt"'),
        ("tab\there\x00\x7f\x85.txt", '; filename="tabhere.txt"'),
        ("\r\n", ""),
        ("photo\u202egpj.exe", '; filename="photogpj.exe"'),
        ("line\u2028paragraph\u2029.txt", '; filename="lineparagraph.txt"'),
        ("half\ud83d.txt", '; filename="half.txt"'),
        # nor is it endless
        (f"{'x' * 300}.jpeg", f'; filename="{"x" * 250}.jpeg"'),
        (f"x.{'y' * 300}", f'; filename="x.{"y" * 253}"'),
        ("x" * 300, f'; filename="{"x" * 255}"'),
    ],
)
def test_a_file_with_this_name_is_saved_as(filename: str | None, rest: str) -> None:
    assert content_disposition("attachment", filename) == f"attachment{rest}"
    assert content_disposition("inline", filename) == f"inline{rest}"


@given(st.text())
def test_any_name_gives_one_valid_line_of_ascii(name: str) -> None:
    value = content_disposition("attachment", name)
    assert value.isascii()
    assert value.isprintable()
    found = re.fullmatch(
        r"attachment(; filename=\"([^\"\\/%]+)\"(; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+))?)?", value
    )
    assert found
    saved_as = unquote(found[4]) if found[4] else found[2] or ""
    assert "/" not in saved_as
    assert all(each in name for each in saved_as)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("image/png", "image/png"),
        ("Image/SVG+XML", "Image/SVG+XML"),
        ("text/plain; charset=latin-1", "text/plain; charset=latin-1"),
        ('text/plain;charset="utf-8" ; a=b', 'text/plain;charset="utf-8" ; a=b'),
        ('a/b; c="d, \\" e"', 'a/b; c="d, \\" e"'),
        (None, OCTET_STREAM),
        ("", OCTET_STREAM),
        ("image", OCTET_STREAM),
        ("image/", OCTET_STREAM),
        ("image/png\r\nSet-Cookie: a=b", OCTET_STREAM),
        ("image/png\n", OCTET_STREAM),
        # browsers take the last one of a list
        ("image/png, text/html", OCTET_STREAM),
        ("image/png;, text/html", OCTET_STREAM),
        ("imäge/png", OCTET_STREAM),
        ('a/b; c="d', OCTET_STREAM),
    ],
)
def test_a_media_type_is_sent_as_it_is_or_not_at_all(value: str | None, sent: str) -> None:
    assert checked_media_type(value) == sent


@pytest.mark.parametrize(
    ("media_type", "runs"),
    [
        ("text/html", True),
        ("text/html; charset=utf-8", True),
        ("TEXT/HTML ;charset=utf-8", True),
        ("application/xhtml+xml", True),
        ("image/svg+xml", True),
        ("application/xml", True),
        ("text/xml", True),
        ("application/rss+xml", True),
        ("text/javascript", True),
        ("application/javascript", True),
        ("text/javascript1.5", True),
        ("multipart/related", True),
        ("message/rfc822", True),
        ("image/png", False),
        ("video/mp4", False),
        ("text/plain", False),
        ("text/css", False),
        ("application/pdf", False),
        ("application/json", False),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", False),
        (OCTET_STREAM, False),
    ],
)
def test_a_browser_would_run(media_type: str, runs: bool) -> None:
    assert can_run(media_type) is runs


def test_a_stored_file_is_described_by_its_record() -> None:
    assert describe(stored()) == {
        "content-type": "image/jpeg",
        "accept-ranges": "bytes",
        "etag": stored().etag,
        "x-content-type-options": "nosniff",
        "content-disposition": 'inline; filename="marmot.jpg"',
        "cache-control": "private",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": "sandbox",
        "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "repr-digest": DIGEST,
    }


def test_another_type_or_name_for_a_response_changes_the_entity_tag() -> None:
    variants = [{}, {"media_type": "image/gif"}, {"filename": "fox.jpg"}]
    assert len({describe(stored(), **each)["etag"] for each in variants}) == 3
    assert describe(stored(), media_type="image/jpeg", filename="marmot.jpg")["etag"] == stored().etag


def test_fields_missing_in_the_record_are_not_sent() -> None:
    fields = describe(stored(uploadDate=None, filename=None, metadata=None))
    assert fields["etag"].startswith('"')
    del fields["etag"]
    assert fields == {
        "content-type": OCTET_STREAM,
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-disposition": "inline",
        "cache-control": "private",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": "sandbox",
    }


LOADED = [
    "text/javascript",
    "TEXT/JavaScript ;charset=utf-8",
    "application/javascript",
    "application/x-javascript",
    "text/ecmascript",
    "text/javascript1.5",
    "text/jscript",
    "text/css",
    "text/xsl",
    "application/xslt+xml",
    "application/wasm",
    "application/x-shockwave-flash",
    "application/java-archive",
]


@pytest.mark.parametrize("kind", LOADED)
def test_a_type_that_a_page_loads_to_run_is_sent_as_octet_stream(kind: str) -> None:
    """G4: a script ran under the policy 'self', and as a service worker, although it was an attachment."""
    assert is_loaded(kind)
    fields = describe(stored(metadata={"content_type": kind}))
    assert describe(stored(metadata={"content_type": kind}), media_type="") == fields
    assert fields["content-type"] == OCTET_STREAM
    assert fields["content-disposition"] == 'attachment; filename="marmot.jpg"'
    asked = describe(stored(metadata={"content_type": kind}), media_type=kind)
    assert asked["content-type"].startswith(kind)
    assert asked["etag"] != fields["etag"], "a cache would keep the body with the other type"


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "text/html", "application/json", "text/typescript"])
def test_a_type_that_no_page_loads_to_run_is_sent_as_it_is(kind: str) -> None:
    assert not is_loaded(kind)
    assert describe(stored(metadata={"content_type": kind}))["content-type"].startswith(kind)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("image/png", "sandbox"),
        ("text/html", "sandbox"),
        ("image/svg+xml", "sandbox"),
        (None, "sandbox"),
        ("video/mp4", "sandbox allow-same-origin"),
        ("Audio/Ogg", "sandbox allow-same-origin"),
        ("application/pdf", None),
    ],
)
def test_a_document_of_this_type_is_in_a_sandbox(kind: str | None, policy: str | None) -> None:
    for disposition in (None, "inline", "attachment"):
        fields = describe(stored(metadata={"content_type": kind}, filename=None), disposition=disposition)
        assert fields.get("content-security-policy") == policy


def test_each_policy_can_be_replaced_or_left_out() -> None:
    names = "cache_control", "resource_policy", "security_policy"
    fields = ("cache-control", "cross-origin-resource-policy", "content-security-policy")
    given = describe(stored(), cache_control="no-store", resource_policy="same-site", security_policy="sandbox x")
    assert [given[name] for name in fields] == ["no-store", "same-site", "sandbox x"]
    assert not set(fields) & describe(stored(), **dict.fromkeys(names, "")).keys()


@pytest.mark.parametrize(
    ("said", "content_type", "disposition"),
    [
        ({}, "image/jpeg", 'inline; filename="marmot.jpg"'),
        ({"filename": "other.jpg"}, "image/jpeg", 'inline; filename="other.jpg"'),
        ({"disposition": "attachment"}, "image/jpeg", 'attachment; filename="marmot.jpg"'),
        ({"media_type": "text/html"}, "text/html; charset=utf-8", 'attachment; filename="marmot.jpg"'),
        ({"media_type": "image/svg+xml"}, "image/svg+xml", 'attachment; filename="marmot.jpg"'),
        (
            {"media_type": "text/html", "disposition": "inline"},
            "text/html; charset=utf-8",
            'inline; filename="marmot.jpg"',
        ),
        ({"media_type": "text/plain; Charset=latin-1"}, "text/plain; Charset=latin-1", 'inline; filename="marmot.jpg"'),
    ],
)
def test_given_arguments_replace_the_record(said: dict[str, str], content_type: str, disposition: str) -> None:
    fields = describe(stored(), **said)
    assert (fields["content-type"], fields["content-disposition"]) == (content_type, disposition)


def test_the_digest_is_that_of_the_rfcs() -> None:
    assert repr_digest(SHA256) == DIGEST
