"""Files of one name, and the content of a bucket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gridproxy import Bucket, FileInfo

__all__ = ["all_files", "dated"]


async def all_files(bucket: Bucket, *args: Any, **more: Any) -> list[FileInfo]:
    return [info async for info in bucket.find(*args, **more)]


async def dated(bucket: Bucket, filename: str, count: int) -> list[object]:
    """So many revisions of one name, a day between each, and their ids."""
    ids: list[object] = []
    for number in range(count):
        info = await bucket.upload(f"revision {number}", filename=filename)
        day = datetime(2026, 1, 1 + number, tzinfo=UTC)
        await bucket.store.files.update_one({"_id": info.id}, {"$set": {"uploadDate": day}})
        ids.append(info.id)
    return ids
