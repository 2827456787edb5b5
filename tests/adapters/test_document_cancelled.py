"""Documents whose save, delete or revert is cancelled, wherever and however: nothing is lost, all can be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..faults.cancelling import Work, cancelled_everywhere
from ..faults.whole import stored_files
from ..observing import Database
from .zoo import Animal, Deleting, found, stored

pytestmark = [
    pytest.mark.usefixtures("connected"),
    # pymongo 4.20 closes a socket that it is connecting on errors only, and leaves it to the collector when cancelled.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


async def test_a_cancelled_save_leaves_the_old_document_or_the_new_one_and_can_be_repeated(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "marmot.jpg").write_bytes(b"the new")

    async def make() -> Work:
        animal = await stored(photo=b"the old", album=[b"first"])
        animal.photo = tmp_path / "marmot.jpg"
        animal.album.append(b"second")

        async def check(returned: bool) -> None:
            files = await stored_files(database)
            as_stored = await found()
            photo = files[as_stored.photo.id]
            album = [files[each.id] for each in as_stored.album]
            assert (photo, album) in ((b"the old", [b"first"]), (b"the new", [b"first", b"second"]))
            assert photo == b"the new" or not returned
            await animal.save()
            assert await animal.photo.read() == b"the new"
            assert sorted((await stored_files(database)).values()) == [b"first", b"second", b"the new"]
            assert (await found()).photo == animal.photo
            await Animal.objects.delete()
            for collection in ("fs.files", "fs.chunks"):
                await database[collection].delete_many({})

        return Work(animal.save, check)

    await cancelled_everywhere(make, stride=6)


async def test_a_cancelled_first_save_stores_one_document_or_none_and_can_be_repeated(database: Database) -> None:
    async def make() -> Work:
        animal = Animal(photo=b"the photo")

        async def check(returned: bool) -> None:
            count = await Animal.objects.count()
            assert count in ((1,) if returned else (0, 1))
            await animal.save()
            assert await (await found()).photo.read() == b"the photo"
            assert list((await stored_files(database)).values()) == [b"the photo"]
            await Animal.objects.delete()
            await animal.photo.delete()

        return Work(animal.save, check)

    await cancelled_everywhere(make, stride=4)


async def test_a_cancelled_delete_leaves_the_document_with_its_file_or_neither(database: Database) -> None:
    async def make() -> Work:
        document = await Deleting(photo=b"the photo").save()

        async def check(returned: bool) -> None:
            left = await Deleting.objects.first()
            assert left is None or not returned
            if left is not None:
                assert await left.photo.read() == b"the photo"
                await document.delete()
            assert not document.photo
            assert await stored_files(database) == {}

        return Work(document.delete, check)

    await cancelled_everywhere(make, stride=4)


async def test_a_cancelled_revert_restores_the_file_and_keeps_the_saved_document(database: Database) -> None:
    async def make() -> Work:
        animal = await stored(photo=b"the old")
        await animal.photo.replace(b"the new")

        async def check(returned: bool) -> None:
            assert await (await found()).photo.read() == b"the old"
            await animal.photo.revert()
            await animal.save()
            assert list((await stored_files(database)).values()) == [b"the old"]
            await Animal.objects.delete()
            await animal.photo.delete()

        return Work(animal.photo.revert, check)

    await cancelled_everywhere(make, stride=4)
