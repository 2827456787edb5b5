"""The interface between the contract and an ODM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase


class FieldHarness(ABC):
    """An ODM as the contract uses it. Subclass it and pass an instance to `check_field_adapter`.

    The document class must be importable, because its documents are pickled. It has these fields, stored under the same
    names:

    - `name`         a str or None, with a default
    - `photo`        a file in the bucket "fs"
    - `album`        a list of such files, empty by default
    - `badge`        a file with `store="snapshot"`
    - `attached`     a file with `on_delete="delete"`
    - `limited`      a file with `max_size=1000` and `content_types=["text/plain", "image/png"]` (extra `sniff`)
    - `portrait`     a file with `image=ImageOptions(thumbnail_size=(8, 8, True))` (extra `images`)

    `max_size` is in bytes, `thumbnail_size` in pixels. `session` is a session of pymongo or None. The methods raise the
    errors of the ODM. Use a test database: the checks leave documents and files in it.

    ```python
    class MyHarness(FieldHarness):
        name = "MyODM"
        unsupported = {"lists: of files": "MyODM has no lists"}
    ```
    """

    name: ClassVar[str]
    """The ODM's name, which reports show."""

    unsupported: ClassVar[Mapping[str, str]] = {}
    """The names of checks that this ODM cannot pass, with the reasons. These checks must fail."""

    collection: AsyncCollection[dict[str, Any]]
    """The collection of the documents, whose client belongs to the running event loop. Its database contains "fs"."""

    @abstractmethod
    def new(self, **values: Any) -> Any:
        """Create a document with these values, without saving it."""

    @abstractmethod
    async def save(self, document: Any, session: AsyncClientSession | None = None) -> None:
        """Save a new or changed document with the ODM's usual call."""

    @abstractmethod
    async def load(self, id: Any, session: AsyncClientSession | None = None) -> Any:
        """Load the document with this `_id` from the database."""

    @abstractmethod
    async def delete(self, document: Any, session: AsyncClientSession | None = None) -> None:
        """Delete the document with the ODM's usual call."""

    def id_of(self, document: Any) -> Any:
        """Return the `_id` of a saved document, by default `document.id`."""
        return document.id

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """The database of the collection."""
        return self.collection.database
