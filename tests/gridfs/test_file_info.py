"""`FileInfo` reads the `files` documents of all writers and refuses invalid ones."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from gridproxy import CorruptFile, FileInfo
from gridproxy.gridfs.records.file_info import utc_milliseconds, utc_now

from ..naming import shown

SHA256 = "0123456789abcdef" * 4
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def record(**changes: Any) -> dict[str, Any]:
    """Return a plain `files` document with some keys changed, or removed by `...`."""
    plain = {
        "_id": 1,
        "length": Int64(10),
        "chunkSize": 4,
        "uploadDate": NOON,
        "filename": "a.txt",
        "metadata": {"content_type": "text/plain", "sha256": SHA256, "tags": ["x"]},
        **changes,
    }
    return {key: value for key, value in plain.items() if value is not ...}


def test_all_keys_of_our_own_record_are_read() -> None:
    info = FileInfo.from_record(record(expires_at=NOON))
    assert dataclasses.astuple(dataclasses.replace(info, metadata={}, extra={})) == (
        1,
        "a.txt",
        10,
        4,
        NOON,
        {},
        NOON,
        {},
    )
    assert info.metadata == {"content_type": "text/plain", "sha256": SHA256, "tags": ["x"]}
    assert (info.content_type, info.sha256, info.chunk_count) == ("text/plain", SHA256, 3)


# Records of other writers


@pytest.mark.parametrize("filename", [..., None, 5, ["a"]], ids=shown)
def test_a_filename_that_is_not_a_str_is_none(filename: object) -> None:
    assert FileInfo.from_record(record(filename=filename)).filename is None


@pytest.mark.parametrize("metadata", [..., None, [], "text", 7], ids=shown)
def test_metadata_that_are_not_a_mapping_are_empty(metadata: object) -> None:
    info = FileInfo.from_record(record(metadata=metadata, filename=None))
    assert info.metadata == {}
    assert info.content_type is None
    assert info.sha256 is None


def test_the_keys_of_other_writers_are_kept_as_extra() -> None:
    others = {"contentType": "image/png", "aliases": ["b", "c"], "md5": "d41d8cd9", "encoding": None}
    info = FileInfo.from_record(record(metadata=None, **others))
    assert info.extra == others
    assert info.content_type == "image/png"


def test_the_content_type_is_the_first_str_of_three_keys() -> None:
    def content_type(top: object, metadata: Mapping[str, object]) -> str | None:
        return FileInfo.from_record(record(contentType=top, metadata=metadata, filename=None)).content_type

    assert content_type("top", {"contentType": "camel", "content_type": "snake"}) == "snake"
    assert content_type("top", {"contentType": "camel"}) == "camel"
    assert content_type("top", {}) == "top"
    assert content_type("top", {"content_type": None, "contentType": 5}) == "top"
    assert content_type(None, {}) is None


@pytest.mark.parametrize("number", [int, float, Int64])
def test_lengths_of_other_drivers_become_ints(number: Callable[[int], Any]) -> None:
    info = FileInfo.from_record(record(length=number(10), chunkSize=number(4)))
    assert (info.length, info.chunk_size, info.chunk_count) == (10, 4, 3)
    assert (type(info.length), type(info.chunk_size)) == (int, int)


@pytest.mark.parametrize("chunk_size", [..., 0, 0.0], ids=shown)
def test_an_empty_file_needs_no_chunk_size(chunk_size: object) -> None:
    info = FileInfo.from_record(record(length=0, chunkSize=chunk_size))
    assert (info.length, info.chunk_size, info.chunk_count) == (0, 0, 0)


def test_a_record_without_a_length_is_an_empty_file() -> None:
    info = FileInfo.from_record(record(length=...))
    assert (info.length, info.chunk_count) == (0, 0)
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize("length", [None, -1, 1.5, "10", b"10", True, [], float("nan"), float("inf")], ids=shown)
def test_an_invalid_length_is_corrupt(length: object) -> None:
    with pytest.raises(CorruptFile, match="length=") as caught:
        FileInfo.from_record(record(length=length))
    assert caught.value.id == 1


@pytest.mark.parametrize("chunk_size", [..., None, 0, -4, 4.5, "4", True, Decimal128("4")], ids=shown)
def test_an_invalid_chunk_size_is_corrupt(chunk_size: object) -> None:
    with pytest.raises(CorruptFile, match="chunkSize="):
        FileInfo.from_record(record(chunkSize=chunk_size))


# Dates


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        DatetimeMS(NOON),
    ],
    ids=shown,
)
def test_dates_are_aware_utc_datetimes(moment: object) -> None:
    info = FileInfo.from_record(record(uploadDate=moment, expires_at=moment))
    assert info.upload_date == info.expires_at == NOON
    assert info.upload_date is not None
    assert info.upload_date.tzinfo is UTC


@pytest.mark.parametrize("moment", [..., None, 1772625600, "2026-03-04"], ids=shown)
def test_a_date_of_another_type_is_none(moment: object) -> None:
    info = FileInfo.from_record(record(uploadDate=moment, expires_at=moment))
    assert info.upload_date is None
    assert info.expires_at is None
    assert not info.expired()


def test_a_date_outside_of_pythons_range_becomes_the_nearest_one() -> None:
    far, ago = DatetimeMS(2**62), DatetimeMS(-(2**62))
    assert not FileInfo.from_record(record(expires_at=far)).expired()
    assert FileInfo.from_record(record(expires_at=ago)).expired()


def test_a_file_expires_at_its_expires_at() -> None:
    info = FileInfo.from_record(record(expires_at=NOON))
    assert info.expired(NOON)
    assert not info.expired(NOON - timedelta(milliseconds=1))
    assert FileInfo.from_record(record(expires_at=utc_now() - timedelta(hours=1))).expired()
    assert not FileInfo.from_record(record(expires_at=utc_now() + timedelta(hours=1))).expired()


def test_times_are_cut_to_the_milliseconds_of_bson() -> None:
    precise = NOON.replace(microsecond=123_987)
    assert utc_milliseconds(precise) == NOON.replace(microsecond=123_000)
    encoded: dict[str, Any] = bson.decode(bson.encode({"at": precise}), CodecOptions(tz_aware=True))
    assert encoded["at"] == utc_milliseconds(precise)
    assert utc_now().microsecond % 1000 == 0


# A value


def test_an_info_and_its_mappings_are_read_only() -> None:
    info = FileInfo.from_record(record(md5="x"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.length = 5  # type: ignore[misc]  # the test is about this
    assert isinstance(info.metadata, MappingProxyType)
    assert isinstance(info.extra, MappingProxyType)


def test_an_info_does_not_share_values_with_its_record() -> None:
    source = record(aliases=["a"])
    info = FileInfo.from_record(source)
    source["metadata"]["tags"].append("y")
    source["aliases"].append("b")
    assert info.metadata["tags"] == ["x"]
    assert info.extra["aliases"] == ["a"]


@pytest.mark.parametrize(
    "source",
    [
        record(),
        record(metadata=None, filename=..., md5="x", contentType="a/b", aliases=["c"]),
        record(length=0, chunkSize=..., uploadDate=...),
        record(_id={"a": uuid.UUID(int=5)}, expires_at=NOON),
    ],
    ids=["ours", "legacy", "bare", "mapping id"],
)
@pytest.mark.parametrize(
    "again", [lambda info: pickle.loads(pickle.dumps(info)), copy.deepcopy, copy.copy], ids=["pickle", "deep", "copy"]
)
def test_an_info_pickles_and_copies_to_an_equal_one(
    source: dict[str, Any], again: Callable[[FileInfo], FileInfo]
) -> None:
    info = FileInfo.from_record(source)
    assert again(info) == info
    assert again(info).etag == info.etag


def test_to_record_returns_an_independent_copy() -> None:
    info = FileInfo.from_record(record(expires_at=NOON, md5="x"))
    again = info.to_record()
    assert again == record(expires_at=NOON, md5="x")
    again["metadata"]["tags"].append("y")
    assert info.metadata["tags"] == ["x"]
    assert "expires_at" not in FileInfo.from_record(record()).to_record()


def test_a_raw_bson_document_is_read_like_a_dict() -> None:
    raw = RawBSONDocument(bson.encode(record(md5="x")))
    info = FileInfo.from_record(raw)
    assert info == FileInfo.from_record(record(md5="x"))
    assert pickle.loads(pickle.dumps(info)) == info
    assert copy.deepcopy(info) == info


# Hash and entity tag


@pytest.mark.parametrize("value", [SHA256, SHA256.upper()])
def test_the_sha256_is_in_lower_case_and_part_of_the_entity_tag(value: str) -> None:
    info = FileInfo.from_record(record(metadata={"sha256": value}))
    assert info.sha256 == SHA256
    assert info.etag == FileInfo.from_record(record(_id=2, metadata={"sha256": SHA256})).etag
    assert info.etag != FileInfo.from_record(record(metadata={"sha256": SHA256[::-1]})).etag


@pytest.mark.parametrize("digest", [{}, {"sha256": SHA256}], ids=shown)
def test_the_entity_tag_changes_with_the_type_and_the_name(digest: dict[str, str]) -> None:
    variants: list[dict[str, Any]] = [
        {"filename": "a.png"},
        {"filename": "b.png"},
        {"filename": "a.png", "metadata": {"content_type": "image/gif", **digest}},
        {"filename": "a.png", "contentType": "image/jpeg"},
    ]
    tags = {FileInfo.from_record(record(**{"metadata": digest, **each})).etag for each in variants}
    assert len(tags) == len(variants)


@pytest.mark.parametrize(
    "value", [None, "", "abc", f"{SHA256}\n", f'{SHA256[:-1]}"', "g" * 64, 5, b"x" * 64], ids=shown
)
def test_a_metadata_value_that_is_not_a_digest_is_not_the_sha256(value: object) -> None:
    info = FileInfo.from_record(record(metadata={"sha256": value}))
    assert info.sha256 is None
    assert info.metadata["sha256"] == value
    assert re.fullmatch('"[0-9a-f]{32}"', info.etag)


@pytest.mark.parametrize(
    "id",
    [1, 1.5, "a", "\udc80", b"a", None, ObjectId(), uuid.uuid4(), NOON, {"a": 1}, {"a": uuid.UUID(int=1)}],
    ids=shown,
)
def test_a_file_without_a_hash_has_an_entity_tag_for_any_id(id: object) -> None:
    info = FileInfo.from_record(record(_id=id, metadata={}))
    assert re.fullmatch('"[0-9a-f]{32}"', info.etag)
    assert info.etag == FileInfo.from_record(record(_id=id, metadata={"other": 1})).etag


def test_entity_tags_without_a_hash_depend_on_id_length_and_date() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"_id": 2},
        {"_id": "1"},
        {"length": 11},
        {"uploadDate": NOON + timedelta(seconds=1)},
    ]
    assert len({FileInfo.from_record(record(metadata={}, **each)).etag for each in variants}) == len(variants)
