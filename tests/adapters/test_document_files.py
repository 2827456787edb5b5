"""FileField: what a save stores and removes, finalize and revert by hand, and what is deleted with a document."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import gridproxy
from gridproxy import AsyncGridFile, FileAlreadyStored, UploadInProgress
from gridproxy.adapters.document import Document, FileField

from ..observing import Database, contents
from .zoo import Animal, Deleting, found, stored

pytestmark = pytest.mark.usefixtures("connected")


# Saving


@pytest.mark.parametrize("way", ["put", "replace", "new_file", "assign"])
async def test_every_replacement_keeps_the_old_file_until_the_save(way: str, database: Database) -> None:
    animal = await stored(photo=b"the old")
    if way == "put":
        with pytest.raises(FileAlreadyStored):
            await animal.photo.put(b"the new")
        await animal.photo.replace(b"the new")
    elif way == "replace":
        await animal.photo.replace(b"the new")
    elif way == "new_file":
        async with animal.photo.new_file(replace=True):
            animal.photo.write(b"the new")
    else:
        animal.photo = b"the new"
    assert await (await found()).photo.read() == b"the old"
    await animal.save()
    assert await (await found()).photo.read() == b"the new"
    assert await animal.photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_a_put_before_the_first_save_is_kept_by_it(database: Database) -> None:
    animal = Animal()
    await animal.photo.put(b"the photo", filename="marmot.jpg")
    await animal.save()
    assert await (await found()).photo.read() == b"the photo"
    assert await contents(database) == (1, 1)


async def test_of_several_replacements_before_a_save_only_the_last_is_kept(database: Database) -> None:
    animal = await stored(photo=b"the first")
    for data in (b"second", b"third", b"fourth"):
        await animal.photo.replace(data)
    animal.photo = b"fifth"
    assert await (await found()).photo.read() == b"the first"
    await animal.save()
    assert await (await found()).photo.read() == b"fifth"
    assert await contents(database) == (1, 1)


async def test_a_document_collected_before_its_save_leaves_the_new_file_and_keeps_the_old(
    database: Database,
) -> None:
    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    del animal
    gc.collect()
    assert await (await found()).photo.read() == b"the old"
    assert (await contents(database))[0] == 2


async def test_a_file_outlives_its_document_object_and_keeps_its_field(database: Database) -> None:
    photo = (await stored(photo=b"the old")).photo
    gc.collect()
    await photo.replace(b"the new")
    assert await (await found()).photo.read() == b"the old"
    await photo.revert()
    assert await photo.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_a_save_of_an_untouched_document_removes_nothing(database: Database) -> None:
    await stored(photo=b"the photo")
    animal = await found()
    await animal.save()
    animal.genus = "Marmota"
    await animal.save()
    assert await animal.photo.read() == b"the photo"


async def test_deleting_the_file_and_saving_empties_the_field(database: Database) -> None:
    animal = await stored(photo=b"the photo")
    await animal.photo.replace(b"unsaved")
    await animal.photo.delete()
    assert not animal.photo
    assert await (await found()).photo.read() == b"the photo"
    await animal.save()
    assert not (await found()).photo
    assert await contents(database) == (0, 0)


async def test_a_document_is_not_saved_while_its_file_is_open(database: Database) -> None:
    animal = await stored(photo=b"the old", genus="Marmota")
    async with animal.photo.new_file(replace=True):
        animal.photo.write(b"the new")
        animal.genus = "Pika"
        for call in (animal.save, animal.reload, animal.delete):
            with pytest.raises(UploadInProgress, match=r"photo: .*being written"):
                await call()
    assert (await found()).genus == "Marmota"
    await animal.save()
    assert (await found()).genus == "Pika"
    assert await (await found()).photo.read() == b"the new"


async def test_a_file_replaced_during_the_write_of_the_document_is_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal = await stored(photo=b"first")
    await animal.photo.replace(b"second")
    collection = type(database["animal"])
    update_one = collection.update_one

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        result = await update_one(*args, **kwargs)
        await animal.photo.replace(b"third")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(collection, "update_one", slowly)
        await animal.save()
    assert await (await found()).photo.read() == b"second"
    assert (await contents(database))[0] == 2
    await animal.save()
    assert await (await found()).photo.read() == b"third"
    assert await contents(database) == (1, 1)


async def test_a_file_that_another_field_of_the_document_holds_is_kept(database: Database) -> None:
    animal = await stored(photo=b"the photo")
    animal.album = [animal.photo.id]
    await animal.save()
    await animal.photo.replace(b"another photo")
    await animal.save()
    assert await (await found()).album[0].read() == b"the photo"
    assert (await contents(database))[0] == 2


# finalize and revert, by hand


async def test_finalize_removes_the_replaced_file(database: Database) -> None:
    animal = await stored(photo=b"the old")
    await animal.photo.replace(b"the new")
    await database["animal"].update_one({}, {"$set": {"photo": animal.photo.id}})
    await animal.photo.finalize()
    await animal.photo.finalize()
    assert await (await found()).photo.read() == b"the new"
    assert await contents(database) == (1, 1)


async def test_revert_restores_the_saved_file_and_removes_the_new_ones(database: Database) -> None:
    animal = await stored(photo=b"the old")
    info = animal.photo.info
    await animal.photo.replace(b"second")
    await animal.photo.replace(b"third")
    await animal.photo.revert()
    assert animal.photo.info == info
    assert await animal.photo.read() == b"the old"
    await animal.photo.revert()
    await animal.save()
    assert await (await found()).photo.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_revert_discards_assigned_content_and_empties_an_empty_field(database: Database) -> None:
    animal = await stored()
    await animal.photo.put(b"unsaved")
    await animal.photo.revert()
    assert not animal.photo
    animal.photo = b"assigned"
    await animal.photo.revert()
    await animal.save()
    assert not (await found()).photo
    assert await contents(database) == (0, 0)


async def test_finalize_and_revert_of_a_file_without_a_document_have_no_effect() -> None:
    file = AsyncGridFile()
    await file.put(b"x")
    await file.finalize()
    await file.revert()
    assert await file.read() == b"x"


# Deleting the document


class Keeping(Document):
    photo = FileField()


async def test_on_delete_keep_leaves_the_file(database: Database) -> None:
    document = await Keeping(photo=b"x").save()
    await document.delete()
    assert await document.photo.read() == b"x"


async def test_on_delete_delete_removes_the_files_of_these_fields(database: Database) -> None:
    document = await Deleting(photo=b"a", album=[b"b", b"c"], kept=b"d").save()
    await document.delete()
    assert not document.photo
    assert await contents(database) == (1, 1)
    assert await document.kept.read() == b"d"


async def test_on_delete_delete_works_for_a_document_that_was_loaded_and_replaced(database: Database) -> None:
    await Deleting(photo=b"the old", kept=b"the old").save()
    document = await Deleting.objects.get()
    await document.photo.replace(b"unsaved")
    await document.delete()
    assert await contents(database) == (1, 1)


async def test_deleting_a_deleted_document_keeps_its_files(database: Database) -> None:
    document = await Deleting(photo=b"x").save()
    await Deleting.objects.delete()
    with pytest.raises(gridproxy.DocumentMissing):
        await document.delete()
    assert await document.photo.read() == b"x"


async def test_delete_keeps_a_file_that_was_assigned_and_never_saved(database: Database) -> None:
    somebodys = await Keeping(photo=b"somebody's").save()
    document = await Deleting(photo=b"mine").save()
    document.photo = somebodys.photo.id
    await document.delete()
    assert await somebodys.photo.read() == b"somebody's"


async def test_a_file_of_two_documents_is_never_removed_automatically(database: Database) -> None:
    one = await Deleting(photo=b"shared").save()
    two = await Deleting(photo=one.photo).save()
    assert one.photo is two.photo
    shared = one.photo.id
    await one.delete()
    assert await AsyncGridFile(shared).exists()
    await two.photo.replace(b"replaced")
    await two.save()
    await two.delete()
    assert await AsyncGridFile(shared).exists()
    assert (await contents(database))[0] == 2


async def test_reload_makes_a_new_file_object_if_another_document_holds_the_old_one() -> None:
    one = await Keeping(photo=b"shared").save()
    two = await Keeping(photo=one.photo).save()
    one.photo = None
    await one.save()
    one.photo = two.photo
    await one.reload()
    assert not one.photo
    assert await two.photo.read() == b"shared"


async def test_revert_of_a_shared_file_leaves_the_new_one(database: Database) -> None:
    one = await Keeping(photo=b"the old").save()
    two = await Keeping(photo=one.photo).save()
    await one.photo.replace(b"the new")
    await two.save()
    await one.photo.revert()
    assert await (await Keeping.objects(id=two.id).get()).photo.read() == b"the new"
    assert await (await Keeping.objects(id=one.id).get()).photo.read() == b"the old"
