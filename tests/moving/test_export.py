"""Export and import: records that stay as they are, names that others chose, and what is wrong with a folder."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, ObjectId

from gridproxy import BadManifest, BadOption, Bucket, export_files, import_files
from gridproxy.gridfs.download import sinks
from gridproxy.moving import export
from gridproxy.moving.manifest import Entry
from gridproxy.moving.names import TakenPaths, is_safe, other_paths, safe_path
from tests.observing import Database, contents, orphans

SMALL = bytes(range(256))
LARGE = bytes(range(256)) * 30  # 77 chunks

NAMES = {
    "notes.txt": "notes.txt",
    "2026/may/notes.txt": "2026/may/notes.txt",
    "/etc/passwd": "etc/passwd",
    "../../up": "_/_/up",
    "a//b/./c": "a/b/_/c",
    ".bashrc": "_bashrc",
    "--flag": "_flag",
    "c:\\x\\y": "c__x_y",
    "con.txt": "_con.txt",
    "a\nb\u202e": "a_b_",
    "end. ": "end",
    "x" * 300 + ".txt": "x" * 176 + ".txt",
    "é" * 150: "é" * 90,
    "/".join(["d" * 100] * 20): "_".join(["d" * 100] * 20)[:180],
    "...": "_",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_becomes_a_path_that_stays_in_the_folder(name: str) -> None:
    path = safe_path(name, 1)
    assert path == NAMES[name]
    for each in (path, *other_paths(path, ObjectId())):
        assert is_safe(each), each
        assert all(len(part.encode()) < 255 for part in each.split("/"))


def test_paths_that_a_system_of_files_mixes_up_are_not_taken_twice() -> None:
    taken = TakenPaths()
    taken.add("a/B.txt")
    for path in ("A/b.TXT", "a", "A/b.txt/c", "manifest.jsonl", "a/\uff22.txt"):
        assert not taken.is_free(path), path
    assert taken.is_free("a/c")
    assert safe_path(None, "id") == safe_path("/", "id") != safe_path(None, "other id")


async def infos(bucket: Bucket) -> dict[str, str]:
    return {repr(info.id): str(info) async for info in bucket.find()}


async def many_kinds(bucket: Bucket) -> None:
    await bucket.upload_many(dict.fromkeys(("a.txt", "A.TXT", "a.txt/b", "2026/c", "manifest.jsonl"), SMALL))
    for id in ("text", 7.5, {"a": 1}, Binary(uuid.UUID(int=7).bytes, 4)):
        await bucket.upload(SMALL, id=id, metadata={"at": uuid.UUID(int=7).bytes, "ratio": float("nan"), "int": 2**40})
    await bucket.upload(LARGE, filename="../large", expires_after=3600)
    await bucket.upload(b"", filename="empty")
    await bucket.upload(b"x", filename="expired", expires_after=-1)
    files = bucket.store.files
    await files.insert_one({"_id": 1, "length": 0, "filename": 7, "aliases": ["x"], "md5": "0f", "metadata": None})
    await files.update_one({"filename": "2026/c"}, {"$set": {"metadata.odd": {"date": {"x": 1}}}})


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "new/export") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/export"


@pytest.fixture
def target(database: Database) -> Bucket:
    return Bucket(database, "target")


async def test_a_round_trip_keeps_records_and_a_repetition_skips_them(
    bucket: Bucket, target: Bucket, place: str
) -> None:
    await many_kinds(bucket)
    progress: list[tuple[int, int | None]] = []
    report = await export_files(bucket, place, progress=lambda *done: progress.append(done))
    assert (report.ok, report.transferred) == (True, 12), report
    assert progress == sorted(progress)
    assert progress[-1][0] == report.bytes
    again = await export_files(bucket, place)
    assert (again.ok, again.transferred, again.skipped) == (True, 0, 12)
    progress.clear()
    back = await import_files(place, target, progress=lambda *done: progress.append(done))
    assert (back.ok, back.transferred, progress[-1]) == (True, 12, (report.bytes, report.bytes))
    expected = {key: info for key, info in (await infos(bucket)).items() if "expired" not in info}
    assert await infos(target) == expected
    assert [finding async for finding in target.check()] == []
    async for info in target.find():
        await target.verify(info.id)
    repeated = await import_files(place, target)
    assert (repeated.ok, repeated.transferred, repeated.skipped) == (True, 0, 12)


async def test_the_manifest_says_what_was_renamed(bucket: Bucket, tmp_path: Path) -> None:
    one, two, three, four = [
        await bucket.upload(name.encode(), filename=name) for name in ("a.txt", "A.TXT", "../up", "")
    ]
    (tmp_path / "export").mkdir()
    (tmp_path / "export/up").write_bytes(b"of the user")
    await export_files(bucket, tmp_path / "export")
    head, *lines = [json.loads(line) for line in (tmp_path / "export/manifest.jsonl").read_text().splitlines()]
    assert head == {"manifest": "gridproxy export", "version": 1, "bucket": "fs"}
    found = {line["record"]["_id"]["$oid"]: (line["file"], line.get("renamed")) for line in lines}
    assert found == {
        str(one.id): ("a.txt", None),
        str(two.id): (f"A~{two.id}.TXT", "its path is taken by another file"),
        str(three.id): ("_/up", "its name is not a safe path"),
        str(four.id): (str(four.id), "it has no name"),
    }
    for path, _ in found.values():
        assert (tmp_path / "export" / path).is_file()


async def test_nothing_in_the_folder_is_overwritten(bucket: Bucket, tmp_path: Path) -> None:
    infos = [await bucket.upload(SMALL, filename=name) for name in ("mine", "link/x", "d/file", "twice")]
    ids = [str(info.id) for info in infos]
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "export"
    (folder / "mine").mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (folder / "d").write_bytes(b"a file")
    (folder / "twice").write_bytes(bytes(len(SMALL)))
    (folder / f"twice~{ids[3]}").symlink_to("nowhere")
    report = await export_files(bucket, folder)
    assert [each.id for each in report.different] == [infos[3].id]
    assert report.transferred == 3
    assert {path.name for path in folder.iterdir()} == {
        *("mine", "link", "d", "twice", "manifest.jsonl", f"twice~{ids[3]}"),
        *(f"mine~{ids[0]}", f"link_x~{ids[1]}", f"d_file~{ids[2]}"),
    }
    assert list(outside.iterdir()) == []
    assert ((folder / "d").read_bytes(), (folder / "twice").read_bytes()) == (
        b"a file",
        bytes(len(SMALL)),
    )


async def test_exports_to_one_folder_share_a_manifest(bucket: Bucket, target: Bucket, place: str) -> None:
    await bucket.upload_many({name: name.encode() for name in ("a", "b", "c")})
    await export_files(bucket, place, {"filename": {"$in": ["a", "b"]}})
    plain = Bucket(bucket.database, chunk_size=100, checksum=None)
    await plain.upload(b"new", filename="a")
    await export_files(bucket, place, {"filename": "a"})
    await export_files(bucket, place, {"filename": "c"})
    await export_files(bucket, place, {"filename": "a"})
    report = await import_files(place, target)
    assert (report.ok, report.transferred) == (True, 4)
    assert await infos(target) == await infos(bucket)


async def test_damaged_files_are_not_exported(bucket: Bucket, place: str, target: Bucket) -> None:
    damaged = [await bucket.upload(data, filename=name) for data, name in ((SMALL, "a"), (LARGE, "b"), (SMALL, "c"))]
    whole = await bucket.upload(SMALL, filename="d")
    await bucket.store.chunks.delete_many({"files_id": {"$in": [damaged[0].id, damaged[1].id]}, "n": 2})
    await bucket.store.chunks.update_one({"files_id": damaged[2].id, "n": 0}, {"$set": {"data": bytes(100)}})
    await bucket.store.files.insert_one({"_id": "odd", "length": "long"})
    report = await export_files(bucket, place)
    assert {each.id for each in report.failed} == {*(info.id for info in damaged), "odd"}
    assert (await import_files(place, target)).transferred == 1
    assert list(await infos(target)) == [repr(whole.id)]


async def test_content_that_was_changed_in_the_folder_is_not_imported(
    bucket: Bucket, target: Bucket, tmp_path: Path
) -> None:
    plain = Bucket(bucket.database, chunk_size=100, checksum=None)
    for data, name in ((SMALL, "a"), (LARGE, "b")):
        await plain.upload(data, filename=name)
    await bucket.upload(SMALL, filename="c")
    await export_files(bucket, tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes((tmp_path / name).stat().st_size))
    report = await import_files(tmp_path, target)
    assert ({each.filename for each in report.failed}, report.transferred) == ({"a", "b"}, 1)
    assert "instead of" in report.failed[0].reason
    assert await orphans(target.database, "target") == []


async def test_content_that_changes_during_an_import_is_not_stored(
    bucket: Bucket, target: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data, name in ((SMALL, "small"), (LARGE, "large")):
        await bucket.upload(data, filename=name)
    await export_files(bucket, tmp_path)

    async def unchecked(place: object) -> int:
        return 0

    monkeypatch.setattr(export, "_check_files", unchecked)
    for name in ("small", "large"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"more")
    report = await import_files(tmp_path, target)
    assert [each.reason.partition(": ")[2] for each in report.failed] == [
        "it has 260 bytes instead of 256",
        "it has 7684 bytes instead of 7680",
    ]
    for name in ("small", "large"):
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError):
            await import_files(tmp_path, target)
    assert await contents(target.database, "target") == (0, 0)


# Bad input


def _line(**changes: Any) -> str:
    line = {"file": "a", "sha256": "0" * 64, "record": {"_id": 1, "length": 1, "chunkSize": 1}, **changes}
    return json.dumps({key: value for key, value in line.items() if value is not None})


HEAD = '{"manifest": "gridproxy export", "version": 1}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (None, "does not exist, so this is not the folder of an export"),
        ([""], "is not the manifest of an export"),
        (["[1]"], "is not the manifest of an export"),
        (['{"manifest": "other", "version": 1}'], "another kind or version"),
        (['{"manifest": "gridproxy export", "version": 2}'], "another kind or version"),
        ([HEAD, "{"], "line 2: "),
        ([HEAD, "", _line(file=None)], "line 3: it does not name a file"),
        ([HEAD, _line(sha256="x")], "its sha256 is 'x'"),
        ([HEAD, _line(file="../a")], "could lead out of the folder"),
        ([HEAD, _line(file="/etc/passwd")], "could lead out of the folder"),
        ([HEAD, _line(record={"length": 1})], "its record has no _id"),
        ([HEAD, _line(record=None)], "its record has no _id"),
        ([HEAD, _line(record={"_id": [1]})], "cannot be a file's id"),
        ([HEAD, _line(record={"_id": 1, "length": -1})], "its record has length=-1"),
        ([HEAD, _line(bson="AAAA")], "line 2: "),
        ([HEAD, _line(file="gone")], "gone is missing"),
        ([HEAD, _line(file="b")], "b has 2 bytes, and the record says 1 bytes"),
        ([HEAD, _line(file="folder")], "folder is missing"),
    ],
    ids=range(18),
)
async def test_a_wrong_manifest_is_refused_before_anything_is_stored(
    bucket: Bucket, database: Database, tmp_path: Path, lines: list[str] | None, words: str
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"bb")
    (tmp_path / "folder").mkdir()
    if lines is not None:
        (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadManifest, match=words):
        await import_files(tmp_path, bucket)
    assert await contents(database) == (0, 0)
    if lines is not None and lines[0] != HEAD:
        await bucket.upload(b"x")
        with pytest.raises(BadManifest):
            await export_files(bucket, tmp_path)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda bucket, path: export_files(bucket, path / "file"), NotADirectoryError, "this is a file"),
        (lambda bucket, path: export_files(bucket, f"file://{path}/file"), NotADirectoryError, "this is a file"),
        (lambda bucket, path: export_files(bucket, ""), BadOption, "a folder is a path or a URL"),
        (lambda bucket, path: import_files("", bucket), BadOption, "a folder is a path or a URL"),
        (lambda bucket, path: import_files("nothing://x", bucket), BadOption, "cannot be opened"),
        (lambda bucket, path: export_files(bucket, path, storage_options={"a": 1}), BadOption, "are for URLs"),
        (lambda bucket, path: export_files(path, bucket), BadOption, "bucket is a Bucket"),
    ],
    ids=range(7),
)
async def test_bad_arguments_are_refused(
    bucket: Bucket, tmp_path: Path, call: Callable[..., Any], error: type[Exception], words: str
) -> None:
    (tmp_path / "file").write_bytes(b"a file")
    with pytest.raises(error, match=words):
        await call(bucket, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("size", [250, 7000], ids=["small", "large"])
async def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    bucket: Bucket, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.upload(bytes(10), filename="fits")
    await bucket.upload(bytes(size), filename="full")
    write = sinks._PartFile.write

    def full(self: sinks._PartFile, block: bytes) -> None:
        write(self, block[:20])
        if len(block) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(sinks._PartFile, "write", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            await export_files(bucket, tmp_path)
    assert caught.value.filename == str(tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] in (["fits"], [])
    assert (await export_files(bucket, tmp_path)).ok


async def test_a_url_that_fails_leaves_nothing_half_written(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileOpener

    await bucket.upload(SMALL, filename="full")
    write = LocalFileOpener.write

    def full(self: Any, block: bytes) -> None:
        write(self, block[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    url = f"file://{tmp_path}/export"
    with monkeypatch.context() as patched:
        patched.setattr(LocalFileOpener, "write", full)
        with pytest.raises(OSError, match="No space left on device"):
            await export_files(bucket, url)
    assert list((tmp_path / "export").iterdir()) == []
    assert (await export_files(bucket, url)).ok
    (tmp_path / "export/full").unlink()
    (tmp_path / "export/full").mkdir()
    (tmp_path / "export/x").write_bytes(b"")
    await bucket.upload(SMALL, filename="x/y")
    report = await export_files(bucket, url)
    assert (report.ok, report.transferred) == (True, 2)


def test_keys_that_json_cannot_represent_are_kept() -> None:
    record = {"_id": 1, "length": 0, "metadata": {"$date": {"$numberLong": "5"}}}
    assert Entry.from_line(Entry("a", "0" * 64, record).line()).record == record


async def test_memory_stays_small(bucket: Bucket, target: Bucket, tmp_path: Path) -> None:
    mine = Bucket(bucket.database)
    await mine.upload([os.urandom(6_000_000)] * 9)
    await mine.upload_many([os.urandom(400_000) for _ in range(10)])
    tracemalloc.start()
    try:
        assert (await export_files(mine, tmp_path)).ok
        assert (await import_files(tmp_path, target)).ok
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000, peak
