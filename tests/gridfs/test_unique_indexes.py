"""Unique indexes that the application adds to a bucket: their refusals name the index, and nothing is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, UniqueIndexViolation
from gridproxy.gridfs.store.unique_indexes import violated_index
from gridproxy.runtime.capabilities import Feature

from ..adapters.zoo import Animal
from ..faults.whole import stored_files
from ..observing import Database, contents, without

TAKEN = "taken.txt"
LARGE = bytes(range(256)) * 4


async def published(bucket: Bucket) -> None:
    staged = await bucket.stage(b"new", filename=TAKEN)
    try:
        await bucket.publish(staged)
    finally:
        await bucket.discard(staged)


async def written(bucket: Bucket) -> None:
    async with AsyncGridFile(bucket=bucket).new_file(filename=TAKEN) as file:
        await file.write(b"new")


async def replaced(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(b"old", filename="other.txt")
    try:
        await file.replace(b"new", filename=TAKEN)
    finally:
        assert await file.read() == b"old"
        await file.delete()


async def saved(bucket: Bucket) -> None:
    animal = Animal(genus="Marmota", photo=bucket.file((await bucket.upload(b"x", filename="mine", id="mine")).id))
    await animal.save()
    try:
        await animal.photo.replace(b"new", filename=TAKEN)
    finally:
        assert await animal.photo.read() == b"x"
        await bucket.delete("mine")


OPERATIONS: dict[str, Callable[[Bucket], Awaitable[object]]] = {
    "upload": lambda bucket: bucket.upload(b"new", filename=TAKEN),
    "upload of several batches": lambda bucket: bucket.upload(LARGE, filename=TAKEN),
    "upload of nothing": lambda bucket: bucket.upload(b"", filename=TAKEN),
    "upload under an id": lambda bucket: bucket.upload(b"new", filename=TAKEN, id="mine"),
    "upload_many": lambda bucket: bucket.upload_many({"a": b"a", TAKEN: b"new", "b": b"b"}),
    "put": lambda bucket: AsyncGridFile(bucket=bucket).put(b"new", filename=TAKEN),
    "copy": lambda bucket: bucket.copy("first"),
    "copy under an id": lambda bucket: bucket.copy("first", new_id="second"),
    "publish": published,
    "new_file": written,
    "replace": replaced,
    "a document's file": saved,
}


@pytest.mark.usefixtures("small_batches")
async def test_so_it_is_in_a_transaction(bucket: Bucket) -> None:
    await bucket.upload(b"first", filename=TAKEN, id="first")
    await bucket.database["fs.files"].create_index("filename", unique=True)
    with pytest.raises(UniqueIndexViolation, match="filename_1"):
        async with gridproxy.transaction(bucket.database.client) as tx:
            await bucket.upload(b"new", filename=TAKEN, session=tx.session)
    assert await stored_files(bucket.database) == {"first": b"first"}


@pytest.mark.parametrize("bulk_write", [True, False], ids=["bulkWrite", "steps"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.usefixtures("connected", "small_batches")
async def test_a_taken_name_is_a_duplicate_key_that_names_index_and_value(
    bucket: Bucket, operation: Callable[[Bucket], Awaitable[object]], bulk_write: bool
) -> None:
    await bucket.upload(b"first", filename=TAKEN, id="first")
    await bucket.database["fs.files"].create_index("filename", unique=True)
    if not bulk_write:
        without(bucket, Feature.BULK_WRITE)
    with pytest.raises(DuplicateKeyError, match=r"'filename_1' of the bucket 'fs' .*taken\.txt") as caught:
        await operation(bucket)
    error = caught.value
    assert isinstance(error, UniqueIndexViolation)
    assert not isinstance(error, FileAlreadyStored)
    assert (error.index, error.code) == ("filename_1", 11000)
    # Some servers have no structured answer, but a text.
    assert error.value == ({"filename": TAKEN} if "keyPattern" in error.details else f'{{ filename: "{TAKEN}" }}')
    assert not hasattr(error, "__notes__")
    assert await stored_files(bucket.database) == {"first": b"first"}


async def test_the_same_content_twice_is_refused_by_an_index_of_digests(bucket: Bucket) -> None:
    info = await bucket.upload(b"content")
    await bucket.database["fs.files"].create_index("metadata.sha256", unique=True)
    with pytest.raises(UniqueIndexViolation) as caught:
        await bucket.upload(b"content")
    assert str(info.sha256) in str(caught.value.value)
    assert await stored_files(bucket.database) == {info.id: b"content"}


async def test_a_taken_id_is_still_a_stored_file(bucket: Bucket) -> None:
    await bucket.database["fs.files"].create_index("filename", unique=True)
    await bucket.upload(b"first", filename=TAKEN, id="first")
    with pytest.raises(FileAlreadyStored):
        await bucket.upload(b"second", filename="other", id="first")
    assert await stored_files(bucket.database) == {"first": b"first"}


@pytest.mark.parametrize(
    "edit",
    [
        lambda bucket, id: bucket.rename(id, TAKEN),
        lambda bucket, id: bucket.rename_by_name("second.txt", TAKEN),
        lambda bucket, id: bucket.file(id).rename(TAKEN),
    ],
    ids=["rename", "rename_by_name", "file.rename"],
)
async def test_an_edit_to_a_taken_value_names_the_index(bucket: Bucket, edit: Callable[..., Awaitable[object]]) -> None:
    await bucket.upload(b"first", filename=TAKEN)
    info = await bucket.upload(b"second", filename="second.txt")
    await bucket.database["fs.files"].create_index("filename", unique=True)
    with pytest.raises(UniqueIndexViolation, match="filename_1"):
        await edit(bucket, info.id)
    assert (await bucket.stat(info.id)).filename == "second.txt"


async def test_new_metadata_with_a_taken_value_name_the_index(bucket: Bucket) -> None:
    await bucket.upload(b"first", metadata={"number": 1})
    info = await bucket.upload(b"second", metadata={"number": 2})
    await bucket.database["fs.files"].create_index("metadata.number", unique=True)
    with pytest.raises(UniqueIndexViolation) as caught:
        await bucket.update_metadata(info.id, number=1)
    assert caught.value.index == "metadata.number_1"
    assert (await bucket.stat(info.id)).metadata["number"] == 2


@pytest.mark.parametrize(
    "operation",
    [
        lambda bucket: bucket.upload(b"a" * 100 + b"b" * 100 + b"c"),
        lambda bucket: bucket.upload(b"a" * 100, id="mine"),
        lambda bucket: bucket.upload_many([b"b", b"a" * 100]),
        lambda bucket: bucket.stage(b"a" * 100),
    ],
    ids=["upload", "upload under an id", "upload_many", "stage"],
)
@pytest.mark.usefixtures("small_batches")
async def test_a_unique_index_on_chunks_is_named_too(
    bucket: Bucket, operation: Callable[[Bucket], Awaitable[object]]
) -> None:
    await bucket.upload(b"a" * 100, id="first")
    await bucket.database["fs.chunks"].create_index("data", unique=True, name="each_piece_once")
    with pytest.raises(UniqueIndexViolation, match="each_piece_once"):
        await operation(bucket)
    assert await contents(bucket.database) == (1, 1)


async def test_a_copy_names_it_if_the_server_reports_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    # The embedded server hides duplicate keys of `$merge`.
    details = {"errmsg": "E11000", "keyPattern": {"data": 1}, "keyValue": {"data": b"a"}}

    async def refused(*_: object) -> None:
        raise OperationFailure("E11000", 11000, details)

    await bucket.upload(b"a" * 100, id="first")
    monkeypatch.setattr(bucket.store, "copy_chunks", refused)
    with pytest.raises(UniqueIndexViolation, match="data_1"):
        await bucket.copy("first")
    assert await stored_files(bucket.database) == {"first": b"a" * 100}


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"errmsg": "E11000 duplicate key error collection: zoo.fs.files index: _id_ dup key: { _id: 1 }"}, "own"),
        ({"errmsg": "E11000 ... index: files_id_1_n_1 dup key: { files_id: 1, n: 0 }"}, "own"),
        ({"errmsg": 'E11000 ... index: filename_1 dup key: { filename: "a" }'}, ("filename_1", '{ filename: "a" }')),
        ({"errmsg": "E11000 duplicate key error collection: zoo.fs.files"}, (None, None)),
        (
            {"errmsg": "?", "keyPattern": {"a": 1, "b": -1}, "keyValue": {"a": 1, "b": 2}},
            ("a_1_b_-1", {"a": 1, "b": 2}),
        ),
    ],
    ids=["mongo-java-server's id", "its chunks", "its application's index", "FerretDB", "without a message"],
)
def test_the_answers_of_other_servers_are_understood(
    database_without_server: Database, details: dict[str, Any], expected: object
) -> None:
    store = Bucket(database_without_server).store
    errors: list[OperationFailure] = [DuplicateKeyError(details["errmsg"], 11000, details)]
    errors.append(BulkWriteError({"writeErrors": [{"code": 11000, **details}]}))
    for error in errors:
        found = violated_index(store, error)
        assert (found is None) if expected == "own" else found is not None and (found.index, found.value) == expected


async def test_without_a_name_of_the_index_the_record_decides(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nameless(record: dict[str, Any], session: object = None) -> None:
        raise DuplicateKeyError("E11000 duplicate key error collection: zoo.fs.files", 11000, {"errmsg": "E11000"})

    without(bucket, Feature.BULK_WRITE)
    monkeypatch.setattr(bucket.store, "insert_record", nameless)
    with pytest.raises(UniqueIndexViolation, match="a unique index of the bucket 'fs'"):
        await bucket.upload(b"new")
    assert await contents(bucket.database) == (0, 0)


def test_a_long_value_is_cut_in_the_message() -> None:
    error = UniqueIndexViolation("name_1", {"name": "x" * 100_000}, bucket="the bucket 'fs'", details={})
    assert len(str(error)) < 500
    assert error.value == {"name": "x" * 100_000}
