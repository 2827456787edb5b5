"""What lies in a bucket, read without the package: whole files only, or the assertion says what is wrong."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

Database = AsyncDatabase[dict[str, Any]]

__all__ = ["Database", "stored_files"]


async def stored_files(database: Database, bucket: str = "fs") -> dict[Any, bytes]:
    """The content of every file by id; fails for a chunk without a record and a record without its chunks."""
    chunks: dict[Any, dict[int, bytes]] = defaultdict(dict)
    async for chunk in database[f"{bucket}.chunks"].find():
        assert chunk["n"] not in chunks[chunk["files_id"]], f"two chunks {chunk['n']} of {chunk['files_id']!r}"
        chunks[chunk["files_id"]][chunk["n"]] = chunk["data"]
    files: dict[Any, bytes] = {}
    async for record in database[f"{bucket}.files"].find():
        pieces = chunks.pop(record["_id"], {})
        assert sorted(pieces) == list(range(-(-record["length"] // record["chunkSize"]))), "a record without its chunks"
        content = b"".join(pieces[n] for n in sorted(pieces))
        assert len(content) == record["length"], "a file of another length than its record says"
        assert all(len(pieces[n]) == record["chunkSize"] for n in sorted(pieces)[:-1]), "a short chunk in the midst"
        files[record["_id"]] = content
    assert not chunks, f"orphan chunks: { {id: sorted(numbers) for id, numbers in chunks.items()} }"
    return files
