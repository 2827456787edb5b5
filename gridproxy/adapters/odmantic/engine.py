"""AsyncEngine: ODMantic's engine on pymongo's native `AsyncMongoClient`, with files in its documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from odmantic import AIOEngine, Model
from odmantic.engine import AIOCursor, AIOSessionType
from odmantic.exceptions import DocumentNotFoundError, DuplicateKeyError
from odmantic.query import QueryExpression
from pymongo import AsyncMongoClient
from pymongo import errors as pymongo_errors
from pymongo.asynchronous.collection import AsyncCollection

from gridproxy.errors import BadOption, describe_object, type_name
from gridproxy.fields.attacher import Attacher, StoredFile, refuse_open_files
from gridproxy.fields.default_database import DefaultDatabase
from gridproxy.fields.queries import holds_file, match_both_forms
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock_owner

from .model import FileModel, check_containers, held_files, set_default_database, stored_files
from .session import AsyncSession, AsyncTransaction

M = TypeVar("M", bound=Model)
# ODMantic's sessions and pymongo's own: for a type checker an `AsyncEngine` is an `AIOEngine`.
AnySession = AIOSessionType | Session


class AsyncCursor(AIOCursor[M]):
    """The result of `AsyncEngine.find`: `await` it for a list, or iterate over it. It sends its query once.

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
        super().__init__(model, cursor=cast(Any, None))  # the cursor of an aggregation has to be awaited
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

    For a document that is a `FileModel`, `save` and `save_all` store assigned content and then remove replaced files,
    in the database of this engine. `delete` removes the files of fields with `on_delete="delete"`. A query accepts a
    file as it accepts an id. After an aborted transaction, find its documents again.

    If two clients replace one file, the last save wins, and the other client's file is left. `remove` deletes by a
    query and removes no file. `check` finds the files that are left.

    Arguments and results are ODMantic's. `session` is a session or a transaction of this engine, or pymongo's own
    session.

    Args:
        client: The client.
        database: The name of the database.

    Raises:
        BadOption: The client is not an `AsyncMongoClient`.
        UploadInProgress: A file of the document is being written, on saving and deleting.
        BadId: A file is in another database, or its id is not an `ObjectId`.
        FileMissing: A file was stored in a transaction that was not committed, on saving.
        GridProxyError: As `AsyncGridFile.replace` raises for content, on saving. No file is lost then.

    ```python
    from odmantic import Model
    from gridproxy.adapters.odmantic import AsyncEngine, FileModel

    class Badger(FileModel, Model):
        photo: AsyncGridFile

    engine = AsyncEngine(client, "zoo")
    badger = await engine.save(Badger(photo=b"a badger"))
    assert await (await engine.find_one(Badger, Badger.id == badger.id)).photo.read() == b"a badger"
    ```
    """

    def __init__(self, client: AsyncMongoClient[Any], database: str = "test") -> None:
        if not isinstance(client, AsyncMongoClient):
            raise BadOption(
                f"AsyncEngine works on pymongo's AsyncMongoClient, not on {describe_object(client)} "
                "(for a Motor client there is ODMantic's own AIOEngine)"
            )
        super().__init__(cast(Any, client), database)
        self._default_database = DefaultDatabase(client[database])

    def session(self) -> AsyncSession:
        """Return a session for an `async with` block. See ODMantic's `AIOEngine.session`.

        ```python
        async with engine.session() as session:
            await session.save(badger)
        ```
        """
        return AsyncSession(self)

    def transaction(self) -> AsyncTransaction:
        """Return a transaction in its own session, for an `async with` block. See `AIOEngine.transaction`.

        ```python
        async with engine.transaction() as transaction:
            await transaction.save(badger)
            await transaction.commit()
        ```
        """
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
        """Find documents. See ODMantic's `AIOEngine.find`.

        Raises:
            TypeError: `model` is not a model, or a query is not one.
            ValueError: `skip` is negative, or `limit` is below 1.

        ```python
        badgers = await engine.find(Badger, sort=Badger.id, skip=0, limit=10)
        ```
        """
        asked = [_match_both_forms(model, query) for query in queries]
        pipeline = self._prepare_find_pipeline(model, *asked, sort=sort, skip=skip, limit=limit)
        return AsyncCursor(model, self._native(model), pipeline, self._driver_session(session), self._default_database)

    async def count(
        self, model: type[M], *queries: QueryExpression | dict[str, Any] | bool, session: AnySession = None
    ) -> int:
        """Return the number of documents that match. Raises TypeError as `find` does.

        ```python
        assert await engine.count(Badger, Badger.photo == badger.photo) == 1
        ```
        """
        return await super().count(
            model, *[_match_both_forms(model, query) for query in queries], session=cast(Any, session)
        )

    async def remove(
        self,
        model: type[M],
        *queries: QueryExpression | dict[str, Any] | bool,
        just_one: bool = False,
        session: AnySession = None,
    ) -> int:
        """Delete the documents that match, at most one with `just_one`, and return their number. Files are kept.

        Raises TypeError as `find` does.

        ```python
        await engine.remove(Badger, Badger.photo == file, just_one=True)
        ```
        """
        asked = [_match_both_forms(model, query) for query in queries]
        return await super().remove(model, *asked, just_one=just_one, session=cast(Any, session))

    async def save(self, instance: M, *, session: AnySession = None) -> M:
        """Save a document and the documents that it refers to, with their files, and return it.

        Raises as `save_all` does.

        ```python
        badger.photo = b"another badger"
        await engine.save(badger)
        ```
        """
        await self.save_all([instance], session=session)
        return instance

    async def save_all(self, instances: Sequence[M], *, session: AnySession = None) -> list[M]:
        """Save documents one after the other, each with its files.

        Raises:
            TypeError: One of them is not a document. Nothing is saved then.
            DuplicateKeyError: ODMantic's, of a unique index. The documents before this one are saved then.

        ```python
        await engine.save_all([Badger(photo=b"one"), Badger(photo=b"two")])
        ```
        """
        for instance in instances:
            if not isinstance(instance, Model):
                raise TypeError(f"AsyncEngine saves documents (instances of a Model), not {type_name(instance)}")
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
                client = self._default_database.database.client
                attacher = Attacher(instance, lambda: held_files(kept), client=client)
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
        """Delete a document, then its files of fields with `on_delete="delete"`.

        Raises:
            DocumentNotFoundError: ODMantic's, if the document is not stored. Every file is kept then.

        ```python
        await engine.delete(badger)
        ```
        """

        kept, driver_session = _kept(instance), self._driver_session(session)

        async def write() -> list[StoredFile]:
            query = {"_id": getattr(instance, instance.__primary_field__)}
            # The server says which files the document had: another client may have replaced them.
            raw = await self._native(type(instance)).find_one_and_delete(query, session=driver_session)
            if raw is None:
                raise DocumentNotFoundError(instance)
            return [] if kept is None else stored_files(kept, raw, self._default_database)

        if kept is not None:
            async with lock_owner(instance):
                refuse_open_files(held_files(kept))
                set_default_database(kept, self._default_database)
                client = self._default_database.database.client
                await Attacher(instance, lambda: held_files(kept), client=client).delete(write, driver_session)
        else:
            await write()

    def _native(self, model: type[Model]) -> AsyncCollection[Any]:
        return cast("AsyncCollection[Any]", self.get_collection(model))

    def _driver_session(self, session: AnySession) -> Session | None:
        return cast("Session | None", self._get_session(cast(Any, session)))


def _match_both_forms(model: type[Model], query: Any) -> Any:
    """Return the query with conditions on files that match ids and snapshots."""
    if not isinstance(query, dict):
        return query
    return type(query)(match_both_forms(query, partial(holds_file, model, stored_name=_key_name)))


def _key_name(kind: Any, name: str) -> str:
    return str(getattr(getattr(kind, "__odm_fields__", {}).get(name), "key_name", name))


def _kept(document: Any) -> FileModel | None:
    """Return the document if it is a `FileModel`."""
    return document if isinstance(document, FileModel) else None


def _set_default_database(document: Model, default_database: DefaultDatabase) -> None:
    """Let the document, and those that it refers to, belong to the database from which they were loaded."""
    for name in document.__references__:
        _set_default_database(getattr(document, name), default_database)
    kept = _kept(document)
    if kept is not None:
        set_default_database(kept, default_database)
