"""The gallery before an attacker: what he uploads runs nowhere, and no other site's page changes anything."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import re
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pymongo import AsyncMongoClient
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gridproxy import Bucket
from tests.web.asgi import Exchange

GALLERY = Path(__file__).resolve().parent.parent.parent / "examples" / "gallery"
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


@pytest.fixture
def name() -> str:
    return f"gridproxy_test_{uuid.uuid4().hex}"


@pytest.fixture
async def browser(mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    spec = importlib.util.spec_from_file_location("gallery_service", GALLERY / "service.py")
    assert spec is not None
    assert spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, service)  # where pydantic looks for the names in annotations
    monkeypatch.syspath_prepend(str(GALLERY))  # as for `python examples/gallery`
    spec.loader.exec_module(service)
    monkeypatch.delitem(sys.modules, "guard")
    host, _, options = mongodb_uri.partition("://")[2].partition("/")
    app = service.gallery(f"mongodb://{host}/{name}?{options.partition('?')[2]}", ["Gallery", "127.0.0.1", "[::1]"])
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gallery") as browser:
            yield browser
    async with AsyncMongoClient[dict[str, object]](mongodb_uri) as client:
        await client.drop_database(name)


async def test_of_two_replacements_at_once_one_is_a_409_that_leaves_nothing(
    browser: httpx.AsyncClient, mongodb_uri: str, name: str
) -> None:
    """The gallery promises "both, or neither"."""
    item = (await browser.post("/items", params={"name": "a.gif"}, content=PIXEL)).json()
    address = f"/items/{item['id']}/file"
    overtaking = []

    async def slow() -> AsyncIterator[bytes]:
        yield PIXEL[:20]
        overtaking.append(await browser.put(address, params={"name": "b.gif"}, content=PIXEL + b"b"))
        yield PIXEL[20:]

    late = await browser.put(address, params={"name": "c.gif"}, content=slow())
    assert [answer.status_code for answer in overtaking] == [200]
    assert late.status_code == 409, late.text
    [left] = (await browser.get("/items")).json()
    assert left["name"] == "b.gif"
    assert (await browser.get(left["url"])).content == PIXEL + b"b"
    async with AsyncMongoClient[dict[str, object]](mongodb_uri) as client:
        bucket = Bucket(client[name], "media")
        assert [info.filename async for info in bucket.find()] == ["b.gif"]
        assert [finding async for finding in bucket.check()] == []


async def test_what_is_uploaded_runs_nowhere(browser: httpx.AsyncClient) -> None:
    name = '"><img src=x onerror=alert(1)>'
    svg = b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>"
    for content, kind, ending, status in (
        (b"<script>alert(1)</script>", "image/gif", ".gif", 415),
        (b"<script>alert(1)</script>", "text/html", ".gif", 415),
        (b"<script>alert(1)</script>", "text/html", ".html", 415),
        (b"%PDF-1.4", "image/gif", ".pdf", 415),
        (svg, "image/gif", ".gif", 415),
        (svg, "image/svg+xml", ".svg", 201),
        (PIXEL + b"<script>alert(1)</script>", "text/html", ".gif", 201),  # as a picture, which it is as well
        (b"GIF89a=1;alert(1)", "text/javascript", ".gif", 201),
    ):
        answer = await browser.post(
            "/items", params={"name": name + ending}, content=content, headers={"content-type": kind}
        )
        assert answer.status_code == status, (content, kind, answer.text)
    for item in (await browser.get("/items")).json():
        assert item["name"].startswith(name)
        served = await browser.get(item["url"])
        assert served.headers["x-content-type-options"] == "nosniff"
        assert served.headers["content-type"] in ("image/gif", "image/svg+xml")
        attachment = served.headers["content-disposition"].startswith("attachment")
        assert attachment == (served.headers["content-type"] == "image/svg+xml")
    page = await browser.get("/")
    assert page.headers["content-security-policy"] == "default-src 'self'; frame-ancestors 'none'"


def test_the_page_takes_nothing_for_html() -> None:
    script = (GALLERY / "static" / "gallery.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)
    assert not re.search(r"\son\w+=|<script>|javascript:", (GALLERY / "static" / "index.html").read_text())


async def test_no_other_sites_page_changes_anything(browser: httpx.AsyncClient) -> None:
    """Browsers send a simple POST without preflight, and name the site in Sec-Fetch-Site."""
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201), (None, 201)):
        fields = {"content-type": "image/gif"} | ({"sec-fetch-site": site} if site else {})
        answer = await browser.post("/items", params={"name": "a.gif"}, content=PIXEL, headers=fields)
        assert answer.status_code == status
    [item, *more] = (await browser.get("/items", headers={"sec-fetch-site": "cross-site"})).json()
    assert len(more) == 2
    gone = await browser.delete(f"/items/{item['id']}", headers={"sec-fetch-site": "cross-site"})
    assert gone.status_code == 403
    assert (await browser.get(item["url"])).content == PIXEL


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://gallery", 201),
        ("https://gallery", 201),
        ("HTTP://GALLERY", 201),
        (None, 201),
        ("http://evil.example", 403),
        ("http://gallery.evil.example", 403),
        ("http://gallery:8000", 403),
        ("http://evil.example/http://gallery", 403),
        ("http://gallery@evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
async def test_a_change_comes_from_a_page_of_this_site(
    browser: httpx.AsyncClient, origin: str | None, status: int
) -> None:
    """G6: over plain HTTP browsers send no Sec-Fetch-Site, so a POST of another site's page was stored."""
    fields = {"content-type": "image/gif"} | ({} if origin is None else {"origin": origin})
    answer = await browser.post("/items", params={"name": "a.gif"}, content=PIXEL, headers=fields)
    assert answer.status_code == status
    items = (await browser.get("/items", headers={"origin": "http://evil.example"})).json()
    assert len(items) == (status == 201)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("gallery", 200),
        ("GALLERY:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("gallery.evil.example", 421),
        ("gallery:evil.example", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_rebound_is_not_served(browser: httpx.AsyncClient, host: str, status: int) -> None:
    """G6: a page of evil.example whose name leads to this address could list and delete."""
    for path in ("/", "/items", "/static/gallery.js", "/openapi.json"):
        assert (await browser.get(path, headers={"host": host})).status_code == status
    origin = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    answer = await browser.delete("/items/000000000000000000000000", headers=origin)
    assert answer.status_code == (404 if status == 200 else 421)


async def test_every_answer_has_the_fields_of_the_site(browser: httpx.AsyncClient) -> None:
    item = (await browser.post("/items", params={"name": "a.gif"}, content=PIXEL)).json()
    for path, status in (("/", 200), ("/items", 200), (item["url"], 200), ("/static/gallery.js", 200), ("/none", 404)):
        answer = await browser.get(path)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert policy.endswith("; frame-ancestors 'none'")
        assert policy.startswith("sandbox" if path == item["url"] else "default-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_no_page_loads_scripts_of_other_hosts(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 404
    assert "http" not in re.sub(r"http://www\.w3\.org\S+", "", (await browser.get("/")).text)


async def test_uploads_beyond_the_limit_are_refused_at_once_and_slow_ones_end(
    browser: httpx.AsyncClient, mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that begin uploads and send nothing cannot use up the service."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(rest: asyncio.Event) -> AsyncIterator[bytes]:
        yield PIXEL[:20]
        begun.set()
        await rest.wait()
        yield PIXEL[20:]

    def post(content: AsyncIterator[bytes] | bytes) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(browser.post("/items", params={"name": "a.gif"}, content=content))

    running = [post(slow(go_on)) for _ in range(4)]
    await begun.wait()
    while (refused := await post(PIXEL)).status_code == 201:  # until all four have begun
        pass
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (await browser.get("/items")).status_code == 200
    go_on.set()
    assert {(await each).status_code for each in running} == {201}
    assert (await post(PIXEL)).status_code == 201


async def test_an_upload_that_sends_nothing_ends(mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GALLERY))
    guard = importlib.import_module("guard")
    monkeypatch.delitem(sys.modules, "guard")
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])
        await Response("over")(scope, receive, send)

    exchange = Exchange("POST", ("host", "localhost"))
    exchange.scope["client"] = ("192.0.2.1", 5)
    first: list[Message] = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError("nothing more is sent")

    await guard.Guard(app, patience=0.01)(exchange.scope, receive, exchange.send)
    assert seen == ["http.request", "http.disconnect"]
    assert exchange.body == b"over"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../service.py",
        "/static/%2e%2e/service.py",
        "/static/..%2fservice.py",
        "/static//etc/passwd",
        "/static/",
        "/static/%00",
    ],
)
async def test_static_files_are_those_of_the_folder(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code in (404, 405)


@pytest.mark.parametrize("id", ["x", "$ne", "[$ne]", "000000000000000000000000", "{}", "%00", "../items"])
async def test_ids_in_the_path(browser: httpx.AsyncClient, id: str) -> None:
    for answer in (await browser.get(f"/items/{id}/file"), await browser.delete(f"/items/{id}")):
        assert answer.status_code in (404, 405, 422)


async def test_an_upload_in_parts_becomes_an_item(browser: httpx.AsyncClient) -> None:
    tus = {"tus-resumable": "1.0.0"}
    named = {"upload-length": str(len(PIXEL)), "upload-metadata": f"filename {base64.b64encode(b'a.gif').decode()}"}
    begun = await browser.post("/uploads/", headers={**tus, **named})
    assert begun.status_code == 201
    part = {**tus, "content-type": "application/offset+octet-stream", "upload-offset": "0"}
    for site, status in (("cross-site", 403), ("same-origin", 204)):
        fields = {**part, "sec-fetch-site": site}
        sent = await browser.patch(begun.headers["location"], headers=fields, content=PIXEL)
        assert sent.status_code == status, sent.text
    [item] = (await browser.get("/items")).json()
    assert (item["name"], item["type"]) == ("a.gif", "image/gif")
    assert begun.headers["location"].startswith(f"/uploads/{item['id']}-")
    assert (await browser.get(item["url"])).content == PIXEL
    for _ in range(2):
        assert (await browser.head(begun.headers["location"], headers=tus)).status_code == 200
    assert (await browser.get(f"/items/{item['id']}")).json() == item
    assert (await browser.get("/summary")).json() == {"items": 1, "size": len(PIXEL)}
    assert (await browser.delete(f"/items/{item['id']}")).status_code == 204
    assert (await browser.head(begun.headers["location"], headers=tus)).status_code == 404
