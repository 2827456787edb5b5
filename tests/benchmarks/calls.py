"""How much of the package one operation goes through: calls, files, and the processor time of loading documents.

    python -m tests.benchmarks.calls

A call is one entry of a Python function of `gridproxy`, counted by `sys.setprofile`; a coroutine that is resumed counts
once for each resumption. The goals are those of the project's plan, printed beside what was measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, Bucket
from gridproxy.adapters.beanie import FileDocument
from gridproxy.embedded import server_uri

_PACKAGE = f"{Path(gridproxy.__file__).parent}{os.sep}"
_DOCUMENTS = 300
_ROUNDS = 7


class Plain(Document):
    """A document without a file."""

    name: str
    age: int = 0

    class Settings:
        name = "calls_plain"


class WithFile(FileDocument, Document):
    """The same document with a file field."""

    name: str
    age: int = 0
    photo: AsyncGridFile = AsyncGridFile()

    class Settings:
        name = "calls_with_file"


class WithList(FileDocument, Document):
    """The same document with a list of files."""

    name: str
    age: int = 0
    album: list[AsyncGridFile] = []

    class Settings:
        name = "calls_with_list"


async def counted(work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """Return how many calls into the package `work` makes, and how many of its files they are in."""
    calls = 0
    files: set[str] = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            calls += 1
            files.add(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return calls, len(files)


async def operations(database: Any) -> dict[str, tuple[int, int]]:
    """Count the calls of each operation, on its second run: the first one checks indexes and fills caches."""
    bucket = Bucket(database, "calls")
    stored = AsyncGridFile(bucket=bucket)
    await stored.put(bytes(1024))
    document = WithFile(name="marmot", photo=bytes(1024))
    await document.save()
    album = WithList(name="marmots", album=[bytes(10)] * 20)
    await album.save()

    async def put() -> None:
        await AsyncGridFile(bucket=bucket).put(bytes(1024))

    async def read() -> None:
        await AsyncGridFile(stored.id, bucket=bucket).read()

    async def replace() -> None:
        await stored.replace(bytes(1024))

    async def save_new_content() -> None:
        document.photo = bytes(1024)  # type: ignore[assignment]  # content for the next save
        await document.save()

    works: dict[str, Callable[[], Awaitable[object]]] = {
        "put 1 KB": put,
        "read 1 KB": read,
        "replace 1 KB": replace,
        "Beanie save, unchanged, one file": document.save,
        "Beanie save, unchanged, a list of 20": album.save,
        "Beanie save, new content": save_new_content,
    }
    found = {}
    for name, work in works.items():
        await work()
        found[name] = await counted(work)
    return found


async def loading(database: Any) -> tuple[float, float]:
    """Return the processor time, in milliseconds, of loading 300 documents without and with a file field."""
    await Plain.get_pymongo_collection().delete_many({})
    await WithFile.get_pymongo_collection().delete_many({})
    file = AsyncGridFile(bucket=Bucket(database))
    await file.put(b"a marmot")
    documents = [{"name": f"marmot {n}", "age": n} for n in range(_DOCUMENTS)]
    await Plain.get_pymongo_collection().insert_many([dict(each) for each in documents])
    await WithFile.get_pymongo_collection().insert_many([{**each, "photo": file.id} for each in documents])

    async def load(kind: type[Document]) -> None:
        assert len(await kind.find_all().to_list()) == _DOCUMENTS

    took = await alternately({"without": lambda: load(Plain), "with": lambda: load(WithFile)})
    return took["without"], took["with"]


async def alternately(works: Mapping[str, Callable[[], Awaitable[object]]]) -> dict[str, float]:
    """Return the processor time of each work, in milliseconds: the median of a few rounds in which they take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(_ROUNDS):
        for name, work in works.items():
            start = time.process_time()
            await work()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(measured) for name, measured in times.items()}


async def saving(database: Any) -> dict[str, float]:
    """Return the processor time, in milliseconds, of one save of an unchanged document of each kind."""
    plain = await Plain(name="marmot").insert()
    one = await WithFile(name="marmot", photo=b"a marmot").insert()
    many = await WithList(name="marmots", album=[b"a marmot"] * 20).insert()

    async def save(document: Document) -> None:
        for _ in range(20):
            await document.save()

    documents: dict[str, Document] = {"plain": plain, "one file": one, "a list of 20": many}
    took = await alternately({name: partial(save, document) for name, document in documents.items()})
    return {name: milliseconds / 20 for name, milliseconds in took.items()}


async def main() -> None:
    """Print every figure."""
    with server_uri() as (uri, label):
        async with AsyncMongoClient[dict[str, Any]](uri) as client:
            database = client["gridproxy_calls"]
            await init_beanie(database=database, document_models=[Plain, WithFile, WithList])
            gridproxy.connect(database)
            print(f"server: {label}, Python {sys.version.split()[0]}")
            for name, (calls, files) in (await operations(database)).items():
                print(f"{name:40} {calls:5} calls in {files:2} files")
            without, with_file = await loading(database)
            print(
                f"load {_DOCUMENTS} Beanie documents: {without:.1f} ms without a file field, "
                f"{with_file:.1f} ms with one, {with_file / without:.2f} times"
            )
            saved = await saving(database)
            for name, took in saved.items():
                print(
                    f"Beanie save, unchanged, {name:14} {took:.2f} ms of processor time, "
                    f"{took / saved['plain']:.2f} times"
                )
            await client.drop_database("gridproxy_calls")


if __name__ == "__main__":
    asyncio.run(main())
