"""What lies in a bucket, read without the package: whole files only, or the assertion says what is wrong."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

Database = AsyncDatabase[dict[str, Any]]

__all__ = ["Database", "files_and_orphans", "stored_files"]


async def stored_files(database: Database, bucket: str = "fs") -> dict[Any, bytes]:
    """Return the content of every file by id. Fail for chunks without a record and for records without their chunks."""
    files, orphans = await files_and_orphans(database, bucket)
    assert not orphans, f"chunks without a record: {orphans!r}"
    return files


async def files_and_orphans(database: Database, bucket: str = "fs") -> tuple[dict[Any, bytes], list[Any]]:
    """Return the content of every file by id, and the ids of chunks without a record."""
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
        digest = record.get("metadata", {}).get("sha256")
        assert digest in (None, hashlib.sha256(content).hexdigest()), "other bytes than were put in"
        files[record["_id"]] = content
    return files, list(chunks)
