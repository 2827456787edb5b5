"""The clients of a file system: one for each event loop, because a client works in one loop only."""

from __future__ import annotations

import asyncio
import os
import weakref
from contextlib import suppress
from typing import Any

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidName

from gridproxy.errors import BadOption, type_name

Database = AsyncDatabase[Any]
Loop = asyncio.AbstractEventLoop

# Seconds for which a client may talk to the server when it is closed at the end of the program.
_CLOSING = 3.0
# A forked process cannot close the clients of its parent, and they and their connections warn if they are dropped open.
_inherited: list[tuple[Loop, AsyncMongoClient[Any]]] = []


class Clients:
    """Makes and closes the clients of one file system. A given database is used as it is and never closed."""

    def __init__(self, uri: object, database: object) -> None:
        self._given: Database | None = None
        self._uri: str = ""
        self._name: str | None = None
        self._open: dict[Loop, tuple[AsyncMongoClient[Any], weakref.finalize[Any, Any]]] = {}
        if isinstance(database, AsyncDatabase):
            if uri is not None:
                raise BadOption("uri= and a database object name two servers: give only one of them")
            self._given = database
            return
        if not isinstance(uri, str):
            raise BadOption(
                "a gridfs:// URL does not name the server: give storage_options={'uri': 'mongodb://...', 'database': "
                f"'name'}}, or uri= and database= to the file system. uri is {uri!r}"
            )
        if not (database is None or isinstance(database, str)) or database == "":
            raise BadOption(f"database is a name, or a database of an AsyncMongoClient, not {type_name(database)}")
        self._uri = uri
        self._name = database
        # Connects to nothing, so that a wrong address and a wrong name are reported at once.
        self._named(AsyncMongoClient(uri, connect=False))

    def database(self) -> Database:
        """Return the database, with the client of the running event loop."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if (known := self._open.get(loop)) is None:
            for ended in [each for each in self._open if each.is_closed()]:
                self._open.pop(ended)[1].detach()
            client: AsyncMongoClient[Any] = AsyncMongoClient(self._uri)
            known = client, weakref.finalize(self, _close, loop, client, os.getpid())
            self._open[loop] = known
        return self._named(known[0])

    def _named(self, client: AsyncMongoClient[Any]) -> Database:
        try:
            return client.get_default_database() if self._name is None else client[self._name]
        except (ConfigurationError, InvalidName) as error:
            raise BadOption(f"no database is named: give database=, or put its name into uri ({error})") from None

    async def aclose(self) -> None:
        """Close the client of the running event loop. The next use makes another one."""
        client, finalizer = self._open.pop(asyncio.get_running_loop(), (None, None))
        if client is not None and finalizer is not None:
            finalizer.detach()
            await client.close()


def _close(loop: Loop, client: AsyncMongoClient[Any], pid: int) -> None:
    """Close a client whose file system is gone, in the loop that it belongs to."""
    if pid != os.getpid():
        _inherited.append((loop, client))
        return
    if not loop.is_running():
        return
    try:
        inside = asyncio.get_running_loop() is loop
    except RuntimeError:
        inside = False
    closing = asyncio.run_coroutine_threadsafe(_closed(client), loop)
    if not inside:
        with suppress(TimeoutError):
            closing.result(2 * _CLOSING)


async def _closed(client: AsyncMongoClient[Any]) -> None:
    with pymongo.timeout(_CLOSING):  # the server may be gone, and a client says goodbye to it
        await client.close()
