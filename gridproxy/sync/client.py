"""The client of blocking code."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from pymongo import AsyncMongoClient, WriteConcern
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from gridproxy import bucket as asynchronous
from gridproxy.errors import FileClosed
from gridproxy.gridfs.store.collections import DEFAULT_CHUNK_SIZE, DEFAULT_NAME
from gridproxy.gridfs.transactions.transactions import Transaction, transaction

from .bucket import Bucket
from .portal import Portal, call, current_portal


class Client:
    """A client of MongoDB for code that does not await. All threads of a process can share one.

    It connects with the first operation. A process that was forked connects anew with the same object. Leaving the
    `with` block or `close()` ends the connections, and so does the end of the program.

    Args:
        uri: The address of the server, as pymongo accepts it.
        **driver_options: Other options of pymongo's `AsyncMongoClient`, such as `timeoutMS=5000`.

    Raises:
        PyMongoError: The address or an option is wrong.

    ```python
    with Client(uri) as client:
        info = client.bucket("zoo", "uploads").upload(b"a marmot", filename="marmot.txt")
    assert info.length == 8
    ```
    """

    def __init__(self, uri: str, **driver_options: Any) -> None:
        self._connect = partial(AsyncMongoClient[dict[str, Any]], uri, **driver_options)
        self._closed = False
        self._current: tuple[Portal, AsyncMongoClient[dict[str, Any]]] | None = None
        self.asynchronous()  # so that a wrong address is reported here

    def __repr__(self) -> str:
        return f"<gridproxy.sync.Client{' closed' if self._closed else ''}>"

    def asynchronous(self) -> AsyncMongoClient[dict[str, Any]]:
        """Return pymongo's client of this process, which works only in the event loop of this package.

        ```python
        assert client.asynchronous().options.pool_options.max_pool_size == 100
        ```
        """
        if self._closed:
            raise FileClosed("this client is closed: make another gridproxy.sync.Client")
        portal = current_portal()
        current = self._current
        if current is None or current[0] is not portal:
            current = self._current = portal, self._connect()
            portal.clients[id(current[1])] = current[1]
            weakref.finalize(self, portal.later, partial(portal.close, id(current[1]))).atexit = False
        return current[1]

    def bucket(
        self,
        database: str,
        name: str = DEFAULT_NAME,
        *,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: Literal["sha256"] | None = "sha256",
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
        read_preference: _ServerMode | None = None,
        indexes: bool = True,
    ) -> Bucket:
        """Return the bucket of this name in a database. Does no I/O.

        Args:
            database: The name of the database.
            name: As for `gridproxy.Bucket`, and so are all other arguments.

        Raises:
            BadOption: An argument is wrong.
            UnacknowledgedWriteConcern: With write concern 0 it could not be known whether a file is stored.

        ```python
        assert client.bucket("zoo", "uploads").name == "uploads"
        ```
        """
        return Bucket(
            lambda: asynchronous.Bucket(
                self.asynchronous()[database],
                name,
                chunk_size=chunk_size,
                checksum=checksum,
                write_concern=write_concern,
                read_concern=read_concern,
                read_preference=read_preference,
                indexes=indexes,
            )
        )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Return a context manager in which files change together or not at all, as `gridproxy.transaction`.

        Pass `session=tx.session` to the calls that take part.

        Raises:
            GridProxyError: As `gridproxy.transaction`.

        ```python
        with client.transaction() as tx:
            bucket.upload(b"one", session=tx.session)
            bucket.upload(b"two", session=tx.session)
        ```
        """
        manager = transaction(self.asynchronous())
        tx = call("transaction", manager.__aenter__)
        try:
            yield tx
        except BaseException as error:
            trace = error.__traceback__
            if not call("transaction", partial(manager.__aexit__, type(error), error, trace)):
                raise
        else:
            call("transaction", partial(manager.__aexit__, None, None, None))

    def close(self) -> None:
        """Close the connections. A second call has no effect.

        ```python
        client.close()
        ```
        """
        self._closed = True
        if self._current is not None:
            portal, client = self._current
            self._current = None
            if portal is current_portal():
                call("AsyncMongoClient.close", partial(portal.close, id(client)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
