"""TusApp with clients that others wrote, and with clients that mean harm."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message
from tusclient.client import TusClient

from gridproxy import BadOption, Bucket, FileInfo, FileOptions, ImageOptions
from gridproxy.adapters.starlette import SignedLinks
from gridproxy.adapters.starlette.authorize import Authorize, Grant
from gridproxy.adapters.tus import TusApp
from gridproxy.gridfs.resumable import lease
from gridproxy.gridfs.resumable.resumable_upload import ResumableUpload
from tests.web.asgi import Exchange
from tests.web.chromium import ARGUMENTS, CHROMIUM
from tests.web.raw import serve
from tests.web.tus_js import asked, uppy

CONTENT = bytes(range(256)) * 400  # 100 KiB
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}


async def anybody(request: Request, action: str, info: FileInfo | None) -> bool:
    return True


@pytest.fixture
def bucket(database: AsyncDatabase[dict[str, Any]]) -> Bucket:
    return Bucket(database, chunk_size=10_000)


@asynccontextmanager
async def browser(app: ASGIApp, prefix: str = "/uploads") -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application, which is mounted."""
    site = Starlette(routes=[Mount(prefix, app)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://test" + prefix) as client:
        yield client


def app_for(bucket: Bucket, authorize: Authorize = anybody, **options: Any) -> TusApp:
    return TusApp(bucket, authorize=authorize, **options)


async def created(client: httpx.AsyncClient, length: int | None = len(CONTENT), **headers: str) -> str:
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = await client.post("/", headers={**TUS, **size, **headers})
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def id_in(location: str) -> str:
    found = re.search("/([0-9a-f]{24})-", location)
    assert found is not None
    return found[1]


async def nothing_is_left(bucket: Bucket) -> bool:
    return not any(
        [await bucket.database[name].count_documents({}) for name in ("fs.files", "fs.chunks", "fs.uploads")]
    )


# Clients that others wrote


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    "way",
    [{}, {"during": True}, {"deferred": True}],
    ids=["in parts", "with the creation", "of unknown length"],
)
async def test_tus_js_client_uploads_a_file(bucket: Bucket, modules: Path, path: Path, way: dict[str, Any]) -> None:
    async with serve(app_for(bucket)) as site:
        events = await asked(
            modules,
            path,
            endpoint=site.url + "/",
            metadata={"filename": "Käse.bin", "filetype": "a/b"},
            chunkSize=30_000,
            **way,
        )
    assert events[-1][0] == "success", events
    info = await bucket.find_one({"filename": "Käse.bin"})
    assert info is not None
    assert str(info.id) == id_in(events[-1][1])
    assert (info.content_type, info.sha256) == ("a/b", hashlib.sha256(CONTENT).hexdigest())
    assert await bucket.read(info.id) == CONTENT


async def test_tus_js_client_resumes_with_another_process_of_the_service_and_terminates(
    bucket: Bucket, modules: Path, path: Path
) -> None:
    async with serve(app_for(bucket)) as site:
        events = await asked(modules, path, endpoint=site.url + "/", chunkSize=30_000, stopAt=60_000)
        url = dict(events)["url"].removeprefix(site.url)
    assert ("stopped", 60_000) in events
    # A new process has no digests.
    other = Bucket(bucket.database, chunk_size=10_000)
    async with serve(app_for(other)) as site:
        events = await asked(modules, path, url=site.url + url, chunkSize=30_000)
        assert [each for event, each in events if event == "chunk"] == [90_000, len(CONTENT)], events
        assert await bucket.read((await bucket.find_one() or pytest.fail("no file")).id) == CONTENT

        events = await asked(modules, path, endpoint=site.url + "/", chunkSize=30_000, stopAt=30_000)
        url = dict(events)["url"]
        assert await asked(modules, path, url=url, terminate=True) == [("terminated", None)]
        events = await asked(modules, path, url=url, chunkSize=30_000)
        assert events[-1] == ("error", 404)


async def test_tus_js_client_waits_for_the_lease_of_a_dead_server(
    bucket: Bucket, modules: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.5)
    async with serve(app_for(bucket)) as site:
        events = await asked(modules, path, endpoint=site.url + "/", chunkSize=30_000, stopAt=30_000)
        found = await bucket.resume((await bucket.database["fs.uploads"].find_one() or {})["_id"])
        held = lease.Lease(found._uploads, found._upload)
        await held.take(30_000)
        events = await asked(modules, path, url=dict(events)["url"], chunkSize=30_000)
    assert events[-1][0] == "success", events


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")
async def test_uppy_uploads_a_file_and_goes_on_after_a_pause(bucket: Bucket) -> None:
    from playwright.async_api import async_playwright

    site = Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse("<script src=/uppy.js></script>")),
            Route("/uppy.js", lambda _: Response(uppy(), media_type="text/javascript")),
            Mount("/uploads", app_for(bucket)),
        ]
    )
    async with serve(site) as served, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(served.url)
        result = await page.evaluate(
            """async () => {
                const uppy = new Uppy.Uppy().use(Uppy.Tus, { endpoint: "/uploads/", chunkSize: 1e6 });
                const data = new Blob([new Uint8Array(4_000_000).fill(7)]);
                const id = uppy.addFile({ name: "Käse.bin", type: "a/b", data });
                let paused = 0;
                uppy.on("upload-progress", (file, { bytesUploaded }) => {
                    if (paused || bytesUploaded < 1e6) return;
                    paused = bytesUploaded;
                    uppy.pauseResume(id);
                    setTimeout(() => uppy.pauseResume(id), 200);
                });
                const { successful, failed } = await uppy.upload();
                return [successful.length, failed.length, paused > 0 && paused < 4e6];
            }"""
        )
        await browser.close()
    assert result == [1, 0, True]
    info = await bucket.find_one({"filename": "Käse.bin"})
    assert info is not None
    assert (info.content_type, await bucket.read(info.id)) == ("a/b", bytes([7]) * 4_000_000)


