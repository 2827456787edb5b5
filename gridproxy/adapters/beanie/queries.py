"""Queries that write: they refuse content in the place of a file, which Beanie would write as it is."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from beanie.odm.queries.find import FindMany, FindOne
from beanie.odm.queries.update import UpdateMany, UpdateOne

from gridproxy.errors import ValidationError, type_name

from .fields import file_fields

# What can be seen at a glance to be no reference to a file.
_CONTENT = (bytes, bytearray, memoryview, os.PathLike, io.IOBase)


class _RefusingUpdateOne(UpdateOne):
    def update(self, *args: Any, **options: Any) -> Any:
        _refuse_content(self.document_model, args)
        return super().update(*args, **options)


class _RefusingUpdateMany(UpdateMany):
    def update(self, *args: Any, **options: Any) -> Any:
        _refuse_content(self.document_model, args)
        return super().update(*args, **options)


class RefusingFindOne(FindOne[Any]):
    """Beanie's query for one document; what updates it raises `ValidationError` for content."""

    UpdateQueryType: type[UpdateOne] = _RefusingUpdateOne


class RefusingFindMany(FindMany[Any]):
    """Beanie's query for many documents; what updates them raises `ValidationError` for content."""

    UpdateQueryType: type[UpdateMany] = _RefusingUpdateMany


def _refuse_content(kind: type[object], changes: Iterable[object]) -> None:
    for change in changes:
        told = change.get("$set") if isinstance(change, Mapping) else None
        for name, value in told.items() if isinstance(told, Mapping) else ():
            if str(name) in file_fields(kind) and isinstance(value, _CONTENT):
                raise ValidationError(
                    str(name),
                    f"an update writes what it is told, and {type_name(value)} is no reference to a file: "
                    "assign the content to the document's field, and save it",
                )
