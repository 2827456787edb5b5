"""Spans of OpenTelemetry for uploads and downloads, if the application has set a tracer provider.

The package imports nothing of OpenTelemetry by itself: an application that sets a provider has imported the API. Code
on hot paths asks `API in sys.modules` before it calls a function of this module.

Spans have no filename, metadata or message of an error, because these are from users and may be secrets.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from bson import ObjectId

from gridproxy.errors import shortened, shown

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context as TraceContext

API = "opentelemetry.trace"
UPLOAD = "gridfs.upload"
DOWNLOAD = "gridfs.download"


class TracedBucket(Protocol):
    """What a span needs to know of a bucket: the names of its database and of itself."""

    @property
    def key(self) -> tuple[str, str]:
        """The name of the database and the name of the bucket."""


class TransferSpan:
    """The span of one upload or one download. Only its first end has an effect."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._is_over = False

    @contextmanager
    def active(self, *, final: bool = False) -> Iterator[TransferSpan]:
        """Make this the parent of the spans that begin in the block. `final`: an error in the block ends this span."""
        from opentelemetry import trace  # noqa: PLC0415  # optional

        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            try:
                yield self
            except Exception as error:
                if final:
                    self.end(error)
                raise

    def describe(self, *, size: int, id: object = None, files: int | None = None) -> None:
        """Add the number of bytes, and the id of the file or the number of files."""
        if self._is_over:
            return
        self._span.set_attribute("gridfs.bytes", size)
        if id is not None:
            self._span.set_attribute("gridfs.file.id", _plain(id))
        if files is not None:
            self._span.set_attribute("gridfs.files", files)

    def end(self, error: BaseException | None = None, *, size: int | None = None) -> None:
        """End the span, as a failed one if there was an error. `size` is the number of bytes."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  # optional

        if self._is_over:
            return
        if size is not None:
            self.describe(size=size)
        self._is_over = True
        if error is not None:
            kind = type(error)
            self._span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


UNTRACED: AbstractContextManager[TransferSpan | None] = nullcontext()


def start_span(name: str, bucket: TracedBucket, id: object = None) -> TransferSpan | None:
    """Start a span as a child of the current one. Return None if the application has set no tracer provider."""
    if API not in sys.modules:
        return None
    from opentelemetry import trace  # noqa: PLC0415  # optional

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return None  # frameworks import the API, too
    database, bucket_name = bucket.key
    attributes = {"db.system.name": "mongodb", "db.namespace": database, "gridfs.bucket": bucket_name}
    if id is not None:
        attributes["gridfs.file.id"] = _plain(id)
    return TransferSpan(provider.get_tracer("gridproxy").start_span(name, attributes=attributes))


@contextmanager
def traced(name: str, bucket: TracedBucket) -> Iterator[TransferSpan | None]:
    """Run the block in a span of its own, or in none if the application has set no tracer provider."""
    span = start_span(name, bucket)
    if span is None:
        yield None
        return
    try:
        with span.active():
            yield span
    except BaseException as error:
        span.end(error)
        raise
    span.end()


def active(span: TransferSpan | None) -> AbstractContextManager[TransferSpan | None]:
    """Return a context manager in which this span, if there is one, is the parent of others."""
    return UNTRACED if span is None else span.active()


def current_trace() -> TraceContext | None:
    """Return what OpenTelemetry keeps of the current span, or None if it is not used."""
    if API not in sys.modules:
        return None
    from opentelemetry import context  # noqa: PLC0415  # optional

    return context.get_current()


def context_with(current: TraceContext | None) -> contextvars.Context:
    """Return an empty context that keeps only the current span, for work that several callers share."""
    empty = contextvars.Context()
    if current:
        from opentelemetry import context  # noqa: PLC0415  # optional

        empty.run(context.attach, current)
    return empty


def _plain(id: object) -> str:
    return shortened(str(id)) if isinstance(id, str | ObjectId) else shown(id)