async def test_tuspy_uploads_and_resumes_a_file_with_checksums(bucket: Bucket, path: Path) -> None:
    def upload(url: str) -> None:
        client = TusClient(url + "/")
        with path.open("rb") as content:
            options = {"file_stream": content, "chunk_size": 30_000, "upload_checksum": True}
            uploader = client.uploader(**options, metadata={"filename": "a.bin"})
            uploader.upload_chunk()  # type: ignore[no-untyped-call]  # tuspy has few types
            again = client.uploader(**options, url=uploader.url)
            assert again.offset == 30_000
            again.upload()

    async with serve(app_for(bucket)) as site:
        await asyncio.to_thread(upload, site.url)
    info = await bucket.find_one({"filename": "a.bin"})
    assert info is not None
    assert await bucket.read(info.id) == CONTENT


# The protocol


async def test_an_upload_step_by_step(bucket: Bucket) -> None:
    metadata = f"filename {b64('a.txt')},draft"
    async with browser(app_for(bucket, options=FileOptions(max_size=10**6))) as client:
        options = await client.options("/")
        assert (options.status_code, options.headers["tus-max-size"]) == (204, "1000000")
        assert "sha1" in options.headers["tus-checksum-algorithm"]
        location = await created(client, 20, **{"Upload-Metadata": metadata})
        assert location.startswith("/uploads/")
        url = "http://test" + location
        for sent, offset, status in ((b"0123456789", 0, 204), (b"0123456789", 0, 409), (b"", 10, 204)):
            answer = await client.patch(url, headers={**PATCH, "Upload-Offset": str(offset)}, content=sent)
            assert (answer.status_code, answer.headers["upload-offset"]) == (status, "10")
            assert answer.headers["tus-resumable"] == "1.0.0"
        head = await client.head(url, headers=TUS)
        assert head.status_code == 200
        assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("10", "20")
        assert (head.headers["upload-metadata"], head.headers["cache-control"]) == (metadata, "no-store")
        assert head.headers["upload-expires"].endswith("GMT")
        override = {**PATCH, "Upload-Offset": "10", "X-HTTP-Method-Override": "PATCH"}
        for _ in range(2):  # the second one is a repetition whose first answer was lost
            override["Upload-Offset"] = (await client.head(url, headers=TUS)).headers["upload-offset"]
            rest = b"9876543210"[int(override["Upload-Offset"]) - 10 :]
            assert (await client.post(url, headers=override, content=rest)).status_code == 204
        head = await client.head(url, headers=TUS)
        assert (head.headers["upload-offset"], "upload-expires" in head.headers) == ("20", False)
        late = await client.patch(url, headers={**PATCH, "Upload-Offset": "5"}, content=b"x")
        assert late.status_code == 410
        assert (await client.delete(url, headers=TUS)).status_code == 410
    info = await bucket.find_one({"filename": "a.txt"})
    assert info is not None
    assert (str(info.id), await bucket.read(info.id)) == (id_in(location), b"01234567899876543210")


