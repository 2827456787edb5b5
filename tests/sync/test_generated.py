"""The blocking classes have the methods and the arguments of the asynchronous ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import gridproxy
from gridproxy import AsyncGridFile, sync
from tests.generate_sync import FACADES, generate

PAIRS = [
    (sync.Bucket, gridproxy.Bucket),
    (sync.GridFile, AsyncGridFile),
    (sync.ResumableUpload, gridproxy.ResumableUpload),
]
# They belong to documents, or to the asynchronous driver.
LEFT_OUT = {"finalize", "revert", "options", "database", "capabilities"}
ADDED = {"asynchronous", "bucket", "create", "open"}


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff, which formats the files, is not installed (group dev)")
@pytest.mark.parametrize("name", FACADES)
def test_the_files_are_those_that_the_script_writes(name: str) -> None:
    path = Path(sync.__file__).parent / name
    assert path.read_text(encoding="utf-8") == generate(name), "run python -m tests.generate_sync"


def members(kind: type) -> dict[str, object]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


def cases() -> Iterator[tuple[type, type, str]]:
    for blocking, awaited in PAIRS:
        for name in members(awaited).keys() - LEFT_OUT:
            yield blocking, awaited, name


@pytest.mark.parametrize(("blocking", "awaited", "name"), sorted(cases(), key=str))
def test_a_method_has_the_same_arguments(blocking: type, awaited: type, name: str) -> None:
    ours, theirs = members(blocking)[name], members(awaited)[name]
    assert isinstance(ours, property) == isinstance(theirs, property)
    if callable(ours) and callable(theirs):
        assert not inspect.iscoroutinefunction(ours)
        # Annotations are strings here. The generated text has them from the asynchronous method.
        assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_there_is_nothing_else(blocking: type, awaited: type) -> None:
    assert members(blocking).keys() - members(awaited).keys() <= ADDED


@pytest.mark.parametrize("name", sync.__all__)
def test_no_docstring_awaits(name: str) -> None:
    for member in [getattr(sync, name), *members(getattr(sync, name)).values()]:
        text = inspect.getdoc(member) or ""
        assert "await " not in text
        assert "async with" not in text
        assert "async for" not in text
