"""A stored file as a response of Starlette, or as an ASGI application."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gridproxy.errors import BadOption, FileMissing, FileVanished, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.http import CONDITIONS, Answer, answer, describe
from gridproxy.runtime.events import logger
from gridproxy.runtime.tasks import end_tasks, spawn

from .authorize import ContentDisposition
from .read_ahead import ReadAhead

_DISCONNECTED = {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN, errno.ETIMEDOUT}


class GridFileResponse(Response):
    """A stored file over HTTP (RFC 9110), with ranges and conditional requests.

    Return it from a route of Starlette or FastAPI, or mount it as an ASGI application. One object can answer several
    requests at once. GET and HEAD answer 200, 206, 304, 412 and 416. HEAD, 304, 412 and 416 read no chunk. Another
    method, or a `status_code` other than 200, sends the whole file.

    If the file is missing or expired, Starlette and FastAPI receive `HTTPException(404)`, or `FileMissing` if the
    application handles that and not 404. Elsewhere a 404 is sent. `CorruptFile` during the transfer makes the
    server close the connection, so the client notices the incomplete body. So does the removal of the file, which is
    one line in the log `gridproxy` instead of an error. Answering also raises
    `UploadInProgress`, `NotConnected` and pymongo's errors.

    ```python
    async def photo(request):
        return GridFileResponse(Bucket(client["zoo"]).file(request.path_params["id"]), cache_control="no-cache")
    ```

    Args:
        file: The file to send.
        status_code: The status of a response with the whole file.
        headers: Fields that replace the generated ones.
        media_type: Replaces the type of the stored file. By default, scripts, style sheets and WebAssembly are sent as
            `application/octet-stream`, so that no page can load them.
        background: A task that runs after the response, also if the client disconnected, but not after an error.
        filename: Replaces the name of the stored file.
        content_disposition_type: "inline" or "attachment". By default, types that a browser can run or apply (HTML,
            SVG and other XML, scripts, style sheets) are attachments.
        cache_control: The Cache-Control field, "private" by default. For this and the next two fields, "" means that
            the field is not sent.
        resource_policy: The Cross-Origin-Resource-Policy field, "same-origin" by default. Pass "same-site" or
            "cross-origin" if pages of other origins show the file.
        security_policy: The Content-Security-Policy field. The default is a sandbox without scripts, except for PDF.

    Raises:
        BadOption: `file` is not an `AsyncGridFile`, or `content_disposition_type` is another value.
    """

    def __init__(
        self,
        file: AsyncGridFile,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        filename: str | None = None,
        content_disposition_type: ContentDisposition | None = None,
        cache_control: str | None = None,
        resource_policy: str | None = None,
        security_policy: str | None = None,
    ) -> None:
        if not isinstance(file, AsyncGridFile):
            raise BadOption(f"GridFileResponse expects an AsyncGridFile such as bucket.file(id), not {type_name(file)}")
        if content_disposition_type not in (None, "inline", "attachment"):
            raise BadOption(
                f"content_disposition_type must be 'inline' or 'attachment', not {content_disposition_type!r}"
            )
        self.file = file
        # The response is sent after its route has returned, and so after a `using` block in it.
        self._store = file.state.overriding_store()
        self.status_code = status_code
        self.background = background
        self.filename = filename
        self.content_disposition_type = content_disposition_type
        self.init_headers(headers)
        # If this was set before init_headers, Starlette would add a charset.
        self.media_type = media_type
        self.cache_control = cache_control
        self.resource_policy = resource_policy
        self.security_policy = security_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(ReadAhead(self.file, self._store)) as reader:
            try:
                reply, first = await self._begin(scope, reader)
            except FileMissing as error:
                await self._answer_missing(error, scope, receive, send)
                return
            if scope["type"] != "websocket" and _is_whole(reply, first):
                await _send_whole(reply, first, send)
            elif not await self._send_streamed(reply, first, reader, scope, receive, send):
                return
        if self.background is not None:
            await self.background()

    async def _send_streamed(
        self, reply: Answer, first: list[bytes], reader: ReadAhead, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Send an answer while its bytes are read. Return False if the file was removed in between."""
        done = 0

        async def counted(message: Message) -> None:
            nonlocal done
            await send(message)
            done += len(message.get("body", b""))

        is_websocket = scope["type"] == "websocket"
        sending = _send_answer(reply, first, reader, _as_denial(counted) if is_websocket else counted)
        # The client of a websocket cannot send anything before the handshake.
        if first and not is_websocket:
            sending = _send_until_disconnect(sending, receive)
        try:
            await sending
        except FileVanished as error:
            # The server closes the connection of an answer that is not complete.
            logger.warning("%s, after %d bytes were sent. The response was not completed.", error, done)
            if _completes_answers(scope):
                raise
            return False
        return True

    async def _begin(self, scope: Scope, reader: ReadAhead) -> tuple[Answer, list[bytes]]:
        """Return the answer and its first bytes. An error until then can still change the status."""
        method = str(scope.get("method", "")).upper()
        request = _request_fields(scope)
        conditional = method == "GET" and self.status_code == 200 and request.keys() & CONDITIONS
        info = await reader.load_info(fetch=method != "HEAD" and not conditional)
        reply = answer(method, request, self._fields(info), info.length, status=self.status_code)
        if not reply.spans:
            return reply, []
        if (whole := await reader.take_whole()) is not None:
            return reply, whole
        reader.select(*reply.spans[0])
        return reply, await reader.next()

    async def _answer_missing(self, error: FileMissing, scope: Scope, receive: Receive, send: Send) -> None:
        app = scope.get("app")
        if isinstance(app, Starlette):
            if FileMissing in app.exception_handlers and 404 not in app.exception_handlers:
                raise error
            raise HTTPException(404) from error  # The application may have its own page for 404.
        await PlainTextResponse("Not Found", 404)(scope, receive, send)

    def _fields(self, info: FileInfo) -> list[tuple[str, str]]:
        own = dict(self.headers)
        kind = own.get("content-type", self.media_type)
        described = describe(
            info,
            media_type=kind,
            filename=self.filename,
            disposition=self.content_disposition_type,
            cache_control=self.cache_control,
            resource_policy=self.resource_policy,
            security_policy=self.security_policy,
        )
        if not own:
            return list(described.items())
        return [each for each in described.items() if each[0] not in own] + self.headers.items()