async def test_an_empty_file_and_one_that_is_sent_with_its_creation(bucket: Bucket) -> None:
    async with browser(app_for(bucket)) as client:
        await created(client, 0)
        answer = await client.post("/", headers={**PATCH, "Upload-Length": "7"}, content=b"content")
        assert (answer.status_code, answer.headers["upload-offset"]) == (201, "7")
    assert sorted([await bucket.read(info.id) async for info in bucket.find()]) == [b"", b"content"]


async def test_a_checksum_that_is_wrong_stores_nothing(bucket: Bucket) -> None:
    async with browser(app_for(bucket)) as client:
        location = await created(client, 14)
        for algorithm in ("sha1", "sha256", "md5"):
            digest = hashlib.new(algorithm, b"content", usedforsecurity=False).digest()
            headers = {**PATCH, "Upload-Offset": "0", "Upload-Checksum": f"{algorithm} {b64(digest)}"}
            wrong = await client.patch("http://test" + location, headers=headers, content=b"CONTENT")
            assert (wrong.status_code, wrong.json()["title"]) == (460, "Checksum Mismatch")
        assert (await client.head("http://test" + location, headers=TUS)).headers["upload-offset"] == "0"
        headers = {**PATCH, "Upload-Offset": "0", "Upload-Checksum": "md5 mgNkuembtIDdJeHwKEyFVQ=="}
        right = await client.patch("http://test" + location, headers=headers, content=b"content")
        assert right.headers["upload-offset"] == "7"


async def test_a_head_ends_an_upload_whose_server_died_after_the_last_bytes(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = ResumableUpload.finish

    async def dies(self: ResumableUpload) -> FileInfo:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumableUpload, "finish", dies)
    async with browser(app_for(bucket)) as client:
        location = await created(client, 7)
        with pytest.raises(KeyboardInterrupt):
            await client.patch("http://test" + location, headers={**PATCH, "Upload-Offset": "0"}, content=b"content")
        monkeypatch.setattr(ResumableUpload, "finish", finish)
        assert (await client.head("http://test" + location, headers=TUS)).headers["upload-offset"] == "7"
    assert await bucket.exists({})


async def test_what_is_done_for_a_stored_file_is_repeated_until_the_client_knows(bucket: Bucket) -> None:
    calls: list[FileInfo] = []

    async def stored(request: Request, info: FileInfo) -> None:
        calls.append(info)
        if len(calls) == 1:
            raise HTTPException(503, "Try again.")

    async with browser(app_for(bucket, on_stored=stored)) as client:
        url = "http://test" + await created(client, 7)
        headers = {**PATCH, "Upload-Offset": "0"}
        assert (await client.patch(url, headers=headers, content=b"content")).status_code == 503
        assert (await client.head(url, headers=TUS)).status_code == 200
        headers["Upload-Offset"] = "7"
        assert (await client.patch(url, headers=headers, content=b"")).status_code == 204
        assert calls == [await bucket.find_one()] * 3
        await bucket.delete(calls[0].id)
        assert (await client.head(url, headers=TUS)).status_code == 404
    assert len(calls) == 3


