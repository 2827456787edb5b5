"""A server that fails on purpose, for one client only: MongoDB's `configureFailPoint` (test commands have to be on)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from pymongo import AsyncMongoClient, common
from pymongo.errors import OperationFailure

from ..observing import Commands

__all__ = ["FailingServer", "failing_server"]

_COMMAND_NOT_FOUND = 59


class FailingServer:
    """A client whose commands fail when told, and one of the same server whose commands never do."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], well: AsyncMongoClient[dict[str, Any]]) -> None:
        self.client = client
        self._well = well
        self._app_name = client.options.pool_options.appname

    async def fail(self, *commands: str, skip: int = 0, times: int | None = None, **how: Any) -> None:
        """Fail the next `times` of these commands (all where it is None), after `skip` that go well.

        `how` is `errorCode=`, `closeConnection=True` (before the command is run), or `writeConcernError=` (after it).
        """
        mode: Any = "alwaysOn" if times is None else {"times": times}
        if skip:
            mode = {"skip": skip} if times is None else {"skip": skip, "times": times}
        data = {"failCommands": list(commands), "appName": self._app_name, **how}
        try:
            await self._well.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        except OperationFailure as error:
            if error.code != _COMMAND_NOT_FOUND:
                raise
            pytest.skip("the server has no failpoints: start it with --setParameter enableTestCommands=1")

    async def recover(self) -> None:
        """No command fails any more."""
        await self._well.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@contextlib.asynccontextmanager
async def failing_server(
    uri: str, well: AsyncMongoClient[dict[str, Any]], commands: Commands, **options: Any
) -> AsyncIterator[FailingServer]:
    """Yield a client to the server of `well`. It has its own name and notes its `commands`."""
    # After a broken connection pymongo waits for its monitor's next look at the server, for half a second and more.
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(patch.object(common, "MIN_HEARTBEAT_INTERVAL", 0.01))
        client = await stack.enter_async_context(
            AsyncMongoClient[dict[str, Any]](
                uri,
                appname=f"faults-{uuid.uuid4().hex}",
                event_listeners=[commands],
                serverMonitoringMode="poll",
                heartbeatFrequencyMS=20,
                **options,
            )
        )
        await client.admin.command("ping")
        server = FailingServer(client, well)
        try:
            yield server
        finally:
            await server.recover()
