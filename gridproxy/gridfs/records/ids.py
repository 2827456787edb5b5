"""Checks file ids, and puts them into queries as values, never as operators or patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping

import bson

from gridproxy.errors import BadId, shown, type_name


def check_id(id: object) -> None:
    """Raise `BadId` before an upload if the server would refuse this `_id` after it. None is allowed (a new id)."""
    if isinstance(id, list | tuple | set | frozenset | re.Pattern | bson.Regex):
        raise BadId(f"{type_name(id)} cannot be a file's id: MongoDB does not accept arrays and patterns as _id")
    if isinstance(id, bson.DBRef):
        raise BadId(f"{shown(id)} cannot be a file's id: its keys start with '$'")
    try:
        operator = next(_operators(id), None)
    except RecursionError:
        raise BadId(f"a {type_name(id)} that contains itself or is nested so deeply cannot be a file's id") from None
    if operator is not None:
        raise BadId(
            f"{shown(id)} cannot be a file's id: MongoDB does not accept its key {shown(operator)}, because it starts "
            "with '$'"
        )


def _operators(value: object) -> Iterator[str]:
    """Yield the keys that start with '$', at any depth. (Servers accept a nested DBRef as a value.)"""
    if isinstance(value, Mapping):
        yield from (key for key in value if isinstance(key, str) and key.startswith("$"))
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _operators(each)


def is_plain_id(id: object) -> bool:
    """Return whether a server reads this id as a value everywhere in a query, also in a list of `$in`."""
    return not isinstance(id, Mapping | list | tuple | bson.Regex | re.Pattern)


def id_filter(id: object) -> object:
    """Return the query condition for an id, wrapped in `$eq` if a server could read the id as an expression."""
    return id if is_plain_id(id) else {"$eq": id}


def id_key(id: object) -> Hashable:
    """Return a hashable key for an id. Two ids have equal keys if a server treats them as the same id."""
    if isinstance(id, bool):  # equals 1 in Python, and not in MongoDB
        return bool, id
    if isinstance(id, float) and math.isnan(id):
        return float, "nan"
    if isinstance(id, Mapping):
        return dict, *((key, id_key(value)) for key, value in id.items())
    if isinstance(id, list):
        return list, *map(id_key, id)
    try:
        hash(id)
    except TypeError:  # a Decimal128
        return repr(id)
    return id
