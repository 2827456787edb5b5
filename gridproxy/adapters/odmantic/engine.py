"""AsyncEngine: ODMantic's engine on pymongo's native `AsyncMongoClient`, which keeps the files of its documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, TypeVar, cast

from odmantic import AIOEngine, Model
from odmantic.engine import AIOCursor, AIOSessionType
from odmantic.exceptions import DuplicateKeyError
from odmantic.query import QueryExpression
from pymongo import AsyncMongoClient
from pymongo import errors as pymongo_errors
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, type_name
from gridproxy.fields.attacher import Attacher, refuse_open_files
from gridproxy.fields.default_database import DefaultDatabase
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock_owner

from .model import FileModel, check_containers, held_files, set_default_database
from .session import AsyncSession, AsyncTransaction

M = TypeVar("M", bound=Model)
# All that ODMantic takes, and pymongo's own: to a checker an `AsyncEngine` is an `AIOEngine`.
AnySession = AIOSessionType | Session


class AsyncCursor(AIOCursor[M]):
    """What `AsyncEngine.find` returns: `await` it for a list, or iterate over it; asked once, and remembered.

    Raises ODMantic's `DocumentParsingError`.
    """

    def __init__(
        self,
        model: type[M],
        collection: AsyncCollection[Any],
        pipeline: list[Any],
        session: Session | None,
        default_database: DefaultDatabase,
    ) -> None:
        super().__init__(model, cursor=cast(Any, None))  # it is a coroutine that gives one
        self._collection = collection
        self._pipeline = pipeline
        self._session = session
        self._default_database = default_database

    def __await__(self) -> Generator[Any, None, list[M]]:
        return self._all().__await__()

    async def _all(self) -> list[M]:
        return [document async for document in self]

    async def __aiter__(self) -> AsyncGenerator[M, None]:
        if self._results is None:
            results = []
            async with await self._collection.aggregate(self._pipeline, session=self._session) as cursor:
                async for raw in cursor:
                    document = self._parse_document(raw)
                    results.append(document)
                    yield document
            self._results = results
        else:
            for document in self._results:
                yield document

    def _parse_document(self, raw_doc: dict[str, Any]) -> M:
        document = super()._parse_document(raw_doc)
        _set_default_database(document, self._default_database)
        return document


class AsyncEngine(AIOEngine):
    """ODMantic's `AIOEngine` on pymongo's `AsyncMongoClient`: the same calls, sessions and transactions.

    Of documents that are a `FileModel`, `save` and `save_all` store assigned content and then remove what was replaced,
    in this engine's database; `delete` removes the files of fields with `on_delete="delete"`. Queries take files as
    they take ids.

    It is made of a client and the database's name; raises `BadOption` for another client than an `AsyncMongoClient`. A
    `session=` is one of `session()`, a transaction, or pymongo's own; None for none.

    What saves or deletes raises `UploadInProgress` while a file of the document is being written, `BadId` for a file
    that lies in another database or whose id is no `ObjectId`; what saves also what `AsyncGridFile.replace` raises of
    content, and `FileMissing` for a file of a transaction whose commit got no answer and did not come true. No file is
    lost then. pymongo's errors come as they are, but where ODMantic has its own.

    `remove` deletes by a query and sees no document: it removes no file. Of two writers that have replaced one file
    the last one wins, and the loser's file is left: `check` names both kinds of leftovers. After a transaction that was
    aborted documents have to be found again.
    """

    def __init__(self, client: AsyncMongoClient[Any], database: str = "test") -> None:
        if not isinstance(client, AsyncMongoClient):
            raise BadOption(
                f"AsyncEngine works on pymongo's AsyncMongoClient, not on {type_name(client)}: "
                "for a Motor client there is ODMantic's own AIOEngine"
            )
        super().__init__(cast(Any, client), database)
        self._default_database = DefaultDatabase(client[database])

    def session(self) -> AsyncSession:
        """A session, to be entered: see ODMantic's `AIOEngine.session`."""
        return AsyncSession(self)

    def transaction(self) -> AsyncTransaction:
        """A transaction in a session of its own, to be entered: see ODMantic's `AIOEngine.transaction`."""
        return AsyncTransaction(self)

    def find(
        self,
        model: type[M],
        *queries: QueryExpression | dict[str, Any] | bool,
        sort: Any = None,
        skip: int = 0,
        limit: int | None = None,
        session: AnySession = None,
    ) -> AsyncCursor[M]:
        """See ODMantic's `AIOEngine.find`: without the first `skip` documents, and at most `limit`, None for all.

        Raises TypeError for what is no model or no query, ValueError for a negative `skip` and a `limit` below 1.
        """
        asked = [_by_id(query) for query in queries]
        pipeline = self._prepare_find_pipeline(model, *asked, sort=sort, skip=skip, limit=limit)
        return AsyncCursor(model, self._native(model), pipeline, self._driver_session(session), self._default_database)

    async def count(
        self, model: type[M], *queries: QueryExpression | dict[str, Any] | bool, session: AnySession = None
    ) -> int:
        """See ODMantic's `AIOEngine.count`: how many documents fit. Raises TypeError as `find`."""
        return await super().count(model, *[_by_id(query) for query in queries], session=cast(Any, session))

    async def remove(
        self,
        model: type[M],
        *queries: QueryExpression | dict[str, Any] | bool,
        just_one: bool = False,
        session: AnySession = None,
    ) -> int:
        """See ODMantic's `AIOEngine.remove`: how many documents it deleted, one at most with `just_one`; files stay.

        Raises TypeError as `find`.
        """
        asked = [_by_id(query) for query in queries]
        return await super().remove(model, *asked, just_one=just_one, session=cast(Any, session))

    async def save(self, instance: M, *, session: AnySession = None) -> M:
        """See ODMantic's `AIOEngine.save`; with the document's files, and those of the documents that it refers to.

        Gives `instance` back. Raises as `save_all`.
        """
        await self.save_all([instance], session=session)
        return instance

    async def save_all(self, instances: Sequence[M], *, session: AnySession = None) -> list[M]:
        """See ODMantic's `AIOEngine.save_all`; one after the other, each with its files.

        Raises TypeError for what is no document (nothing is saved then), ODMantic's `DuplicateKeyError` for a unique
        index; those before it are saved.
        """
        for instance in instances:
            if not isinstance(instance, Model):
                raise TypeError(f"AsyncEngine saves documents, instances of a Model, not {type_name(instance)}")
        return [await self._save(instance, cast(Any, self._driver_session(session))) for instance in instances]

    async def _save(self, instance: M, session: Any) -> M:
        for name in instance.__references__:
            await self._save(getattr(instance, name), session)
        kept = _kept(instance)
        if kept is not None:
            async with lock_owner(instance):
                refuse_open_files(held_files(kept))
                check_containers(kept)
                set_default_database(kept, self._default_database)
                attacher = Attacher(instance, lambda: held_files(kept))
                await attacher.save(lambda: self._write(instance, session), session, refusals=(DuplicateKeyError,))
        else:
            await self._write(instance, session)
        return instance

    async def _write(self, instance: Model, session: Session | None) -> None:
        fields = instance.__fields_modified__ | instance.__mutable_fields__
        if not fields:
            return
        changes = instance.model_dump_doc(include=fields)
        query = instance.model_dump_doc(include={instance.__primary_field__})
        try:
            await self._native(type(instance)).update_one(query, {"$set": changes}, upsert=True, session=session)
        except pymongo_errors.DuplicateKeyError as error:
            raise DuplicateKeyError(instance, error) from error
        object.__setattr__(instance, "__fields_modified__", set())

    async def delete(self, instance: M, *, session: AnySession = None) -> None:
        """See ODMantic's `AIOEngine.delete`; then the files of fields with `on_delete="delete"` go.

        Raises ODMantic's `DocumentNotFoundError`; every file stays then.
        """

        async def write() -> bool:
            await super(AsyncEngine, self).delete(instance, session=cast(Any, session))
            return True  # it raises DocumentNotFoundError where there was none

        kept = _kept(instance)
        if kept is not None:
            refuse_open_files(held_files(kept))
            set_default_database(kept, self._default_database)
            await Attacher(instance, lambda: held_files(kept)).delete(write, self._driver_session(session))
        else:
            await write()

    def _native(self, model: type[Model]) -> AsyncCollection[Any]:
        return cast("AsyncCollection[Any]", self.get_collection(model))

    def _driver_session(self, session: AnySession) -> Session | None:
        return cast("Session | None", self._get_session(cast(Any, session)))


def _by_id(query: Any) -> Any:
    """The query with an id in the place of each file."""
    if isinstance(query, AsyncGridFile):
        return query.id
    if isinstance(query, dict):
        return type(query)({key: _by_id(value) for key, value in query.items()})
    return [_by_id(value) for value in query] if isinstance(query, list) else query


def _kept(document: Any) -> FileModel | None:
    """The document, if it keeps files."""
    return document if isinstance(document, FileModel) else None


def _set_default_database(document: Model, default_database: DefaultDatabase) -> None:
    """The document, and those that it refers to, belong to the database that they came from."""
    for name in document.__references__:
        _set_default_database(getattr(document, name), default_database)
    kept = _kept(document)
    if kept is not None:
        set_default_database(kept, default_database)
