"""A view that serves the files of a storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

from django.core.files.storage import storages
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views import View

from gridproxy.errors import BadOption, type_name
from gridproxy.http import Answer, answer, describe
from gridproxy.sync import GridFile

from .storage import GridFSStorage


class GridFSView(View):
    """Serve the files of a `GridFSStorage`, with ranges and conditional requests (RFC 9110), under WSGI and ASGI.

    It checks no permission: wrap it, for example in Django's `login_required`, or give only public files to its
    storage. The fields that protect against files of strangers are those of `gridproxy.http.describe`. The pattern of
    its address names the file: `"media/<path:name>"`.
    """

    http_method_names: ClassVar[list[str]] = ["get", "head", "options"]
    storage: str | GridFSStorage = "default"
    """The storage, or its name in `STORAGES`."""
    disposition: str | None = None
    """As for `gridproxy.http.describe`, and so are the others."""
    cache_control: str | None = None
    """The Cache-Control field, "private" by default."""
    resource_policy: str | None = None
    """The Cross-Origin-Resource-Policy field, "same-origin" by default."""
    security_policy: str | None = None
    """The Content-Security-Policy field."""

    def get(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """Answer GET and HEAD for the newest file of this name."""
        storage = storages[self.storage] if isinstance(self.storage, str) else self.storage
        if not isinstance(storage, GridFSStorage):
            raise BadOption(f"GridFSView serves the files of a GridFSStorage, not of {type_name(storage)}")
        try:
            file = storage.file(name)
        except FileNotFoundError:
            raise Http404 from None
        assert file.info is not None, "`by_name` returns the record, too"
        fields = describe(
            file.info,
            disposition=self.disposition,
            cache_control=self.cache_control,
            resource_policy=self.resource_policy,
            security_policy=self.security_policy,
        )
        headers = {key.lower(): value for key, value in request.headers.items()}
        reply = answer(request.method or "GET", headers, list(fields.items()), file.info.length)
        response: HttpResponseBase
        if not reply.spans:
            response = HttpResponse(status=reply.status)
        else:
            content = _content(file, reply)
            # Django would collect a blocking iterator in memory under ASGI, and an asynchronous one under WSGI.
            parts = _in_threads(content) if isinstance(request, ASGIRequest) else content
            response = StreamingHttpResponse(parts, status=reply.status)
        del response.headers["content-type"]
        for field, value in reply.fields:
            response.headers[field] = value
        return response


def _content(file: GridFile, reply: Answer) -> Iterator[bytes]:
    for span in reply.spans:
        if reply.multipart is not None:
            yield reply.multipart.opening(span)
        with file.stream(*span) as blocks:
            yield from blocks
    if reply.multipart is not None:
        yield reply.multipart.closing


async def _in_threads(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(next, content, b""):
        yield block
