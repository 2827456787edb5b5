"""QuerySet: which documents, in which order; asked when it is awaited, never before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, DocumentMissing, MultipleDocumentsFound, ValidationError
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import iterate_locked, lock
from gridproxy.runtime.sessions import bound_session

from .schema import Schema


class Queried(Protocol):
    """A class of documents: `Document`, which is above this module."""

    document_schema: ClassVar[Schema]

    @classmethod
    def from_raw(cls, raw: dict[str, Any]) -> Self:
        """Return the document of what its collection holds."""


D = TypeVar("D", bound=Queried)


class QuerySet(Generic[D]):
    """Documents of one class: `Animal.objects(genus="Marmota").order_by("-family").limit(10)`.

    Each call gives a new set, and asks nothing; `async for` gives the documents one by one. Keywords compare fields
    with values; what they hold is a value, never an operator. 24 hex digits as `id` ask for that `ObjectId` as well as
    for the str. A mapping as the only positional argument is a MongoDB
    filter of yours, taken as it is: build it from your own operators only.

    What asks (`first`, `get`, `to_list`, `count`, `delete`, `async for`) raises `NotConnected` where no database is
    known, and pymongo's own errors. Fields are loaded as they are stored, whoever wrote them.
    """

    def __init__(self, model: type[D]) -> None:
        self._model = model
        self._filters: tuple[Mapping[str, Any], ...] = ()
        self._order: tuple[tuple[str, int], ...] = ()
        self._skip = 0
        self._limit = 0
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"<QuerySet of {self._model.__name__}: {self._query()}>"

    def __call__(self, filter: Mapping[str, Any] | None = None, /, **equal: Any) -> QuerySet[D]:
        """Those that also fit `filter` and every keyword.

        Raises `ValidationError` naming a field that does not exist or cannot hold the value, `BadOption` for a `filter`
        that is no mapping.
        """
        if filter is not None and not isinstance(filter, Mapping):
            raise BadOption(f"a filter is a mapping, and values are keywords: objects(name=...), not {filter!r}")
        filters = [] if filter is None else [filter]
        filters += [self._schema.condition(name, value) for name, value in equal.items()]
        return self._with(_filters=(*self._filters, *filters))

    def order_by(self, *names: str) -> QuerySet[D]:
        """Sorted by these fields, and by no others; a leading '-' means downwards.

        Raises `ValidationError` naming a field that does not exist.
        """
        order = [
            (self._schema.stored_name(name.lstrip("-+")), DESCENDING if name.startswith("-") else ASCENDING)
            for name in names
        ]
        return self._with(_order=tuple(order))

    def skip(self, count: int) -> QuerySet[D]:
        """Without the first `count` documents. Raises `BadOption` for anything but an int that is not negative."""
        return self._with(_skip=_counted("skip", count))

    def limit(self, count: int) -> QuerySet[D]:
        """At most `count` documents, 0 for all. Raises as `skip`."""
        return self._with(_limit=_counted("limit", count))

    def session(self, session: Session | None) -> QuerySet[D]:
        """Asked in this session of pymongo's; None for the one that is bound around the call, if any."""
        return self._with(_session=session)

    async def first(self) -> D | None:
        """The first document, None where there is none."""
        async with aclosing(self._found(1)) as found:
            return await anext(found, None)

    async def get(self) -> D:
        """The only document; raises `DocumentMissing` where there is none, `MultipleDocumentsFound` for more."""
        found = [document async for document in self._found(2)]
        if not found:
            raise DocumentMissing(f"no {self._model.__name__} fits {self._query()}")
        if len(found) > 1:
            raise MultipleDocumentsFound(f"more than one {self._model.__name__} fits {self._query()}")
        return found[0]

    async def to_list(self) -> list[D]:
        """All of them, in memory at once."""
        return [document async for document in self]

    async def count(self) -> int:
        """How many documents there are, `skip` and `limit` taken into account."""
        window = {"skip": self._skip, "limit": self._limit}
        async with lock(self._through()):
            return await self._collection().count_documents(
                self._query(), session=self._session, **{name: value for name, value in window.items() if value}
            )

    async def delete(self) -> int:
        """Remove them all; how many documents they were. Their files stay, whatever `on_delete` says: no hook runs.

        Raises `BadOption` after `skip` or `limit`.
        """
        if self._skip or self._limit:
            raise BadOption("a query with skip or limit cannot delete: MongoDB would remove every document that fits")
        async with lock(self._through()):
            return (await self._collection().delete_many(self._query(), session=self._session)).deleted_count

    def __aiter__(self) -> AsyncIterator[D]:
        return self._found(self._limit)

    async def _found(self, at_most: int) -> AsyncGenerator[D, None]:
        limit = min(at_most, self._limit) if self._limit and at_most else at_most or self._limit
        cursor = self._collection().find(
            self._query(), sort=list(self._order) or None, skip=self._skip, limit=limit, session=self._session
        )
        async with cursor:
            async for raw in iterate_locked(self._through(), cursor):
                yield self._model.from_raw(raw)

    @property
    def _schema(self) -> Schema:
        return self._model.document_schema

    def _through(self) -> Session | None:
        return self._session or bound_session(self._collection().database.client)

    def _collection(self) -> AsyncCollection[dict[str, Any]]:
        return self._schema.collection()

    def _query(self) -> Mapping[str, Any]:
        if len(self._filters) < 2:
            return self._filters[0] if self._filters else {}
        return {"$and": list(self._filters)}

    def _with(self, **changes: Any) -> QuerySet[D]:
        other = QuerySet(self._model)
        other.__dict__.update(self.__dict__, **changes)
        return other


class Objects:
    """`Animal.objects`: the set of all documents of the class it is asked on."""

    def __get__(self, instance: object, owner: type[D]) -> QuerySet[D]:
        if instance is not None:
            raise ValidationError("objects", f"ask the class ({owner.__name__}.objects), not a document")
        return QuerySet(owner)


def _counted(name: str, count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadOption(f"{name} takes a number of documents, not {count!r}")
    return count
