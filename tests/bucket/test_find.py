"""Files found by their records: find, names and revisions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from gridproxy import BadOption, Bucket, CorruptFile, FileMissing

from ..observing import Database
from .revisions import all_files, dated

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


# Finding


async def test_find_sorts_skips_and_limits(bucket: Bucket) -> None:
    for number, name in enumerate(["c", "a", "d", "b"]):
        await bucket.upload(b"x" * number, filename=name, metadata={"odd": bool(number % 2)})

    async def names(*args: Any, **more: Any) -> str:
        return "".join([info.filename or "" async for info in bucket.find(*args, **more)])

    assert sorted(await names()) == ["a", "b", "c", "d"]
    assert await names(sort="filename") == "abcd"
    assert await names(sort="-filename") == "dcba"
    assert await names(sort=[("metadata.odd", 1), ("filename", -1)]) == "dcba"
    assert await names(sort="length", skip=1) == "adb"
    assert await names(sort="length", limit=2) == "ca"
    assert await names(sort="length", skip=1, limit=2) == "ad"
    assert await names({"metadata.odd": True}, sort="filename") == "ab"
    assert await names({"filename": {"$in": ["a", "d"]}}, sort="filename") == "ad"
    assert await names({"filename": "x"}) == ""


async def test_find_shows_expired_files_too_and_may_be_left_half_way(bucket: Bucket) -> None:
    await bucket.upload(b"", filename="expired", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    await bucket.upload(b"", filename="a")
    found = bucket.find(sort="filename")
    assert (await anext(found)).filename == "a"
    assert (await anext(found)).expired()
    await found.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_find_names_the_record_that_cannot_be_read(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": "bad", "length": "long"})
    with pytest.raises(CorruptFile, match=r"'bad'.*length='long'"):
        await all_files(bucket)


# Names and revisions


async def test_revisions_count_from_the_oldest_and_from_the_newest(bucket: Bucket) -> None:
    ids = await dated(bucket, "a", 3)
    await bucket.upload(b"", filename="other")
    for revision, id in ((0, ids[0]), (1, ids[1]), (2, ids[2]), (-1, ids[2]), (-2, ids[1]), (-3, ids[0])):
        file = await bucket.by_name("a", revision)
        assert file.id == id
        assert file.info == await bucket.stat(id)
    newest = await bucket.by_name("a")
    assert await newest.read() == b"revision 2"
    assert newest == bucket.file(ids[2])


@pytest.mark.parametrize(("filename", "revision"), [("a", 3), ("a", -4), ("b", 0)])
async def test_a_missing_revision_raises_file_missing(bucket: Bucket, filename: str, revision: int) -> None:
    await dated(bucket, "a", 3)
    with pytest.raises(FileMissing, match=f"the name {filename!r} and the revision {revision}"):
        await bucket.by_name(filename, revision)


@pytest.mark.parametrize("filename", ["b", ""])
async def test_an_unknown_filename_raises_without_naming_a_revision(bucket: Bucket, filename: str) -> None:
    await dated(bucket, "a", 3)
    with pytest.raises(FileMissing, match=f"no file in .* has the name {filename!r}$"):
        await bucket.by_name(filename)


@pytest.mark.parametrize("revision", ["0", 1.0, None, True], ids=repr)
async def test_a_revision_is_a_whole_number(bucket: Bucket, revision: Any) -> None:
    with pytest.raises(BadOption, match="revision is a whole number"):
        await bucket.by_name("a", revision)


async def test_an_expired_revision_does_not_count(bucket: Bucket, database: Database) -> None:
    ids = await dated(bucket, "a", 3)
    await database["fs.files"].update_one({"_id": ids[2]}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    await database["fs.files"].update_one({"_id": ids[0]}, {"$set": {"expires_at": datetime(2999, 1, 1, tzinfo=UTC)}})
    assert (await bucket.by_name("a")).id == ids[1]
    assert (await bucket.by_name("a", -2)).id == ids[0]
    with pytest.raises(FileMissing):
        await bucket.by_name("a", -3)


async def test_a_filename_is_compared_as_a_value(bucket: Bucket) -> None:
    await bucket.upload(b"", filename="a")
    await bucket.upload(b"", filename="a/b/../c.txt")
    await bucket.upload(b"", filename="$set")
    assert (await bucket.by_name("a/b/../c.txt")).filename == "a/b/../c.txt"
    assert (await bucket.by_name("$set")).filename == "$set"
    with pytest.raises(FileMissing):
        await bucket.by_name(".*")
    for name in ({"$gt": ""}, re.compile(".*"), None, "a\0"):
        for call in (bucket.by_name, bucket.delete_by_name):
            with pytest.raises(BadOption, match="filename"):
                await call(name)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(BadOption, match="filename"):
            await bucket.rename_by_name(name, "b")  # type: ignore[arg-type]  # the same
        with pytest.raises(BadOption, match="filename"):
            await bucket.rename_by_name("a", name)  # type: ignore[arg-type]  # the same
    assert len(await all_files(bucket)) == 3


async def test_renaming_changes_one_file_or_every_revision(bucket: Bucket) -> None:
    ids = await dated(bucket, "a", 3)
    info = await bucket.rename(ids[0], "b")
    assert (info.id, info.filename) == (ids[0], "b")
    assert await bucket.stat(ids[0]) == info
    assert await bucket.rename_by_name("a", "c") == 2
    assert [info.id for info in await all_files(bucket, {"filename": "c"}, sort="uploadDate")] == ids[1:]
    assert await bucket.rename_by_name("c", "c") == 2
    with pytest.raises(FileMissing, match=r"no file in .* has the name 'a'"):
        await bucket.rename_by_name("a", "c")
    with pytest.raises(BadOption, match="NUL"):
        await bucket.rename(ids[0], "a\0b")
