"""`verify` finds changed bytes, and chunks that do not match the record."""

from __future__ import annotations

from typing import Any

import pytest

from gridproxy import Bucket, CorruptFile

from ..observing import Database

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


async def test_verify_finds_flipped_bytes(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(DATA)
    assert await bucket.verify(info.id) == info
    await database["fs.chunks"].update_one({"n": 5}, {"$set": {"data": bytes(100)}})
    with pytest.raises(CorruptFile, match=f"SHA-256 [0-9a-f]{{64}} instead of {info.sha256}"):
        await bucket.verify(info.id)
    assert await bucket.read(info.id) == DATA[:500] + bytes(100) + DATA[600:], "reading does not hash"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda chunks: chunks.delete_one({"n": 3}), "chunk 3 of 11 is missing"),
        (
            lambda chunks: chunks.update_one({"n": 3}, {"$set": {"data": b"short"}}),
            "chunk 3 has 5 bytes instead of 100",
        ),
        (lambda chunks: chunks.insert_one({"files_id": 1, "n": 11, "data": b"x"}), "surplus chunk 11 of 1 bytes"),
        (lambda chunks: chunks.delete_many({}), "chunk 0 of 11 is missing"),
    ],
    ids=["missing", "short", "surplus", "none"],
)
async def test_verify_names_the_first_wrong_chunk(bucket: Bucket, database: Database, change: Any, reason: str) -> None:
    await bucket.upload(DATA, id=1)
    await change(database["fs.chunks"])
    with pytest.raises(CorruptFile) as caught:
        await bucket.verify(1)
    assert reason in caught.value.reason
