"""A router of a sharded cluster that has no shards: it answers as a `mongos`, and keeps the commands that it gets."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson

__all__ = ["Mongos", "mongos"]

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "msg": "isdbgrid",
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "ok": 1.0,
}


class Mongos:
    """What the router was sent, and what it refuses: names of commands with the error that they get."""

    def __init__(self, refuses: Mapping[str, Mapping[str, Any]]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    def close(self) -> None:
        # `shutdown` wakes the thread that waits in `accept`, and `close` alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # the listener was closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as received:
            while len(head := received.read(16)) == 16:
                size, request, _, opcode = struct.unpack("<iiii", head)
                body = received.read(size - 16)
                start = 5 if opcode == _OP_MSG else 4 + body[4:].index(b"\0") + 1 + 8
                (length,) = struct.unpack_from("<i", body, start)
                answer = bson.encode(self._answer(bson.decode(body[start : start + length])))
                if opcode == _OP_MSG:
                    answer = struct.pack("<iB", 0, 0) + answer
                else:
                    answer = struct.pack("<iqii", 8, 0, 0, 1) + answer
                code = _OP_MSG if opcode == _OP_MSG else _OP_REPLY
                connection.sendall(struct.pack("<iiii", 16 + len(answer), 0, request, code) + answer)

    def _answer(self, command: dict[str, Any]) -> Mapping[str, Any]:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return _HELLO
        if name != "endSessions":
            self.seen.append({key: value for key, value in command.items() if key not in ("lsid", "$readPreference")})
        return {"ok": 0.0, **self._refuses[name]} if name in self._refuses else {"ok": 1.0}


@contextmanager
def mongos(**refuses: Mapping[str, Any]) -> Iterator[Mongos]:
    """Yield a router that refuses these commands and accepts all others."""
    router = Mongos(refuses)
    try:
        yield router
    finally:
        router.close()
