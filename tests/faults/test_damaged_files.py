"""A read never ends early without an error if a file is damaged or deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gridproxy import AsyncGridFile, Bucket, CorruptFile, FileMissing, FileVanished
from gridproxy.gridfs.store.collections import Record, Store

from .conftest import CHUNK

DATA = b"".join(b"%06d\n" % number for number in range(11 * CHUNK // 7 + 3))  # eleven chunks and a bit
LAST = len(DATA) // CHUNK

Read = Callable[[AsyncGridFile], Awaitable[object]]


async def streamed(file: AsyncGridFile) -> bytes:
    async with file.stream() as stream:
        return b"".join([block async for block in stream])


async def by_lines(file: AsyncGridFile) -> bytes:
    lines = b""
    while line := await file.readline():
        lines += line
    return lines


async def saved(file: AsyncGridFile, folder: Path) -> None:
    try:
        await file.save_to(folder / "saved")
    finally:
        assert not list(folder.iterdir())


async def sunk(file: AsyncGridFile) -> None:
    await AsyncGridFile(bucket=file.options.bucket).put(file)


READS: dict[str, Read] = {
    "read": lambda file: file.read(),
    "read a number of bytes": lambda file: file.read(len(DATA)),
    "read by lines": by_lines,
    "read_range": lambda file: file.read_range(0, None),
    "read_ranges": lambda file: file.read_ranges([(0, 10), (3 * CHUNK, len(DATA))]),
    "stream": streamed,
    "verify": lambda file: file.verify(),
    "put into another": sunk,
}


@pytest.fixture
async def file(bucket: Bucket) -> AsyncGridFile:
    """Return a stored file that knows only its id."""
    return bucket.file((await bucket.upload(DATA)).id)


@pytest.fixture(params=list(READS.values()), ids=list(READS))
def read(request: pytest.FixtureRequest) -> Read:
    found: Read = request.param
    return found


async def damage(bucket: Bucket, id: object, n: int, change: dict[str, Any] | None) -> None:
    where = {"files_id": id, "n": n}
    changed = (
        (await bucket.store.chunks.delete_one(where)).deleted_count
        if change is None
        else (await bucket.store.chunks.update_one(where, {"$set": change})).matched_count
    )
    assert changed == 1


@pytest.mark.parametrize("n", [0, 4, LAST], ids=["the first chunk", "one in the midst", "the last chunk"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "missing"),
        ({"data": b"short"}, "5 bytes instead of"),
        ({"data": b""}, "0 bytes instead of"),
        ({"data": b"x" * (CHUNK + 1)}, "1025 bytes instead of"),
        ({"data": "no bytes at all"}, "data of type str"),
    ],
    ids=["missing", "short", "empty", "too long", "no bytes"],
)
async def test_a_damaged_chunk_is_found(
    bucket: Bucket, file: AsyncGridFile, n: int, change: dict[str, Any] | None, says: str
) -> None:
    await damage(bucket, file.id, n, change)
    for read in READS.values():
        with pytest.raises(CorruptFile, match=says) as caught:
            await read(bucket.file(file.id))
        assert not isinstance(caught.value, FileMissing)
    assert await bucket.store.files.count_documents({}) == 1


async def test_a_file_without_any_chunk_is_corrupt(bucket: Bucket, file: AsyncGridFile, read: Read) -> None:
    await bucket.store.chunks.delete_many({})
    with pytest.raises(CorruptFile, match="missing"):
        await read(file)


async def test_a_surplus_chunk_is_found(bucket: Bucket, file: AsyncGridFile, read: Read) -> None:
    await bucket.store.chunks.insert_one({"files_id": file.id, "n": LAST + 1, "data": b"what is this?"})
    with pytest.raises(CorruptFile, match="surplus"):
        await read(file)


async def test_verify_finds_a_surplus_chunk_at_any_distance_from_the_end(bucket: Bucket) -> None:
    for data in (b"", b"a small file", DATA):
        info = await bucket.upload(data)
        await bucket.store.chunks.insert_one({"files_id": info.id, "n": 1000, "data": b"what is this?"})
        with pytest.raises(CorruptFile, match="surplus"):
            await bucket.verify(info.id)


async def test_an_empty_surplus_chunk_is_allowed(bucket: Bucket, file: AsyncGridFile, read: Read) -> None:
    await bucket.store.chunks.insert_one({"files_id": file.id, "n": LAST + 1, "data": b""})
    await read(file)
    assert await file.read_range(0, None) == DATA


async def test_a_repeated_chunk_is_found(bucket: Bucket, file: AsyncGridFile, read: Read) -> None:
    await bucket.store.chunks.drop_indexes()
    await bucket.store.chunks.insert_one({"files_id": file.id, "n": 4, "data": b"x" * CHUNK})
    with pytest.raises(CorruptFile, match="twice"):
        await read(file)


async def test_save_to_leaves_no_path_for_a_damaged_file(bucket: Bucket, file: AsyncGridFile, tmp_path: Path) -> None:
    await damage(bucket, file.id, LAST, None)
    with pytest.raises(CorruptFile):
        await saved(file, tmp_path)


async def test_a_range_outside_the_damage_is_read(bucket: Bucket, file: AsyncGridFile) -> None:
    await damage(bucket, file.id, 4, None)
    assert await file.read_range(0, 4 * CHUNK) == DATA[: 4 * CHUNK]
    assert await file.read_range(5 * CHUNK, None) == DATA[5 * CHUNK :]


# Files deleted while they are read


async def test_a_file_deleted_under_a_stream_has_vanished(bucket: Bucket, file: AsyncGridFile) -> None:
    async with file.stream() as stream:
        await stream.receive()
        await bucket.delete(file.id)
        with pytest.raises(FileVanished):
            while True:
                await stream.receive()


async def test_a_file_deleted_under_a_reader_has_vanished(bucket: Bucket, file: AsyncGridFile) -> None:
    async with file.open() as reader:
        start = await reader.read(CHUNK)
        await bucket.delete(file.id)
        with pytest.raises(FileVanished):
            while True:
                start += await reader.read(CHUNK)
        assert DATA.startswith(start)
        assert reader.tell() == len(start)


async def test_a_file_deleted_during_a_second_read_is_not_corrupt(
    bucket: Bucket, file: AsyncGridFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second read asks for the chunks and the record, and the file is deleted between the two answers."""
    find_record, find_chunks = Store.find_record, Store.find_chunks

    async def deleted() -> None:
        await bucket.store.delete_record(file.id)
        await bucket.store.delete_chunks(file.id)

    async def record_then_deleted(store: Store, *arguments: Any, **options: Any) -> Record | None:
        found = await find_record(store, *arguments, **options)
        if options.get("primary"):
            await deleted()
        return found

    async def chunks_then_deleted(store: Store, *arguments: Any, **options: Any) -> list[Record]:
        found = await find_chunks(store, *arguments, **options)
        if not options.get("primary"):
            return []  # as from a lagging secondary
        await deleted()
        return found

    monkeypatch.setattr(Store, "find_record", record_then_deleted)
    monkeypatch.setattr(Store, "find_chunks", chunks_then_deleted)
    with pytest.raises(FileVanished):
        await file.read()


