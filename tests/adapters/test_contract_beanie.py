"""The adapter contract on Beanie documents."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytest
from beanie import Document, init_beanie

from gridproxy import AsyncGridFile, FileOptions, ImageOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.testing import FieldAdapterCheck, FieldHarness, check_field_adapter, field_adapter_checks

from ..observing import Database

LIMITS = FileOptions(max_size=1000, content_types=["text/plain", "image/png"])


class ContractAnimal(FileDocument, Document):
    name: str | None = None
    photo: AsyncGridFile = AsyncGridFile()
    album: list[AsyncGridFile] = []
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = AsyncGridFile()
    attached: Annotated[AsyncGridFile, FileOptions(on_delete="delete")] = AsyncGridFile()
    limited: Annotated[AsyncGridFile, FileOptions(max_size=1000, content_types=["text/plain", "image/png"])] = (
        AsyncGridFile()
    )
    portrait: Annotated[AsyncGridFile, FileOptions(image=ImageOptions(thumbnail_size=(8, 8, True)))] = AsyncGridFile()


class Revised(ContractAnimal):
    class Settings:
        use_revision = True


# What a revision has a part in.
REVISED = [check for check in field_adapter_checks() if check.name.startswith(("replacing", "deleting"))]


class BeanieHarness(FieldHarness):
    name = "Beanie"
    unsupported: ClassVar[dict[str, str]] = {
        "replacing: two writers, the second is refused": "without use_revision the last one wins",
    }
    document: ClassVar[type[ContractAnimal]] = ContractAnimal

    def __init__(self, database: Database) -> None:
        self.collection = database[self.document.__name__]

    def new(self, **values: Any) -> ContractAnimal:
        return self.document(**values)

    async def save(self, document: Any, session: Any = None) -> None:
        await document.save(session=session)

    async def load(self, id: Any, session: Any = None) -> ContractAnimal:
        found = await self.document.get(id, session=session)
        assert found is not None
        return found

    async def delete(self, document: Any, session: Any = None) -> None:
        await document.delete(session=session)


class RevisedHarness(BeanieHarness):
    name = "Beanie with use_revision"
    unsupported: ClassVar[dict[str, str]] = {}
    document = Revised


@pytest.mark.parametrize("check", field_adapter_checks(), ids=str)
async def test_beanie_keeps_the_contract(check: FieldAdapterCheck, database: Database) -> None:
    await init_beanie(database, document_models=[ContractAnimal])
    await check(BeanieHarness(database))


async def test_with_revisions_the_second_of_two_writers_is_refused(database: Database) -> None:
    await init_beanie(database, document_models=[Revised])
    await check_field_adapter(RevisedHarness(database), only=[check.name for check in REVISED])
