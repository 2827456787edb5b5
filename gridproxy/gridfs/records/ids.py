"""Ids: which ones there can be, and how they stand in a query: as values, never as operators or patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping

import bson

from gridproxy.errors import BadId, type_name


def check_id(id: object) -> None:
    """Refuse before the first byte what a server would refuse as `_id` after the last (None means: make one)."""
    if isinstance(id, list | tuple | set | frozenset | re.Pattern | bson.Regex):
        raise BadId(f"{type_name(id)} cannot be a file's id: MongoDB takes no arrays and no patterns there")
    if isinstance(id, bson.DBRef):
        raise BadId(f"{id!r} cannot be a file's id: its keys start with '$'")
    try:
        operator = next(_operators(id), None)
    except RecursionError:
        raise BadId(f"a {type_name(id)} that lies in itself, or so deep, cannot be a file's id") from None
    if operator is not None:
        raise BadId(
            f"{id!r} cannot be a file's id: the key {operator!r} in it starts with '$', which MongoDB takes in no _id"
        )


def _operators(value: object) -> Iterator[str]:
    """The keys in it that start with '$', at any depth. (A DBRef inside is a value to servers.)"""
    if isinstance(value, Mapping):
        yield from (key for key in value if isinstance(key, str) and key.startswith("$"))
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _operators(each)


def is_plain_id(id: object) -> bool:
    """Whether a server takes this id as a value wherever it stands in a query, in a list of `$in` too."""
    return not isinstance(id, Mapping | list | tuple | bson.Regex | re.Pattern)


def id_filter(id: object) -> object:
    """What stands for an id in a query: the id as a value, never as an operator or a pattern.

    Scalars stay bare; anything that a server could read as an expression is wrapped in `$eq`.
    """
    return id if is_plain_id(id) else {"$eq": id}


def id_key(id: object) -> Hashable:
    """What stands for an id in a dict or a set: equal for two ids where a server takes them for the same one."""
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
