"""A writer in the hands of the standard library, which writes to it without awaiting."""

from __future__ import annotations

import bz2
import csv
import gc
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from gridproxy import AsyncGridFile, Bucket

from ..observing import contents

TEXT = "marmot;Alps\r\n" * 1000
DATA = TEXT.encode()


def zipped(writer: Any) -> None:
    with zipfile.ZipFile(writer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", DATA)
        with archive.open("b.txt", "w") as member:
            member.write(DATA)


def unzipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("a.txt") == DATA
        return archive.read("b.txt")


def gzipped(writer: Any) -> None:
    with gzip.GzipFile("a.txt", "wb", fileobj=writer) as packed:
        packed.write(DATA)
        packed.flush()


def bzipped(writer: Any) -> None:
    with bz2.BZ2File(writer, "wb") as packed:
        packed.write(DATA)


def tarred(writer: Any) -> None:
    with tarfile.open(mode="w|gz", fileobj=writer) as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(DATA)
        archive.addfile(member, io.BytesIO(DATA))


def untarred(content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("a.txt")
        assert member is not None
        return member.read()


def as_text(writer: Any) -> None:
    text = io.TextIOWrapper(writer, encoding="utf-8", newline="")
    text.write(TEXT)
    text.flush()


def as_text_in_a_block(writer: Any) -> None:
    with io.TextIOWrapper(writer, encoding="utf-8", newline="") as text:
        text.write(TEXT)


def as_detached_text(writer: Any) -> None:
    text = io.TextIOWrapper(writer, encoding="utf-8", newline="")
    text.write(TEXT)
    assert text.detach() is writer


def as_csv(writer: Any) -> None:
    with io.TextIOWrapper(writer, encoding="utf-8", newline="") as text:
        csv.writer(text, delimiter=";").writerows([["marmot", "Alps"]] * 1000)


def buffered(writer: Any) -> None:
    file = io.BufferedWriter(writer)
    file.write(DATA)
    file.flush()
    file.detach()  # Python 3.13 flushes once more when the wrapper is collected, unless the writer is closed


def as_json(writer: Any) -> None:
    with io.TextIOWrapper(writer, encoding="utf-8") as text:
        json.dump(TEXT, text)


WAYS: dict[str, tuple[Callable[[Any], None], Callable[[bytes], object]]] = {
    "zipfile": (zipped, unzipped),
    "gzip": (gzipped, gzip.decompress),
    "bz2": (bzipped, bz2.decompress),
    "tarfile": (tarred, untarred),
    "TextIOWrapper": (as_text, bytes),
    "TextIOWrapper in a block": (as_text_in_a_block, bytes),
    "TextIOWrapper, detached": (as_detached_text, bytes),
    "csv": (as_csv, bytes),
    "BufferedWriter": (buffered, bytes),
    "json": (as_json, lambda content: json.loads(content).encode()),
    "pickle": (lambda writer: pickle.dump(DATA, writer), pickle.loads),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_standard_library_writes_into_a_writer(way: str, bucket: Bucket) -> None:
    write, read = WAYS[way]
    async with bucket.open_upload(filename="a") as writer:
        write(writer)
        gc.collect()  # a wrapper that is dropped closes what it wraps
        assert not writer.closed
    assert writer.info is not None
    assert read(await bucket.read(writer.info.id)) == DATA


@pytest.mark.filterwarnings("ignore:coroutine 'AsyncGridFile.seek' was never awaited")  # zipfile calls it, and gives up
async def test_a_field_with_a_new_file_refuses_the_standard_library(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    with pytest.raises(AttributeError, match="flush"):
        async with file.new_file():
            zipfile.ZipFile(file, "w").close()  # type: ignore[call-overload]  # what is tried
    assert not file
    assert await contents(bucket.database) == (0, 0)


async def test_awaiting_flush_makes_room_for_more_writes(bucket: Bucket) -> None:
    megabyte = bytes(1024 * 1024)
    async with bucket.open_upload(chunk_size=1024 * 1024) as writer:
        for _ in range(2):
            for _ in range(40):
                writer.write(megabyte)
            writer.flush()
            assert await writer.flush() == 0
    assert writer.info is not None
    assert writer.info.length == 80 * len(megabyte)


async def test_closing_a_writer_takes_an_await(bucket: Bucket) -> None:
    writer = await bucket.open_upload()
    writer.write(b"one")
    closing = writer.close()
    assert not writer.closed
    info = await closing
    assert writer.closed
    assert (await writer.close()) == info
    assert await bucket.read(info.id) == b"one"
