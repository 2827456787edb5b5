"""Queries by a file: a document may store its id or a snapshot, and both are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import ObjectId
from pydantic import BaseModel

from gridproxy.file.file import AsyncGridFile
from gridproxy.file.pydantic import parts_of

from .discovery import is_file_type

_LOGICAL = ("$and", "$or", "$nor")
_MATCHES_ANY = ("$eq", "$in")
_MATCHES_NONE = ("$ne", "$nin")


def match_both_forms(query: Mapping[str, Any], holds_file: Callable[[str], bool]) -> dict[str, Any]:
    """Return the query with conditions on files that match ids and snapshots.

    `holds_file` says whether a key is that of a file field. An empty file is null in both forms.
    """
    plain: dict[str, Any] = {}
    conditions: list[dict[str, Any]] = []
    for name, value in query.items():
        key = str(name)
        if key in _LOGICAL:
            plain[key] = [match_both_forms(each, holds_file) for each in value]
        elif isinstance(value, AsyncGridFile | ObjectId) and (isinstance(value, AsyncGridFile) or holds_file(key)):
            conditions.append(_either(key, _id(value)))
        elif isinstance(value, Mapping) and _compares_files(value, by_id=holds_file(key)):
            conditions += [_compared(key, str(operator), operand) for operator, operand in value.items()]
        else:
            plain[key] = value
    if not conditions:
        return plain
    return conditions[0] if len(conditions) == 1 and not plain else {"$and": [*([plain] if plain else []), *conditions]}


def _alias(kind: type[BaseModel], name: str) -> str | None:
    return kind.model_fields[name].alias


def holds_file(
    kind: type[BaseModel], key: str, *, stored_name: Callable[[type[BaseModel], str], str | None] = _alias
) -> bool:
    """Return whether the dotted key is that of a file, of a list of files, or of one in an embedded model.

    Each part is the name of a field, the name under which it is stored (`stored_name`), or a position in a list.
    """
    kinds, parts = [kind], [part for part in key.split(".") if not part.isdecimal()]
    for position, part in enumerate(parts, start=1):
        fields = [
            field.annotation
            for each in kinds
            for name, field in each.model_fields.items()
            if part in (name, stored_name(each, name))
        ]
        types = [each for annotation in fields for each in parts_of(annotation)]
        if position == len(parts):
            return any(map(is_file_type, types))
        kinds = [each for each in types if isinstance(each, type) and issubclass(each, BaseModel)]
    return False


def _id(value: object) -> object:
    return value.id if isinstance(value, AsyncGridFile) else value


def _compares_files(operators: Mapping[str, Any], *, by_id: bool) -> bool:
    kinds = (AsyncGridFile, ObjectId) if by_id else AsyncGridFile
    for operand in operators.values():
        parts = operand if isinstance(operand, list | tuple) else [operand]
        if any(isinstance(part, kinds) for part in parts):
            return True
    return False


def _compared(key: str, operator: str, operand: Any) -> dict[str, Any]:
    ids = [_id(each) for each in operand] if isinstance(operand, list | tuple) else _id(operand)
    if operator in _MATCHES_ANY:
        return _either(key, ids if operator == "$eq" else {"$in": ids})
    if operator in _MATCHES_NONE:
        return {"$nor": [_either(key, ids if operator == "$ne" else {"$in": ids})]}
    return {key: {operator: ids}}


def _either(key: str, value: object) -> dict[str, Any]:
    return {key: None} if value is None else {"$or": [{key: value}, {f"{key}._id": value}]}
