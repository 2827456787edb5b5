"""Queries that write. They refuse content for a file field, which Beanie would write as it is."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from beanie.odm.queries.find import FindMany, FindOne
from beanie.odm.queries.update import UpdateMany, UpdateOne

from gridproxy.errors import ValidationError, type_name

from .fields import file_fields

# Types that are never a reference to a file.
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
    """Beanie's query for one document. Its updates raise `ValidationError` for content."""

    UpdateQueryType: type[UpdateOne] = _RefusingUpdateOne


class RefusingFindMany(FindMany[Any]):
    """Beanie's query for many documents. Its updates raise `ValidationError` for content."""

    UpdateQueryType: type[UpdateMany] = _RefusingUpdateMany


def _refuse_content(kind: type[object], changes: Iterable[object]) -> None:
    for change in changes:
        values = change.get("$set") if isinstance(change, Mapping) else None
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if str(name) in file_fields(kind) and isinstance(value, _CONTENT):
                raise ValidationError(
                    str(name),
                    f"an update writes its values as they are, and {type_name(value)} is not a reference to a file: "
                    "assign the content to the document's field and save the document",
                )
