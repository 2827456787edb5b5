"""GridFileResponse, returned from routes and called as an ASGI application."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message
from uvicorn.protocols.utils import ClientDisconnected

from gridproxy import AsyncGridFile, BadOption, CorruptFile, UploadInProgress
from gridproxy.adapters.starlette import GridFileResponse, exception_handlers
from gridproxy.adapters.starlette.read_ahead import WINDOW_BYTES
from gridproxy.runtime.tasks import _running
from tests.web.asgi import Exchange
from tests.web.conftest import Watched
from tests.web.raw import serve

HELLO = b"hello, world\n"
LARGE = 6 * WINDOW_BYTES


# What is asked of the database


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        ("HEAD", [], 200),
        ("GET", [("if-none-match", "*")], 304),
        ("GET", [("if-match", '"x"')], 412),
        ("GET", [("range", "bytes=99999-")], 416),
    ],
)
async def test_no_chunk_is_touched_where_no_content_is_sent(
    watched_bucket: Watched, method: str, lines: list[tuple[str, str]], status: int
) -> None:
    file = await watched_bucket.file(b"x" * 5000)
    exchange = await Exchange(method, *lines).run(GridFileResponse(file))
    assert (exchange.status, exchange.body, exchange.complete) == (status, b"", True)
    assert watched_bucket.chunk_reads == 0
    assert len(watched_bucket.traffic.of("find")) == 1


async def test_a_small_file_takes_its_record_and_its_chunks_at_once(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO)
    assert (await Exchange().run(GridFileResponse(file))).body == HELLO
    assert [name for name, _ in watched_bucket.traffic.seen] == ["aggregate"]
    assert file.info is not None


async def test_a_range_fetches_only_its_chunks(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(b"x" * 50_000)
    exchange = await Exchange("GET", ("range", "bytes=10500-11499")).run(GridFileResponse(file))
    assert len(exchange.body) == 1000
    assert watched_bucket.traffic.fetched == 2000


async def test_tiny_ranges_of_one_chunk_read_it_once(watched_bucket: Watched) -> None:
    content = bytes(range(200)) * 100
    file = await watched_bucket.file(content)
    asked = [f"{at}-{at}" for at in [*range(998, 900, -2), *range(100, 140, 2)]]
    exchange = await Exchange("GET", ("range", f"bytes={','.join(asked)}")).run(GridFileResponse(file))
    assert exchange.body.count(b"\r\n--") == len(asked) + 1
    assert watched_bucket.chunk_reads == 1


@pytest.mark.parametrize("chunk_size", [100_000, 255 * 1024, WINDOW_BYTES - 1, WINDOW_BYTES + 1, 3 * WINDOW_BYTES])
async def test_any_chunk_size_gives_the_same_bytes(watched_bucket: Watched, chunk_size: int) -> None:
    content = b"".join(number.to_bytes(4) for number in range(300_000))
    file = await watched_bucket.file(content, chunk_size=chunk_size)
    whole = await Exchange().run(GridFileResponse(file))
    assert whole.complete
    assert whole.body == content
    for start, stop in [(5, 900_000), (WINDOW_BYTES, 2 * WINDOW_BYTES), (700_001, 1_200_000)]:
        part = await Exchange("GET", ("range", f"bytes={start}-{stop - 1}")).run(GridFileResponse(file))
        assert part.complete
        assert part.body == content[start:stop]


# A client that reads slowly, or not at all


async def test_a_slow_client_holds_the_reading_back(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if len(self.sent) == 2:
                reached.set()
                await go_on.wait()

    exchange = Slow()
    running = asyncio.create_task(exchange.run(GridFileResponse(file)))
    await reached.wait()
    for _ in range(5):  # time enough for more reads, if there were any
        await watched_bucket.bucket.database.command("ping")
    assert watched_bucket.traffic.fetched <= 2 * WINDOW_BYTES
    go_on.set()
    await running
    assert len(exchange.body) == LARGE


@pytest.mark.parametrize("lines", [[], [("range", "bytes=1-")], [("range", "bytes=1-1000000,2000000-")]])
async def test_a_client_that_disconnects_ends_the_reading(
    watched_bucket: Watched, lines: list[tuple[str, str]]
) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)
    ran: list[str] = []

    class Left(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if len(self.sent) == 3:
                self.gone.set()
                await asyncio.Event().wait()  # send may block for ever after a disconnect

    response = GridFileResponse(file, background=BackgroundTask(ran.append, "ran"))
    exchange = await Left("GET", *lines).run(response)
    assert not exchange.complete
    assert watched_bucket.traffic.fetched <= 2 * WINDOW_BYTES + 255 * 1024
    assert ran == ["ran"]
    assert not _running


async def test_an_oserror_from_send_means_that_the_client_has_disconnected(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)

    class Gone(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if len(self.sent) == 3:
                raise BrokenPipeError("as ASGI has it from 2.4 on")

    exchange = await Gone().run(GridFileResponse(file))
    assert len(exchange.sent) == 3
    assert watched_bucket.traffic.fetched <= 3 * WINDOW_BYTES


async def test_a_receive_that_never_ends_is_asked_twice_at_most(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO)
    asked: list[int] = []

    class Naive(Exchange):
        async def receive(self) -> Message:
            asked.append(1)
            return {"type": "http.request", "body": b"", "more_body": False}

    assert (await Naive().run(GridFileResponse(file))).body == HELLO
    assert len(asked) <= 2


async def test_an_error_of_the_servers_receive_is_raised_unchanged(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)

    class Broken(Exchange):
        async def receive(self) -> Message:
            raise LookupError("no channel")

    with pytest.raises(LookupError, match="no channel"):
        await Broken().run(GridFileResponse(file))


async def test_a_cancelled_answer_leaves_no_reading_behind(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)
    reached = asyncio.Event()
    exchange = Exchange(on_body=lambda _: reached.set())
    running = asyncio.create_task(exchange.run(GridFileResponse(file)))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not exchange.complete
    assert not _running


# A file that is not, or not any more, what it was


async def delete(file: AsyncGridFile) -> None:
    await file.delete()


async def lose_a_chunk(file: AsyncGridFile) -> None:
    await file.state.store().chunks.delete_one({"files_id": file.id, "n": 9})


@pytest.mark.parametrize(
    ("harm", "error"),
    [(delete, None), (lose_a_chunk, CorruptFile)],
)
async def test_a_corrupt_or_deleted_file_closes_the_connection(
    watched_bucket: Watched,
    harm: Callable[[AsyncGridFile], Awaitable[None]],
    error: type[Exception] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)
    ran: list[str] = []

    class Harmed(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if len(self.sent) == 2:
                await harm(watched_bucket.bucket.file(file.id))

    exchange = Harmed()
    with pytest.raises(error) if error is not None else nullcontext():
        await exchange.run(GridFileResponse(file, background=BackgroundTask(ran.append, "ran")))
    if error is None:
        assert [record.getMessage() for record in caplog.records if record.name == "gridproxy"] == [
            f"file {file.id!r}: it was deleted while it was being read, after {len(exchange.body)} bytes were sent. "
            "The response was not completed."
        ]
    assert exchange.status == 200
    assert not exchange.complete
    assert len(exchange.body) < LARGE
    assert ran == []


async def test_a_file_that_is_corrupt_from_its_start_is_not_announced(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(b"x" * 5000)
    await watched_bucket.bucket.store.chunks.delete_one({"n": 1})
    exchange = Exchange()
    with pytest.raises(CorruptFile):
        await exchange.run(GridFileResponse(file))
    assert exchange.sent == []


async def test_another_file_in_the_same_object_does_not_mix_with_the_one_being_sent(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(b"a" * LARGE, chunk_size=255 * 1024)
    other = await watched_bucket.bucket.upload(b"b" * LARGE)

    class Replaced(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            file.state.id = other.id

    exchange = await Replaced().run(GridFileResponse(file))
    assert exchange.body == b"a" * LARGE


def missing(watched: Watched) -> AsyncGridFile:
    return watched.bucket.file(ObjectId())


def empty(watched: Watched) -> AsyncGridFile:
    return AsyncGridFile(bucket=watched.bucket)


@pytest.mark.parametrize("make", [missing, empty])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_missing_file_is_a_404(
    watched_bucket: Watched, make: Callable[[Watched], AsyncGridFile], method: str
) -> None:
    ran: list[str] = []
    response = GridFileResponse(make(watched_bucket), background=BackgroundTask(ran.append, "ran"))
    assert (await Exchange(method).run(response)).status == 404
    assert ran == []


async def test_an_expired_file_is_a_404(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO, expires_after=timedelta(milliseconds=1))
    await asyncio.sleep(0.002)
    for method in ("GET", "HEAD"):
        assert (await Exchange(method).run(GridFileResponse(file))).status == 404


async def test_a_file_that_is_deleted_between_its_record_and_its_bytes_is_a_404(
    watched_bucket: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await watched_bucket.file(HELLO)
    real = GridFileResponse._fields

    def deleted(self: GridFileResponse, info: Any) -> list[tuple[str, str]]:
        deleting.append(asyncio.ensure_future(watched_bucket.bucket.delete(file.id)))
        return real(self, info)

    deleting: list[asyncio.Future[None]] = []
    monkeypatch.setattr(GridFileResponse, "_fields", deleted)
    find_chunks = type(watched_bucket.bucket.store).find_chunks

    async def after(self: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.gather(*deleting)
        return await find_chunks(self, *args, **kwargs)

    monkeypatch.setattr(type(watched_bucket.bucket.store), "find_chunks", after)
    assert (await Exchange("GET", ("range", "bytes=0-3")).run(GridFileResponse(file))).status == 404


async def test_a_file_that_is_being_written_is_an_error(watched_bucket: Watched) -> None:
    file = AsyncGridFile(bucket=watched_bucket.bucket)
    async with file.new_file():
        with pytest.raises(UploadInProgress):
            await Exchange().run(GridFileResponse(file))
        file.write(HELLO)


# What can be said about it


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"filename": "other.txt"}, "content-disposition", 'inline; filename="other.txt"'),
        ({"content_disposition_type": "attachment"}, "content-disposition", 'attachment; filename="a.txt"'),
        ({"media_type": "image/png"}, "content-type", "image/png"),
        ({"media_type": "text/html"}, "content-disposition", 'attachment; filename="a.txt"'),
        ({"headers": {"Content-Type": "text/html"}}, "content-type", "text/html"),
        ({"headers": {"Content-Type": "text/html"}}, "content-disposition", 'attachment; filename="a.txt"'),
        ({"headers": {"Content-Disposition": "inline"}}, "content-disposition", "inline"),
        ({"headers": {"X-Content-Type-Options": "x"}}, "x-content-type-options", "x"),
        ({"headers": {"Content-Length": "7"}}, "content-length", str(len(HELLO))),
        ({"headers": {"X-Own": "yes"}}, "x-own", "yes"),
        ({"cache_control": "private, max-age=60"}, "cache-control", "private, max-age=60"),
        ({"cache_control": "a", "headers": {"cache-control": "b"}}, "cache-control", "b"),
    ],
)
async def test_given_arguments_are_sent(
    watched_bucket: Watched, options: dict[str, Any], name: str, value: str
) -> None:
    file = await watched_bucket.file(HELLO, filename="a.txt")
    assert (await Exchange().run(GridFileResponse(file, **options))).fields[name] == value


async def test_conditions_use_the_applications_own_etag(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO)
    response = GridFileResponse(file, headers={"ETag": '"v7"'})
    assert (await Exchange("GET", ("if-none-match", '"v7"')).run(response)).status == 304
    assert (await Exchange("GET", ("if-none-match", f"{file.etag}")).run(response)).status == 200


async def test_another_status_is_sent_with_the_whole_file(watched_bucket: Watched) -> None:
    file = await watched_bucket.file(HELLO)
    response = GridFileResponse(file, 404)
    exchange = await Exchange("GET", ("range", "bytes=0-1"), ("if-none-match", "*")).run(response)
    assert (exchange.status, exchange.body) == (404, HELLO)
    watched_bucket.traffic.clear()
    exchange = await Exchange("HEAD").run(response)
    assert (exchange.status, exchange.body, exchange.fields["content-length"]) == (404, b"", str(len(HELLO)))
    assert watched_bucket.chunk_reads == 0


@pytest.mark.parametrize("file", [None, b"bytes", ObjectId(), AsyncGridFile])
def test_a_response_is_made_of_a_file(file: Any) -> None:
    with pytest.raises(BadOption, match="expects an AsyncGridFile"):
        GridFileResponse(file)


def test_a_disposition_is_one_of_two() -> None:
    with pytest.raises(BadOption, match="'inline' or 'attachment'"):
        GridFileResponse(AsyncGridFile(1), content_disposition_type="form-data")  # type: ignore[arg-type]  # so it is


@pytest.mark.parametrize(
    ("error", "disconnected"),
    [
        (OSError(), True),
        (OSError("closed"), True),
        (ClientDisconnected(), True),
        (ClientDisconnect(), True),
        (BrokenPipeError(), True),
        (ConnectionResetError(104, "reset"), True),
        (OSError(errno.EPIPE, "pipe"), True),
        (OSError(errno.ENOSPC, "the disk is full"), False),
        (OSError(errno.EIO, "broken"), False),
        (PermissionError("a file"), False),
        (FileNotFoundError(errno.ENOENT, "a file"), False),
    ],
    ids=repr,
)
async def test_only_a_disconnect_ends_a_response_silently(
    watched_bucket: Watched, error: Exception, disconnected: bool
) -> None:
    file = await watched_bucket.file(b"content")
    ran: list[str] = []

    def fail(number: int) -> None:
        raise error

    answer = GridFileResponse(file, background=BackgroundTask(ran.append, "ran"))
    with nullcontext() if disconnected else pytest.raises(type(error)):
        await Exchange(on_body=fail).run(answer)
    assert ran == (["ran"] if disconnected else [])


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "behind a middleware that completes answers"])
async def test_a_file_deleted_during_its_download_is_one_line_in_the_log(
    watched_bucket: Watched, wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = await watched_bucket.file(bytes(LARGE), chunk_size=255 * 1024)

    async def route(request: Request) -> Response:
        return GridFileResponse(file)

    async def unchanged(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app = Starlette(
        routes=[Route("/", route)],
        exception_handlers=exception_handlers,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=unchanged)] if wrapped else [],
    )
    async with serve(app) as site:
        _, reader, writer = await site.start("GET", "/")
        received = await reader.readexactly(1000)
        await watched_bucket.bucket.delete(file.id)
        received += await reader.read()
        writer.close()
    assert len(received) < LARGE
    lines = [record.getMessage() for record in caplog.records if record.name == "gridproxy"]
    assert len(lines) == 1
    assert re.fullmatch(r"file .* was deleted while .* after [0-9]+ bytes were sent\. .*", lines[0])
    if not wrapped:
        assert "Traceback" not in caplog.text
