"""A field's options, and each refusal."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import BadOption, FileOptions

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
