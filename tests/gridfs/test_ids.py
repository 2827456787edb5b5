"""Which values can be ids, and how ids are written in a query."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import bson
import pytest
from bson import DBRef, ObjectId
from bson.raw_bson import RawBSONDocument

from gridproxy import BadId
from gridproxy.gridfs.records.ids import id_filter, is_plain_id
from gridproxy.gridfs.upload.options import upload_request

from ..naming import shown

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def refused(kind: type[Exception], match: str, **arguments: Any) -> None:
    with pytest.raises(kind, match=match):
        upload_request(**arguments)


# Valid and invalid ids


@pytest.mark.parametrize(
    "id",
    [[1], (1, 2), {1}, frozenset(), re.compile("a"), bson.Regex("a")],
    ids=shown,
)
def test_an_id_that_is_an_array_or_a_pattern_is_refused(id: object) -> None:
    refused(BadId, "does not accept arrays and patterns", id=id)


@pytest.mark.parametrize(
    ("id", "key"),
    [
        ({"$gt": ""}, "$gt"),
        ({"a": 1, "$b": 2}, "$b"),
        (bson.SON([("$ne", 1)]), "$ne"),
        ({"a": {"$gt": ""}}, "$gt"),
        ({"a": [1, {"b": ({"$in": []},)}]}, "$in"),
        (RawBSONDocument(bson.encode({"a": {"$or": []}})), "$or"),
    ],
    ids=shown,
)
def test_an_id_that_looks_like_an_operator_is_refused(id: object, key: str) -> None:
    refused(BadId, re.escape(f"its key '{key}', because it starts with '$'"), id=id)


def test_an_id_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["a"] = [endless]
    refused(BadId, "contains itself", id=endless)


@pytest.mark.parametrize(
    "id",
    [0, "", "$gt", b"", 1.5, True, ObjectId(), uuid.uuid4(), NOON, {"a": 1}, {}, {"a": ["$gt"]}, {"a": DBRef("b", 1)}],
    ids=shown,
)
def test_any_other_value_is_an_id(id: object) -> None:
    assert upload_request(id=id).id == id


# Ids in queries


@pytest.mark.parametrize(
    "id",
    [
        {"$gt": ""},
        {"a": 1},
        bson.SON([("$ne", None)]),
        RawBSONDocument(bson.encode({"$gt": ""})),
        MappingProxyType({"$gt": ""}),
        [1],
        (1, 2),
        re.compile(".*"),
        bson.Regex(".*"),
    ],
    ids=shown,
)
def test_an_id_that_looks_like_an_expression_is_wrapped(id: object) -> None:
    assert id_filter(id) == {"$eq": id}
    assert not is_plain_id(id)


@pytest.mark.parametrize("id", [None, 1, "$gt", b"x", ObjectId(), uuid.uuid4(), NOON, True], ids=shown)
def test_a_scalar_id_is_not_wrapped(id: object) -> None:
    assert id_filter(id) is id
    assert is_plain_id(id)
