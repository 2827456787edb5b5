"""To which shards a router would send the commands that a client sends, for the shard keys that the docs recommend.

The rules are those of MongoDB's manual ("Targeted Operations vs. Broadcast Operations"): a command is sent to one shard
if its filter has one value of the whole shard key, to several for an `$in`, and otherwise to all. A range of a hashed
key is a reason to ask all.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bson
from pymongo.monitoring import CommandStartedEvent

from gridproxy.upkeep.sharding import SHARD_KEYS

from .observing import Commands


class Shards(enum.IntEnum):
    """How many shards a command reaches."""

    ONE = 1
    SEVERAL = 2
    ALL = 3


# Commands that a router answers itself, or that follow a command which is counted: a cursor, a transaction.
_OF_THE_ROUTER = {
    "abortTransaction",
    "commitTransaction",
    "endSessions",
    "getMore",
    "hello",
    "killCursors",
    "listCollections",
    "ping",
}
# A router asks one shard that has documents of the collection.
_OF_ONE = {"listIndexes"}
_OF_ALL = {"createIndexes", "drop"}
_FILTER = {"find": "filter", "count": "query", "findAndModify": "query"}
_STATEMENTS = {"update": "updates", "delete": "deletes"}


def key_values(condition: Mapping[str, Any], key: str) -> list[Any] | None:
    """Return the values of a field that a filter allows, or None if it does not name them one by one."""
    if key in condition:
        value = condition[key]
        if not isinstance(value, Mapping) or not any(str(each).startswith("$") for each in value):
            return [value]
        if "$eq" in value:
            return [value["$eq"]]
        return list(value["$in"]) if "$in" in value else None
    parts = [key_values(each, key) for each in condition.get("$and", ())]
    return next((values for values in parts if values is not None), None)


def _shards(values: Iterable[Any] | None) -> Shards:
    if values is None:
        return Shards.ALL
    return Shards.ONE if len({bson.encode({"": value}) for value in values}) <= 1 else Shards.SEVERAL


def reached(name: str, command: Mapping[str, Any], keys: Mapping[str, str]) -> Iterator[tuple[str, Shards]]:
    """Yield the collections that a command concerns, and how many shards it reaches. `keys`: those that are sharded."""
    if name in _OF_THE_ROUTER:
        return
    if name == "bulkWrite":
        yield from _reached_by_bulk_write(command, keys)
        return
    collection = command[name]
    if name == "aggregate":
        yield from _reached_by_lookup(command["pipeline"], keys)
    if collection not in keys:
        return
    key = keys[collection]
    if name in _OF_ONE:
        yield collection, Shards.ONE
    elif name in _OF_ALL:
        yield collection, Shards.ALL
    elif name in _FILTER:
        yield collection, _shards(key_values(command.get(_FILTER[name]) or {}, key))
    elif name == "aggregate":
        first: Mapping[str, Any] = next(iter(command["pipeline"]), {})
        yield collection, _shards(key_values(first.get("$match") or {}, key))
    elif name == "insert":
        yield collection, _shards(document[key] for document in command["documents"])
    elif name in _STATEMENTS:
        for statement in command[_STATEMENTS[name]]:
            yield collection, _shards(key_values(statement["q"], key))
    else:
        raise AssertionError(f"how does a router send {name}? Say it here")


def _reached_by_lookup(stages: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> Iterator[tuple[str, Shards]]:
    """Yield the collections that `$lookup` reads. The documents are found by the ids of those before."""
    for lookup in (stage["$lookup"] for stage in stages if "$lookup" in stage):
        if lookup["from"] in keys:
            found = lookup["localField"] == "_id" and lookup["foreignField"] == keys[lookup["from"]]
            yield lookup["from"], _shards(key_values(stages[0]["$match"], "_id") if found else None)


def _reached_by_bulk_write(command: Mapping[str, Any], keys: Mapping[str, str]) -> Iterator[tuple[str, Shards]]:
    names = [each["ns"].partition(".")[2] for each in command["nsInfo"]]
    values: dict[str, list[Any]] = {}
    for write in command["ops"]:
        assert "insert" in write, "only inserts are known here"
        document = write["document"]
        collection = names[write["insert"]]
        values.setdefault(collection, []).append(document[keys[collection]])
    for collection, each in values.items():
        yield collection, _shards(each)


def sharded_keys(bucket: str = "fs") -> dict[str, str]:
    """Return the shard keys of both collections of a bucket."""
    return {f"{bucket}.{suffix}": next(iter(key)) for suffix, key in SHARD_KEYS.items()}


_WRITES = {"insert", "update", "delete", "findAndModify", "bulkWrite"}


def is_weak(name: str, command: Mapping[str, Any]) -> bool:
    """Return whether a command writes and does not wait for a majority. In a transaction, the commit waits."""
    if name in _WRITES:
        has_to_wait = "autocommit" not in command
    elif name == "aggregate":
        has_to_wait = "$merge" in command["pipeline"][-1]
    else:
        has_to_wait = name == "commitTransaction"
    return has_to_wait and command.get("writeConcern", {}).get("w") != "majority"


class Router(Commands):
    """The commands of a client, and the most shards that one of them reaches in each collection.

    `weak` has the writes that do not wait for a majority.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most: dict[str, Shards] = {}
        self.weak: list[Mapping[str, Any]] = []
        self.keys = sharded_keys()

    def started(self, event: CommandStartedEvent) -> None:
        super().started(event)
        for collection, shards in reached(event.command_name, event.command, self.keys):
            self.most[collection] = max(shards, self.most.get(collection, shards))
        if is_weak(event.command_name, event.command):
            self.weak.append(event.command)

    def clear(self) -> None:
        super().clear()
        self.most.clear()
        self.weak.clear()
