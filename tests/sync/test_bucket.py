"""Blocking calls do what the asynchronous ones do, with the same errors."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo import WriteConcern
from pymongo.errors import ExecutionTimeout, NetworkTimeout, PyMongoError, ServerSelectionTimeoutError

import gridproxy
from gridproxy import (
    BadOption,
    BadSource,
    CorruptFile,
    FileAlreadyStored,
    FileClosed,
    FileMissing,
    FileOptions,
    TooLarge,
    UploadMissing,
    WrongOffset,
)
from gridproxy.sync import Bucket, Client, GridFile

CONTENT = b"some content\nof two lines"


def test_a_file_from_its_upload_to_its_removal(blocking: Bucket) -> None:
    info = blocking.upload(CONTENT, filename="notes.txt", metadata={"owner": 7})
    id = info.id
    assert blocking.read(id, 5, 12) == b"content"
    assert blocking.read_ranges(id, [(0, 4), (5, 12)]) == [b"some", b"content"]
    assert blocking.read_many([id, "missing"]) == {id: CONTENT}
    assert b"".join(blocking.stream(id, 5)) == CONTENT[5:]
    assert blocking.stat(id) == info
    assert blocking.stat_many([id]) == {id: info}
    assert list(blocking.find({"metadata.owner": 7}, sort="-uploadDate")) == [info]
    assert blocking.by_name("notes.txt") == blocking.file(id)
    assert blocking.rename(id, "b.txt").filename == "b.txt"
    assert blocking.rename_by_name("b.txt", "c.txt") == 1
    assert blocking.update_metadata(id, place="Alps", unset=(key for key in ["owner"])).metadata["place"] == "Alps"
    assert blocking.copy(id, filename="twin").length == info.length
    assert blocking.verify(id).id == id
    assert list(blocking.check()) == []
    assert blocking.collect_garbage().files == 0
    assert blocking.delete_by_name("twin") == 1
    blocking.delete(id)
    with pytest.raises(FileMissing):
        blocking.delete(id)
    blocking.ensure_indexes(force=True)
    blocking.drop()
    assert list(blocking.find()) == []


def test_staged_chunks(blocking: Bucket) -> None:
    staged = blocking.stage(CONTENT, filename="later.txt")
    assert list(blocking.find()) == []
    assert blocking.publish(staged).filename == "later.txt"
    blocking.discard(blocking.stage(b"never"))
    assert blocking.delete_many(info.id for info in blocking.find()) == 1


def test_a_file_object(blocking: Bucket, tmp_path: Path) -> None:
    file = blocking.file(None)
    assert not file
    assert file.get() is None
    assert file.put(CONTENT, filename="notes.txt", owner=7).metadata["owner"] == 7
    assert file
    assert "gridproxy.sync.GridFile id=" in repr(file)
    with pytest.raises(FileAlreadyStored):
        file.put(b"more")
    assert file.get() is file
    assert (file.read(4), file.tell(), file.read()) == (b"some", 4, CONTENT[4:])
    assert file.seek(5) == 5
    assert file.readline() == b"content\n"
    assert file.readlines() == [b"of two lines"]
    file.seek(0)
    buffer = bytearray(4)
    assert (file.readinto(buffer), bytes(buffer)) == (4, b"some")
    file.close()
    assert file.read_text() == CONTENT.decode()
    assert list(file.lines()) == ["some content\n", "of two lines"]
    assert b"".join(file) == CONTENT
    assert file.read_range(5, 12) == b"content"
    assert file.read_ranges([(0, 4)]) == [b"some"]
    assert file.save_to(tmp_path / "saved").length == len(CONTENT)
    assert file.verify() == file.stat()
    twin = file.copy(filename="twin")
    assert isinstance(twin, GridFile)
    assert twin.bucket is blocking
    assert twin != file
    assert blocking.upload(twin).metadata["owner"] == 7
    assert file.update_metadata(place="Alps").metadata["place"] == "Alps"
    assert file.rename("b.txt").filename == "b.txt"
    assert (file.filename, file.content_type, file.length, file.grid_id) == ("b.txt", "text/plain", 25, file.id)
    assert (file.chunk_size, file.size, file.width, file.height, file.format) == (100, None, None, None, None)
    assert (file.info, file.metadata["place"], file.closed) == (file.stat(), "Alps", True)
    info = file.stat()
    assert (file.upload_date, file.sha256, file.etag) == (info.upload_date, info.sha256, info.etag)
    assert (bool(file.thumbnail), dict(file.variants)) == (False, {})
    file.replace(b"other")
    assert file.exists()
    file.delete()
    assert not file.exists()


def test_a_new_file_in_parts(blocking: Bucket) -> None:
    file = blocking.file(None)
    with file.new_file(filename="a.txt") as same:
        assert same is file
        assert (file.write("one "), file.writelines(part for part in [b"two ", b"three"])) == (4, 9)
    assert file.read() == b"one two three"
    with pytest.raises(ZeroDivisionError), file.new_file(replace=True):
        file.write(b"lost")
        raise ZeroDivisionError
    assert file.read_text() == ""  # the position is that of before
    file.new_file(replace=True)
    file.abort()
    file.close()
    assert file.read() == b"one two three"
    assert len(list(blocking.find())) == 1


def test_many_files_from_a_generator_that_reads_files(blocking: Bucket) -> None:
    infos = blocking.upload_many({"one": b"1", "two": b"22"})
    copies = blocking.upload_many(blocking.read(info.id) for info in infos)
    assert [info.length for info in copies] == [1, 2]


def sources(thread: threading.Thread, tmp_path: Path, blocking: Bucket) -> Iterator[tuple[Any, bytes]]:
    database = sqlite3.connect(":memory:")  # refuses other threads

    def blocks() -> Iterator[bytes]:
        for (number,) in database.execute("values (1), (2), (3)"):
            assert threading.current_thread() is thread
            yield bytes([number]) * 150
        database.close()

    async def asynchronous() -> AsyncIterator[bytes]:
        yield CONTENT

    class Lazy:
        def __iter__(self) -> Iterator[bytes]:
            assert threading.current_thread() is thread
            return iter([CONTENT])

    (tmp_path / "file").write_bytes(CONTENT)
    with open(tmp_path / "file", "rb") as file:
        file.read(5)
        yield file, CONTENT[5:]
    yield blocks(), bytes([1]) * 150 + bytes([2]) * 150 + bytes([3]) * 150
    yield asynchronous(), CONTENT
    yield Lazy(), CONTENT
    yield tmp_path / "file", CONTENT
    yield blocking.open(blocking.upload(CONTENT).id), CONTENT
    yield blocking.stream(blocking.upload(CONTENT).id), CONTENT


def test_sources_and_callbacks_run_in_the_thread_of_the_call(blocking: Bucket, tmp_path: Path) -> None:
    thread = threading.current_thread()
    seen = []

    def progress(done: int, total: int | None) -> None:
        assert threading.current_thread() is thread
        seen.append(done)

    async def progress_later(done: int, total: int | None) -> None:
        seen.append(done)

    class Sink(io.BytesIO):
        def write(self, data: Any, /) -> int:
            assert threading.current_thread() is thread
            return super().write(data)

    for source, content in sources(thread, tmp_path, blocking):
        info = blocking.upload(source, progress=progress)
        assert seen.pop() == len(content)
        sink = Sink()
        blocking.file(info.id).save_to(sink, progress_later)
        assert sink.getvalue() == content
        assert seen.pop() == len(content)


def test_an_error_of_a_source_is_raised_and_nothing_is_stored(blocking: Bucket) -> None:
    def blocks(error: BaseException) -> Iterator[bytes]:
        yield b"1" * 500
        raise error

    for error in (ValueError("mine"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as raised:
            blocking.upload(blocks(error))
        assert raised.value is error
    with pytest.raises(BadSource):
        blocking.upload(7)  # type: ignore[arg-type]
    assert list(blocking.find()) == []
    assert list(blocking.check()) == []


def test_a_search_goes_on_after_a_record_that_is_not_valid(blocking: Bucket, mongodb_uri: str) -> None:
    ids = [info.id for info in blocking.upload_many([b"1", b"2", b"3"])]
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = blocking.asynchronous().database.name
        client[name]["fs.files"].update_one({"_id": ids[1]}, {"$set": {"length": "long"}})
    found = blocking.find(sort="_id")
    assert next(found).id == ids[0]
    with pytest.raises(CorruptFile):
        next(found)
    assert [info.id for info in found] == [ids[2]]
    assert list(found) == []


def test_a_stream_is_closed_half_way(blocking: Bucket) -> None:
    info = blocking.upload(bytes(10_000))
    with blocking.stream(info.id) as stream:
        assert stream.info() == info
        assert len(next(stream)) == 100
    assert list(stream) == []
    with pytest.raises(FileMissing):
        next(blocking.stream(ObjectId()))


def test_a_transaction_is_whole_or_not_at_all(blocking_client: Client, blocking: Bucket) -> None:
    blocking.upload(b"so that the collections exist")
    with blocking_client.transaction() as tx:
        blocking.upload(b"one", session=tx.session)
        blocking.file(None).put(b"two", session=tx.session)
    assert len(list(blocking.find())) == 3
    with pytest.raises(ZeroDivisionError), blocking_client.transaction() as tx:
        blocking.upload(b"three", session=tx.session)
        raise ZeroDivisionError
    assert len(list(blocking.find())) == 3
    assert list(blocking.check()) == []


def test_a_deadline_of_the_driver_holds_in_the_calling_thread(blocking: Bucket) -> None:
    with pymongo.timeout(0.000001), pytest.raises(PyMongoError) as raised:
        blocking.read_many([ObjectId()])
    assert isinstance(raised.value, ExecutionTimeout | NetworkTimeout | ServerSelectionTimeoutError)


def test_fifty_threads_share_a_client_and_every_byte_is_right(blocking: Bucket, tmp_path: Path) -> None:
    def work(number: int) -> None:
        content = Random(number).randbytes(700 + number)
        (tmp_path / str(number)).write_bytes(content)
        with open(tmp_path / str(number), "rb") as file:
            first = blocking.upload(file)
        # Each of these reads a file while it uploads one.
        second = blocking.upload(block for block in blocking.stream(first.id))
        with blocking.create() as writer:
            writer.writelines(blocking.open(second.id))
        assert writer.info is not None
        assert blocking.read(writer.info.id) == blocking.file(second.id).read() == content

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))
    assert len(list(blocking.find())) == 150


def test_bad_arguments_are_refused_at_once(mongodb_uri: str) -> None:
    with pytest.raises(PyMongoError):
        Client("mongodb://")
    with Client(mongodb_uri, connect=False) as client:
        assert repr(client) == "<gridproxy.sync.Client>"
        with pytest.raises(BadOption):
            client.bucket("zoo", chunk_size=0)
        with pytest.raises(gridproxy.UnacknowledgedWriteConcern):
            client.bucket("zoo", write_concern=WriteConcern(0))
        bucket = client.bucket("zoo", "uploads")
        assert bucket == client.bucket("zoo", "uploads") != client.bucket("zoo")
        assert hash(bucket) == hash(client.bucket("zoo", "uploads"))
        assert (bucket.name, "uploads" in repr(bucket)) == ("uploads", True)
        assert (bucket == "uploads", bucket.file(1) == 1) == (False, False)
    client.close()
    assert repr(client) == "<gridproxy.sync.Client closed>"
    with pytest.raises(FileClosed):
        client.bucket("zoo")


def test_findings_and_old_garbage(blocking: Bucket) -> None:
    blocking.stage(b"left behind")
    assert [finding.kind for finding in blocking.check()] == ["orphan"]
    assert blocking.collect_garbage(older_than=timedelta(hours=1)).chunks == 0


def test_an_upload_in_parts(blocking: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(bytes(250))
    options = FileOptions(max_size=1000, validators=[lambda info, head: None])
    upload = blocking.resumable(filename="film", length=500, options=options)
    with path.open("rb") as file:
        assert upload.append(file) == 250
    assert repr(upload).startswith(f"<gridproxy.sync.ResumableUpload {upload.id!r} to ")
    later = blocking.resume(upload.id, options=options)
    with pytest.raises(WrongOffset):
        later.append(b"again", at=0)
    assert later.append(iter([bytes(150), bytes(100)]), at=250) == later.length == 500
    info = later.finish()
    assert blocking.read(info.id) == bytes(500)
    assert (later.is_finished, later.info.id) == (True, info.id)
    aborted = blocking.resumable(annotations={"user": 7})
    assert aborted.annotations == {"user": 7}
    aborted.abort()
    with pytest.raises(UploadMissing):
        blocking.resume(aborted.id)
    with pytest.raises(TooLarge):
        blocking.resumable(options=options).append(bytes(1001))
