"""Edits of a stored file's record: set and unset in one step, or not at all."""

from __future__ import annotations

import uuid

import pytest

from gridproxy import BadMetadata, Bucket, DuplicateKey

from ..observing import Database

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


async def test_metadata_are_set_and_unset_in_one_step(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, metadata={"a": 1, "b": {"c": 1}})
    edited = await bucket.update_metadata(info.id, {"a": 2, "d": [1]}, unset=["b"], e=None)
    assert edited.metadata == {"a": 2, "d": [1], "e": None, "sha256": info.sha256}
    assert await bucket.stat(info.id) == edited
    assert (edited.length, edited.upload_date, edited.filename) == (info.length, info.upload_date, info.filename)
    assert await bucket.update_metadata(info.id) == edited
    assert (await bucket.update_metadata(info.id, unset=iter(["a", "never there"]))).metadata.keys() == {
        "d",
        "e",
        "sha256",
    }
    assert (await bucket.update_metadata(info.id, content_type="a/b")).content_type == "a/b"


@pytest.mark.parametrize("metadata", [..., None, {}], ids=repr)
async def test_metadata_that_are_null_or_not_there_can_be_edited(
    bucket: Bucket, database: Database, metadata: object
) -> None:
    legacy = {"_id": 1, "length": 0, "chunkSize": 100, "metadata": metadata}
    await database["fs.files"].insert_one({key: value for key, value in legacy.items() if value is not ...})
    assert (await bucket.update_metadata(1, unset=["a"])).metadata == {}
    assert (await bucket.update_metadata(1, a=1)).metadata == {"a": 1}


async def test_a_value_that_looks_like_an_expression_is_a_value(bucket: Bucket) -> None:
    values = {"path": "$filename", "object": {"$add": [1, 2]}, "list": ["$$ROOT"], "variable": "$$NOW"}
    info = await bucket.upload(b"", metadata=values, filename="a")
    edited = await bucket.update_metadata(info.id, {f"again_{key}": value for key, value in values.items()})
    assert edited.metadata == {**info.metadata, **{f"again_{key}": value for key, value in values.items()}}
    assert (await bucket.rename(info.id, "$filename")).filename == "$filename"
    copy = await bucket.copy(info.id)
    assert copy.metadata == edited.metadata


async def test_an_edit_that_cannot_be_stored_changes_nothing(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, metadata={"a": 1})
    for refused, match in (
        ({"changes": {"a.b": 1}}, "a.b"),
        ({"changes": {"$set": 1}}, "set"),
        ({"unset": ["a.b"]}, "a.b"),
        ({"unset": ["sha256"]}, "sha256"),
        ({"sha256": "00"}, "sha256"),
        ({"unset": "a"}, "iterable of keys"),
        ({"changes": {"a": 2}, "unset": ["a"]}, "set and unset at once"),
        ({"value": object()}, "cannot be stored"),
        ({"value": uuid.uuid4()}, "cannot be stored"),
        ({"value": 2**70}, "cannot be stored"),
        ({"value": "\udc80"}, "cannot be stored"),
    ):
        with pytest.raises(BadMetadata, match=match):
            await bucket.update_metadata(info.id, **refused)
    with pytest.raises(DuplicateKey):
        await bucket.update_metadata(info.id, {"a": 2}, a=2)
    assert await bucket.stat(info.id) == info
