"""Bytes are split into chunks and joined again, for any split and any range, and wrong chunks are detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary
from bson.int64 import Int64
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridproxy import CorruptFile, FileInfo
from gridproxy.gridfs.records.chunks import (
    BATCH_BYTES,
    RANGE_BYTES,
    Block,
    ChunkRange,
    Splitter,
    check_range,
    chunks_per_batch,
    chunks_per_range,
    cut_block,
    cut_range,
    merge_ranges,
    payload_size,
    plan_ranges,
)

Document = dict[str, Any]


def info_of(length: int, chunk_size: int) -> FileInfo:
    return FileInfo.from_record(
        {"_id": 1, "length": length, "chunkSize": chunk_size, "uploadDate": datetime(2026, 1, 1, tzinfo=UTC)}
    )


def chunked(data: bytes, chunk_size: int) -> list[Document]:
    return [{"n": at // chunk_size, "data": data[at : at + chunk_size]} for at in range(0, len(data), chunk_size)]


def asked(documents: Sequence[Mapping[str, Any]], wanted: ChunkRange) -> list[Mapping[str, Any]]:
    """Return what a server answers: for the last range also the chunks after the end."""
    return [each for each in documents if wanted.first <= each["n"] and (wanted.last or each["n"] < wanted.stop)]


# Splitter


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=60)), chunk_size=st.integers(1, 40))
def test_a_splitter_returns_full_chunks_and_a_shorter_last_one(pieces: list[bytes], chunk_size: int) -> None:
    splitter = Splitter(chunk_size)
    chunks = [chunk for piece in pieces for chunk in splitter.feed(piece)]
    rest = splitter.flush()
    assert b"".join([*chunks, rest]) == b"".join(pieces)
    assert all(len(chunk) == chunk_size for chunk in chunks)
    assert len(rest) < chunk_size
    assert splitter.flush() == b""


def test_a_splitter_accepts_views_and_releases_them() -> None:
    changing = bytearray(b"abcdefg")
    splitter = Splitter(3)
    assert list(splitter.feed(memoryview(changing))) == [b"abc", b"def"]
    changing[:] = b""  # raises BufferError while a view still exists
    assert splitter.flush() == b"g"


@pytest.mark.parametrize(
    ("chunk_size", "sent", "asked"),
    [
        (255 * 1024, 8, 16),
        (1, 1024, 1024),
        (BATCH_BYTES, 1, 2),
        (BATCH_BYTES + 1, 1, 1),
        (RANGE_BYTES + 1, 1, 1),
        (15 * 1024 * 1024, 1, 1),
        (1024 * 1024, 2, 4),
    ],
)
def test_a_batch_has_two_megabytes_and_a_range_four_but_1_to_1024_chunks(
    chunk_size: int, sent: int, asked: int
) -> None:
    assert chunks_per_batch(chunk_size) == sent
    assert chunks_per_range(chunk_size) == asked


# Ranges


@st.composite
def files_and_ranges(draw: st.DrawFn) -> tuple[bytes, int, int, int]:
    data = draw(st.binary(max_size=200))
    start, stop = sorted(draw(st.tuples(st.integers(0, 220), st.integers(0, 220))))
    return data, draw(st.integers(1, 50)), start, min(stop, len(data))


@settings(deadline=None)
@given(file=files_and_ranges(), first_chunks=st.integers(1, 8))
def test_a_plan_covers_each_needed_chunk_once_and_in_order(
    file: tuple[bytes, int, int, int], first_chunks: int
) -> None:
    data, chunk_size, start, stop = file
    info = info_of(len(data), chunk_size)
    plan = list(plan_ranges(info, start, stop, first_chunks=first_chunks))
    covered = [n for wanted in plan for n in range(wanted.first, wanted.stop)]
    needed = [n for n in range(info.chunk_count) if n * chunk_size < stop and start < (n + 1) * chunk_size]
    assert covered == (needed if start < stop else [])
    assert [wanted.last for wanted in plan] == [wanted.stop == info.chunk_count for wanted in plan]
    assert all(plan) or not data
    assert not plan or not data or len(plan[0]) <= first_chunks


@settings(deadline=None)
@given(file=files_and_ranges(), first_chunks=st.integers(1, 8), fetched=st.integers(0, 5))
def test_a_plan_skips_the_chunks_before_from_chunk(
    file: tuple[bytes, int, int, int], first_chunks: int, fetched: int
) -> None:
    data, chunk_size, start, stop = file
    if start >= stop:
        return
    info = info_of(len(data), chunk_size)
    from_chunk = start // chunk_size + fetched
    plan = plan_ranges(info, start, stop, first_chunks=first_chunks, from_chunk=from_chunk)
    covered = [n for wanted in plan for n in range(wanted.first, wanted.stop)]
    assert covered == list(range(from_chunk, -(-stop // chunk_size)))


def test_an_empty_file_is_read_once_to_detect_surplus_chunks() -> None:
    assert list(plan_ranges(info_of(0, 4), 0, 0, first_chunks=3)) == [ChunkRange(0, 0, True)]
    assert list(plan_ranges(info_of(5, 4), 2, 2, first_chunks=3)) == []


@settings(deadline=None)
@given(file=files_and_ranges(), first_chunks=st.integers(1, 8))
def test_the_blocks_of_any_range_equal_the_slice(file: tuple[bytes, int, int, int], first_chunks: int) -> None:
    data, chunk_size, start, stop = file
    info = info_of(len(data), chunk_size)
    documents = chunked(data, chunk_size)
    at = start
    gathered = b""
    for wanted in plan_ranges(info, start, stop, first_chunks=first_chunks):
        block = cut_block(info, wanted, check_range(info, wanted, asked(documents, wanted)), start, stop)
        assert block.length == sum(map(len, block.pieces))
        assert (block.offset, block.end) == (at, at + block.length) or not block.length
        for offset in range(block.offset, block.end):
            pieces, place = block.pieces_from(offset)
            assert b"".join(pieces)[place:] == data[offset : block.end]
        gathered += b"".join(block.pieces)
        at = block.end
    assert gathered == data[start:stop]


def test_a_block_refuses_an_offset_outside_of_it() -> None:
    block = Block(4, [b"ab", b"c"], 3)
    with pytest.raises(IndexError, match="7 is not in 4 to 7"):
        block.pieces_from(7)


@settings(deadline=None)
@given(
    data=st.binary(max_size=200),
    chunk_size=st.integers(1, 50),
    ranges=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 220)), max_size=8),
)
@example(data=bytes(100), chunk_size=10, ranges=[(55, 60), (0, 5), (12, 14), (3, 40), (90, 300), (7, 7)])
def test_merged_ranges_cover_every_slice_and_only_needed_chunks(
    data: bytes, chunk_size: int, ranges: list[tuple[int, int]]
) -> None:
    info = info_of(len(data), chunk_size)
    spans = merge_ranges(info, ranges)
    contents = [data[start:stop] for start, stop in spans]
    assert [cut_range(spans, contents, start, min(stop, len(data))) for start, stop in ranges] == [
        data[start:stop] for start, stop in ranges
    ]

    touched = [n for start, stop in spans for n in range(start // chunk_size, -(-stop // chunk_size))]
    needed = {
        n
        for start, stop in ranges
        if start < min(stop, len(data))
        for n in range(start // chunk_size, -(-min(stop, len(data)) // chunk_size))
    }
    assert len(touched) == len(set(touched)), "no chunk is fetched twice"
    assert set(touched) == needed


# Wrong chunks

DATA = b"abcdefghij"  # in chunks of four: abcd efgh ij
WHOLE = ChunkRange(0, 3, True)


def reason_of(documents: list[Document], wanted: ChunkRange = WHOLE) -> str:
    with pytest.raises(CorruptFile) as caught:
        check_range(info_of(len(DATA), 4), wanted, documents)
    assert caught.value.id == 1
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


def with_chunk(n: int, /, **changes: object) -> list[Document]:
    return [{**chunk, **changes} if chunk["n"] == n else chunk for chunk in chunked(DATA, 4)]


def test_a_missing_chunk_is_named() -> None:
    for n in range(3):
        documents = [chunk for chunk in chunked(DATA, 4) if chunk["n"] != n]
        assert reason_of(documents) == f"chunk {n} of 3 is missing"


def test_a_short_or_long_chunk_is_named_with_both_lengths() -> None:
    assert reason_of(with_chunk(1, data=b"efg")) == "chunk 1 has 3 bytes instead of 4"
    assert reason_of(with_chunk(0, data=b"abcde")) == "chunk 0 has 5 bytes instead of 4"
    assert reason_of(with_chunk(2, data=b"i")) == "chunk 2 has 1 bytes instead of 2"
    assert reason_of(with_chunk(2, data=b"")) == "chunk 2 has 0 bytes instead of 2"


def test_a_repeated_chunk_is_named() -> None:
    assert reason_of([*chunked(DATA, 4), {"n": 1, "data": b"efgh"}]) == "chunk 1 exists twice"


def test_a_surplus_chunk_after_the_end_is_named() -> None:
    assert reason_of([*chunked(DATA, 4), {"n": 3, "data": b"xyz"}]) == "surplus chunk 3 of 3 bytes after its end"
    empty = info_of(0, 4)
    with pytest.raises(CorruptFile, match="surplus chunk 0 of 1 bytes"):
        check_range(empty, ChunkRange(0, 0, True), [{"n": 0, "data": b"x"}])


def test_an_empty_chunk_after_the_end_is_allowed() -> None:
    assert check_range(info_of(0, 4), ChunkRange(0, 0, True), [{"n": 0, "data": b""}]) == []
    documents = [*chunked(DATA, 4), {"n": 3, "data": b""}]
    assert check_range(info_of(10, 4), WHOLE, documents) == [b"abcd", b"efgh", b"ij"]


def test_chunks_after_a_range_in_the_middle_are_not_surplus() -> None:
    assert check_range(info_of(10, 4), ChunkRange(0, 1, False), chunked(DATA, 4)) == [b"abcd"]


@pytest.mark.parametrize("n", [None, "1", 1.5, float("nan"), float("inf")], ids=repr)
def test_a_chunk_whose_n_is_not_a_whole_number_is_named(n: object) -> None:
    assert f"n={n!r}" in reason_of(with_chunk(1, n=n))


@pytest.mark.parametrize("data", [None, "efgh", ["efgh"], 4], ids=repr)
def test_a_chunk_without_bytes_is_named(data: object) -> None:
    assert type(data).__name__ in reason_of(with_chunk(1, data=data))
    assert payload_size({"n": 1, "data": data}) == 0


def test_chunk_numbers_of_other_drivers_are_accepted() -> None:
    documents = [
        {**chunk, "n": kind(chunk["n"])} for chunk, kind in zip(chunked(DATA, 4), (float, Int64, int), strict=True)
    ]
    assert check_range(info_of(10, 4), WHOLE, documents) == [b"abcd", b"efgh", b"ij"]


def test_the_old_binary_subtype_is_read_as_plain_bytes() -> None:
    documents = with_chunk(1, data=Binary(b"efgh", 2))
    pieces = check_range(info_of(10, 4), WHOLE, documents)
    assert [type(piece) for piece in pieces] == [bytes, bytes, bytes]
    assert payload_size(documents[1]) == 4
