"""What FastAPI's documentation says of routes that send and receive files (OpenAPI 3.1)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": ["string", "null"]},
    },
}
_ANY_TYPE = ("application/octet-stream",)


def file_responses(*content_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the statuses and media types of a route that returns a `GridFileResponse`, for FastAPI's `responses=`.

    ```python
    from fastapi import FastAPI
    from gridproxy.adapters.starlette import GridFileResponse, file_responses

    app = FastAPI()

    @app.get("/photos/{id}", response_class=GridFileResponse, responses=file_responses("image/*"))
    async def photo(id: str) -> GridFileResponse:
        return GridFileResponse(bucket.file(id))
    ```

    Args:
        *content_types: The types of the files, such as "image/*". `application/octet-stream` by default.
    """
    content = {kind: {"schema": _BYTES} for kind in content_types or _ANY_TYPE}
    ranges = {"multipart/byteranges": {"schema": _BYTES}}
    return {
        200: {"description": "The whole file.", "content": content, "headers": _headers("ETag", "Accept-Ranges")},
        206: {
            "description": "The parts of the file that the Range field asks for.",
            "content": {**content, **ranges},
            "headers": _headers("ETag", "Content-Range"),
        },
        304: {"description": "The client has the file already."},
        404: {"description": "There is no such file."},
        412: {"description": "The file is not as the conditions of the request want it."},
        416: {"description": "No part of the file is in the ranges.", "headers": _headers("Content-Range")},
    }


def upload_body(*content_types: str) -> dict[str, Any]:
    """Return the body of a route that reads a `RequestBody`, for FastAPI's `openapi_extra=`: its page has a file box.

    ```python
    from fastapi import FastAPI, Request
    from gridproxy.adapters.starlette import RequestBody, exception_handlers, upload_body

    app = FastAPI(exception_handlers=exception_handlers)

    @app.put("/photos/{name}", status_code=201, openapi_extra=upload_body("image/png", "image/jpeg"))
    async def store(name: str, request: Request) -> str:
        return str((await bucket.upload(RequestBody(request, filename=name))).id)
    ```

    Args:
        *content_types: The accepted types, such as "image/png". `application/octet-stream` by default.
    """
    refused = (HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    problem = {"application/problem+json": {"schema": _PROBLEM}}
    return {
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": _BYTES} for kind in content_types or _ANY_TYPE},
        },
        "responses": {str(int(status)): {"description": status.phrase, "content": problem} for status in refused},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}} for name in names}