async def test_limits_are_answered_in_words(bucket: Bucket) -> None:
    options = FileOptions(max_size=100, content_types="image/png")
    async with browser(app_for(bucket, options=options)) as client:
        large = await client.post("/", headers={**TUS, "Upload-Length": "101"})
        assert (large.status_code, "100 bytes" in large.json()["detail"]) == (413, True)
        location = await created(client, 5, **{"Upload-Metadata": f"filename {b64('a.png')}"})
        refused = await client.patch(
            "http://test" + location, headers={**PATCH, "Upload-Offset": "0"}, content=b"<svg>"
        )
        assert refused.status_code == 415
        assert "PNG" in refused.json()["detail"]
        growing = await created(client, None)
        grown = await client.patch("http://test" + growing, headers={**PATCH, "Upload-Offset": "0"}, content=bytes(101))
        assert grown.status_code == 413
        announced = await created(client, None)
        headers = {**PATCH, "Upload-Offset": "0", "Upload-Length": "1000"}
        assert (await client.patch("http://test" + announced, headers=headers, content=b"")).status_code == 413
        headers["Upload-Length"] = "5"
        assert (await client.patch("http://test" + announced, headers=headers, content=b"12")).status_code == 204
        assert (await client.head("http://test" + announced, headers=TUS)).headers["upload-length"] == "5"
        await client.delete("http://test" + announced, headers=TUS)
    assert await nothing_is_left(bucket)


# Clients that mean harm


async def test_an_application_without_authorize_does_not_start(bucket: Bucket) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"authorize": None},
        {"authorize": "me"},
        {"authorize": anybody, "max_uploads": 0},
        {"authorize": anybody, "stall_timeout": 0},
    ]
    for options in wrong:
        with pytest.raises(BadOption):
            TusApp(bucket, **options)
    with pytest.raises(BadOption, match="image"):
        TusApp(bucket, authorize=anybody, options=FileOptions(image=ImageOptions()))


async def test_without_permission_nothing_can_be_begun_seen_continued_or_ended(bucket: Bucket) -> None:
    allowed = True
    seen: list[tuple[str, Any]] = []

    async def check(request: Request, action: str, info: FileInfo | None) -> bool | Grant:
        seen.append((action, None if info is None else info.metadata.get("owner")))
        return Grant(metadata={"owner": 7}, filename="mine.txt", max_size=50) if allowed else False

    async with browser(app_for(bucket, check)) as client:
        assert (await client.post("/", headers={**TUS, "Upload-Length": "51"})).status_code == 413
        location = await created(client, 10, **{"Upload-Metadata": f"filename {b64('yours.txt')}"})
        url = "http://test" + location
        allowed = False
        for wrong in (url, url[:-1] + ("A" if url[-1] != "A" else "B"), "http://test/uploads/nothing"):
            assert (await client.post("/", headers={**TUS, "Upload-Length": "1"})).status_code == 403
            assert (await client.head(wrong, headers=TUS)).status_code == 403
            answer = await client.patch(wrong, headers={**PATCH, "Upload-Offset": "0"}, content=b"x")
            assert answer.status_code == 403
            assert (await client.delete(wrong, headers=TUS)).status_code == 403
        allowed = True
        assert (await client.head(url, headers=TUS)).headers["upload-offset"] == "0"
        await client.patch(url, headers={**PATCH, "Upload-Offset": "0"}, content=b"0123456789")
    assert {action for action, _ in seen} == {"create"}
    assert seen[-1] == ("create", 7)
    info = await bucket.find_one()
    assert info is not None
    assert (info.filename, info.metadata["owner"]) == ("mine.txt", 7)


async def test_the_address_of_an_upload_cannot_be_guessed(bucket: Bucket) -> None:
    async with browser(app_for(bucket)) as client:
        location = await created(client, 10)
        id = id_in(location)
        other = (await created(client, 10)).partition("-")[2]
        file = await bucket.upload(b"a file")
        for key in (
            id,
            f"{id}-",
            f"{id}-{'A' * 22}",
            f"{id}-{other}",
            str(file.id),
            f"{file.id}-{other}",
            "..",
            "%00",
            "$ne",
        ):
            for method, headers in (("HEAD", TUS), ("PATCH", {**PATCH, "Upload-Offset": "0"}), ("DELETE", TUS)):
                answer = await client.request(method, f"http://test/uploads/{key}", headers=headers)
                assert answer.status_code in (404, 405), key
        assert (await client.head("http://test" + location, headers=TUS)).status_code == 200
        # The database does not give the secret away.
        document = await bucket.database["fs.uploads"].find_one() or {}
        assert location.partition("-")[2] not in str(document)


