"""What is asked of an upload, and each refusal, before any byte moves."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.int64 import Int64

from gridproxy import BadId, BadMetadata, BadOption, DuplicateKey
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.records.chunks import MAX_DOCUMENT
from gridproxy.gridfs.records.file_info import utc_now
from gridproxy.gridfs.upload.options import (
    check_filename,
    check_record,
    merge_metadata,
    split_metadata,
    upload_request,
)

from ..naming import shown

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PLAIN = CodecOptions[dict[str, Any]]()
LARGEST_CHUNK = MAX_DOCUMENT - 256


def refused(kind: type[Exception], match: str, **arguments: Any) -> None:
    with pytest.raises(kind, match=match):
        upload_request(**arguments)


# What is taken


def test_nothing_asked_is_an_upload_without_a_name() -> None:
    request = upload_request()
    assert (request.id, request.filename, request.content_type, request.metadata) == (None, None, None, {})
    assert (request.chunk_size, request.encoding, request.expires_at, request.limits) == (None, "utf-8", None, Limits())


def test_content_type_and_further_keywords_are_stored_in_the_metadata() -> None:
    request = upload_request(
        filename="a/b.png", content_type="image/png", metadata={"owner": 7}, more_metadata={"reviewed": False}
    )
    before = utc_now()
    record = request.record("id", 10, 4, "00ff")
    assert list(record) == ["_id", "length", "chunkSize", "uploadDate", "filename", "metadata"]
    assert (record["_id"], record["length"], record["chunkSize"], record["filename"]) == ("id", 10, 4, "a/b.png")
    assert type(record["length"]) is Int64, "the GridFS spec asks for it"
    assert before <= record["uploadDate"] <= utc_now()
    assert record["metadata"] == {
        "owner": 7,
        "reviewed": False,
        "content_type": "image/png",
        "sha256": "00ff",
    }


def test_a_record_without_a_name_a_type_and_a_hash_has_no_such_keys() -> None:
    record = upload_request().record(1, 0, 4, None)
    assert list(record) == ["_id", "length", "chunkSize", "uploadDate", "metadata"]
    assert record["metadata"] == {}


def test_a_request_keeps_no_hold_on_the_callers_metadata() -> None:
    metadata = {"owner": 7}
    request = upload_request(metadata=metadata)
    metadata["owner"] = 8
    assert request.metadata == {"owner": 7}


@pytest.mark.parametrize("filename", ["", "a", "a/b/../c", "..", "Ünïcode 🐿", "x" * 5000, "$set", "a.b"])
def test_any_text_is_a_name(filename: str) -> None:
    assert upload_request(filename=filename).filename == filename


# What is refused


@pytest.mark.parametrize(
    ("filename", "match"), [("a\0b", "NUL"), ("\udc80.txt", "UTF-8"), (b"a", "not bytes"), (5, "int")]
)
def test_a_name_that_cannot_be_stored_is_refused(filename: Any, match: str) -> None:
    refused(BadOption, match, filename=filename)
    with pytest.raises(BadOption, match=match):
        check_filename(filename)


@pytest.mark.parametrize(
    "arguments",
    [{"content_type": 5}, {"metadata": {"content_type": 5}}, {"more_metadata": {"content_type": b"image/png"}}],
    ids=shown,
)
def test_a_content_type_is_a_str_wherever_it_is_said(arguments: dict[str, Any]) -> None:
    refused(BadOption, "content_type is a str", **arguments)


@pytest.mark.parametrize("encoding", ["klingon", 5, None, "", "a\0b", "rot13", "hex"], ids=shown)
def test_an_encoding_that_cannot_encode_text_is_refused(encoding: Any) -> None:
    refused(BadOption, "encoding", encoding=encoding)


@pytest.mark.parametrize("chunk_size", [0, -1, LARGEST_CHUNK + 1, 16 * 1024 * 1024, 2**70], ids=shown)
def test_a_chunk_size_that_no_chunk_can_have_is_refused(chunk_size: int) -> None:
    refused(BadOption, f"chunk_size is 1 to {LARGEST_CHUNK} bytes", chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [1.0, "4", True, Decimal(4)], ids=shown)
def test_a_chunk_size_that_is_not_a_whole_number_is_refused(chunk_size: Any) -> None:
    refused(BadOption, "chunk_size is a whole number", chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 255 * 1024, LARGEST_CHUNK])
def test_chunk_sizes_from_one_byte_to_the_largest_are_accepted(chunk_size: int) -> None:
    assert upload_request(chunk_size=chunk_size).chunk_size == chunk_size


# Metadata


@pytest.mark.parametrize("metadata", [5, "ab", [("a", 1)]], ids=shown)
def test_metadata_that_are_no_mapping_are_refused(metadata: Any) -> None:
    refused(BadMetadata, "metadata is a mapping", metadata=metadata)


@pytest.mark.parametrize("key", ["", "a.b", ".", "$set", "$", "a\0b", 5, None, b"a"], ids=shown)
def test_a_metadata_key_that_could_not_be_edited_later_is_refused(key: Any) -> None:
    refused(BadMetadata, re.escape(repr(key)), metadata={key: 1})


def test_the_hash_cannot_be_given() -> None:
    refused(BadMetadata, "computed from the bytes", metadata={"sha256": "00"})
    refused(BadMetadata, "computed from the bytes", more_metadata={"sha256": "00"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"metadata": {"owner": 1}, "more_metadata": {"owner": 1}},
        {"metadata": {"content_type": "a/b"}, "content_type": "a/b"},
    ],
    ids=shown,
)
def test_the_same_key_said_twice_is_a_type_error_and_a_value_error(arguments: dict[str, Any]) -> None:
    for kind in (DuplicateKey, BadMetadata, BadOption, TypeError, ValueError):
        refused(kind, "passed twice", **arguments)
    with pytest.raises(DuplicateKey) as caught:
        upload_request(**arguments)
    assert caught.value.key in arguments["metadata"]


def test_merging_makes_a_dict_of_its_own() -> None:
    first: Mapping[str, Any] = {"a": 1}
    assert merge_metadata(first, {"b": 2}) == {"a": 1, "b": 2}
    assert merge_metadata(None, {}) == {}
    assert first == {"a": 1}


# Expiry


def test_a_file_expires_at_a_moment_or_after_a_time() -> None:
    east = timezone(timedelta(hours=5))
    assert upload_request(expires_at=NOON.astimezone(east)).expires_at == NOON
    assert upload_request(expires_at=NOON.replace(tzinfo=None)).expires_at == NOON, "a naive moment is UTC"
    for after in (60, 60.0, timedelta(minutes=1)):
        before = utc_now()
        moment = upload_request(expires_after=after).record(1, 0, 4, None)["expires_at"]
        assert before + timedelta(minutes=1) <= moment <= utc_now() + timedelta(minutes=1)
        assert moment.tzinfo is UTC
    assert upload_request(expires_at=NOON).record(1, 0, 4, None)["expires_at"] == NOON


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"expires_at": NOON, "expires_after": 5}, "only one"),
        ({"expires_at": "2026-03-04"}, "expires_at is a datetime, not str"),
        ({"expires_at": 5}, "expires_at is a datetime, not int"),
        ({"expires_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))}, "not a valid date in UTC"),
        ({"expires_after": "5"}, "timedelta or seconds, not str"),
        ({"expires_after": True}, "timedelta or seconds, not bool"),
        ({"expires_after": float("nan")}, "valid date"),
        ({"expires_after": float("inf")}, "valid date"),
        ({"expires_after": timedelta.max}, "valid date"),
    ],
    ids=shown,
)
def test_an_invalid_expiry_is_refused(arguments: dict[str, Any], match: str) -> None:
    refused(BadOption, match, **arguments)


# Names that a source brought


@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("marmot.jpg", "image/jpeg"),
        ("MARMOT.JPG", "image/jpeg"),
        ("a/b.c/marmot.png", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.txt.xz", "application/x-xz"),
        ("a.tar.Z", "application/octet-stream"),
        ("Re: minutes #2.pdf", "application/pdf"),
        ("http://[.pdf", "application/pdf"),
        ("data:text/html,x", None),
        ("no extension", None),
        ("a.unheard-of", None),
        ("", None),
        ("dir/", None),
    ],
)
def test_the_content_type_is_guessed_by_the_name(filename: str, kind: str | None) -> None:
    assert upload_request(filename=filename).completed_by(None, None).content_type == kind
    assert upload_request().completed_by(filename, None).content_type == kind


def test_a_content_type_is_the_callers_then_the_sources_then_the_guess() -> None:
    assert upload_request(content_type="a/b").completed_by("x.png", "c/d").content_type == "a/b"
    assert upload_request().completed_by("x.png", "c/d").content_type == "c/d"
    assert upload_request().completed_by("x.png", "application/octet-stream").content_type == "image/png"
    assert upload_request().completed_by("x.unheard-of", "c/d").content_type == "c/d"
    assert upload_request().completed_by(None, None).content_type is None


def test_the_callers_name_comes_before_the_sources() -> None:
    assert upload_request(filename="mine.txt").completed_by("its\0.png", None).filename == "mine.txt"
    assert upload_request(filename="").completed_by("its.png", None).filename == ""
    assert upload_request().completed_by("its.png", None).filename == "its.png"
    with pytest.raises(BadOption, match="NUL"):
        upload_request().completed_by("its\0.png", None)


# The record as it would be stored


def checked(chunk_size: int = 4, options: CodecOptions[dict[str, Any]] = PLAIN, **arguments: Any) -> None:
    request = upload_request(**arguments)
    check_record(request.record(1 if request.id is None else request.id, 0, chunk_size, None), chunk_size, options)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, Decimal("1.5"), 2**70, {1: 2}, "\udc80", {"a": {"b\0c": 1}}], ids=shown
)
def test_metadata_that_bson_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(BadMetadata, match="the metadata cannot be stored"):
        checked(metadata={"value": value})


@pytest.mark.parametrize("id", [object(), 2**70, Decimal(1), {"a": {1}}, {1: 2}], ids=shown)
def test_an_id_that_bson_cannot_hold_is_refused(id: object) -> None:
    with pytest.raises(BadId, match="cannot be a file's id"):
        checked(id=id)


def test_a_uuid_needs_codec_options_that_say_how() -> None:
    with pytest.raises(BadId, match="UUID"):
        checked(id=uuid.uuid4())
    with pytest.raises(BadMetadata, match="UUID"):
        checked(metadata={"owner": uuid.uuid4()})
    standard = PLAIN.with_options(uuid_representation=UuidRepresentation.STANDARD)
    checked(options=standard, id=uuid.uuid4(), metadata={"owner": uuid.uuid4()})


def test_a_record_that_is_too_large_for_a_document_is_refused() -> None:
    checked(metadata={"text": "x" * (MAX_DOCUMENT - 1000)})
    with pytest.raises(BadMetadata, match="the record would have 16"):
        checked(metadata={"text": "x" * MAX_DOCUMENT})


def test_a_long_id_and_a_large_chunk_that_do_not_fit_together_are_refused() -> None:
    checked(chunk_size=LARGEST_CHUNK, id="x" * 40)
    checked(chunk_size=LARGEST_CHUNK - 5000, id="x" * 5000)
    with pytest.raises(BadOption, match="do not fit into one document"):
        checked(chunk_size=LARGEST_CHUNK, id="x" * 5000)


# Metadata of a record

SHA256 = "0f" * 32


def test_the_metadata_of_a_record_are_accepted_without_what_is_computed() -> None:
    plain = {"content_type": "image/png", "sha256": SHA256, "owner": 7, "format": "A4"}
    before = dict(plain)
    request = upload_request(metadata=plain)
    assert (request.metadata, request.content_type) == ({"owner": 7, "format": "A4"}, "image/png")
    assert plain == before
    picture = {**plain, "width": 8, "height": 8, "thumbnail_id": 1, "variants": {"wide": 2}, "variant_of": 3}
    assert upload_request(metadata=picture).metadata == {"owner": 7}
    assert upload_request(metadata={"thumbnail_id": 1}).metadata == {"thumbnail_id": 1}, "no record has made this"
    refused(BadMetadata, "computed from the bytes", metadata={"sha256": SHA256[1:]})
    refused(BadMetadata, "computed from the bytes", more_metadata={"sha256": SHA256})
    refused(BadMetadata, "computed from the bytes", metadata={"sha256": SHA256}, more_metadata={"sha256": SHA256})


# Near misses of the options' names

NEAR_MISSES = {
    "file_name": "filename",
    "fileName": "filename",
    "filname": "filename",
    "filenames": "filename",
    "contentType": "content_type",
    "contenttype": "content_type",
    "content_typ": "content_type",
    "meta_data": "metadata",
    "metdata": "metadata",
    "chunkSize": "chunk_size",
    "chunksize": "chunk_size",
    "encodnig": "encoding",
    "expire_at": "expires_at",
    "expiresAt": "expires_at",
    "expire_after": "expires_after",
    "expires_afer": "expires_after",
    "_id": "id",
    "Id": "id",
    "sesion": "session",
    "progres": "progress",
}
FREE = [
    "name",
    "owner",
    "place",
    "ids",
    "user_id",
    "uid",
    "type",
    "content",
    "kind",
    "size",
    "width",
    "height",
    "tags",
    "session_id",
    "chunks",
    "expires",
    "file",
    "path",
    "text",
    "content_id",
    "content_size",
    "content_text",
    "caption",
    "description",
    "title",
    "author",
    "camera_model",
    "file_path",
    "processed",
    "source",
    "replaced",
]


@pytest.mark.parametrize("given", NEAR_MISSES)
def test_a_near_miss_of_an_option_is_refused_with_the_right_name(given: str) -> None:
    with pytest.raises(BadOption, match=rf"^{given}=.* {NEAR_MISSES[given]}=.*metadata=\{{'{given}'"):
        split_metadata({given: "x"})
    with pytest.raises(TypeError, match=f"no option '{given}'.* {NEAR_MISSES[given]}="):
        upload_request(**{given: "x"})  # type: ignore[arg-type]
    assert upload_request(metadata={given: "x"}).metadata == {given: "x"}


@pytest.mark.parametrize("key", FREE)
def test_other_keywords_are_metadata(key: str) -> None:
    assert split_metadata({key: "x", "filename": "a"}) == ({"filename": "a"}, {key: "x"})
