"""Transfers that are cancelled at any step: no chunk without its file is left, and a repetition moves the rest."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gridproxy import Bucket, transfer
from tests.faults.cancelling import Work, cancelled_everywhere
from tests.observing import orphans

from .conftest import every_way

# pymongo leaves a socket that it is connecting to the garbage collector if it is cancelled.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
SMALL, LARGE = b"s" * 250, b"l" * 7000


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

    assert await cancelled_everywhere(make, stride=97) > 6
