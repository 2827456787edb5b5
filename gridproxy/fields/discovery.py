"""Which files lie in a value, and where: through models, dataclasses, mappings and lists, whatever ODM they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from gridproxy.file.file import AsyncGridFile


def files_in(
    value: object, *, beyond: Callable[[object], bool] = lambda _: False
) -> Iterator[tuple[str, AsyncGridFile]]:
    """Every file in `value` with its dotted path ("photo", "album.0"); an object in two places comes once.

    `beyond` tells what is not part of it: another document that is only linked.
    """
    seen: set[int] = set()

    def walk(value: object, path: str) -> Iterator[tuple[str, AsyncGridFile]]:
        if isinstance(value, AsyncGridFile):
            if id(value) not in seen:
                seen.add(id(value))
                yield path, value
            return
        parts = _parts(value)
        if parts is None or id(value) in seen or (path and beyond(value)):
            return
        seen.add(id(value))
        for name, part in parts:
            yield from walk(part, f"{path}.{name}" if path else str(name))

    return walk(value, "")


def models_in(value: object, *, beyond: Callable[[object], bool] = lambda _: False) -> Iterator[tuple[str, object]]:
    """Every model of pydantic's inside of `value`, with its dotted path; parameters are those of `files_in`."""
    seen: set[int] = set()

    def walk(value: object, path: str) -> Iterator[tuple[str, object]]:
        parts = _parts(value)
        if parts is None or id(value) in seen or (path and beyond(value)):
            return
        seen.add(id(value))
        if path and _is_model(value):
            yield path, value
        for name, part in parts:
            yield from walk(part, f"{path}.{name}" if path else str(name))

    return walk(value, "")


def exchange_files(
    value: object,
    choose: Callable[[str, AsyncGridFile | None], AsyncGridFile | None],
    *,
    beyond: Callable[[object], bool] = lambda _: False,
) -> None:
    """Put into each place of `value` that holds a file, or None, what `choose` returns for its path and content.

    What lies in a tuple stays: it cannot be exchanged there.
    """
    seen: set[int] = set()

    def walk(value: object, path: str) -> None:
        parts = _parts(value)
        if parts is None or id(value) in seen or (path and beyond(value)):
            return
        seen.add(id(value))
        for name, part in parts:
            at = f"{path}.{name}" if path else str(name)
            if part is not None and not isinstance(part, AsyncGridFile):
                walk(part, at)
            elif (chosen := choose(at, part)) is not part:
                _put(value, name, chosen)

    walk(value, "")


def _put(container: Any, name: Any, part: object) -> None:
    if isinstance(container, MutableMapping | list):
        container[name] = part
    elif not isinstance(container, Mapping | tuple):
        # Past a model's validation, and past being frozen: it is the same file by another object.
        held = vars(container)
        (held if name in held else container.__pydantic_extra__)[name] = part


def _parts(value: object) -> list[tuple[object, object]] | None:
    """What a container consists of; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if _is_model(value):
        extra = getattr(value, "__pydantic_extra__", None)
        return [*vars(value).items(), *(extra or {}).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return None


def _is_model(value: object) -> bool:
    return hasattr(type(value), "__pydantic_fields_set__")  # pydantic's, which is not imported for that
