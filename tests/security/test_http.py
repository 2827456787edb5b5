"""A stored file over HTTP: what others chose (names, types, ranges) is one line of a header, and runs nowhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import pytest
from bson import ObjectId
from fastapi import FastAPI, Request
from pydantic import BaseModel
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import AsyncGridFile, Bucket, FileOptions
from gridproxy.adapters.starlette import GridFileResponse, RequestBody, exception_handlers
from gridproxy.http import MAX_RANGES
from tests.observing import contents
from tests.web.asgi import Exchange

Database = AsyncDatabase[dict[str, Any]]

SPLIT = "x\r\nSet-Cookie: stolen=1\r\n\r\n<script>alert(1)</script>"
NAMES = [
    SPLIT,
    'a"; filename="b.html',
    'a\\"; x=y',
    "../../etc/passwd",
    "..\\..\\windows\\system32",
    "/",
    "..",
    ".",
    "",
    "\u202egpj.exe",
    "\u2028a\u2029b\x85c",
    "\x1b]0;title\x07",
    "a;b=c, d",
    "%0d%0aSet-Cookie:a=b",
    "x" * 5000 + ".html",
    "\U0001f600.png",
    "a\tb\x7fc",
    "=?utf-8?q?a=0D=0Ab?=",
]
TYPES = [
    SPLIT,
    "text/html\r\nX: y",
    "text/html\n",
    "text/html, text/plain",
    "image/png;\r\n charset=x",
    'image/png; a="\r\n"',
    "image/png; a=\x00",
    "te\u212at/html",
    "text",
    "",
    " text/html",
    "text/html ; charset=utf-7",
    "a/b; " * 5000,
    "x/" + "y" * 5000,
]


async def served(bucket: Bucket, id: object, *lines: tuple[str, str], **options: Any) -> Exchange:
    return await Exchange("GET", *lines).run(GridFileResponse(bucket.file(id), **options))


def check_lines(exchange: Exchange) -> None:
    """Each field is one line, as h11 and every proxy want it."""
    for name, value in exchange.sent[0]["headers"]:
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name)
        assert re.fullmatch(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", value), (name, value)
    assert [name for name, _ in exchange.sent[0]["headers"]].count(b"content-type") == 1
    assert "set-cookie" not in exchange.fields
    assert exchange.fields["x-content-type-options"] == "nosniff"


async def test_a_name_is_a_part_of_one_field(bucket: Bucket) -> None:
    for name in NAMES:
        await check_name(bucket, name)


async def check_name(bucket: Bucket, name: str) -> None:
    info = await bucket.upload(b"x", filename=name, content_type="image/png")
    exchange = await served(bucket, info.id)
    check_lines(exchange)
    field = exchange.fields["content-disposition"]
    found = re.fullmatch(
        r"""inline(; filename="([^"\\/%]*)"(; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]+)?)?""", field
    )
    assert found, field
    assert found[2] not in (".", "..")
    assert len(field) < 4000


async def test_an_invalid_type_is_served_as_octet_stream(bucket: Bucket) -> None:
    for kind in TYPES:
        await check_kind(bucket, kind)


async def check_kind(bucket: Bucket, kind: str) -> None:
    info = await bucket.upload(b"<script>alert(1)</script>", content_type=kind)
    for lines in ([], [("range", "bytes=0-1,4-5")]):
        exchange = await served(bucket, info.id, *lines)
        check_lines(exchange)
        assert SPLIT.encode() not in exchange.body
        assert b"\r\nSet-Cookie" not in exchange.body
        if exchange.fields["content-type"].startswith("text/html"):
            assert exchange.fields["content-disposition"].startswith("attachment")


RUN = [
    "text/html",
    "TEXT/HTML",
    "text/html;charset=utf-8",
    "application/xhtml+xml",
    "image/svg+xml",
    "Image/SVG+XML; charset=utf-8",
    "text/xml",
    "application/xml",
    "application/rss+xml",
    "application/mathml+xml",
    "text/xsl",
    "text/javascript",
    "application/javascript",
    "text/javascript1.5",
    "application/x-shockwave-flash",
    "message/rfc822",
    "multipart/related",
]


async def test_what_a_browser_would_run_is_an_attachment(bucket: Bucket) -> None:
    for kind in RUN:
        info = await bucket.upload(b"<svg/onload=alert(1)>", content_type=kind, filename="a.svg")
        exchange = await served(bucket, info.id)
        assert exchange.fields["content-disposition"].startswith("attachment;")
        check_lines(exchange)


@pytest.mark.parametrize(
    "kind", ["*/*", "unknown/unknown", "application/unknown", "text/plain", "image/png", "image/svg", None]
)
async def test_browsers_must_not_sniff_the_type(bucket: Bucket, kind: str | None) -> None:
    info = await bucket.upload(b"<html><script>alert(1)</script>", content_type=kind)
    exchange = await served(bucket, info.id)
    assert exchange.fields["x-content-type-options"] == "nosniff"
    assert "html" not in exchange.fields["content-type"]


