"""Documents of Beanie and ODMantic with a file, beside the same documents without, and the time of the import."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import odmantic
from beanie import init_beanie
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, Bucket
from gridproxy.adapters.odmantic import AsyncEngine, FileModel

from . import calls
from .interface import DATABASE, OURS
from .results import SERVER, Row, goal_of

__all__ = ["measure_import", "measure_models"]

_IMPORT = """
import anyio, pymongo, pymongo.asynchronous.mongo_client, gridfs, time
before = time.process_time()
import gridproxy
print(time.process_time() - before)
"""


class _Plain(odmantic.Model):
    model_config = {"collection": "models_plain"}

    name: str
    age: int = 0


class _WithFile(FileModel, odmantic.Model):
    model_config = {"collection": "models_with_file"}

    name: str
    age: int = 0
    photo: AsyncGridFile = AsyncGridFile()


def measure_models(uri: str, options: Mapping[str, Any], rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Return how many times the processor time of documents without a file documents with one take."""
    labels = {
        "beanie-load": "Beanie: load 300 documents with a file / without: CPU",
        "beanie-save": "Beanie: save an unchanged document with a file / without: CPU",
        "beanie-save-list": "Beanie: save an unchanged document with 20 files / without: CPU",
        "odmantic-load": "ODMantic: load 300 documents with a file / without: CPU",
        "odmantic-save": "ODMantic: save an unchanged document with a file / without: CPU",
    }
    rows = {
        work: Row(work, label, SERVER, None, "times", OURS, goal_of(work, SERVER, None))
        for work, label in labels.items()
    }
    for turn in range(rounds):
        say(f"documents of Beanie and ODMantic, round {turn + 1} of {rounds}")
        for work, value in asyncio.run(_models(uri, options)).items():
            rows[work].values.setdefault(OURS, []).append(value)
    return list(rows.values())


async def _models(uri: str, options: Mapping[str, Any]) -> dict[str, float]:
    async with AsyncMongoClient[dict[str, Any]](uri, **options) as client:
        database = client[DATABASE]
        await init_beanie(database=database, document_models=[calls.Plain, calls.WithFile, calls.WithList])
        gridproxy.connect(database)
        without, with_file = await calls.loading(database)
        saved = await calls.saving(database)
        engine = AsyncEngine(client, DATABASE)
        return {
            "beanie-load": with_file / without,
            "beanie-save": saved["one file"] / saved["plain"],
            "beanie-save-list": saved["a list of 20"] / saved["plain"],
            **await _odmantic(engine, database),
        }


async def _odmantic(engine: AsyncEngine, database: Any) -> dict[str, float]:
    file = AsyncGridFile(bucket=Bucket(database))
    await file.put(b"a marmot")
    for name, values in {"models_plain": {}, "models_with_file": {"photo": file.id}}.items():
        await database[name].delete_many({})
        await database[name].insert_many([{"name": f"marmot {n}", "age": n, **values} for n in range(300)])
    plain, with_file = await engine.find(_Plain), await engine.find(_WithFile)
    assert len(plain) == len(with_file) == 300

    async def load(kind: type[Any]) -> None:
        await engine.find(kind)

    async def save(document: Any) -> None:
        for _ in range(20):
            await engine.save(document)

    loading = await calls.alternately({"plain": lambda: load(_Plain), "file": lambda: load(_WithFile)})
    saving = await calls.alternately({"plain": lambda: save(plain[0]), "file": lambda: save(with_file[0])})
    return {
        "odmantic-load": loading["file"] / loading["plain"],
        "odmantic-save": saving["file"] / saving["plain"],
    }


def measure_import(rounds: int, say: Callable[[str], None]) -> Row:
    """Return the processor time of `import gridproxy` after pymongo, its bucket and anyio are imported."""
    label = "import gridproxy on top of pymongo: CPU"
    row = Row("import", label, SERVER, None, "ms", OURS, goal_of("import", SERVER, None))
    # An installed package is compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for turn in range(3 * rounds + 1):
        say(f"import, {turn} of {3 * rounds}")
        done = subprocess.run([sys.executable, "-c", _IMPORT], env=environment, stdout=subprocess.PIPE, check=True)
        if turn:  # the first import compiles
            row.values.setdefault(OURS, []).append(1000 * float(done.stdout))
    return row
