"""Files and directories by path: what is listed, stored, replaced, moved and removed."""

from __future__ import annotations

import hashlib
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import gridfs
import pytest
from pymongo.database import Database

from gridproxy import BadFilename, BadOption, Bucket, FileVanished
from gridproxy.adapters.fsspec import GridFSFileSystem
from tests.observing import Database as AsyncDatabase

Synchronous = Database[dict[str, Any]]


def chunks_and_records(database: Synchronous, bucket: str = "data") -> tuple[int, int]:
    return database[f"{bucket}.chunks"].count_documents({}), database[f"{bucket}.files"].count_documents({})


def test_the_protocol_is_registered_by_the_installed_package() -> None:
    # If this fails after a change of pyproject.toml, install the package again: pip install -e .
    assert fsspec.get_filesystem_class("gridfs") is GridFSFileSystem


def test_a_file_is_plain_gridfs_for_another_driver_and_the_other_way_round(
    fs: GridFSFileSystem, synchronous: Synchronous
) -> None:
    fs.pipe("gridfs://data/2026/notes.txt", b"some text")
    driver = gridfs.GridFS(synchronous, "data")
    assert driver.get_last_version("2026/notes.txt").read() == b"some text"
    id = driver.put(b"more text", filename="2026/more.txt")
    assert fs.cat("data/2026/more.txt") == b"more text"
    assert fs.info("data/2026/more.txt")["id"] == id


def test_info_has_the_id_the_digest_and_the_dates(fs: GridFSFileSystem) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    fs.pipe_file("data/notes.txt", b"some text", metadata={"owner": 7})
    info = fs.info("data/notes.txt")
    digest = hashlib.sha256(b"some text").hexdigest()
    assert (info["type"], info["size"], info["sha256"]) == ("file", 9, digest)
    assert info["metadata"]["owner"] == 7
    assert info["content_type"] == "text/plain"
    assert info["etag"].startswith('"')
    created = fs.created("data/notes.txt")
    assert created is not None
    assert before < created < before + timedelta(minutes=2)
    assert fs.modified("data/notes.txt") == created
    assert fs.checksum("data/notes.txt") == int(digest, 16)
    ukey = fs.ukey("data/notes.txt")
    fs.pipe_file("data/notes.txt", b"other text")
    assert fs.ukey("data/notes.txt") != ukey


def test_directories_are_prefixes_that_are_taken_literally(fs: GridFSFileSystem) -> None:
    names = ["a.b/x", "a.b/c/y", "aXb/z", "a.b", "(a|b)*/[0]", "a.bc"]
    for name in names[:3] + names[4:]:
        fs.pipe(f"data/{name}", b"1")
    assert fs.ls("data/a.b", detail=False) == ["data/a.b/c", "data/a.b/x"]
    assert fs.find("data/a.b") == ["data/a.b/c/y", "data/a.b/x"]
    assert fs.ls("data/(a|b)*", detail=False) == ["data/(a|b)*/[0]"]
    assert fs.ls("data", detail=False) == ["data/(a|b)*", "data/a.b", "data/a.bc", "data/aXb"]
    assert fs.ls("", detail=False) == ["data"]
    assert fs.glob("data/a?b/*") == ["data/a.b/c", "data/a.b/x", "data/aXb/z"]
    assert fs.glob("data/**/y") == ["data/a.b/c/y"]
    assert fs.du("data") == 5
    assert fs.isdir("data/a.b")
    assert not fs.isdir("data/a")


