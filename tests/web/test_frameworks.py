"""GridFileResponse among routes, mounts and middleware of Starlette and FastAPI, and without them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from bson import ObjectId
from bson.errors import InvalidId
from fastapi import BackgroundTasks, Cookie, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Scope

from gridproxy import AsyncGridFile
from gridproxy.adapters.starlette import GridFileResponse, exception_handlers, file_responses, upload_body
from tests.web.asgi import Exchange
from tests.web.conftest import Watched

HELLO = b"hello, world\n"


def browsing(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://files")


async def test_a_route_of_fastapi_answers_with_a_file(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO, filename="hello.txt")
    app = FastAPI()
    done: list[str] = []

    @app.get("/files/{id}", response_class=GridFileResponse)
    async def serve(id: str, tasks: BackgroundTasks, seen: Annotated[str, Cookie()] = "") -> GridFileResponse:
        try:
            response = GridFileResponse(watched_bucket.bucket.file(ObjectId(id)))
        except InvalidId:
            raise HTTPException(404) from None
        response.set_cookie("seen", "yes")
        response.headers["X-Seen"] = seen
        tasks.add_task(done.append, id)
        return response

    async with browsing(app) as browser:
        whole = await browser.get(f"/files/{file.id}", headers={"Cookie": "seen=before"})
        part = await browser.get(f"/files/{file.id}", headers={"Range": "bytes=7-11"})
        again = await browser.get(f"/files/{file.id}", headers={"If-None-Match": whole.headers["etag"]})
        missing = await browser.get(f"/files/{ObjectId()}")
        schema = (await browser.get("/openapi.json")).json()
    assert (whole.status_code, whole.content) == (200, HELLO)
    assert whole.headers["set-cookie"].startswith("seen=yes")
    assert whole.headers["x-seen"] == "before"
    assert (part.status_code, part.content) == (206, b"world")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["set-cookie"].startswith("seen=yes")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert done == [str(file.id)] * 3
    assert "/files/{id}" in schema["paths"]


async def test_the_applications_404_page_is_shown_for_a_missing_file(watched_bucket: Watched) -> None:
    async def page(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"no {request.url.path} here", 404)

    async def serve(request: Request) -> Response:
        return GridFileResponse(watched_bucket.bucket.file(ObjectId()))

    for others in ({}, exception_handlers):
        app = Starlette(routes=[Route("/logo", serve)], exception_handlers={**others, 404: page})
        async with browsing(app) as browser:
            missing = await browser.get("/logo")
        assert (missing.status_code, missing.text) == (404, "no /logo here")


@pytest.mark.parametrize("application", [FastAPI, Starlette])
async def test_a_missing_file_is_answered_by_the_applications_handler(
    watched_bucket: Watched, application: type[Starlette]
) -> None:
    async def read(request: Request) -> Response:
        return Response(await watched_bucket.bucket.read("nothing"))

    async def serve(request: Request) -> Response:
        return GridFileResponse(watched_bucket.bucket.file("nothing"))

    mounted = GridFileResponse(watched_bucket.bucket.file("nothing"))
    routes = [Route("/read", read), Route("/serve", serve), Mount("/mounted", app=mounted)]
    async with browsing(application(routes=routes, exception_handlers=exception_handlers)) as browser:
        answers = [await browser.get(path) for path in ("/read", "/serve", "/mounted/")]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert len({answer.content for answer in answers}) == 1


async def test_one_mounted_response_answers_many_requests_at_once(watched_bucket: Watched) -> None:
    content = b"".join(number.to_bytes(4) for number in range(200_000))
    file = await watched_bucket.file(content, chunk_size=50_000, filename="numbers")
    response = GridFileResponse(file)
    app = Starlette(routes=[Mount("/mounted", app=response), Route("/numbers", endpoint=response)])
    async with browsing(app) as browser:
        requests = [
            browser.get("/numbers", headers={"Range": f"bytes={at}-{at + 99_999}"}) for at in range(0, 600_000, 30_000)
        ]
        answers = await asyncio.gather(*requests, browser.get("/numbers"), browser.get("/mounted/"))
    for number, answer in enumerate(answers[:-2]):
        assert answer.status_code == 206
        assert answer.content == content[number * 30_000 : number * 30_000 + 100_000]
    assert answers[-2].content == answers[-1].content == content


async def test_a_middleware_that_wraps_responses_gets_all_of_it(watched_bucket: Watched) -> None:
    content = bytes(range(256)) * 10_000
    file = await watched_bucket.file(content, chunk_size=255 * 1024)

    async def marked(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Marked"] = "yes"
        return response

    async def serve(request: Request) -> Response:
        return GridFileResponse(file)

    app = Starlette(routes=[Route("/file", serve)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=marked)])
    async with browsing(app) as browser:
        whole = await browser.get("/file")
        part = await browser.get("/file", headers={"Range": "bytes=-5"})
    assert (whole.headers["x-marked"], whole.content) == ("yes", content)
    assert (part.status_code, part.content) == (206, content[-5:])


async def test_gzip_middleware_compresses_whole_answers_unless_they_are_marked(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO * 1000, filename="hello.txt")
    plain, marked = GridFileResponse(file), GridFileResponse(file, headers={"Content-Encoding": "identity"})
    routes = [Mount("/plain", plain), Mount("/marked", marked)]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)])
    async with browsing(app) as browser:
        whole = await browser.get("/plain/")
        part = await browser.get("/plain/", headers={"Range": "bytes=0-4999"})
        identity = await browser.get("/marked/")
    assert (whole.headers["content-encoding"], whole.content) == ("gzip", HELLO * 1000)
    assert (identity.headers["content-encoding"], identity.content) == ("identity", HELLO * 1000)
    assert identity.headers["content-length"] == str(len(HELLO) * 1000)
    assert whole.headers["etag"] == part.headers["etag"] == identity.headers["etag"]
    assert (part.status_code, part.headers.get("content-encoding")) == (206, None)


async def test_elsewhere_a_missing_file_is_a_plain_404(watched_bucket: Watched) -> None:
    exchange = Exchange()
    exchange.scope["app"] = object()  # an application of another framework
    await exchange.run(GridFileResponse(watched_bucket.bucket.file(ObjectId())))
    assert (exchange.status, exchange.body) == (404, b"Not Found")


@pytest.mark.parametrize("there", [True, False])
async def test_a_websocket_can_be_denied_with_a_file(watched_bucket: Watched, there: bool) -> None:
    file = await watched_bucket.file(HELLO)
    scope: Scope = {"type": "websocket", "headers": [], "extensions": {"websocket.http.response": {}}}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody should listen before the handshake")

    shown = file if there else AsyncGridFile(bucket=watched_bucket.bucket)
    await GridFileResponse(shown, 403)(scope, receive, send)
    assert {message["type"] for message in sent} == {
        "websocket.http.response.start",
        "websocket.http.response.body",
    }
    assert sent[0]["status"] == (403 if there else 404)
    assert b"".join(message["body"] for message in sent[1:]) == (HELLO if there else b"Not Found")


async def test_fastapis_page_shows_what_routes_of_files_take_and_give() -> None:
    app = FastAPI(exception_handlers=exception_handlers)

    @app.get("/photo", response_class=GridFileResponse, responses=file_responses("image/png", "image/jpeg"))
    async def photo() -> None: ...

    @app.get("/any", response_class=GridFileResponse, responses=file_responses())
    async def anything() -> None: ...

    @app.put("/photo", status_code=201, openapi_extra=upload_body("image/*"))
    async def store() -> None: ...

    @app.post("/any", openapi_extra=upload_body())
    async def store_anything() -> None: ...

    paths = app.openapi()["paths"]
    box = {"schema": {"type": "string", "format": "binary"}}
    sent = paths["/photo"]["get"]["responses"]
    assert sent.keys() == {"200", "206", "304", "404", "412", "416"}
    assert sent["200"]["content"] == {"image/png": box, "image/jpeg": box}
    assert sent["206"]["content"] == {"image/png": box, "image/jpeg": box, "multipart/byteranges": box}
    assert paths["/any"]["get"]["responses"]["200"]["content"] == {"application/octet-stream": box}
    received = paths["/photo"]["put"]
    assert received["requestBody"] == {"required": True, "content": {"image/*": box}}
    assert received["responses"].keys() == {"201", "409", "413", "415"}
    assert received["responses"]["413"]["content"].keys() == {"application/problem+json"}
    assert paths["/any"]["post"]["requestBody"]["content"] == {"application/octet-stream": box}
