"""The adapter contract on ODMantic models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Optional

import pytest
from odmantic import Model

from gridproxy import AsyncGridFile, FileOptions, ImageOptions
from gridproxy.adapters.odmantic import AsyncEngine, FileModel
from gridproxy.testing import FieldAdapterCheck, FieldHarness, field_adapter_checks

from ..observing import Database

pytestmark = pytest.mark.usefixtures("connected")


class ContractAnimal(FileModel, Model):
    name: Optional[str] = None  # noqa: UP045  # ODMantic 1.0 knows no `X | None`
    photo: AsyncGridFile
    album: list[AsyncGridFile] = []
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")]
    attached: Annotated[AsyncGridFile, FileOptions(on_delete="delete")]
    limited: Annotated[AsyncGridFile, FileOptions(max_size=1000, content_types=["text/plain", "image/png"])]
    portrait: Annotated[AsyncGridFile, FileOptions(image=ImageOptions(thumbnail_size=(8, 8, True)))]


class OdmanticHarness(FieldHarness):
    name = "ODMantic"
    unsupported: ClassVar[dict[str, str]] = {
        "replacing: two writers, the second is refused": "ODMantic has no revisions: the last one wins",
    }

    def __init__(self, database: Database) -> None:
        self.collection = database["contract_animal"]
        self.engine = AsyncEngine(database.client, database.name)

    def new(self, **values: Any) -> ContractAnimal:
        return ContractAnimal(**values)

    async def save(self, document: Any, session: Any = None) -> None:
        await self.engine.save(document, session=session)

    async def load(self, id: Any, session: Any = None) -> ContractAnimal:
        found = await self.engine.find_one(ContractAnimal, ContractAnimal.id == id, session=session)
        assert found is not None
        return found

    async def delete(self, document: Any, session: Any = None) -> None:
        await self.engine.delete(document, session=session)


@pytest.mark.parametrize("check", field_adapter_checks(), ids=str)
async def test_odmantic_keeps_the_contract(check: FieldAdapterCheck, database: Database) -> None:
    await check(OdmanticHarness(database))
