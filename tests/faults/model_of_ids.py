"""Two clients that store, remove and collect files under the same two ids, one in the midst of the other.

What each id holds afterwards has to follow from what the clients were told. Every file has to be whole.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

import gridproxy
from gridproxy import Bucket, CorruptFile, FileAlreadyStored, FileMissing, UploadInProgress
from gridproxy.errors import GridProxyError
from gridproxy.gridfs.upload.staging import Staged

from .link import Break, Link
from .trial import collected, error_of
from .whole import files_and_orphans

__all__ = ["FixedIds"]

T = TypeVar("T")

CHUNK = 1024
IDS: list[Any] = ["mine", 7]
SIZES = [0, 1, CHUNK, 2 * CHUNK + 1, 5 * CHUNK]
STORES = ["upload", "write", "copy", "publish", "upload in a transaction", "publish in a transaction"]
REMOVES = ["delete", "delete_many", "delete in a transaction"]
OTHERS = ["discard", "discard staged", "collect", "aborted upload", "aborted delete"]
KINDS = STORES + REMOVES + OTHERS
REFUSED = (FileAlreadyStored, UploadInProgress, CorruptFile, FileMissing)
# A command inside another client's open transaction may wait for its end.
WAIT = 0.2
# On a busy machine the longest step took a second.
STEP_SECONDS = 30.0


@dataclass
class Work:
    """One call of one client, and what it was told."""

    kind: str
    id: Any
    data: bytes
    staged: Staged | None = None
    told: bool | None = None  # whether it was told that something was stored or removed, None if it was told nothing


WORK = st.tuples(st.sampled_from(KINDS), st.sampled_from(IDS), st.sampled_from(SIZES))
BREAKS = [Break.ERROR, Break.NOT_PRIMARY, Break.CUT_BEFORE, Break.CUT_AFTER]


class FixedIds(RuleBasedStateMachine):
    """The first client's commands pass through a link, which lets the second one in, or breaks."""

    def __init__(self, uri: str, database: str) -> None:
        super().__init__()
        self.serial = 0
        self.holds: dict[Any, bytes | None] = dict.fromkeys(IDS)
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        # What a failed example leaves must not be in the next one.
        self.do(self.open(uri, f"{database}_{uuid.uuid4().hex[:8]}"))

    async def open(self, uri: str, database: str) -> None:
        self.link = await self.stack.enter_async_context(Link.to(uri))
        buckets = []
        for address in (self.link.uri, uri):
            client = AsyncMongoClient[dict[str, Any]](address, serverMonitoringMode="poll")
            await self.stack.enter_async_context(client)
            buckets.append(Bucket(client[database], chunk_size=CHUNK))
        self.first, self.second = buckets
        for bucket in buckets:
            await bucket.ensure_indexes()
        self.source = (await self.second.upload(b"source" * 500)).id

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(self.bounded(work))

    async def bounded(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a step, or fail with the commands and tasks that it waits for."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task}, timeout=STEP_SECONDS)
            waiting = "" if task.done() else f"{self.link.seen[-3:]!r}, {package_tasks()!r}"
        finally:
            if not task.done():
                # The package finishes its writes although they are cancelled, so first end what blocks them.
                task.cancel()
                await self.second.database.client.admin.command("killAllSessions", [])
                await asyncio.wait({task}, timeout=STEP_SECONDS)
        assert not waiting, f"{work!r} did not end within {STEP_SECONDS:.0f} seconds: {waiting}"
        return task.result()

    def teardown(self) -> None:
        try:
            self.do(self.close())
        finally:
            self.runner.close()

    async def close(self) -> None:
        self.link.heal()
        await self.second.database.client.drop_database(self.second.database)
        await self.stack.aclose()

    async def prepared(self, bucket: Bucket, kind: str, id: Any, size: int) -> Work:
        """Return the call, with bytes that no other call has."""
        self.serial += 1
        work = Work(kind, id, (b"%06d " % self.serial * (size // 7 + 1))[:size] if kind != "copy" else b"source" * 500)
        if kind in ("publish", "publish in a transaction", "discard staged"):
            with suppress(*REFUSED):
                staged = await self.second.stage(work.data, id=id)
                work.staged = Staged(bucket.store, staged.record, staged.chunk_ids)
        return work

    async def run(self, bucket: Bucket, work: Work) -> None:
        """Make the call, and note what it was told."""
        try:
            work.told = bool(await self.call(bucket, work))
        except REFUSED:
            work.told = False
        except OperationFailure as error:
            # A write conflict aborts a transaction.
            if not error.has_error_label("TransientTransactionError"):
                raise
            work.told = False

    def call(self, bucket: Bucket, work: Work) -> Awaitable[object]:
        match work.kind:
            case "upload":
                return stored(bucket.upload(work.data, id=work.id))
            case "write":
                return self.write(bucket, work)
            case "copy":
                return stored(bucket.copy(self.source, new_id=work.id))
            case "publish":
                return nothing() if work.staged is None else stored(bucket.publish(work.staged))
            case "delete":
                return stored(bucket.delete(work.id))
            case "delete_many":
                return bucket.delete_many([work.id, "another"])
            case "discard":
                return nothing(bucket.discard(work.id))
            case "discard staged":
                return nothing() if work.staged is None else nothing(bucket.discard(work.staged))
            case "collect":
                return nothing(collected(bucket))
        return self.transact(bucket, work)

    async def write(self, bucket: Bucket, work: Work) -> bool:
        async with bucket.open_upload(id=work.id) as upload:
            for at in range(0, len(work.data), 700):
                await upload.write(work.data[at : at + 700])
        return True

    async def transact(self, bucket: Bucket, work: Work) -> bool:
        with suppress(InterruptedError):
            async with gridproxy.transaction(bucket.database.client) as tx:
                if work.staged is not None:
                    await bucket.publish(work.staged, session=tx.session)
                elif "upload" in work.kind:
                    await bucket.upload(work.data, id=work.id, session=tx.session)
                elif "delete" in work.kind:
                    await bucket.delete(work.id, session=tx.session)
                else:
                    return False  # it could not be staged
                if work.kind.startswith("aborted"):
                    raise InterruptedError
            return True
        return False

    @rule(work=WORK, client=st.booleans())
    def alone(self, work: tuple[str, Any, int], client: bool) -> None:
        """One call with nothing beside it."""
        self.do(self.one(self.first if client else self.second, work))

    async def one(self, bucket: Bucket, given: tuple[str, Any, int]) -> None:
        work = await self.prepared(bucket, *given)
        await self.run(bucket, work)
        await self.settle([work])

    @rule(work=WORK, number=st.integers(0, 6), kind=st.sampled_from(BREAKS))
    def struck(self, work: tuple[str, Any, int], number: int, kind: Break) -> None:
        """One call with a command that breaks. Its transaction would lock the record until the server ends it."""
        if "transaction" not in work[0] and "aborted" not in work[0]:
            self.do(self.broken(work, number, kind))

    async def broken(self, given: tuple[str, Any, int], number: int, kind: Break) -> None:
        work = await self.prepared(self.first, *given)
        # A discard, a delete and the collector insert a record on trial, and abort that.
        self.link.strike(kind, skip=number, refuse_aborts=False)
        await error_of(self.run(self.first, work))
        self.link.heal()
        await self.settle([work])

    @rule(outer=WORK, inner=WORK, same=st.booleans(), number=st.integers(0, 12))
    def raced(self, outer: tuple[str, Any, int], inner: tuple[str, Any, int], same: bool, number: int) -> None:
        """Call the second client in the middle of the first one, mostly under the same id."""
        self.do(self.race(outer, (inner[0], outer[1] if same else inner[1], inner[2]), number))

    async def race(self, outer: tuple[str, Any, int], inner: tuple[str, Any, int], number: int) -> None:
        first = await self.prepared(self.first, *outer)
        second = await self.prepared(self.second, *inner)
        tasks: list[asyncio.Task[None]] = []

        async def rival() -> None:
            tasks.append(asyncio.create_task(self.run(self.second, second)))
            await asyncio.wait(tasks, timeout=WAIT)

        self.link.before(number, rival)
        try:
            try:
                await self.run(self.first, first)
            finally:
                self.link.heal()
                if not tasks:
                    tasks.append(asyncio.create_task(self.run(self.second, second)))
                await tasks[0]
            await self.settle([first, second])
        except BaseException as error:
            error.add_note(f"{first} with {second} before its command {number}; {self.holds!r} before")
            raise

    async def settle(self, works: list[Work]) -> None:
        """Compare what is stored with what the clients were told, and take it in."""
        for work in works:
            # Chunks that were staged beside an empty file would be surplus ones.
            if work.staged is not None and await self.second.file(work.id).exists():
                with suppress(FileAlreadyStored, UploadInProgress):
                    await self.second.discard(work.staged)
        files, _ = await files_and_orphans(self.second.database)
        for id in IDS:
            before, found = self.holds[id], files.get(id)
            mine = [work for work in works if work.id == id]
            stores = [work for work in mine if work.kind in STORES]
            removed = [work.told for work in mine if work.kind in REMOVES]
            said = f"{id!r} held {before!r} and holds {found!r} after {mine!r}"
            if found is None:
                gone = any(told is not False for told in removed)
                assert gone or (before is None and not any(work.told for work in stores)), said
            elif found == before and not any(work.told and work.data == found for work in stores):
                assert not any(removed), said
                assert not any(work.told for work in stores), said
            else:
                assert any(work.told is not False and work.data == found for work in stores), said
            if sum(work.told is True for work in stores) + (before is not None) > 1 and found is not None:
                assert any(told is not False for told in removed), said
            self.holds[id] = found


def package_tasks() -> list[asyncio.Task[Any]]:
    """Return the unfinished tasks that the package started."""
    return [task for task in asyncio.all_tasks() if "/gridproxy/" in repr(task)]


async def stored(work: Awaitable[object]) -> bool:
    """Await what raises an error unless it stores or removes a file."""
    await work
    return True


async def nothing(work: Awaitable[object] | None = None) -> bool:
    """Await what never stores or removes a file."""
    if work is not None:
        with suppress(GridProxyError):
            await work
    return False
