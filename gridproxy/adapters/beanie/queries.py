"""Beanie's queries: a condition on a file matches both stored forms, and an update refuses content for a file field."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from beanie.odm.operators.find.comparison import Eq
from beanie.odm.operators.find.logical import LogicalOperatorForListOfExpressions, Not
from beanie.odm.queries.find import FindMany, FindOne
from beanie.odm.queries.update import UpdateMany, UpdateOne
from bson import Regex
from pydantic import BaseModel

from gridproxy.errors import ValidationError, shown, type_name
from gridproxy.fields.queries import holds_file, match_both_forms

from .fields import class_of

# Types that are never a reference to a file.
_CONTENT = (bytes, bytearray, memoryview, os.PathLike, io.IOBase)


_BY_ID = {"_id"}


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
    find_expressions: list[Mapping[str, Any]]

    def get_filter_query(self) -> dict[str, Any]:
        """Return the filter. A condition on a file matches ids and snapshots."""
        asked = self.find_expressions
        if len(asked) == 1 and type(asked[0]) is dict and asked[0].keys() == _BY_ID:
            return super().get_filter_query()  # as a save finds its document
        self.find_expressions = list(map(partial(_in_both_forms, self.document_model), asked))
        try:
            return super().get_filter_query()
        finally:
            self.find_expressions = asked


class FileFindMany(FindMany[Any]):
    """Beanie's query for many documents. Its updates raise `ValidationError` for content."""

    UpdateQueryType: type[UpdateMany] = _RefusingUpdateMany
    find_expressions: list[Mapping[str, Any]]

    def get_filter_query(self) -> dict[str, Any]:
        """Return the filter. A condition on a file matches ids and snapshots."""
        asked = self.find_expressions
        if len(asked) == 1 and type(asked[0]) is dict and asked[0].keys() == _BY_ID:
            return super().get_filter_query()  # as a save finds its document
        self.find_expressions = list(map(partial(_in_both_forms, self.document_model), asked))
        try:
            return super().get_filter_query()
        finally:
            self.find_expressions = asked


def _refuse_operators(kind: type[BaseModel], query: object) -> None:
    """Raise `ValidationError` for `Model.file == value` if the value is an operator or a pattern for the server."""
    if isinstance(query, Eq):
        key, value = str(query.field), query.other
        operators = isinstance(value, Mapping) and any(str(each).startswith("$") for each in value)
        if (operators or isinstance(value, re.Pattern | Regex)) and holds_file(kind, key.removesuffix("._id")):
            reason = f"a file is compared with a file, an id or None, not with {shown(value)}, which matches others"
            raise ValidationError(key, reason)
    elif isinstance(query, LogicalOperatorForListOfExpressions):
        for each in query.expressions:
            _refuse_operators(kind, each)
    elif isinstance(query, Not):
        _refuse_operators(kind, query.expression)
    elif isinstance(query, Mapping):
        for name, parts in query.items():
            for each in parts if str(name) in ("$and", "$or", "$nor") and isinstance(parts, list | tuple) else ():
                _refuse_operators(kind, each)


def _in_both_forms(kind: type[BaseModel], query: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse_operators(kind, query)
    # A save finds its document by `_id` alone.
    return query if list(map(str, query)) == ["_id"] else match_both_forms(query, partial(holds_file, kind))


def _refuse_content(kind: type[object], changes: Iterable[object]) -> None:
    fields = class_of(kind).fields
    for change in changes:
        values = change.get("$set") if isinstance(change, Mapping) else None
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if str(name) in fields and isinstance(value, _CONTENT):
                raise ValidationError(
                    str(name),
                    f"an update writes its values as they are, and {type_name(value)} is not a reference to a file: "
                    "assign the content to the document's field and save the document",
                )
