"""ODMantic's sessions and transactions on pymongo's native client, where starting one is awaited and the other not."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from odmantic.session import AIOSession, AIOTransaction
from pymongo.asynchronous.client_session import AsyncClientSession


class AsyncSession(AIOSession):
    """ODMantic's `AIOSession`, of an `AsyncEngine`."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start the logical session; raises RuntimeError where it was started already."""
        if self.is_started:
            raise RuntimeError("Session is already started")
        client: Any = self.engine.client
        self.session: AsyncClientSession | None = client.start_session()  # type: ignore[assignment]  # Motor's, says ODMantic

    def transaction(self) -> AsyncTransaction:
        """A transaction in this session."""
        return AsyncTransaction(self)


class AsyncTransaction(AIOTransaction):
    """ODMantic's `AIOTransaction`, of an `AsyncEngine`: its own session is ended with it."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        if not self._session_provided:
            self.session: AIOSession = AsyncSession(context)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Begin the transaction; raises RuntimeError where it was begun already."""
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