async def test_a_signed_link_allows_one_upload_as_it_says(bucket: Bucket) -> None:
    links = SignedLinks(keys=["a secret of sixteen bytes"])
    async with browser(app_for(bucket, links)) as client:
        link = links.url("/", expires_in=60, method="POST", max_size=10, filename="named.txt")
        assert (await client.post("/", headers={**TUS, "Upload-Length": "5"})).status_code == 403
        assert (await client.post(link, headers={**TUS, "Upload-Length": "11"})).status_code == 413
        assert (await client.post(link + "0", headers={**TUS, "Upload-Length": "5"})).status_code == 403
        answer = await client.post(link, headers={**TUS, "Upload-Length": "5"})
        url = "http://test" + answer.headers["location"]
        headers = {**PATCH, "Upload-Offset": "0"}
        assert (await client.patch(url.partition("?")[0], headers=headers, content=b"01234")).status_code == 403
        assert (await client.patch(url, headers=headers, content=b"01234")).status_code == 204
    assert await bucket.exists({"filename": "named.txt", "length": 5})


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Upload-Length": "1"}, 412),
        ("POST", {**TUS, "Upload-Length": "-1"}, 400),
        ("POST", {**TUS, "Upload-Length": "9" * 4000}, 400),
        ("POST", {**TUS, "Upload-Length": str(2**63 - 1)}, 413),
        ("POST", {**TUS, "Upload-Length": "1", "Upload-Metadata": f"filename {b64('a')}\r\nX-Evil: 1"}, 400),
        ("POST", {**TUS, "Upload-Length": "1", "Upload-Metadata": f"filename {b64('a' + chr(0))}"}, 400),
        ("POST", {**TUS, "Upload-Length": "1", "X-HTTP-Method-Override": "PATCH"}, 405),
        ("GET", TUS, 405),
        ("PUT", TUS, 405),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_wrong_requests_begin_nothing(bucket: Bucket, method: str, headers: dict[str, str], status: int) -> None:
    app = app_for(bucket, options=FileOptions(max_size=10**12))
    exchange = await Exchange(method, *[(name.lower(), value) for name, value in headers.items()]).run(app)
    assert exchange.status == status
    assert exchange.fields["content-type"] == "application/problem+json"
    assert not any("evil" in name.lower() for name in exchange.fields)
    assert await nothing_is_left(bucket)


async def test_names_with_line_breaks_reach_no_header(bucket: Bucket) -> None:
    name, kind = b64("a.txt\r\nX-Evil: 1"), b64("text/plain\r\nX-Evil: 1")
    evil = f"filename {name},filetype {kind}"
    async with browser(app_for(bucket)) as client:
        location = await created(client, 0, **{"Upload-Metadata": evil})
        head = await client.head("http://test" + location, headers=TUS)
        assert (head.headers["upload-metadata"], "x-evil" in head.headers) == (evil, False)


