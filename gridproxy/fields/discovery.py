"""Find the files in an annotation and in a value, in one walk through models, dataclasses, mappings and lists."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, TypeVar, Union, get_origin
from uuid import UUID

from bson import ObjectId

from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.pydantic import parts_of

# Says of an object that it is not part of the value: a document that is only linked.
Beyond = Callable[[object], bool]
# Returns what a place is to hold, by its path and the file in it.
Choose = Callable[[str, AsyncGridFile | None], AsyncGridFile | None]


def is_file_type(part: object) -> bool:
    """Return whether a part of an annotation is a class of files."""
    return isinstance(part, type) and issubclass(part, AsyncGridFile)


def options_in(annotation: object, metadata: Iterable[object]) -> FileOptions:
    """Return the options of a field, from its `metadata` (around the whole type) or from within its annotation.

    ```python
    from typing import Annotated
    from gridproxy.fields import options_in

    assert options_in(Annotated[AsyncGridFile, FileOptions("photos")], ()).bucket == "photos"
    ```
    """
    declared = [*metadata, *parts_of(annotation)]
    return next((each for each in declared if isinstance(each, FileOptions)), FileOptions())


# Types that hold nothing: most values are one of these, and are not looked at any further.
_LEAVES = frozenset({AsyncGridFile, NoneType, ObjectId, bool, bytes, datetime, float, int, str})


# The same as bases: a field of such a type holds no file.
_SCALARS = (NoneType, ObjectId, bool, bytes, date, time, timedelta, Decimal, enum.Enum, float, int, str, PurePath, UUID)


class Place(NamedTuple):
    """One part of a value: its dotted path, the container that holds it, and under which name or index."""

    path: str
    container: object
    key: object
    part: object


def walk(value: object, beyond: Beyond | None = None) -> Iterator[Place]:
    """Yield every part of `value`, however deep, in order, and go through no container twice."""
    seen = {id(value)}
    stack = [("", value, iter(_parts(value) or ()))]
    while stack:
        prefix, container, parts = stack[-1]
        for key, part in parts:
            path = f"{prefix}.{key}" if prefix else str(key)
            yield Place(path, container, key, part)
            if type(part) in _LEAVES or id(part) in seen:
                continue
            inner = _parts(part)
            if inner is not None and not (beyond is not None and beyond(part)):
                seen.add(id(part))
                stack.append((path, part, iter(inner)))
                break
        else:
            stack.pop()


def files_in(value: object, *, beyond: Beyond | None = None) -> Iterator[tuple[str, AsyncGridFile]]:
    """Yield every file in `value` with its dotted path, and a file in two places once.

    ```python
    from gridproxy.fields import files_in

    assert list(files_in({"album": [file]})) == [("album.0", file)]
    ```
    """
    if isinstance(value, AsyncGridFile):
        yield "", value
        return
    seen: set[int] = set()
    for path, _, _, part in walk(value, beyond):
        if isinstance(part, AsyncGridFile) and id(part) not in seen:
            seen.add(id(part))
            yield path, part


def models_in(value: object, *, beyond: Beyond | None = None) -> Iterator[tuple[str, object]]:
    """Yield every pydantic model inside `value` with its dotted path.

    ```python
    from gridproxy.fields import models_in

    assert list(models_in({"album": [file]})) == []
    ```
    """
    seen: set[int] = set()
    for path, _, _, part in walk(value, beyond):
        if is_model(part) and id(part) not in seen and not (beyond is not None and beyond(part)):
            seen.add(id(part))
            yield path, part


def exchange_files(value: object, choose: Choose, *, beyond: Beyond | None = None) -> bool:
    """Put into each place that holds a file or None what `choose` returns for its path and content.

    The items of a tuple stay, because they cannot be exchanged. Returns whether any part was exchanged.

    ```python
    from gridproxy.fields import exchange_files

    document = {"photo": None}
    exchange_files(document, lambda path, part: file)
    assert document["photo"] is file
    ```
    """
    exchanged = False
    for path, container, key, part in walk(value, beyond):
        if part is None or isinstance(part, AsyncGridFile):
            chosen = choose(path, part)
            if chosen is not part:
                _put(container, key, chosen)
                exchanged = True
    return exchanged


def _put(container: Any, key: Any, part: object) -> None:
    if isinstance(container, MutableMapping | list):
        container[key] = part
    elif not isinstance(container, Mapping | tuple):
        # Not by assignment: a model may be frozen or validate, and this is the same file as another object.
        held = vars(container)
        (held if key in held else container.__pydantic_extra__)[key] = part


def _parts(value: object) -> list[tuple[object, object]] | None:
    """Return the parts of a container, or None for any other value."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if is_model(value):
        extra = getattr(value, "__pydantic_extra__", None)
        return [*vars(value).items(), *(extra or {}).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return None


# `values_of(model, "__dict__")` is `vars(model)` past the slow `__getattribute__` of a class such as Beanie's.
values_of: Callable[[object, str], Any] = object.__getattribute__


class Depth(enum.Enum):
    """How deep the files of a field are."""

    FILE = "the field is a file"
    FILES = "the field is a list or dict of files"
    DEEP = "the field may hold files anywhere inside"


class FieldPlan:
    """Which fields of a class of models may hold files, and how deep: made once, so that finding the files is a loop.

    `depths` are the searched fields with their depth. `flat` says that no field has to be searched any deeper than its
    items, `direct` that every field is a file itself.
    """

    def __init__(self, kind: Any) -> None:
        depths = ((name, _depth(field.annotation)) for name, field in kind.model_fields.items())
        self.depths: dict[str, Depth] = {name: depth for name, depth in depths if depth is not None}
        self.flat: bool = kind.model_config.get("extra") != "allow" and all(
            depth is not Depth.DEEP for depth in self.depths.values()
        )
        self.direct: bool = self.flat and all(depth is Depth.FILE for depth in self.depths.values())
        self._only: str | None = next(iter(self.depths)) if self.direct and len(self.depths) == 1 else None

    def files(self, model: object, beyond: Beyond) -> list[tuple[str, AsyncGridFile]]:
        """Return every file that a model holds, with its dotted path."""
        if not self.flat:
            return list(files_in(model, beyond=beyond))
        values = values_of(model, "__dict__")
        if self._only is not None:  # most documents have one file, and are loaded by the thousand
            only = values.get(self._only)
            return [(self._only, only)] if isinstance(only, AsyncGridFile) else []
        return self.files_of(values)

    def values(self, model: object) -> dict[str, object]:
        """Return what the fields of a flat model hold, with a copy of each list and dict."""
        values = values_of(model, "__dict__")
        return {name: _copied(values.get(name)) for name in self.depths}

    def files_of(self, values: Mapping[str, object]) -> list[tuple[str, AsyncGridFile]]:
        """Return every file in the values of a flat model, with its dotted path."""
        found: list[tuple[str, AsyncGridFile]] = []
        for name, depth in self.depths.items():
            value = values.get(name)
            if isinstance(value, AsyncGridFile):
                found.append((name, value))
            elif type(value) is list and depth is Depth.FILES:
                found += [(f"{name}.{n}", file) for n, file in enumerate(value) if isinstance(file, AsyncGridFile)]
            elif value is not None and depth is Depth.FILES:
                found += [(f"{name}.{path}", file) for path, file in files_in(value)]
        return _once(found)

    def held(self, model: object, beyond: Beyond) -> list[tuple[str, AsyncGridFile]]:
        """Return every file that a model holds, with the name of its field."""
        if not self.flat:
            return [(path.partition(".")[0], file) for path, file in files_in(model, beyond=beyond)]
        values, found = values_of(model, "__dict__"), []
        for name, depth in self.depths.items():
            value = values.get(name)
            if isinstance(value, AsyncGridFile):
                found.append((name, value))
            elif type(value) is list and depth is Depth.FILES:
                found += [(name, item) for item in value if isinstance(item, AsyncGridFile)]
            elif value is not None and depth is Depth.FILES:
                found += [(name, file) for _, file in files_in(value)]
        return _once(found)

    def exchange(self, model: Any, choose: Choose, beyond: Beyond) -> bool:
        """Exchange files as `exchange_files` does. Returns whether any was exchanged."""
        if not self.flat:
            return exchange_files(model, choose, beyond=beyond)
        values, exchanged = vars(model), False
        for name, depth in self.depths.items():
            held = values.get(name, model)
            if held is None or isinstance(held, AsyncGridFile):
                values[name] = choose(name, held)
                exchanged = exchanged or values[name] is not held
            elif type(held) is list and depth is Depth.FILES:
                for n, file in enumerate(held):
                    if file is None or isinstance(file, AsyncGridFile):
                        held[n] = choose(f"{name}.{n}", file)
                        exchanged = exchanged or held[n] is not file
            elif depth is Depth.FILES:
                # The path is that within the model.
                exchanged = exchange_files(held, partial(_choose_inside, choose, name)) or exchanged
        return exchanged


def _once(found: list[tuple[str, AsyncGridFile]]) -> list[tuple[str, AsyncGridFile]]:
    """Leave out all but the first place of each file."""
    if len(found) < 2 or len({id(file) for _, file in found}) == len(found):
        return found
    return list({id(each[1]): each for each in reversed(found)}.values())[::-1]


def _copied(value: object) -> object:
    if type(value) is list:
        return value.copy()
    return dict(value) if type(value) is dict else value


def same_objects(one: object, other: object) -> bool:
    """Return whether two values are one object, or lists of the same objects."""
    if type(one) is list and type(other) is list:
        return [*map(id, one)] == [*map(id, other)]
    return one is other


def _choose_inside(choose: Choose, name: str, path: str, file: AsyncGridFile | None) -> AsyncGridFile | None:
    return choose(f"{name}.{path}", file)


def _depth(annotation: object) -> Depth | None:
    """Return how deep files may be in a field of this type, or None if it cannot hold any."""
    containers, files = 0, False
    for part in parts_of(annotation):
        origin = get_origin(part)
        if is_file_type(part):
            files = True
        elif isinstance(origin, type) and issubclass(origin, list | dict | tuple):
            containers += 1
        elif origin is Literal or (origin in (Annotated, Union, UnionType)) or part is Ellipsis or _is_leaf(part):
            continue
        else:
            return Depth.DEEP
    if not files:
        return None
    return Depth.FILE if not containers else Depth.FILES if containers == 1 else Depth.DEEP


def _is_leaf(part: object) -> bool:
    """Return whether a part of an annotation is a scalar type, or a value such as a constraint."""
    if isinstance(part, type):
        return issubclass(part, _SCALARS)
    return not isinstance(part, TypeVar | ForwardRef | str) and part is not Any and get_origin(part) is None


def is_model(value: object) -> bool:
    """Return whether this is a pydantic model, without importing pydantic."""
    return hasattr(type(value), "__pydantic_fields_set__")
