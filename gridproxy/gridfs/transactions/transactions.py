"""Transactions over files and documents.

GridFS itself excludes transactions. Here the chunks are written outside the transaction with write concern "majority",
and only the records of files are part of it. `TransactionLog` cleans up after it.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeVar

import anyio.lowlevel
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import InvalidOperation, OperationFailure, PyMongoError, WriteConcernError

from gridproxy.errors import (
    STANDALONE,
    BadOption,
    CommitUnknown,
    NestedTransaction,
    TransactionsUnsupported,
    UploadInProgress,
    describe_object,
)
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime import tasks
from gridproxy.runtime.capabilities import Feature, is_missing
from gridproxy.runtime.client_state import Client, state_of
from gridproxy.runtime.deadlines import seconds_left
from gridproxy.runtime.session_lock import lock, running_loop
from gridproxy.runtime.sessions import bound_session, has_transactions, in_transaction
from gridproxy.runtime.tasks import run_to_completion, seconds_for_clean_up

from .transaction_log import TransactionLog

T = TypeVar("T")

# How long a commit with an unknown outcome and a callback with transient errors are repeated, in seconds. pymongo's own
# `with_transaction` has the same limits.
COMMIT_SECONDS = 120.0
RETRY_SECONDS = 120.0
_ABORT_SECONDS = 10.0
_LEAST_ABORT_SECONDS = 1.0
# The first and the longest pause between two attempts, in seconds.
_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_TRANSIENT = "TransientTransactionError"
_UNKNOWN = "UnknownTransactionCommitResult"
_ILLEGAL_OPERATION = 20

_current: contextvars.ContextVar[_Running | None] = contextvars.ContextVar("gridproxy_transaction", default=None)


class Transaction:
    """A running transaction. Pass its `session` as `session=` to every call that belongs to it.

    Calls with the same session wait for each other, also if they are made in several tasks.

    ```python
    async with gridproxy.transaction(client) as tx:
        await AsyncGridFile().put(b"some content", session=tx.session)
    ```
    """

    def __init__(self, session: Session, tx_log: TransactionLog) -> None:
        self._session = session
        self._tx_log = tx_log

    @property
    def session(self) -> Session:
        """The pymongo session, for calls of gridproxy and of pymongo."""
        return self._session

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'open' if self._tx_log.open else 'over'}>"


class _Running:
    """The package's side of a `Transaction`."""

    def __init__(self, client: Client, session: Session, *, repeated: bool) -> None:
        self._client = client
        self._session = session
        self._tx_log = TransactionLog(session, repeated=repeated)
        self.transaction = Transaction(session, self._tx_log)

    def is_open_for(self, client: Client) -> bool:
        """Return whether this is an open transaction of `client`."""
        return self._tx_log.open and self._client is client

    async def end(self, error: BaseException | None, limit: float | None) -> BaseException | None:
        """Commit, or abort because of `error`, then clean up. Return the error to raise.

        The commit and the clean-up end after `limit` seconds.
        """
        until = None if limit is None else asyncio.get_running_loop().time() + limit
        committed, failure = False, error
        try:
            async with lock(self._session):
                try:
                    committed, failure = await self._commit_or_abort(error, until)
                finally:
                    await self._session.end_session()
        except asyncio.CancelledError as given_up:
            failure = failure or given_up  # another call used the session all the time, so nothing was committed
        finally:
            self._tx_log.open = False
        try:
            if committed:
                await self._tx_log.after_commit(until)
            elif isinstance(failure, CommitUnknown):
                self._tx_log.after_unknown()
            else:
                await self._tx_log.after_abort(failure)
        except (PyMongoError, TimeoutError) as cleanup_error:
            if failure is None:
                return cleanup_error
            failure.add_note(f"The clean-up after the transaction failed too: {cleanup_error!r}")
        return failure

    async def _commit_or_abort(
        self, error: BaseException | None, until: float | None
    ) -> tuple[bool, BaseException | None]:
        """Return whether the transaction is committed, and the error to raise."""
        if self._session.has_ended:
            return False, error or InvalidOperation(
                "the transaction was aborted because its session was ended inside the block. "
                "session.bind() ends it too: use session.bind(end_session=False)"
            )
        in_progress = self._session.in_transaction
        if in_progress and error is None and self._tx_log.has_open_uploads:
            error = UploadInProgress(
                "the transaction was aborted because a file is still being written in it: close() or abort() the file "
                "before the block ends"
            )
        if in_progress and error is not None:
            # Errors do not matter: without a commit the server aborts the transaction by itself.
            with suppress(PyMongoError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout_at(until), asyncio.timeout(_ABORT_SECONDS):
                    await self._session.abort_transaction()
            return False, error
        try:
            await self._commit(until)
        except InvalidOperation as failure:
            # The block ended the transaction itself. A second commit is harmless. pymongo refuses one after an abort.
            return False, failure if in_progress else error
        except PyMongoError as failure:
            return False, failure
        return True, error

    async def _commit(self, until: float | None) -> None:
        """Commit, and repeat that while the outcome is unknown, then raise `CommitUnknown`. Other errors are aborts."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + COMMIT_SECONDS if until is None else min(until, clock() + COMMIT_SECONDS)
        pause = _PAUSE
        unknown_error: PyMongoError | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._session.commit_transaction()
                    return
            except (TimeoutError, asyncio.CancelledError) as error:
                # This task is cancelled only if the server has not answered in time after a cancellation of the caller.
                raise CommitUnknown(self._tx_log.ids) from (unknown_error or error)
            except PyMongoError as error:
                if _is_unknown(error):
                    unknown_error = error
                elif unknown_error is None or error.has_error_label(_TRANSIENT):
                    raise
                else:
                    raise CommitUnknown(self._tx_log.ids) from error
            if clock() + pause >= deadline:
                raise CommitUnknown(self._tx_log.ids) from unknown_error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def transaction(client: Client) -> AbstractAsyncContextManager[Transaction]:
    """Return an async context manager in which files and documents change together or not at all.

    It commits with write concern "majority" when the block ends. An exception or a cancellation aborts: new files are
    removed, old ones stay, and proxies and built-in documents get their former values back. The block runs only once.
    Servers abort a transaction after 60 seconds: pass large sources to `Bucket.stage` before it. Errors of
    pymongo are raised unchanged.

    Args:
        client: The `AsyncMongoClient` of a replica set (also of one node) or of a mongos.

    Raises:
        TransactionsUnsupported: The server is a standalone one, or has no transactions for another reason.
        NestedTransaction: Another transaction is open around the call.
        BadOption: `client` is not an `AsyncMongoClient`.
        UploadInProgress: A new file was still open at the end of the block.
        CommitUnknown: The server did not answer the commit for 120 seconds, or for 10 after a time limit of the driver.

    ```python
    async with gridproxy.transaction(client) as tx:
        report = AsyncGridFile()
        await report.put(b"some content", session=tx.session)
        await client["zoo"]["log"].insert_one({"stored": report.id}, session=tx.session)
    ```
    """
    return _transaction(client, repeated=False)


async def with_transaction(client: Client, callback: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run `await callback(tx)` in a transaction, and repeat it after transient errors for up to 120 seconds.

    Transient errors are write conflicts and changes of the primary. Proxies and built-in documents get their former
    values back before each attempt.

    Args:
        client: The `AsyncMongoClient` of a replica set (also of one node) or of a mongos.
        callback: A coroutine function that passes `tx.session` to its calls.

    Returns:
        The result of the callback.

    Raises:
        BadSource: A source can be read only once (an open file, a generator, a stream). `Bucket.stage` it before and
            put the result.
        GridProxyError: The same errors as `transaction`.

    ```python
    async def store(tx):
        report = AsyncGridFile()
        return await report.put(b"some content", session=tx.session)

    await gridproxy.with_transaction(client, store)
    ```
    """
    running_loop()
    clock = asyncio.get_running_loop().time
    _refuse_nested(client, _current.get())
    left = seconds_left(client)
    deadline = clock() + (RETRY_SECONDS if left is None else min(RETRY_SECONDS, left))
    pause = _PAUSE
    while True:
        try:
            async with _transaction(client, repeated=True) as tx:
                return await callback(tx)
        except PyMongoError as error:
            if not error.has_error_label(_TRANSIENT) or clock() + pause >= deadline:
                raise
        # A random pause, so that two conflicting transactions do not conflict again.
        await asyncio.sleep(pause * random.random())
        pause = min(1.5 * pause, _LONGEST_PAUSE)


@asynccontextmanager
async def _transaction(client: Client, *, repeated: bool) -> AsyncIterator[Transaction]:
    outer = _current.get()
    _refuse_nested(client, outer)
    await _check_server(client)
    session = client.start_session()
    # The chunks of deleted files are removed after the commit, so the commit must not be rolled back later.
    majority = WriteConcern(**{**client.write_concern.document, "w": "majority"})
    await session.start_transaction(write_concern=majority)
    running = _Running(client, session, repeated=repeated)
    _current.set(running)
    try:
        yield running.transaction
        # The block may have shielded itself from anyio's cancellation. The commit that follows waits for its answer.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException as error:
        limit = seconds_for_clean_up(error)
        # Without an abort the server would lock the records for a minute, so there is always some time for it.
        limit = None if limit is None else max(limit, _LEAST_ABORT_SECONDS)
        failure = await run_to_completion(running.end(error, limit), fresh=True)
        if failure is not error and failure is not None:
            raise failure  # noqa: B904  # it already has a cause: the server's answer
        if isinstance(error, OperationFailure) and (reason := _why_unsupported(error)):
            raise TransactionsUnsupported(reason) from error
        raise
    else:
        left = seconds_left(client)
        limit = None if left is None else left + tasks.SETTLE_SECONDS
        failure = await run_to_completion(running.end(None, limit), fresh=True)
        if failure is not None:
            raise failure
    finally:
        _current.set(outer)


def _refuse_nested(client: object, outer: _Running | None) -> None:
    running_loop()
    if not isinstance(client, AsyncMongoClient):
        raise BadOption(f"a transaction needs pymongo's AsyncMongoClient, not {describe_object(client)}")
    bound = bound_session(client)
    if (outer is not None and outer.is_open_for(client)) or in_transaction(bound):
        raise NestedTransaction("a transaction is already open around this call, and MongoDB cannot nest transactions")


async def _check_server(client: Client) -> None:
    if not await has_transactions(client):
        raise TransactionsUnsupported(state_of(client).capabilities.missing[Feature.TRANSACTIONS])


def _is_unknown(error: PyMongoError) -> bool:
    return error.has_error_label(_UNKNOWN) or isinstance(error, WriteConcernError)


def _why_unsupported(error: OperationFailure) -> str | None:
    if error.code == _ILLEGAL_OPERATION and "Transaction numbers" in str(error):
        return STANDALONE
    if is_missing(Feature.TRANSACTIONS, error) and "startTransaction" in str(error):
        return str((error.details or {}).get("errmsg", error))
    return None
