"""The unique indexes that an application adds to a bucket, and the errors for the files that they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pymongo.errors import BulkWriteError, OperationFailure

from gridproxy.errors import UniqueIndexViolation

from .collections import Store

DUPLICATE_KEY = 11000
# The unique indexes of GridFS itself: a duplicate of these is a file id that is taken.
_OWN_KEYS = {("_id",), ("files_id", "n")}
_OWN_NAMES = {"_id_", "files_id_1_n_1"}
_MESSAGE = re.compile(r"index: (?P<index>\S+)(?: dup key: (?P<key>\{.*\}))?", re.DOTALL)


def violated_index(store: Store, error: OperationFailure) -> UniqueIndexViolation | None:
    """Return the error for a duplicate in an index of the application's, or None if it is in one of GridFS's own.

    Its `index` is None if the server (FerretDB) does not name the index. The duplicate may be in any index then.
    """
    details: Mapping[str, Any] = error.details or {}
    if isinstance(error, BulkWriteError):
        details = details["writeErrors"][0]
    pattern = details.get("keyPattern")
    named = _MESSAGE.search(str(details.get("errmsg")))
    index = None if named is None else named["index"]
    if isinstance(pattern, Mapping):
        if tuple(pattern) in _OWN_KEYS:
            return None
        index = index or "_".join(f"{key}_{direction}" for key, direction in pattern.items())
    elif index in _OWN_NAMES:
        return None
    value = details.get("keyValue") or (None if named is None else named["key"])
    return UniqueIndexViolation(index, value, bucket=store.description, details=details)
