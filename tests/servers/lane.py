"""What one lane is: a program that is found or built, started, and the tests that run on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CORE", "Lane", "cache", "find_in_cache", "replace_folder", "running"]

_START_SECONDS = 60.0

# Uploads, reads, ranges, copies, deletes, metadata, check, garbage collection, the command line and HTTP.
CORE = (
    "bucket",
    "cli/test_cli.py",
    "file",
    "gridfs/test_chunks.py",
    "gridfs/test_codec_options.py",
    "gridfs/test_copy.py",
    "gridfs/test_delete.py",
    "gridfs/test_expiry.py",
    "gridfs/test_ids.py",
    "gridfs/test_interop.py",
    "gridfs/test_limits.py",
    "gridfs/test_many.py",
    "gridfs/test_staging.py",
    "gridfs/test_unique_indexes.py",
    "gridfs/test_update.py",
    "gridfs/test_verify.py",
    "upkeep",
    "web/test_conformance.py",
)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One server and the tests that run on it.

    `tools` are the programs that build it, `minutes` how long that takes on two busy cores. `left_out` maps a part of
    the ids of tests to the reason why the server cannot pass them, and `files_left_out` paths in `tests/`.
    """

    name: str
    what: str
    tools: Sequence[str]
    minutes: float
    find: Callable[[], Path | None]
    build: Callable[[], Path]
    start: Callable[[Path], AbstractContextManager[str]]
    tests: Sequence[str] = CORE
    left_out: Mapping[str, str] = field(default_factory=dict)
    files_left_out: Mapping[str, str] = field(default_factory=dict)


def cache(name: str) -> Path:
    """Return the folder that keeps a built server of this name and version."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridproxy" / name


def find_in_cache(name: str, program: str) -> Path | None:
    """Return a built program, or None."""
    path = cache(name) / program
    return path if path.exists() else None


@contextmanager
def running(command: Sequence[str | Path], listening: str) -> Iterator[int]:
    """Run a server for the block, and yield its port, which the pattern finds in the server's output.

    The server's standard input is a pipe that is closed at the end of this process, even if it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="gridproxy-server-") as folder:
        log = Path(folder) / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*map(str, command)], cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            ) as process,
        ):
            try:
                yield _port(process, log, re.compile(listening))
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _port(process: subprocess.Popen[bytes], log: Path, listening: re.Pattern[str]) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        code, text = process.poll(), log.read_text(errors="replace")
        if found := listening.search(text):
            return int(found[1])
        if code is not None:
            raise RuntimeError(f"the server ended with code {code}:\n{text[-2000:]}")
        time.sleep(0.05)
    raise TimeoutError(f"the server did not listen within {_START_SECONDS:g} s:\n{log.read_text()[-2000:]}")


def replace_folder(new: Path, target: Path) -> None:
    """Move a built folder to its place, so that an interrupted build leaves nothing half-made there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(new, target)
