"""What was assigned to fields of embedded models, or put into lists and dicts: pydantic takes it as it comes.

Beanie would write it as it is, too. So a document turns it into files before it is written, and remembers for that
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

from .fields import FileField, file_fields
from .typed_document import NAO

# The files of each embedded model's fields, as they were when its document last took stock of them.
_remembered: WeakIdentityMap[object, dict[str, AsyncGridFile]] = WeakIdentityMap()


@dataclass(frozen=True)
class RawValue:
    """What a field for files holds, and is none, or has in it; `path` is the field's, within the document."""

    path: str
    model: object
    name: str
    field: FileField

    def normalise(self, held: Collection[int]) -> None:
        """Let it be what it would be in a field of the document itself; no I/O.

        `held` are the files that the document still holds: one that was given to another field is not this one's any
        more. Raises `ValidationError` naming the path for what can be no file.
        """
        values = vars(self.model)
        current = (_remembered.get(self.model) or {}).get(self.name)
        if current is not None and id(current) in held:
            current = None
        value = values[self.name]
        try:
            settled = self.field.assigned(current, value, self.path)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            path = ".".join([self.path, *(str(part) for part in first["loc"])])
            raise ValidationError(path, first["msg"]) from error
        if isinstance(value, list) and isinstance(settled, list):
            value[:] = settled  # somebody may hold it
        elif isinstance(value, dict) and isinstance(settled, dict):
            value.update(settled)
        else:
            values[self.name] = settled  # past the model's validation: this is it


def raw_values(models: Iterable[tuple[str, object]]) -> Iterator[RawValue]:
    """What was assigned in these models, given with their paths, or put into their lists and dicts.

    In the document itself, the one without a path, assigned values are checked; others may be not parsed yet.
    """
    for path, model in models:
        for name, field, value in _file_values(model):
            if value is not NAO and _is_raw(value, field):
                yield RawValue(f"{path}.{name}" if path else name, model, name, field)


def remember_files(models: Iterable[tuple[str, object]]) -> None:
    """Remember which files these models hold; where something raw has taken a file's place, that file still."""
    for _, model in models:
        before, now = _remembered.get(model) or {}, {}
        for name, field, value in _file_values(model):
            file = before.get(name) if _is_raw(value, field) else value
            if isinstance(file, AsyncGridFile):
                now[name] = file
        if now or before:
            with suppress(TypeError):  # of a class with `__slots__` that takes no weak references
                _remembered.set(model, now)


def _file_values(model: object) -> Iterator[tuple[str, FileField, object]]:
    values = vars(model)  # what was made by `model_construct` may lack some
    return ((name, field, values[name]) for name, field in file_fields(type(model)).items() if name in values)


def _is_raw(value: object, field: FileField) -> bool:
    return not isinstance(value, field.types) or any(map(_is_no_file, _parts(value)))


def _is_no_file(part: object) -> bool:
    if isinstance(part, list | tuple | dict):
        return any(map(_is_no_file, _parts(part)))
    return not isinstance(part, AsyncGridFile | pydantic.BaseModel)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, dict) else ()