async def test_a_hostile_record_makes_no_field(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"0123456789")
    for change in (
        {"metadata": {"sha256": SPLIT, "content_type": SPLIT}, "filename": SPLIT},
        {"metadata": {"sha256": {"$gt": ""}, "contentType": ["text/html"]}, "contentType": SPLIT, "md5": SPLIT},
        {"metadata": SPLIT, "filename": 5, "uploadDate": SPLIT, "contentType": "text/html"},
        {"metadata": None, "uploadDate": datetime(1, 1, 1, tzinfo=UTC)},
        {"metadata": None, "uploadDate": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
    ):
        await database["fs.files"].update_one({"_id": info.id}, {"$set": change})
        for lines in (
            [],
            [("range", "bytes=0-0,9-9")],
            [("if-none-match", "*")],
            [("if-range", SPLIT), ("range", "bytes=1-")],
        ):
            exchange = await served(bucket, info.id, *lines)
            assert exchange.status in (200, 206, 304)
            for _, value in exchange.sent[0]["headers"]:
                assert not re.search(rb"[\x00-\x1f\x7f-\xff]", value)


RANGES = [
    "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 20_000, 2)),
    "bytes=" + "0-," * 20_000,
    "bytes=" + ",".join(["0-"] * (MAX_RANGES + 1)),
    "bytes=" + "9" * 60_000 + "-",
    "bytes=-" + "9" * 60_000,
    "bytes=0-" + "9" * 60_000,
    "bytes=" + "," * 60_000,
    "bytes=" + " " * 60_000 + "0-1",
    "bytes=0x0-0x5",
    "bytes=\xb9-\xb2",
    "bytes=1-0",
    "bytes=--5",
    "bytes=0-1\r\nX: y",
    SPLIT,
    "=" * 60_000,
]


async def test_a_range_field_costs_no_more_than_the_file(bucket: Bucket) -> None:
    data = bytes(range(256)) * 80
    info = await bucket.upload(data, chunk_size=1000)
    for value in RANGES:
        exchange = await served(bucket, info.id, ("range", value))
        assert exchange.status in (200, 206, 416)
        assert len(exchange.body) <= len(data) + MAX_RANGES * 300
        check_lines(exchange)


async def test_overlapping_ranges_are_sent_once(bucket: Bucket) -> None:
    data = bytes(100_000)
    info = await bucket.upload(data, chunk_size=1000)
    exchange = await served(bucket, info.id, ("range", "bytes=" + ",".join(f"{at}-" for at in range(MAX_RANGES))))
    assert len(exchange.body) == len(data)


CONDITIONS = ['"' * 60_000, '"a' * 30_000, "W/" * 30_000, ', "x' * 15_000, "Sun, " * 10_000, "\xff" * 60_000]


@pytest.mark.parametrize("field", ["if-match", "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"])
async def test_conditions_of_any_kind_are_read_at_once(bucket: Bucket, field: str) -> None:
    info = await bucket.upload(b"x")
    for value in CONDITIONS:
        exchange = await served(bucket, info.id, (field, value), ("range", "bytes=0-0"))
        assert exchange.status in (200, 206, 304, 412)


# What comes in as JSON


class Note(BaseModel):
    text: str = ""
    file: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = AsyncGridFile()


def application(bucket: Bucket) -> FastAPI:
    app = FastAPI(exception_handlers=exception_handlers)

    @app.post("/notes")
    async def note(note: Note) -> str:
        assert note.file.state.content is None
        return repr(note.file.id)

    @app.post("/files")
    async def upload(request: Request, name: str) -> int:
        file = AsyncGridFile(options=FileOptions(bucket=bucket, max_size=1000))
        await file.put(RequestBody(request, filename=name))
        return file.length

    return app


DEEP = "[" * 900 + "]" * 900
BODIES = [
    '{"$gt": ""}',
    '{"_id": {"$gt": ""}}',
    '{"_id": {"$oid": "aaaaaaaaaaaaaaaaaaaaaaaa"}}',
    '{"_id": ["a"]}',
    '{"_id": null}',
    '{"_id": "aaaaaaaaaaaaaaaaaaaaaaaa", "length": 1e300, "chunk_size": 1}',
    '{"_id": "aaaaaaaaaaaaaaaaaaaaaaaa", "length": -1, "chunk_size": 1}',
    '{"_id": "aaaaaaaaaaaaaaaaaaaaaaaa", "length": 1, "chunk_size": 1, "upload_date": "yesterday"}',
    '{"_id": "aaaaaaaaaaaaaaaaaaaaaaaa", "length": 1, "chunk_size": 1, "metadata": {"a": ' + DEEP + "}}",
    '"zzz"',
    '""',
    '"/etc/passwd"',
    "5",
    "true",
    "[]",
    "[1, 2]",
    '["abc"]',
    "[null]",
    "[[]]",
    DEEP,
]


async def test_json_is_an_id_a_snapshot_or_refused(bucket: Bucket, database: Database) -> None:
    """Frameworks pass parsed values. A list among them is not content."""
    transport = httpx.ASGITransport(app=application(bucket))
    async with httpx.AsyncClient(transport=transport, base_url="http://notes") as browser:
        for body in BODIES:
            answer = await browser.post(
                "/notes", content=f'{{"file": {body}}}', headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 422), (body[:90], answer.text[:200])
        good = ObjectId()
        for body in ("null", f'"{good}"', f'{{"_id": "{good}", "length": 1, "chunk_size": 1}}'):
            answer = await browser.post(
                "/notes", content=f'{{"file": {body}}}', headers={"content-type": "application/json"}
            )
            assert answer.status_code == 200
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "0x10", "", "1, 2", "\xb2"])
async def test_a_wrong_declared_length_does_not_bypass_the_limit(
    bucket: Bucket, database: Database, length: str
) -> None:
    exchange = Exchange("POST", ("content-length", length), ("content-type", SPLIT))
    exchange.scope.update(path="/files", raw_path=b"/files", query_string=b"name=..%2Fa")
    left = 50

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(100), "more_body": left > 0}

    await application(bucket)(exchange.scope, receive, exchange.send)
    assert exchange.status == 413
    assert left > 35
    assert await contents(database) == (0, 0)
