"""A source that fails, or gives what is no content, and a writer that is misused or forgotten."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gridproxy import AsyncGridFile, BadSource, Bucket, BufferFull
from gridproxy.gridfs.upload.upload import UNAWAITED_BYTES

from .conftest import CHUNK
from .whole import stored_files

BLOCK = bytes(range(256)) * 10
OLD = b"the old file"
GONE = OSError("the disk is gone")


class FailingFile(io.RawIOBase):
    """A synchronous file that fails at its third read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, _: int = -1) -> bytes:
        self.reads += 1
        if self.reads == 3:
            raise GONE
        return BLOCK


class FailingAsyncFile:
    """An asynchronous one."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, _: int) -> bytes:
        self.reads += 1
        if self.reads == 3:
            raise GONE
        return BLOCK


def generator() -> Iterator[bytes]:
    yield BLOCK
    yield BLOCK
    raise GONE


async def async_generator() -> AsyncIterator[bytes]:
    for block in generator():
        yield block


class FailingIterator:
    """An async iterable whose clean-up fails after the reading did."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            yield BLOCK * 4
            raise GONE
        finally:
            self.closed = True


FAILING: dict[str, Callable[[], Any]] = {
    "a sync file": FailingFile,
    "an async file": FailingAsyncFile,
    "a generator": generator,
    "an async generator": async_generator,
    "an async iterable": FailingIterator,
}
SOURCES = pytest.mark.parametrize("source", FAILING.values(), ids=FAILING)


@SOURCES
async def test_the_error_of_a_source_comes_out_itself_and_nothing_is_stored(
    bucket: Bucket, source: Callable[[], Any]
) -> None:
    file = AsyncGridFile(bucket=bucket)
    for call in (file.put, file.replace, bucket.upload, bucket.stage):
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await call(source())
        assert caught.value is GONE
    assert not file
    assert await stored_files(bucket.database) == {}
    await file.put(OLD)
    assert await stored_files(bucket.database) == {file.id: OLD}


class FailingTwice:
    """An async iterable that fails, and whose closing fails after it."""

    def __init__(self, *blocks: bytes, error: Exception | None = GONE) -> None:
        self._blocks = list(blocks)
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        outer = self

        class Blocks:
            async def __anext__(self) -> bytes:
                if outer._blocks:
                    return outer._blocks.pop()
                raise outer._error or StopAsyncIteration

            def __aiter__(self) -> Blocks:
                return self

            async def aclose(self) -> None:
                raise OSError("it cannot be closed")

        return Blocks()


async def test_the_first_error_of_a_source_wins_over_that_of_its_closing(bucket: Bucket) -> None:
    for call in (bucket.upload, bucket.stage, lambda source: bucket.upload_many([source])):
        GONE.__notes__ = []
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await call(FailingTwice(BLOCK * 4))
        assert caught.value is GONE
        assert caught.value.__notes__ == ["Closing the source failed too: OSError('it cannot be closed')"]
    assert await stored_files(bucket.database) == {}


async def test_a_source_that_cannot_be_closed_after_all_went_well_is_not_stored(bucket: Bucket) -> None:
    for call in (bucket.upload, bucket.stage, lambda source: bucket.upload_many([source])):
        with pytest.raises(OSError, match="it cannot be closed"):
            await call(FailingTwice(BLOCK * 4, error=None))
    assert await stored_files(bucket.database) == {}


@SOURCES
async def test_a_replacement_that_fails_midway_leaves_the_old_file(bucket: Bucket, source: Callable[[], Any]) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(OLD)
    old = file.id
    with pytest.raises(OSError, match="the disk is gone"):
        await file.replace(source())
    assert file.id == old
    assert await stored_files(bucket.database) == {old: OLD}


@pytest.mark.parametrize("item", ["text", 7, None, [1]], ids=["str", "int", "None", "list"])
async def test_a_source_that_gives_no_bytes_midway_is_refused_and_nothing_is_stored(
    bucket: Bucket, item: object
) -> None:
    async def blocks() -> AsyncIterator[Any]:
        yield BLOCK * 4
        yield item

    sources: list[Any] = [blocks(), iter([BLOCK * 4, item])]
    for source in sources:
        with pytest.raises(BadSource):
            await bucket.upload(source)
    assert await stored_files(bucket.database) == {}


async def test_an_error_in_the_block_comes_out_itself_and_nothing_is_stored(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        async with file.new_file():
            await file.write(BLOCK * 4)
            raise GONE
    assert caught.value is GONE
    assert not file
    assert await stored_files(bucket.database) == {}


# Writers


async def test_a_full_buffer_refuses_writes_and_can_still_be_sent(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.new_file(chunk_size=255 * CHUNK)
    block = b"x" * (UNAWAITED_BYTES // 8)
    for _ in range(8):
        file.write(block)
    with pytest.raises(BufferFull, match="This write added nothing"):
        file.write(b"y")
    with pytest.raises(BufferFull):
        file.writelines([b"", b"y"])
    await file.abort()
    assert await stored_files(bucket.database) == {}


async def test_a_writer_that_is_dropped_warns_and_publishes_nothing(bucket: Bucket) -> None:
    writers = [await bucket.open_upload()]
    await writers[0].write(BLOCK * 4)
    with pytest.warns(ResourceWarning, match="dropped before close"):
        writers.clear()
    # Its chunks are found by whoever collects garbage; nobody sees a file.
    assert await bucket.store.files.count_documents({}) == 0


async def test_a_proxy_that_is_dropped_while_it_is_written_warns(bucket: Bucket) -> None:
    files = [AsyncGridFile(bucket=bucket)]
    await files[0].new_file()
    files[0].write(BLOCK)
    with pytest.warns(ResourceWarning, match="dropped before close"):
        files.clear()
    assert await stored_files(bucket.database) == {}
