"""Uploads over a real server: form files and bare bodies, with limits, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from bson.errors import InvalidId
from fastapi import FastAPI, File, UploadFile
from pymongo.errors import OperationFailure
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gridproxy import (
    AsyncGridFile,
    BadFilename,
    BadId,
    BadMetadata,
    DocumentMissing,
    FileAlreadyStored,
    FileMissing,
    FileOptions,
    FileRefused,
    StaleDocument,
    UploadInProgress,
    ValidationError,
)
from gridproxy.adapters.starlette import RequestBody, exception_handlers, problem_response
from tests.observing import contents
from tests.web.asgi import Exchange
from tests.web.conftest import Watched
from tests.web.raw import Site, serve

LIMIT = 100_000
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"


def field(watched: Watched) -> AsyncGridFile:
    options = FileOptions(bucket=watched.bucket, max_size=LIMIT, content_types=["image/*"])
    return AsyncGridFile(options=options)


def described(file: AsyncGridFile) -> Response:
    return JSONResponse({"length": file.length, "type": file.content_type, "name": file.filename})


@asynccontextmanager
async def receiving(watched: Watched, disconnected: asyncio.Event | None = None) -> AsyncIterator[Site]:
    app = FastAPI(exception_handlers=exception_handlers)

    @app.post("/form")
    async def form(picture: Annotated[UploadFile, File()]) -> Response:
        file = field(watched)
        await file.put(picture)
        return described(file)

    @app.put("/bare/{name}")
    async def bare(name: str, request: Request) -> Response:
        file = field(watched)
        await file.put(request.stream(), filename=name)
        return described(file)

    @app.put("/body/{name}")
    async def body(name: str, request: Request) -> Response:
        file = field(watched)
        try:
            await file.put(RequestBody(request), filename=None if name == "-" else name)
        except ClientDisconnect:
            assert disconnected is not None
            disconnected.set()
            raise
        return described(file)

    async with serve(app) as site:
        yield site


async def stored(watched: Watched) -> tuple[int, int]:
    return await contents(watched.bucket.database, watched.bucket.name)


async def test_a_picture_of_a_form_and_one_by_itself_are_stored(watched_bucket: Watched) -> None:
    async with receiving(watched_bucket) as site, httpx.AsyncClient(base_url=site.url) as browser:
        form = await browser.post("/form", files={"picture": ("a.png", PNG, "image/png")})
        bare = await browser.put("/bare/b.png", content=PNG)
        body = await browser.put("/body/-", content=PNG, headers={"Content-Type": "image/png"})
    assert form.json() == {"length": len(PNG), "type": "image/png", "name": "a.png"}
    assert bare.json() == {"length": len(PNG), "type": "image/png", "name": "b.png"}
    assert body.json() == {"length": len(PNG), "type": "image/png", "name": None}


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 10_000):
        yield content[at : at + 10_000]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", ["/form", "/bare/a.png", "/body/a.png"])
async def test_what_is_too_large_is_a_413(watched_bucket: Watched, path: str, declared: bool) -> None:
    content = PNG + bytes(LIMIT)
    async with receiving(watched_bucket) as site, httpx.AsyncClient(base_url=site.url) as browser:
        if path == "/form":
            answer = await browser.post(path, files={"picture": ("a.png", content)})
        else:
            answer = await browser.put(path, content=content if declared else pieces(content))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 413
    assert f"longer than the {LIMIT} bytes" in problem["detail"]
    assert await stored(watched_bucket) == (0, 0)


@pytest.mark.parametrize("path", ["/form", "/bare/a.png", "/body/a.png"])
async def test_what_is_of_another_type_is_a_415(watched_bucket: Watched, path: str) -> None:
    content = b"<html><script>alert(1)</script></html>"
    async with receiving(watched_bucket) as site, httpx.AsyncClient(base_url=site.url) as browser:
        if path == "/form":
            answer = await browser.post(path, files={"picture": ("a.png", content, "image/png")})
        else:
            answer = await browser.put(path, content=content)
    assert answer.status_code == 415
    assert await stored(watched_bucket) == (0, 0)


async def test_a_declared_length_above_the_limit_is_refused_before_the_body_is_read(watched_bucket: Watched) -> None:
    async with receiving(watched_bucket) as site:
        lines = [f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"]
        head, _, writer = await site.start("PUT", "/body/a.png", *lines)
        writer.close()
    assert head.status == 413  # and not 100


async def test_a_client_that_leaves_midway_leaves_nothing(watched_bucket: Watched) -> None:
    disconnected = asyncio.Event()
    async with receiving(watched_bucket, disconnected) as site:
        _, writer = await site.connect()
        writer.write(b"PUT /body/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + PNG + bytes(50_000))
        await writer.drain()
        writer.transport.abort()
        await disconnected.wait()
    assert await stored(watched_bucket) == (0, 0)


@pytest.mark.parametrize(
    ("lines", "content_type", "size"),
    [
        ([], None, None),
        ([("content-type", "image/png"), ("content-length", "17")], "image/png", 17),
        ([("content-type", "application/x-www-form-urlencoded")], None, None),  # what curl says of any body
        ([("content-length", "many")], None, None),
        ([("content-length", "\u0663")], None, None),
    ],
)
def test_type_and_length_are_read_from_the_requests_header(
    lines: list[tuple[str, str]], content_type: str | None, size: int | None
) -> None:
    scope = Exchange("PUT").scope
    scope["headers"] = [(name.encode(), value.encode()) for name, value in lines]
    source = RequestBody(Request(scope)).as_source()
    assert (source.content_type, source.size) == (content_type, size)


@pytest.mark.parametrize("options", ["", "max_size, content_types"])
async def test_a_form_is_not_stored_as_its_file(watched_bucket: Watched, options: str) -> None:
    """The envelope would be: the commonest mistake between a route for a body and a page with a form."""
    app = FastAPI(exception_handlers=exception_handlers)

    @app.post("/")
    async def store(request: Request) -> Response:
        body = RequestBody(request, filename="a.png")
        await (field(watched_bucket).put(body) if options else watched_bucket.bucket.upload(body))
        return Response()

    async with serve(app) as site, httpx.AsyncClient(base_url=site.url) as browser:
        for answer in (
            await browser.post("/", files={"picture": ("a.png", PNG, "image/png")}),
            await browser.post("/", content=PNG, headers={"Content-Type": "Multipart/Form-Data ;boundary=x"}),
        ):
            assert answer.status_code == 415
            assert answer.headers["content-type"] == "application/problem+json"
            assert "contains a form" in answer.json()["detail"]
            assert "UploadFile" in answer.json()["detail"]
        # Nothing of it is asked for.
        lines = ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 9000", "Expect: 100-continue"]
        head, _, writer = await site.start("POST", "/", *lines)
        writer.close()
        assert head.status == 415
    assert await stored(watched_bucket) == (0, 0)


def test_a_given_type_replaces_the_type_of_the_request() -> None:
    scope = Exchange("PUT").scope
    scope["headers"] = [(b"content-type", b"multipart/form-data; boundary=x")]
    said = "multipart/form-data; boundary=x"
    assert RequestBody(Request(scope), content_type=said).as_source().content_type == said


async def test_a_refusal_of_another_kind_is_a_422_and_a_taken_id_a_409() -> None:
    request = Request(Exchange().scope)
    refused = await problem_response(request, FileRefused("too dark", field="photo"))
    assert refused.status_code == 422
    assert b'"field":"photo"' in refused.body
    taken = await problem_response(request, FileAlreadyStored("secret id"))
    assert taken.status_code == 409
    assert b"secret" not in taken.body


async def test_an_error_that_is_not_the_clients_stays_one() -> None:
    with pytest.raises(OperationFailure):
        await problem_response(Request(Exchange().scope), OperationFailure("the disk is full"))


async def test_reading_what_is_missing_in_a_route_is_a_404(watched_bucket: Watched) -> None:
    async def read(request: Request) -> Response:
        return Response(await watched_bucket.bucket.read("nothing here"))

    app = Starlette(routes=[Route("/", read)], exception_handlers=exception_handlers)
    exchange = await Exchange().run(app)
    assert exchange.status == 404
    assert b"nothing" not in exchange.body


@pytest.mark.parametrize("handlers", [{}, exception_handlers], ids=["no handlers", "handlers"])
@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("Content-Range", "bytes 10-19/20", 400),
        ("Content-Range", "bytes */20", 400),
        ("Content-Encoding", "gzip", 415),
        ("Content-Encoding", "br, gzip", 415),
        ("Content-Encoding", "identity", 200),
    ],
)
async def test_a_part_of_a_file_or_a_compressed_body_is_refused(
    watched_bucket: Watched, handlers: dict[type[Exception], object], field: str, value: str, status: int
) -> None:
    async def put(request: Request) -> Response:
        await watched_bucket.bucket.upload(RequestBody(request, filename="a.png"))
        return Response()

    app: Any = Starlette(routes=[Route("/", put, methods=["PUT"])], exception_handlers=handlers)  # type: ignore[arg-type]
    exchange = await Exchange("PUT", (field.lower(), value)).run(app)
    assert exchange.status == status
    assert (b"send" in exchange.body) is (status != 200)
    assert exchange.fields.get("accept-encoding") == ("identity" if status == 415 else None)
    assert (await stored(watched_bucket))[0] == (1 if status == 200 else 0)


async def test_a_nul_in_a_clients_file_name_is_a_400(watched_bucket: Watched) -> None:
    async with receiving(watched_bucket) as site, httpx.AsyncClient(base_url=site.url) as browser:
        for answer in (
            await browser.put("/bare/a%00b.png", content=PNG),
            await browser.put("/body/a%00b.png", content=PNG),
        ):
            assert answer.status_code == 400
            assert "NUL" in answer.json()["detail"]
        form = await browser.post("/form", files={"picture": ("C:\\Users\\me\\x.png", PNG, "image/png")})
    assert form.json()["name"] == "x.png"
    assert await stored(watched_bucket) == (1, 1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileMissing("secret"), 404),
        (DocumentMissing("no animal in secret"), 404),
        (FileAlreadyStored("secret"), 409),
        (StaleDocument("<secret>", "photo"), 409),
        (UploadInProgress("secret"), 409),
        (BadFilename("filename 'a\\x00b' contains a NUL character"), 400),
        (BadId("a dict"), 400),
        (BadMetadata("a.b"), 422),
        (ValidationError("genus", "a str is needed"), 422),
        (FileRefused("x" * 10_000), 422),
        (InvalidId("'secret' is not a valid ObjectId"), 400),
        (ClientDisconnect(), 400),
    ],
)
async def test_every_error_that_a_client_can_cause_is_answered_with_a_sentence(error: Exception, status: int) -> None:
    async def fail(request: Request) -> Response:
        raise error

    app = Starlette(routes=[Route("/", fail)], exception_handlers=exception_handlers)
    exchange = await Exchange().run(app)
    assert exchange.status == status
    detail = json.loads(exchange.body)["detail"]
    assert 0 < len(detail) <= 500
    assert "secret" not in detail
