"""AsyncGridFile.put and replace: what is stored, under which names, and what a failure leaves."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect
from starlette.datastructures import Headers, UploadFile

from gridproxy import (
    AsyncGridFile,
    BadOption,
    Bucket,
    DuplicateKey,
    FileAlreadyStored,
    FileMissing,
    FileOptions,
    TooLarge,
)
from gridproxy.gridfs.store.collections import Store

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")


# What put stores


async def test_put_returns_the_info_and_makes_the_proxy_true() -> None:
    photo = AsyncGridFile()
    assert not photo
    info = await photo.put(b"some bytes", filename="marmot.jpg")
    assert photo
    assert photo.id == info.id
    assert photo.info == info
    assert (info.filename, info.length) == ("marmot.jpg", 10)


async def test_content_type_and_further_keywords_are_stored_in_metadata(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"x", content_type="image/jpeg", metadata={"owner": 7}, camera="X100", iso=[100, 200])
    assert {key: value for key, value in photo.metadata.items() if key != "sha256"} == {
        "content_type": "image/jpeg",
        "owner": 7,
        "camera": "X100",
        "iso": [100, 200],
    }
    record = await database["fs.files"].find_one({"_id": photo.id})
    assert record is not None
    assert record["metadata"] == photo.metadata
    assert "contentType" not in record


@pytest.mark.parametrize(
    "keywords",
    [
        {"metadata": {"owner": 7}, "owner": 8},
        {"metadata": {"content_type": "image/png"}, "content_type": "image/jpeg"},
    ],
)
async def test_a_duplicate_metadata_key_is_an_error(keywords: dict[str, Any], database: Database) -> None:
    with pytest.raises(DuplicateKey) as caught:
        await AsyncGridFile().put(b"x", **keywords)
    assert isinstance(caught.value, TypeError)
    assert await contents(database) == (0, 0)


async def test_put_on_a_stored_file_raises_and_keeps_it(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"first")
    with pytest.raises(FileAlreadyStored, match="replace"):
        await photo.put(b"second")
    assert await photo.read() == b"first"
    assert await contents(database) == (1, 1)


# Names and types


async def test_a_path_sets_the_filename_and_the_guessed_type(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "marmot.png"
    path.parent.mkdir()
    path.write_bytes(b"png")
    photo = AsyncGridFile()
    await photo.put(path)
    assert (photo.filename, photo.content_type) == ("marmot.png", "image/png")


async def test_an_open_file_sets_the_filename(tmp_path: Path) -> None:
    path = tmp_path / "marmot.tar.gz"
    path.write_bytes(b"tar")
    photo = AsyncGridFile()
    with open(path, "rb") as file:
        await photo.put(file)
    assert (photo.filename, photo.content_type) == ("marmot.tar.gz", "application/gzip")


async def test_an_upload_sets_the_filename_and_the_declared_type() -> None:
    photo = AsyncGridFile()
    upload = UploadFile(io.BytesIO(b"x"), filename="../marmot", headers=Headers({"content-type": "image/x-marmot"}))
    await photo.put(upload)
    assert (photo.filename, photo.content_type) == ("marmot", "image/x-marmot")
    await upload.close()


async def test_the_number_of_a_temporary_file_is_not_a_filename() -> None:
    photo = AsyncGridFile()
    with tempfile.TemporaryFile() as file:
        assert isinstance(file.name, int)
        file.write(b"x")
        file.seek(0)
        await photo.put(file)
    assert photo.filename is None
    assert photo.content_type is None


async def test_a_spooled_file_without_a_name_has_no_filename() -> None:
    photo = AsyncGridFile()
    with tempfile.SpooledTemporaryFile(max_size=100) as file:
        file.write(b"x")
        file.seek(0)
        await photo.put(file)
    assert photo.filename is None


async def test_a_file_opened_by_its_descriptor_has_no_filename(tmp_path: Path) -> None:
    photo = AsyncGridFile()
    (tmp_path / "marmot.jpg").write_bytes(b"x")
    descriptor = os.open(tmp_path / "marmot.jpg", os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        await photo.put(file)
    assert photo.filename is None


async def test_a_given_filename_wins_and_the_type_is_guessed_by_it(tmp_path: Path) -> None:
    path = tmp_path / "marmot.png"
    path.write_bytes(b"x")
    photo = AsyncGridFile()
    await photo.put(path, filename="albums/2024/marmot.webp")
    assert (photo.filename, photo.content_type) == ("albums/2024/marmot.webp", "image/webp")


async def test_a_given_content_type_wins_over_the_guess() -> None:
    photo = AsyncGridFile()
    await photo.put(b"x", filename="marmot.png", content_type="image/jpeg")
    assert photo.content_type == "image/jpeg"


# Encoding, chunk_size, id, expiry


async def test_a_str_is_encoded_in_utf_8_by_default() -> None:
    photo = AsyncGridFile()
    await photo.put("Zürich")
    assert await photo.read() == "Zürich".encode()
    await photo.replace("Zürich", encoding="utf-16")
    assert await photo.read() == "Zürich".encode("utf-16")


async def test_chunk_size_is_that_of_the_chunks(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"0123456789", chunk_size=4)
    assert photo.chunk_size == 4
    chunks = await database["fs.chunks"].find({"files_id": photo.id}).sort("n").to_list()
    assert [chunk["data"] for chunk in chunks] == [b"0123", b"4567", b"89"]


async def test_the_default_chunk_size_is_255_kib() -> None:
    photo = AsyncGridFile()
    await photo.put(b"x")
    assert photo.chunk_size == 255 * 1024


@pytest.mark.parametrize("id", ["marmot", 7, ObjectId(), {"kind": "marmot", "no": 7}])
async def test_the_given_id_is_used(id: object) -> None:
    photo = AsyncGridFile()
    await photo.put(b"x", id=id)
    assert photo.id == id
    assert await AsyncGridFile(id).read() == b"x"


async def test_a_file_that_has_expired_is_missing() -> None:
    photo = AsyncGridFile()
    await photo.put(b"x", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert not await photo.exists()
    with pytest.raises(FileMissing, match="expired"):
        await photo.read()


async def test_expires_after_is_stored_in_utc_at_the_top_of_the_record(database: Database) -> None:
    photo = AsyncGridFile()
    info = await photo.put(b"x", expires_after=timedelta(hours=1))
    assert info.expires_at is not None
    assert timedelta(minutes=59) < info.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    record = await database["fs.files"].find_one({"_id": photo.id})
    assert record is not None
    assert record["expires_at"].replace(tzinfo=UTC) == info.expires_at
    assert await photo.read() == b"x"


async def test_expires_after_accepts_seconds_but_not_both_options() -> None:
    photo = AsyncGridFile()
    info = await photo.put(b"x", expires_after=3600)
    assert info.expires_at is not None
    with pytest.raises(BadOption, match="only one"):
        await photo.replace(b"x", expires_after=1, expires_at=datetime.now(UTC))


async def test_an_expiry_in_another_zone_is_the_same_time() -> None:
    photo = AsyncGridFile()
    moment = datetime.fromisoformat("2100-01-01T12:00:00+02:00")
    info = await photo.put(b"x", expires_at=moment)
    assert info.expires_at == moment
    assert info.expires_at.tzinfo is UTC


# Progress


@pytest.mark.usefixtures("small_batches")
async def test_progress_is_called_with_the_bytes_done_and_the_bytes_in_all() -> None:
    seen: list[tuple[int, int | None]] = []
    await AsyncGridFile().put(b"0123456789" * 10, chunk_size=4, progress=lambda *told: seen.append(told))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (100, 100)
    assert {total for _, total in seen} == {100}


@pytest.mark.usefixtures("small_batches")
async def test_an_asynchronous_progress_is_awaited() -> None:
    seen: list[tuple[int, int | None]] = []

    async def progress(done: int, total: int | None) -> None:
        await asyncio.sleep(0)
        seen.append((done, total))

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"0123456789"

    await AsyncGridFile().put(blocks(), chunk_size=4, progress=progress)
    assert seen[-1][0] == 100
    assert all(total in (None, 100) for _, total in seen)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("fails_at", [1, 100])
async def test_a_failing_progress_ends_the_upload_and_leaves_nothing(fails_at: int, database: Database) -> None:
    def progress(done: int, total: int | None) -> None:
        if done >= fails_at:
            raise OSError("no terminal")

    photo = AsyncGridFile()
    with pytest.raises(OSError, match="no terminal"):
        await photo.put(b"0123456789" * 10, chunk_size=4, progress=progress)
    assert not photo
    assert await contents(database) == (0, 0)


# Replace


async def test_replace_stores_the_new_file_and_removes_the_old_one_at_once(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old", filename="old.txt", owner=7)
    old = photo.id
    info = await photo.replace(b"the new", filename="new.txt")
    assert photo.id == info.id != old
    assert await photo.read() == b"the new"
    assert photo.filename == "new.txt"
    assert "owner" not in photo.metadata
    assert await contents(database) == (1, 1)


async def test_replace_on_an_empty_proxy_is_a_put() -> None:
    photo = AsyncGridFile()
    await photo.replace(b"x", filename="marmot.jpg")
    assert await photo.read() == b"x"
    assert photo.content_type == "image/jpeg"


async def test_replace_of_a_missing_file_stores_the_new_one(database: Database) -> None:
    photo = AsyncGridFile("never stored")
    await photo.replace(b"x")
    assert await photo.read() == b"x"
    assert await contents(database) == (1, 1)


async def test_a_replace_that_fails_midway_leaves_the_old_file_untouched(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old", filename="old.txt")
    before = photo.info

    def blocks() -> Iterator[bytes]:
        yield b"0123456789" * 1_000_000
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await photo.replace(blocks())
    assert photo.info == before
    assert await photo.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_replace_under_a_taken_id_leaves_both_files(database: Database) -> None:
    other = AsyncGridFile()
    await other.put(b"the other", id="taken")
    photo = AsyncGridFile()
    await photo.put(b"the old")
    with pytest.raises(FileAlreadyStored):
        await photo.replace(b"the new", id="taken")
    assert await photo.read() == b"the old"
    assert await other.read() == b"the other"
    assert await contents(database) == (2, 2)


async def test_replace_under_its_own_id_is_refused_and_loses_nothing(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"the old", id="its own")
    with pytest.raises(FileAlreadyStored):
        await photo.replace(b"the new", id="its own")
    assert await photo.read() == b"the old"
    assert await contents(database) == (1, 1)


async def test_a_file_can_be_the_source_of_its_own_replacement(database: Database) -> None:
    photo = AsyncGridFile()
    await photo.put(b"0123456789" * 1000, filename="marmot.jpg", chunk_size=1000)
    old = photo.id
    await photo.replace(photo, chunk_size=4000)
    assert photo.id != old
    assert await photo.read() == b"0123456789" * 1000
    assert (photo.filename, photo.content_type) == ("marmot.jpg", "image/jpeg")
    assert await contents(database) == (1, 3)


async def test_replacing_twice_by_one_staged_upload_keeps_the_file(database: Database) -> None:
    bucket = Bucket(database)
    staged = await bucket.stage(b"staged", filename="staged.txt")
    photo = AsyncGridFile(bucket=bucket)
    await photo.replace(staged)
    await photo.replace(staged)
    assert photo.id == staged.id
    assert await photo.read() == b"staged"
    assert await contents(database) == (1, 1)


async def test_the_old_file_is_removed_from_the_bucket_of_the_new_one(database: Database) -> None:
    photo = AsyncGridFile(bucket="photos")
    await photo.put(b"the old")
    await photo.replace(b"the new")
    assert await contents(database, "photos") == (1, 1)
    assert await contents(database, "fs") == (0, 0)


async def test_a_failed_removal_of_the_old_file_is_raised_and_the_new_one_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> bool:
        raise AutoReconnect("no primary")

    photo = AsyncGridFile()
    await photo.put(b"the old")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete_record", refused)
        with pytest.raises(AutoReconnect) as caught:
            await photo.replace(b"the new")
    assert "is stored and in use" in caught.value.__notes__[0]
    assert await photo.read() == b"the new"
    assert (await contents(database))[0] == 2


async def test_two_puts_at_once_into_one_proxy_store_one_file(database: Database) -> None:
    photo = AsyncGridFile()
    results = await asyncio.gather(photo.put(b"one"), photo.put(b"two"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["FileInfo", "UploadInProgress"]
    assert await contents(database) == (1, 1)
    assert await photo.read() == b"one"


@pytest.mark.usefixtures("small_batches")
async def test_max_size_stops_at_the_first_byte_over_it_and_stores_nothing(database: Database) -> None:
    options = FileOptions(max_size=50)
    photo = AsyncGridFile(options=options)
    given = 0

    def blocks() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * 4_000_000

    with pytest.raises(TooLarge) as caught:
        await photo.put(blocks())
    assert caught.value.limit == 50
    assert given <= 2  # an endless source was not read to an end that never comes
    with pytest.raises(TooLarge):
        async with photo.new_file(chunk_size=10):
            for _ in range(6):
                await photo.write(b"x" * 10)
    assert await contents(database) == (0, 0)
    await photo.put(b"x" * 50)
    assert photo.length == 50
