"""Transaction: files and documents that change together, or not at all.

GridFS refuses transactions; here the bytes are written outside, with write concern "majority", and only records move
inside. When the block is over, so is the clean-up: see `tx_log`.
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
    BadOption,
    CommitUnknown,
    NestedTransaction,
    TransactionsUnsupported,
    UploadInProgress,
    type_name,
)
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.client_state import Client, state_of
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session, in_transaction
from gridproxy.runtime.tasks import run_to_completion

from .transaction_log import TransactionLog

T = TypeVar("T")

# How long a commit is repeated while its outcome is unknown, and a callback while its transactions are given up: as
# pymongo's own `with_transaction` has it.
COMMIT_SECONDS = 120.0
RETRY_SECONDS = 120.0
_ABORT_SECONDS = 10.0
# Before the first repetition, and at most.
_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_TRANSIENT = "TransientTransactionError"
_UNKNOWN = "UnknownTransactionCommitResult"
_ILLEGAL_OPERATION = 20

_around: contextvars.ContextVar[Transaction | None] = contextvars.ContextVar("gridproxy_transaction", default=None)


class Transaction:
    """A transaction that goes on: `session` is what every call that belongs to it is given as `session=`.

    Such calls queue, from several tasks too.
    """

    def __init__(self, client: Client, session: Session, *, repeated: bool) -> None:
        self._client = client
        self._session = session
        self._tx_log = TransactionLog(session, repeated=repeated)

    @property
    def session(self) -> Session:
        """pymongo's session, for our calls and for your own."""
        return self._session

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'open' if self._tx_log.open else 'over'}>"

    def _is_around(self, client: Client) -> bool:
        return self._tx_log.open and self._client is client

    async def _end(self, error: BaseException | None) -> BaseException | None:
        """Commit, or abort because of `error`, and clean up; what is to be raised."""
        async with lock(self._session):
            try:
                committed, failure = await self._outcome(error)
            finally:
                self._tx_log.open = False
                await self._session.end_session()
        try:
            if committed:
                await self._tx_log.after_commit()
            elif isinstance(failure, CommitUnknown):
                self._tx_log.after_unknown()
            else:
                await self._tx_log.after_abort(failure)
        except PyMongoError as unclean:
            if failure is None:
                return unclean
            failure.add_note(f"The clean-up after the transaction failed too: {unclean!r}")
        return failure

    async def _outcome(self, error: BaseException | None) -> tuple[bool, BaseException | None]:
        """Whether it is committed, and what is to be raised."""
        if self._session.has_ended:
            return False, error or InvalidOperation(
                "the transaction was aborted, since its session was ended inside the block; "
                "session.bind() ends it too unless told end_session=False"
            )
        going_on = self._session.in_transaction
        if going_on and error is None and self._tx_log.has_open_uploads:
            error = UploadInProgress(
                "a file is still being written in this transaction, which was aborted: close() or abort() it before"
            )
        if going_on and error is not None:
            # Whatever comes back, or does not: nobody commits it any more, and the server drops it by itself.
            with suppress(PyMongoError, TimeoutError):
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self._session.abort_transaction()
            return False, error
        try:
            await self._commit()
        except InvalidOperation as failure:
            # One that the block has ended by itself: a second commit is no harm, and after an abort it is refused.
            return False, failure if going_on else error
        except PyMongoError as failure:
            return False, failure
        return True, error

    async def _commit(self) -> None:
        """Commit, again and again while nobody knows whether it is; then `CommitUnknown`. Other errors are aborts."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + COMMIT_SECONDS
        pause = _PAUSE
        unknown_error: PyMongoError | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._session.commit_transaction()
                    return
            except TimeoutError as error:
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
    """Files and documents that change together: `async with gridproxy.transaction(client) as tx:`.

    What is called with `session=tx.session` inside is committed when the block is left, and undone when it is left by
    an exception or a cancellation: new files are gone then, old ones whole, and proxies and built-in documents are
    what they were before. Commits have write concern "majority". Servers give up a transaction 60 seconds after its
    first statement: `Bucket.stage` large sources before it.

    Raises `TransactionsUnsupported` on a standalone server, `NestedTransaction` inside another one, `BadOption` for
    anything but an `AsyncMongoClient`, `UploadInProgress` where a new file is still open at the end, `CommitUnknown`
    where 120 seconds brought no answer to the commit, and pymongo's errors as they are; the block is never run again.

    ```python
    async with gridproxy.transaction(client) as tx:
        await file.replace(b"the new one", session=tx.session)
        await client["zoo"]["log"].insert_one({"replaced": file.id}, session=tx.session)
    ```
    """
    return _transaction(client, repeated=False)


async def with_transaction(client: Client, callback: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run `await callback(tx)` in a transaction, and again while it ends in a TransientTransactionError (a write
    conflict, a new primary), for 120 seconds; what it returned.

    Proxies and built-in documents are what they were before each attempt. A source that can be read only once (an open
    file, a generator, a stream) raises `BadSource` before anything is read: `Bucket.stage` it before, and put what that
    gave. Raises as `transaction`.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + RETRY_SECONDS
    pause = _PAUSE
    while True:
        try:
            async with _transaction(client, repeated=True) as tx:
                return await callback(tx)
        except PyMongoError as error:
            if not error.has_error_label(_TRANSIENT) or clock() + pause >= deadline:
                raise
        # Two that are in each other's way must not meet again at once.
        await asyncio.sleep(pause * random.random())
        pause = min(1.5 * pause, _LONGEST_PAUSE)


@asynccontextmanager
async def _transaction(client: Client, *, repeated: bool) -> AsyncIterator[Transaction]:
    outer = _around.get()
    _refuse_nested(client, outer)
    await _check_server(client)
    session = client.start_session()
    # The chunks of deleted files go after the commit: it must not be rolled back then.
    majority = WriteConcern(**{**client.write_concern.document, "w": "majority"})
    await session.start_transaction(write_concern=majority)
    tx = Transaction(client, session, repeated=repeated)
    _around.set(tx)
    try:
        yield tx
        # What came so far may have been shielded from anyio's cancellation; from here on everything is.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException as error:
        failure = await run_to_completion(tx._end(error), fresh=True)
        if failure is not error and failure is not None:
            raise failure  # noqa: B904  # it has a cause of its own: what the server answered
        if isinstance(error, OperationFailure) and _says_standalone(error):
            raise TransactionsUnsupported from error
        raise
    else:
        failure = await run_to_completion(tx._end(None), fresh=True)
        if failure is not None:
            raise failure
    finally:
        _around.set(outer)


def _refuse_nested(client: object, outer: Transaction | None) -> None:
    if not isinstance(client, AsyncMongoClient):
        raise BadOption(f"a transaction needs pymongo's AsyncMongoClient, not {type_name(client)}")
    bound = bound_session(client)
    if (outer is not None and outer._is_around(client)) or in_transaction(bound):
        raise NestedTransaction("a transaction is open around this call already, and MongoDB has none inside another")


async def _check_server(client: Client) -> None:
    state = state_of(client)
    if not state.transactions:
        # In a session of ours: one that is bound around the caller is none of this.
        async with client.start_session(causal_consistency=False) as session:
            hello = await client.admin.command("hello", session=session)
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise TransactionsUnsupported
        state.transactions = True


def _is_unknown(error: PyMongoError) -> bool:
    return error.has_error_label(_UNKNOWN) or isinstance(error, WriteConcernError)


def _says_standalone(error: OperationFailure) -> bool:
    return error.code == _ILLEGAL_OPERATION and "Transaction numbers" in str(error)
