"""Values that were assigned to fields of embedded models, or put into lists and dicts. Pydantic does not check them.

Beanie would write them as they are. So a document makes files of them before it is written. For this it remembers
which files the embedded models held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pydantic

from gridproxy.errors import ValidationError
from gridproxy.file.file import AsyncGridFile
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

from .fields import FileField, class_of
from .typed_document import NAO

# The files of each embedded model at the last `remember_files`.
_remembered: WeakIdentityMap[object, dict[str, AsyncGridFile]] = WeakIdentityMap()


@dataclass(frozen=True)
class RawValue:
    """A value in a field for files that is not a file, or contains one that is not. `path` is within the document."""

    path: str
    model: object
    name: str
    field: FileField

    def normalise(self, held: Collection[int]) -> None:
        """Convert the value as an assignment to a field of the document does. Does no I/O.

        `held` are the files that the document still holds: a file that was moved to another field is not replaced here.
        Raises `ValidationError` with the path for a value that cannot be a file.
        """
        values = vars(self.model)
        current = (_remembered.get(self.model) or {}).get(self.name)
        if current is not None and id(current) in held:
            current = None
        value = values[self.name]
        try:
            normal = self.field.assigned(current, value, self.path)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            path = ".".join([self.path, *(str(part) for part in first["loc"])])
            raise ValidationError(path, first["msg"]) from error
        if isinstance(value, list) and isinstance(normal, list):
            value[:] = normal  # the caller may hold the list
        elif isinstance(value, dict) and isinstance(normal, dict):
            value.update(normal)
        else:
            values[self.name] = normal  # without the validation of the model


def raw_values(models: Iterable[tuple[str, object]]) -> Iterator[RawValue]:
    """Yield the raw values in these models, which are given with their paths.

    The document, whose path is empty, checks assignments by itself: only its lists and dicts can hold raw values.
    """
    for path, model in models:
        for name, field, value in _file_values(model):
            if value is not NAO and _is_raw(value, field):
                yield RawValue(f"{path}.{name}" if path else name, model, name, field)


def remember_files(models: Iterable[tuple[str, object]]) -> None:
    """Remember which files these models hold. A file in the place of which a raw value is stays remembered."""
    for _, model in models:
        before, now = _remembered.get(model) or {}, {}
        for name, field, value in _file_values(model):
            file = before.get(name) if _is_raw(value, field) else value
            if isinstance(file, AsyncGridFile):
                now[name] = file
        if now or before:
            with suppress(TypeError):  # a class with `__slots__` may not support weak references
                _remembered.set(model, now)


def _file_values(model: object) -> Iterator[tuple[str, FileField, object]]:
    values = vars(model)  # `model_construct` may leave some out
    return ((name, field, values[name]) for name, field in class_of(type(model)).fields.items() if name in values)


def _is_raw(value: object, field: FileField) -> bool:
    if not isinstance(value, field.types):
        return True
    for part in _parts(value):  # noqa: SIM110  # a generator takes longer
        if type(part) is not AsyncGridFile and _is_not_file(part):
            return True
    return False


def _is_not_file(part: object) -> bool:
    if isinstance(part, list | tuple | dict):
        return any(map(_is_not_file, _parts(part)))
    return not isinstance(part, AsyncGridFile | pydantic.BaseModel)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, dict) else ()
