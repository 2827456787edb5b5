"""The documents that most tests of file fields use, and what they send when they are saved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gridproxy
from gridproxy.adapters.document import Document, FileField, ListField, StringField

from ..observing import Commands, Database, observed


class Animal(Document):
    genus = StringField()
    photo = FileField()
    sound = FileField(bucket="sounds")
    album = ListField(FileField())


class Deleting(Document):
    photo = FileField(on_delete="delete")
    album = ListField(FileField(on_delete="delete"))
    kept = FileField()


async def stored(**values: Any) -> Animal:
    """Save an animal."""
    return await Animal(**values).save()


async def found() -> Animal:
    """Find the only animal, as another process would."""
    return await Animal.objects.get()


@asynccontextmanager
async def watched(uri: str, database: Database) -> AsyncIterator[Commands]:
    """Collect the commands of documents inside the block."""
    async with observed(uri, database.name) as (other, commands):
        with gridproxy.using(other):
            yield commands


async def updates_of(commands: Commands, save: Callable[[], Any]) -> list[Any]:
    commands.clear()
    await save()
    return [update["u"]["$set"] for command in commands.of("update") for update in command["updates"]]
