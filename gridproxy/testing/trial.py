"""Trial: one harness under a check: what is stored, and what was expected."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gridproxy.bucket import Bucket
from gridproxy.file.file import AsyncGridFile

from .harness import FieldHarness


def expect(what: str, actual: object, wanted: object) -> None:
    """Raise `AssertionError` saying `what` was not so; no bare `assert`, which `python -O` leaves out."""
    if actual != wanted:
        raise AssertionError(f"{what}: {wanted!r} was expected, and it is {actual!r}")


@contextmanager
def raising(what: str, *kinds: type[BaseException]) -> Iterator[None]:
    """Raise `AssertionError` unless the block raises one of these errors."""
    try:
        yield
    except kinds:
        return
    names = " or ".join(kind.__name__ for kind in kinds)
    raise AssertionError(f"{what}: {names} was expected, and nothing was raised")


class Trial:
    """The harness, and what checks ask of it again and again."""

    def __init__(self, harness: FieldHarness) -> None:
        self.harness = harness

    def new(self, **values: Any) -> Any:
        """A document of its own name, not saved."""
        return self.harness.new(**{"name": f"contract {uuid.uuid4().hex}", **values})

    async def stored(self, **values: Any) -> Any:
        """A document that was saved."""
        document = self.new(**values)
        await self.harness.save(document)
        return document

    async def again(self, document: Any) -> Any:
        """The same document, as another process would load it."""
        return await self.harness.load(self.harness.id_of(document))

    async def raw(self, document: Any) -> dict[str, Any]:
        """The document as it lies in the collection."""
        found = await self.harness.collection.find_one({"_id": self.harness.id_of(document)})
        if found is None:
            raise AssertionError("the document is not stored under its id")
        return found

    async def loaded(self, **raw: Any) -> Any:
        """A document that other code has written."""
        result = await self.harness.collection.insert_one({"name": f"contract {uuid.uuid4().hex}", **raw})
        return await self.harness.load(result.inserted_id)

    def file(self, id: object) -> AsyncGridFile:
        """A file of the bucket "fs", by itself."""
        return AsyncGridFile(id, bucket=Bucket(self.harness.database))

    async def bytes_in(self, id: object) -> bytes | None:
        """What is stored under this id; None where nothing is."""
        file = self.file(id)
        return await file.read() if await file.exists() else None

    async def files_and_chunks(self) -> tuple[int, int]:
        """How many records and how many chunks lie in the bucket "fs"."""
        database = self.harness.database
        return await database["fs.files"].count_documents({}), await database["fs.chunks"].count_documents({})

    async def put(self, data: bytes) -> object:
        """The id of a file that no document holds."""
        file = self.file(None)
        await file.put(data)
        return file.id
