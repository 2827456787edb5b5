"""A server's side of ASGI, in a test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Scope

__all__ = ["Exchange"]


class Exchange:
    """One request and what is sent for it. `on_body` is called with the number of each piece of the body, from 1."""

    def __init__(
        self, method: str = "GET", *lines: tuple[str, str], on_body: Callable[[int], None] | None = None
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines],
        }
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self._asked = False
        self._on_body = on_body

    async def run(self, app: ASGIApp) -> Exchange:
        """Return the application's whole answer."""
        await app(self.scope, self.receive, self.send)
        return self

    async def receive(self) -> Message:
        """Receive an empty body, then wait until the client disconnects."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self._on_body is not None and message["type"].endswith("body"):
            self._on_body(len(self.sent) - 1)

    @property
    def status(self) -> int:
        """The status that was sent."""
        status: int = self.sent[0]["status"]
        return status

    @property
    def fields(self) -> dict[str, str]:
        """The header that was sent."""
        raw: list[tuple[bytes, bytes]] = self.sent[0]["headers"]
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}

    @property
    def body(self) -> bytes:
        """As much of the body as was sent."""
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        """Whether the end of the body was sent."""
        last: dict[str, Any] = dict(self.sent[-1])
        return last["type"].endswith("body") and not last["more_body"]
