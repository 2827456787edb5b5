"""The one runner: `python -m tests` checks format, rules and types, runs the tests, demands their coverage, and tries
what strangers install: the wheel on each Python that is here, and the oldest versions that the extras allow.

`--fast` leaves coverage and what strangers install out; other arguments go to pytest (`python -m tests --fast
tests/unit -k ranges`). All steps run, even after a failed one; the exit code is 0 only if each was good.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = [sys.executable, "-m"]

_CHECKS = [
    ("format", [[*_PYTHON, "ruff", "format", "--check", "."]]),
    ("rules", [[*_PYTHON, "ruff", "check", "."]]),
    (
        "types",
        [
            [*_PYTHON, "mypy", "--strict", "gridproxy", "tests", "examples"],
            [*_PYTHON, "pyright", "--pythonpath", sys.executable],
        ],
    ),
]
_STRANGERS = [
    ("packaging", [[*_PYTHON, "pytest", "tests/packaging"]]),
    ("oldest", [[*_PYTHON, "tests.oldest"]]),
]


def _steps(fast: bool, pytest_arguments: list[str]) -> list[tuple[str, list[list[str]]]]:
    pytest = ["pytest", *_workers(), *pytest_arguments]
    if fast:
        return [*_CHECKS, ("tests", [[*_PYTHON, *pytest]])]
    coverage = [*_PYTHON, "coverage"]
    return [
        *_CHECKS,
        # What an interrupted run left behind would be counted with this one's.
        ("tests", [[*coverage, "erase"], [*coverage, "run", "-m", *pytest]]),
        ("coverage", [[*coverage, "combine", "--quiet"], [*coverage, "report"]]),
        *_STRANGERS,
    ]


def _workers() -> list[str]:
    # Each worker has an embedded server of its own. On a server that they shared, one's failpoints would hit the other.
    # They take the files in the order of conftest.py, the long ones first.
    return [] if os.environ.get("MONGODB_URI") else ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]


def main(arguments: list[str]) -> int:
    """Runs the steps and returns the exit code."""
    fast = "--fast" in arguments
    start = time.monotonic()
    # It would ask the network for a newer version of itself.
    os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    # Three workers and some fifty children import the same modules. Who wants no bytecode beside the sources (the
    # images of Docker say so) gets it elsewhere: compiling all of them anew took 8 s of each worker.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(_ROOT / ".pytest_cache" / "bytecode"))
    failed = []
    steps = _steps(fast, [argument for argument in arguments if argument != "--fast"])
    for name, commands in steps:
        print(f"\n=== {name} ===", flush=True)
        began = time.monotonic()
        # `all` stops at the first command that fails: the others of its step only make sense after it.
        good = all(subprocess.run(command, cwd=_ROOT, check=False).returncode == 0 for command in commands)
        print(f"=== {name}: {'ok' if good else 'FAILED'}, {time.monotonic() - began:.1f} s ===", flush=True)
        if not good:
            failed.append(name)
    took = f"{time.monotonic() - start:.0f} s"
    if failed:
        print(f"\nNot good: {', '.join(failed)} failed ({took}).", flush=True)
        return 1
    left_out = " (coverage, packaging and oldest left out)" if fast else ""
    print(f"\nAll good: {', '.join(name for name, _ in steps)}{left_out}, in {took}.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
