"""The shard keys of a bucket, and the commands that shard it. See `docs/sharding.md` for the reasons. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gridproxy.gridfs.store.collections import Store

# Hashed, because ids grow with time: a range of them would send every new upload to one shard.
SHARD_KEYS: Mapping[str, Mapping[str, str]] = {"chunks": {"files_id": "hashed"}, "files": {"_id": "hashed"}}


def shard_commands(store: Store, *, with_files: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of a database and a command for it, in order. To send them again changes nothing."""
    for collection in (store.chunks, store.files) if with_files else (store.chunks,):
        key = dict(SHARD_KEYS[collection.name.rpartition(".")[2]])
        # Only a collection without documents gets the index from `shardCollection`.
        index = {"key": key, "name": "_".join(f"{field}_{kind}" for field, kind in key.items())}
        yield store.database.name, {"createIndexes": collection.name, "indexes": [index]}
        yield "admin", {"shardCollection": collection.full_name, "key": key}
