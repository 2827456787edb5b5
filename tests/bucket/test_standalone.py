"""A standalone server: files and documents work there, and a transaction says why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

import gridproxy
from gridproxy import AsyncGridFile, Bucket, TransactionsUnsupported

from ..adapters.zoo import Deleting, found, stored
from ..observing import Database, contents, orphans
from ..servers.secantus import find, started

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def mongodb_uri() -> Iterator[str]:
    """Start a standalone server instead of the shared one, and yield its URI."""
    program = find()
    if program is None:
        pytest.skip("no standalone server is here: `python -m tests.servers --only=secantus` builds one")
    with started(program, "--standalone") as uri:
        yield uri


@pytest.mark.parametrize("size", [0, 1, 1024, len(DATA)])
async def test_files_are_stored_replaced_and_deleted(database: Database, size: int) -> None:
    assert "setName" not in await database.client.admin.command("hello")
    file = AsyncGridFile(bucket=Bucket(database, chunk_size=1024))
    await file.put(DATA[:size])
    assert await file.read() == DATA[:size]
    await file.replace(b"another" + DATA)
    assert await file.read_range(5, 9) == b"er\x00\x01"
    await file.delete()
    assert await contents(database) == (0, 0)


@pytest.mark.usefixtures("connected")
async def test_documents_are_saved_and_their_files_deleted_with_them(database: Database) -> None:
    await stored(genus="Marmota", photo=DATA, album=[b"one", b"two"])
    animal = await found()
    assert [await file.read() for file in (animal.photo, *animal.album)] == [DATA, b"one", b"two"]
    other = await Deleting(photo=DATA).save()
    await other.delete()
    assert not await other.photo.exists()
    assert await orphans(database) == []


async def test_a_transaction_is_refused_before_anything_is_written(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    with pytest.raises(
        TransactionsUnsupported, match="standalone server, which has no transactions: start it with"
    ) as caught:
        async with gridproxy.transaction(client) as tx:
            await Bucket(database).upload(DATA, session=tx.session)
    assert isinstance(caught.value, OperationFailure)
    with pytest.raises(TransactionsUnsupported):
        await gridproxy.with_transaction(client, lambda tx: Bucket(database).upload(DATA, session=tx.session))
    assert await database.list_collection_names() == []
