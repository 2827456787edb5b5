"""Documents in transactions of ours: they and their files change together, and are given back what they were."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect, PyMongoError

import gridproxy
from gridproxy import (
    AsyncGridFile,
    BadSource,
    CommitUnknown,
    DocumentMissing,
    FileMissing,
    StaleDocument,
    UploadInProgress,
)

from ..faults.whole import stored_files
from ..observing import Database
from .zoo import Animal, Deleting, found, stored

pytestmark = [
    pytest.mark.usefixtures("connected"),
    # pymongo 4.20 closes a socket that it is connecting on errors only, and leaves it to the collector when cancelled.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

ENDS = pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
Client = AsyncMongoClient[dict[str, Any]]


class Aborted(Exception):
    """What the block is left by."""


@pytest.fixture(autouse=True)
async def _with_collections(database: Database) -> None:
    for name in ("animal", "deleting"):
        await database.create_collection(name)


@pytest.fixture(params=["explicit", "bound"])
def begin(request: pytest.FixtureRequest, client: Client) -> Any:
    @asynccontextmanager
    async def explicit(commit: bool = True) -> AsyncIterator[AsyncClientSession | None]:
        try:
            async with gridproxy.transaction(client) as tx:
                yield tx.session
                if not commit:
                    raise Aborted
        except Aborted:
            assert not commit

    @asynccontextmanager
    async def bound(commit: bool = True) -> AsyncIterator[AsyncClientSession | None]:
        async with explicit(commit) as session:
            assert session is not None
            async with session.bind(end_session=False):
                yield None

    if request.param == "bound" and not hasattr(AsyncClientSession, "bind"):
        pytest.skip("this pymongo has no session.bind()")
    return bound if request.param == "bound" else explicit


async def contents(database: Database) -> list[bytes]:
    return sorted((await stored_files(database)).values())


@ENDS
async def test_a_replace_and_a_save(database: Database, begin: Any, commit: bool) -> None:
    animal = await stored(photo=b"the old", genus="Marmota")
    old = animal.photo.id
    async with begin(commit) as session:
        animal.genus = "Pika"
        await animal.photo.replace(b"in between", session=session)
        await animal.photo.replace(b"the new", session=session)
        await animal.save(session=session)
        assert await animal.photo.read(session=session) == b"the new"
    assert await contents(database) == [b"the new" if commit else b"the old"]
    assert await (await found()).photo.read() == (b"the new" if commit else b"the old")
    assert (animal.photo.id == old) is not commit
    assert (await found()).genus == ("Pika" if commit else "Marmota")
    await animal.save()  # it knows what is to be written yet
    assert (await found()).genus == "Pika"
    await animal.photo.replace(b"the last")
    await animal.save()
    assert await contents(database) == [b"the last"]


@ENDS
async def test_a_save_of_what_was_replaced_before(database: Database, begin: Any, commit: bool) -> None:
    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    async with begin(commit) as session:
        await animal.save(session=session)
    assert await contents(database) == ([b"the new"] if commit else [b"the new", b"the old"])
    assert await (await found()).photo.read() == (b"the new" if commit else b"the old")
    await animal.save()
    assert await contents(database) == [b"the new"]


@ENDS
async def test_a_replace_that_is_not_saved_keeps_the_old_file(database: Database, begin: Any, commit: bool) -> None:
    animal = await stored(photo=b"the old")
    async with begin(commit) as session:
        await animal.photo.replace(b"the new", session=session)
    assert await contents(database) == ([b"the new", b"the old"] if commit else [b"the old"])
    await animal.save()
    assert await contents(database) == ([b"the new"] if commit else [b"the old"])


@ENDS
async def test_a_first_save(database: Database, begin: Any, commit: bool) -> None:
    animal = Animal(photo=b"the photo", album=[b"one", b"two"], genus="Marmota")
    async with begin(commit) as session:
        await animal.save(session=session)
        animal.genus = "Pika"
        await animal.save(session=session)
    assert await Animal.objects.count() == commit
    assert (animal.id is None) is not commit
    assert await contents(database) == ([b"one", b"the photo", b"two"] if commit else [])
    await animal.save()  # assigned content is there again
    assert await contents(database) == [b"one", b"the photo", b"two"]
    as_stored = await found()
    assert (as_stored.id, as_stored.genus, as_stored.photo) == (animal.id, "Pika", animal.photo)


@ENDS
async def test_several_documents_and_files(database: Database, begin: Any, commit: bool) -> None:
    first, second = await stored(photo=b"first"), await Deleting(photo=b"second", album=[b"third"]).save()
    loose = AsyncGridFile()
    async with begin(commit) as session:
        first.photo = b"new"
        await first.save(session=session)
        await second.delete(session=session)
        await loose.put(b"loose", session=session)
        third = Animal(photo=b"fourth")
        await third.save(session=session)
        assert await Animal.objects.session(session).count() == 2
        assert not second.photo
    after, before = [b"fourth", b"loose", b"new"], [b"first", b"second", b"third"]
    assert await contents(database) == (after if commit else before)
    assert (await Animal.objects.count(), await Deleting.objects.count()) == ((2, 0) if commit else (1, 1))
    if not commit:
        assert await second.photo.read() == b"second"
        await second.delete()
        assert await contents(database) == [b"first"]


@ENDS
async def test_a_delete_and_a_save_anew(database: Database, begin: Any, commit: bool) -> None:
    document = await Deleting(photo=b"the photo").save()
    id = document.id
    async with begin(commit) as session:
        await document.delete(session=session)
        with pytest.raises(DocumentMissing):
            await document.delete(session=session)
        document.photo = b"another"
        await document.save(session=session)
    assert await contents(database) == [b"another" if commit else b"the photo"]
    assert (await Deleting.objects.get()).id == id == document.id
    await document.save()
    assert await contents(database) == [b"another" if commit else b"the photo"]


@ENDS
async def test_a_reload(database: Database, begin: Any, commit: bool) -> None:
    animal, same = await stored(photo=b"the old", genus="Marmota"), await found()
    old = animal.photo.id
    async with begin(commit) as session:
        same.genus = "Pika"
        same.photo = b"the new"
        await same.save(session=session)
        await animal.reload(session=session)
        assert (animal.genus, animal.photo) == ("Pika", same.photo)
    assert (animal.genus, animal.photo.id) == (("Pika", same.photo.id) if commit else ("Marmota", old))
    await animal.save()
    assert await contents(database) == [b"the new" if commit else b"the old"]


@ENDS
async def test_finalize_and_revert_by_hand(database: Database, begin: Any, commit: bool) -> None:
    animal, other = await stored(photo=b"the old"), await stored(photo=b"old, too")
    raw = database["animal"]
    await other.photo.replace(b"unwanted")
    async with begin(commit) as session:
        await animal.photo.replace(b"the new", session=session)
        await raw.update_one({"_id": animal.id}, {"$set": {"photo": animal.photo.id}}, session=session)
        await animal.photo.finalize(session=session)
        await other.photo.revert(session=session)
        assert await other.photo.read(session=session) == b"old, too"
    after, before = [b"old, too", b"the new"], [b"old, too", b"the old", b"unwanted"]
    assert await contents(database) == (after if commit else before)
    await other.photo.revert()
    await animal.photo.finalize()
    assert await contents(database) == (after if commit else [b"old, too", b"the old"])


@ENDS
async def test_a_file_assigned_to_a_document_in_the_transaction(database: Database, begin: Any, commit: bool) -> None:
    file, animal = AsyncGridFile(), await stored(photo=b"the old")
    async with begin(commit) as session:
        await file.put(b"the new", session=session)
        animal.photo = file
        await animal.save(session=session)
    assert await contents(database) == ([b"the new", b"the old"] if commit else [b"the old"])
    # The caller moved the reference, so it stays moved. Its new file is empty again.
    assert bool(animal.photo) is commit
    assert animal.photo is file
    await animal.photo.replace(b"the last")
    await animal.save()
    assert b"the last" in await contents(database)


async def test_another_writer_of_the_same_field_wins_or_loses(client: Client, database: Database) -> None:
    animal, other = await stored(photo=b"the old"), await found()
    other.photo = b"the other's"
    await other.save()
    with pytest.raises(StaleDocument):
        async with gridproxy.transaction(client) as tx:
            animal.photo = b"mine"
            await animal.save(session=tx.session)
    assert await contents(database) == [b"the other's"]
    await animal.reload()
    assert animal.photo == other.photo


async def test_a_concurrent_writer_is_a_conflict(client: Client, database: Database) -> None:
    animal, other = await stored(photo=b"the old"), await found()
    old = animal.photo.id
    with pytest.raises(PyMongoError) as caught:
        async with gridproxy.transaction(client) as tx:
            await Animal.objects.session(tx.session).first()
            other.photo = b"the other's"
            await other.save()
            animal.photo = b"mine"
            await animal.save(session=tx.session)
    assert caught.value.has_error_label("TransientTransactionError")
    assert animal.photo.id == old
    assert await contents(database) == [b"the other's"]
    with pytest.raises(StaleDocument):
        await animal.save()
    assert await contents(database) == [b"the other's"]  # the refused save stored nothing


async def test_a_conflict_is_retried(client: Client, database: Database) -> None:
    animal, new = await stored(genus="Marmota", photo=b"the old"), Animal()
    runs: list[Any] = []

    async def work(tx: gridproxy.Transaction) -> None:
        runs.append((animal.photo.id, new.id))
        await Animal.objects.session(tx.session).first()
        if len(runs) < 3:
            await database["animal"].update_one({}, {"$set": {"by": len(runs)}})
        await animal.photo.replace(b"the new", session=tx.session)
        new.photo = b"first"
        await new.save(session=tx.session)
        await animal.save(session=tx.session)

    await gridproxy.with_transaction(client, work)
    assert runs == [(runs[0][0], None)] * 3
    assert await Animal.objects.count() == 2
    assert await contents(database) == [b"first", b"the new"]


async def test_saves_on_one_transaction_queue(client: Client, database: Database) -> None:
    animals = [Animal(photo=b"%d" % n) for n in range(6)]
    async with gridproxy.transaction(client) as tx:
        await asyncio.gather(*(animal.save(session=tx.session) for animal in animals))
        seen = [animal.id async for animal in Animal.objects.session(tx.session)]
        assert await Animal.objects(genus="nobody").session(tx.session).delete() == 0
    assert sorted(seen) == sorted(animal.id for animal in animals)
    assert await contents(database) == [b"%d" % n for n in range(6)]


# What could be lost


async def test_a_call_without_the_session_is_refused(client: Client, database: Database) -> None:
    animal = await stored(photo=b"the old")
    refused = pytest.raises(UploadInProgress, match="session=")
    async with gridproxy.transaction(client) as tx:
        await animal.photo.replace(b"the new", session=tx.session)
        for call in (
            animal.save,
            animal.reload,
            animal.delete,
            animal.photo.delete,
            animal.photo.finalize,
            animal.photo.revert,
            lambda: animal.photo.replace(b"outside"),
            lambda: animal.photo.rename("outside"),
            lambda: animal.photo.update_metadata(out="side"),
            lambda: animal.photo.new_file(replace=True)._start(),
        ):
            with refused:
                await call()
        await animal.save(session=tx.session)
    assert await contents(database) == [b"the new"]
    await animal.photo.rename("afterwards")


async def test_content_that_was_read_must_be_assigned_again(client: Client, database: Database) -> None:
    animal = await stored(photo=b"the old")
    animal.photo = io.BytesIO(b"the new")
    with pytest.raises(Aborted):
        async with gridproxy.transaction(client) as tx:
            await animal.save(session=tx.session)
            raise Aborted
    with pytest.raises(BadSource, match="read already"):
        await animal.save()
    assert await contents(database) == [b"the old"]
    animal.photo = b"the new"
    await animal.save()
    assert await contents(database) == [b"the new"]


@pytest.mark.parametrize("landed", [True, False])
async def test_an_unknown_commit_leaves_all_files_and_the_document_can_be_loaded_anew(
    client: Client, database: Database, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    animal, new = await stored(photo=b"the old"), Animal(photo=b"first")
    commit = AsyncClientSession.commit_transaction

    async def unanswered(self: AsyncClientSession) -> None:
        if landed:
            await commit(self)
        raise AutoReconnect("no answer", None)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncClientSession, "commit_transaction", unanswered)
        patched.setattr(
            "gridproxy.gridfs.transactions.transactions._PAUSE", 1000.0
        )  # so that there is no second commit
        patched.setattr("gridproxy.gridfs.transactions.transactions._is_unknown", lambda _: True)
        with pytest.raises(CommitUnknown):
            async with gridproxy.transaction(client) as tx:
                await animal.photo.replace(b"the new", session=tx.session)
                await animal.save(session=tx.session)
                await new.save(session=tx.session)
    chunks = sorted([chunk["data"] async for chunk in database["fs.chunks"].find()])
    assert chunks == [b"first", b"the new", b"the old"]
    if landed:
        await animal.save()
    else:
        with pytest.raises(FileMissing) as missing:
            await animal.save()  # it would point to nothing
        assert "reload()" in missing.value.__notes__[0]
        with pytest.raises(FileMissing):
            await new.save()
    await animal.reload()
    assert await animal.photo.read() == (b"the new" if landed else b"the old")
    await animal.save()
    assert await (await Animal.objects(id=animal.id).get()).photo.read() == (b"the new" if landed else b"the old")
    assert await Animal.objects.count() == (2 if landed else 1)
    if landed:
        await new.save()
        assert await Animal.objects.count() == 2
