"""The documents that the tests of Beanie use."""

from __future__ import annotations

from typing import Annotated, Any, Optional

from beanie import Document, DocumentWithSoftDelete, Link, init_beanie
from beanie.operators import Set
from pydantic import BaseModel, ConfigDict

from gridproxy import AsyncGridFile, FileOptions
from gridproxy.adapters.beanie import FileDocument

from ..observing import Database


class Home(BaseModel):
    model_config = ConfigDict(validate_assignment=True)
    door: AsyncGridFile = AsyncGridFile()
    windows: list[AsyncGridFile] = []


class Animal(FileDocument, Document):
    name: str = ""
    photo: AsyncGridFile = AsyncGridFile()
    sound: Annotated[AsyncGridFile, FileOptions(bucket="sounds", max_size=100)] = AsyncGridFile()
    album: list[AsyncGridFile] = []
    by_name: dict[str, AsyncGridFile] = {}
    pair: tuple[AsyncGridFile, AsyncGridFile] | None = None
    perhaps: Optional[AsyncGridFile] = None  # noqa: UP045  # as people write it
    home: Home | None = None

    class Settings:
        use_state_management = True


class Badged(FileDocument, Document):
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")] = AsyncGridFile()


class StatefulBadge(Badged):
    class Settings:
        use_state_management = True


class Nullless(FileDocument, Document):
    name: str | None = None
    photo: AsyncGridFile = AsyncGridFile()

    class Settings:
        keep_nulls = False


class Validating(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()
    home: Home = Home()

    class Settings:
        validate_on_save = True


class Soft(FileDocument, DocumentWithSoftDelete):
    attached: Annotated[AsyncGridFile, FileOptions(on_delete="delete")] = AsyncGridFile()


class Keeper(FileDocument, Document):
    badge: Annotated[AsyncGridFile, FileOptions(on_delete="delete")] = AsyncGridFile()
    animals: list[Link[Animal]] = []
    favourite: Link[Animal] | None = None


class Beast(FileDocument, Document):
    photo: AsyncGridFile = AsyncGridFile()

    class Settings:
        is_root = True


class Marmot(Beast):
    whistle: Annotated[AsyncGridFile, FileOptions(bucket="sounds", on_delete="delete")] = AsyncGridFile()


DOCUMENTS: list[Any] = [Animal, Badged, StatefulBadge, Nullless, Validating, Soft, Keeper, Beast, Marmot]


async def beanie_of(database: Database) -> None:
    await init_beanie(database, document_models=DOCUMENTS)


def setting(values: dict[Any, Any]) -> Any:
    """Beanie's operator, which has no types."""
    operator: Any = Set
    return operator(values)


async def found(kind: type[Any] = Animal) -> Any:
    """Find the only document of a class, as another process would."""
    document = await kind.find_one()
    assert document is not None
    return document
