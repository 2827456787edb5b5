"""Helpers of the checks: comparisons, and shortcuts to the documents and files of a harness."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gridproxy.bucket import Bucket
from gridproxy.file.file import AsyncGridFile

from .harness import FieldHarness


def expect(what: str, actual: object, wanted: object) -> None:
    """Raise `AssertionError` if the values differ. `python -O` would remove an `assert` statement."""
    if actual != wanted:
        raise AssertionError(f"{what}: expected {wanted!r}, got {actual!r}")


@contextmanager
def raising(what: str, *kinds: type[BaseException]) -> Iterator[None]:
    """Raise `AssertionError` unless the block raises one of these errors."""
    try:
        yield
    except kinds:
        return
    names = " or ".join(kind.__name__ for kind in kinds)
    raise AssertionError(f"{what}: expected {names}, but nothing was raised")


class Helper:
    """A harness with shortcuts for the checks."""

    def __init__(self, harness: FieldHarness) -> None:
        self.harness = harness

    def new(self, **values: Any) -> Any:
        """Create a document with a unique name, without saving it."""
        return self.harness.new(**{"name": f"contract {uuid.uuid4().hex}", **values})

    async def saved(self, **values: Any) -> Any:
        document = self.new(**values)
        await self.harness.save(document)
        return document

    async def reload(self, document: Any) -> Any:
        return await self.harness.load(self.harness.id_of(document))

    async def save_and_reload(self, document: Any) -> Any:
        await self.harness.save(document)
        return await self.reload(document)

    async def expect_saved_photo(self, document: Any, content: bytes) -> None:
        """Save a document, and check the content of its photo after loading it again."""
        expect("photo.read()", await (await self.save_and_reload(document)).photo.read(), content)

    async def try_to_save(self, document: Any) -> bool:
        """Save a document, and return whether that succeeded."""
        try:
            await self.harness.save(document)
        except Exception:  # noqa: BLE001  # Each ODM has its own error for a duplicate key and a stale document.
            return False
        return True

    async def raw(self, document: Any) -> dict[str, Any]:
        """Return the stored form of a document."""
        found = await self.harness.collection.find_one({"_id": self.harness.id_of(document)})
        if found is None:
            raise AssertionError("the document is not stored under its id")
        return found

    async def save_and_get_raw(self, document: Any) -> dict[str, Any]:
        """Save a document, and return its stored form."""
        await self.harness.save(document)
        return await self.raw(document)

    async def load_raw(self, **raw: Any) -> Any:
        """Insert a document without the ODM and load it."""
        result = await self.harness.collection.insert_one({"name": f"contract {uuid.uuid4().hex}", **raw})
        return await self.harness.load(result.inserted_id)

    def file(self, id: object) -> AsyncGridFile:
        """Return a file of the bucket "fs" that belongs to no document."""
        return AsyncGridFile(id, bucket=Bucket(self.harness.database))

    async def read(self, id: object) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        file = self.file(id)
        return await file.read() if await file.exists() else None

    async def count_files_and_chunks(self) -> tuple[int, int]:
        """Count the records and the chunks in the bucket "fs"."""
        database = self.harness.database
        return await database["fs.files"].count_documents({}), await database["fs.chunks"].count_documents({})

    async def put(self, data: bytes) -> object:
        """Store a file that belongs to no document, and return its id."""
        file = self.file(None)
        await file.put(data)
        return file.id
