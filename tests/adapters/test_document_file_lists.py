"""FileField: its limits, lists of files, and fields that other code has written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileMissing, TooLarge, UploadInProgress, ValidationError
from gridproxy.adapters.document import Document, FileField, ListField

from ..observing import Database, contents, observed, orphans
from .zoo import Animal, found, stored

pytestmark = pytest.mark.usefixtures("connected")


# Limits


class Limited(Document):
    photo = FileField(max_size=10)
    album = ListField(FileField(max_size=10))


@pytest.mark.parametrize("way", ["put", "new_file", "assign", "constructor", "list", "adopted", "staged"])
async def test_max_size_stops_at_the_first_byte_over_it_and_stores_nothing(way: str, database: Database) -> None:
    limited = Limited()
    with pytest.raises(TooLarge) as caught:
        if way == "put":
            await limited.photo.put(b"x" * 11)
        elif way == "new_file":
            async with limited.photo.new_file():
                limited.photo.write(b"x" * 10)
                limited.photo.write(b"x")
        elif way == "assign":
            limited.photo = iter([b"x" * 10, b"x"])
            await limited.save()
        elif way == "constructor":
            await Limited(photo=b"x" * 11).save()
        elif way == "list":
            limited.album.append(b"x" * 11)
            await limited.save()
        elif way == "adopted":
            limited.photo = AsyncGridFile()
            await limited.photo.put(b"x" * 11)
        else:
            staged = await Bucket(database).stage(b"x" * 11)
            try:
                await limited.photo.put(staged)
            finally:
                await Bucket(database).discard(staged)
    assert caught.value.limit == 10
    assert await contents(database) == (0, 0)
    assert await Limited.objects.count() == 0
    await Limited(photo=b"x" * 10, album=[b"x" * 10]).save()


# Lists of files


async def test_a_list_of_files_accepts_content_in_place(tmp_path: Path, database: Database) -> None:
    (tmp_path / "third.txt").write_bytes(b"third")
    animal = await stored(album=[b"first"])
    album = animal.album
    album.append(b"second")
    album.append(tmp_path / "third.txt")
    album.append(iter([b"fo", b"urth"]))
    album.insert(0, None)
    await animal.save()
    assert animal.album is album
    assert [each.id is None for each in album] == [True, False, False, False, False]
    assert [await each.read() for each in (await found()).album[1:]] == [b"first", b"second", b"third", b"fourth"]
    assert not (await found()).album[0]
    assert await contents(database) == (4, 4)


async def test_content_put_into_a_list_during_a_save_is_stored(database: Database) -> None:
    animal = Animal()

    async def content() -> AsyncIterator[bytes]:
        animal.album.append(b"meanwhile")
        yield b"first"

    animal.album.append(content())
    await animal.save()
    assert [await each.read() for each in (await found()).album] == [b"first", b"meanwhile"]
    assert await contents(database) == (2, 2)


async def test_files_of_a_list_are_replaced_like_others(database: Database) -> None:
    animal = await stored(album=[b"first", b"second"])
    await animal.album[1].replace(b"another second")
    assert await (await found()).album[1].read() == b"second"
    await animal.save()
    assert [await each.read() for each in (await found()).album] == [b"first", b"another second"]
    assert await contents(database) == (2, 2)


async def test_removing_a_file_from_a_list_keeps_the_file(database: Database) -> None:
    animal = await stored(album=[b"first", b"second"])
    taken = animal.album.pop(0)
    await animal.save()
    assert [await each.read() for each in (await found()).album] == [b"second"]
    assert await taken.read() == b"first"
    animal.album = [taken]
    animal.album.append(b"third")
    await animal.save()
    assert [await each.read() for each in (await found()).album] == [b"first", b"third"]
    animal.album = None
    await animal.save()
    assert (await found()).album == []
    assert (await contents(database))[0] == 3


@pytest.mark.parametrize("bad", [7, "no id", {"$gt": ""}])
async def test_a_value_refused_by_a_list_of_files_is_named_by_its_index(bad: Any, database: Database) -> None:
    with pytest.raises(ValidationError) as caught:
        Animal(album=[b"first", bad])
    assert caught.value.field == "album.1"
    animal = await stored(album=[b"first"])
    animal.album.append(bad)
    with pytest.raises(ValidationError) as again:
        await animal.save()
    assert again.value.field == "album.1"
    assert len((await found()).album) == 1


async def test_content_is_refused_as_a_list_of_files() -> None:
    with pytest.raises(ValidationError, match="list is needed"):
        Animal(album=b"content")


async def test_a_list_with_open_files_is_not_saved(database: Database) -> None:
    animal = await stored(album=[None])
    async with animal.album[0].new_file():
        with pytest.raises(UploadInProgress, match="album"):
            await animal.save()
    await animal.save()
    assert await (await found()).album[0].read() == b""


class Nested(Document):
    pages = ListField(ListField(FileField(on_delete="delete")))


async def test_lists_of_lists_of_files_work_too(database: Database) -> None:
    book = await Nested(pages=[[b"1a", b"1b"], [b"2a"]]).save()
    await book.pages[1][0].replace(b"2A")
    book.pages[0].append(b"1c")
    other = await Nested.objects.get()
    assert await other.pages[1][0].read() == b"2a"
    await book.save()
    other = await Nested.objects.get()
    assert [[await each.read() for each in page] for page in other.pages] == [[b"1a", b"1b", b"1c"], [b"2A"]]
    assert await contents(database) == (4, 4)
    await other.delete()
    assert await contents(database) == (0, 0)


# What others stored


async def test_a_single_id_in_a_list_field_is_loaded_and_kept_as_it_is(database: Database) -> None:
    id = ObjectId()
    await database["animal"].insert_one({"album": id})
    animal = await found()
    animal.genus = "Marmota"
    await animal.save()
    raw = await database["animal"].find_one({})
    assert raw is not None
    assert raw["album"] == id


async def test_a_field_that_points_to_a_missing_file_raises_file_missing(database: Database) -> None:
    await database["animal"].insert_one({"photo": ObjectId()})
    animal = await found()
    with pytest.raises(FileMissing):
        await animal.photo.read()
    await animal.photo.replace(b"now it does")
    await animal.save()
    assert await (await found()).photo.read() == b"now it does"
    assert await orphans(database) == []


async def test_attribute_access_to_a_field_sends_no_query(mongodb_uri: str, database: Database) -> None:
    await stored(photo=b"x", album=[b"y"])
    async with observed(mongodb_uri, database.name) as (watched, commands):
        with gridproxy.using(watched):
            animal = await found()
            commands.clear()
            assert animal.photo
            assert animal.album[0]
            assert animal.photo.id
            repr(animal)
            await asyncio.sleep(0)
            assert commands.seen == []
