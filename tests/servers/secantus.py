"""SecantusDB's Rust server, which has the protocol and the queries in Rust over the embedded server's storage engine.

It is licensed under the GPL-2.0 and runs as a program of its own. `GRIDPROXY_SECOND_SERVER` may name it (a path).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from gridproxy import embedded
from gridproxy.embedded import EmbeddedServer

from .lane import Lane, cache

__all__ = ["SECANTUS", "find", "started"]

_PROGRAM = "secantusd-rs"
_CRATE, _VERSION = "secantus-mdb", "0.5.3-beta.196"
_VARIABLE = "GRIDPROXY_SECOND_SERVER"
_CACHE = cache(f"{_CRATE}-{_VERSION}")

# These need no server, or test the embedded one or the benchmark's stub.
_NOT_HERE = {
    "benchmarks": "they measure the embedded server and a stub",
    "embedded": "they test the embedded server",
    "http": "they need no server",
    "packaging": "they need no server",
    "typing": "they need no server",
    "web/test_gallery.py": "it starts the embedded server",
}


def find() -> Path | None:
    """Return the path of the program if it is on this machine.

    Raises:
        FileNotFoundError: GRIDPROXY_SECOND_SERVER does not name a program.
    """
    if named := os.environ.get(_VARIABLE):
        if not shutil.which(named):
            raise FileNotFoundError(f"{_VARIABLE} is {named}, which is not a program")
        return Path(named).absolute()
    found = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=_CACHE / "bin")
    return Path(found) if found else None


class _Server(EmbeddedServer):
    """The supervisor of the embedded server with the other program, which takes the same flags and some more."""

    def __init__(self, flags: Sequence[str]) -> None:
        super().__init__()
        self._flags = flags

    def _command(self, daemon: str, folder: Path) -> list[str]:
        return [*super()._command(daemon, folder), *self._flags]


@contextmanager
def started(program: Path, *flags: str) -> Iterator[str]:
    """Yield the address of such a server. Inside the block every `EmbeddedServer` is this program."""
    with patch.object(embedded, "_find_daemon", lambda: str(program)), _Server(flags) as server:
        yield server.uri


@contextmanager
def _start(program: Path) -> Iterator[str]:
    # Tests of processes find it there.
    with patch.dict(os.environ, {_VARIABLE: str(program)}), started(program) as uri:
        yield uri


def _build() -> Path:
    with tempfile.TemporaryDirectory(prefix="gridproxy-secantus-") as folder:
        # The crate asks for a newer Rust than it needs. 1.95 builds it.
        command = ["cargo", "install", _CRATE, "--version", _VERSION, "--ignore-rust-version", "--root", str(_CACHE)]
        subprocess.run([*command, "--quiet", "--target-dir", folder], check=True)
    return _CACHE / "bin" / _PROGRAM


SECANTUS = Lane(
    name="secantus",
    what=f"SecantusDB's Rust server {_VERSION}",
    tools=["cargo"],
    minutes=30,
    find=find,
    build=_build,
    start=_start,
    tests=(".",),
    files_left_out=_NOT_HERE,
)
