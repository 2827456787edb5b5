"""A type checker finds a type for every public name of the installed wheel."""

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

# fsspec says nothing about types (it has no py.typed), so pyright does not know these classes' bases. All that the
# classes themselves define has types.
_FOREIGN_BASES = {
    f"gridproxy.adapters.{name}"
    for name in (
        "django.files.GridFSFile",
        "django.storage.GridFSStorage",
        "django.views.GridFSView",
        "fsspec.async_file.AsyncGridFSFile",
        "fsspec.cache.ChunkCache",
        "fsspec.file.GridFSFile",
        "fsspec.filesystem.GridFSFileSystem",
    )
}
_OF_BASES = {"Type of base class unknown", "Type of metaclass unknown"}


@pytest.fixture(scope="module")
def completeness(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what pyright reports of the wheel, with the extras of this environment."""
    folder = tmp_path_factory.mktemp("typed")
    python = new_environment(Path(sys.executable), folder, "--no-deps", str(wheel))
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(own) / "extras.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pyright = [sys.executable, "-m", "pyright", "--verifytypes", "gridproxy", "--ignoreexternal", "--outputjson"]
    # With --verifytypes pyright has no option for the environment. It asks the first Python on the PATH.
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        pyright, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    except ValueError:
        raise AssertionError(f"pyright printed no report:\n{done.stdout}{done.stderr}") from None
    assert Path(report["packageRootDirectory"]).is_relative_to(folder)
    return report


def test_every_public_symbol_has_a_type(completeness: dict[str, Any]) -> None:
    symbols = [symbol for symbol in completeness["symbols"] if symbol["isExported"]]
    assert len(symbols) > 1000
    untyped = {
        symbol["name"]: [diagnostic["message"] for diagnostic in symbol["diagnostics"]]
        for symbol in symbols
        if symbol["diagnostics"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
    }
    for name in _FOREIGN_BASES:
        untyped[name] = sorted(set(untyped.get(name, [])) - _OF_BASES)
        if not untyped[name]:
            del untyped[name]
    assert not untyped, json.dumps(untyped, indent=1)
