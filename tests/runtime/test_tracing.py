"""Spans of OpenTelemetry: one for each upload and download, and the driver's commands are its children."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from gridproxy import AsyncGridFile, AsyncioRequired, Bucket, FileAlreadyStored, FileMissing
from gridproxy.gridfs.store.collections import Store

from ..observing import Database

SECRET = "pa55word"


class CommandSpans(CommandListener):
    """A span for each command, as opentelemetry-instrumentation-pymongo makes them."""

    def __init__(self) -> None:
        self._open: dict[int, trace.Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        tracer = trace.get_tracer_provider().get_tracer("driver")
        self._open[event.request_id] = tracer.start_span(event.command_name, kind=trace.SpanKind.CLIENT)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._open.pop(event.request_id).end()

    def failed(self, event: CommandFailedEvent) -> None:
        self._open.pop(event.request_id).end()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Set a tracer provider for one test, and return what it exports."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
async def traced(mongodb_uri: str, database: Database, spans: InMemorySpanExporter) -> AsyncIterator[Bucket]:
    """Return a bucket in which 100 bytes are a chunk, of a client whose commands are spans."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[CommandSpans()]) as client:
        await client.admin.command("ping")
        spans.clear()
        yield Bucket(client[database.name], chunk_size=100)


async def upload(bucket: Bucket) -> None:
    await bucket.upload(b"1234", filename=SECRET, metadata={"key": SECRET})


async def upload_batches(bucket: Bucket) -> None:
    await bucket.upload(bytes(900), id=7)


async def stage(bucket: Bucket) -> None:
    await bucket.stage(bytes(900))


async def write(bucket: Bucket) -> None:
    async with bucket.open_upload(filename=SECRET) as writer:
        for _ in range(3):
            await writer.write(bytes(300))


async def write_in_tasks(bucket: Bucket) -> None:
    writer = await asyncio.create_task(bucket.open_upload().start())
    await asyncio.gather(*[asyncio.ensure_future(writer.write(bytes(450))) for _ in range(2)])
    await asyncio.create_task(writer.close())


async def upload_many(bucket: Bucket) -> None:
    await bucket.upload_many([b"1", b"22"])


async def failing() -> AsyncIterator[bytes]:
    yield bytes(900)
    raise ConnectionError(SECRET)


async def fail(bucket: Bucket) -> None:
    with pytest.raises(ConnectionError):
        await bucket.upload(failing())


async def abort(bucket: Bucket) -> None:
    with pytest.raises(ConnectionError):
        async with bucket.open_upload(id=8) as writer:
            await writer.write(bytes(900))
            raise ConnectionError(SECRET)


async def cancel(bucket: Bucket) -> None:
    reading = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(900)
        reading.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bucket.upload(endless()))
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def refuse(bucket: Bucket) -> None:
    await bucket.upload(b"1", id=7)
    with pytest.raises(FileAlreadyStored):
        await bucket.open_upload(id=7)


async def fail_at_the_end(bucket: Bucket) -> None:
    with patch.object(Store, "insert_record", side_effect=OperationFailure(SECRET)):
        writer = await bucket.open_upload()
        await writer.write(bytes(900))
        with pytest.raises(OperationFailure):
            await writer.close()


async def read(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(900))
    assert len(await bucket.read(info.id)) == 900
    assert len(await bucket.read(info.id, 150, 250)) == 100


async def stream(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(900))
    async with bucket.stream(info.id) as blocks:
        assert len([block async for block in blocks]) == 9
    async with bucket.stream(info.id) as blocks:
        await anext(blocks)


async def read_lines(bucket: Bucket) -> None:
    info = await bucket.upload(b"1\n2\n")
    async with AsyncGridFile(info.id, bucket=bucket).open() as reader:
        assert await reader.readlines() == [b"1\n", b"2\n"]


async def drop(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(900))
    await anext(aiter(bucket.stream(info.id)))
    gc.collect()
    await asyncio.sleep(0)


async def read_known(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(900))
    assert (await bucket.read_many([info.id]))[info.id] == bytes(900)


async def read_at_once(bucket: Bucket) -> None:
    infos = await bucket.upload_many([b"1", b"22"])
    assert await asyncio.gather(*[bucket.read(info.id) for info in infos]) == [b"1", b"22"]


async def miss(bucket: Bucket) -> None:
    with pytest.raises(FileMissing):
        await bucket.read(SECRET.upper())


