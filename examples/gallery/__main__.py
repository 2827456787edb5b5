"""Run the gallery, a page for pictures and videos.

    pip install 'gridproxy-mongo[gallery]'
    python examples/gallery

It uses the server in MONGODB_URI, or an embedded server whose data is deleted afterwards unless `--keep` is given.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from guard import LOOPBACK
from service import gallery

from gridproxy.embedded import EmbeddedServer, EmbeddedServerUnavailable, server_uri


@contextmanager
def server(folder: str | None) -> Iterator[tuple[str, str]]:
    if folder is None:
        with server_uri() as (uri, label):
            yield uri, label
    else:
        with EmbeddedServer(storage_path=folder) as embedded:
            yield embedded.uri, f"embedded SecantusDB, with its data in {folder}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python examples/gallery", description="A gallery on MongoDB's GridFS.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--name", metavar="HOST", action="append", default=[], help="another name that browsers call it by. Repeatable"
    )
    parser.add_argument("--port", type=int, default=8000, help="0 selects a free port")
    parser.add_argument("--keep", metavar="FOLDER", help="a folder for the data of the embedded server")
    options = parser.parse_args()
    try:
        with server(options.keep) as (uri, label), socket.create_server((options.host, options.port)) as listener:
            print(f"server: {label}")
            print(f"gallery: http://{options.host}:{listener.getsockname()[1]}  (Ctrl-C stops it)", flush=True)
            service = gallery(uri, [*LOOPBACK, options.host, *options.name])
            # A connection costs memory, and one that sends nothing ends soon.
            config = uvicorn.Config(
                service, log_level="warning", timeout_graceful_shutdown=3, limit_concurrency=200, timeout_keep_alive=5
            )
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
    except EmbeddedServerUnavailable as error:
        sys.exit(f"no server is available: {error}")
    except OSError as error:
        sys.exit(f"port {options.port} cannot be used: {error}")


if __name__ == "__main__":
    main()
