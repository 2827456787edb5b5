"""QuerySet: which documents, and in which order. It sends no query before it is awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, DocumentMissing, MultipleDocumentsFound, ValidationError
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session
from gridproxy.runtime.tasks import iterate_locked, released

from .schema import Schema


class Queried(Protocol):
    """A class of documents: `Document`, which this module cannot import."""

    document_schema: ClassVar[Schema]

    @classmethod
    def from_raw(cls, raw: dict[str, Any]) -> Self:
        """Return the document of what its collection holds."""


D = TypeVar("D", bound=Queried)


class QuerySet(Generic[D]):
    """Documents of one class: `Animal.objects(genus="Marmota").order_by("-family").limit(10)`.

    Each call returns a new set and does no I/O. `async for` yields the documents one by one. They are loaded as they
    are stored, without checks. In the examples `Animal` is the class shown at `Document`.

    Raises:
        NotConnected: No database is known, in `first`, `get`, `to_list`, `count`, `delete` and `async for`. These
            also raise pymongo's own errors.

    ```python
    async for animal in Animal.objects(genus="Marmota").order_by("-id").limit(10):
        assert animal.genus == "Marmota"
    ```
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
        """Return the documents that also match `filter` and every keyword.

        Args:
            filter: A MongoDB filter, which is sent as it is. Never build it from the input of a user.
            **equal: Values of fields, which are never read as operators. As `id`, 24 hex digits match the `ObjectId`
                and the str.

        Raises:
            ValidationError: There is no such field, or it cannot hold the value.
            BadOption: `filter` is not a mapping.

        ```python
        assert await Animal.objects({"genus": {"$in": ["Lemmus"]}}, id=1).count() == 0
        ```
        """
        if filter is not None and not isinstance(filter, Mapping):
            raise BadOption(
                f"a filter must be a mapping, not {filter!r}: pass values as keywords, such as objects(name=...)"
            )
        filters = [] if filter is None else [filter]
        filters += [self._schema.condition(name, value) for name, value in equal.items()]
        return self._with(_filters=(*self._filters, *filters))

    def order_by(self, *names: str) -> QuerySet[D]:
        """Return the documents sorted by these fields only. A leading "-" sorts in descending order.

        Raises:
            ValidationError: There is no such field.

        ```python
        animals = await Animal.objects.order_by("genus", "-id").to_list()
        ```
        """
        order = [
            (self._schema.stored_name(name.lstrip("-+")), DESCENDING if name.startswith("-") else ASCENDING)
            for name in names
        ]
        return self._with(_order=tuple(order))

    def skip(self, count: int) -> QuerySet[D]:
        """Return the documents without the first `count`. Raises `BadOption` unless it is an int of 0 or more.

        ```python
        second = await Animal.objects.order_by("id").skip(1).first()
        ```
        """
        return self._with(_skip=_counted("skip", count))

    def limit(self, count: int) -> QuerySet[D]:
        """Return at most `count` documents, all of them for 0. Raises `BadOption` as `skip` does.

        ```python
        assert len(await Animal.objects.limit(1).to_list()) <= 1
        ```
        """
        return self._with(_limit=_counted("limit", count))

    def session(self, session: Session | None) -> QuerySet[D]:
        """Return the same query in a session of pymongo's. None for the session that is bound around the call, if any.

        ```python
        async with client.start_session() as session:
            await Animal.objects.session(session).count()
        ```
        """
        return self._with(_session=session)

    async def first(self) -> D | None:
        """Return the first document, or None if no document matches.

        ```python
        assert await Animal.objects(genus="Lemmus").first() is None
        ```
        """
        async with aclosing(self._found(1)) as found:
            return await anext(found, None)

    async def get(self) -> D:
        """Return the only document.

        Raises:
            DocumentMissing: No document matches.
            MultipleDocumentsFound: More than one document matches.

        ```python
        animal = await Animal.objects(id=(await Animal(genus="Pika").save()).id).get()
        ```
        """
        found = [document async for document in self._found(2)]
        if not found:
            raise DocumentMissing(f"no {self._model.__name__} matches {self._query()}")
        if len(found) > 1:
            raise MultipleDocumentsFound(f"more than one {self._model.__name__} matches {self._query()}")
        return found[0]

    async def to_list(self) -> list[D]:
        """Return all documents in one list.

        ```python
        animals = await Animal.objects(genus="Marmota").to_list()
        ```
        """
        return [document async for document in self]

    async def count(self) -> int:
        """Return the number of documents, with respect to `skip` and `limit`.

        ```python
        assert await Animal.objects(genus="Lemmus").count() == 0
        ```
        """
        window = {"skip": self._skip, "limit": self._limit}
        async with lock(self._through()):
            return await self._collection().count_documents(
                self._query(), session=self._session, **{name: value for name, value in window.items() if value}
            )

    async def delete(self) -> int:
        """Remove the documents and return their number. Their files are kept, even with `on_delete="delete"`.

        Raises:
            BadOption: The query has `skip` or `limit`.

        ```python
        assert await Animal.objects(genus="Lemmus").delete() == 0
        ```
        """
        if self._skip or self._limit:
            raise BadOption(
                "a query with skip or limit cannot delete, because MongoDB would remove every document that matches"
            )
        async with lock(self._through()):
            return (await self._collection().delete_many(self._query(), session=self._session)).deleted_count

    def __aiter__(self) -> AsyncIterator[D]:
        return self._found(self._limit)

    async def _found(self, at_most: int) -> AsyncGenerator[D, None]:
        limit = min(at_most, self._limit) if self._limit and at_most else at_most or self._limit
        cursor = self._collection().find(
            self._query(), sort=list(self._order) or None, skip=self._skip, limit=limit, session=self._session
        )
        async with released(cursor):
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
        filters = [*self._schema.conditions(), *self._filters]
        if len(filters) < 2:
            return filters[0] if filters else {}
        return {"$and": filters}

    def _with(self, **changes: Any) -> QuerySet[D]:
        other = QuerySet(self._model)
        other.__dict__.update(self.__dict__, **changes)
        return other


class Objects:
    """`Animal.objects`: the `QuerySet` of all documents of the class."""

    def __get__(self, instance: object, owner: type[D]) -> QuerySet[D]:
        if instance is not None:
            raise ValidationError("objects", f"use {owner.__name__}.objects: a document has no objects")
        return QuerySet(owner)


def _counted(name: str, count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadOption(f"{name} must be a number of documents, 0 or more, not {count!r}")
    return count
