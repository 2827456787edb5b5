"""An id of the caller's that somebody else takes between any two commands: one of them wins, both files are whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from gridproxy import Bucket, FileAlreadyStored, FileInfo, UploadInProgress
from gridproxy.store import Store

from .ledger import Fault, Ledger
from .link import Link
from .operation import LARGE, Operation, Scene
from .trial import emptied, error_of
from .whole import files_and_orphans, stored_files
from .writes import TAKES_ID

RIVAL = b"of somebody else" * 100


@pytest.mark.parametrize("operation", TAKES_ID, ids=lambda operation: operation.name)
async def test_of_two_who_want_one_id_exactly_one_gets_it(
    link: Link, scene: Scene, operation: type[Operation], ledger: Ledger
) -> None:
    number = 0
    while await raced(link, operation(scene), number):
        number += 1
    ledger.survived(operation.name, Fault.TAKEN, number)


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


@pytest.mark.parametrize("contested", [True, False])
async def test_a_copy_that_the_server_refuses_for_a_taken_key_says_whose_it_is(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, contested: bool
) -> None:
    """As MongoDB itself does it; the embedded server passes over what is there."""

    async def refused(_: Store, __: FileInfo, ___: int, ____: Sequence[ObjectId], id: object) -> None:
        if contested:
            await bucket.upload(RIVAL, id=id)
        raise DuplicateKeyError("E11000 duplicate key error")

    info = await bucket.upload(LARGE)
    monkeypatch.setattr(Store, "copy_chunks", refused)
    with pytest.raises(FileAlreadyStored if contested else DuplicateKeyError):
        await bucket.copy(info.id, new_id="mine")
    expected = {info.id: LARGE, "mine": RIVAL} if contested else {info.id: LARGE}
    assert await stored_files(bucket.database) == expected
