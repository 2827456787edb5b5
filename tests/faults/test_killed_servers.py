"""`kill -9` of the server with every operation in its midst, and a restart: what was acknowledged is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from pymongo import AsyncMongoClient, common

from gridproxy import Bucket
from gridproxy.embedded import EmbeddedServer
from gridproxy.gridfs.upload import commit

from .conftest import CHUNK
from .link import Break, Link
from .matrix import OPERATIONS, Fault, Matrix
from .operation import Operation, Scene
from .trial import assert_after, assert_whole, emptied, error_of


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(storage_path=tmp_path_factory.mktemp("data"), sync_on_commit=True) as server:
        yield server


@pytest.fixture
async def trials(
    own_server: EmbeddedServer, small_batches: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[list[tuple[Link, Operation]]]:
    """Every operation, with a link and a database of its own."""
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    monkeypatch.setattr(commit, "_PAUSE", 0)
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(
            AsyncMongoClient[dict[str, Any]](own_server.uri, serverMonitoringMode="poll")
        )
        trials: list[tuple[Link, Operation]] = []
        for number, operation in enumerate(OPERATIONS):
            link = await stack.enter_async_context(Link.to(own_server.uri))
            client = await stack.enter_async_context(
                AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll")
            )
            folder = tmp_path / str(number)
            folder.mkdir()
            one, other = (Bucket(each[f"number_{number}"], chunk_size=CHUNK) for each in (client, well))
            trial = operation(Scene(one, other, folder))
            trials.append((link, trial))
        yield trials
        for _, trial in trials:
            await emptied(trial)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(0, Break.STALL_AFTER), (1, Break.STALL_BEFORE), (2, Break.STALL_AFTER)],
    ids=lambda value: str(getattr(value, "name", value)).lower(),
)
async def test_a_server_that_is_killed_and_restarted_has_whole_files(
    own_server: EmbeddedServer, trials: list[tuple[Link, Operation]], number: int, kind: Break, matrix: Matrix
) -> None:
    for link, trial in trials:
        await trial.prepare()
        link.strike(kind, skip=number)
    works = [asyncio.create_task(error_of(trial.run())) for _, trial in trials]
    struck = [await link.hit_by(work) for (link, _), work in zip(trials, works, strict=True)]
    await anyio.to_thread.run_sync(own_server.kill)
    for link, _ in trials:
        link.heal()
        link.cut()
    await anyio.to_thread.run_sync(own_server.start)
    await trials[0][1].scene.well.database.client.admin.command("ping")
    for (_, trial), work, was_struck in zip(trials, works, struck, strict=True):
        error = await work
        try:
            await assert_whole(trial, error)
            if error is not None:
                await trial.again(error)
                await assert_after(trial)
        except BaseException as failure:
            failure.add_note(f"This was {trial.name}; it raised {error!r}.")
            raise
        if was_struck:
            matrix.survived(trial.name, Fault.SERVER_KILLED)