UP, DOWN = "gridfs.upload", "gridfs.download"
Expected = list[tuple[str, int | None, str | None]]
# The number of bytes is that of the bytes which the server has sent.
SCENES: dict[str, tuple[Callable[[Bucket], Awaitable[None]], Expected]] = {
    "upload": (upload, [(UP, 4, None)]),
    "batches": (upload_batches, [(UP, 900, None)]),
    "stage": (stage, [(UP, 900, None)]),
    "write": (write, [(UP, 900, None)]),
    "write in tasks": (write_in_tasks, [(UP, 900, None)]),
    "many": (upload_many, [(UP, 3, None)]),
    "fail": (fail, [(UP, None, "ConnectionError")]),
    "abort": (abort, [(UP, 900, "ConnectionError")]),
    "cancel": (cancel, [(UP, None, "asyncio.exceptions.CancelledError")]),
    "refuse": (refuse, [(UP, 1, None), (UP, 0, "gridproxy.errors.FileAlreadyStored")]),
    "fail at the end": (fail_at_the_end, [(UP, 900, "pymongo.errors.OperationFailure")]),
    "read": (read, [(UP, 900, None), (DOWN, 900, None), (DOWN, 100, None)]),
    "stream": (stream, [(UP, 900, None), (DOWN, 900, None), (DOWN, 900, None)]),
    "lines": (read_lines, [(UP, 4, None), (DOWN, 4, None)]),
    "drop": (drop, [(UP, 900, None), (DOWN, 900, None)]),
    "known": (read_known, [(UP, 900, None), (DOWN, 900, None)]),
    "at once": (read_at_once, [(UP, 3, None), (DOWN, 1, None), (DOWN, 2, None)]),
    "miss": (miss, [(DOWN, None, "gridproxy.errors.FileMissing")]),
}
# Commands of other calls than uploads and downloads. `read_many` finds the records before it downloads.
ALONE = {"known": {"find"}}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("name", SCENES)
async def test_the_commands_of_a_transfer_are_children_of_its_span(
    name: str, traced: Bucket, spans: InMemorySpanExporter
) -> None:
    act, expected = SCENES[name]
    await act(traced)
    found = spans.get_finished_spans()
    ours = [span for span in found if span.name.startswith("gridfs.")]
    assert sorted(map(brief, ours), key=str) == sorted(expected, key=str)
    alone = {span.name for span in found if span.parent is None} - {UP, DOWN}
    assert alone == ALONE.get(name, set())
    parents = {span.parent.span_id for span in found if span.parent is not None}
    if name != "at once":  # one command for several downloads
        assert {span.context.span_id for span in ours} == parents
    first = ours[0].attributes or {}
    assert first["db.system.name"] == "mongodb"
    assert first["db.namespace"] == traced.database.name
    assert first["gridfs.bucket"] == "fs"
    assert SECRET not in "".join(span.to_json() for span in ours)
    assert not trace.get_current_span().is_recording()


def brief(span: ReadableSpan) -> tuple[str, int | None, str | None]:
    attributes: Any = span.attributes
    error = attributes.get("error.type")
    assert span.status.is_ok == (error is None)
    return span.name, attributes.get("gridfs.bytes"), error


@pytest.mark.usefixtures("traced")
async def test_a_transfer_is_a_child_of_the_span_around_it_and_so_are_its_indexes(
    traced: Bucket, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer_provider().get_tracer("application").start_as_current_span("request"):
        info = await traced.upload(b"1234")
        file = traced.file(info.id)
        assert await file.read() == b"1234"
    named = {span.name: span for span in spans.get_finished_spans()}
    request, up = named["request"].context, named[UP]
    assert up.parent == named[DOWN].parent == request
    assert named["createIndexes"].parent == named["listIndexes"].parent == up.context
    assert (up.attributes or {})["gridfs.file.id"] == (named[DOWN].attributes or {})["gridfs.file.id"] == str(info.id)
    assert up.kind is trace.SpanKind.INTERNAL


async def test_a_call_without_asyncio_says_so(traced: Bucket, spans: InMemorySpanExporter) -> None:
    def without_asyncio() -> None:
        with pytest.raises(AsyncioRequired):
            traced.read(1).send(None)
        with pytest.raises(AsyncioRequired):
            traced.upload(b"1").send(None)

    await asyncio.to_thread(without_asyncio)
    assert [brief(span) for span in spans.get_finished_spans()] == [(UP, None, "gridproxy.errors.AsyncioRequired")]


@pytest.mark.parametrize("how", ["no provider", "no API"])
async def test_there_is_no_span_unless_the_application_traces(
    how: str, traced: Bucket, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "no API":
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    else:
        monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    await read(traced)
    await write(traced)
    assert [span.name for span in spans.get_finished_spans() if span.name.startswith("gridfs.")] == []