async def test_bytes_beyond_the_length_are_not_stored(bucket: Bucket) -> None:
    async def body(*pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async with browser(app_for(bucket)) as client:
        url = "http://test" + await created(client, 10)
        for headers, content in (
            ({**PATCH, "Upload-Offset": "0"}, bytes(11)),
            ({**PATCH, "Upload-Offset": "0"}, body(b"01234", b"567890")),
        ):
            assert (await client.patch(url, headers=headers, content=content)).status_code == 413
        beyond = await client.patch(url, headers={**PATCH, "Upload-Offset": "11"}, content=b"x")
        assert (beyond.status_code, beyond.headers["upload-offset"]) == (409, "5")
    assert not await bucket.exists({})


async def test_two_requests_at_once_are_answered_by_423(bucket: Bucket) -> None:
    app = app_for(bucket)
    async with browser(app) as client:
        url = "http://test" + await created(client, 10)
        overtaken: list[httpx.Response] = []

        async def body() -> AsyncIterator[bytes]:
            yield b"01234"
            overtaken.append(await client.patch(url, headers={**PATCH, "Upload-Offset": "0"}, content=b"x"))
            overtaken.append(await client.head(url, headers=TUS))
            yield b"56789"

        assert (await client.patch(url, headers={**PATCH, "Upload-Offset": "0"}, content=body())).status_code == 204
    assert [answer.status_code for answer in overtaken] == [423, 423]


async def test_a_service_that_ends_stores_what_its_requests_have_received(bucket: Bucket) -> None:
    app = app_for(bucket)
    async with browser(app) as client:
        location = await created(client, 10**9)
    slow = _Slow(location.removeprefix("/uploads"), bytes(25_000))
    request = asyncio.create_task(slow.run(app))
    await slow.silent.wait()
    request.cancel()
    await asyncio.sleep(0)
    await app.aclose()
    upload = await bucket.resume((await bucket.database["fs.uploads"].find_one() or {})["_id"])
    assert (upload.offset, upload.is_busy) == (25_000, False)
    with pytest.raises(asyncio.CancelledError):
        await request


class _Slow(Exchange):
    """A client that sends a block, and then nothing."""

    def __init__(self, key: str, block: bytes) -> None:
        lines = {**PATCH, "Upload-Offset": "0", "Content-Length": str(10**9)}
        super().__init__("PATCH", *[(name.lower(), value) for name, value in lines.items()])
        self.scope["path"] = key
        self._block = block
        self._asked = True
        self.silent = asyncio.Event()

    async def receive(self) -> Message:
        if block := self._block:
            self._block = b""
            return {"type": "http.request", "body": block, "more_body": True}
        self.silent.set()
        return await super().receive()


async def test_hundreds_of_slow_clients_take_bounded_memory_and_are_ended(bucket: Bucket) -> None:
    app = app_for(bucket, max_uploads=100, stall_timeout=5)  # the flood is asked in less time
    async with browser(app) as client:
        keys = [(await created(client, 10**9)).removeprefix("/uploads") for _ in range(100)]
    block = bytes(25_000)  # two chunks and a half
    tracemalloc.start()
    try:
        slow = [_Slow(key, block) for key in keys]
        flood = [asyncio.create_task(each.run(app)) for each in slow]
        async with asyncio.timeout(30):
            await asyncio.gather(*(each.silent.wait() for each in slow))
        assert app.uploads == 100
        flood += [asyncio.create_task(_Slow(key, block).run(app)) for key in keys * 3]
        await asyncio.wait(flood[100:])
        _, most = tracemalloc.get_traced_memory()
        ended = await asyncio.gather(*flood)
    finally:
        tracemalloc.stop()
    assert most < 60_000_000  # the hundred that are served, and pymongo's connections
    assert sorted(each.status for each in ended) == [408] * 100 + [503] * 300
    assert {each.fields.get("retry-after") for each in ended} == {None, "5"}
    assert app.uploads == 0
    offsets = [document["offset"] async for document in bucket.database["fs.uploads"].find()]
    assert offsets == [25_000] * 100  # what has arrived is stored


async def test_other_connections_than_http_are_closed(bucket: Bucket) -> None:
    exchange = Exchange()
    exchange.scope["type"] = "websocket"
    await exchange.run(app_for(bucket))
    assert exchange.sent == [{"type": "websocket.close", "code": 1000}]
    exchange = Exchange()
    exchange.scope["type"] = "lifespan"
    assert (await exchange.run(app_for(bucket))).sent == []


async def test_a_client_that_disconnects_continues_later(bucket: Bucket) -> None:
    app = app_for(bucket)
    async with browser(app) as client:
        location = await created(client, 50)
        slow = _Slow(location.removeprefix("/uploads"), bytes(30))
        slow.scope["headers"] = [each for each in slow.scope["headers"] if each[0] != b"content-length"]
        slow.gone.set()
        assert (await slow.run(app)).status == 400
        assert (await client.head("http://test" + location, headers=TUS)).headers["upload-offset"] == "30"
