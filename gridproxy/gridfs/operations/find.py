"""A search for records, which can go on after a record that is not valid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pymongo.asynchronous.cursor import AsyncCursor

from gridproxy.errors import BadOption
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Record, Session, Store
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.tasks import clean_up, interruptible


class FoundFiles(AsyncIterator[FileInfo]):
    """An iterator of the records that match a query. The query is sent when the first one is asked for."""

    def __init__(
        self,
        store: Store,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] | None,
        skip: int,
        limit: int,
        batch_size: int,
        session: Session | None,
    ) -> None:
        if type(batch_size) is not int or batch_size < 0:
            raise BadOption(f"batch_size is a number of records, or 0 for that of the server, not {batch_size!r}")
        self._store = store
        self._query = query
        self._options: dict[str, Any] = {"sort": sort, "skip": skip, "limit": limit, "batch_size": batch_size}
        self._session = session
        self._cursor: AsyncCursor[Record] | None = None
        self._ended = False

    async def __anext__(self) -> FileInfo:
        """Return the next record.

        Raises `CorruptFile` if it is not that of a file. The next call returns the record after it.
        """
        if self._ended:
            raise StopAsyncIteration
        if self._cursor is None:
            self._session = self._store.session_for(self._session)
            self._cursor = self._store.files.find(self._query, session=self._session, **self._options)
        try:
            # The session is locked for each fetch only, so that the caller may use it in between.
            async with lock(self._session):
                record = await interruptible(anext(self._cursor))
        except asyncio.CancelledError as error:
            await clean_up(self.aclose(), error, "the server drops the cursor after ten minutes.")
            raise
        except BaseException:
            await self.aclose()
            raise
        return FileInfo.from_record(record)

    async def aclose(self) -> None:
        """End the search."""
        self._ended = True
        if self._cursor is not None:
            await self._cursor.close()
