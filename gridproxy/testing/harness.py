"""FieldHarness: what the suite has to be told of an ODM to try its file fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase


class FieldHarness(ABC):
    """An ODM, as the suite drives it. Subclass it, and give `check_field_adapter` an instance.

    The class of documents has these fields, stored under the same names, and is importable (its documents are pickled):

    - `name`         a str or None, with a default
    - `photo`        a file in the bucket "fs"
    - `album`        a list of such files, empty where nothing was given
    - `badge`        a file with `store="snapshot"`
    - `attached`     a file with `on_delete="delete"`
    - `limited`      a file with `max_size=1000` and `content_types=["text/plain", "image/png"]` (extra `sniff`)
    - `portrait`     a file with `image=ImageOptions(thumbnail_size=(8, 8, True))` (extra `images`)

    `max_size` is in bytes, `thumbnail_size` in pixels. `collection` is the one that they are stored in, by a client of
    the running event loop. The suite writes documents and files there, and removes none of what an ODM should have
    removed: give it a database for trials.

    `session` is pymongo's, None for none. The methods raise what the ODM raises.
    """

    name: ClassVar[str]
    """The ODM's name, for reports."""

    unsupported: ClassVar[Mapping[str, str]] = {}
    """Checks that this ODM cannot pass, by name, with the reason. Such a check must fail."""

    collection: AsyncCollection[dict[str, Any]]
    """Where the documents are stored; "fs" lies in its database."""

    @abstractmethod
    def new(self, **values: Any) -> Any:
        """A document with these values, not saved."""

    @abstractmethod
    async def save(self, document: Any, session: AsyncClientSession | None = None) -> None:
        """Store the document, a new one or a changed one, by the ODM's ordinary call."""

    @abstractmethod
    async def load(self, id: Any, session: AsyncClientSession | None = None) -> Any:
        """The stored document of this `_id`, as another process would see it."""

    @abstractmethod
    async def delete(self, document: Any, session: AsyncClientSession | None = None) -> None:
        """Remove the document by the ODM's ordinary call."""

    def id_of(self, document: Any) -> Any:
        """A saved document's `_id`; `document.id`, unless overridden."""
        return document.id

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """The database of the collection."""
        return self.collection.database
