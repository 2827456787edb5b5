"""What the wire itself takes: the same bytes through a plain socket, nothing encoded, decoded or kept.

No client can be faster than this on one connection; its CPU is the kernel's work, which every client pays.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass, field

import bson

from .stub import CHUNK_SIZE, stub_id

__all__ = ["Wire", "measure_wire"]

_REQUEST_BYTES = 4 * 1024 * 1024
_OP_MSG = 2013


@dataclass
class Wire:
    """Seconds of wall clock and of CPU, round by round."""

    size: int
    up: list[tuple[float, float]] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)


def measure_wire(port: int, size: int, rounds: int) -> Wire:
    """Send and fetch `size` bytes as often as there are rounds, in requests and replies of 4 MB."""
    found = Wire(size)
    scratch = memoryview(bytearray(256 * 1024))
    per_reply = _REQUEST_BYTES // CHUNK_SIZE
    insert = _message({"insert": "x.chunks", "$db": "x"}, bytes(_REQUEST_BYTES))
    with socket.create_connection(("127.0.0.1", port)) as server:
        for _ in range(rounds):
            clocks = time.perf_counter(), time.process_time()
            for _ in range(-(-size // _REQUEST_BYTES)):
                server.sendall(insert)
                _take_reply(server, scratch)
            found.up.append((time.perf_counter() - clocks[0], time.process_time() - clocks[1]))
            clocks = time.perf_counter(), time.process_time()
            for first in range(0, -(-size // CHUNK_SIZE), per_reply):
                query = {"files_id": stub_id(size), "n": {"$gte": first, "$lt": first + per_reply}}
                command = {"find": "x.chunks", "filter": query, "batchSize": per_reply + 1, "$db": "x"}
                server.sendall(_message(command))
                _take_reply(server, scratch)
            found.down.append((time.perf_counter() - clocks[0], time.process_time() - clocks[1]))
    return found


def _message(command: dict[str, object], documents: bytes = b"") -> bytes:
    body = b"\0" + bson.encode(command)
    if documents:
        body += b"\1" + struct.pack("<i", 14 + len(documents)) + b"documents\0" + documents
    return struct.pack("<iiiii", 20 + len(body), 1, 0, _OP_MSG, 0) + body


def _take_reply(server: socket.socket, scratch: memoryview) -> None:
    have = server.recv_into(scratch)
    (size,) = struct.unpack_from("<i", scratch)
    while have < size:
        have += server.recv_into(scratch, min(size - have, len(scratch)))
