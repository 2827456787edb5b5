"""Objects with `read` of other libraries: stored whole, under the right name and type, never moved by a question."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import aiohttp.web
import anyio
import anyio.abc
import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from starlette.datastructures import Headers, UploadFile

from gridproxy import BadSource, Bucket
from gridproxy.gridfs.upload.sources import open_source

from ..observing import Database

# It begins as a picture does, because the first bytes may decide the type.
DATA = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x08\x06\x00\x00\x00" + os.urandom(300_000)
TEXT = b"name;place\nMarmota;Alps\n" * 5000

# A source is made in a folder of its own; what has to be closed is entered into the stack.
Make = Callable[[Path, AsyncExitStack], Awaitable[Any]]


async def drained(source: object) -> bytes:
    opened = open_source(source)
    gathered = bytearray()
    try:
        await opened.prepare()
        while block := await opened.read():
            gathered += block
        assert not await opened.read()
    finally:
        await opened.aclose()
    return bytes(gathered)


@pytest.fixture
def bucket(database: Database) -> Bucket:
    """Make a bucket in which the data are a few chunks."""
    return Bucket(database, chunk_size=100_000)


# aiohttp


async def aiohttp_part(stack: AsyncExitStack, body: bytes = DATA, read: bool = False) -> Any:
    """Return the first part of a form that a server of aiohttp received."""
    arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stored = asyncio.Event()

    async def receive(request: aiohttp.web.Request) -> aiohttp.web.Response:
        part = await (await request.multipart()).next()
        if read:
            await part.read()  # type: ignore[union-attr]
        arrived.set_result(part)
        await stored.wait()
        return aiohttp.web.Response()

    client = await aiohttp_client(stack, receive)
    form = aiohttp.FormData()
    form.add_field("photo", body, filename="marmot.png", content_type="image/png")
    posting = asyncio.create_task(client.post("/", data=form))

    async def answer() -> None:
        stored.set()
        (await posting).close()

    stack.push_async_callback(answer)
    return await arrived


async def aiohttp_client(stack: AsyncExitStack, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    app = aiohttp.web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/", handler)
    return await stack.enter_async_context(TestClient(TestServer(app)))


async def aiohttp_response(stack: AsyncExitStack) -> Any:
    async def send(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(
            body=DATA, headers={"Content-Type": "image/png", "Content-Disposition": 'attachment; filename="marmot.png"'}
        )

    client = await aiohttp_client(stack, send)
    return await stack.enter_async_context(client.get("/"))


async def aiohttp_request(stack: AsyncExitStack, read: bool = False, **posted: Any) -> Any:
    arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stored = asyncio.Event()

    async def receive(request: aiohttp.web.Request) -> aiohttp.web.Response:
        if read:
            await request.read()
        arrived.set_result(request)
        await stored.wait()
        return aiohttp.web.Response()

    client = await aiohttp_client(stack, receive)
    posting = asyncio.create_task(client.post("/", **posted))

    async def answer() -> None:
        stored.set()
        (await posting).close()

    stack.push_async_callback(answer)
    return await arrived


async def a_part(path: Path, stack: AsyncExitStack) -> Any:
    return await aiohttp_part(stack)


async def a_response(path: Path, stack: AsyncExitStack) -> Any:
    return await aiohttp_response(stack)


async def a_response_that_was_read(path: Path, stack: AsyncExitStack) -> Any:
    response = await aiohttp_response(stack)
    await response.read()
    return response


async def the_content_of_a_response(path: Path, stack: AsyncExitStack) -> Any:
    return (await aiohttp_response(stack)).content


async def a_request(path: Path, stack: AsyncExitStack) -> Any:
    return await aiohttp_request(stack, data=DATA)


async def a_request_that_was_read(path: Path, stack: AsyncExitStack) -> Any:
    return await aiohttp_request(stack, read=True, data=DATA)


async def a_field_of_a_parsed_form(path: Path, stack: AsyncExitStack) -> Any:
    form = aiohttp.FormData()
    form.add_field("photo", DATA, filename="marmot.png", content_type="image/png")
    field = (await (await aiohttp_request(stack, data=form)).post())["photo"]
    field.file.read(100)  # as Pillow's `verify()` does
    return field


# httpx and urllib


def transport() -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, content=DATA, headers={"content-type": "image/png"}))


async def httpx_streamed(path: Path, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient(transport=transport()))
    return await stack.enter_async_context(client.stream("GET", "http://zoo/"))


async def httpx_loaded(path: Path, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient(transport=transport()))
    return await client.get("http://zoo/")


async def httpx_sync_streamed(path: Path, stack: AsyncExitStack) -> Any:
    client = stack.enter_context(httpx.Client(transport=transport()))
    return stack.enter_context(client.stream("GET", "http://zoo/"))


async def httpx_sync_loaded(path: Path, stack: AsyncExitStack) -> Any:
    return stack.enter_context(httpx.Client(transport=transport())).get("http://zoo/")


async def urllib_response(path: Path, stack: AsyncExitStack) -> Any:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_: object) -> None:
            pass

    server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    return stack.enter_context(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/"))  # noqa: ASYNC210


# Attachments and forms


class Attachment:
    """A chat's attachment: its `read` takes no size."""

    filename = "marmot.png"
    content_type = "image/png"

    async def read(self, *, use_cached: bool = False) -> bytes:
        assert use_cached is False
        return DATA


