"""What the gallery checks of each request before a route sees it, and the header fields of each answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """An ASGI middleware that admits requests to this host, from this site's pages, and few uploads at once.

    Args:
        app: The application.
        hosts: The names in the Host field under which people reach the service, without the port.
        uploads: How many uploads may run at once. Others get 503, because a waiting one would cost a connection.
        uploads_of_one: How many of them may come from one address.
        patience: The seconds that an upload may send nothing before it counts as interrupted.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = LOOPBACK,
        *,
        uploads: int = 16,
        uploads_of_one: int = 4,
        patience: float = 30,
    ) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._uploads = uploads
        self._uploads_of_one = uploads_of_one
        self._patience = patience
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the lifespan. There are no websockets
            await self._app(scope, receive, send)
            return
        # RFC 9110, 9.2.1: these methods change nothing.
        changes = scope["method"] not in ("GET", "HEAD")
        if (refused := self._refusal(Headers(scope=scope), changes)) is not None:
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, _with_fields(send))
        elif scope["method"] in ("POST", "PUT", "PATCH"):
            await self._upload(scope, receive, _with_fields(send))
        else:
            await self._app(scope, receive, _with_fields(send))

    def _refusal(self, fields: Headers, changes: bool) -> tuple[int, str] | None:
        host = fields.get("host", "").lower()
        # A page of another site can have its name lead here (DNS rebinding). Its requests have that name.
        if len(fields.getlist("host")) != 1 or _without_port(host) not in self._hosts:
            return 421, "This service does not have that name."
        if not changes:
            return None
        # Browsers send Origin with each such request, and Sec-Fetch-Site only to hosts that they trust, such as HTTPS.
        origin = fields.get("origin")
        own = origin is None or origin.partition("://")[2].lower() == host
        if not own or fields.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "Requests from other sites are not allowed."
        return None

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("", 0))[0]
        if self._running.total() >= self._uploads or self._running[client] >= self._uploads_of_one:
            answer = JSONResponse({"detail": "Too many uploads at once. Try again later."}, 503, {"Retry-After": "5"})
            await answer(scope, receive, send)
            return
        self._running[client] += 1
        try:
            await self._app(scope, self._impatient(receive), send)
        finally:
            self._running[client] -= 1
            self._running += Counter()  # forgets addresses without uploads

    def _impatient(self, receive: Receive) -> Receive:
        done = False

        async def receive_soon() -> Message:
            nonlocal done
            if done:  # only a disconnect is left, for which the answer waits
                return await receive()
            try:
                async with asyncio.timeout(self._patience):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            done = not message.get("more_body", False)
            return message

        return receive_soon


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _with_fields(send: Send) -> Send:
    """Wrap `send` to add the fields that concern the whole site."""

    async def send_with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = MutableHeaders(scope=message)
            policy = fields.get("content-security-policy", "default-src 'self'")
            # No page of another site may show this one in a frame, and have its buttons clicked.
            fields["content-security-policy"] = f"{policy}; frame-ancestors 'none'"
            fields.setdefault("x-content-type-options", "nosniff")
            fields.setdefault("cross-origin-resource-policy", "same-origin")
            fields.setdefault("cross-origin-opener-policy", "same-origin")
            fields.setdefault("referrer-policy", "same-origin")
        await send(message)

    return send_with_fields
