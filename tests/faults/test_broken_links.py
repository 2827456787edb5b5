"""Every operation, with every one of its commands refused, cut off and stalled: whole or absent, and repeatable."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import pytest
from pymongo.errors import ConnectionFailure, NotPrimaryError, OperationFailure, PyMongoError

from gridproxy import CommitUnknown, OutcomeUnknown

from .link import UNAUTHORIZED, Break, Link
from .matrix import OPERATIONS, Fault, Matrix
from .operation import Operation, Scene
from .trial import Failure, assert_after, assert_whole, emptied, error_of

STALLS = (Break.STALL_BEFORE, Break.STALL_AFTER)
# Nothing here takes a second; this only turns a hang into a failure.
HANGS = 60.0


@dataclass(frozen=True)
class Strike:
    """What is done to the commands of one trial, from the one of a number on."""

    kind: Break
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.kind.name}, {'lasting' if self.lasting else 'once'}"


# Each of these is gone through with all commands of an operation, which are struck in its ways by turns.
STRIKES = [
    (Fault.ERROR, [Strike(Break.ERROR)]),
    (Fault.NOT_PRIMARY, [Strike(Break.NOT_PRIMARY)]),
    (Fault.CUT_BEFORE, [Strike(Break.CUT_BEFORE)]),
    (Fault.CUT_AFTER, [Strike(Break.CUT_AFTER)]),
    # What goes on for as long as the work does makes the clean-up fail, too.
    (Fault.CUT_AFTER, [Strike(Break.CUT_AFTER, lasting=True)]),
    (Fault.STALLED, [Strike(Break.STALL_AFTER), Strike(Break.STALL_BEFORE)]),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_a_command_that_breaks_leaves_whole_files_an_error_and_another_try(
    link: Link, scenes: tuple[Scene, Scene], operation: type[Operation], matrix: Matrix
) -> None:
    count = await commands_of(link, await prepared(operation, scenes[0]))
    for fault, strikes in STRIKES:
        trial = await prepared(operation, scenes[fault is Fault.STALLED])
        for number, strike in zip(range(count), itertools.cycle(strikes), strict=False):
            if number and trial.changes:
                trial = await prepared(operation, trial.scene)
            await struck(link, trial, strike, number)
        await emptied(trial)
        matrix.survived(operation.name, fault, count)


async def prepared(operation: type[Operation], scene: Scene) -> Operation:
    trial = operation(scene)
    await trial.prepare()
    return trial


async def commands_of(link: Link, trial: Operation) -> int:
    """How many commands it takes where all goes well."""
    link.heal()
    await trial.run()
    count = len(link.seen)
    await assert_whole(trial, None)
    await emptied(trial)
    return count


async def struck(link: Link, trial: Operation, strike: Strike, number: int) -> None:
    """Break the command of this number, and the ones after it where it is lasting."""
    link.strike(strike.kind, skip=number, times=None if strike.lasting else 1)
    async with asyncio.timeout(HANGS):
        error = await error_of(trial.run())
    was_struck, seen = link.hit.is_set(), list(link.seen)
    link.heal()
    try:
        # A machine that is busy with other things may not have come as far in time.
        assert was_struck or strike.kind in STALLS
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


async def try_again(trial: Operation, error: Failure, strike: Strike) -> None:
    again: Failure | None = error
    while again is not None:
        again = await error_of(trial.again(again))
        assert again is None or strike.kind in STALLS, repr(again)


def assert_said(error: Failure, kind: Break) -> None:
    """Check that the error says what happened."""
    if isinstance(error, CommitUnknown):
        return
    if isinstance(error, OutcomeUnknown):
        cause = error.__cause__
        assert isinstance(cause, PyMongoError)
        error = cause
    assert isinstance(error, PyMongoError)
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
