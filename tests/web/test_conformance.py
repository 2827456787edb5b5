"""What HTTP says, over a real server and a real connection, request by request (RFC 9110)."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridproxy import Bucket, FileInfo
from gridproxy.adapters.starlette import GridFileResponse
from tests.web.raw import Reply, Site, serve

CONTENT = random.Random(6).randbytes(5120)
LENGTH = len(CONTENT)
FRESH = "Fri, 01 Jan 2100 00:00:00 GMT"
STALE = "Sat, 01 Jan 2000 00:00:00 GMT"


class Shop:
    """The served files by their names, behind one site."""

    def __init__(self, site: Site, files: dict[str, FileInfo]) -> None:
        self.site = site
        self.files = files

    async def ask(self, method: str, name: str, *lines: str) -> Reply:
        """Request a file. `{etag}` and `{modified}` in a line are replaced by the values of the file."""
        info = self.files[name]
        modified = "" if info.upload_date is None else info.upload_date.strftime("%a, %d %b %Y %H:%M:%S GMT")
        said = [line.replace("{etag}", info.etag).replace("{modified}", modified) for line in lines]
        return await self.site.ask(method, f"/{name}", *said)


@pytest.fixture(scope="module")
async def shop(mongodb_uri: str) -> AsyncIterator[Shop]:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        database = client[f"gridproxy_test_{uuid.uuid4().hex}"]
        bucket = Bucket(database)
        files = {
            "picture": await bucket.upload(CONTENT, filename="marmot.png", chunk_size=1000),
            "empty": await bucket.upload(b"", filename="empty.bin"),
            "page": await bucket.upload(b"<script>alert(1)</script>", filename="page.html"),
            "drawing": await bucket.upload(b"<svg/>", filename="a.svg"),
            "notes": await bucket.upload("Grüße", filename="Grüße.txt"),
            "evil": await bucket.upload(
                b"x", filename='a"\r\nX-Evil: 1\r\n.txt', content_type="text/html\r\nX-Evil: 1"
            ),
        }

        async def file(request: Request) -> Response:
            return GridFileResponse(bucket.file(files[request.path_params["name"]].id))

        methods = ["GET", "POST"]  # Starlette adds HEAD
        async with serve(Starlette(routes=[Route("/{name}", file, methods=methods)])) as site:
            yield Shop(site, files)
        await client.drop_database(database)


@pytest.mark.parametrize(
    ("method", "lines", "status", "body"),
    [
        ("GET", [], 200, CONTENT),
        ("HEAD", [], 200, b""),
        ("POST", ["Content-Length: 0"], 200, CONTENT),
        # ranges
        ("GET", ["Range: bytes=0-0"], 206, CONTENT[:1]),
        ("GET", ["Range: bytes=990-1009"], 206, CONTENT[990:1010]),
        ("GET", ["Range: bytes=1000-1999"], 206, CONTENT[1000:2000]),
        ("GET", ["Range: bytes=500-"], 206, CONTENT[500:]),
        ("GET", ["Range: bytes=0-"], 206, CONTENT),
        ("GET", ["Range: bytes=-7"], 206, CONTENT[-7:]),
        ("GET", ["Range: bytes=-99999"], 206, CONTENT),
        ("GET", ["Range: bytes=5000-99999"], 206, CONTENT[5000:]),
        ("GET", ["Range: bytes=10-19,15-29"], 206, CONTENT[10:30]),
        ("GET", ["Range: bytes=99999-,3-3"], 206, CONTENT[3:4]),
        ("GET", ["Range: bytes=5120-"], 416, b""),
        ("GET", ["Range: bytes=-0"], 416, b""),
        ("GET", ["Range: marmots=0-1"], 200, CONTENT),
        ("GET", ["Range: bytes=5-1"], 200, CONTENT),
        ("GET", ["Range: bytes=0-1", "Range: bytes=4-5"], 200, CONTENT),
        ("HEAD", ["Range: bytes=0-0"], 200, b""),
        ("POST", ["Range: bytes=0-0", "Content-Length: 0"], 200, CONTENT),
        # the client has it already
        ("GET", ["If-None-Match: {etag}"], 304, b""),
        ("GET", ['If-None-Match: "x"', "If-None-Match: W/{etag}"], 304, b""),
        ("GET", ["If-None-Match: *"], 304, b""),
        ("HEAD", ["If-None-Match: {etag}"], 304, b""),
        ("GET", ['If-None-Match: "x"'], 200, CONTENT),
        ("GET", ["If-Modified-Since: {modified}"], 304, b""),
        ("GET", [f"If-Modified-Since: {FRESH}"], 304, b""),
        ("GET", [f"If-Modified-Since: {STALE}"], 200, CONTENT),
        ("GET", [f"If-Modified-Since: {FRESH}", 'If-None-Match: "x"'], 200, CONTENT),
        # it must be the same still
        ("GET", ["If-Match: {etag}"], 200, CONTENT),
        ("GET", ['If-Match: "x"'], 412, b""),
        ("HEAD", ['If-Match: "x"'], 412, b""),
        ("GET", ["If-Unmodified-Since: {modified}"], 200, CONTENT),
        ("GET", [f"If-Unmodified-Since: {STALE}"], 412, b""),
        ("GET", ['If-Match: "x"', "If-None-Match: {etag}"], 412, b""),
        ("GET", ["If-Match: {etag}", "If-None-Match: {etag}"], 304, b""),
        # a part, or else the whole
        ("GET", ["Range: bytes=5-9", "If-Range: {etag}"], 206, CONTENT[5:10]),
        ("GET", ["Range: bytes=5-9", "If-Range: {modified}"], 200, CONTENT),
        ("GET", ["Range: bytes=5-9", 'If-Range: "x"'], 200, CONTENT),
        ("GET", ["Range: bytes=5-9", "If-Range: W/{etag}"], 200, CONTENT),
        ("GET", ["Range: bytes=5-9", f"If-Range: {STALE}"], 200, CONTENT),
        ("GET", ["Range: bytes=9999-", 'If-Range: "x"'], 200, CONTENT),
        ("GET", ["Range: bytes=5-9", "If-None-Match: {etag}"], 304, b""),
    ],
)
async def test_a_request_for_a_picture(shop: Shop, method: str, lines: list[str], status: int, body: bytes) -> None:
    reply = await shop.ask(method, "picture", *lines)
    assert reply.status == status
    assert reply.body == body
    if status == 304:
        assert "content-length" not in reply.fields
        assert "content-type" not in reply.fields
    else:
        assert int(reply.fields["content-length"]) == (LENGTH if (method, status) == ("HEAD", 200) else len(body))
    if status in (200, 206):
        assert reply.fields["content-type"] == "image/png"
        assert reply.fields["accept-ranges"] == "bytes"
        assert reply.fields["repr-digest"].startswith("sha-256=:")
    if status == 206:
        start = CONTENT.index(body)
        assert reply.fields["content-range"] == f"bytes {start}-{start + len(body) - 1}/{LENGTH}"
    if status == 416:
        assert reply.fields["content-range"] == f"bytes */{LENGTH}"
    assert reply.fields["etag"] == shop.files["picture"].etag
    assert reply.fields["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("0-4,100-104", [(0, 5), (100, 105)]),
        ("4990-5009,-3,0-0", [(4990, 5010), (5117, 5120), (0, 1)]),
        ("0-2499,3000-5119", [(0, 2500), (3000, 5120)]),
    ],
)
async def test_several_ranges_are_sent_as_multipart(shop: Shop, value: str, spans: list[tuple[int, int]]) -> None:
    reply = await shop.ask("GET", "picture", f"Range: bytes={value}")
    assert reply.status == 206
    assert reply.whole
    assert "content-range" not in reply.fields
    head = f"Content-Type: {reply.fields['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + reply.body)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/byteranges"
    parts = [
        (part["content-type"], part["content-range"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]
    assert parts == [("image/png", f"bytes {start}-{stop - 1}/{LENGTH}", CONTENT[start:stop]) for start, stop in spans]


async def test_a_hundred_ranges_are_sent_and_more_are_not_worth_it(shop: Shop) -> None:
    asked = [f"{at}-{at}" for at in range(0, 202, 2)]
    reply = await shop.ask("GET", "picture", f"Range: bytes={','.join(asked[:100])}")
    assert reply.status == 206
    assert reply.whole
    assert (await shop.ask("GET", "picture", f"Range: bytes={','.join(asked)}")).body == CONTENT


async def test_an_empty_file_has_no_part(shop: Shop) -> None:
    assert (await shop.ask("GET", "empty")).fields["content-length"] == "0"
    assert (await shop.ask("GET", "empty", "Range: bytes=-5")).status == 200
    assert (await shop.ask("GET", "empty", "Range: bytes=0-")).status == 416


@pytest.mark.parametrize(
    ("name", "content_type", "disposition"),
    [
        ("picture", "image/png", 'inline; filename="marmot.png"'),
        ("page", "text/html; charset=utf-8", 'attachment; filename="page.html"'),
        ("drawing", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("notes", "text/plain; charset=utf-8", "inline; filename=\"Gru_e.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"),
        (
            "evil",
            "application/octet-stream",
            "inline; filename=\"a_X-Evil: 1.txt\"; filename*=UTF-8''a%22X-Evil%3A%201.txt",
        ),
    ],
)
async def test_a_browser_runs_no_stored_file(shop: Shop, name: str, content_type: str, disposition: str) -> None:
    reply = await shop.ask("GET", name)
    assert reply.fields["content-type"] == content_type
    assert reply.fields["content-disposition"] == disposition
    assert reply.fields["x-content-type-options"] == "nosniff"
    assert "x-evil" not in reply.fields
