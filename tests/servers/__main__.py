"""The suite on other servers than the embedded one.

    python -m tests.servers [--only=ferretdb,java,secantus] [--quick] [pytest's arguments]

Each server is found, or built once into the user's cache if its tools are here. `--quick` builds none that takes longer
than five minutes. On FerretDB and mongo-java-server the core of the suite runs, without the tests that need what the
server does not have. Those are skipped with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from .ferretdb import FERRETDB
from .java import MONGO_JAVA_SERVER
from .lane import Lane
from .secantus import SECANTUS

_LANES = {lane.name: lane for lane in (FERRETDB, MONGO_JAVA_SERVER, SECANTUS)}
_ROOT = Path(__file__).resolve().parents[2]
_QUICK_MINUTES = 5.0

_PYTEST = ["-q", "-p", "no:cacheprovider"]
# anyio has a pytest plugin, and this process has imported anyio already, so pytest cannot rewrite its asserts.
_PYTEST += ["-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"]


class _Plugin:
    """Skips what the server cannot pass, and keeps the counts of pytest for the last line."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.line = "nothing was run"
        self.unknown: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.unknown = [part for part in self._lane.left_out if not any(part in item.nodeid for item in items)]
        for item in items:
            for part, reason in self._lane.left_out.items():
                if part in item.nodeid:
                    item.add_marker(pytest.mark.skip(reason=f"{self._lane.what}: {reason}"))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
        self.line = ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _program(lane: Lane, quick: bool) -> Path | str:
    """Return the lane's program, or why there is none."""
    if found := lane.find():
        return found
    if missing := [tool for tool in lane.tools if shutil.which(tool) is None]:
        return f"it is not built here, and {missing[0]} is not installed"
    if quick and lane.minutes > _QUICK_MINUTES:
        return f"it is not built here, and that takes about {lane.minutes:g} minutes: run it without --quick"
    print(f"{lane.name}: building {lane.what}, once, in about {lane.minutes:g} minutes", flush=True)
    try:
        return lane.build()
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]} could not build it. Its output is above {error.stderr or ''}".strip()


def _run(lane: Lane, quick: bool, arguments: Sequence[str]) -> int:
    """Run one lane and return pytest's exit code, or 0 if its server cannot be had here."""
    program = _program(lane, quick)
    if isinstance(program, str):
        print(f"{lane.name}: skipped: {program}", flush=True)
        return 0
    began = time.monotonic()
    print(f"{lane.name}: {lane.what} ({program})", flush=True)
    selected = any(not each.startswith("-") for each in arguments)
    tests = [] if selected else [f"tests/{path}" for path in lane.tests]
    ignored = [f"--ignore=tests/{path}" for path in lane.files_left_out]
    plugin = _Plugin(lane)
    with lane.start(program) as uri, patch.dict(os.environ, {"MONGODB_URI": uri}):
        code = int(pytest.main([*_PYTEST, *ignored, *tests, *arguments], plugins=[plugin]))
    if plugin.unknown and not arguments:
        print(f"{lane.name}: no test has these ids any more: {', '.join(plugin.unknown)}", flush=True)
        code = code or 1
    for reason in sorted({*lane.left_out.values(), *(f"{a}: {b}" for a, b in lane.files_left_out.items())}):
        print(f"{lane.name}: left out: {reason}", flush=True)
    word = "ok" if code == 0 else "FAILED"
    print(f"{lane.name}: {word}, {plugin.line}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


def main(arguments: Sequence[str]) -> int:
    """Run the lanes one after the other, each in a process of its own, and return the first bad exit code."""
    only = [name for each in arguments if each.startswith("--only=") for name in each[len("--only=") :].split(",")]
    if unknown := set(only) - set(_LANES):
        print(f"There is no server {', '.join(sorted(unknown))}, only {', '.join(_LANES)}.", flush=True)
        return 2
    rest = [each for each in arguments if not each.startswith("--only=")]
    names = only or list(_LANES)
    if len(names) == 1:
        os.chdir(_ROOT)
        return _run(_LANES[names[0]], "--quick" in rest, [each for each in rest if each != "--quick"])
    # pytest cannot run twice in one process.
    command = [sys.executable, "-m", "tests.servers", *rest]
    codes = [subprocess.run([*command, f"--only={name}"], cwd=_ROOT, check=False).returncode for name in names]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