class SyncWhole:
    filename = "marmot.png"
    content_type = "image/png"

    def read(self) -> bytes:
        return DATA


class HiddenWhole(SyncWhole):
    """Asynchronous without looking so."""

    def read(self) -> Any:
        async def later() -> bytes:
            return DATA

        return later()


def starlette_file(file: Any) -> UploadFile:
    return UploadFile(file, filename="marmot.png", headers=Headers({"content-type": "image/png"}))


async def upload_file(path: Path, stack: AsyncExitStack) -> Any:
    file = starlette_file(io.BytesIO(DATA))
    stack.push_async_callback(file.close)
    return file


async def upload_file_that_was_read(path: Path, stack: AsyncExitStack) -> Any:
    file = await upload_file(path, stack)
    assert await file.read() == DATA
    return file


async def upload_file_that_a_check_has_moved(path: Path, stack: AsyncExitStack) -> Any:
    file = await upload_file(path, stack)
    file.file.read(100)  # as Pillow's `verify()` does
    return file


async def large_upload_file_that_was_read(path: Path, stack: AsyncExitStack) -> Any:
    spooled = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=1000))  # noqa: SIM115  # the stack closes it
    spooled.write(DATA)
    return starlette_file(spooled)


class SyncForm:
    """A form's file as in werkzeug, Flask and Django: synchronous, with a position."""

    def __init__(self) -> None:
        self.file = io.BytesIO(DATA)
        self.headers = {"content-type": "image/png"}
        self.content_type = "image/png"
        self.filename, self.name = "marmot.png", "photo"
        self.read, self.seek = self.file.read, self.file.seek
        self.file.read()


# Archives and compressed files


async def tar_member(path: Path, stack: AsyncExitStack) -> Any:
    return stack.enter_context(made_tar(path, stack, "r:gz"))


async def streamed_tar_member(path: Path, stack: AsyncExitStack) -> Any:
    return stack.enter_context(made_tar(path, stack, "r|gz"))


