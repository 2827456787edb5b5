"""The lane of the oldest versions tests what pyproject.toml promises, and not something near it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["beanie"], *extras["odmantic"], *extras["pydantic"]]
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(asked), re.MULTILINE))
    constraints = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)$", constraints, re.MULTILINE))
    assert len(bounds) == len(asked)
    assert set(pins) == set(bounds)
    for name, pin in pins.items():
        assert pin == bounds[name] or pin.removesuffix(".0") == bounds[name], name
