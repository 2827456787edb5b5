"""The newest end: the suite on the newest Python here with the newest extras, in an environment of its own.

    python -m tests.newest [pytest's arguments]

Newer Pythons get newer releases than the ordinary run has, for example puremagic 2. Benchmarks and packaging are left
out. Without MONGODB_URI the Python must be one that the embedded server has a wheel for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .packaging.interpreters import interpreters

_ROOT = Path(__file__).resolve().parent.parent
_LAST_WITH_SERVER = (3, 13)
_LEFT_OUT = ["--ignore=tests/benchmarks", "--ignore=tests/packaging"]
_WORKERS = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]


def _newest() -> tuple[str, Path] | None:
    """Return the newest Python that is newer than the running one and can have a server."""
    versions = {tuple(map(int, name.split("."))): (name, path) for name, path in interpreters().items()}
    fitting = [
        version
        for version in versions
        if version > sys.version_info[:2] and (version <= _LAST_WITH_SERVER or "MONGODB_URI" in os.environ)
    ]
    return versions[max(fitting)] if fitting else None


def main(arguments: Sequence[str]) -> int:
    """Install and run, and return the exit code of the tests, which is 0 if no newer Python is here."""
    found = _newest()
    if found is None:
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(
            f"newest: skipped: no Python newer than {running} is installed here for which the embedded server has a "
            "wheel (`pyenv install 3.13` adds one)",
            flush=True,
        )
        return 0
    version, interpreter = found
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gridproxy-newest-") as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        programs = Path(folder) / "bin"
        python = str(programs / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "pip>=25.1"], check=True)  # for --group
        subprocess.run([*install, "-e", ".", "--group", "test"], cwd=_ROOT, check=True)
        print(f"newest: Python {version}, installed in {time.monotonic() - began:.0f} s", flush=True)
        workers = [] if os.environ.get("MONGODB_URI") else _WORKERS
        run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *_LEFT_OUT, *arguments]
        # The embedded server is a program of this environment.
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        code = subprocess.run(run, cwd=_ROOT, check=False, env={**os.environ, "PATH": path}).returncode
    word = "ok" if code == 0 else "FAILED"
    print(f"newest: {word} with Python {version}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