def made_tar(path: Path, stack: AsyncExitStack, mode: Any) -> Any:
    with tarfile.open(path / "zoo.tar.gz", "w:gz") as archive:
        for name, data in (("dir/first.txt", b"first"), ("dir/marmot.png", DATA)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    opened = stack.enter_context(tarfile.open(path / "zoo.tar.gz", mode))  # noqa: SIM115  # the stack closes it
    for info in opened:
        if info.name == "dir/marmot.png":
            return opened.extractfile(info)
    raise AssertionError("the member is missing")


async def wrapped_tar_member(path: Path, stack: AsyncExitStack) -> Any:
    return anyio.wrap_file(await tar_member(path, stack))


async def zip_member(path: Path, stack: AsyncExitStack) -> Any:
    with zipfile.ZipFile(path / "zoo.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dir/marmot.png", DATA)
    opened = stack.enter_context(zipfile.ZipFile(path / "zoo.zip"))
    return stack.enter_context(opened.open("dir/marmot.png"))


def packed(open_packed: Callable[..., Any], suffix: str, wrap: Callable[[Any], Any] = lambda file: file) -> Make:
    async def make(path: Path, stack: AsyncExitStack) -> Any:
        with open_packed(path / f"marmot.png{suffix}", "wb") as file:
            file.write(DATA)
        return wrap(stack.enter_context(open_packed(path / f"marmot.png{suffix}", "rb")))

    return make


# Processes


PRINT = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"]


async def popen_output(path: Path, stack: AsyncExitStack) -> Any:
    (path / "data").write_bytes(DATA)
    process = stack.enter_context(subprocess.Popen([*PRINT, str(path / "data")], stdout=subprocess.PIPE))
    return process.stdout


async def unbuffered_output(path: Path, stack: AsyncExitStack) -> Any:
    (path / "data").write_bytes(DATA)
    process = stack.enter_context(subprocess.Popen([*PRINT, str(path / "data")], stdout=subprocess.PIPE, bufsize=0))
    return process.stdout


async def asyncio_output(path: Path, stack: AsyncExitStack) -> Any:
    (path / "data").write_bytes(DATA)
    process = await asyncio.create_subprocess_exec(*PRINT, str(path / "data"), stdout=subprocess.PIPE)
    stack.push_async_callback(process.wait)
    return process.stdout


async def anyio_output(path: Path, stack: AsyncExitStack) -> Any:
    (path / "data").write_bytes(DATA)
    process = await stack.enter_async_context(await anyio.open_process([*PRINT, str(path / "data")], stderr=None))
    return process.stdout


def given(make: Callable[[], Any]) -> Make:
    async def made(path: Path, stack: AsyncExitStack) -> Any:
        return make()

    return made


# Each with the name and the type that it has to be stored with. None is a type that nothing tells but the bytes.
SOURCES: dict[str, tuple[Make, str | None, str | None]] = {
    "aiohttp: a part of a form": (a_part, "marmot.png", "image/png"),
    "aiohttp: a response": (a_response, "marmot.png", "image/png"),
    "aiohttp: a response that was read": (a_response_that_was_read, "marmot.png", "image/png"),
    "aiohttp: the content of a response": (the_content_of_a_response, None, None),
    "aiohttp: a request": (a_request, None, None),
    "aiohttp: a request that was read": (a_request_that_was_read, None, None),
    "aiohttp: a field of a parsed form": (a_field_of_a_parsed_form, "marmot.png", "image/png"),
    "httpx: a response as it arrives": (httpx_streamed, None, "image/png"),
    "httpx: a loaded response": (httpx_loaded, None, "image/png"),
    "httpx: a synchronous response as it arrives": (httpx_sync_streamed, None, "image/png"),
    "httpx: a loaded synchronous response": (httpx_sync_loaded, None, "image/png"),
    "urllib: a response": (urllib_response, None, "image/png"),
    "an attachment of a chat": (given(Attachment), "marmot.png", "image/png"),
    "a synchronous read without a size": (given(SyncWhole), "marmot.png", "image/png"),
    "a hidden asynchronous read without a size": (given(HiddenWhole), "marmot.png", "image/png"),
    "Starlette: UploadFile": (upload_file, "marmot.png", "image/png"),
    "Starlette: UploadFile that was read": (upload_file_that_was_read, "marmot.png", "image/png"),
    "Starlette: UploadFile moved by a check": (upload_file_that_a_check_has_moved, "marmot.png", "image/png"),
    "Starlette: a large UploadFile that was read": (large_upload_file_that_was_read, "marmot.png", "image/png"),
    "a synchronous form's file that was read": (given(SyncForm), "marmot.png", "image/png"),
    "zipfile: a member": (zip_member, "marmot.png", "image/png"),
    "gzip": (packed(gzip.open, ".gz"), "marmot.png", "image/png"),
    "gzip in upper case": (packed(gzip.open, ".GZ"), "marmot.png", "image/png"),
    "gzip without a suffix": (packed(gzip.open, ""), "marmot.png", "image/png"),
    "bz2": (packed(bz2.open, ".bz2"), "marmot.png", "image/png"),
    "lzma": (packed(lzma.open, ".xz"), "marmot.png", "image/png"),
    "gzip in a buffered reader": (packed(gzip.open, ".gz", io.BufferedReader), "marmot.png", "image/png"),
    "gzip in anyio's file": (packed(gzip.open, ".gz", anyio.wrap_file), "marmot.png", "image/png"),
    "bz2 in anyio's file": (packed(bz2.open, ".bz2", anyio.wrap_file), "marmot.png", "image/png"),
    "subprocess: a pipe": (popen_output, None, None),
    "subprocess: an unbuffered pipe": (unbuffered_output, None, None),
    "asyncio: the output of a process": (asyncio_output, None, None),
    "anyio: the output of a process": (anyio_output, None, None),
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_foreign_object_is_stored_whole_with_its_name_and_type(
    kind: str, bucket: Bucket, tmp_path: Path
) -> None:
    make, name, content_type = SOURCES[kind]
    async with AsyncExitStack() as stack:
        info = await bucket.upload(await make(tmp_path, stack))
    assert (info.length, info.filename) == (len(DATA), name)
    assert content_type in (None, info.content_type)
    assert await bucket.read(info.id) == DATA


@pytest.mark.parametrize("make", [tar_member, streamed_tar_member, wrapped_tar_member])
async def test_a_member_of_a_tar_file_is_stored_and_not_under_the_name_of_the_archive(
    make: Make, bucket: Bucket, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        info = await bucket.upload(await make(tmp_path, stack))
    assert info.filename in (None, "marmot.png")  # Python before 3.12 does not know it
    assert info.content_type in (None, "image/png")
    assert await bucket.read(info.id) == DATA


@pytest.mark.parametrize(
    ("stored", "unpacked", "content_type"),
    [
        ("t.csv.gz", "t.csv", "text/csv"),
        ("t.CSV.GZ", "t.CSV", "text/csv"),
        ("zoo.tgz", "zoo.tar", "application/x-tar"),
        ("map.svgz", "map.svg", "image/svg+xml"),
        ("notes", "notes", None),
        (".gz", ".gz", None),
    ],
)
async def test_an_unpacked_file_has_the_name_and_type_of_what_was_packed(
    stored: str, unpacked: str, content_type: str | None, bucket: Bucket, tmp_path: Path
) -> None:
    for module in (gzip, bz2, lzma):
        name = stored if module is gzip else stored.replace("gz", "bz2" if module is bz2 else "xz").replace("GZ", "XZ")
        if module is not gzip and ("svg" in stored or stored.startswith((".", "zoo"))):
            continue
        with module.open(tmp_path / name, "wb") as file:
            file.write(TEXT)
        with module.open(tmp_path / name) as file:
            info = await bucket.upload(file)
        assert info.filename == unpacked
        assert content_type in (None, info.content_type)
        assert await bucket.read(info.id) == TEXT
    path = tmp_path / "kept.csv.gz"
    path.write_bytes(gzip.compress(TEXT))
    with path.open("rb") as file:
        kept = await bucket.upload(file)
    assert (kept.filename, kept.content_type) == ("kept.csv.gz", "application/gzip"), "the packed bytes are stored"


# Asking for the length


class Forbidden(io.RawIOBase):
    """Fails at each question but read."""

    def __init__(self) -> None:
        self._left = io.BytesIO(DATA)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._left.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        raise AttributeError("seek was called")

    def tell(self) -> int:
        raise AttributeError("tell was called")

    @property
    def name(self) -> str:
        raise RuntimeError("name was read")


class ForbiddenObject:
    def __init__(self) -> None:
        self._left = io.BytesIO(DATA)

    def read(self, size: int) -> bytes:
        return self._left.read(size)

    def __getattr__(self, name: str) -> Any:
        raise LookupError(f"{name} was read")


@pytest.mark.parametrize("make", [Forbidden, lambda: io.BufferedReader(Forbidden()), ForbiddenObject])
async def test_an_object_that_fails_at_every_question_is_read(make: Callable[[], Any]) -> None:
    source = open_source(make())
    await source.prepare()
    assert (source.size, source.name, source.content_type) == (None, None, None)
    assert await drained(source) == DATA


async def test_asking_for_the_length_moves_nothing_and_unpacks_nothing(tmp_path: Path) -> None:
    class Counting(gzip.GzipFile):
        seeks = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            Counting.seeks += (offset, whence) != (0, io.SEEK_CUR)  # which is `tell()`
            return super().seek(offset, whence)

    with Counting(tmp_path / "a.gz", "wb") as file:
        file.write(DATA)
    Counting.seeks = 0
    with Counting(tmp_path / "a.gz", "rb") as file, io.BufferedReader(file) as buffered:
        buffered.read(10)
        source = open_source(buffered)
        await source.prepare()
        assert (source.size, buffered.tell()) == (None, 10)
        assert await drained(source) == DATA[10:]
    assert Counting.seeks == 0


async def test_the_length_of_a_plain_file_is_known_without_moving_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with (tmp_path / "a").open("rb") as file, (tmp_path / "a").open("rb", buffering=0) as raw:
        for each in (file, raw, io.BytesIO(DATA)):
            each.seek(1000)
            source = open_source(each)
            await source.prepare()
            assert (source.size, each.tell()) == (len(DATA) - 1000, 1000)


async def test_a_buffer_in_use_has_no_length_and_is_read() -> None:
    file = io.BytesIO(DATA)
    with file.getbuffer():
        assert await drained(file) == DATA


async def test_a_pipe_with_a_path_has_no_length(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        (tmp_path / "pipe").write_bytes(DATA)

    thread = threading.Thread(target=write)
    thread.start()
    source = open_source(tmp_path / "pipe")
    await source.prepare()
    assert source.size is None
    assert await drained_of(source) == DATA
    thread.join()


async def drained_of(source: Any) -> bytes:
    gathered = b""
    while block := await source.read():
        gathered += block
    await source.aclose()
    return gathered


# What is refused


def zip_archive() -> Any:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("a", "a")
    return zipfile.ZipFile(buffer)


class NeedsTwo:
    def read(self, first: int, second: int) -> bytes:
        return b""


class GivesText:
    async def read(self) -> str:
        return "text"


class GivesNothing:
    def read(self) -> None:
        return None


@pytest.mark.parametrize("make", [zip_archive, NeedsTwo, GivesText, GivesNothing, lambda: {"read": b"x"}])
async def test_a_read_that_gives_no_bytes_is_a_bad_source(make: Callable[[], Any], bucket: Bucket) -> None:
    source = make()
    with pytest.raises(BadSource, match=type(source).__name__):
        await bucket.upload(source)
    assert [info async for info in bucket.find()] == []


async def test_a_part_that_was_read_already_is_refused_and_not_stored_empty(bucket: Bucket) -> None:
    async with AsyncExitStack() as stack:
        part = await aiohttp_part(stack, read=True)
        with pytest.raises(BadSource, match="BodyPartReader was read already"):
            await bucket.upload(part)
    async with AsyncExitStack() as stack:
        assert (await bucket.upload(await aiohttp_part(stack, b""))).length == 0


async def test_a_request_with_a_form_is_refused_with_advice(bucket: Bucket) -> None:
    form = aiohttp.FormData()
    form.add_field("photo", DATA, filename="marmot.png")
    async with AsyncExitStack() as stack:
        request = await aiohttp_request(stack, data=form)
        with pytest.raises(BadSource, match=r"contains a form.*multipart"):
            await bucket.upload(request)
        await request.read()


async def test_the_name_of_a_forms_field_is_not_a_file_name() -> None:
    for filename in (None, ""):
        part = SimpleNamespace(read=lambda size: b"", filename=filename, name="photo")
        assert open_source(part).name is None


async def test_a_response_that_fails_half_way_stores_nothing(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA
        raise httpx.ReadError("the connection broke")

    def broken_sync() -> Iterator[bytes]:
        yield DATA
        raise httpx.ReadError("the connection broke")

    for content in (broken(), broken_sync()):
        response = httpx.Response(200, content=content)
        with pytest.raises(httpx.ReadError, match="the connection broke"):
            await bucket.upload(response)
    assert [info async for info in bucket.find()] == []
