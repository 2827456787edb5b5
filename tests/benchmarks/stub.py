"""A MongoDB server that stores nothing and answers at once: what remains is the cost of the client.

Whatever is inserted is thrown away unread. A file whose id comes from `stub_id(length)` is there, `length` zeros long,
and comes in replies of 16 MB as a mongod cuts them. It runs as a process of its own (`python -m tests.benchmarks.stub`
prints its port), with a thread for each connection.
"""

from __future__ import annotations

import itertools
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Int64, ObjectId

__all__ = ["CHUNK_SIZE", "stub_id"]

CHUNK_SIZE = 255 * 1024
_MARK = b"stub"
_REPLY_BYTES = 16 * 1024 * 1024
_FIRST_BATCH = 101
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_MORE_TO_COME = 2
_BUFFER_BYTES = 1024 * 1024

_HELLO = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "readOnly": False,
}
_INDEX_KEYS: list[dict[str, int]] = [{"_id": 1}, {"filename": 1, "uploadDate": 1}, {"files_id": 1, "n": 1}]

# One document of a reply: what stands before its payload, and the payload.
_Chunk = tuple[bytes, memoryview]
_zeros = memoryview(bytes(CHUNK_SIZE))


def stub_id(length: int) -> ObjectId:
    """Return the id of a file of `length` bytes, all of them zero."""
    return ObjectId(_MARK + struct.pack(">Q", length))


def _length(id: object) -> int | None:
    if isinstance(id, ObjectId) and id.binary.startswith(_MARK):
        return int(struct.unpack(">Q", id.binary[4:])[0])
    return None


def _ids(condition: object) -> list[object]:
    if isinstance(condition, Mapping):
        return list(condition["$in"]) if "$in" in condition else [condition.get("$eq")]
    return [condition]


def _records(ids: Iterable[object]) -> list[dict[str, Any]]:
    lengths = ((id, _length(id)) for id in ids)
    return [
        {
            "_id": id,
            "length": Int64(length),
            "chunkSize": CHUNK_SIZE,
            "uploadDate": datetime(2020, 1, 1, tzinfo=UTC),
            "filename": "stub",
            "metadata": {},
        }
        for id, length in lengths
        if length is not None
    ]


def _chunks(command: Mapping[str, Any]) -> Iterator[_Chunk]:
    query = command["filter"]
    places = query.get("n", {})
    if not isinstance(places, Mapping):
        places = {"$gte": places, "$lt": places + 1}
    projection = command.get("projection", {})
    with_id = projection.get("_id", 1) != 0
    with_files_id = not projection or "files_id" in projection
    found = _all_chunks(_ids(query["files_id"]), places.get("$gte", 0), places.get("$lt"), with_id, with_files_id)
    limit = command.get("limit", 0)
    return itertools.islice(found, abs(limit)) if limit else found


