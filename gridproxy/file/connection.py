"""The database of an alias: the default of `connect`, and its override by `using` in one context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from gridproxy.errors import BadOption, NotConnected, type_name
from gridproxy.gridfs.store.collections import DEFAULT_NAME, Store, store_database

if TYPE_CHECKING:
    from .options import BucketLike

DEFAULT_ALIAS = "default"

# The usual cause of the error is a model whose class lacks the mixin.
_ADVICE = (
    ". The class of a Beanie document needs the mixin, `class X(FileDocument, Document)`, that of an ODMantic model "
    "`class X(FileModel, Model)`. AsyncEngine must have found or saved such a model: before that assign the content "
    "(`x.field = b'...'`) and save"
)

DatabaseFactory = Callable[[], AsyncDatabase[Any]]


class _Connection:
    """A database or a factory of databases, because a client belongs to the event loop that first used it."""

    def __init__(self, database: AsyncDatabase[Any] | DatabaseFactory) -> None:
        self._database = database
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncDatabase[Any]] = {}

    def database(self) -> AsyncDatabase[Any]:
        if isinstance(self._database, AsyncDatabase):
            return self._database
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NotConnected("no event loop is running: a connection by a factory needs one") from None
        if loop not in self._by_loop:
            database = store_database(self._database())
            # A client keeps its loop alive, so weak keys would never free closed loops.
            for closed in [each for each in list(self._by_loop) if each.is_closed()]:
                self._by_loop.pop(closed, None)
            self._by_loop[loop] = database
        return self._by_loop[loop]


_connections: dict[str, _Connection] = {}
_overrides: ContextVar[dict[str, _Connection] | None] = ContextVar("gridproxy_overrides", default=None)


def connect(database: AsyncDatabase[Any] | DatabaseFactory, alias: str = DEFAULT_ALIAS) -> None:
    """Set the database of files and documents that name no other one. Does no I/O.

    Args:
        database: A database of pymongo's, or a factory, which is called on the first use in each event loop.
        alias: The name for `db_alias` of documents and options.

    Raises:
        BadOption: `database` is another object, such as a client or a database of Motor's, or `alias` is not a str.

    ```python
    connect(client["archive"], alias="archive")
    await AsyncGridFile(options=FileOptions(db_alias="archive")).put(b"an old marmot")
    ```
    """
    _connections[_checked_alias(alias)] = _connection(database)


def disconnect(alias: str = DEFAULT_ALIAS) -> None:
    """Undo `connect`, which need not have been called. The caller closes the client.

    ```python
    disconnect("archive")
    ```
    """
    _connections.pop(alias, None)


@contextmanager
def using(database: AsyncDatabase[Any] | DatabaseFactory, alias: str = DEFAULT_ALIAS) -> Iterator[None]:
    """Use another database for this alias inside the block, in this context and the tasks started in it.

    Arguments and errors are as for `connect`.

    ```python
    with using(client["tenant"]):
        await AsyncGridFile().put(b"a marmot of this tenant")
    ```
    """
    before = _overrides.get()
    token = _overrides.set({**(before or {}), _checked_alias(alias): _connection(database)})
    try:
        yield
    finally:
        with suppress(ValueError):
            # An async generator may leave the block in another context. The override ends with its own context then.
            _overrides.reset(token)


def get_database(alias: str | None = None) -> AsyncDatabase[Any]:
    """Return the present database of an alias. Raises `NotConnected` if there is none."""
    return _known(alias, "").database()


def _known(alias: str | None, advice: str) -> _Connection:
    name = DEFAULT_ALIAS if alias is None else alias
    connection = (_overrides.get() or {}).get(name) or _connections.get(name)
    if connection is None:
        call = "gridproxy.connect(database)" if name == DEFAULT_ALIAS else f"gridproxy.connect(database, {name!r})"
        raise NotConnected(f"no database for the alias {name!r}: call {call} first, or give a bucket{advice}")
    return connection


def store_for(bucket: BucketLike | str | None, alias: str | None, *, indexes: bool = True) -> Store:
    """Return the present collections of a file with this bucket and alias."""
    if bucket is None or isinstance(bucket, str):
        advice = _ADVICE if alias is None else ""
        database = _known(alias, advice).database()
        return Store(database, DEFAULT_NAME if bucket is None else bucket, indexes=indexes)
    return bucket.store


def _checked_alias(alias: object) -> str:
    if not isinstance(alias, str):
        raise BadOption(f"an alias must be a str, not {type_name(alias)}")
    return alias


def _connection(database: Any) -> _Connection:
    # Databases, collections and clients of pymongo and Motor are callable, as all their attributes are.
    is_factory = callable(database) and not any(
        base.__module__.startswith(("pymongo.", "motor.")) for base in type(database).__mro__
    )
    if not is_factory:
        store_database(database)
    return _Connection(database)
