"""Whether docstrings say what a caller has to know: the unit of each number, the errors that are raised, the spec."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from gridproxy import BadMetadata

from ..test_reference import MODULES, public_things

# By the names of parameters, fields and properties, and by their annotations: what has to stand in the sentence that
# names them. The first that fits counts.
UNITS = [
    (r"^(offset|start|stop|ranges|position|max_bytes)$", r"\bint\b", r"\bbytes?\b"),
    (r"(size|length|width|height)$|^variants$", r"\b(int|Size)\b", r"\b(bytes?|pixels?|characters?)\b"),
    (r"", r"\bfloat\b", r"\b(seconds?|minutes?|hours?)\b|\bnumber\b"),
    (r"", r"\bint\b", r"\b(bytes?|chunks?|characters?|pixels?|documents?|files?|ids?|how many|[KM]i?B)\b"),
    (r"", r"\bdatetime\b", r"\bUTC\b"),
]
UNMEASURED = {"checked": "the user's own value", "port": "as TCP has it"}
SPECS = {
    **{f"gridproxy.{name}": ["GridFS spec"] for name in ("bucket", "chunks", "indexes", "info", "store")},
    "gridproxy.adapters.starlette": ["RFC 9110", "9457"],
    "gridproxy.http": ["RFC 9110", "6266", "8187", "9530"],
}


class Public:
    """A public function, property or class: its code, and what its docstring says, with what that refers to."""

    def __init__(self, place: str, thing: Any, owner: type | None) -> None:
        self.place, self.thing, self.owner = place, thing, owner
        made_by = "__post_init__" if dataclasses.is_dataclass(thing) else "__init__"
        code = getattr(thing, made_by, None) if inspect.isclass(thing) else thing
        self.code = getattr(code, "fget", code)
        self.module = inspect.getmodule(self.code) or inspect.getmodule(thing)
        means = [_doc(thing)]  # "as `put`" stands for all that is said there
        for text in means:
            for name in re.findall(r"\bas\s+`(?:\w+\.)*(\w+)`", text):
                meant = _doc(getattr(owner, name, getattr(self.module, name, None)))
                means += [meant] if meant not in means else []
        self.own = "\n\n".join(means)
        self.said = "\n\n".join([self.own, _doc(owner), _doc(self.module)])

    def numbers(self) -> Iterator[tuple[str, str, list[str]]]:
        """What goes in and comes out: its name, its annotation, and the sentences that tell of it."""
        sentences = re.split(r"(?<=\.)\s|\n\n|\n- ", self.said)
        if dataclasses.is_dataclass(self.thing):
            given = {each.name: each.type for each in dataclasses.fields(self.thing) if each.repr}
        else:
            given = getattr(inspect.unwrap(self.code), "__annotations__", {}) if callable(self.code) else {}
        for name, annotation in given.items():
            if name == "return":
                yield self.place.rpartition(".")[2], str(annotation), [self.own]
            else:
                yield name, str(annotation), [each for each in sentences if re.search(rf"\b{name}\b", each)]


def _doc(thing: object) -> str:
    return (inspect.getdoc(thing) or "") if thing is not None else ""


def public(module: str) -> Iterator[Public]:
    found = importlib.import_module(module)
    for place, thing in public_things(found):
        owner = getattr(found, place.removeprefix(f"{module}.").partition(".")[0], None)
        if place != module and (callable(thing) or isinstance(thing, property)):
            yield Public(place, thing, owner if inspect.isclass(owner) else None)


def raised(code: Any, owner: type | None, seen: set[object]) -> Iterator[type[BaseException]]:
    """The exceptions that code makes by name, and those of the checks and private helpers that it calls by name."""
    code = inspect.unwrap(code) if inspect.isroutine(code) else None
    if code in seen or not inspect.isfunction(code):
        return
    seen.add(code)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(code)))):
        made = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
        if isinstance(made, ast.Name):
            thing = {**vars(builtins), **code.__globals__}.get(made.id)
            if inspect.isclass(thing) and issubclass(thing, Exception):
                yield thing
            elif made.id.startswith(("_", "check")):
                yield from raised(thing, owner, seen)
        elif isinstance(made, ast.Attribute) and ast.unparse(made).startswith("self._"):
            yield from raised(getattr(owner, made.attr, None), owner, seen)


def without_unit(each: Public) -> Iterator[str]:
    for name, annotation, sentences in each.numbers():
        unit = next((unit for names, kind, unit in UNITS if re.search(names, name) and re.search(kind, annotation)), "")
        if name not in UNMEASURED and not any(re.search(unit, text, re.IGNORECASE) for text in [name, *sentences]):
            yield f"{each.place}: {name}: {annotation}"


def without_name(each: Public) -> Iterator[str]:
    for error in raised(each.code, each.thing if inspect.isclass(each.thing) else each.owner, set()):
        # `BadOption` tells of `BadMetadata`, too, but `GridProxyError` of nothing.
        kinds = [kind.__name__ for kind in error.__mro__ if kind.__module__ == "gridproxy.errors"][:-1]
        if not re.search(rf"\b({'|'.join([error.__name__, *kinds])})\b", each.said):
            yield f"{each.place}: {error.__name__}"


@pytest.mark.parametrize("module", MODULES)
def test_every_number_has_its_unit(module: str) -> None:
    assert [line for each in public(module) for line in without_unit(each)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_error_is_named(module: str) -> None:
    assert [line for each in public(module) for line in without_name(each)] == []


@pytest.mark.parametrize("module", SPECS)
def test_a_module_names_the_spec_that_it_follows(module: str) -> None:
    said = importlib.import_module(module).__doc__ or ""
    assert [spec for spec in SPECS[module] if spec not in said] == []


class Silent:
    """What these checks are there to find; a `start` is in bytes."""

    def cut(self, start: int, size: int) -> int:
        """Cut to a `size`."""
        return self._checked(start) + size

    def _checked(self, start: int) -> int:
        if start < 0:
            raise BadMetadata("below 0")
        return start


def test_silence_is_found() -> None:
    cut = Public("cut", Silent.cut, Silent)
    assert list(without_unit(cut)) == ["cut: size: int", "cut: cut: int"]
    assert list(without_name(cut)) == ["cut: BadMetadata"]
