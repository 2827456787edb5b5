"""An id of the caller's that somebody else takes between any two commands: one of them wins, both files are whole."""

from __future__ import annotations

import pytest

from gridproxy import FileAlreadyStored, UploadInProgress

from .link import Link
from .matrix import Fault, Matrix
from .operation import Operation, Scene
from .trial import emptied, error_of
from .whole import files_and_orphans
from .writes import TAKES_ID

RIVAL = b"of somebody else" * 100


@pytest.mark.parametrize("operation", TAKES_ID, ids=lambda operation: operation.name)
async def test_of_two_who_want_one_id_exactly_one_gets_it(
    link: Link, scene: Scene, operation: type[Operation], matrix: Matrix
) -> None:
    number = 0
    while await raced(link, operation(scene), number):
        number += 1
    matrix.survived(operation.name, Fault.TAKEN, number)


async def raced(link: Link, trial: Operation, number: int) -> bool:
    """Let somebody else upload under the id before the command of this number; False where there is no such command."""
    trial.id = "the id that both want"
    well = trial.scene.well
    await trial.prepare()
    refused: list[Exception] = []

    async def rival() -> None:
        try:
            await well.upload(RIVAL, id=trial.id)
        except (FileAlreadyStored, UploadInProgress) as error:
            refused.append(error)

    link.before(number, rival)
    error = await error_of(trial.run())
    came = link.hit.is_set()
    link.heal()
    files, orphans = await files_and_orphans(well.database)
    contents = sorted(files.values())
    if error is None:
        assert bool(refused) is came
        assert (contents, len(orphans)) == (sorted(trial.after), trial.staged[1])
    else:
        assert isinstance(error, FileAlreadyStored | UploadInProgress)
        assert not hasattr(error, "__notes__")
        assert not refused
        assert (contents, len(orphans)) == (sorted([*trial.before, RIVAL]), trial.staged[0])
        trial.id = "another id"
        await trial.run()
        files, _ = await files_and_orphans(well.database)
        assert sorted(files.values()) == sorted([*trial.after, RIVAL])
    await trial.look(None)
    await emptied(trial)
    return came
