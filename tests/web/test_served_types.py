"""G4: what Chromium does with each type of stored file, by its address, in a page of the same site, and in another one.

The table in docs/security.md is made here.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gridproxy import Bucket
from gridproxy.adapters.starlette import GridFileResponse
from tests.web.asgi import Exchange
from tests.web.chromium import ARGUMENTS, CHROMIUM
from tests.web.raw import serve
from tests.web.webm import webm

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
FIELDS = ("content-type", "content-disposition", "content-security-policy")
# What each of these would do if a browser ran it.
RUN = "document.title = 'RAN'"
HTML = f"<title>no</title><body>a marmot<script>{RUN}</script>".encode()
SVG = f"<svg xmlns='http://www.w3.org/2000/svg' width='30' height='20'><script>{RUN}</script></svg>".encode()
XSL = (
    b"<x:stylesheet version='1.0' xmlns:x='http://www.w3.org/1999/XSL/Transform'><x:template match='/'>"
    b"<html><script>document.title = 'RAN'</script></html></x:template></x:stylesheet>"
)
SCRIPT = (
    b"globalThis.ran = 'RAN'; if (globalThis.document) document.title = 'RAN'; else globalThis.postMessage?.('RAN')"
)
CSS = b"body { --ran: RAN; color: rgb(1, 2, 3) }"
WASM = bytes.fromhex("0061736d01000000")


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, kind)
    return buffer.getvalue()


@dataclass(frozen=True)
class Row:
    """A kind of stored files, one content of it, and what a browser does with it when it is opened by its address."""

    name: str
    kinds: tuple[str, ...]
    content: bytes
    opened: str
    embedded: str


ROWS = [
    Row("HTML", ("text/html", "application/xhtml+xml"), HTML, "saves it", "a frame saves it"),
    Row("SVG", ("image/svg+xml",), SVG, "saves it", "`<img>` shows it, and runs no script of it"),
    Row("XML", ("application/xml", "text/xml", "application/rss+xml"), b"<a/>", "saves it", "a frame saves it"),
    Row(
        "scripts",
        (
            "text/javascript",
            "application/javascript",
            "application/x-javascript",
            "text/ecmascript",
            "text/jscript",
        ),
        SCRIPT,
        "saves it",
        "no `<script>`, module, worker or service worker runs it",
    ),
    Row("style sheets", ("text/css", "text/xsl", "application/xslt+xml"), CSS, "saves it", "no page applies it"),
    Row("WebAssembly", ("application/wasm",), WASM, "saves it", "no page compiles it from the response"),
    Row("pictures", ("image/png",), picture("PNG"), "shows it", "`<img>` shows it"),
    Row("sound and films", ("video/webm",), b"", "plays it", "`<video>` plays it"),
    Row("text", ("text/plain",), HTML, "shows it as text", "no `<script>` runs it"),
    Row("PDF", ("application/pdf",), picture("PDF"), "shows it in its viewer", "a frame shows it in its viewer"),
    Row(
        "all others",
        ("application/octet-stream", "application/zip", "text/csv", "no type"),
        HTML,
        "saves it",
        "no `<script>` runs it",
    ),
]


def content_of(row: Row) -> bytes:
    return row.content or webm([Image.effect_noise((160, 120), 80 + at) for at in range(4)], 1)


async def stored(bucket: Bucket, row: Row, kind: str) -> str:
    id = f"{row.name} {kind}".replace("/", "_").replace(" ", "-").replace("+", "_")
    await bucket.upload(content_of(row), id=id, content_type=kind)
    return id


def table(fields: dict[str, list[dict[str, str]]]) -> str:
    heads = [
        "stored type",
        "Content-Type",
        "Content-Disposition",
        "Content-Security-Policy",
        "by its address",
        "in a page",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in ROWS:
        sent = fields[row.name]
        kept = sent[0]["content-type"] != "application/octet-stream" or row.name == "all others"
        first, disposition, policy = ({each.get(name, "") for each in sent} for name in FIELDS)
        assert len(disposition) == len(policy) == 1, row.name
        assert kept or first == {"application/octet-stream"}
        kind = "as stored" if kept else f"`{next(iter(first))}`"
        cells = [kind, *(f"`{next(iter(each))}`" if next(iter(each)) else "none" for each in (disposition, policy))]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.opened} | {row.embedded} |")
    return "\n".join(lines)


async def test_the_table_in_the_guide_is_what_is_sent(database: AsyncDatabase[dict[str, object]]) -> None:
    bucket = Bucket(database)
    fields: dict[str, list[dict[str, str]]] = {}
    for row in ROWS:
        for kind in row.kinds:
            exchange = await Exchange().run(GridFileResponse(bucket.file(await stored(bucket, row, kind))))
            fields.setdefault(row.name, []).append(exchange.fields)
            assert exchange.fields["x-content-type-options"] == "nosniff"
            assert exchange.fields["cache-control"] == "private"
            assert exchange.fields["cross-origin-resource-policy"] == "same-origin"
    assert table(fields) in PAGE.read_text()


# In Chromium

chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


def site(bucket: Bucket) -> Starlette:
    async def file(request: Request) -> Response:
        as_stored = request.query_params.get("told")
        return GridFileResponse(
            bucket.file(request.path_params["id"]),
            media_type=as_stored,
            content_disposition_type="inline" if "inline" in request.query_params else None,
            resource_policy="" if "open" in request.query_params else None,
        )

    async def page(request: Request) -> Response:
        # The policy under which stored scripts ran: those of the page's own site.
        return HTMLResponse("<title>page</title><body>", headers={"content-security-policy": "default-src 'self'"})

    async def bare(request: Request) -> Response:
        return HTMLResponse("<title>page</title><body>")

    return Starlette(routes=[Route("/files/{id}", file), Route("/page", page), Route("/bare", bare)])


async def open_address(page: Page, url: str) -> str:
    """Return what the browser does with the address: "saved", or the kind of document that it shows."""
    from playwright.async_api import Error

    try:
        await page.goto(url)
    except Error as error:
        if "Download is starting" in str(error):
            return "saved"
        raise
    if await page.locator("video").count():
        await page.wait_for_function("document.querySelector('video').readyState >= 2")
        return "played"
    if await page.locator("img").count():
        assert await page.evaluate("document.querySelector('img').naturalWidth") == 30
        return "shown"
    if await page.evaluate("document.contentType") == "application/pdf":
        return "viewer"
    text = await page.locator("body").inner_text()
    return "text" if "<script>" in text else f"document {await page.title()}"


@chromium
async def test_each_type_opened_by_its_address(database: AsyncDatabase[dict[str, object]], browser: Browser) -> None:
    bucket = Bucket(database)
    words = {"saves it": "saved", "shows it": "shown", "plays it": "played", "shows it as text": "text"}
    async with serve(site(bucket)) as running:
        for row in ROWS:
            for kind in row.kinds:
                id = await stored(bucket, row, kind)
                async with await browser.new_context() as context:
                    page = await context.new_page()
                    done = await open_address(page, f"{running.url}/files/{id}")
                    assert done == words.get(row.opened, "viewer"), (row.name, kind)


# Each returns "RAN" if the browser runs or applies the file.
WAYS = {
    "script": """(url) => new Promise((end) => {
        const script = document.createElement('script');
        script.src = url; script.onload = script.onerror = () => end(globalThis.ran || 'refused');
        document.body.append(script); })""",
    "module": """(url) => import(url).then(() => globalThis.ran || 'refused', () => 'refused')""",
    "worker": """(url) => new Promise((end) => {
        const worker = new Worker(url);
        worker.onmessage = (event) => end(event.data); worker.onerror = () => end('refused'); })""",
    "service worker": """(url) => navigator.serviceWorker.register(url).then(() => 'RAN', () => 'refused')""",
    "style": """(url) => new Promise((end) => {
        const link = document.createElement('link');
        link.rel = 'stylesheet'; link.href = url;
        link.onload = link.onerror = () =>
            end(getComputedStyle(document.body).color === 'rgb(1, 2, 3)' ? 'RAN' : 'refused');
        document.head.append(link); })""",
    "wasm": """(url) => WebAssembly.compileStreaming(fetch(url)).then(() => 'RAN', () => 'refused')""",
}
LOADERS = {
    "scripts": ("script", "module", "worker", "service worker"),
    "style sheets": ("style",),
    "WebAssembly": ("wasm",),
    "text": ("script", "module", "worker", "style"),
    "all others": ("script", "module", "worker", "style"),
    "HTML": ("script", "worker"),
}


@chromium
async def test_no_page_of_the_site_runs_a_stored_file(
    database: AsyncDatabase[dict[str, object]], browser: Browser
) -> None:
    """An application that asks for the type gets it: this shows that the ways above can run a file."""
    bucket = Bucket(database)
    async with serve(site(bucket)) as running:
        url = running.url.replace("127.0.0.1", "localhost")
        for row in ROWS:
            for kind in row.kinds if row.name in LOADERS else ():
                id = await stored(bucket, row, kind)
                asking = ["", f"?told={kind}"] if kind in ("text/javascript", "text/css", "application/wasm") else [""]
                for way in LOADERS[row.name]:
                    for asked in asking:
                        async with await browser.new_context() as context:
                            page = await context.new_page()
                            # WebAssembly needs another policy than scripts.
                            await page.goto(f"{url}/{'bare' if way == 'wasm' else 'page'}")
                            done = await page.evaluate(WAYS[way], f"/files/{id}{asked}")
                            assert done == ("RAN" if asked else "refused"), (kind, way, asked)


@chromium
async def test_what_a_page_of_the_site_shows(database: AsyncDatabase[dict[str, object]], browser: Browser) -> None:
    bucket = Bucket(database)
    rows = {row.name: row for row in ROWS}
    async with serve(site(bucket)) as running, await browser.new_context() as context:
        page = await context.new_page()
        for name, kind in (("pictures", "image/png"), ("SVG", "image/svg+xml")):
            id = await stored(bucket, rows[name], kind)
            await page.goto(f"{running.url}/page")
            shown = await page.evaluate(
                """async (url) => { const img = new Image(); img.src = url; document.body.append(img);
                   await img.decode(); return [img.naturalWidth, document.title]; }""",
                f"/files/{id}",
            )
            assert shown == [30, "page"]
        id = await stored(bucket, rows["sound and films"], "video/webm")
        played = await page.evaluate(
            """(url) => new Promise((end) => { const video = document.createElement('video'); video.src = url;
               video.onloadeddata = () => end('played'); video.onerror = () => end('refused');
               document.body.append(video); })""",
            f"/files/{id}",
        )
        assert played == "played"
        id = await stored(bucket, rows["PDF"], "application/pdf")
        saved: list[str] = []
        page.on("download", lambda download: saved.append(download.url))
        loaded = await page.evaluate(
            """(url) => new Promise((end) => { const frame = document.createElement('iframe'); frame.src = url;
               frame.onload = () => end('loaded'); document.body.append(frame); })""",
            f"/files/{id}",
        )
        assert (loaded, saved) == ("loaded", [])
        # An SVG or HTML in a frame is saved, and never a document of the site.
        for name, kind in (("SVG", "image/svg+xml"), ("HTML", "text/html"), ("XML", "text/xml")):
            id = await stored(bucket, rows[name], kind) if name != "SVG" else "SVG-image_svg_xml"
            await page.goto(f"{running.url}/page")
            async with page.expect_download():
                await page.evaluate(
                    """(url) => { const frame = document.createElement('iframe'); frame.src = url;
                       document.body.append(frame); }""",
                    f"/files/{id}",
                )
            assert await page.evaluate("frames[0].document.body?.innerText ?? ''") == ""


@chromium
async def test_a_document_that_is_shown_inline_runs_no_script(
    database: AsyncDatabase[dict[str, object]], browser: Browser
) -> None:
    bucket = Bucket(database)
    async with serve(site(bucket)) as running:
        for row in ROWS[:2]:
            for kind in row.kinds:
                id = await stored(bucket, row, kind)
                async with await browser.new_context() as context:
                    page = await context.new_page()
                    await page.goto(f"{running.url}/files/{id}?inline")
                    assert await page.title() != "RAN"
                    assert await page.evaluate("origin") == "null"


@chromium
async def test_pages_of_other_sites_load_nothing_unless_the_application_allows_it(
    database: AsyncDatabase[dict[str, object]], browser: Browser
) -> None:
    bucket = Bucket(database)
    row = next(row for row in ROWS if row.name == "pictures")
    id = await stored(bucket, row, "image/png")
    async with serve(site(bucket)) as running, await browser.new_context() as context:
        page = await context.new_page()
        other = running.url.replace("127.0.0.1", "localhost")
        for path, end in ((f"/files/{id}", "refused"), (f"/files/{id}?open", "shown")):
            await page.goto(f"{other}/bare")
            done = await page.evaluate(
                """(url) => new Promise((end) => { const img = new Image(); img.src = url;
                   img.onload = () => end('shown'); img.onerror = () => end('refused'); })""",
                running.url + path,
            )
            assert done == end
