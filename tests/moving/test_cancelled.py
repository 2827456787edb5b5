"""Transfers that are cancelled at any step: no chunk without its file is left, and a repetition moves the rest."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridproxy import Bucket, export_files, import_files, transfer
from tests.faults.cancelling import Work, cancelled_everywhere
from tests.observing import orphans

from .conftest import every_way

# pymongo leaves a socket that it is connecting to the garbage collector if it is cancelled.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
SMALL, LARGE = b"s" * 250, b"l" * 7000
# Of all steps. Set it to 1 to try every one, which takes minutes.
STRIDE = 101


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@every_way
async def test_a_cancelled_transfer_leaves_no_orphans_and_can_be_repeated(bucket: Bucket, target: Bucket) -> None:
    ids = [info.id for info in await bucket.upload_many([SMALL, SMALL])]
    ids.append((await bucket.upload(LARGE, chunk_size=2000, id={"a": 1})).id)
    await target.ensure_indexes()

    async def make() -> Work:
        await target.delete_many(ids)

        async def check(returned: bool) -> None:
            assert await orphans(target.database, "target") == []
            report = await transfer(bucket, target)
            assert (report.ok, report.transferred + report.skipped) == (True, 3)
            assert not returned or report.skipped == 3

        return Work(lambda: transfer(bucket, target), check)

    assert await cancelled_everywhere(make, stride=STRIDE) > 6


async def test_a_cancelled_export_or_import_leaves_whole_files_only(
    bucket: Bucket, target: Bucket, tmp_path: Path
) -> None:
    await bucket.upload_many({"a/small": SMALL, "other": SMALL})
    await bucket.upload(LARGE, filename="large", chunk_size=2000, id={"a": 1})
    await target.ensure_indexes()
    whole = {"a/small": len(SMALL), "other": len(SMALL), "large": len(LARGE)}
    folder = tmp_path / "export"

    async def make_export() -> Work:
        shutil.rmtree(folder, ignore_errors=True)

        async def check(returned: bool) -> None:
            found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
            assert (found.pop("manifest.jsonl", None) is not None) or not returned
            assert found.items() <= whole.items()
            report = await export_files(bucket, folder)
            assert (report.ok, report.transferred + report.skipped) == (True, 3)

        return Work(lambda: export_files(bucket, folder), check)

    async def make_import() -> Work:
        await target.delete_many([info.id async for info in bucket.find()])

        async def check(returned: bool) -> None:
            assert await orphans(target.database, "target") == []
            report = await import_files(folder, target)
            assert (report.ok, report.transferred + report.skipped) == (True, 3)

        return Work(lambda: import_files(folder, target), check)

    assert await cancelled_everywhere(make_export, stride=STRIDE) > 6
    assert await cancelled_everywhere(make_import, stride=STRIDE) > 6
