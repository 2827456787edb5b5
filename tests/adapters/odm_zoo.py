"""The ODMantic models that tests use."""

from __future__ import annotations

from typing import Annotated

from odmantic import EmbeddedModel, Field, Model, Reference

from gridproxy import AsyncGridFile, FileOptions
from gridproxy.adapters.odmantic import AsyncEngine, FileModel


class Cage(FileModel, EmbeddedModel):
    number: int = 0
    photo: AsyncGridFile = AsyncGridFile()


class Bare(EmbeddedModel):
    photo: AsyncGridFile


class Zoo(FileModel, Model):
    bare: Bare


class Animal(FileModel, Model):
    genus: str = ""
    photo: AsyncGridFile
    badge: Annotated[AsyncGridFile, FileOptions(store="snapshot")]
    album: list[AsyncGridFile] = []
    cage: Cage = Cage()
    cages: list[Cage] = []


class Deleting(FileModel, Model):
    photo: Annotated[AsyncGridFile, FileOptions(on_delete="delete")]
    kept: AsyncGridFile
    album: Annotated[list[AsyncGridFile], FileOptions(on_delete="delete")] = []


class Keeper(FileModel, Model):
    name: str = Field("", unique=True)
    portrait: AsyncGridFile


class Feeder(Model):
    name: str = ""


class Feeding(FileModel, Model):
    feeder: Feeder = Reference()
    plan: AsyncGridFile


class Ward(FileModel, Model):
    keeper: Keeper = Reference()
    plan: AsyncGridFile


async def again(engine: AsyncEngine, animal: Animal) -> Animal:
    """Find the same document, as another process would."""
    found = await engine.find_one(Animal, Animal.id == animal.id)
    assert found is not None
    return found
