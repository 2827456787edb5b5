"""Uploads: a request's body as a source, and errors as the answers that HTTP has for them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from gridproxy.errors import ContentTypeRefused, FileAlreadyStored, FileMissing, FileRefused, StaleDocument, TooLarge
from gridproxy.gridfs.upload.sources import Source

_FORM = "multipart/form-data"
# What curl calls every body, unless told otherwise.
_ANY_BODY = "application/x-www-form-urlencoded"


class RequestBody:
    """The body of a request as a source: `await file.put(RequestBody(request, filename="a.png"))`.

    It is `request.stream()` with what the request's header says: the content type (but for curl's
    `application/x-www-form-urlencoded`), and the length in bytes, so that a body that is too large raises `TooLarge`
    before its first byte is read. A client that goes away midway raises Starlette's `ClientDisconnect`, and nothing is
    stored. The stream can be read once: Starlette's RuntimeError says that it was.

    A form is not its file: making one of a request that says `multipart/form-data` raises `ContentTypeRefused`, before
    anything is read. `content_type` stands in for what the header says: such a body is taken as it is then.

    For a form's `UploadFile`, give that itself. Starlette has taken in the whole form by then: its `max_body_size` is
    what limits that.
    """

    def __init__(self, request: Request, *, filename: str | None = None, content_type: str | None = None) -> None:
        self._request = request
        self._filename = filename
        self._content_type = _type_of_file(request) if content_type is None else content_type

    def as_source(self) -> Source:
        """The body, to be read once."""
        return _Body(self._request, self._filename, self._content_type)


def _type_of_file(request: Request) -> str | None:
    declared = request.headers.get("content-type")
    came = (declared or "").partition(";")[0].strip().lower()
    if came == _FORM:
        raise ContentTypeRefused(
            f"a form was sent ({came}), and not a file: take its UploadFile, which is a source, too, or send the file "
            "as the body, with a Content-Type of its own",
            actual=came,
        )
    return None if came == _ANY_BODY else declared


class _Body(Source):
    def __init__(self, request: Request, filename: str | None, content_type: str | None) -> None:
        self.name = filename
        self.content_type = content_type
        length = request.headers.get("content-length", "")
        self.size = int(length) if re.fullmatch("[0-9]{1,20}", length) else None
        self._blocks: AsyncIterator[bytes] = request.stream()

    async def read(self) -> bytes:
        async for block in self._blocks:
            if block:
                return block
        return b""


_STATUS: dict[type[Exception], HTTPStatus] = {
    FileMissing: HTTPStatus.NOT_FOUND,
    FileAlreadyStored: HTTPStatus.CONFLICT,
    StaleDocument: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ContentTypeRefused: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FileRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ClientDisconnect: HTTPStatus.BAD_REQUEST,  # as an error it would only fill the log
}


async def problem_response(request: Request, error: Exception) -> Response:
    """The answer for an error that is the client's, as `application/problem+json` (RFC 9457): an exception handler.

    404 for `FileMissing`, 409 for `FileAlreadyStored` and `StaleDocument`, 413 for `TooLarge`, 415 for
    `ContentTypeRefused`, 422 for any other `FileRefused`; 400, which nobody hears, for Starlette's `ClientDisconnect`.
    A refusal has its words as `detail`, and the `field`. Raises every other error again.
    """
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        raise error
    problem: dict[str, object] = {"title": status.phrase, "status": status.value}
    if isinstance(error, FileRefused):
        problem |= {"detail": str(error), "field": error.field}
    return JSONResponse(problem, status, media_type="application/problem+json")


exception_handlers: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]
"""`problem_response` for each of its errors: `Starlette(exception_handlers=exception_handlers)`, or FastAPI's."""

exception_handlers = {**dict.fromkeys(_STATUS, problem_response)}
