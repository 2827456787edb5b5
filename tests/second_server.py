"""A second server: the suite on another implementation of MongoDB's protocol than the embedded one.

    python -m tests.second_server [pytest's arguments]

It is SecantusDB's Rust server (GPL-2.0, a program of its own), which has the protocol and the queries in Rust over the
same storage engine. The program is `GRIDPROXY_SECOND_SERVER` (a path), or found on PATH or in the user's cache.
Otherwise cargo builds it into the cache once, which takes half an hour on two busy cores. Without the program and
without cargo this prints so and is not a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from gridproxy import embedded
from gridproxy.embedded import EmbeddedServer

__all__ = ["find", "started"]

_PROGRAM = "secantusd-rs"
_CRATE, _VERSION = "secantus-mdb", "0.5.3-beta.196"
_VARIABLE = "GRIDPROXY_SECOND_SERVER"
_ROOT = Path(__file__).resolve().parent.parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridproxy" / f"{_CRATE}-{_VERSION}"

# These need no server, or test the embedded one or the benchmark's stub.
_LEFT_OUT = (
    "benchmarks",
    "embedded",
    "http",
    "packaging",
    "typing",
    "web/test_gallery.py",
)

_PYTEST = ["-q", "-p", "no:cacheprovider"]
# anyio has a pytest plugin, and this process has imported anyio already, so pytest cannot rewrite its asserts.
_PYTEST += ["-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"]


class _Unavailable(RuntimeError):
    """The program is not here and can't be built; the message says why."""


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


def _build() -> Path:
    cargo = shutil.which("cargo")
    if cargo is None:
        raise _Unavailable(f"{_PROGRAM} and cargo are not installed here. Set {_VARIABLE} to the path of the program")
    print(f"second server: building {_CRATE} {_VERSION} into {_CACHE}, once; it may take half an hour", flush=True)
    with tempfile.TemporaryDirectory(prefix="gridproxy-second-") as folder:
        # The crate asks for a newer Rust than it needs. 1.95 builds it.
        command = [cargo, "install", _CRATE, "--version", _VERSION, "--ignore-rust-version", "--root", str(_CACHE)]
        code = subprocess.run([*command, "--quiet", "--target-dir", folder], check=False).returncode
    if code:
        raise _Unavailable(f"cargo could not build {_CRATE} {_VERSION}. Its output is above")
    return _CACHE / "bin" / _PROGRAM


class _Outcome:
    """The counts of pytest, for the last line."""

    line = "nothing was run"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
        self.line = ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def main(arguments: Sequence[str]) -> int:
    """Find or build the server, run the suite on it, and return pytest's exit code, or 0 without a server."""
    began = time.monotonic()
    try:
        program = find() or _build()
    except _Unavailable as error:
        print(f"second server: skipped: {error}", flush=True)
        return 0
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
    print(f"second server: {version} ({program})", flush=True)
    os.chdir(_ROOT)
    os.environ[_VARIABLE] = str(program)
    outcome = _Outcome()
    left_out = [f"--ignore=tests/{path}" for path in _LEFT_OUT]
    with started(program) as uri:
        os.environ["MONGODB_URI"] = uri
        code = int(pytest.main([*_PYTEST, *left_out, *arguments], plugins=[outcome]))
    word = "ok" if code == 0 else "FAILED"
    print(f"second server: {word}, {outcome.line}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
