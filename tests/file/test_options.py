"""A field's options, and each refusal."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import BadOption, ContentTypeRefused, FileOptions

from ..naming import shown


def test_field_options_are_values() -> None:
    options = FileOptions(bucket="photos", db_alias="archive", on_delete="delete", max_size=5)
    assert options == FileOptions("photos", db_alias="archive", on_delete="delete", max_size=5)
    assert len({options, FileOptions(), FileOptions()}) == 2
    assert pickle.loads(pickle.dumps(options)) == copy.deepcopy(options) == options
    assert FileOptions() == FileOptions(bucket=None, db_alias=None, on_delete="keep", max_size=None)


def test_the_database_of_the_document_is_used_if_the_options_name_none() -> None:
    assert FileOptions().in_database("archive") == FileOptions(db_alias="archive")
    assert FileOptions(db_alias="mine").in_database("archive") == FileOptions(db_alias="mine")
    assert FileOptions(max_size=5).in_database(None) == FileOptions(max_size=5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"on_delete": "cascade"}, "on_delete is 'keep' or 'delete', not 'cascade'"),
        ({"on_delete": None}, "on_delete"),
        ({"max_size": -1}, "max_size"),
        ({"max_size": 1.5}, "max_size"),
        ({"max_size": "5"}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"bucket": 5}, "bucket is a Bucket, a bucket's name or None, not int"),
        ({"bucket": object()}, "bucket"),
        ({"bucket": AsyncMongoClient("mongodb://127.0.0.1:1", connect=False)["zoo"]}, "not .*AsyncDatabase"),
        ({"db_alias": 5}, "db_alias is a str, not int"),
    ],
    ids=shown,
)
def test_invalid_field_options_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(BadOption, match=match):
        FileOptions(**arguments)


Types = list[str] | None


@pytest.mark.parametrize(
    ("own", "more", "narrowed"),
    [
        (None, None, None),
        (["image/*"], None, ["image/*"]),
        (None, ["image/*"], ["image/*"]),
        (["image/*", "text/plain"], ["image/png", "text/plain", "video/mp4"], ["text/plain", "image/png"]),
        (["image/jpeg"], ["image/jpg"], ["image/jpeg", "image/jpg"]),  # two names of one type
        (["*/*"], ["video/*"], ["video/*"]),
        (["application/x-zip-compressed"], ["application/*"], ["application/x-zip-compressed"]),
    ],
)
def test_narrowed_options_accept_what_both_accept(own: Types, more: Types, narrowed: Types) -> None:
    options = FileOptions(content_types=own).for_field("photo").narrowed(content_types=more)
    assert options.content_types == (None if narrowed is None else tuple(narrowed))
    assert options.limits().field == "photo"


@pytest.mark.parametrize(
    ("own", "more", "narrowed"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (7, 5, 5)]
)
def test_narrowed_options_have_the_smaller_size(own: int | None, more: int | None, narrowed: int | None) -> None:
    assert FileOptions(max_size=own).narrowed(max_size=more).max_size == narrowed


def test_options_cannot_be_narrowed_to_nothing() -> None:
    with pytest.raises(ContentTypeRefused, match=r"no type is among those allowed here \(image/\*\)"):
        FileOptions(content_types="image/*").narrowed(content_types=["text/*", "video/mp4"])
    with pytest.raises(BadOption, match="max_size"):
        FileOptions().narrowed(max_size=-1)
