"""The adapter contract on a short adapter for an ODM without built-in support."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import mongoz
import pytest

from gridproxy import AsyncGridFile, FileOptions, ImageOptions
from gridproxy.testing import FieldAdapterCheck, FieldHarness, field_adapter_checks

from ..observing import Database
from .mongoz_adapter import FileDocument

pytestmark = pytest.mark.usefixtures("connected")


class ContractAnimal(FileDocument, mongoz.Document):
    name: str | None = mongoz.String(null=True)
    photo: AsyncGridFile
    album: list[AsyncGridFile] = []
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")]
    attached: Annotated[AsyncGridFile, FileOptions(on_delete="delete")]
    limited: Annotated[AsyncGridFile, FileOptions(max_size=1000, content_types=["text/plain", "image/png"])]
    portrait: Annotated[AsyncGridFile, FileOptions(image=ImageOptions(thumbnail_size=(8, 8, True)))]

    class Meta:
        # Mongoz makes a client of its own for it; the tests give each call the collection of theirs.
        registry = mongoz.Registry("mongodb://not.used")
        database = "not_used"


class MongozHarness(FieldHarness):
    name = "Mongoz"
    unsupported: ClassVar[dict[str, str]] = {
        "replacing: two writers, the second is refused": "Mongoz has no revisions: the last one wins",
        "deleting: a stale document": "Mongoz does not say what it deleted",
        "copying: deepcopy": "a Mongoz document holds its collection, which cannot be copied",
        "copying: pickle": "a Mongoz document holds its collection, which cannot be pickled",
    }

    def __init__(self, database: Database) -> None:
        self.collection = database["animals"]

    def new(self, **values: Any) -> ContractAnimal:
        return ContractAnimal(**values)

    async def save(self, document: Any, session: Any = None) -> None:
        await document.save(self.collection, session=session)

    async def load(self, id: Any, session: Any = None) -> Any:
        raw = await self.collection.find_one({"_id": id}, session=session)
        assert raw is not None
        return ContractAnimal.from_row(raw, from_collection=self.collection)

    async def delete(self, document: Any, session: Any = None) -> None:
        await document.delete(self.collection, session=session)


@pytest.mark.parametrize("check", field_adapter_checks(), ids=str)
async def test_the_mongoz_adapter_keeps_the_contract(check: FieldAdapterCheck, database: Database) -> None:
    await check(MongozHarness(database))
