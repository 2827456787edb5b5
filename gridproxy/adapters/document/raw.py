"""Raw values: what a stored document consists of, before its fields make something of it."""

from __future__ import annotations

from typing import Any

from gridproxy.gridfs.records.ids import id_filter


def copied(value: Any) -> Any:
    """Containers anew, scalars as they are: what is changed in place must show against what was stored."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


def exactly(value: Any) -> Any:
    """What a query asks of a stored value: to be this very one."""
    return {"$eq": value} if isinstance(value, list) else id_filter(value)


def flat(value: Any) -> list[Any]:
    """The values of lists in lists, one after the other."""
    return [each for item in value for each in flat(item)] if isinstance(value, list) else [value]