def _all_chunks(
    ids: Sequence[object], first: int, stop: int | None, with_id: bool, with_files_id: bool
) -> Iterator[_Chunk]:
    for id in ids:
        length = _length(id)
        if length is None:
            continue
        assert isinstance(id, ObjectId)
        start = (b"\x07_id\0" + id.binary if with_id else b"") + (
            b"\x07files_id\0" + id.binary if with_files_id else b""
        )
        count = -(-length // CHUNK_SIZE)
        for n in range(first, count if stop is None else min(stop, count)):
            size = min(CHUNK_SIZE, length - n * CHUNK_SIZE)
            head = start + b"\x10n\0" + struct.pack("<i", n) + b"\x05data\0" + struct.pack("<iB", size, 0)
            yield struct.pack("<i", len(head) + size + 5) + head, _zeros[:size]


class _Cursors:
    """Cursors that are open; any connection may ask for more of one."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: dict[int, Iterator[_Chunk]] = {}

    def start(self, chunks: Iterator[_Chunk], batch: int, namespace: str, single: bool) -> list[Any]:
        return self._reply(chunks, batch, namespace, 0 if single else next(self._ids), "firstBatch")

    def more(self, cursor: int, batch: int, namespace: str) -> list[Any]:
        return self._reply(self._open.pop(cursor, iter(())), batch, namespace, cursor, "nextBatch")

    def kill(self, cursors: Iterable[int]) -> None:
        for cursor in cursors:
            self._open.pop(cursor, None)

    def _reply(self, chunks: Iterator[_Chunk], batch: int, namespace: str, cursor: int, name: str) -> list[Any]:
        buffers: list[Any] = []
        size = count = 0
        ended = False
        while not (ended := (chunk := next(chunks, None)) is None):
            head, payload = chunk
            buffers += [b"\x03%d\0" % count + head, payload, b"\0"]
            count += 1
            size += len(head) + len(payload)
            if count == batch or size > _REPLY_BYTES - CHUNK_SIZE - 1024:
                break
        if ended or not cursor:
            cursor = 0
        else:
            self._open[cursor] = chunks
        # The reply is the encoding of one with an empty batch, cut open where the batch stands.
        shell = bson.encode({"ok": 1.0, "cursor": {"id": Int64(cursor), "ns": namespace, name: []}})
        total = sum(map(len, buffers))
        inner = bson.encode({"id": Int64(cursor), "ns": namespace, name: []})
        opened = shell[: len(shell) - len(inner) - 1]
        opened = struct.pack("<i", len(shell) + total) + opened[4:]
        inner = struct.pack("<i", len(inner) + total) + inner[4:-6] + struct.pack("<i", 5 + total)
        return [opened + inner, *buffers, b"\0\0\0"]


_cursors = _Cursors()


def _answer(command: Mapping[str, Any]) -> list[Any]:
    """Return the reply to one command, as buffers that follow each other."""
    name = next(iter(command)).lower()
    if name in ("hello", "ismaster"):
        return [bson.encode({**_HELLO, "localTime": datetime.now(UTC), "connectionId": 1, "ok": 1.0})]
    namespace = f"{command.get('$db', 'admin')}.{command.get('collection', next(iter(command.values())))}"
    if name == "find":
        return _find(command, namespace)
    if name == "aggregate":
        return [_batch(namespace, _joined(command["pipeline"]))]
    if name == "getmore":
        return _cursors.more(command["getMore"], command.get("batchSize", 0), namespace)
    if name == "killcursors":
        _cursors.kill(command["cursors"])
    elif name == "listindexes":
        return [_batch(namespace, [{"v": 2, "key": key, "name": str(key)} for key in _INDEX_KEYS])]
    elif name == "bulkwrite":
        counts = dict.fromkeys(("nErrors", "nMatched", "nModified", "nUpserted", "nDeleted"), 0)
        empty = {"id": Int64(0), "ns": "admin.$cmd.bulkWrite", "firstBatch": []}
        return [bson.encode({"cursor": empty, **counts, "nInserted": 1, "ok": 1.0})]
    elif name == "findandmodify":
        return [bson.encode({"value": {"_id": command["query"]["_id"]}, "ok": 1.0})]
    elif name == "buildinfo":
        return [bson.encode({"version": "8.0.0", "ok": 1.0})]
    # Whatever else is asked for (inserts, deletes, index creation) has been done.
    return [bson.encode({"n": 1, "ok": 1.0})]


def _find(command: Mapping[str, Any], namespace: str) -> list[Any]:
    query = command["filter"]
    if namespace.endswith(".chunks") and "$in" in str(query.get("n")) and _length(query["files_id"]) is None:
        # Whether it is there: nothing is, and that is not to be held against whoever stored it.
        return [bson.encode({"ok": 0.0, "code": 13, "errmsg": "the stub keeps nothing that it could look at"})]
    if namespace.endswith(".chunks") and "files_id" in query:
        batch = command.get("batchSize", _FIRST_BATCH)
        return _cursors.start(_chunks(command), batch, namespace, bool(command.get("singleBatch")))
    # Who only asks whether there is anything (the index check) hears that there is.
    found = _records(_ids(query["_id"])) if "_id" in query else [{"_id": 1}]
    return [_batch(namespace, found)]


def _joined(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the record of a `$match` with the chunks of a `$lookup`, the one aggregation that the package reads by."""
    match, lookup = stages[0]["$match"], stages[1]["$lookup"]
    (found,) = lookup["pipeline"]
    places = found["$match"]["n"]
    records = _records(_ids(match["_id"]))
    for record in records:
        chunks = _all_chunks([record["_id"]], places["$gte"], places["$lt"], with_id=True, with_files_id=True)
        record[lookup["as"]] = [bson.decode(head + payload + b"\0") for head, payload in chunks]
    return records


def _batch(namespace: str, documents: Sequence[Mapping[str, Any]]) -> bytes:
    return bson.encode({"cursor": {"id": Int64(0), "ns": namespace, "firstBatch": documents}, "ok": 1.0})


class _Connection:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        # Linux can drop what came without copying it.
        self._discard = socket.MSG_TRUNC if sys.platform == "linux" else 0

    def serve(self) -> None:
        try:
            while self._exchange():
                pass
        except ConnectionError:
            pass
        finally:
            self._socket.close()

    def _exchange(self) -> bool:
        # A driver sends no second request before the reply to the first, so nothing of the next one can be here.
        have = self._read(0, 16)
        if not have:
            return False
        size, request, _, opcode = struct.unpack_from("<iiii", self._buffer)
        have = self._read(have, 25)
        flags = 0
        if opcode == _OP_MSG:
            (flags,) = struct.unpack_from("<i", self._buffer, 16)
            at = 21
        elif opcode == _OP_QUERY:
            at = 20 + bytes(self._buffer[20:have]).index(b"\0") + 1 + 8
        else:
            raise ValueError(f"opcode {opcode} is not known here")
        have = self._read(have, at + 4)
        (length,) = struct.unpack_from("<i", self._buffer, at)
        have = self._read(have, at + length)
        command = bson.decode(self._buffer[at : at + length])
        while have < size:
            got = self._socket.recv_into(self._buffer, min(size - have, _BUFFER_BYTES), self._discard)
            if not got:
                return False
            have += got
        if not flags & _MORE_TO_COME:
            self._reply(request, opcode, _answer(command))
        return True

    def _read(self, have: int, needed: int) -> int:
        while have < needed:
            got = self._socket.recv_into(self._buffer[have:])
            if not got:
                return 0
            have += got
        return have

    def _reply(self, request: int, opcode: int, buffers: list[Any]) -> None:
        if opcode == _OP_MSG:
            head, code = struct.pack("<iB", 0, 0), _OP_MSG
        else:
            head, code = struct.pack("<iqii", 8, 0, 0, 1), _OP_REPLY
        size = 16 + len(head) + sum(map(len, buffers))
        waiting = [
            memoryview(struct.pack("<iiii", size, 0, request, code) + head),
            *(memoryview(buffer) for buffer in buffers),
        ]
        while waiting:
            sent = self._socket.sendmsg(waiting[:512])
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if sent:
                waiting[0] = waiting[0][sent:]


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_Connection(connection).serve, daemon=True).start()


def _main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    _main()
