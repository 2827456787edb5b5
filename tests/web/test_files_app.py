"""FilesApp: a bucket as an application that serves, accepts, lists and removes files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp, Message

from gridproxy import BadOption, Bucket, CorruptFile, FileInfo, FileOptions
from gridproxy.adapters.document import Document, FileField
from gridproxy.adapters.starlette import FilesApp, Grant
from tests.adapters.odm_zoo import Keeper
from tests.observing import contents
from tests.web.asgi import Exchange
from tests.web.raw import serve

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
Database = AsyncDatabase[dict[str, Any]]


class Badger(Document):
    photo = FileField()


async def allow(request: Request, action: str, info: object) -> bool:
    return True


def browsing(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://files")


async def stored(bucket: Bucket) -> tuple[int, int]:
    return await contents(bucket.database, bucket.name)


def part(name: str, content: bytes = b"1", header: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="f"; filename="{name}"'.encode()
    return b"--x\r\n" + disposition + header + b"\r\n\r\n" + content + b"\r\n"


FIELD = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n'


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not become true within 10 seconds")


def named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


# Construction


@pytest.mark.parametrize("make", [FilesApp, lambda _, **more: FilesApp.for_field(Badger, "photo", **more)])
def test_without_authorize_there_is_no_application(database_without_server: Database, make: Any) -> None:
    with pytest.raises(BadOption, match="every client could read, replace and delete the files"):
        make(Bucket(database_without_server))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"authorize": True}, "authorize is an async function"),
        ({"by": "name"}, "by is 'id' or 'filename'"),
        ({"max_uploads": 0}, "max_uploads is a number"),
        ({"stall_timeout": 0}, "stall_timeout is a positive number"),
        ({"options": FileOptions("other")}, "options names the bucket 'other'"),
    ],
)
def test_wrong_options_are_refused(database_without_server: Database, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadOption, match=reason):
        FilesApp(Bucket(database_without_server), **{"authorize": allow, **options})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: FilesApp("fs", authorize=allow), "serves a Bucket, not str"),  # type: ignore[arg-type]
        (lambda: FilesApp.for_field(Badger, "picture", authorize=allow), "'Badger' is not a model with the field"),
        (lambda: FilesApp.for_field(Keeper, "portrait", authorize=allow), "pass engine=AsyncEngine"),
    ],
)
def test_what_cannot_be_served_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(BadOption, match=reason):
        make()


# Reading


@pytest.mark.parametrize("by", ["id", "filename"])
async def test_files_are_served_under_a_prefix(bucket: Bucket, by: Any) -> None:
    info = await bucket.upload(b"hello, world", filename="notes/a b.txt", id="1/2")
    inner = Starlette(routes=[Mount("/files", FilesApp(bucket, authorize=allow, by=by))])
    path = "/v1/files/" + ("notes/a%20b.txt" if by == "filename" else "1/2")
    async with browsing(Starlette(routes=[Mount("/v1", inner)])) as browser:
        whole = await browser.get(path)
        head = await browser.head(path)
        part = await browser.get(path, headers={"Range": "bytes=7-"})
        again = await browser.get(path, headers={"If-None-Match": whole.headers["etag"]})
        missing = [await browser.get(f"/v1/files/{key}") for key in ("nothing", ObjectId())]
    assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, b"hello, world", info.etag)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "12")
    assert (part.status_code, part.content) == (206, b"world")
    assert again.status_code == 304
    for answer in missing:
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_the_options_of_responses_are_applied(bucket: Bucket) -> None:
    await bucket.upload(b"a", id="a")
    policies = {"cache_control": "public", "resource_policy": "cross-origin", "security_policy": "none"}
    async with browsing(FilesApp(bucket, authorize=allow, **policies)) as browser:  # type: ignore[arg-type]  # a table
        headers = (await browser.get("/a")).headers
    assert headers["cache-control"] == "public"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["content-security-policy"] == "none"


async def test_an_error_after_the_first_byte_breaks_the_response(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(1_200_000), chunk_size=1000)
    await bucket.store.chunks.delete_one({"files_id": info.id, "n": 1100})
    exchange = Exchange()
    exchange.scope["path"] = f"/{info.id}"
    with pytest.raises(CorruptFile):
        await exchange.run(FilesApp(bucket, authorize=allow))
    assert exchange.status == 200
    assert not exchange.complete


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_protocols_are_not_served(bucket: Bucket, kind: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await FilesApp(bucket, authorize=allow)({"type": kind, "path": "/a", "headers": []}, Exchange().receive, send)
    assert sent == ([{"type": "websocket.close", "code": 1000}] if kind == "websocket" else [])


# Storing and removing


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_body_is_stored_read_and_removed(bucket: Bucket, method: str) -> None:
    path = "/files/" if method == "POST" else "/files/my%20id"
    app = Starlette(routes=[Mount("/files", FilesApp(bucket, authorize=allow))])
    async with browsing(app) as browser:
        headers = [(name.encode(), value.encode()) for name, value in named("a/ü.txt").items()]
        made = await browser.request(
            method, path, content=b"hello", headers=[(b"Content-Type", b"text/plain"), *headers]
        )
        at = made.headers["location"]
        read = await browser.get(at)
        taken = await browser.put(at, content=b"other")
        removed = await browser.delete(at)
        gone = [await browser.get(at), await browser.delete(at)]
        refused = await browser.patch(at)
    assert made.status_code == 201
    described = made.json()
    date = datetime.fromisoformat(described.pop("upload_date"))
    assert abs(date - datetime.now(UTC)) < timedelta(minutes=1)
    assert described == {
        "id": "my id" if method == "PUT" else at.removeprefix("/files/"),
        "filename": "a/ü.txt",
        "length": 5,
        "content_type": "text/plain",
        "url": at,
    }
    assert (read.content, read.headers["etag"]) == (b"hello", made.headers["etag"])
    assert (taken.status_code, removed.status_code) == (409, 204)
    assert [answer.status_code for answer in gone] == [404, 404]
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, PUT, POST, DELETE")
    assert await stored(bucket) == (0, 0)


async def test_storing_under_a_name_adds_a_revision_and_deleting_removes_all(bucket: Bucket) -> None:
    async with browsing(FilesApp(bucket, authorize=allow, by="filename")) as browser:
        first = await browser.put("/a/b.txt", content=b"1", headers=named("other.txt"))
        second = await browser.put("/a/b.txt", files={"file": ("c.txt", b"2")})
        read = await browser.get(first.headers["location"])
        assert [info.length async for info in bucket.revisions("a/b.txt")] == [1, 1]
        nameless = await browser.post("/", content=b"3")
        named_one = await browser.post("/", content=b"4", headers=named("d.txt"))
        removed = await browser.delete("/a/b.txt")
        gone = await browser.get("/a/b.txt")
    assert (first.status_code, second.status_code, read.content) == (201, 200, b"2")
    assert (nameless.status_code, named_one.headers["location"]) == (422, "/d.txt")
    assert (removed.status_code, gone.status_code) == (204, 404)
    assert await stored(bucket) == (1, 1)


async def test_each_file_of_a_form_is_stored(bucket: Bucket) -> None:
    files: list[Any] = [("a", ("one.txt", b"1" * 1000)), ("b", ("\u00fc.png", PNG, "image/png")), ("c", ("", b""))]
    async with browsing(FilesApp(bucket, authorize=allow)) as browser:
        made = await browser.post("/", files=files, data={"title": "two files", "empty": ""})
        read = [await browser.get(each["url"]) for each in made.json()]
    assert made.status_code == 201
    assert [(each["filename"], each["content_type"]) for each in made.json()] == [
        ("one.txt", "text/plain"),
        ("\u00fc.png", "image/png"),
    ]
    assert [answer.content for answer in read] == [b"1" * 1000, PNG]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 17])
async def test_a_form_is_read_however_it_is_cut(bucket: Bucket, method: str, size: int) -> None:
    content = b"1\r\n--x\r--\r\n--y--" * 3
    form = FIELD + b"2\r\n" + part("caf\u00e9", content) + FIELD + b"3\r\n--x--\r\nan epilogue"
    form = form.replace("\u00e9".encode(), b"\xe9")  # of a program that knows no UTF-8

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(form), size):
            yield form[at : at + size]

    headers = {"Content-Type": "Multipart/Form-Data; boundary=x"}
    async with browsing(FilesApp(bucket, authorize=allow)) as browser:
        made = await browser.request(method, "/a" if method == "PUT" else "/", content=pieces(), headers=headers)
    info = await bucket.find_one()
    assert info is not None
    assert (made.status_code, info.filename, await bucket.read(info.id)) == (201, "caf\u00e9", content)


@pytest.mark.usefixtures("small_batches")
async def test_a_form_is_stored_while_it_arrives(bucket: Bucket) -> None:
    """There is no copy on a disk: the first chunks are stored before the client has sent the last bytes."""
    seen: list[int] = []

    async def form() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(100)
            seen.append((await stored(bucket))[1])
        yield b"\r\n--x--\r\n"

    async with browsing(FilesApp(bucket, authorize=allow)) as browser:
        made = await browser.put("/a", content=form(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert made.json()["length"] == 2000
    assert seen[-1] > 10


@pytest.mark.parametrize(
    ("method", "form", "status"),
    [
        ("POST", b"--x--\r\n", 422),
        ("POST", FIELD + b"1\r\n--x--\r\n", 422),
        ("PUT", FIELD + b"1\r\n--x--\r\n", 422),
        ("POST", b"no form", 400),
        ("POST", b"", 400),
        ("POST", part("a"), 400),  # it breaks off
        ("POST", part("a") + part("b")[:-10], 400),
        ("PUT", part("a"), 400),
        ("POST", part("a", header=b"\r\nbad header\r\n") + b"--x--\r\n", 400),
        ("POST", part("a", header=b"\r\nx: " + b"y" * 17_000) + b"--x--\r\n", 400),
        ("POST", part("a", header=(b"\r\nx: " + b"y" * 3500) * 5) + b"--x--\r\n", 400),
        ("POST", b"\r\n" * 550_000, 413),
        ("POST", FIELD + b"y" * 1_100_000 + b"\r\n--x--\r\n", 413),
        ("POST", part("a") * 101 + b"--x--\r\n", 413),
        ("PUT", part("a") + part("b") + b"--x--\r\n", 413),
        ("POST", part("a") + part("b", b"1" * 3000) + b"--x--\r\n", 413),  # the second file is above the limit
        ("POST", part("a") + part("a\0b") + b"--x--\r\n", 400),
    ],
)
async def test_a_form_that_is_refused_leaves_nothing(bucket: Bucket, method: str, form: bytes, status: int) -> None:
    app = FilesApp(bucket, authorize=allow, options=FileOptions(max_size=2000))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with browsing(app) as browser:
        answer = await browser.request(method, "/a" if method == "PUT" else "/", content=form, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert await stored(bucket) == (0, 0)


@pytest.mark.parametrize("boundary", ["", "; boundary=" + "x" * 1000])
async def test_a_form_without_a_valid_boundary_is_refused(bucket: Bucket, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    async with browsing(FilesApp(bucket, authorize=allow)) as browser:
        assert (await browser.post("/", content=part("a"), headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("field", "status"), [({"Content-Encoding": "gzip"}, 415), ({"Content-Range": "bytes 0-1/2"}, 400)]
)
@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x"])
async def test_parts_of_files_and_compressed_ones_are_refused(
    bucket: Bucket, field: dict[str, str], status: int, kind: str
) -> None:
    async with browsing(FilesApp(bucket, authorize=allow)) as browser:
        for method, path in (("PUT", "/a"), ("POST", "/")):
            form = part("a") + b"--x--\r\n"
            answer = await browser.request(method, path, content=form, headers={"Content-Type": kind, **field})
            assert answer.status_code == status
    assert await stored(bucket) == (0, 0)


@pytest.mark.parametrize("by", ["id", "filename"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("field", "there", "status"),
    [
        ("If-Match", True, 412),
        ("If-Match", False, 412),
        ("If-None-Match", True, 412),
        ("If-None-Match", False, None),
        ("If-Unmodified-Since", True, 412),
    ],
)
async def test_changes_honour_conditions(
    bucket: Bucket, by: Any, method: str, field: str, there: bool, status: int | None
) -> None:
    if there:
        await bucket.upload(b"1", id="a", filename="a")
    value = {"If-Match": '"other"', "If-None-Match": "*", "If-Unmodified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}[field]
    async with browsing(FilesApp(bucket, authorize=allow, by=by)) as browser:
        answer = await browser.request(method, "/a", headers={field: value})
    assert answer.status_code == (status or (201 if method == "PUT" else 404))
    assert (await stored(bucket))[0] == (1 if there or answer.status_code == 201 else 0)


async def test_a_matching_condition_lets_a_change_pass(bucket: Bucket) -> None:
    async with browsing(FilesApp(bucket, authorize=allow, by="filename")) as browser:
        made = await browser.put("/a", content=b"1")
        changed = await browser.put("/a", content=b"2", headers={"If-Match": made.headers["etag"]})
        late = await browser.put("/a", content=b"3", headers={"If-Match": made.headers["etag"]})
    assert (changed.status_code, late.status_code) == (200, 412)


# Permission


@pytest.mark.parametrize(
    ("by", "method", "path", "asked"),
    [
        ("id", "GET", "/a", [("read", "a")]),
        ("id", "HEAD", "/b", [("read", None)]),
        ("id", "PUT", "/a", [("replace", "a")]),
        ("id", "PUT", "/b", [("create", None)]),
        ("id", "POST", "/", [("create", None)]),
        ("id", "DELETE", "/a", [("delete", "a")]),
        ("id", "GET", "/", [("list", None)]),
        ("filename", "GET", "/a", [("read", "a")]),
        ("filename", "PUT", "/a", [("replace", "a")]),
        ("filename", "POST", "/", [("create", None), ("replace", "a")]),
        ("filename", "DELETE", "/b", [("delete", None)]),
    ],
)
@pytest.mark.parametrize("form", [True, False])
async def test_authorize_is_asked_first_and_for_each_action(
    bucket: Bucket, by: Any, method: str, path: str, asked: list[tuple[str, str | None]], form: bool
) -> None:
    await bucket.upload(b"1", id="a", filename="a")
    seen: list[tuple[str, str | None]] = []

    async def last_no(request: Request, action: str, info: FileInfo | None) -> bool:
        seen.append((action, None if info is None else info.filename))
        return len(seen) < len(asked)

    sent: dict[str, Any] = {"content": b"2", "headers": named("a")}
    if form and method in ("PUT", "POST"):
        sent = {"files": {"f": ("a", b"2")}}
    async with browsing(FilesApp(bucket, authorize=last_no, by=by, listing=True)) as browser:
        answer = await browser.request(method, path, **sent)
    assert (answer.status_code, seen) == (403, asked)
    assert await bucket.read("a") == b"1"
    assert await stored(bucket) == (1, 1)


@pytest.mark.parametrize("verdict", [False, None, 401])
async def test_only_a_clear_yes_is_a_permission(bucket: Bucket, verdict: bool | int | None) -> None:
    async def judge(request: Request, action: str, info: object) -> Any:
        if verdict == 401:
            raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})
        return verdict

    async with browsing(FilesApp(bucket, authorize=judge)) as browser:
        answer = await browser.get("/a")
    assert answer.status_code == (401 if verdict == 401 else 403)
    assert answer.json()["detail"] == ("Who are you?" if verdict == 401 else "You may not do this.")
    assert answer.headers.get("www-authenticate") == ("Bearer" if verdict == 401 else None)


def blocking(request: Request, action: str, info: object) -> bool:
    return True


async def answering_yes(request: Request, action: str, info: object) -> str:
    return "yes"


@pytest.mark.parametrize(("judge", "reason"), [(blocking, "is not async"), (answering_yes, "returns True, False or")])
async def test_a_wrong_authorize_lets_nothing_pass(bucket: Bucket, judge: Any, reason: str) -> None:
    await bucket.upload(b"1", id="a")
    exchange = Exchange()
    exchange.scope["path"] = "/a"
    with pytest.raises(TypeError, match=reason):
        await exchange.run(FilesApp(bucket, authorize=judge))
    assert exchange.sent == []


async def test_the_terms_of_a_grant_hold(bucket: Bucket) -> None:
    async def grant(request: Request, action: str, info: object) -> Grant:
        if action == "read":
            return Grant(filename="b.png", disposition="attachment", max_age=7)
        return Grant(max_size=100, content_types="image/*", metadata={"owner": 7}, filename="a.png")

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG
        yield bytes(100)

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("a body that is declared too large is not read")
        yield b""

    app = FilesApp(bucket, authorize=grant, options=FileOptions(max_size=200), cache_control="public")
    async with browsing(app) as browser:
        made = await browser.put("/a", content=PNG, headers={"Content-Type": "image/png", **named("z.png")})
        answers = [await browser.post("/", content=each) for each in (PNG + bytes(200), PNG + bytes(100), b"<html>")]
        read = await browser.get("/a")
        assert (await browser.post("/", content=pieces())).status_code == 413
        assert (await browser.post("/", content=unread(), headers={"Content-Length": "101"})).status_code == 413
    assert (made.status_code, made.json()["filename"], made.json()["content_type"]) == (201, "a.png", "image/png")
    assert (await bucket.stat("a")).metadata["owner"] == 7
    assert [answer.status_code for answer in answers] == [413, 413, 415]
    assert read.headers["content-disposition"] == 'attachment; filename="b.png"'
    assert read.headers["cache-control"] == "private, max-age=7"
    assert (await stored(bucket))[0] == 1


# Lists


@pytest.mark.parametrize("by", ["id", "filename"])
async def test_files_are_listed_in_pages_if_asked_for(bucket: Bucket, by: Any) -> None:
    for number, name in enumerate("aabc"):
        await bucket.upload(bytes(number), filename=name, id=f"{number}")
    await bucket.upload(b"", filename="d", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    await bucket.upload(b"", filename="e", metadata={"variant_of": "1"})
    await bucket.store.files.insert_one({"_id": "11", "filename": "aa", "length": "this is not the record of a file"})
    seen: list[tuple[str, int]] = []
    path = "/files/?limit=2"
    async with browsing(
        Starlette(routes=[Mount("/files", FilesApp(bucket, authorize=allow, by=by, listing=True))])
    ) as it:
        while path:
            page = (await it.get(path)).json()
            seen += [(each["url"], each["length"]) for each in page["files"]]
            path = page["next"] and f"/files/{page['next']}"
        assert (await it.get("/files/?limit=0")).json()["next"] == f"?limit=1&after={'1' if by == 'id' else 'a'}"
        wrong = [await it.get(f"/files/?limit={limit}") for limit in ("-1", "x", "1" * 20)]
    newest = [("/files/3", 3), ("/files/2", 2), ("/files/1", 1), ("/files/0", 0)]
    assert seen == (newest if by == "id" else [("/files/a", 1), ("/files/b", 2), ("/files/c", 3)])
    assert {answer.status_code for answer in wrong} == {400}


async def test_nothing_is_listed_otherwise(bucket: Bucket) -> None:
    for app in (FilesApp(bucket, authorize=allow), FilesApp.for_field(Badger, "photo", authorize=allow)):
        async with browsing(app) as browser:
            assert (await browser.get("/")).status_code == 405


# Limits on clients


async def test_uploads_are_limited_in_number_and_time(bucket: Bucket) -> None:
    """Clients that send little hold a few places, and others are refused without a byte of their bodies."""
    app = FilesApp(bucket, authorize=allow, max_uploads=2, stall_timeout=0.5)
    async with serve(app) as site:
        slow = [
            asyncio.create_task(site.ask("POST", "/", "Content-Length: 100", "Expect: 100-continue")) for _ in range(2)
        ]
        await until(lambda: app.uploads == 2)
        flood = await asyncio.gather(*(site.ask("POST", "/", "Content-Length: 100") for _ in range(100)))
        read = await site.ask("GET", "/nothing")
        await asyncio.gather(*slow)
        async with httpx.AsyncClient(base_url=site.url) as browser:
            later = await browser.post("/", content=b"1")
    assert {reply.status for reply in flood} == {503}
    assert {reply.fields["retry-after"] for reply in flood} == {"10"}
    assert (read.status, later.status_code, app.uploads) == (404, 201, 0)
    assert await stored(bucket) == (1, 1)


async def test_an_upload_that_stalls_is_ended(bucket: Bucket) -> None:
    class Sender(Exchange):
        async def receive(self) -> Message:
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": bytes(1000), "more_body": True}
            return await super().receive()

    exchange = Sender("PUT")
    exchange.scope["path"] = "/a"
    await exchange.run(FilesApp(bucket, authorize=allow, stall_timeout=0.05))
    assert exchange.status == 408
    assert await stored(bucket) == (0, 0)


async def test_a_client_that_leaves_leaves_nothing(bucket: Bucket) -> None:
    app = FilesApp(bucket, authorize=allow)
    async with serve(app) as site:
        for kind in ("text/plain", "multipart/form-data; boundary=x"):
            _, writer = await site.connect()
            head = f"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 90000\r\n\r\n"
            writer.write(head.encode() + part("a", bytes(5000)))
            await writer.drain()
            await until(lambda: app.uploads == 1)
            writer.transport.abort()
            await until(lambda: app.uploads == 0)
    assert await stored(bucket) == (0, 0)
