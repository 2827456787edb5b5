"""Every operation, with every one of its commands refused, cut off and stalled: whole or absent, and repeatable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, common
from pymongo.errors import ConnectionFailure, NotPrimaryError, OperationFailure, PyMongoError

from gridproxy import Bucket, OutcomeUnknown, publish

from .conftest import CHUNK
from .ledger import OPERATIONS, Fault, Ledger
from .link import UNAUTHORIZED, Break, Link
from .operation import Operation, Scene
from .whole import Database, files_and_orphans

FAULTS = {
    Break.ERROR: Fault.ERROR,
    Break.NOT_PRIMARY: Fault.NOT_PRIMARY,
    Break.CUT_BEFORE: Fault.CUT_BEFORE,
    Break.CUT_AFTER: Fault.CUT_AFTER,
    Break.STALL_BEFORE: Fault.STALLED,
    Break.STALL_AFTER: Fault.STALLED,
}
STALLS = (Break.STALL_BEFORE, Break.STALL_AFTER)
# What may go on for as long as the work does; the others are as good as one of these then.
LASTING = (Break.ERROR, Break.CUT_AFTER)
# Long enough for every command that is not stalled.
TIMEOUT_MS = 100


@dataclass(frozen=True)
class Strike:
    """What is done to the commands of one trial, from the one of a number on."""

    kind: Break
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.kind.name}, {'lasting' if self.lasting else 'once'}"


@pytest.fixture
async def link(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    # After a broken connection pymongo waits for its monitor's next look at the server, for half a second and more.
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    async with Link.to(mongodb_uri) as link:
        yield link


@pytest.fixture
async def scenes(
    link: Link, database: Database, small_batches: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Scene, Scene]]:
    """The same bucket twice: through a client without a `timeoutMS`, and through one with it."""
    monkeypatch.setattr(publish, "_PAUSE", 0)
    monkeypatch.setattr(publish, "_ATTEMPTS", 2)
    well = Bucket(database, chunk_size=CHUNK)
    await well.ensure_indexes()
    async with (
        AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll") as client,
        AsyncMongoClient[dict[str, Any]](link.uri, serverMonitoringMode="poll", timeoutMS=TIMEOUT_MS) as hasty,
    ):
        patient, timed = (Bucket(each[database.name], chunk_size=CHUNK) for each in (client, hasty))
        for bucket in (patient, timed):
            bucket.store.state.indexed.add(bucket.store.key)
        yield Scene(patient, well, tmp_path), Scene(timed, well, tmp_path)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_a_command_that_breaks_leaves_whole_files_an_error_and_another_try(
    link: Link, scenes: tuple[Scene, Scene], operation: type[Operation], ledger: Ledger
) -> None:
    for strike in [*(Strike(kind) for kind in Break), *(Strike(kind, lasting=True) for kind in LASTING)]:
        trial = operation(scenes[strike.kind in STALLS])
        await trial.prepare()
        trials = 0
        while await struck(link, trial, strike, trials):
            trials += 1
            if trial.changes:
                trial = operation(trial.scene)
                await trial.prepare()
        await emptied(trial)
        assert trials
        ledger.survived(operation.name, FAULTS[strike.kind], trials)


async def struck(link: Link, trial: Operation, strike: Strike, number: int) -> bool:
    """Break the command of this number, and the ones after it where it is lasting; False where it sends no more."""
    link.strike(strike.kind, skip=number, times=None if strike.lasting else 1)
    error = await error_of(trial.run())
    was_struck, seen = link.hit.is_set(), list(link.seen)
    link.heal()
    try:
        await assert_whole(trial, error)
        if error is not None:
            assert_said(error, strike.kind)
            await try_again(trial, error, strike)
            await assert_after(trial)
    except BaseException as failure:
        failure.add_note(f"Of {seen}, number {number} was struck: {strike}. It raised {error!r}.")
        raise
    if trial.changes:
        await emptied(trial)
    return was_struck


async def try_again(trial: Operation, error: PyMongoError, strike: Strike) -> None:
    again: PyMongoError | None = error
    while again is not None:
        again = await error_of(trial.again(again))
        # A machine that is busy with other things may not answer in time, either.
        assert again is None or strike.kind in STALLS, repr(again)


async def error_of(work: Awaitable[None]) -> PyMongoError | None:
    try:
        await work
    except PyMongoError as error:
        return error
    return None


def assert_said(error: PyMongoError, kind: Break) -> None:
    """The error tells what happened."""
    if isinstance(error, OutcomeUnknown):
        cause = error.__cause__
        assert isinstance(cause, PyMongoError)
        error = cause
    if kind is Break.ERROR:
        assert isinstance(error, OperationFailure)
        assert error.code == UNAUTHORIZED
        assert "not allowed here" in str(error)
    elif kind is Break.NOT_PRIMARY:
        assert isinstance(error, NotPrimaryError)
    elif kind in STALLS:
        assert error.timeout
    else:
        assert isinstance(error, ConnectionFailure)


async def assert_whole(trial: Operation, error: PyMongoError | None) -> None:
    """Whole files only, and what the operation promises of them."""
    files, orphans = await files_and_orphans(trial.scene.well.database)
    contents = tuple(sorted(files.values()))
    said = f"{contents!r}, orphans {orphans!r}, after {error!r} {getattr(error, '__notes__', '')}"
    if error is None:
        assert (contents, len(orphans)) == (trial.after, trial.staged[1]), said
    elif isinstance(error, OutcomeUnknown) or not trial.all_or_nothing or hasattr(error, "__notes__"):
        assert contents in (trial.before, *trial.between, trial.after), said
    else:
        assert (contents, len(orphans)) == (trial.before, trial.staged[0]), said
    await trial.look(error)


async def assert_after(trial: Operation) -> None:
    """The second try has done what the first one was to do; nothing but orphans may lie beside it."""
    files, _ = await files_and_orphans(trial.scene.well.database)
    assert tuple(sorted(files.values())) == trial.after
    await trial.look(None)


async def emptied(trial: Operation) -> None:
    for name in ("fs.files", "fs.chunks", *trial.documents):
        await trial.scene.well.database[name].delete_many({})
