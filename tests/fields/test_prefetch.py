"""prefetch: infos, and small contents, of many documents' files in two queries."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from pydantic import BaseModel

import gridproxy
from gridproxy import AsyncGridFile, BadOption, Bucket, FileMissing, InfoNotLoaded, prefetch
from gridproxy.adapters.document import Document, FileField, ListField
from gridproxy.gridfs.records.file_info import utc_now
from gridproxy.gridfs.store.collections import Store

from ..observing import Commands, Database, observed

pytestmark = pytest.mark.usefixtures("connected")


class Animal(Document):
    photo = FileField()
    sound = FileField(bucket="sounds")
    album = ListField(FileField())


class Owner(BaseModel):
    photo: AsyncGridFile
    album: list[AsyncGridFile] = []
    by_name: dict[str, AsyncGridFile] = {}


@dataclass
class Home:
    owner: Owner | None = None
    photo: AsyncGridFile = field(default_factory=AsyncGridFile)


def names(commands: Commands) -> list[str]:
    """Return the queries and their collections."""
    return [f"{name} {command[name]}" for name, command in commands.seen]


async def ids(database: Database, count: int, bucket: str = "fs") -> list[Any]:
    infos = await Bucket(database, bucket).upload_many({f"{n}.txt": str(n).encode() for n in range(count)})
    return [info.id for info in infos]


async def test_a_page_of_documents_takes_two_queries(mongodb_uri: str, database: Database) -> None:
    for id in await ids(database, 100):
        await database["animal"].insert_one({"photo": id, "album": []})
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            animals = await Animal.objects.to_list()
            with pytest.raises(InfoNotLoaded):
                animals[0].photo.filename  # noqa: B018  # the property is what is tried
            commands.clear()
            await prefetch(animals, "photo")
            assert names(commands) == ["find fs.files"]
            assert [animal.photo.filename for animal in animals] == [f"{n}.txt" for n in range(100)]
            commands.clear()
            await prefetch(animals, "photo")
            assert names(commands) == []
            await prefetch(animals, "photo", content=True)
            assert names(commands) == ["find fs.chunks"]
            commands.clear()
            assert [await animal.photo.read() for animal in animals] == [str(n).encode() for n in range(100)]
            assert names(commands) == []


async def test_each_bucket_takes_a_query(mongodb_uri: str, database: Database) -> None:
    photos, sounds = await ids(database, 4), await ids(database, 2, "sounds")
    for at in (0, 1):
        document = {"photo": photos[at], "sound": sounds[at], "album": [photos[at + 2], photos[at]]}
        await database["animal"].insert_one(document)
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            animals = await Animal.objects.to_list()
            commands.clear()
            await prefetch(animals, "photo", "sound", "album", content=True)
            assert sorted(names(commands)) == [
                "find fs.chunks",
                "find fs.files",
                "find sounds.chunks",
                "find sounds.files",
            ]
            commands.clear()
            contents = [[await file.read() for file in (each.sound, *each.album)] for each in animals]
            assert contents == [[b"0", b"2", b"0"], [b"1", b"3", b"1"]]
            assert names(commands) == []


async def test_nested_places_of_any_kind_of_document(database: Database) -> None:
    files = [AsyncGridFile(id) for id in await ids(database, 9)]
    owner = Owner(photo=files[0], album=files[1:3], by_name={"best": files[3]})
    plain = SimpleNamespace(owner={"photo": files[4]}, owners=[Owner(photo=files[5]), {"photo": files[6]}])
    await prefetch([Home(owner), Home(), plain], "owner.photo")
    assert [file.info is not None for file in files] == [True, *[False] * 3, True, *[False] * 4]
    await prefetch((each for each in [Home(owner)]), "owner.album.1", "owner.by_name", "owner.album.7")
    assert [file.info is not None for file in files[1:4]] == [False, True, True]
    await prefetch([plain], "owners.photo", "owners.1.photo")
    assert [file.info is not None for file in files[5:7]] == [True, True]
    await prefetch([{"photo": files[7]}, {}, {"photo": None}], "photo")
    assert files[7].filename == "7.txt"
    assert files[8].info is None


async def test_empty_missing_and_expired_files_and_odd_ids_are_left_out(database: Database) -> None:
    gone = AsyncGridFile(ObjectId())
    bucket = Bucket(database)
    await bucket.upload(b"x", id={"a": 1})
    expired = AsyncGridFile((await bucket.upload(b"x", expires_at=utc_now())).id)
    good = AsyncGridFile((await bucket.upload(b"good")).id)
    files = [AsyncGridFile(), gone, expired, AsyncGridFile({"a": 1}), good]
    await prefetch([{"files": files}], "files", content=True)
    assert [file.info is not None for file in files] == [False, False, False, False, True]
    with pytest.raises(FileMissing):
        await gone.read()
    assert await files[3].read() == b"x"


async def test_a_file_that_expired_since_keeps_no_content(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await Bucket(database).upload(b"x", expires_after=timedelta(seconds=100))
    file = AsyncGridFile(info.id)
    await prefetch([{"file": file}], "file")
    await database["fs.files"].update_one({}, {"$set": {"expires_at": utc_now()}})
    with pytest.raises(FileMissing):
        await file.stat()
    soon = AsyncGridFile((await Bucket(database).upload(b"x", expires_at=utc_now() + timedelta(hours=1))).id)
    await soon.stat()
    monkeypatch.setattr(Store, "now", lambda _: utc_now() + timedelta(hours=2))
    await prefetch([{"file": soon}], "file", content=True)
    with pytest.raises(FileMissing):
        await soon.read()


async def test_contents_are_kept_for_one_read_to_the_end(mongodb_uri: str, database: Database) -> None:
    [id] = [(await Bucket(database).upload(b"line one\nline two\n", chunk_size=5)).id]
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            file = AsyncGridFile(id)
            await prefetch([{"file": file}], "file", content=True)
            commands.clear()
            assert await file.readline() == b"line one\n"
            assert await file.read(4) == b"line"
            assert await file.seek(-4, 2) == 14
            assert await file.read() == b"two\n"
            assert await file.read() == b""
            assert names(commands) == []
            await file.seek(0)
            assert await file.read() == b"line one\nline two\n"
            assert names(commands) != []


async def test_a_position_in_the_middle_is_kept(database: Database) -> None:
    file = AsyncGridFile((await Bucket(database).upload(b"0123456789")).id)
    assert await file.read(4) == b"0123"
    await prefetch([{"file": file}], "file", content=True)
    assert await file.read() == b"456789"


async def test_large_contents_are_not_fetched_and_all_together_are_bounded(
    mongodb_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["gridproxy.fields.prefetch"]  # the function has its name in the package
    monkeypatch.setattr(module, "RANGE_BYTES", 100)
    monkeypatch.setattr(module, "_SMALL_BYTES", 50)
    infos = await Bucket(database).upload_many([b"a" * 51, b"b" * 50, b"", b"c" * 40, b"d" * 11, b"e" * 10])
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            files = [AsyncGridFile(info.id) for info in infos]
            await prefetch([{"files": files}], "files", content=True)
            free = []
            for file in files:
                commands.clear()
                await file.read()
                free.append(not commands.seen)
    assert free == [False, True, False, True, False, True]


async def test_a_damaged_file_does_not_affect_others(database: Database) -> None:
    bad, good = [AsyncGridFile(id) for id in await ids(database, 2)]
    await database["fs.chunks"].delete_one({"files_id": bad.id})
    await prefetch([{"files": [bad, good]}], "files", content=True)
    assert await good.read() == b"1"
    with pytest.raises(gridproxy.CorruptFile):
        await bad.read()


async def test_more_than_200_files_take_more_queries(mongodb_uri: str, database: Database) -> None:
    files = [AsyncGridFile(id) for id in await ids(database, 201)]
    async with observed(mongodb_uri, database.name) as (other, commands):
        with gridproxy.using(other):
            await prefetch([{"files": files}], "files", content=True)
            assert names(commands) == ["find fs.files"] * 2 + ["find fs.chunks"] * 2
    assert all(file.info for file in files)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ((), "names of the fields"),
        (("",), "dotted path"),
        (("photo..x",), "dotted path"),
        ((7,), "dotted path"),
        (("foto",), "has no 'foto'"),
        (("owner.foto",), "has no 'foto'"),
        (("owner",), "leads to .*Owner"),
    ],
)
async def test_a_path_without_a_file_is_named(fields: Any, match: str) -> None:
    with pytest.raises(BadOption, match=match):
        await prefetch([Home(Owner(photo=AsyncGridFile()))], *fields)


async def test_a_file_that_is_being_written_is_left_alone() -> None:
    file = AsyncGridFile()
    async with file.new_file():
        await prefetch([{"file": file}], "file", content=True)
    assert file
