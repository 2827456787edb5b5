"""Dotted paths such as "owners.0.photo", in documents of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gridproxy.errors import BadOption

T = TypeVar("T")


def parse_path(field: object, *, operators: bool = True) -> list[str]:
    """Return the steps of a path. Raises `BadOption` for an invalid one."""
    if not isinstance(field, str) or not all(field.split(".")) or ("$" in field and not operators):
        raise BadOption(f"a field is a name or a dotted path such as 'owner.photo', not {field!r}")
    return field.split(".")


def enter_list(items: Sequence[T], path: list[str]) -> tuple[list[tuple[int, T]], list[str]]:
    """Return the items with the index at the start of a path, or all, with their indexes, and the rest of the path."""
    if path and path[0].isdigit():
        index = int(path[0])
        return list(enumerate(items))[index : index + 1], path[1:]
    return list(enumerate(items)), path
