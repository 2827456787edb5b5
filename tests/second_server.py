"""A second server: the suite on another implementation of MongoDB's protocol than the one that it was written on.

    python -m tests.second_server [pytest's arguments]

It is SecantusDB's Rust server (GPL-2.0, a program of its own): the embedded one's protocol and queries written again,
over the same storage engine. Looked for in `GRIDPROXY_SECOND_SERVER` (the program's path), on PATH and in the user's
cache, and else built into the cache by cargo: half an hour on two busy cores, once. Where it can't be had, the lane
says so and is no failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["find", "started"]

_PROGRAM = "secantusd-rs"
_CRATE, _VERSION = "secantus-mdb", "0.5.3-beta.196"
_VARIABLE = "GRIDPROXY_SECOND_SERVER"
_ROOT = Path(__file__).resolve().parent.parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridproxy" / f"{_CRATE}-{_VERSION}"
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_START_SECONDS = 30.0

# What asks no server, or only the embedded one and the benchmark's stub.
_LEFT_OUT = (
    "benchmarks",
    "faults/test_killed_servers.py",
    "integration/test_embedded.py",
    "packaging",
    "typing",
    "unit",
    "web/test_gallery.py",
)

# The server's own defects: the test, and what the server does there.
_KNOWN: dict[str, str] = {}


class _Unavailable(RuntimeError):
    """The program is not here and can't be built; the message says why."""


def find() -> Path | None:
    """The program, if it is on this machine already.

    Raises:
        FileNotFoundError: GRIDPROXY_SECOND_SERVER names no program.
    """
    if named := os.environ.get(_VARIABLE):
        if not shutil.which(named):
            raise FileNotFoundError(f"{_VARIABLE} is {named}, which is no program")
        return Path(named).absolute()
    found = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=_CACHE / "bin")
    return Path(found) if found else None


@contextmanager
def started(program: Path, *flags: str) -> Iterator[str]:
    """The address of such a server for the block, with an empty folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="gridproxy-second-") as folder:
        # Without --config it would take a secantusd.toml from the working folder or the user's home.
        config, log = Path(folder, "empty.toml"), Path(folder, "log")
        config.touch()
        command = [str(program), "--config", str(config), "--port", "0", "--storage-path", str(Path(folder, "data"))]
        with log.open("wb") as output:
            server = subprocess.Popen([*command, *flags], cwd=folder, stdout=output, stderr=output)
        try:
            yield f"mongodb://127.0.0.1:{_port(server, log)}/?heartbeatFrequencyMS=500"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _port(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if found := _LISTENING.search(log.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.02)
    raise RuntimeError(f"{_PROGRAM} did not start:\n{log.read_text(encoding='utf-8')}")


def _build() -> Path:
    cargo = shutil.which("cargo")
    if cargo is None:
        raise _Unavailable(f"{_PROGRAM} is not here, nor cargo to build it; {_VARIABLE} may name it")
    print(f"second server: building {_CRATE} {_VERSION} into {_CACHE}, once; it may take half an hour", flush=True)
    with tempfile.TemporaryDirectory(prefix="gridproxy-second-") as folder:
        # The crate names a newer Rust than it needs: 1.95 builds it.
        command = [cargo, "install", _CRATE, "--version", _VERSION, "--ignore-rust-version", "--root", str(_CACHE)]
        code = subprocess.run([*command, "--quiet", "--target-dir", folder], check=False).returncode
    if code:
        raise _Unavailable(f"cargo could not build {_CRATE} {_VERSION}; what it said stands above")
    return _CACHE / "bin" / _PROGRAM


class _Outcome:
    """pytest's counts, for the closing line."""

    line = "nothing was run"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
        self.line = ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def main(arguments: Sequence[str]) -> int:
    """Finds or builds the server, runs the suite on it; returns pytest's exit code, and 0 without a server."""
    began = time.monotonic()
    try:
        program = find() or _build()
    except _Unavailable as error:
        print(f"second server: skipped: {error}", flush=True)
        return 0
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
    print(f"second server: {version} ({program})", flush=True)
    for test, defect in _KNOWN.items():
        print(f"second server: left out {test}: {defect}", flush=True)
    os.chdir(_ROOT)
    os.environ[_VARIABLE] = str(program)
    outcome = _Outcome()
    left_out = [f"--ignore=tests/{path}" for path in _LEFT_OUT] + [f"--deselect=tests/{test}" for test in _KNOWN]
    with started(program, "--sync-on-commit", "--enable-test-commands") as uri:
        os.environ["MONGODB_URI"] = uri
        code = int(pytest.main(["-q", "-p", "no:cacheprovider", *left_out, *arguments], plugins=[outcome]))
    word = "ok" if code == 0 else "FAILED"
    print(f"second server: {word}, {outcome.line}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
