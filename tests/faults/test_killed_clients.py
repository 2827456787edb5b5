"""`kill -9` of a client with every operation in its midst: whole files, and chunks that the collector finds."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient

from gridproxy import Bucket, FileAlreadyStored, UploadInProgress

from .conftest import CHUNK
from .link import Break, Link
from .matrix import OPERATIONS, Fault, Matrix
from .operation import LARGE, OLD, Operation, Scene
from .trial import assert_collected, emptied, error_of
from .whole import files_and_orphans, stored_files

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def client_process(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.client", json.dumps(arguments)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
def names(mongodb_uri: str) -> Iterator[list[str]]:
    """Return a database for each operation. Making them takes longer than the work in them."""
    names = [f"gridproxy_test_{uuid.uuid4().hex}" for _ in OPERATIONS]
    yield names
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        for name in names:
            client.drop_database(name)


@pytest.fixture
async def links(mongodb_uri: str) -> AsyncIterator[list[Link]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Link.to(mongodb_uri)) for _ in OPERATIONS]


@pytest.mark.parametrize(
    ("number", "kind"),
    [(0, Break.STALL_AFTER), (2, Break.STALL_AFTER)],
    ids=lambda value: str(getattr(value, "name", value)).lower(),
)
async def test_a_client_that_is_killed_leaves_whole_files_and_orphans(
    mongodb_uri: str,
    client: AsyncMongoClient[dict[str, Any]],
    links: list[Link],
    names: list[str],
    small_batches: None,
    tmp_path: Path,
    number: int,
    kind: Break,
    matrix: Matrix,
) -> None:
    async with client_process(mongodb_uri, str(tmp_path), [link.uri for link in links], names) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"prepared\n"
        for link in links:
            link.strike(kind, skip=number)
        done = [asyncio.get_running_loop().create_future() for _ in OPERATIONS]
        listening = asyncio.create_task(listen(process.stdout, done))
        process.stdin.write(b"go\n")
        struck = [await link.hit_by(work) for link, work in zip(links, done, strict=True)]
        process.kill()
        await process.wait()
        await listening
    for link in links:
        link.heal()
    # The server ends the transactions of a dead client by itself, but only after a minute.
    await client.admin.command("killAllSessions", [])
    assert (tmp_path / "saved").read_bytes() in (OLD, LARGE)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for operation, name, was_struck in zip(OPERATIONS, names, struck, strict=True):
        bucket = Bucket(client[name], chunk_size=CHUNK)
        trial = operation(Scene(bucket, bucket, fresh))
        try:
            await assert_survived(trial)
        except BaseException as failure:
            failure.add_note(f"This was {operation.name}.")
            raise
        if was_struck:
            matrix.survived(operation.name, Fault.CLIENT_KILLED)
        await emptied(trial)


async def listen(said: asyncio.StreamReader, done: list[asyncio.Future[None]]) -> None:
    async for line in said:
        done[int(line)].set_result(None)


async def assert_survived(trial: Operation) -> None:
    """Check what the killed client left, and that another client can do the same beside it."""
    bucket = trial.scene.well
    left, _ = await files_and_orphans(bucket.database)
    contents = tuple(sorted(left.values()))
    assert contents in (trial.before, *trial.between, trial.after)
    if trial.documents:
        await trial.look(InterruptedError())
        for name in trial.documents:
            await bucket.database[name].delete_many({})
    await trial.prepare()
    error = await error_of(trial.run())
    if error is not None:
        assert isinstance(error, FileAlreadyStored | UploadInProgress)
        await trial.again(error)
    files, orphans = await files_and_orphans(bucket.database)
    assert not [content for content in trial.after if content not in files.values()]
    if len(orphans) > trial.staged[1]:
        await assert_collected(bucket)
        assert await stored_files(bucket.database) == files
