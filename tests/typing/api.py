"""What a type checker sees of the public API; never run, but read by mypy and by pyright, both strict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime
from typing import Any, assert_type

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

import gridproxy
from gridproxy import AsyncGridFile, Bucket, DownloadStream, FileInfo, Reader, Staged, Writer
from gridproxy.adapters.document import Document, FileField, IntField, ListField, QuerySet, StringField


class Animal(Document):
    genus = StringField()
    legs = IntField()
    photo = FileField()
    album = ListField(FileField())


async def a_file(file: AsyncGridFile) -> None:
    assert_type(await file.put(b"data", content_type="image/png", reviewed=True), FileInfo)
    assert_type(await file.replace("text", filename="a.txt"), FileInfo)
    assert_type(await file.read(), bytes)
    assert_type(await file.readline(), bytes)
    assert_type(await file.seek(0), int)
    assert_type(file.tell(), int)
    assert_type(await file.read_range(0, 10), bytes)
    assert_type(await file.read_ranges([(0, 1), (2, 3)]), list[bytes])
    assert_type(await file.stat(), FileInfo)
    assert_type(await file.exists(), bool)
    assert_type(await file.verify(), FileInfo)
    assert_type(await file.copy(filename="b"), AsyncGridFile)
    assert_type(await file.update_metadata({"a": 1}, unset=["b"], c=2), FileInfo)
    assert_type(await file.rename("c"), FileInfo)
    assert_type(await file.save_to("path"), FileInfo)
    assert_type(await file.delete(), None)
    assert_type(await file.finalize(), None)
    assert_type(await file.revert(), None)
    assert_type(file.filename, str | None)
    assert_type(file.content_type, str | None)
    assert_type(file.length, int)
    assert_type(file.chunk_size, int)
    assert_type(file.upload_date, datetime | None)
    assert_type(file.metadata, Mapping[str, Any])
    assert_type(file.sha256, str | None)
    assert_type(file.etag, str)
    assert_type(file.info, FileInfo | None)
    assert_type(file.closed, bool)
    assert_type(file.id, object)


async def writing(file: AsyncGridFile) -> None:
    async with file.new_file(replace=True) as bound:
        assert_type(bound, AsyncGridFile)
        assert_type(file.write(b"data"), Awaitable[int])
        assert_type(await file.writelines(["a", b"b"]), int)
    await file.new_file()
    assert_type(await file.close(), None)
    assert_type(await file.abort(), None)


async def reading(file: AsyncGridFile) -> None:
    async with file.open() as reader:
        assert_type(reader, Reader)
        assert_type(await reader.read(1), bytes)
    stream = file.stream(1, 2)
    assert_type(stream, DownloadStream)
    async for block in stream:
        assert_type(block, bytes)
    async for block in file:
        assert_type(block, bytes)


async def a_bucket(database: AsyncDatabase[dict[str, Any]]) -> None:
    bucket = Bucket(database, "photos", checksum=None)
    assert_type(await bucket.upload(b"data"), FileInfo)
    assert_type(await bucket.upload_many({"a": b"1"}), list[FileInfo])
    assert_type(await bucket.read(1), bytes)
    assert_type(await bucket.stat_many([1]), dict[object, FileInfo])
    assert_type(await bucket.read_many([1]), dict[object, bytes])
    assert_type(bucket.find({"filename": "a"}), AsyncIterator[FileInfo])
    assert_type(await bucket.by_name("a"), AsyncGridFile)
    assert_type(bucket.file(1), AsyncGridFile)
    assert_type(await bucket.delete_many([1]), int)
    staged = await bucket.stage(b"data")
    assert_type(staged, Staged)
    assert_type(await bucket.publish(staged), FileInfo)
    async with bucket.open_upload(filename="a") as upload:
        assert_type(upload, Writer)
        assert_type(await upload.close(), FileInfo)


async def documents(client: AsyncMongoClient[dict[str, Any]]) -> None:
    gridproxy.connect(client["zoo"])
    animal = Animal(genus="Marmota")
    assert_type(animal.photo, AsyncGridFile)
    assert_type(animal.genus, str | None)
    assert_type(animal.legs, int | None)
    assert_type(Animal.objects, QuerySet[Animal])
    assert_type(await Animal.objects(genus="Marmota").first(), Animal | None)
    assert_type(await Animal.objects.get(), Animal)
    assert_type(await animal.save(), Animal)
    async for found in Animal.objects.order_by("-genus"):
        assert_type(found, Animal)
    with gridproxy.using(client["other"]):
        pass
