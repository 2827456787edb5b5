"""Beanie's queries: a condition on a file matches both stored forms, and an update refuses content for a file field."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from beanie.odm.queries.find import FindMany, FindOne, FindQuery
from beanie.odm.queries.update import UpdateMany, UpdateOne

from gridproxy.errors import ValidationError, type_name
from gridproxy.fields.queries import holds_file, match_both_forms

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


class FileFindOne(FindOne[Any]):
    """Beanie's query for one document. Its updates raise `ValidationError` for content."""

    UpdateQueryType: type[UpdateOne] = _RefusingUpdateOne

    def get_filter_query(self) -> dict[str, Any]:
        """Return the filter. A condition on a file matches ids and snapshots."""
        with _both_forms(self):
            return super().get_filter_query()


class FileFindMany(FindMany[Any]):
    """Beanie's query for many documents. Its updates raise `ValidationError` for content."""

    UpdateQueryType: type[UpdateMany] = _RefusingUpdateMany

    def get_filter_query(self) -> dict[str, Any]:
        """Return the filter. A condition on a file matches ids and snapshots."""
        with _both_forms(self):
            return super().get_filter_query()


@contextmanager
def _both_forms(query: FindQuery[Any]) -> Iterator[None]:
    asked, holds = query.find_expressions, partial(holds_file, query.document_model)
    query.find_expressions = [match_both_forms(each, holds) for each in asked]
    try:
        yield
    finally:
        query.find_expressions = asked


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
