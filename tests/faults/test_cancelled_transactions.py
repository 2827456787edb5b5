"""A cancelled transaction leaves files and proxies as they were before it, or as they are after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import gridproxy
from gridproxy import AsyncGridFile, Bucket, Transaction, transaction, with_transaction
from gridproxy.adapters.document import Document, FileField

from .cancelling import Work, cancelled_everywhere
from .whole import Database, stored_files

# pymongo 4.20 does not close a socket if connecting is cancelled, so the garbage collector does it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

OLD = b"the old file" * 100
NEW = bytes(range(256)) * 3
# Each step of a long operation is cancelled in one of the six ways.
LONG = 6

Block = Callable[[AsyncGridFile, Transaction], Awaitable[object]]


async def replaced(file: AsyncGridFile, tx: Transaction) -> None:
    await file.replace(NEW, session=tx.session)


async def deleted(file: AsyncGridFile, tx: Transaction) -> None:
    await file.delete(session=tx.session)


async def written(file: AsyncGridFile, tx: Transaction) -> None:
    await file.new_file(replace=True, session=tx.session)
    await file.write(NEW)
    await file.close()


@pytest.mark.parametrize(
    ("block", "after"), [(replaced, [NEW]), (deleted, []), (written, [NEW])], ids=["replaced", "deleted", "written"]
)
async def test_a_cancelled_transaction_of_files(
    bucket: Bucket, database: Database, block: Block, after: list[bytes]
) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)
        old = await file.put(OLD)

        async def run() -> None:
            async with transaction(database.client) as tx:
                await block(file, tx)

        async def check(returned: bool) -> None:
            stored = await stored_files(database)
            # A cancellation during the commit is raised when the outcome is known.
            if file.id == old.id:
                assert not returned
                assert (stored, file.info) == ({old.id: OLD}, old)
            else:
                assert list(stored.values()) == after
                assert list(stored) == ([file.id] if after else [])
            assert file.closed
            await file.replace(b"again")
            await file.delete()

        return Work(run, check)

    await cancelled_everywhere(make, stride=LONG)


async def test_a_cancelled_callback_of_with_transaction(bucket: Bucket, database: Database) -> None:
    async def make() -> Work:
        file = AsyncGridFile(bucket=bucket)

        async def run() -> None:
            await with_transaction(database.client, lambda tx: file.put(NEW, session=tx.session))

        async def check(returned: bool) -> None:
            assert await stored_files(database) == ({file.id: NEW} if file else {})
            assert bool(file) or not returned
            await file.delete()

        return Work(run, check)

    await cancelled_everywhere(make, stride=LONG)


class Photographed(Document):
    photo = FileField(on_delete="delete")


async def test_a_cancelled_transaction_of_documents(database: Database) -> None:
    async def make() -> Work:
        saved, going, new = Photographed(photo=b"old"), Photographed(photo=b"going"), Photographed(photo=b"new")
        await saved.save()
        await going.save()
        old = saved.photo.id

        async def run() -> None:
            async with transaction(database.client) as tx:
                saved.photo = b"newer"
                await saved.save(session=tx.session)
                await new.save(session=tx.session)
                await going.delete(session=tx.session)

        async def check(returned: bool) -> None:
            before = saved.photo.id == old
            assert not (before and returned)
            files = sorted((await stored_files(database)).values())
            assert files == ([b"going", b"old"] if before else [b"new", b"newer"])
            assert (new.id is None, bool(going.photo)) == (before, before)
            await new.save()
            for document in (saved, new, *([going] if before else [])):
                await document.delete()
            assert (await stored_files(database), await Photographed.objects.count()) == ({}, 0)

        return Work(run, check)

    with gridproxy.using(database):
        await cancelled_everywhere(make, stride=7 * LONG)
