"""The storage keeps the promises that Django's own tests ask of a storage, file_storage/tests.py."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile, TemporaryUploadedFile
from django.db import models
from django.db.migrations.writer import MigrationWriter
from django.test import override_settings
from django.utils import timezone
from pymongo import AsyncMongoClient

from gridproxy import BadFilename, Bucket
from gridproxy.adapters.django import GridFSFile, GridFSStorage
from gridproxy.adapters.starlette import FilesApp, SignedLinks


def contents(storage: GridFSStorage, name: str) -> bytes:
    with storage.open(name) as file:
        assert isinstance(file, GridFSFile)
        return bytes(file.read())


def test_a_file_is_written_read_and_removed(storage: GridFSStorage) -> None:
    assert not storage.exists("storage_test")
    with storage.open("storage_test", "w") as file:
        assert file.write("storage contents") == 16
    assert storage.exists("storage_test")
    with storage.open("storage_test", "r") as file:
        assert file.read() == "storage contents"
    storage.delete("storage_test")
    storage.delete("storage_test")
    assert not storage.exists("storage_test")
    with pytest.raises(ValueError, match="The name must be given"):
        storage.delete("")


def uploads(tmp_path: Path) -> Iterator[tuple[Any, bytes]]:
    yield ContentFile(b"bytes"), b"bytes"
    yield ContentFile("text \N{SNOWMAN}"), "text \N{SNOWMAN}".encode()
    yield ContentFile(""), b""
    yield SimpleUploadedFile("a.txt", b"simple" * 1000), b"simple" * 1000
    yield InMemoryUploadedFile(io.BytesIO(b"memory"), None, "a.txt", "text/plain", 6, None), b"memory"
    temporary = TemporaryUploadedFile("a.bin", "application/x-marmot", 9, None)
    temporary.write(b"temporary")
    yield temporary, b"temporary"
    temporary.close()
    (tmp_path / "on_disk").write_bytes(b"on disk")
    with open(tmp_path / "on_disk", "rb") as file:
        file.read(3)
        yield File(file), b"on disk"
        yield file, b"on disk"  # without chunks()


def test_every_kind_of_content_is_stored_from_its_start_and_not_closed(storage: GridFSStorage, tmp_path: Path) -> None:
    for content, expected in uploads(tmp_path):
        name = storage.save("folder/a", content)
        assert contents(storage, name) == expected
        assert storage.size(name) == len(expected)
        assert not content.closed


def test_the_type_that_a_browser_declares_is_stored_if_the_content_may_be_that(storage: GridFSStorage) -> None:
    declared = {"a.dat": ("application/x-marmot", b"abc"), "b.png": ("image/png", b"<html><script>")}
    for name, (kind, content) in declared.items():
        storage.save(name, SimpleUploadedFile(name, content, content_type=kind))
    types = {name: storage.file(name).content_type for name in declared}
    assert types["a.dat"] == "application/x-marmot"
    assert types["b.png"] != "application/x-marmot"


def test_a_taken_name_gets_an_addition(storage: GridFSStorage) -> None:
    first, second = (storage.save("a/test.file.txt", ContentFile(text)) for text in (b"1", b"2"))
    assert first == "a/test.file.txt"
    assert second.startswith("a/test_")
    assert second.endswith(".file.txt")
    assert (contents(storage, first), contents(storage, second)) == (b"1", b"2")
    long = storage.save("b" * 30, ContentFile(b"3"), max_length=20)
    assert len(long) == 20


def test_two_processes_that_save_one_name_lose_no_file(storage: GridFSStorage) -> None:
    def save(number: int) -> str:
        # Both find the name free before one of them saves.
        return storage._save("same.txt", ContentFile(b"%d" % number))

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(save, range(8)))
    assert len(set(names)) == 8
    assert [contents(storage, name) for name in names] == [b"%d" % number for number in range(8)]


def test_a_subclass_may_keep_several_files_of_a_name(storage: GridFSStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GridFSStorage, "get_available_name", lambda _self, name, max_length=None: name)
    for text in ("1", "2"):
        assert storage.save("a.txt", ContentFile(text)) == "a.txt"
    assert contents(storage, "a.txt") == b"2"
    storage.delete("a.txt")
    assert not storage.exists("a.txt")


def test_a_storage_that_overwrites_keeps_one_file_of_a_name(mongodb_uri: str, storage: GridFSStorage) -> None:
    database = storage.bucket.asynchronous().database.name
    overwriting = GridFSStorage(uri=mongodb_uri, database=database, bucket="media", allow_overwrite=True)
    for text in ("1", "2"):
        assert overwriting.save("a.txt", ContentFile(text)) == "a.txt"
    with overwriting.open("a.txt", "wb") as file:
        file.write(b"3")
    assert len(list(overwriting.bucket.find())) == 1
    with pytest.raises(ZeroDivisionError), overwriting.open("a.txt", "w") as file:
        file.write("4")
        raise ZeroDivisionError
    assert contents(overwriting, "a.txt") == b"3"
    assert not overwriting.is_name_available("a" * 5, max_length=4)


def test_directories_are_parts_of_names(storage: GridFSStorage) -> None:
    assert storage.listdir("") == ([], [])
    for name in ("a.txt", "b.txt", "c/d.txt", "c/e/f.txt", "c+/g.txt"):
        storage.save(name, ContentFile(b"1"))
    assert storage.listdir("") == (["c", "c+"], ["a.txt", "b.txt"])
    assert storage.listdir(".") == storage.listdir("")
    assert storage.listdir("c/") == (["e"], ["d.txt"])
    assert storage.listdir("c+") == ([], ["g.txt"])
    with pytest.raises(FileNotFoundError):
        storage.listdir("a")


def test_names_that_leave_the_storage_or_cannot_be_stored_are_refused(storage: GridFSStorage) -> None:
    for name in ("../a", "a/../../b", "/etc/passwd", ""):
        with pytest.raises(SuspiciousFileOperation):
            storage.save(name, ContentFile(b"1"))
    with pytest.raises(BadFilename):
        storage.save("a\0b", ContentFile(b"1"))
    assert storage.save(r"windows\a.txt", ContentFile(b"1")) == "windows/a.txt"
    path = PurePosixPath("path/a.txt")
    assert storage.save(path, ContentFile(b"1")) == "path/a.txt"
    assert (storage.exists(path), storage.size(path), storage.open(path).read()) == (True, 1, b"1")
    assert (storage.url(path), storage.listdir(path.parent)) == ("/media/path/a.txt", ([], ["a.txt"]))
    storage.delete(path)
    assert not storage.exists(path)
    with pytest.raises(NotImplementedError):
        storage.path("a.txt")


def test_a_missing_file_is_not_found(storage: GridFSStorage) -> None:
    for call in (storage.open, storage.size, storage.get_created_time, storage.get_modified_time, storage.file):
        with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
            call("missing.txt")
    with pytest.raises(NotImplementedError):
        storage.get_accessed_time("missing.txt")


@pytest.mark.parametrize("aware", [True, False])
def test_times_are_aware_or_local_as_the_settings_say(storage: GridFSStorage, aware: bool) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with override_settings(USE_TZ=aware, TIME_ZONE="Africa/Algiers"), timezone.override("Asia/Tokyo"):
        found = storage.get_created_time("a.txt")
        assert found == storage.get_modified_time("a.txt")
        now = datetime.now(UTC) if aware else (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
        assert (found.tzinfo is not None) == aware
        assert abs(found - now) < timedelta(seconds=20)


def test_a_record_without_a_date_has_no_time(storage: GridFSStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    info = storage.file("a.txt").info
    assert info is not None
    monkeypatch.setattr(GridFSStorage, "_info", lambda *_: replace(info, upload_date=None))
    with pytest.raises(NotImplementedError, match="no date"):
        storage.get_created_time("a.txt")


def test_addresses(storage: GridFSStorage, mongodb_uri: str) -> None:
    assert storage.url("a b/\N{SNOWMAN}?.txt") == "/media/a%20b/%E2%98%83%3F.txt"
    assert storage.url("/a.txt") == "/media/a.txt"
    assert storage.url(None) == "/media/"
    other = GridFSStorage(uri=mongodb_uri, database="zoo", base_url="https://files.example/x")
    assert other.url("a.txt") == "https://files.example/x/a.txt"

    class Signed:
        def url(self, prefix: str, file: object = None, *, expires_in: timedelta | float) -> str:
            return f"{prefix}/{file}?expires={expires_in}"

    links = GridFSStorage(uri=mongodb_uri, database="zoo", base_url="/x/", links=Signed(), expires_in=60)
    assert links.url("a.txt") == "/x/a.txt?expires=60"


async def test_signed_links_are_accepted_by_the_application_that_serves_the_files(
    storage: GridFSStorage, mongodb_uri: str
) -> None:
    links = SignedLinks(keys=["a secret of at least 16 bytes"])
    name = await asyncio.to_thread(storage.save, "a b/c.txt", ContentFile(b"a marmot"))
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        database = client[storage.bucket.asynchronous().database.name]
        app = FilesApp(Bucket(database, "media"), authorize=links, by="filename")
        signed = GridFSStorage(uri=mongodb_uri, database=database.name, base_url="/media/", links=links)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://zoo") as browser:
            address = signed.url(name).removeprefix("/media")
            assert (await browser.get(address)).content == b"a marmot"
            assert (await browser.get(address + "0")).status_code == 403


def test_an_open_file_is_opened_again_and_in_pieces(storage: GridFSStorage) -> None:
    name = storage.save("a.txt", ContentFile(b"line\n" * 1000))
    file = storage.open(name)
    assert (file.size, len(list(file.chunks(900))), file.name) == (5000, 6, name)
    assert next(iter(file.open())) == b"line\n"
    file.close()
    with file.open("r") as text:
        assert text.readline() == "line\n"
    with file.open() as text:
        assert text.mode == "r"
    written = storage.open("b.txt", "wb")
    written.write(b"12")
    assert written.size == 2
    written.close()
    for mode in ("a", "r+", "xb"):
        with pytest.raises(ValueError, match="is opened with"):
            storage.open(name, mode)


def test_the_storage_of_the_settings_connects_with_its_first_use() -> None:
    # The address in the settings has no server.
    assert default_storage.url("a.txt") == "/media/a.txt"


def test_a_migration_has_the_arguments_of_the_storage() -> None:
    field = models.FileField(storage=GridFSStorage(uri="mongodb://127.0.0.1", database="zoo"))
    assert "GridFSStorage(database='zoo', uri='mongodb://127.0.0.1')" in MigrationWriter.serialize(field)[0]
