"""What a file proxy knows and remembers without any I/O, and without a connection."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadOption,
    BadSource,
    Bucket,
    FileClosed,
    FileInfo,
    FileMissing,
    FileOptions,
    InfoNotLoaded,
    NotConnected,
)

ID = ObjectId("5f5e1a2b3c4d5e6f70819203")
INFO = FileInfo.from_record(
    {
        "_id": ID,
        "length": 10,
        "chunkSize": 4,
        "uploadDate": datetime(2026, 3, 4, tzinfo=UTC),
        "filename": "marmot.jpg",
        "metadata": {"content_type": "image/jpeg", "owner": 7, "sha256": "0f" * 32},
    }
)
# It would connect on its first operation, and these tests have none.
CLIENT = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)
BUCKET = Bucket(CLIENT["zoo"], "photos")

AGAIN: dict[str, Callable[[AsyncGridFile], AsyncGridFile]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda file: pickle.loads(pickle.dumps(file)),
}


class Owner:
    """A document, as an attachment sees it."""


every_copy = pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)


# Empty or stored


def test_a_file_is_false_while_it_is_empty() -> None:
    assert not AsyncGridFile()
    assert AsyncGridFile().id is None
    assert AsyncGridFile(ID)
    assert AsyncGridFile(ID).id == ID


@pytest.mark.parametrize("id", [0, "", b"", False, 0.0], ids=repr)
def test_any_id_but_none_is_a_stored_file(id: object) -> None:
    assert AsyncGridFile(id)


def test_a_new_proxy_is_closed_at_the_start_and_without_info() -> None:
    file = AsyncGridFile(ID)
    assert file.closed
    assert file.tell() == 0
    assert file.info is None
    assert file.options == FileOptions()


# Equality


def test_files_are_equal_by_id_bucket_and_alias() -> None:
    assert AsyncGridFile(ID) == AsyncGridFile(ID, info=INFO)
    assert AsyncGridFile() == AsyncGridFile()
    assert AsyncGridFile(ID, bucket="a", alias="b") == AsyncGridFile(ID, options=FileOptions(bucket="a", db_alias="b"))
    assert AsyncGridFile(ID, bucket=BUCKET) == Bucket(CLIENT["zoo"], "photos").file(ID)
    different = [
        AsyncGridFile(ID),
        AsyncGridFile(),
        AsyncGridFile(ObjectId()),
        AsyncGridFile(ID, bucket="photos"),
        AsyncGridFile(ID, alias="archive"),
        AsyncGridFile(ID, bucket=BUCKET),
        AsyncGridFile(ID, bucket=Bucket(CLIENT["other"], "photos")),
    ]
    assert all((one == other) is (one is other) for one in different for other in different)


def test_a_file_equals_nothing_else() -> None:
    assert AsyncGridFile(ID) != ID
    assert AsyncGridFile() != None  # noqa: E711  # whether it is, is the question
    assert AsyncGridFile(ID) != INFO


def test_a_file_is_not_hashable_since_its_id_changes() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(AsyncGridFile(ID))


def test_a_file_is_neither_sized_nor_iterable_synchronously() -> None:
    file = AsyncGridFile(ID, info=INFO)
    with pytest.raises(TypeError):
        len(file)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError):
        iter(file)  # type: ignore[call-overload]  # that is the point
    assert not hasattr(file, "__getitem__")
    assert not hasattr(file, "__contains__")


# Copies


@every_copy
def test_copies_keep_id_info_and_options_and_drop_live_handles(again: Callable[[AsyncGridFile], AsyncGridFile]) -> None:
    options = FileOptions(bucket="photos", db_alias="archive", on_delete="delete", max_size=5)
    file = AsyncGridFile(ID, options=options, info=INFO)
    # Stand-ins for an open reader and an open writer: none of them can be copied, nor can the document.
    file.state.reader = file.state.writer = (each for each in "live")  # type: ignore[assignment]
    file.state.attach(owner := Owner(), "photo")
    assert file.state.attachment is not None
    assert file.state.attachment.belongs_to(owner, "photo")
    file.state.busy = "being written"
    twin = again(file)
    assert twin is not file
    assert twin == file
    assert (twin.id, twin.info, twin.options) == (ID, INFO, options)
    assert (twin.state.reader, twin.state.writer, twin.state.busy) == (None, None, None)
    assert twin.state.attachment is not None  # what it replaces may be what the original's document points to
    assert twin.state.attachment.unowned
    assert again(AsyncGridFile(ID)).state.attachment is None
    assert twin.closed


@every_copy
def test_copies_of_an_empty_file_are_empty(again: Callable[[AsyncGridFile], AsyncGridFile]) -> None:
    assert again(AsyncGridFile()) == AsyncGridFile()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_a_bucket_is_shared_by_copies(again: Callable[[AsyncGridFile], AsyncGridFile]) -> None:
    assert again(AsyncGridFile(ID, bucket=BUCKET)).options.bucket is BUCKET


def test_a_bucket_is_pickled_as_its_name() -> None:
    file = pickle.loads(pickle.dumps(AsyncGridFile(ID, bucket=BUCKET, info=INFO)))
    assert file == AsyncGridFile(ID, bucket="photos")
    assert file.info == INFO


@every_copy
def test_content_that_can_be_read_again_goes_with_a_copy(again: Callable[[AsyncGridFile], AsyncGridFile]) -> None:
    for content in (b"some bytes", Path("marmot.jpg")):
        file = AsyncGridFile()
        file.state.content = content
        assert again(file).state.content == content


@every_copy
def test_content_that_is_read_only_once_forbids_a_copy(again: Callable[[AsyncGridFile], AsyncGridFile]) -> None:
    file = AsyncGridFile()
    file.state.content = iter([b"a"])
    with pytest.raises(BadSource, match=r"list_iterator was assigned.*save the document before you copy it"):
        again(file)


def test_a_file_can_be_weakly_referenced() -> None:
    file = AsyncGridFile(ID)
    assert weakref.ref(file)() is file


# The record's fields

MONGOENGINE = ["grid_id", "size"]  # tests/adapters/test_mongoengine_names.py
FIELDS = ["filename", "content_type", "length", "upload_date", "metadata", "chunk_size", "sha256", "etag"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_record_is_known_with_info_only(field: str) -> None:
    assert getattr(AsyncGridFile(ID, info=INFO), field) == getattr(INFO, field)
    with pytest.raises(InfoNotLoaded, match=rf"^{field} is not loaded yet: `await file\.stat\(\)`"):
        getattr(AsyncGridFile(ID), field)


@pytest.mark.parametrize("empty", [AsyncGridFile(), AsyncGridFile(bucket="photos")], ids=["plain", "in a bucket"])
def test_the_fields_of_an_empty_file_are_none_and_its_length_is_0(empty: AsyncGridFile) -> None:
    known = {"length": 0, "metadata": {}, "variants": {}}
    for field in FIELDS + PICTURE:
        if field != "thumbnail":
            assert getattr(empty, field) == known.get(field), field
    assert not empty.thumbnail
    assert empty.thumbnail.options.bucket == empty.options.bucket
    assert not empty.thumbnail.thumbnail
    assert empty.thumbnail.length == 0
    assert empty.info is None
    with pytest.raises(TypeError):
        empty.metadata["owner"] = 7  # type: ignore[index]


PICTURE = ["width", "height", "format", "thumbnail", "variants"]


@pytest.mark.parametrize("field", PICTURE)
def test_fields_of_a_picture_are_known_only_with_info(field: str) -> None:
    assert not getattr(AsyncGridFile(ID, info=INFO), field)  # it is none
    with pytest.raises(InfoNotLoaded, match=rf"^{field} is not loaded yet"):
        getattr(AsyncGridFile(ID), field)


def test_every_public_property_is_tried_above() -> None:
    public = {name for name, _ in inspect.getmembers(AsyncGridFile, lambda each: isinstance(each, property))}
    assert public == {*FIELDS, *PICTURE, "id", "info", "options", "closed", *MONGOENGINE}


def test_unknown_attributes_raise_attribute_error_without_io() -> None:
    with pytest.raises(AttributeError):
        AsyncGridFile(ID).contentType  # type: ignore[attr-defined]  # noqa: B018  # that is the point


def test_the_repr_shows_the_known_info() -> None:
    assert repr(AsyncGridFile()) == "<AsyncGridFile empty>"
    assert repr(AsyncGridFile("a")) == "<AsyncGridFile id='a'>"
    assert repr(AsyncGridFile("a", info=INFO)) == "<AsyncGridFile id='a' 'marmot.jpg' 10 bytes>"
    file = AsyncGridFile("a")
    file.state.busy = "being put"
    assert repr(file) == "<AsyncGridFile id='a', being put>"


# Without a connection


def test_a_file_is_made_at_import_time_without_a_connection_or_a_loop() -> None:
    code = (
        "from gridproxy import AsyncGridFile\nPHOTO = AsyncGridFile(5, bucket='photos')\nprint(bool(PHOTO), PHOTO.id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 5\n"
    assert done.stderr == ""


async def test_the_database_is_looked_up_on_each_operation() -> None:
    file = AsyncGridFile(ID)
    operations: list[Callable[[], Any]] = [
        file.read,
        file.stat,
        file.exists,
        file.verify,
        file.delete,
        lambda: AsyncGridFile().put(b"a"),
        lambda: file.replace(b"a"),
        lambda: AsyncGridFile().new_file(),
    ]
    for operation in operations:
        with pytest.raises(NotConnected, match=r"gridproxy\.connect"):
            await operation()
    for at_once in (file.open, file.stream, lambda: aiter(file)):
        with pytest.raises(NotConnected):
            at_once()


async def test_every_operation_on_an_empty_file_raises_file_missing() -> None:
    file = AsyncGridFile(bucket=BUCKET)
    operations: list[Callable[[], Any]] = [
        file.read,
        file.readline,
        file.stat,
        file.verify,
        file.copy,
        lambda: file.seek(0),
        lambda: file.read_range(0, 1),
        lambda: file.read_ranges([]),
        lambda: file.rename("a"),
        lambda: file.update_metadata(a=1),
        lambda: file.save_to("nowhere"),
    ]
    for operation in operations:
        with pytest.raises(FileMissing, match="this file is empty"):
            await operation()
    for at_once in (file.open, file.stream, lambda: aiter(file)):
        with pytest.raises(FileMissing, match="this file is empty"):
            at_once()
    assert not await file.exists()


async def test_close_and_abort_without_a_write_have_no_effect() -> None:
    file = AsyncGridFile()
    await file.close()
    await file.abort()
    await file.delete()
    await file.finalize()
    await file.revert()
    assert file == AsyncGridFile()


def test_a_write_without_a_new_file_is_refused() -> None:
    with pytest.raises(FileClosed, match=r"await file\.new_file\(\)"):
        AsyncGridFile(ID).write(b"a")
    with pytest.raises(FileClosed, match=r"await file\.new_file\(\)"):
        AsyncGridFile().writelines([b"a"])


# Bad arguments


def test_a_file_is_not_an_id() -> None:
    with pytest.raises(BadId, match=r"pass its \.id"):
        AsyncGridFile(AsyncGridFile(ID))


@pytest.mark.parametrize("bucket", [5, b"fs", CLIENT["zoo"], object()], ids=lambda each: type(each).__name__)
def test_a_bucket_is_a_bucket_or_a_name(bucket: Any) -> None:
    with pytest.raises(BadOption, match="bucket is a Bucket, a bucket's name or None"):
        AsyncGridFile(ID, bucket=bucket)


def test_options_and_a_bucket_or_alias_are_refused() -> None:
    for arguments in ({"bucket": "a"}, {"alias": "a"}):
        with pytest.raises(BadOption, match="already"):
            AsyncGridFile(ID, options=FileOptions(), **arguments)  # type: ignore[arg-type]  # a dict of str is one


# The bucket itself


def test_a_bucket_is_a_value_by_its_database_and_name() -> None:
    bucket, same = Bucket(CLIENT["zoo"], "photos"), Bucket(CLIENT["zoo"], "photos", chunk_size=5)
    assert bucket == same
    assert hash(bucket) == hash(same)
    assert bucket != Bucket(CLIENT["zoo"])
    assert bucket != Bucket(CLIENT["other"], "photos")
    assert bucket != "photos"
    assert repr(bucket) == "<Bucket zoo.photos>"
    assert (bucket.name, bucket.database) == ("photos", CLIENT["zoo"])


def test_a_bucket_is_not_made_twice() -> None:
    assert copy.copy(BUCKET) is BUCKET
    assert copy.deepcopy({"a": [BUCKET]})["a"][0] is BUCKET
    assert pickle.loads(pickle.dumps(BUCKET)) == "photos"


def test_a_buckets_file_is_known_by_id_only() -> None:
    file = BUCKET.file(ID)
    assert file
    assert file == AsyncGridFile(ID, bucket=BUCKET)
    assert file.info is None
