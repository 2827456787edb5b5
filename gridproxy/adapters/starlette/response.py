"""GridFileResponse: a stored file as an answer of Starlette's, or as an ASGI application of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Literal

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gridproxy.errors import BadOption, FileMissing, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.http import CONDITIONS, Answer, answer, describe
from gridproxy.runtime.tasks import end_tasks, spawn

from .windows import Windows

ContentDisposition = Literal["inline", "attachment"]


class GridFileResponse(Response):
    """A stored file over HTTP (RFC 9110): whole, in ranges, or not again where the client has it.

    Returned from a route of Starlette or FastAPI, or mounted as an ASGI application; one object can answer many
    requests at once. GET and HEAD know 200, 206 (multipart/byteranges, too), 304, 412 and 416; HEAD, 304, 412 and 416
    touch no chunk. With another method, or a `status_code` other than 200, the whole file is sent.

    `media_type` and `filename` stand in for those of the stored file, and what "headers" holds for any field that is
    set here.
    `content_disposition_type` is "inline" or "attachment"; by default what a browser could run (HTML, SVG and other
    XML, scripts) is an attachment, anything else inline. `cache_control` is the field of that name. `background` runs
    when the answer was sent, and also when the client went away before its end, as with Starlette's own; not after an
    error. Raises `BadOption` for what is no file, and for another `content_disposition_type`.

    Where there is no file (no id, missing, expired, deleted before its first byte was read), answering raises
    `HTTPException(404)` inside Starlette and FastAPI, so that the application's own page for it is shown; or
    `FileMissing`, where the application has a handler for that and none for 404; elsewhere it sends a 404. A file that
    turns out corrupt, or is deleted, on the way raises `CorruptFile` or `FileVanished`: the server breaks the
    connection, and no client takes what came for the whole. Raises `UploadInProgress` while the file is being written,
    `NotConnected` where no database is known, and pymongo's own errors.
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
    ) -> None:
        if not isinstance(file, AsyncGridFile):
            raise BadOption(f"a GridFileResponse takes an AsyncGridFile (bucket.file(id)), not {type_name(file)}")
        if content_disposition_type not in (None, "inline", "attachment"):
            raise BadOption(f"content_disposition_type is 'inline' or 'attachment', not {content_disposition_type!r}")
        self.file = file
        self.status_code = status_code
        self.background = background
        self.filename = filename
        self.content_disposition_type = content_disposition_type
        self.init_headers(headers)
        # Not before: Starlette would name a charset for it.
        self.media_type = media_type
        if cache_control is not None:
            self.headers.setdefault("cache-control", cache_control)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(Windows(self.file)) as windows:
            try:
                reply, first = await self._begin(scope, windows)
            except FileMissing as error:
                await _answer_missing(error, scope, receive, send)
                return
            if scope["type"] == "websocket":  # whose client has nothing to say before the handshake is over
                await _send_answer(reply, first, windows, _as_denial(send))
            elif not first:
                await _send_answer(reply, first, windows, send)
            else:
                await _unless_gone(_send_answer(reply, first, windows, send), receive)
        if self.background is not None:
            await self.background()

    async def _begin(self, scope: Scope, windows: Windows) -> tuple[Answer, list[bytes]]:
        """What to answer, and the first bytes of it: what is wrong with the file by then can still be said."""
        method = str(scope.get("method", "")).upper()
        request = _request_fields(scope)
        if method == "HEAD" or (method == "GET" and self.status_code == 200 and request.keys() & CONDITIONS):
            info = await windows.look()
        else:
            info = await windows.look_inside()
        reply = answer(method, request, self._fields(info), info.length, status=self.status_code)
        if not reply.spans:
            return reply, []
        windows.read(*reply.spans[0])
        return reply, await windows.next()

    def _fields(self, info: FileInfo) -> list[tuple[str, str]]:
        own = self.headers.items()
        described = describe(
            info,
            media_type=self.headers.get("content-type", self.media_type),
            filename=self.filename,
            disposition=self.content_disposition_type,
        )
        given = {name for name, _ in own}
        return [*((name, value) for name, value in described.items() if name not in given), *own]


def _request_fields(scope: Scope) -> dict[str, str]:
    fields: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def _send_answer(reply: Answer, first: list[bytes], windows: Windows, send: Send) -> None:
    """All of the answer, whose `first` bytes are there. Ends when the server says that the client is gone."""

    async def say(message: Message) -> None:
        try:
            await send(message)
        except OSError as error:  # ASGI from 2.4 on; of the sending alone, not of the reading
            raise ClientDisconnect from error

    async def say_body(content: bytes, *, more: bool = True) -> None:
        await say({"type": "http.response.body", "body": content, "more_body": more})

    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.fields]
    try:
        await say({"type": "http.response.start", "status": reply.status, "headers": fields})
        pieces = first
        for number, span in enumerate(reply.spans):
            if number:
                windows.read(*span)
                pieces = await windows.next()
            if reply.multipart is not None:
                await say_body(reply.multipart.opening(span))
            while pieces:
                while pieces:
                    await say_body(pieces.pop(0))  # held no longer than it takes
                pieces = await windows.next()
        await say_body(b"" if reply.multipart is None else reply.multipart.closing, more=False)
    except ClientDisconnect:
        return


async def _unless_gone(sending: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run `sending` to its end, or until the client goes away: what is being read for it is ended then."""
    sent, gone = spawn(sending), spawn(_gone(receive))
    try:
        await asyncio.wait((sent, gone), return_when=asyncio.FIRST_COMPLETED)
        (sent if sent.done() else gone).result()
    finally:
        await end_tasks((sent, gone))


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone away."""
    ended = False
    while (message := await receive())["type"] != "http.disconnect":
        if ended:
            # The body has ended once already: this `receive` is not a server's, and will never tell.
            await anyio.sleep_forever()
        ended = not message.get("more_body", False)


def _as_denial(send: Send) -> Send:
    """An answer in place of a websocket's handshake (ASGI's Websocket Denial Response)."""

    async def denied(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return denied


async def _answer_missing(error: FileMissing, scope: Scope, receive: Receive, send: Send) -> None:
    app = scope.get("app")
    if isinstance(app, Starlette):
        if FileMissing in app.exception_handlers and 404 not in app.exception_handlers:
            raise error  # so that it is told as everything else is that is missing there
        raise HTTPException(404) from error  # so that the application's own page for it is shown
    await PlainTextResponse("Not Found", 404)(scope, receive, send)
