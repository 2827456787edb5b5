"""A process that appends to uploads and is killed: see `test_resumable_uploads`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from gridproxy import Bucket

from .conftest import CHUNK, make_batches_small


async def main(database: str, content: str, works: list[tuple[str, str]]) -> None:
    """Append and finish each upload through a way of its own."""

    async def send(uri: str, id: str) -> None:
        async with AsyncMongoClient[dict[str, Any]](uri) as client:
            upload = await Bucket(client[database], chunk_size=CHUNK).resume(id)
            await upload.append(bytes.fromhex(content)[upload.offset :])
            await upload.finish()

    await asyncio.gather(*(send(*work) for work in works))


if __name__ == "__main__":
    make_batches_small(pytest.MonkeyPatch())
    asyncio.run(main(*json.loads(sys.argv[1])))
