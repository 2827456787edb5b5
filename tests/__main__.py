"""The one runner: `python -m tests` runs all that CI runs.

It checks format, rules, layers and types, runs the tests and demands their coverage. Then it tries what users install:
the wheel on each Python that is here, the oldest versions that the extras allow, and the newest Python that is here
with the newest versions.

`--fast` leaves out coverage, packaging, oldest and newest. `--only=format,rules` runs these steps alone. Other
arguments are pytest's: `python -m tests --fast tests/http -k ranges`. A failed step does not stop the others. The exit
code is 0 if every step passed.
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
    ("layers", [[str(Path(sys.executable).with_name("lint-imports"))]]),
    (
        "types",
        [
            [*_PYTHON, "mypy", "--strict", "gridproxy", "tests", "examples"],
            [*_PYTHON, "tests.typing.pages"],
            [*_PYTHON, "pyright", "--pythonpath", sys.executable],
        ],
    ),
]
_INSTALLED = [
    ("packaging", [[*_PYTHON, "pytest", "tests/packaging"]]),
    ("oldest", [[*_PYTHON, "tests.oldest"]]),
    ("newest", [[*_PYTHON, "tests.newest"]]),
]


def _steps(fast: bool, pytest_arguments: list[str]) -> list[tuple[str, list[list[str]]]]:
    pytest = ["pytest", *_workers(), *pytest_arguments]
    if fast:
        return [*_CHECKS, ("tests", [[*_PYTHON, *pytest]])]
    coverage = [*_PYTHON, "coverage"]
    return [
        *_CHECKS,
        # The files of an interrupted run would be counted with those of this run.
        # A newer Python does not pay. coverage 7.17 measures branches by sys.monitoring from Python 3.14 on, for which
        # the embedded server has no wheel. With its C tracer tests/file takes 17.3 s on 3.11 and 17.0 s on 3.13 (12.5 s
        # and 13.3 s without coverage).
        ("tests", [[*coverage, "erase"], [*coverage, "run", "-m", *pytest]]),
        ("coverage", [[*coverage, "combine", "--quiet"], [*coverage, "report"]]),
        *_INSTALLED,
    ]


def _workers() -> list[str]:
    # Each worker has an embedded server of its own. On a shared server the failpoints of one would hit the others.
    # The workers take the files in the order of conftest.py, the long ones first.
    return [] if os.environ.get("MONGODB_URI") else ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]


def main(arguments: list[str]) -> int:
    """Run the steps and return the exit code."""
    fast = "--fast" in arguments
    only = {
        name for each in arguments if each.startswith("--only=") for name in each.removeprefix("--only=").split(",")
    }
    start = time.monotonic()
    # Pyright would ask the network for a newer version of itself.
    os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    # Three workers and some fifty children import the same modules, and to compile all of them anew takes 8 s in each
    # worker. If the environment forbids bytecode beside the sources, as Docker images do, it is kept elsewhere.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(_ROOT / ".pytest_cache" / "bytecode"))
    steps = _steps(fast, [each for each in arguments if each != "--fast" and not each.startswith("--only=")])
    if unknown := only - {name for name, _ in steps}:
        print(
            f"There is no step {', '.join(sorted(unknown))}, only {', '.join(name for name, _ in steps)}.", flush=True
        )
        return 2
    failed = []
    steps = [step for step in steps if not only or step[0] in only]
    for name, commands in steps:
        print(f"\n=== {name} ===", flush=True)
        began = time.monotonic()
        # `all` stops at the first command that fails, because the others of its step need it.
        good = all(subprocess.run(command, cwd=_ROOT, check=False).returncode == 0 for command in commands)
        print(f"=== {name}: {'ok' if good else 'FAILED'}, {time.monotonic() - began:.1f} s ===", flush=True)
        if not good:
            failed.append(name)
    took = f"{time.monotonic() - start:.0f} s"
    if failed:
        print(f"\nNot good: {', '.join(failed)} failed ({took}).", flush=True)
        return 1
    left_out = " (coverage, packaging, oldest and newest left out)" if fast and not only else ""
    print(f"\nAll good: {', '.join(name for name, _ in steps)}{left_out}, in {took}.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
