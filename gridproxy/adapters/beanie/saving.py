"""The write of one document, watched: when it is sent, with which files, and whether the server has applied it.

Beanie runs hooks before and after a write, so an error of a save does not say whether the document was written. A save
therefore writes through a `WatchedCollection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from pymongo.results import DeleteResult

from gridproxy.fields.attacher import Attacher
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.values import stored_value
from gridproxy.gridfs.store.collections import Session

from .typed_document import TypedDocument


class Saving:
    """A running save, update or deletion of one document. `stores` says that it may store content."""

    def __init__(self, document: TypedDocument, attacher: Attacher, *, stores: bool = True) -> None:
        self.document = document
        self.attacher = attacher
        self.stores = stores
        self.has_content = False  # whether content was found in the place of an id, as hooks assign it
        self.is_merging = False  # whether the next document that is parsed is merged into this one, and then dropped
        self.deleted: Mapping[str, Any] | None = None  # the document that the server has deleted


# What the work of this context saves, if anything.
current: ContextVar[Saving | None] = ContextVar("gridproxy_beanie_saving", default=None)


class UnstoredContent:
    """Content in the place of a file's id, in what Beanie has encoded. BSON refuses it, so it is never written.

    It differs from every stored value.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]  # Python sets None for a class with __eq__: unhashable

    def __init__(self, file: AsyncGridFile) -> None:
        self.file: AsyncGridFile = file
        self.content: object = file.state.content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnstoredContent) and self.content is other.content

    def __repr__(self) -> str:
        return (
            "content that was assigned to a file field and is not stored yet: put() it, or save its document by "
            "itself, which stores it if the class has the mixin, class X(FileDocument, Document)"
        )


class WatchedCollection:
    """A collection that notes the write of the document that is being saved, and stores content that hooks assigned."""

    def __init__(self, collection: Any, saving: Saving) -> None:
        self._collection = collection
        self._saving = saving

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def insert_one(self, document: Any, *args: Any, session: Session | None = None, **options: Any) -> Any:
        """Insert the document that is being saved."""
        stored = await self._with_ids(document, session)
        self._saving.attacher.note_sent()
        result = await self._collection.insert_one(stored, *args, session=session, **options)
        self._saving.attacher.note_applied()
        return result

    async def replace_one(self, query: Any, document: Any, *args: Any, **options: Any) -> Any:
        """Replace the document that is being saved."""
        if not self._is_own(query):
            return await self._collection.replace_one(query, document, *args, **options)
        stored = await self._with_ids(document, options.get("session"))
        self._saving.attacher.note_sent()
        result = await self._collection.replace_one(query, stored, *args, **options)
        if result.matched_count:
            self._saving.attacher.note_applied()
        return result

    async def find_one_and_update(self, query: Any, update: Any, *args: Any, **options: Any) -> Any:
        """Update the document that is being saved."""
        if not self._is_own(query):
            return await self._collection.find_one_and_update(query, update, *args, **options)
        changes = await self._with_ids(update, options.get("session"))
        self._saving.attacher.note_sent()
        result = await self._collection.find_one_and_update(query, changes, *args, **options)
        if result is not None:
            self._saving.is_merging = True
            self._saving.attacher.note_applied()
        return result

    async def delete_one(self, query: Any, *args: Any, session: Session | None = None, **options: Any) -> Any:
        """Delete the document, and keep what it was: the server says which files it pointed to."""
        if not self._is_own(query):
            return await self._collection.delete_one(query, *args, session=session, **options)
        deleted = await self._collection.find_one_and_delete(query, session=session)
        self._saving.deleted = deleted
        return DeleteResult({"n": 0 if deleted is None else 1}, acknowledged=True)

    def _is_own(self, query: Any) -> bool:
        # Hooks may write other documents of the same class.
        id = self._saving.document.id
        return isinstance(query, Mapping) and "_id" in query and (id is None or query["_id"] == id)

    async def _with_ids(self, value: Any, session: Session | None) -> Any:
        """Return what is written, with the content stored that a hook has assigned."""
        if not (self._saving.stores and self._saving.has_content):
            return value
        await self._saving.attacher.store_more(session)
        return _resolved(value)


def _resolved(value: Any) -> Any:
    if isinstance(value, UnstoredContent):
        return value if value.file.state.content is not None else stored_value(value.file)
    if isinstance(value, Mapping):
        return {key: _resolved(part) for key, part in value.items()}
    return [_resolved(part) for part in value] if isinstance(value, list | tuple) else value
