"""DefaultDatabase: the database of a model's documents, and so of their files unless the options name another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from gridproxy.bucket import Bucket
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.store.collections import DEFAULT_NAME


class DefaultDatabase:
    """One database, one `Bucket` of it for each name, and the options of its fields.

    ```python
    from gridproxy.fields import DefaultDatabase

    options = DefaultDatabase(client["zoo"]).options(FileOptions("photos"))
    assert options.bucket == Bucket(client["zoo"], "photos")
    ```
    """

    def __init__(self, database: AsyncDatabase[Any]) -> None:
        self.database = database
        self._buckets: dict[tuple[str, bool], Bucket] = {}
        self._resolved: dict[int, tuple[FileOptions, FileOptions]] = {}

    def options(self, options: FileOptions) -> FileOptions:
        """Return the same options, in this database if they name none of their own."""
        if options.db_alias is not None or isinstance(options.bucket, Bucket):
            return options
        known = self._resolved.get(id(options))
        if known is not None and known[0] is options:
            return known[1]
        name = options.bucket or DEFAULT_NAME
        assert isinstance(name, str), "a bucket is a Bucket or a name"
        key = name, options.indexes
        if key not in self._buckets:
            self._buckets[key] = Bucket(self.database, name, indexes=options.indexes)
        resolved = replace(options, bucket=self._buckets[key])
        if len(self._resolved) > 1000:  # options that are made anew for each object would grow without a bound
            self._resolved.clear()
        self._resolved[id(options)] = options, resolved
        return resolved
