"""A link to the server that breaks on purpose: it passes commands on, reads them, and strikes those that it should.

    async with Link.to(uri) as link:
        client = AsyncMongoClient(link.uri)
        link.strike(Break.CUT_AFTER, only="insert fs.files")

It runs in the loop of the test, so that a test can look at it between two awaits. Unlike the server's own failpoints it
tells the collections apart, cuts in the midst of a message, and loses the reply to a command that was carried out.
With `Rules` it plays another server, as tests/faults/refusing.py does.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import bson
from pymongo.uri_parser import parse_uri

__all__ = ["NOT_PRIMARY", "UNAUTHORIZED", "Break", "Link", "Rules"]

UNAUTHORIZED = 13
NOT_PRIMARY = 10107

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = frozenset({"hello", "ismaster", "isMaster"})
# What pymongo sends by itself, whatever the user does.
_HOUSEKEEPING = frozenset({"hello", "ismaster", "isMaster", "ping", "endSessions", "killCursors"})


class Break(enum.Enum):
    """What happens to a command that is struck."""

    ERROR = "it is refused with an error"
    NOT_PRIMARY = "it is refused by a server that is no primary any more"
    CUT_BEFORE = "the connection is cut in the midst of the request: the server has not carried it out"
    CUT_AFTER = "the connection is cut in the midst of the reply: the server has carried it out"
    STALL_BEFORE = "the request is held back, the server never hears it"
    STALL_AFTER = "the reply is held back, the server has carried it out"


_BEFORE = frozenset({Break.ERROR, Break.NOT_PRIMARY, Break.CUT_BEFORE, Break.STALL_BEFORE})


class Rules(Protocol):
    """How a server differs from the one at the end of the link."""

    def answer(self, command: dict[str, Any]) -> Mapping[str, Any] | Break | None:
        """Return the reply to a command that is not passed on, a `Break` if none ever comes, or None to pass it on.

        This may change the command.
        """

    def describe(self, hello: dict[str, Any]) -> None:
        """Change what the server says about itself."""


@dataclass
class _Order:
    kind: Break
    skip: int
    times: int | None
    only: str | None
    refuse_aborts: bool


class Link:
    """A port on 127.0.0.1 that leads to one server."""

    def __init__(self, host: str, port: int, rules: Rules | None = None) -> None:
        self._to = host, port
        self._port = 0
        self.rules = rules
        self._order: _Order | None = None
        self._before: tuple[int, Callable[[], Awaitable[object]]] | None = None
        self._healed = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.seen: list[str] = []  # "insert fs.files"; forgotten with every order
        self.hit = asyncio.Event()  # a command was struck

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, uri: str, rules: Rules | None = None) -> AsyncIterator[Link]:
        """Yield a link to the first server of this address. It is open within the block."""
        host, port = parse_uri(uri)["nodelist"][0]
        link = cls(host, port, rules)
        listener = await asyncio.start_server(link._accept, "127.0.0.1", 0)
        link._port = listener.sockets[0].getsockname()[1]
        try:
            yield link
        finally:
            listener.close()
            link.cut()
            if link._connections:
                await asyncio.wait(link._connections)
            await listener.wait_closed()

    @property
    def uri(self) -> str:
        """The address for a client; it knows no other way to the server."""
        return f"mongodb://127.0.0.1:{self._port}/?directConnection=true"

    def strike(
        self,
        kind: Break,
        *,
        skip: int = 0,
        times: int | None = 1,
        only: str | None = None,
        refuse_aborts: bool = True,
    ) -> None:
        """Strike the next `times` commands (all where it is None) after `skip` more, of those that are `only`.

        pymongo does not repeat the abort of a transaction that was refused with an error. The server then keeps the
        transaction open, and its records locked.
        """
        self.heal()
        self._order = _Order(kind, skip, times, only, refuse_aborts)

    def before(self, number: int, do: Callable[[], Awaitable[object]]) -> None:
        """Do something before the command of this number (from 0) is passed on."""
        self.heal()
        self._before = number, do

    async def hit_by(self, work: asyncio.Future[Any]) -> bool:
        """Wait until a command is struck, or `work` is done without; whether one was."""
        hitting = asyncio.create_task(self.hit.wait())
        await asyncio.wait({hitting, work}, return_when=asyncio.FIRST_COMPLETED)
        hitting.cancel()
        return self.hit.is_set()

    def heal(self) -> None:
        """Strike no more; what is stalled is cut."""
        self._order = self._before = None
        self._healed.set()
        self._healed = asyncio.Event()
        self.hit.clear()
        self.seen.clear()

    def cut(self) -> None:
        """Break every connection that there is."""
        for connection in self._connections:
            connection.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        ends = [writer]
        try:
            from_server, to_server = await asyncio.open_connection(*self._to)
            ends.append(to_server)
            await _Connection(self, reader, writer, from_server, to_server).run()
        except (OSError, asyncio.CancelledError):
            pass  # cut, by whichever end: the other one hears of it below
        finally:
            for end in ends:
                end.transport.abort()

    def _decide(self, command: str) -> Break | None:
        self.seen.append(command)
        order = self._order
        if order is None or (order.only is not None and order.only != command):
            return None
        if order.skip:
            order.skip -= 1
            return None
        if order.kind is Break.ERROR and not order.refuse_aborts and command.startswith("abortTransaction"):
            return None
        if order.times is not None:
            if not order.times:
                return None
            order.times -= 1
        self.hit.set()
        return order.kind

    async def _prelude(self) -> None:
        if self._before is not None and len(self.seen) == self._before[0]:
            _, do = self._before
            self._before = None
            self.hit.set()
            await do()


class _Connection:
    """One connection of a client, and ours to the server for it; one command at a time is on its way."""

    def __init__(
        self,
        link: Link,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._link = link
        self._from_client, self._to_client = from_client, to_client
        self._from_server, self._to_server = from_server, to_server
        self._struck: Break | None = None  # what happens to the next reply
        self._greeting = False  # whether the next replies are about the server itself

    async def run(self) -> None:
        tasks = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _requests(self) -> None:
        while (message := await _received(self._from_client)) is not None:
            if self._link.rules is not None:
                command = _body(message)
                self._greeting = next(iter(command)) in _HELLO
                answer = self._link.rules.answer(command)
                if isinstance(answer, Break):
                    self._link.hit.set()
                    await self._link._healed.wait()
                    return None
                if answer is not None:
                    self._to_client.write(_reply(message, answer))
                    await self._to_client.drain()
                    continue
                message = _with_body(message, command)
            name = _command(message)
            struck = None
            if name is not None:
                await self._link._prelude()
                struck = self._link._decide(name)
            if struck not in _BEFORE:
                self._struck = struck
                self._to_server.write(message)
                await self._to_server.drain()
            elif struck in (Break.ERROR, Break.NOT_PRIMARY):
                self._to_client.write(_refusal(message, struck))
                await self._to_client.drain()
            elif struck is Break.CUT_BEFORE:
                self._to_server.write(message[: len(message) // 2])
                return await self._to_server.drain()
            else:
                await self._link._healed.wait()
                return None
        return None

    async def _replies(self) -> None:
        while (message := await _received(self._from_server)) is not None:
            if self._greeting and self._link.rules is not None:
                hello = _body(message)
                self._link.rules.describe(hello)
                message = _with_body(message, hello)
            if self._struck is Break.STALL_AFTER:
                await self._link._healed.wait()
                return None
            if self._struck is Break.CUT_AFTER:
                self._to_client.write(message[: len(message) // 2])
                return await self._to_client.drain()
            self._to_client.write(message)
            await self._to_client.drain()
        return None


async def _received(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message of the wire protocol, or None at the end."""
    try:
        header = await reader.readexactly(_HEADER.size)
        length: int = _HEADER.unpack(header)[0]
        return header + await reader.readexactly(length - _HEADER.size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _command(message: bytes) -> str | None:
    """Return the command and its collection, such as "insert fs.files", or None if pymongo sent it by itself."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return None  # the old form, in which pymongo shakes hands
    body = _body(message)
    name, target = next(iter(body.items()))
    return None if name in _HOUSEKEEPING else f"{name} {body.get('collection', target)}"


def _refusal(message: bytes, struck: Break) -> bytes:
    if struck is Break.ERROR:
        error: dict[str, Any] = {
            "ok": 0,
            "code": UNAUTHORIZED,
            "codeName": "Unauthorized",
            "errmsg": "not allowed here",
        }
    else:
        error = {"ok": 0, "code": NOT_PRIMARY, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
        error["errorLabels"] = ["RetryableWriteError"]
    return _reply(message, error)


def _reply(message: bytes, answer: Mapping[str, Any]) -> bytes:
    body = bytes(5) + bson.encode(answer)
    request_id: int = _HEADER.unpack_from(message)[1]
    return _HEADER.pack(_HEADER.size + len(body), 0, request_id, _OP_MSG) + body


def _body_at(message: bytes) -> int:
    opcode: int = _HEADER.unpack_from(message)[3]
    if opcode == _OP_REPLY:
        return _HEADER.size + 20
    if opcode == _OP_QUERY:  # flags, the name of a collection, two numbers
        return message.index(b"\0", _HEADER.size + 4) + 1 + 8
    return _HEADER.size + 5  # flags, and the kind of the first section: the command itself, in all that pymongo sends


def _body(message: bytes) -> dict[str, Any]:
    """Return the command or the reply in a message. Documents that stand after it are not part of it."""
    at = _body_at(message)
    size = int.from_bytes(message[at : at + 4], "little")
    return bson.decode(message[at : at + size])


def _with_body(message: bytes, body: Mapping[str, Any]) -> bytes:
    at = _body_at(message)
    size = int.from_bytes(message[at : at + 4], "little")
    edited = message[:at] + bson.encode(body) + message[at + size :]
    return len(edited).to_bytes(4, "little") + edited[4:]
