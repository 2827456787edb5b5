"""Which fields of an ODMantic model hold files, and how documents without them are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, get_args, get_origin
from weakref import WeakKeyDictionary

from odmantic.field import ODMEmbedded, ODMEmbeddedGeneric, ODMField, ODMReference
from odmantic.model import Model, _BaseODMModel
from pydantic import BaseModel

from gridproxy.fields.discovery import FieldPlan, is_file_type, options_in
from gridproxy.file.options import FileOptions
from gridproxy.file.pydantic import parts_of

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class FileField:
    """A field that can hold files, and their options.

    It is `direct` if its value is a file, `embeds` models that hold files, or is `optional` if it may be None.
    """

    options: FileOptions
    direct: bool
    embeds: bool
    optional: bool


_fields: WeakKeyDictionary[type[BaseModel], dict[str, FileField]] = WeakKeyDictionary()
_plans: WeakKeyDictionary[type[BaseModel], FieldPlan] = WeakKeyDictionary()
_keys: WeakKeyDictionary[type[BaseModel], frozenset[str] | None] = WeakKeyDictionary()


def plan_of(kind: type[BaseModel]) -> FieldPlan:
    """Return the plan of a model's class, which is made at its first use."""
    plan = _plans.get(kind)
    if plan is None:
        plan = _plans[kind] = FieldPlan(kind)
    return plan


def file_fields(kind: type[BaseModel]) -> dict[str, FileField]:
    """Return the fields of a model that hold files, by name, without those of the models that it refers to."""
    found = _fields.get(kind)
    if found is None:
        found = _fields[kind] = _file_fields(kind)
    return found


def _file_fields(kind: type[BaseModel]) -> dict[str, FileField]:
    found = {}
    for name, field in kind.model_fields.items():
        if _holds_files(field.annotation):
            parts = list(parts_of(field.annotation))
            options = options_in(field.annotation, field.metadata)
            embeds = not any(is_file_type(part) for part in parts)
            direct = not embeds and _container_of(field.annotation) is None
            found[name] = FileField(options, direct, embeds, NoneType in parts)
    return found


def _holds_files(annotation: object) -> bool:
    for part in parts_of(annotation):
        if is_file_type(part):
            return True
        if isinstance(part, type) and issubclass(part, BaseModel) and not issubclass(part, Model) and file_fields(part):
            return True
    return False


def _container_of(annotation: object) -> type | None:
    """Return the class of containers that an annotation asks for, inside `Optional` and `Annotated`."""
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset | dict):
        return origin
    within = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    return next((found for part in within if (found := _container_of(part)) is not None), None)


def _keys_of(kind: type[_BaseODMModel]) -> frozenset[str] | None:
    """Return the keys of the file fields in a stored document, or None for a model with other models inside."""
    if kind not in _keys:
        fields, files = kind.__odm_fields__, file_fields(kind)
        whole = all(isinstance(field, ODMField) for field in fields.values())
        _keys[kind] = frozenset(fields[name].key_name for name in files) if whole else None
    return _keys[kind]


def completed(kind: type[_BaseODMModel], raw: Any) -> Any:
    """Return the stored document with an empty value for each missing file field, which ODMantic would refuse."""
    if not isinstance(raw, Mapping):
        return raw
    if (keys := _keys_of(kind)) is not None and keys <= raw.keys():
        return raw  # as most documents are
    whole = dict(raw)
    files = file_fields(kind)
    for name, field in kind.__odm_fields__.items():
        key = field.key_name
        if isinstance(field, ODMReference | ODMEmbedded) and key in raw:
            whole[key] = completed(field.model, raw[key])
        elif isinstance(field, ODMEmbeddedGeneric) and isinstance(raw.get(key), list):
            whole[key] = [completed(field.model, item) for item in raw[key]]
        elif isinstance(field, ODMEmbeddedGeneric) and isinstance(raw.get(key), Mapping):
            whole[key] = {at: completed(field.model, item) for at, item in raw[key].items()}
        elif name in files and isinstance(field, ODMField) and key not in raw and field.is_required_in_doc():
            container = None if files[name].optional else _container_of(kind.model_fields[name].annotation)
            whole[key] = None if container is None else container()
    return whole