def test_a_large_directory_is_skipped_in_the_search_for_others(
    fs: GridFSFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.adapters.fsspec.tree._NAMES_PER_PAGE", 3)
    fs.pipe({f"data/many/{number}": b"" for number in range(8)} | {"data/0/x": b"", "data/z/y/x": b"", "data/n": b""})
    assert fs.ls("data", detail=False) == ["data/0", "data/many", "data/n", "data/z"]
    assert sorted(fs.find("data", withdirs=True, maxdepth=1)) == ["data", "data/0", "data/many", "data/n", "data/z"]


def test_names_that_are_no_paths_are_not_listed_and_relative_ones_are_refused(
    fs: GridFSFileSystem, synchronous: Synchronous, tmp_path: Path
) -> None:
    driver = gridfs.GridFS(synchronous, "data")
    for name in ("../escape", "a/../../b", "/absolute/name", "a//b", "end/", None, "fine"):
        driver.put(b"1", filename=name)
    assert fs.find("data") == fs.ls("data", detail=False) == ["data/fine"]
    assert fs.cat("data//absolute/name") == b"1"
    fs.get("data", str(tmp_path / "copy"), recursive=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["copy", "fine"]
    for path in ("data/../escape", "data/./x", "../data/x"):
        for call in (fs.cat_file, fs.info, fs.rm_file, lambda path: fs.pipe_file(path, b"1"), fs.open):
            with pytest.raises(BadFilename, match="relative"):
                call(path)
    with pytest.raises(BadFilename, match="empty part"):
        fs.pipe("data/a//c", b"1")
    assert len(driver.list()) == 6


def test_a_url_without_a_bucket_is_explained(fs: GridFSFileSystem) -> None:
    with pytest.raises(BadFilename, match=r"gridfs://BUCKET/NAME, such as gridfs://fs/t\.csv"):
        fs.pipe("gridfs://t.csv", b"1")
    with pytest.raises(BadFilename, match="names no file"):
        fs.open("gridfs://", "wb")
    with pytest.raises(FileNotFoundError, match=r"no bucket of this name.*BUCKET/NAME"):
        fs.cat("gridfs://t.csv")
    with pytest.raises(FileNotFoundError, match="data/missing"):
        fs.open("data/missing")
    assert not fs.exists("data")
    assert fs.ls("") == []


@pytest.mark.usefixtures("fs")
def test_a_file_system_without_a_server_or_a_database_is_refused(mongodb_uri: str) -> None:
    with pytest.raises(BadOption, match="storage_options"):
        fsspec.filesystem("gridfs")
    with pytest.raises(BadOption, match="no database is named"):
        GridFSFileSystem(uri=mongodb_uri)
    with pytest.raises(BadOption, match="no database is named"):
        GridFSFileSystem(uri=mongodb_uri, database="a b")
    with pytest.raises(BadOption, match="database is a name"):
        GridFSFileSystem(uri=mongodb_uri, database=7)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="no option 'databse'"):
        GridFSFileSystem(uri=mongodb_uri, databse="zoo")
    with pytest.raises(BadOption, match="'replace' or 'keep'"):
        GridFSFileSystem(uri=mongodb_uri, database="zoo", revisions="all")  # type: ignore[arg-type]
    named = GridFSFileSystem(uri=mongodb_uri.replace("/?", "/gridproxy_nothing?"))
    assert named.ls("") == []


async def test_a_database_object_needs_an_asynchronous_file_system(database: AsyncDatabase, mongodb_uri: str) -> None:
    with pytest.raises(BadOption, match="asynchronous=True"):
        GridFSFileSystem(database=database)
    with pytest.raises(BadOption, match="only one of them"):
        GridFSFileSystem(uri=mongodb_uri, database=database, asynchronous=True)
    fs = GridFSFileSystem(database=database, asynchronous=True)
    assert fs is not GridFSFileSystem(database=database, asynchronous=True)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(fs)
    with pytest.raises(NotImplementedError, match="open_async"):
        fs.open("data/x")


def test_overwriting_stores_first_and_removes_every_older_revision_then(
    fs: GridFSFileSystem, synchronous: Synchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = gridfs.GridFS(synchronous, "data")
    for content in (b"1", b"22"):
        driver.put(content, filename="x")
    seen: list[bytes] = []
    real = Bucket.delete_many

    async def observed(self: Bucket, *args: Any, **kwargs: Any) -> int:
        seen.append(driver.get_last_version("x").read())
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(Bucket, "delete_many", observed)
    fs.pipe("data/x", b"333")
    with fs.open("data/x", "wb") as file:
        file.write(b"4444")
    assert seen == [b"333", b"4444"]
    assert chunks_and_records(synchronous) == (1, 1)


@pytest.mark.usefixtures("fs")
def test_older_revisions_can_be_kept(options: dict[str, Any], synchronous: Synchronous) -> None:
    fs = GridFSFileSystem(**options, revisions="keep")
    fs.pipe("data/x", b"1")
    fs.pipe("data/x", b"22")
    fs.pipe("data/y", b"333")
    assert (fs.cat("data/x"), fs.du("data"), len(fs.ls("data"))) == (b"22", 5, 2)
    fs.mv("data/x", "data/y")
    assert fs.cat("data/y") == b"22"
    assert gridfs.GridFS(synchronous, "data").get_version("y", 0).read() == b"333"
    assert not fs.exists("data/x")
    fs.rm("data/y")
    assert chunks_and_records(synchronous) == (0, 0)


def test_a_name_is_a_file_or_a_directory_and_not_both(fs: GridFSFileSystem) -> None:
    fs.pipe("data/a/b", b"1")
    with pytest.raises(IsADirectoryError):
        fs.pipe("data/a", b"2")
    with pytest.raises(NotADirectoryError):
        fs.pipe("data/a/b/c", b"2")
    with pytest.raises(NotADirectoryError), fs.open("data/a/b/c", "wb"):
        pass
    with pytest.raises(NotADirectoryError):
        fs.makedirs("data/a/b/c/d")
    with pytest.raises(FileExistsError):
        fs.mkdir("data/a/b")
    with pytest.raises(FileExistsError):
        fs.makedirs("data/a/b", exist_ok=True)
    with pytest.raises(FileExistsError):
        fs.mkdir("data/a")
    fs.makedirs("data/a", exist_ok=True)
    with pytest.raises(IsADirectoryError):
        fs.open("data/a")
    assert fs.find("data") == ["data/a/b"]


def test_a_bucket_is_made_and_removed_as_a_directory(fs: GridFSFileSystem, synchronous: Synchronous) -> None:
    fs.mkdir("data")
    assert fs.isdir("data")
    assert fs.ls("data") == []
    with pytest.raises(FileExistsError):
        fs.mkdir("data")
    fs.pipe("data/a/b", b"1")
    for path, error in {"data": OSError, "data/a": OSError, "data/a/b": NotADirectoryError}.items():
        with pytest.raises(error):
            fs.rmdir(path)
    fs.rm("data", recursive=True)
    assert fs.ls("") == [{"name": "data", "size": 0, "type": "directory"}]
    fs.rmdir("data")
    assert synchronous.list_collection_names() == []


def test_files_are_moved_and_copied_inside_the_server(fs: GridFSFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    fs.pipe({"data/a/1": b"1", "data/a/b/2": b"22", "data/old": b"333"})
    id = fs.info("data/a/1")["id"]

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("the content came to the client")

    with monkeypatch.context() as patched:
        patched.setattr("gridproxy.gridfs.download.download.Download.next", read)
        fs.cp("data/a", "data/copy", recursive=True)
        fs.mv("data/a", "data/z")
        fs.mv("data/z/1", "data/old")
        fs.cp("data/z/b/2", "data/2")
        fs.mv("data/z/b/2", "other/2")
        fs.cp("data/old", "other/")
        fs.cp("data/old", "data/old")
        fs.rm("data/2")
    assert (fs.cat("data/old"), fs.info("data/old")["id"], fs.cat("data/copy/b/2")) == (b"1", id, b"22")
    assert fs.cat(["other/2", "other/old"]) == {"other/2": b"22", "other/old": b"1"}
    assert fs.find("data") == ["data/copy/1", "data/copy/b/2", "data/old"]
    with pytest.raises(FileNotFoundError):
        fs.mv("data/missing", "data/x")


def test_removing_checks_everything_first(fs: GridFSFileSystem, synchronous: Synchronous) -> None:
    fs.pipe({"data/a/1": b"1", "data/2": b"22"})
    with pytest.raises(FileNotFoundError):
        fs.rm(["data/2", "data/missing"])
    with pytest.raises(IsADirectoryError):
        fs.rm(["data/2", "data/a"])
    with pytest.raises(IsADirectoryError):
        fs.rm("data")
    assert len(fs.find("data")) == 2
    fs.rm("data/a*", recursive=True)
    assert fs.find("data") == ["data/2"]
    fs.rm_file("data/2")
    assert chunks_and_records(synchronous) == (0, 0)


def test_touch_makes_an_empty_file_or_renews_the_date(fs: GridFSFileSystem) -> None:
    fs.touch("data/x")
    assert (fs.cat("data/x"), fs.size("data/x")) == (b"", 0)
    fs.pipe("data/x", b"content")
    before = fs.modified("data/x")
    fs.touch("data/x", truncate=False)
    assert fs.cat("data/x") == b"content"
    after = fs.modified("data/x")
    assert before is not None
    assert after is not None
    assert after >= before
    fs.touch("data/x")
    assert fs.cat("data/x") == b""


def test_an_expired_file_is_gone(fs: GridFSFileSystem, synchronous: Synchronous) -> None:
    fs.pipe_file("data/a/x", b"1", expires_after=3600)
    assert fs.exists("data/a/x")
    synchronous["data.files"].update_many({}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    assert (fs.exists("data/a/x"), fs.exists("data/a"), fs.find("data"), fs.ls("data")) == (False, False, [], [])
    fs.pipe_file("data/a/x", b"2", mode="create")
    assert chunks_and_records(synchronous) == (1, 1)


def test_a_record_that_is_not_one_of_a_file_does_not_hide_the_others(
    fs: GridFSFileSystem, synchronous: Synchronous
) -> None:
    fs.pipe("data/fine", b"1")
    synchronous["data.files"].insert_one({"filename": "broken", "length": -1, "chunkSize": 1})
    assert fs.find("data") == fs.ls("data", detail=False) == ["data/fine"]
    fs.rm("data/broken")
    assert chunks_and_records(synchronous) == (1, 1)


def test_options_of_an_upload_are_checked_before_anything_is_stored(
    fs: GridFSFileSystem, synchronous: Synchronous
) -> None:
    for wrong in ({"content_typ": "a/b"}, {"filename": "y"}):
        with pytest.raises(TypeError, match="has no option"):
            fs.pipe_file("data/x", b"1", **wrong)
    with pytest.raises(BadOption):
        fs.open("data/x", "wb", chunk_size=0)
    assert synchronous.list_collection_names() == []


def test_ranges_may_be_open_or_count_from_the_end(fs: GridFSFileSystem) -> None:
    content = bytes(range(100))
    fs.pipe_file("data/x", content, chunk_size=7)
    for start, end in [(0, 10), (None, None), (-5, None), (3, -3), (90, 500), (50, 50), (60, 40), (200, 300)]:
        assert fs.cat_file("data/x", start, end) == content[start:end], (start, end)


def test_ranges_of_many_files_come_back_in_order_and_errors_in_their_place(fs: GridFSFileSystem) -> None:
    fs.pipe({"data/x": b"0123456789", "data/y": b"abcdef"})
    paths = ["data/x", "data/y", "data/missing", "data/x"]
    found = fs.cat_ranges(paths, [0, 1, 0, -3], [3, None, 5, None])
    assert found[:2] + found[3:] == [b"012", b"bcdef", b"789"]
    assert isinstance(found[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 3, on_error="raise")
    with pytest.raises(ValueError, match="2 paths need"):
        fs.cat_ranges(paths[:2], [0], [1])


def test_put_and_get_report_progress_and_leave_no_part_of_a_file(
    fs: GridFSFileSystem, tmp_path: Path, synchronous: Synchronous
) -> None:
    from fsspec.callbacks import Callback

    source = tmp_path / "source.bin"
    source.write_bytes(bytes(1_000_000))
    callback = Callback()
    fs.put_file(str(source), "data/x", callback=callback)
    assert callback.value == callback.size == 1_000_000
    callback = Callback()
    fs.get_file("data/x", str(tmp_path / "new" / "x"), callback=callback)
    assert callback.value == callback.size == 1_000_000
    with pytest.raises(FileExistsError):
        fs.put_file(str(source), "data/x", mode="create")
    synchronous["data.chunks"].delete_one({"n": 1})
    with pytest.raises(Exception, match="missing"):
        fs.get_file("data/x", str(tmp_path / "half"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "source.bin"]


def test_an_open_file_keeps_its_revision(fs: GridFSFileSystem, options: dict[str, Any]) -> None:
    keeping = GridFSFileSystem(**options, revisions="keep")
    keeping.pipe("data/x", b"first")
    with keeping.open("data/x") as file:
        keeping.pipe("data/x", b"second revision")
        assert file.read() == b"first"
        again = pickle.loads(pickle.dumps(file))
        assert (again.tell(), again.seek(1), again.read()) == (5, 1, b"irst")
    with keeping.open("data/x", cache_type="none") as file:
        fs.pipe("data/x", b"third")
        with pytest.raises(FileVanished):
            file.read()
