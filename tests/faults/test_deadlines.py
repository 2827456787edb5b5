"""Deadlines and cancellations on a server that accepts and never answers: every operation ends soon after them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from beanie import init_beanie
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, Bucket
from gridproxy.adapters.odmantic import AsyncEngine
from gridproxy.runtime import tasks

from .conftest import CHUNK
from .deadlines import DEADLINE, KINDS, LARGE, OPERATIONS, Animal, BeanieAnimal, Cell, Place, cell_of, odmantic_animal
from .link import Break, Link
from .whole import files_and_orphans

# pymongo 4.20 closes a socket that it is connecting on errors only, and leaves it to the collector when cancelled.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "timeouts.md"
# What the tests put in the place of ten seconds, and what a slow machine may add to it.
SETTLE = 1.2
SLOWNESS = 20.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SETTLE_SECONDS", SETTLE)


@pytest.fixture
async def places(link: Link, bucket: Bucket, tmp_path: Path) -> AsyncIterator[tuple[Place, Place]]:
    """Yield the same bucket through a client without `timeoutMS`, and through one with it."""
    small = await bucket.upload(b"small", filename="name")
    large = await bucket.upload(LARGE, filename="name")
    database = bucket.database
    with gridproxy.using(database):
        animal = await Animal(photo=b"photo").save()
    await init_beanie(database, document_models=[BeanieAnimal])
    beanie_animal = await BeanieAnimal(photo=b"photo").insert()
    in_odmantic = await AsyncEngine(database.client, database.name).save(odmantic_animal(b"photo"))
    options: dict[str, Any] = {
        "serverMonitoringMode": "poll",
        "retryWrites": False,
        "maxPoolSize": 500,
        "maxConnecting": 50,
    }
    async with (
        AsyncMongoClient[dict[str, Any]](link.uri, **options) as patient,
        AsyncMongoClient[dict[str, Any]](link.uri, **options, timeoutMS=round(DEADLINE * 1000)) as hasty,
    ):
        buckets = [Bucket(client[database.name], chunk_size=CHUNK) for client in (patient, hasty)]
        for each in buckets:
            await each.ensure_indexes(force=True)
        ids = small.id, large.id
        documents = animal.id, beanie_animal.id, in_odmantic.id
        one, other = (Place(each, *ids, tmp_path, *documents) for each in buckets)
        yield one, other
        link.heal()


async def measured(link: Link, place: Place, kinds: list[str]) -> dict[tuple[str, str], Cell]:
    """Return what all operations do under these deadlines, after the server has fallen silent."""
    await init_beanie(place.bucket.database, document_models=[BeanieAnimal])
    calls = {(name, kind): await OPERATIONS[name](place) for name in OPERATIONS for kind in kinds}
    link.strike(Break.STALL_BEFORE, times=None)
    free = asyncio.Semaphore(30)

    async def cell(name: str, kind: str) -> Cell:
        async with free:
            begun = time.monotonic()
            found = await cell_of(KINDS[kind], calls[name, kind])
            assert time.monotonic() - begun < DEADLINE + SETTLE + SLOWNESS, (name, kind)
            return found

    found = await asyncio.gather(*(cell(*key) for key in calls))
    link.heal()
    return dict(zip(calls, found, strict=True))


@pytest.mark.usefixtures("short")
async def test_the_page_says_what_each_deadline_does_to_each_operation(
    link: Link, places: tuple[Place, Place], bucket: Bucket
) -> None:
    *of_task, of_client = KINDS
    cells: dict[tuple[str, str], Cell] = {}
    for place, kinds in zip(places, (of_task, [of_client]), strict=True):
        with gridproxy.using(place.bucket.database):
            cells |= await measured(link, place, kinds)
    rows = [f"| {name} | {' | '.join(str(cells[name, kind]) for kind in KINDS)} |" for name in OPERATIONS]
    table = PAGE.read_text(encoding="utf-8").partition("## What each operation does")[2]
    shown = [line for line in table.splitlines() if line.startswith("| ")]
    await files_and_orphans(bucket.database)  # fails for a record without its chunks
    assert [f"| operation | {' | '.join(KINDS)} |", *rows] == shown


def test_the_table_has_every_public_operation() -> None:
    told = {name.partition(",")[0] for name in OPERATIONS}
    for kind in (Bucket, AsyncGridFile):
        operations = {
            f"{kind.__name__}.{name}"
            for name, member in vars(kind).items()
            if not name.startswith("_") and inspect.iscoroutinefunction(member)
        }
        # A call that is not one: it begins a new file.
        assert operations - told - {"AsyncGridFile.close"} == set()
