"""The database of an alias: the default of `connect`, and its override by `using` in one context."""

from __future__ import annotations

import asyncio
import inspect
import sys
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

    def __init__(self, database: AsyncDatabase[Any] | DatabaseFactory, overriding: bool = False) -> None:
        self.overriding = overriding  # whether it is that of a `using` block
        self._database = database
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncDatabase[Any]] = {}

    def __deepcopy__(self, memo: object) -> _Connection:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        known = (
            self._database if isinstance(self._database, AsyncDatabase) else next(iter(self._by_loop.values()), None)
        )
        return PickledOrigin, (None if known is None else known.name,)

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


class PickledOrigin:
    """The name of the database that the record of a pickled file was loaded from."""

    def __init__(self, name: str | None) -> None:
        self.name = name


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

    A file whose record was loaded inside the block stays with that database afterwards. Inside the block of yet
    another database it raises `NotConnected`.

    Arguments and errors are as for `connect`.

    Raises:
        NotConnected: The block is in a synchronous generator that is a dependency of FastAPI. It would have no effect,
            because FastAPI runs it in a thread with a context of its own. Declare it with `async def`.

    ```python
    with using(client["tenant"]):
        await AsyncGridFile().put(b"a marmot of this tenant")
    ```
    """
    _refuse_lost_context()
    before = _overrides.get()
    token = _overrides.set({**(before or {}), _checked_alias(alias): _connection(database, overriding=True)})
    try:
        yield
    finally:
        with suppress(ValueError):
            # An async generator may leave the block in another context. The override ends with its own context then.
            _overrides.reset(token)


def get_database(alias: str | None = None) -> AsyncDatabase[Any]:
    """Return the present database of an alias. Raises `NotConnected` if the alias has no database."""
    return _known(alias, "").database()


def _known(alias: str | None, advice: str) -> _Connection:
    name = DEFAULT_ALIAS if alias is None else alias
    connection = (_overrides.get() or {}).get(name) or _connections.get(name)
    if connection is None:
        call = "gridproxy.connect(database)" if name == DEFAULT_ALIAS else f"gridproxy.connect(database, {name!r})"
        raise NotConnected(f"no database for the alias {name!r}: call {call} first, or give a bucket{advice}")
    return connection


def is_overridden(alias: str | None) -> bool:
    """Return whether a `using` block around the caller overrides the database of this alias."""
    return (DEFAULT_ALIAS if alias is None else alias) in (_overrides.get() or {})


def store_for(
    bucket: BucketLike | str | None, alias: str | None, origin: object = None, *, indexes: bool = True
) -> Store:
    """Return the present collections of a file with this bucket and alias.

    Args:
        bucket: The bucket or its name.
        alias: The alias of the database.
        origin: The `Store.origin` from which the file's record was loaded, or None if it was not loaded.
        indexes: Whether uploads check the indexes.

    Raises:
        NotConnected: There is no database, or it is another one than that of the file's record.
    """
    if bucket is not None and not isinstance(bucket, str):
        return bucket.store
    advice = _ADVICE if alias is None else ""
    connection = _known(alias, advice) if origin is None else _origin(origin, alias, advice)
    store = Store(connection.database(), DEFAULT_NAME if bucket is None else bucket, indexes=indexes)
    store.origin = connection
    return store


def _origin(origin: object, alias: str | None, advice: str) -> _Connection:
    """Return the connection of a file whose record was loaded. An id means another file in another database."""
    name = DEFAULT_ALIAS if alias is None else alias
    override = (_overrides.get() or {}).get(name)
    if isinstance(origin, PickledOrigin):
        known = _known(alias, advice)
        if origin.name not in (None, known.database().name):
            raise _elsewhere(origin.name, known.database().name)
        return known
    assert isinstance(origin, _Connection)
    if not origin.overriding:  # `connect` may have replaced the client since
        return _connections.get(name) or (origin if override is not None else _known(alias, advice))
    present = override or _connections.get(name)
    if present is None or present is origin:
        return origin
    here, there = present.database(), origin.database()
    if here == there:  # by the addresses of their clients: the one of the block may be closed
        return present
    if override is not None:
        raise _elsewhere(there.name, here.name)
    return origin


def _elsewhere(loaded: object, present: str) -> NotConnected:
    return NotConnected(
        f"the record of this file was loaded from the database {loaded!r}, and the database here is {present!r}, in "
        "which the same id is another file. Use it in a block `with gridproxy.using(...)` of its own database, or make "
        "a new AsyncGridFile(id) here"
    )


def _refuse_lost_context() -> None:
    """Raise `NotConnected` in a synchronous generator whose beginning is run as a whole in a worker thread of anyio."""
    # The frames of this function, of `using`, of its `__enter__`, of the caller, of the caller's `__enter__`.
    frame = sys._getframe()  # noqa: SLF001  # Only the frames show who runs the generator.
    names = []
    for _ in range(4):
        if frame.f_back is None:
            return
        frame = frame.f_back
        names.append(frame.f_code)
    runner = frame.f_back
    if not names[2].co_flags & inspect.CO_GENERATOR or names[3].co_name != "__enter__" or runner is None:
        return
    if str(runner.f_globals.get("__name__")).startswith("anyio."):
        raise NotConnected(
            f"using() has no effect in the synchronous dependency {names[2].co_qualname}, which runs in a thread with "
            "a context of its own: declare it with `async def`"
        )


def _checked_alias(alias: object) -> str:
    if not isinstance(alias, str):
        raise BadOption(f"an alias must be a str, not {type_name(alias)}")
    return alias


def _connection(database: Any, *, overriding: bool = False) -> _Connection:
    # Databases, collections and clients of pymongo and Motor are callable, as all their attributes are.
    is_factory = callable(database) and not any(
        base.__module__.startswith(("pymongo.", "motor.")) for base in type(database).__mro__
    )
    if not is_factory:
        store_database(database)
    return _Connection(database, overriding)