async def test_a_new_file_under_the_same_id_is_not_mixed_into_the_old_one(bucket: Bucket) -> None:
    info = await bucket.upload(DATA, id="mine")
    async with bucket.stream("mine") as stream:
        await stream.receive()
        await bucket.delete(info.id)
        await bucket.upload(DATA[:CHUNK], id="mine")
        with pytest.raises(FileVanished):
            while True:
                await stream.receive()


async def test_a_file_deleted_before_the_read_is_missing_and_not_vanished(
    bucket: Bucket, file: AsyncGridFile, read: Read
) -> None:
    await bucket.delete(file.id)
    with pytest.raises(FileMissing) as caught:
        await read(file)
    assert not isinstance(caught.value, FileVanished)


# Reads before the chunks are visible


async def test_a_reader_that_finds_a_record_without_chunks_reads_again(
    bucket: Bucket, file: AsyncGridFile, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a race or on a lagging secondary, the first read of every range finds nothing."""
    find_chunks = Store._find_chunks

    async def lagging(
        store: Store, id: object, places: dict[str, int], limit: int, batch: int, primary: bool, *rest: Any, **more: Any
    ) -> list[Record]:
        found = await find_chunks(store, id, places, limit, batch, primary, *rest, **more)
        return found if primary else found[:0]

    monkeypatch.setattr(Store, "_find_chunks", lagging)
    await read(file)
    assert await file.read_range(0, None) == DATA