def _request_fields(scope: Scope) -> dict[str, str]:
    fields: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def _send_answer(reply: Answer, first: list[bytes], reader: ReadAhead, send: Send) -> None:
    """Send the whole answer, which begins with `first`. Return early if the client has disconnected."""

    async def send_message(message: Message) -> None:
        try:
            await send(message)
        except OSError as error:  # ASGI 2.4 and later. Reading may also raise OSError, which must not be caught.
            if not _is_disconnect(error):
                raise
            raise ClientDisconnect from error

    async def send_body(content: bytes, *, more: bool = True) -> None:
        await send_message({"type": "http.response.body", "body": content, "more_body": more})

    with suppress(ClientDisconnect):
        await send_message(_start_of(reply))
        pieces = first
        for number, span in enumerate(reply.spans):
            if number:
                reader.select(*span)
                pieces = await reader.next()
            if reply.multipart is not None:
                await send_body(reply.multipart.opening(span))
            while pieces:
                while pieces:
                    await send_body(pieces.pop(0))  # Frees the memory of the piece once it is sent.
                pieces = await reader.next()
        await send_body(b"" if reply.multipart is None else reply.multipart.closing, more=False)


def _start_of(reply: Answer) -> Message:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.fields]
    return {"type": "http.response.start", "status": reply.status, "headers": fields}


def _is_whole(reply: Answer, pieces: list[bytes]) -> bool:
    """Return whether these pieces are the whole content of the answer."""
    if len(reply.spans) != 1 or not pieces:
        return False
    start, stop = reply.spans[0]
    return sum(map(len, pieces)) == stop - start


async def _send_whole(reply: Answer, pieces: list[bytes], send: Send) -> None:
    """Send an answer that waits for nothing but the client. Return early if that has disconnected."""
    try:
        await send(_start_of(reply))
        while pieces:
            await send({"type": "http.response.body", "body": pieces.pop(0), "more_body": bool(pieces)})
    except ClientDisconnect:
        pass
    except OSError as error:
        if not _is_disconnect(error):
            raise


def _is_disconnect(error: OSError) -> bool:
    """Return whether a server raised this because the client has disconnected, and not a middleware for its disk."""
    if isinstance(error, ConnectionError) or error.errno in _DISCONNECTED:
        return True
    # Servers raise OSError itself or a class of their own, without a number.
    return error.errno is None and (type(error) is OSError or type(error).__module__ != "builtins")


def _completes_answers(scope: Scope) -> bool:
    """Return whether a middleware of the application would end an incomplete answer as if it were complete."""
    app = scope.get("app")
    middlewares = app.user_middleware if isinstance(app, Starlette) else []
    return any(isinstance(each.cls, type) and issubclass(each.cls, BaseHTTPMiddleware) for each in middlewares)


async def _send_until_disconnect(sending: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run `sending` until it ends or the client disconnects, which cancels it."""
    sent, gone = spawn(sending), spawn(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((sent, gone), return_when=asyncio.FIRST_COMPLETED)
        (sent if sent.done() else gone).result()
    finally:
        await end_tasks((sent, gone))


async def _wait_for_disconnect(receive: Receive) -> None:
    ended = False
    while (message := await receive())["type"] != "http.disconnect":
        if ended:
            # The body ended twice, so this `receive` is not from a server and never reports a disconnect.
            await anyio.sleep_forever()
        ended = not message.get("more_body", False)


def _as_denial(send: Send) -> Send:
    """Wrap `send` to answer instead of a websocket handshake (ASGI's Websocket Denial Response)."""

    async def denied(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return denied
