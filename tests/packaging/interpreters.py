"""The Pythons of this machine that pyproject.toml names, and environments of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["interpreters", "new_environment", "pip", "run"]

_ROOT = Path(__file__).resolve().parents[2]


def interpreters() -> dict[str, Path]:
    """Return the interpreters of those versions in pyproject.toml's classifiers that are installed here and start."""
    text = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    assert versions
    found = {version: _interpreter(version) for version in versions}
    return {version: path for version, path in found.items() if path is not None}


def _interpreter(version: str) -> Path | None:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return Path(sys.executable)
    # pyenv's scripts on the PATH start only the version that is switched on.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    named = shutil.which(f"python{version}")
    candidates = [*sorted(root.glob(f"versions/{version}.*/bin/python{version}")), *([Path(named)] if named else [])]
    for path in candidates:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and f"Python {version}." in asked.stdout:
            return path
    return None


def new_environment(python: Path, folder: Path, *packages: str) -> Path:
    """Make an environment with these packages and their dependencies alone, and return its interpreter."""
    run(python, "-m", "venv", "--without-pip", folder)
    inside = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip(inside, "install", "--quiet", "--no-compile", *packages)
    return inside


def pip(python: Path, *arguments: str) -> str:
    """Run this environment's pip on the other one, which has no pip, and return what it prints."""
    return run(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments)


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Return what the command prints, which is in the error if it fails."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
