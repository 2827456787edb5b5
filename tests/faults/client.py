"""A process that does every operation at once and is killed in their midst: see `test_killed_clients`.

It says `prepared` once all is ready, begins when it hears a line, and says the number of each operation that is done.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import Bucket

from .conftest import CHUNK, make_batches_small
from .matrix import OPERATIONS
from .operation import Operation, Scene


def say(line: object) -> None:
    print(line, flush=True)  # noqa: T201  # whoever started this process waits for it


async def do(trial: Operation, number: int) -> None:
    await trial.run()
    say(number)


async def main(uri: str, folder: str, ways: list[str], databases: list[str]) -> None:
    """Do every operation in a database of its own, through a way of its own."""
    well = AsyncMongoClient[dict[str, Any]](uri)
    trials = []
    for operation, way, database in zip(OPERATIONS, ways, databases, strict=True):
        client = AsyncMongoClient[dict[str, Any]](way)
        one, other = (Bucket(each[database], chunk_size=CHUNK) for each in (client, well))
        trials.append(operation(Scene(one, other, Path(folder))))
    for trial in trials:
        await trial.prepare()
    say("prepared")
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(do(trial, number) for number, trial in enumerate(trials)))
    await asyncio.Event().wait()


if __name__ == "__main__":
    make_batches_small(pytest.MonkeyPatch())
    asyncio.run(main(*json.loads(sys.argv[1])))
