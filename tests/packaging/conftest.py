"""The wheel, built once, and for each Python an environment with the wheel and its dependencies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .interpreters import interpreters, new_environment, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session", params=interpreters())
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheel and no extra."""
    version: str = request.param
    return new_environment(interpreters()[version], tmp_path_factory.mktemp(f"python{version}"), str(wheel))
