"""What is said if a package is missing that an adapter needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gridproxy.runtime.extras import require_for_import

SCRIPT = """
import importlib, sys
for adapter, package in [arguments.split(":") for arguments in sys.argv[1:]]:
    missing = {name: None for name in sys.modules if name.partition(".")[0] == package} | {package: None}
    sys.modules.update(missing)
    try:
        importlib.import_module(f"gridproxy.adapters.{adapter}")
    except ModuleNotFoundError as error:
        print(error.name, error)
"""
ADAPTERS = {
    "beanie": "beanie",
    "django": "django",
    "fsspec": "fsspec",
    "odmantic": "odmantic",
    "starlette": "starlette",
    "tus": "starlette",
}


def test_an_adapter_names_the_extra_that_is_missing() -> None:
    command = [sys.executable, "-c", SCRIPT, *(f"{adapter}:{package}" for adapter, package in ADAPTERS.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{package} gridproxy.adapters.{adapter} needs {package}: pip install 'gridproxy-mongo[{package}]'"
        for adapter, package in ADAPTERS.items()
    ]


def test_a_package_that_is_broken_keeps_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xml.sax", None)
    monkeypatch.delitem(sys.modules, "xml.sax.expatreader", raising=False)
    with pytest.raises(ModuleNotFoundError, match="xml"):
        require_for_import("xml.sax.expatreader", "fsspec", "gridproxy.adapters.fsspec")
