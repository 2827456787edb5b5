"""DefaultDatabase: the database that a model's documents are in, and so their files where nothing else is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from gridproxy.bucket import Bucket
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.store.collections import DEFAULT_NAME


class DefaultDatabase:
    """One database, and one `Bucket` of it for each name."""

    def __init__(self, database: AsyncDatabase[Any]) -> None:
        self.database = database
        self._buckets: dict[str, Bucket] = {}

    def options(self, options: FileOptions) -> FileOptions:
        """The same options, in this database where they name none of their own."""
        if options.db_alias is not None or isinstance(options.bucket, Bucket):
            return options
        name = options.bucket or DEFAULT_NAME
        if name not in self._buckets:
            self._buckets[name] = Bucket(self.database, name)
        return replace(options, bucket=self._buckets[name])
