"""The service on the page about serving runs, with clients that others wrote."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from pymongo import AsyncMongoClient

from gridproxy import Bucket
from gridproxy.adapters.starlette import SignedLinks
from tests.web.chromium import ARGUMENTS, CHROMIUM
from tests.web.tus_js import asked

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
KEY = "a key of the test, 0123456789"
CURL = shutil.which("curl")


@asynccontextmanager
async def service(folder: Path, uri: str) -> AsyncIterator[str]:
    """Start the first block of the page with uvicorn, and yield the upload link that it prints."""
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    assert found[0] in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert len([line for line in found[1].splitlines() if line and "import" not in line]) <= 10
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "service.py").write_text(found[1].replace("localhost:8000", f"127.0.0.1:{port}"))
    command = (sys.executable, "-u", "-m", "uvicorn", "service:app", "--port", str(port))
    # From the folder, so that the service is found. This package is found as it is here.
    paths = [str(Path(__file__).parents[2]), *sys.path]
    environment = {
        **os.environ,
        "MONGODB_URI": uri,
        "LINK_KEY": KEY,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    server = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        printed = (await server.stdout.readline()).decode()
        while b"Uvicorn running" not in (line := await server.stderr.readline()):
            assert line, "the service ended"
        yield printed.rpartition(" ")[2].strip()
    finally:
        server.terminate()
        await server.communicate()


async def curl(*arguments: str) -> tuple[int, str, bytes]:
    """Return the status, the header in lower case and the body of a response."""
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL, "--silent", "--include", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    body = out
    head = b"HTTP/1.1 100 "
    while head.startswith(b"HTTP/1.1 100 "):
        head, _, body = body.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


@pytest.mark.skipif(CURL is None, reason="needs curl")
async def test_curl_uploads_and_downloads_by_links(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "marmot.bin").write_bytes(content)
    file = tmp_path / "marmot.bin"
    try:
        async with service(tmp_path, mongodb_uri) as link:
            status, _, body = await curl("--form", f"file=@{file}", link)
            assert status == 201
            (stored,) = json.loads(body)
            assert (stored["filename"], stored["length"]) == ("marmot.bin", len(content))
            assert (await curl("--data-binary", f"@{file}", link))[0] == 201
            links = SignedLinks(keys=[KEY])
            url = links.url(
                f"{link.partition('/files/')[0]}/files", stored["id"], expires_in=60, app=Bucket(client["zoo"])
            )
            assert (await curl("--range", "0-9", url))[::2] == (206, content[:10])
            # Only the link is a permission, and only for what it says.
            address = url.partition("?")[0]
            assert (await curl(address))[0] == 403
            assert (await curl("--request", "DELETE", f"{address}?{link.partition('?')[2]}"))[0] == 403
            assert (await curl("--data-binary", f"@{file}", link[:-1]))[0] == 403
    finally:
        await client.drop_database("zoo")


async def test_tus_js_client_resumes_an_upload_by_the_link(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], modules: Path, tmp_path: Path
) -> None:
    content = os.urandom(300_000)
    (tmp_path / "marmot.bin").write_bytes(content)
    try:
        async with service(tmp_path, mongodb_uri) as link:
            order = {"endpoint": link.replace("/files/", "/resumable/"), "chunkSize": 100_000}
            begun = await asked(modules, tmp_path / "marmot.bin", **order, stopAt=100_000)
            events = await asked(modules, tmp_path / "marmot.bin", url=dict(begun)["url"], chunkSize=100_000)
            assert [each for event, each in events if event == "chunk"] == [200_000, 300_000], events
            links = SignedLinks(keys=[KEY])
            id = dict(begun)["url"].rpartition("/")[2][:24]
            prefix = f"{link.partition('/files/')[0]}/files"
            url = links.url(prefix, id, expires_in=60, app=Bucket(client["zoo"]))
            async with httpx.AsyncClient() as other:
                assert (await other.get(url)).content == content
    finally:
        await client.drop_database("zoo")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")
async def test_a_browser_sends_a_form_and_shows_a_picture_by_links(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    from playwright.async_api import async_playwright

    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    try:
        async with service(tmp_path, mongodb_uri) as link, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = await browser.new_page()
            await page.set_content(
                f'<form action="{link}" method="post" enctype="multipart/form-data">'
                '<input type="hidden" name="title" value="a picture"><input type="file" name="file"><button>'
            )
            await page.set_input_files("input[type=file]", tmp_path / "red.png")
            async with page.expect_navigation():
                await page.click("button")
            (stored,) = json.loads(await page.inner_text("body"))
            assert (stored["filename"], stored["content_type"]) == ("red.png", "image/png")
            links, prefix = SignedLinks(keys=[KEY]), f"{link.partition('/files/')[0]}/files"
            url = links.url(prefix, stored["id"], expires_in=60, app=Bucket(client["zoo"]))
            answer = await page.goto(url)
            assert answer is not None
            assert answer.status == 200
            assert await page.evaluate("document.images[0].naturalWidth") == 30
            refused = await page.goto(f"{url}x")
            assert refused is not None
            assert refused.status == 403
            await browser.close()
    finally:
        await client.drop_database("zoo")
