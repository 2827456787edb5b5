"""Uploads from a request's body, and HTTP responses for errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from typing import Any

from bson.errors import InvalidId
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from gridproxy.errors import (
    BadFilename,
    BadId,
    BadMetadata,
    ContentTypeRefused,
    DocumentMissing,
    FileAlreadyStored,
    FileMissing,
    FileRefused,
    StaleDocument,
    TooLarge,
    UniqueIndexViolation,
    UploadInProgress,
    ValidationError,
)
from gridproxy.gridfs.upload.sources import Source


class RequestRefused(FileRefused, HTTPException):
    """A request that cannot be stored as a file. Starlette answers it without handlers, too."""

    def __init__(self, status: HTTPStatus, reason: str, headers: dict[str, str] | None = None) -> None:
        HTTPException.__init__(self, status, reason, headers)
        FileRefused.__init__(self, reason)

    def __str__(self) -> str:
        return Exception.__str__(self)


class RequestBody:
    """The body of a request as content for `put`, with the type and the length from the request's header.

    A body that is too large raises `TooLarge` before its first byte is read. If the client disconnects, storing the
    file raises Starlette's `ClientDisconnect` and nothing is stored. Reading the body a second time raises
    Starlette's RuntimeError. For a form, store its `UploadFile` instead, and limit the form with `max_body_size`.

    ```python
    async def upload(request):
        return await Bucket(client["zoo"]).upload(RequestBody(request, filename="a.png"))
    ```

    Args:
        request: The request.
        filename: The name to store.
        content_type: Replaces the Content-Type field. By default the field's value is used, except for
            `application/x-www-form-urlencoded`, which curl sends for every body.

    Raises:
        ContentTypeRefused: The request contains a form (`multipart/form-data`), and `content_type` is None.
        FileRefused: The request contains only a part of a file (Content-Range, answered by 400 as RFC 9110 14.5 asks),
            or its body is compressed (Content-Encoding, answered by 415). It is an `HTTPException`, too.
    """

    def __init__(self, request: Request, *, filename: str | None = None, content_type: str | None = None) -> None:
        check_fields(request)
        self._request = request
        self._filename = filename
        self._content_type = _type_of_file(request) if content_type is None else content_type

    def as_source(self) -> Source:
        """Return the body as a source that can be read once."""
        return _Body(self._request, self._filename, self._content_type)


def check_fields(request: Request) -> None:
    """Raise `RequestRefused` if the body is only a part of a file, or compressed."""
    if "content-range" in request.headers:
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST, "a part of a file (Content-Range) cannot be stored: send all of it"
        )
    encodings = request.headers.get("content-encoding", "identity").strip().lower()
    if encodings not in ("", "identity"):
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is compressed (Content-Encoding: {encodings[:50]}): send it without a Content-Encoding",
            {"Accept-Encoding": "identity"},
        )


def _type_of_file(request: Request) -> str | None:
    declared = request.headers.get("content-type")
    essence = (declared or "").partition(";")[0].strip().lower()
    if essence == "multipart/form-data":
        raise ContentTypeRefused(
            f"the request contains a form ({essence}) instead of a file: store the form's UploadFile, or send the file "
            "as the body with its own Content-Type",
            actual=essence,
        )
    # curl sends this type by default for every body.
    return None if essence == "application/x-www-form-urlencoded" else declared


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
    DocumentMissing: HTTPStatus.NOT_FOUND,
    FileAlreadyStored: HTTPStatus.CONFLICT,
    StaleDocument: HTTPStatus.CONFLICT,
    UniqueIndexViolation: HTTPStatus.CONFLICT,
    UploadInProgress: HTTPStatus.CONFLICT,
    BadFilename: HTTPStatus.BAD_REQUEST,
    BadId: HTTPStatus.BAD_REQUEST,
    InvalidId: HTTPStatus.BAD_REQUEST,  # of ObjectId(...), for an id from a path
    BadMetadata: HTTPStatus.UNPROCESSABLE_ENTITY,
    ValidationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ContentTypeRefused: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FileRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ClientDisconnect: HTTPStatus.BAD_REQUEST,  # An unhandled error would only fill the log.
}
# Sentences instead of messages that name ids, buckets and documents. The other errors speak of the request alone.
_DETAIL: dict[type[Exception], str] = {
    FileMissing: "There is no such file.",
    DocumentMissing: "There is no such document.",
    FileAlreadyStored: "A file is already stored here. It was not changed.",
    UniqueIndexViolation: "Another file has the same name or value. Nothing was stored.",
    StaleDocument: "Another client changed this file first. Load it again and repeat the change.",
    UploadInProgress: "This file is being written at this moment. Try again later.",
    InvalidId: "This is not the id of a file.",
    ClientDisconnect: "The request ended before its body was complete.",
}
_LONGEST_DETAIL = 500  # characters


async def problem_response(request: Request, error: Exception) -> Response:
    """Answer an error of the client with `application/problem+json` (RFC 9457).

    The status is 404 for `FileMissing` and `DocumentMissing`, 409 for `FileAlreadyStored`, `UniqueIndexViolation`,
    `StaleDocument` and `UploadInProgress`, 413 for `TooLarge`, 415 for `ContentTypeRefused`, 422 for any other
    `FileRefused`, for `BadMetadata` and `ValidationError`, and 400 for `BadFilename`, `BadId`, bson's `InvalidId` and
    Starlette's `ClientDisconnect`. An `HTTPException` keeps its status.

    ```python
    handlers = {gridproxy.TooLarge: problem_response}
    ```

    Args:
        request: The request, which is not used.
        error: The error. Its message is shown if it speaks only of what the client has sent.

    Raises:
        Exception: `error` itself, if it is of another type.
    """
    kinds = type(error).__mro__
    status = next((_STATUS[kind] for kind in kinds if kind in _STATUS), None)
    headers, text = None, str(error)
    if isinstance(error, HTTPException):
        status, headers = HTTPStatus(error.status_code), error.headers
        text = text if isinstance(error, RequestRefused) else error.detail
    if status is None:
        raise error
    detail = next((_DETAIL[kind] for kind in kinds if kind in _DETAIL), text)
    problem: dict[str, object] = {"title": status.phrase, "status": status.value, "detail": detail[:_LONGEST_DETAIL]}
    if isinstance(error, FileRefused | ValidationError):
        problem["field"] = error.field
    return JSONResponse(problem, status, headers, media_type="application/problem+json")


exception_handlers: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]
"""`problem_response` for each of its errors: pass them to `Starlette(exception_handlers=...)` or `FastAPI(...)`."""

exception_handlers = {**dict.fromkeys(_STATUS, problem_response)}
