"""AsyncGridFile and its record: delete, stat, exists, edits, copies, verification, and the synchronous properties."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from gridproxy import (
    AsyncGridFile,
    BadMetadata,
    BadOption,
    Bucket,
    CorruptFile,
    DuplicateKey,
    FileAlreadyStored,
    FileMissing,
    InfoNotLoaded,
)

from ..observing import Database, contents

PROPERTIES = [
    "filename",
    "content_type",
    "length",
    "upload_date",
    "metadata",
    "chunk_size",
    "sha256",
    "etag",
]


pytestmark = pytest.mark.usefixtures("connected")


async def stored(data: bytes = b"0123456789", **more: Any) -> AsyncGridFile:
    file = AsyncGridFile()
    await file.put(data, **more)
    return file


# Synchronous properties


async def test_every_field_of_the_record_is_a_property() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    file = await stored(filename="marmot.jpg", chunk_size=4, owner=7)
    digest = hashlib.sha256(b"0123456789").hexdigest()
    assert isinstance(file.id, ObjectId)
    assert file.info is not None
    assert file.filename == "marmot.jpg"
    assert file.content_type == "image/jpeg"
    assert file.length == 10
    assert file.upload_date is not None
    assert before < file.upload_date < datetime.now(UTC) + timedelta(seconds=1)
    assert file.upload_date.tzinfo is UTC
    assert file.metadata == {"content_type": "image/jpeg", "owner": 7, "sha256": digest}
    assert file.chunk_size == 4
    assert file.sha256 == digest
    assert file.etag == file.info.etag
    assert file.closed
    with pytest.raises(TypeError):
        file.metadata["owner"] = 8  # type: ignore[index]


@pytest.mark.parametrize("name", PROPERTIES)
async def test_a_field_of_an_unknown_record_raises_with_the_call_to_make(name: str) -> None:
    id = (await stored()).id
    file = AsyncGridFile(id)
    assert file.info is None
    with pytest.raises(InfoNotLoaded, match=rf"{name} .*stat\(\)"):
        getattr(file, name)
    loaded = AsyncGridFile(id)
    await loaded.stat()
    getattr(loaded, name)


@pytest.mark.parametrize("call", ["read", "stat", "verify", "readline", "exists"])
async def test_info_is_known_after_any_read(call: str) -> None:
    original = await stored()
    file = AsyncGridFile(original.id)
    await getattr(file, call)()
    assert file.info == original.info


async def test_the_date_is_aware_whatever_the_databases_codec_options(database: Database) -> None:
    file = await stored()
    for aware in (True, False):
        other = database.with_options(codec_options=database.codec_options.with_options(tz_aware=aware))
        found = AsyncGridFile(file.id, bucket=Bucket(other))
        info = await found.stat()
        assert info.upload_date == file.upload_date
        assert info.upload_date is not None
        assert info.upload_date.tzinfo is UTC


async def test_a_bucket_without_checksum_stores_none_and_has_another_etag(database: Database) -> None:
    file = AsyncGridFile(bucket=Bucket(database, checksum=None))
    await file.put(b"x")
    assert file.sha256 is None
    assert "sha256" not in file.metadata
    assert file.etag is not None
    assert file.etag.startswith('"')
    assert file.etag == (await file.stat()).etag


async def test_fields_of_other_writers_at_the_top_of_the_record_are_extra(database: Database) -> None:
    file = await stored()
    legacy = {"contentType": "image/x-old", "md5": "abc", "aliases": ["a"], "proprietary": 1}
    await database["fs.files"].update_one({"_id": file.id}, {"$set": legacy, "$unset": {"metadata": 1, "filename": 1}})
    info = await file.stat()
    assert dict(info.extra) == legacy
    assert file.content_type == "image/x-old"
    assert file.metadata == {}
    assert file.filename is None


# stat, exists


async def test_stat_and_exists_query_the_server() -> None:
    file = await stored(filename="old")
    await AsyncGridFile(file.id).rename("new")
    assert file.filename == "old"
    assert (await file.stat()).filename == "new"
    assert file.filename == "new"
    assert await file.exists()
    await AsyncGridFile(file.id).delete()
    assert not await file.exists()
    with pytest.raises(FileMissing):
        await file.stat()
    assert not await AsyncGridFile().exists()


# delete


async def test_delete_removes_the_file_and_empties_the_proxy(database: Database) -> None:
    file = await stored(chunk_size=3)
    await file.delete()
    assert not file
    assert file.id is None
    assert file.info is None
    assert await contents(database) == (0, 0)


async def test_delete_of_an_empty_proxy_or_a_missing_file_has_no_effect() -> None:
    file = await stored()
    other = AsyncGridFile(file.id)
    await other.delete()
    await other.delete()
    await file.delete()
    await file.delete()
    assert not file


async def test_delete_of_a_missing_file_clears_stray_chunks(database: Database) -> None:
    file = await stored(chunk_size=3)
    await database["fs.files"].delete_one({"_id": file.id})
    await file.delete()
    assert await contents(database) == (0, 0)


async def test_a_proxy_can_be_filled_again_after_delete() -> None:
    file = await stored()
    await file.delete()
    await file.put(b"again")
    assert await file.read() == b"again"


# Edits


async def test_update_metadata_sets_and_unsets_in_one_step(database: Database) -> None:
    file = await stored(owner=7, camera="X100", content_type="image/jpeg")
    info = await file.update_metadata({"owner": 8, "tags": ["a"]}, unset=["camera"], rating=5)
    assert info == file.info == await file.stat()
    assert {key: value for key, value in info.metadata.items() if key != "sha256"} == {
        "content_type": "image/jpeg",
        "owner": 8,
        "tags": ["a"],
        "rating": 5,
    }
    assert await file.read() == b"0123456789"
    await file.verify()


async def test_update_metadata_of_nothing_changes_nothing() -> None:
    file = await stored(owner=7)
    assert (await file.update_metadata()).metadata["owner"] == 7
    assert (await file.update_metadata({})).metadata["owner"] == 7


async def test_update_metadata_stores_expressions_as_values() -> None:
    file = await stored()
    info = await file.update_metadata({"price": "$5", "nested": {"$gt": 1, "a.b": 2}})
    assert info.metadata["price"] == "$5"
    assert info.metadata["nested"] == {"$gt": 1, "a.b": 2}


@pytest.mark.parametrize("legacy", [{"$set": {"metadata": None}}, {"$unset": {"metadata": 1}}])
async def test_a_legacy_null_metadata_becomes_a_dict(legacy: dict[str, Any], database: Database) -> None:
    file = await stored()
    await database["fs.files"].update_one({"_id": file.id}, legacy)
    assert (await file.stat()).metadata == {}
    assert (await file.update_metadata(owner=7)).metadata == {"owner": 7}
    record = await database["fs.files"].find_one({"_id": file.id})
    assert record is not None
    assert record["metadata"] == {"owner": 7}


@pytest.mark.parametrize("key", ["a.b", "$set", "", "nul\0", "sha256", 7])
async def test_keys_that_could_not_be_edited_later_are_refused(key: Any, database: Database) -> None:
    file = await stored(owner=7)
    before = await file.stat()
    with pytest.raises(BadMetadata):
        await file.update_metadata({key: 1})
    with pytest.raises(BadMetadata):
        await file.update_metadata(unset=[key])
    with pytest.raises(BadMetadata):
        await AsyncGridFile().put(b"x", metadata={key: 1})
    assert await file.stat() == before
    assert await contents(database) == (1, 1)


async def test_contradictory_edits_are_refused() -> None:
    file = await stored(owner=7)
    with pytest.raises(DuplicateKey):
        await file.update_metadata({"owner": 1}, owner=2)
    with pytest.raises(BadMetadata, match="set and unset"):
        await file.update_metadata({"owner": 1}, unset=["owner"])
    with pytest.raises(BadMetadata, match="iterable"):
        await file.update_metadata(unset="owner")
    with pytest.raises(BadMetadata, match="cannot be stored"):
        await file.update_metadata(owner=object())
    assert (await file.stat()).metadata["owner"] == 7


async def test_rename_sets_the_name_and_slashes_are_kept() -> None:
    file = await stored(filename="marmot.jpg", owner=7)
    info = await file.rename("albums/../2024/marmot.png")
    assert info == file.info == await file.stat()
    assert file.filename == "albums/../2024/marmot.png"
    assert file.content_type == "image/jpeg"
    assert file.metadata["owner"] == 7


@pytest.mark.parametrize("filename", ["nul\0inside", 7, None, b"bytes"])
async def test_rename_refuses_invalid_names(filename: Any) -> None:
    file = await stored(filename="marmot.jpg")
    with pytest.raises(BadOption):
        await file.rename(filename)
    assert (await file.stat()).filename == "marmot.jpg"


async def test_edits_of_a_missing_file_raise_file_missing() -> None:
    file = AsyncGridFile("nowhere")
    with pytest.raises(FileMissing):
        await file.rename("x")
    with pytest.raises(FileMissing):
        await file.update_metadata(x=1)
    with pytest.raises(FileMissing):
        await file.update_metadata()


# copy, verify


async def test_copy_is_a_second_file_with_the_same_bytes_and_record(database: Database) -> None:
    file = await stored(b"0123456789" * 10, filename="marmot.jpg", chunk_size=7, owner=7)
    copied = await file.copy()
    assert copied != file
    assert copied.info is not None
    assert (copied.filename, copied.content_type, copied.chunk_size) == ("marmot.jpg", "image/jpeg", 7)
    assert copied.metadata == file.metadata
    await copied.verify()
    await file.delete()
    assert await copied.read() == b"0123456789" * 10
    assert await contents(database) == (1, 15)


async def test_copy_sets_the_given_values_and_keeps_the_rest() -> None:
    file = await stored(filename="marmot.jpg", owner=7, rating=3, expires_after=3600)
    copied = await file.copy(filename="other.png", id="another", rating=5, content_type="image/png")
    assert copied.id == "another"
    assert (copied.filename, copied.content_type) == ("other.png", "image/png")
    assert (copied.metadata["owner"], copied.metadata["rating"]) == (7, 5)
    assert copied.sha256 == file.sha256
    assert copied.info is not None
    assert copied.info.expires_at is None
    bare = await file.copy(metadata={"only": "this"})
    assert {key for key in bare.metadata if key not in ("sha256", "content_type")} == {"only"}


async def test_copy_with_a_used_id_keeps_the_file_of_this_id(database: Database) -> None:
    taken = await stored(b"taken", id="taken")
    file = await stored(b"0123456789", chunk_size=3)
    with pytest.raises(FileAlreadyStored):
        await file.copy(id="taken")
    assert await taken.read() == b"taken"
    assert await contents(database) == (2, 5)


async def test_copy_of_an_incomplete_file_stores_nothing(database: Database) -> None:
    file = await stored(chunk_size=3)
    await database["fs.chunks"].delete_one({"files_id": file.id, "n": 2})
    with pytest.raises(CorruptFile):
        await file.copy()
    assert await contents(database) == (1, 3)


async def test_verify_returns_the_info_of_an_intact_file() -> None:
    file = await stored(b"0123456789" * 100, chunk_size=7)
    assert await AsyncGridFile(file.id).verify() == file.info
    empty = await stored(b"")
    assert (await empty.verify()).length == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"delete": {"n": 1}}, "chunk 1 of 4 is missing"),
        ({"update": ({"n": 1}, {"$set": {"data": b"34"}})}, "chunk 1 has 2 bytes instead of 3"),
        ({"update": ({"n": 3}, {"$set": {"data": b"9xx"}})}, "chunk 3 has 3 bytes instead of 1"),
        ({"update": ({"n": 1}, {"$set": {"data": b"XXX"}})}, "SHA-256"),
        ({"insert": {"n": 4, "data": b"more"}}, "surplus chunk 4 of 4 bytes"),
    ],
)
async def test_verify_names_the_damage(change: dict[str, Any], reason: str, database: Database) -> None:
    file = await stored(chunk_size=3)
    chunks = database["fs.chunks"]
    for kind, what in change.items():
        if kind == "delete":
            await chunks.delete_one({"files_id": file.id, **what})
        elif kind == "update":
            await chunks.update_one({"files_id": file.id, **what[0]}, what[1])
        else:
            await chunks.insert_one({"files_id": file.id, **what})
    with pytest.raises(CorruptFile, match=reason) as caught:
        await file.verify()
    assert caught.value.id == file.id
