"""Open files are binary files of the standard library: what reads and writes files works with them."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from random import Random
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from gridproxy import BadOption, BadSource, FileAlreadyStored, FileClosed, FileMissing
from gridproxy.sync import Bucket, Reader, Writer

ROWS = [["genus", "legs"], *(["Marmota", str(number)] for number in range(100))]


def write_text(file: Writer) -> None:
    with io.TextIOWrapper(file, newline="") as text:
        csv.writer(text).writerows(ROWS)


def write_archive(file: Writer) -> None:
    with file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "one" * 1000)
        archive.writestr("b.txt", "two")


def read_archive(file: Reader) -> object:
    with zipfile.ZipFile(file) as archive:
        return archive.testzip(), archive.read("b.txt"), len(archive.read("a.txt"))


def write_tar(file: Writer) -> None:
    with file, tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 3000
        archive.addfile(entry, io.BytesIO(b"one" * 1000))


def read_tar(file: Reader) -> object:
    with tarfile.open(fileobj=file) as archive:
        extracted = archive.extractfile("a.txt")
        assert extracted is not None
        return archive.getnames(), extracted.read() == b"one" * 1000


def write_gzip(file: Writer) -> None:
    with file, gzip.open(file, "wb") as packed:
        packed.write(b"packed" * 1000)


def write_picture(file: Writer) -> None:
    with file:
        Image.new("RGB", (64, 48), "brown").save(file, "PNG")


def read_picture(file: Reader) -> object:
    with Image.open(file) as picture:
        return picture.size, picture.getpixel((3, 3))


def write_table(file: Writer) -> None:
    with file:
        pd.DataFrame({"legs": range(100)}).to_csv(file, index=False)


def copy_back(file: Reader) -> object:
    copied = io.BytesIO()
    shutil.copyfileobj(file, copied)
    return copied.getvalue()


def copy(file: Writer) -> None:
    with file:
        shutil.copyfileobj(io.BytesIO(b"copied" * 1000), file, 64)


USES: dict[str, tuple[Callable[[Writer], None], Callable[[Reader], object], object]] = {
    "csv": (write_text, lambda file: list(csv.reader(io.TextIOWrapper(file, newline=""))), ROWS),
    "zipfile": (write_archive, read_archive, (None, b"two", 3000)),
    "tarfile": (write_tar, read_tar, (["a.txt"], True)),
    "gzip": (write_gzip, lambda file: gzip.decompress(file.read()), b"packed" * 1000),
    "Pillow": (write_picture, read_picture, ((64, 48), (165, 42, 42))),
    "pandas": (write_table, lambda file: int(pd.read_csv(file)["legs"].sum()), 4950),
    "shutil": (copy, copy_back, b"copied" * 1000),
    "BufferedReader": (copy, lambda file: io.BufferedReader(file).read(), b"copied" * 1000),
    "readall": (copy, lambda file: file.readall(), b"copied" * 1000),
}


@pytest.mark.parametrize("use", USES)
def test_what_writes_and_reads_files_works(blocking: Bucket, use: str) -> None:
    write, read, expected = USES[use]
    writer = blocking.create(filename=f"{use}.bin")
    write(writer)
    assert writer.closed
    assert writer.info is not None
    assert (writer.info.id, writer.info.filename) == (writer.id, f"{use}.bin")
    with blocking.open(writer.id) as reader:
        assert read(reader) == expected


def test_reading_is_that_of_a_file_of_the_standard_library(blocking: Bucket) -> None:
    chance = Random(5)
    content = bytes(chance.choices(b"abcdefgh\n", k=3000))
    with blocking.open(blocking.upload(content).id) as ours:
        theirs = io.BytesIO(content)
        calls = ["read", "read", "readline", "seek", "readinto", "lines"]
        for _ in range(400):
            call, size = chance.choice(calls), chance.choice([0, 1, 7, 99, 100, 250, 1500, -1])
            if call == "seek":
                whence, offset = chance.choice([(0, 2900), (0, 0), (0, 3500), (1, 0), (1, 11), (2, -120), (2, 0)])
                assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            elif call == "readinto":
                first, second = bytearray(max(size, 3)), bytearray(max(size, 3))
                assert (ours.readinto(first), first) == (theirs.readinto(second), second)
            elif call == "lines":
                assert next(ours, None) == next(theirs, None)
            elif size == -1 and chance.random() < 0.8:
                continue  # most reads are in the middle
            else:
                assert getattr(ours, call)(size) == getattr(theirs, call)(size)
            assert ours.tell() == theirs.tell()


def test_the_abilities_and_the_names_of_open_files(blocking: Bucket) -> None:
    with blocking.create(filename="a.txt", encoding="utf-16-le") as writer:
        assert (writer.readable(), writer.writable(), writer.seekable(), writer.mode) == (False, True, False, "wb")
        assert (writer.write("roar"), writer.write(memoryview(b"!!")), writer.tell()) == (8, 2, 10)
        assert writer.info is None
        writer.flush()
        with pytest.raises(BadSource):
            writer.write(7)
        assert "Writer" in repr(writer)
    assert writer.info is not None
    reader = blocking.open(writer.id)
    assert (reader.readable(), reader.writable(), reader.seekable(), reader.mode) == (True, False, True, "rb")
    assert (reader.name, reader.info.length, reader.read(2)) == ("a.txt", 10, b"r\0")
    assert repr(reader) == f"<gridproxy.sync.Reader of {writer.id!r}: at 2>"
    for offset, whence in ((-1, 0), (0, 7)):
        with pytest.raises(BadOption):
            reader.seek(offset, whence)
    reader.close()
    reader.close()
    writer.close()
    assert repr(reader).endswith("closed>")
    refused: list[Callable[[], object]] = [reader.read, reader.tell, reader.readline, lambda: reader.seek(0)]
    for call in [*refused, lambda: writer.write(b"more"), writer.flush]:
        with pytest.raises(FileClosed):
            call()


def test_a_missing_file_is_not_opened_and_a_taken_id_not_written(blocking: Bucket) -> None:
    with pytest.raises(FileMissing):
        blocking.open("missing")
    info = blocking.upload(b"1")
    with pytest.raises(FileAlreadyStored):
        blocking.create(id=info.id)


def direct(file: Writer) -> None:
    with file:
        file.write(b"1" * 2000)
        file.flush()
        raise ZeroDivisionError


def wrapped(file: Writer) -> None:
    with io.TextIOWrapper(file) as text:
        text.write("1" * 2000)
        raise ZeroDivisionError


def closed_by_closing(file: Writer) -> None:
    with closing(file):
        file.write(b"1")
        raise ZeroDivisionError


def in_an_archive(file: Writer) -> None:
    with file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "1" * 2000)
        raise ZeroDivisionError


def in_a_generator(file: Writer) -> None:
    def lines() -> Generator[None, None, None]:
        with file:
            file.write(b"1")
            yield

    generator = lines()
    next(generator)
    generator.close()
    raise ZeroDivisionError


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("write", [direct, wrapped, closed_by_closing, in_an_archive, in_a_generator])
def test_a_block_that_raises_stores_nothing(blocking: Bucket, write: Callable[[Writer], None]) -> None:
    with pytest.raises(ZeroDivisionError):
        write(blocking.create(filename="half.txt"))
    assert list(blocking.find()) == []
    assert list(blocking.check()) == []


def test_a_file_that_is_written_while_an_exception_is_handled_is_stored(blocking: Bucket) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        with blocking.create() as file:
            file.write(b"what went wrong")
    assert file.info is not None


def test_a_failure_of_the_upload_is_raised_and_nothing_is_stored(
    blocking: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = blocking.create()
    writer.write(b"1")

    async def fail(*_: Any) -> None:
        raise ConnectionError("no server")

    with monkeypatch.context() as patched:
        patched.setattr("gridproxy.gridfs.upload.undo_log.UndoLog.insert_small_file", fail)
        with pytest.raises(ConnectionError):
            writer.close()
    assert writer.closed
    assert list(blocking.find()) == []


@pytest.mark.usefixtures("small_batches")
def test_a_dropped_writer_warns_and_stores_nothing(blocking: Bucket) -> None:
    writer = blocking.create()
    writer.write(bytes(3000))
    writer.flush()
    held = [writer]
    del writer
    with pytest.warns(ResourceWarning, match="was not closed, so it was not stored"):
        held.clear()
    gc.collect()
    blocking.ensure_indexes()  # the portal has done everything before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = blocking.open(blocking.upload(b"1").id)
        del reader
        gc.collect()
    assert len(list(blocking.find())) == 1
