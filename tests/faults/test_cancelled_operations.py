"""Operations cancelled at each of their steps: all of it or nothing, no chunk astray, and it can be repeated.

Those that are not here are in the tests of cancelled uploads and downloads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gridproxy import Bucket

from .cancelling import Work, cancelled_everywhere
from .matrix import OPERATIONS, Fault, Matrix
from .operation import Operation, Scene
from .trial import assert_after, emptied
from .whole import files_and_orphans

# pymongo 4.20 closes a socket that it is connecting on errors only, and leaves it to the collector when cancelled.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


SHORT = [
    operation
    for operation in OPERATIONS
    if operation.name
    in {
        "upload_many",
        "stage",
        "publish",
        "discard",
        "update_metadata",
        "rename",
        "delete_many",
        "Document.save",
        "Document.delete",
        "transaction: put, insert",
        "transaction: publish, insert",
        "stat",
        "by_name",
        "read_many",
    }
]


@pytest.mark.parametrize("operation", SHORT, ids=lambda operation: operation.name)
async def test_a_cancelled_operation_is_done_or_not_and_can_be_repeated(
    bucket: Bucket, operation: type[Operation], tmp_path: Path, matrix: Matrix
) -> None:
    await bucket.ensure_indexes()

    async def make() -> Work:
        trial = operation(Scene(bucket, bucket, tmp_path))
        await trial.prepare()

        async def check(returned: bool) -> None:
            files, orphans = await files_and_orphans(bucket.database)
            contents = tuple(sorted(files.values()))
            assert contents == trial.after or (contents == trial.before and not returned)
            assert len(orphans) in trial.staged
            if not returned:
                await trial.again(TimeoutError())
                await assert_after(trial)
            await emptied(trial)

        return Work(trial.run, check)

    matrix.survived(operation.name, Fault.CANCELLED, await cancelled_everywhere(make, stride=6))
