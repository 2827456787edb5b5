"""ODMantic's sessions and transactions on pymongo's native client, which awaits other calls than Motor."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from odmantic.session import AIOSession, AIOTransaction
from pymongo.asynchronous.client_session import AsyncClientSession


class AsyncSession(AIOSession):
    """ODMantic's `AIOSession` of an `AsyncEngine`, as `AsyncEngine.session` returns it.

    ```python
    from gridproxy.adapters.odmantic import AsyncSession

    async with AsyncSession(engine) as session:
        assert session.is_started
    ```
    """

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start the session. Raises RuntimeError if it is started.

        ```python
        session = engine.session()
        await session.start()
        await session.end()
        ```
        """
        if self.is_started:
            raise RuntimeError("Session is already started")
        client: Any = self.engine.client
        self.session: AsyncClientSession | None = client.start_session()  # type: ignore[assignment]  # Motor's, says ODMantic

    def transaction(self) -> AsyncTransaction:
        """Return a transaction in this session, for an `async with` block.

        ```python
        async with engine.session() as session, session.transaction() as transaction:
            await transaction.commit()
        ```
        """
        return AsyncTransaction(self)


class AsyncTransaction(AIOTransaction):
    """ODMantic's `AIOTransaction` of an `AsyncEngine`. A session that it started ends with it.

    ```python
    from gridproxy.adapters.odmantic import AsyncTransaction

    async with AsyncTransaction(engine) as transaction:
        await transaction.abort()
    ```
    """

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        if not self._session_provided:
            self.session: AIOSession = AsyncSession(context)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start the transaction. Raises RuntimeError if it is started.

        ```python
        transaction = engine.transaction()
        await transaction.start()
        await transaction.abort()
        ```
        """
        if self._transaction_started:
            raise RuntimeError("Transaction already started")
        if not self._session_provided:
            await self.session.start()
        session: Any = self.session.session
        self._transaction_context = await session.start_transaction()
        self._transaction_started = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            if not self._session_provided and self.session.is_started:
                await self.session.end()
