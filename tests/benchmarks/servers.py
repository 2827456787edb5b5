"""The server that is measured on, and the way to it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gridproxy.embedded import EmbeddedServer

from .interface import DATABASE

__all__ = ["address", "benchmark_server", "moved", "ping"]


@contextmanager
def benchmark_server() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Address, client options and a line for people; the benchmark's database is empty before and after."""
    with ExitStack() as stack:
        if uri := os.environ.get("MONGODB_URI"):
            label = "MongoDB, as MONGODB_URI says"
        else:
            uri = stack.enter_context(EmbeddedServer(sync_on_commit=False)).uri
            label = "embedded SecantusDB (MONGODB_URI is not set), without a sync at each commit"
        with MongoClient[dict[str, Any]](uri) as client:
            version = client.admin.command("buildInfo")["version"]
            options = {}
            if "secantus" in client.admin.command("serverStatus"):
                # Retryable inserts take their turns there, 10 ms each, and would hide everything else.
                options = {"retryWrites": False}
            client.drop_database(DATABASE)
            try:
                yield uri, options, f"{label}, answering as version {version}; {options or 'default client options'}"
            finally:
                with contextlib.suppress(PyMongoError):
                    client.drop_database(DATABASE)


def address(uri: str, options: Mapping[str, Any]) -> tuple[str, int]:
    """Host and port of the server that takes writes."""
    with MongoClient[dict[str, Any]](uri, **options) as client:
        client.admin.command("ping")
        address = client.primary or client.address
    if address is None or address[1] is None:
        raise SystemExit("the server has no address that a proxy could stand before")
    return address[0], address[1]


def moved(uri: str, port: int) -> str:
    """Return the address of one server behind a local port. The client ignores its replica set."""
    found = re.fullmatch(r"mongodb://(?P<user>[^/?]*@)?[^/?@]+(?P<path>/[^?]*)?(\?(?P<options>.*))?", uri)
    if found is None:
        raise SystemExit("for distances MONGODB_URI must be of the form mongodb://host:port/..., or give --rtt 0")
    dropped = ("replicaset=", "directconnection=", "loadbalanced=")
    options = [part for part in (found["options"] or "").split("&") if part and not part.lower().startswith(dropped)]
    # Otherwise the client would find the server behind the port, and go there without the distance.
    options.append("directConnection=true")
    return f"mongodb://{found['user'] or ''}127.0.0.1:{port}{found['path'] or '/'}?{'&'.join(options)}"


def ping(uri: str, options: Mapping[str, Any]) -> float:
    """Seconds of a round trip, the median of a few."""
    with MongoClient[dict[str, Any]](uri, directConnection=True, **options) as client:
        times = []
        for _ in range(6):
            before = time.perf_counter()
            client.admin.command("ping")
            times.append(time.perf_counter() - before)
    return sorted(times)[len(times) // 2]
