"""Ids: which ones there can be, and how they stand in a query: as values, never as operators or patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping

import bson

from .errors import BadId, type_name

__all__ = ["check_id", "id_filter", "id_key", "is_plain_id"]


def check_id(id: object) -> None:
    """Refuse before the first byte what a server would refuse as `_id` after the last (None means: make one)."""
    if isinstance(id, list | tuple | set | frozenset | re.Pattern | bson.Regex):
        raise BadId(f"{type_name(id)} cannot be a file's id: MongoDB takes no arrays and no patterns there")
    if isinstance(id, bson.DBRef) or (isinstance(id, Mapping) and any(str(key).startswith("$") for key in id)):
        raise BadId(f"{id!r} cannot be a file's id: its keys start with '$'")


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
