"""From an alias to a database: the ambient default, and its override in one context."""

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

# Whoever sees this has a model, most likely, whose class lacks what would tell its files where they are.
_ADVICE = (
    ". A field of a Beanie document knows it where the class has the mixin, `class X(FileDocument, Document)`; one "
    "of an ODMantic model, `class X(FileModel, Model)`, once AsyncEngine has found or saved it: before that assign the "
    "content (`x.field = b'...'`), and the save stores it"
)

DatabaseFactory = Callable[[], AsyncDatabase[Any]]


class _Connection:
    """A database, or a factory of one: a client belongs to the event loop that first used it."""

    def __init__(self, database: AsyncDatabase[Any] | DatabaseFactory) -> None:
        self._database = database
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncDatabase[Any]] = {}

    def database(self) -> AsyncDatabase[Any]:
        if isinstance(self._database, AsyncDatabase):
            return self._database
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NotConnected(
                "this connection is a factory, called once per event loop, and no event loop is running"
            ) from None
        if loop not in self._by_loop:
            database = store_database(self._database())
            # A client keeps its loop alive, so weak keys would never let go of the ones that are over.
            for over in [each for each in list(self._by_loop) if each.is_closed()]:
                self._by_loop.pop(over, None)
            self._by_loop[loop] = database
        return self._by_loop[loop]


_connections: dict[str, _Connection] = {}
_overrides: ContextVar[dict[str, _Connection] | None] = ContextVar("gridproxy_overrides", default=None)


def connect(database: AsyncDatabase[Any] | DatabaseFactory, alias: str = DEFAULT_ALIAS) -> None:
    """Make `database` the one that files and documents without one of their own use; no I/O.

    A factory is called once per event loop, when it is needed first. Raises `BadOption` for anything else (a client, a
    synchronous database) and an alias that is no str.
    """
    _connections[_checked_alias(alias)] = _connection(database)


def disconnect(alias: str = DEFAULT_ALIAS) -> None:
    """Forget what `connect` set; the client is the caller's to close. No error where nothing was set."""
    _connections.pop(alias, None)


@contextmanager
def using(database: AsyncDatabase[Any] | DatabaseFactory, alias: str = DEFAULT_ALIAS) -> Iterator[None]:
    """Another database for this alias inside the block, in this context only (and tasks started in it): for tests, for
    tenants. Takes and raises the same as `connect`.
    """
    before = _overrides.get()
    token = _overrides.set({**(before or {}), _checked_alias(alias): _connection(database)})
    try:
        yield
    finally:
        with suppress(ValueError):
            # Left in another context than it was entered in (an async generator's clean-up), this raises; what was set
            # is gone with the context that it was set in.
            _overrides.reset(token)


def get_database(alias: str | None = None) -> AsyncDatabase[Any]:
    """The database of an alias, as it is now and here; raises `NotConnected` where there is none."""
    return _known(alias, "").database()


def _known(alias: str | None, advice: str) -> _Connection:
    name = DEFAULT_ALIAS if alias is None else alias
    connection = (_overrides.get() or {}).get(name) or _connections.get(name)
    if connection is None:
        call = "gridproxy.connect(database)" if name == DEFAULT_ALIAS else f"gridproxy.connect(database, {name!r})"
        raise NotConnected(f"no database for the alias {name!r}: call {call} first, or give a bucket{advice}")
    return connection


def store_for(bucket: BucketLike | str | None, alias: str | None) -> Store:
    """The two collections that a file with this bucket and alias lives in, at this moment."""
    if bucket is None or isinstance(bucket, str):
        advice = _ADVICE if alias is None else ""
        return Store(_known(alias, advice).database(), DEFAULT_NAME if bucket is None else bucket)
    return bucket.store


def _checked_alias(alias: object) -> str:
    if not isinstance(alias, str):
        raise BadOption(f"an alias is a str, not {type_name(alias)}")
    return alias


def _connection(database: Any) -> _Connection:
    # A database can be called like any attribute of pymongo's, so it has to be asked for first; so can a client.
    if not isinstance(database, AsyncDatabase) and (
        not callable(database) or type(database).__module__.startswith("pymongo.")
    ):
        store_database(database)
    return _Connection(database)
