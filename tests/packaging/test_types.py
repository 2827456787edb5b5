"""What a type checker sees of the installed wheel: nothing public without a type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from .interpreters import new_environment


@pytest.fixture(scope="module")
def completeness(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pyright's verdict on the wheel beside all that its extras need, which is this environment's."""
    folder = tmp_path_factory.mktemp("typed")
    python = new_environment(Path(sys.executable), folder, "--no-deps", str(wheel))
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(own) / "extras.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pyright = [sys.executable, "-m", "pyright", "--verifytypes", "gridproxy", "--ignoreexternal", "--outputjson"]
    # It has no option for the environment, here: it asks the first Python on the PATH.
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        pyright, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    try:
        verdict: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    except ValueError:
        raise AssertionError(f"pyright gave no verdict:\n{done.stdout}{done.stderr}") from None
    assert Path(verdict["packageRootDirectory"]).is_relative_to(folder)
    return verdict


def test_every_public_symbol_has_a_type(completeness: dict[str, Any]) -> None:
    symbols = [symbol for symbol in completeness["symbols"] if symbol["isExported"]]
    assert len(symbols) > 1000
    untyped = {
        symbol["name"]: [diagnostic["message"] for diagnostic in symbol["diagnostics"]]
        for symbol in symbols
        if symbol["diagnostics"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
    }
    assert not untyped, json.dumps(untyped, indent=1)
