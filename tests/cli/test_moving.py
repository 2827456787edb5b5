"""The commands that move files: what they do, show and end with."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from gridproxy import Bucket
from gridproxy.cli import cli, moving
from tests.observing import Database

Run = Callable[..., Any]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database)


@pytest.fixture
async def archive(database: Database) -> AsyncIterator[Database]:
    archive = database.client[f"{database.name}_archive"]
    yield archive
    await archive.client.drop_database(archive.name)


@pytest.fixture
def run(mongodb_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run one command in an empty folder, in a thread because it has an event loop of its own."""
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.chdir(tmp_path)

    async def run(*arguments: str) -> Result:
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, [*arguments, "--db", database.name]))

    return run


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


async def names(bucket: Bucket) -> list[str]:
    return sorted([info.filename or "" async for info in bucket.find()])


async def stored(bucket: Bucket, *files: str) -> None:
    await bucket.upload_many({name: name.encode() for name in files})


async def test_cp_copies_the_newest_revision_or_a_folder(run: Run, bucket: Bucket, database: Database) -> None:
    other = Bucket(database, "other")
    await bucket.upload(b"old", filename="a.txt", metadata={"owner": 7})
    await bucket.upload(b"new", filename="a.txt", metadata={"owner": 7})
    await stored(bucket, "d/x", "d/e/y", "dd")
    copied = await run("cp", "a.txt", "b.txt")
    assert (copied.exit_code, copied.stdout, copied.stderr) == (0, "copied 1 file, 3 B\n", "")
    copy = await bucket.by_name("b.txt")
    assert (await copy.read(), copy.metadata["owner"]) == (b"new", 7)
    assert (await run("cp", "a.txt", "c/")).exit_code == 0
    again = await run("cp", "a.txt", "b.txt")
    assert (again.stdout, again.stderr) == ("copied 0 files, 0 B\n", "1 were there already\n")
    assert (await run("cp", "d/", "gridfs://other/z", "--json")).exit_code == 0
    assert await names(other) == ["z/e/y", "z/x"]
    assert (await run("cp", "gridfs://other/", "back")).exit_code == 0
    assert await names(bucket) == ["a.txt", "a.txt", "b.txt", "back/z/e/y", "back/z/x", "c/a.txt", "d/e/y", "d/x", "dd"]


async def test_cp_takes_any_number_of_files_and_no_expired_ones(
    run: Run, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_FILES_AT_ONCE", 2)
    await stored(bucket, "d/a", "d/b", "d/c", "d/d")
    await bucket.upload(b"x", filename="d/e", expires_after=-1)
    [report] = documents(await run("cp", "d/", "e/", "--json"))
    assert (report["transferred"], report["bytes"], report["failed"]) == (4, 12, [])
    assert await names(bucket) == ["d/a", "d/b", "d/c", "d/d", "d/e", "e/a", "e/b", "e/c", "e/d"]


async def test_mv_renames_every_revision_or_a_folder(run: Run, bucket: Bucket) -> None:
    await stored(bucket, "a")
    await stored(bucket, "a", "d/x", "dd")
    assert (await run("mv", "a", "b")).stdout == "renamed 2 files\n"
    moved = documents(await run("mv", "d/", "e", "--json"))
    assert [(each["from"], each["to"]) for each in moved] == [("d/x", "e/x")]
    assert await names(bucket) == ["b", "b", "dd", "e/x"]


async def test_mv_into_another_bucket_keeps_ids_and_removes_the_source(
    run: Run, bucket: Bucket, database: Database
) -> None:
    await stored(bucket, "d/x", "d/y", "other")
    infos = {info.id: info async for info in bucket.find({"filename": {"$ne": "other"}})}
    moved = await run("mv", "d/", "gridfs://kept/")
    assert (moved.exit_code, moved.stdout) == (0, "moved 2 files, 6 B\n")
    assert moved.stderr == "2 removed from the source\n"
    assert await names(bucket) == ["other"]
    async for info in Bucket(database, "kept").find():
        assert (info.filename, info.upload_date) == (
            (infos[info.id].filename or "").removeprefix("d/"),
            infos[info.id].upload_date,
        )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["cp", "nothing", "b"], 3),
        (["cp", "nothing/", "b"], 3),
        (["mv", "nothing", "b"], 3),
        (["cp", "a", "a"], 2),
        (["cp", "d/", "d/e/"], 2),
        (["cp", "", "d/e/"], 2),
        (["mv", "a", "a"], 2),
        (["mv", "d/", "d/e/"], 2),
        (["mv", "a", "gridfs:///b"], 2),
        (["sync", ".", "."], 2),
        (["sync", "gridfs://fs", "gridfs://other"], 2),
        (["sync", "file", "gridfs://fs"], 2),
        (["sync", "nowhere", "gridfs://fs"], 2),
        (["transfer"], 2),
        (["transfer", "--to-bucket", "fs"], 2),
        (["transfer", "--to-uri", "http://x"], 2),
        (["export", "file"], 6),
        (["import", "."], 2),
        (["import", "nothing://x"], 2),
        (["cat"], 2),
        (["du", "--where", "x"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_what_cannot_be_moved_changes_nothing(
    run: Run, bucket: Bucket, tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    await stored(bucket, "a", "d/x")
    result = await run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr
    assert await names(bucket) == ["a", "d/x"]


async def test_sync_stores_what_is_new_or_changed(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(name)
    assert (await run("sync", "photos", "gridfs://fs/p", "--dry-run")).stdout == (
        "store\tp/a\t1 B\nstore\tp/b\t1 B\nstore\tp/sub/c\t5 B\n"
    )
    assert await names(bucket) == []
    assert (await run("sync", "photos", "gridfs://fs/p")).stderr == "3 files stored, 0 are the same\n"
    plain = Bucket(bucket.database, checksum=None)
    (folder / "a").write_text("A")
    await plain.upload(b"b", filename="p/b")
    done = documents(await run("sync", "photos", "gridfs://fs/p/", "--json"))
    assert done == [{"action": "store", "name": "p/a", "bytes": 1, "dry_run": False}]
    assert await names(bucket) == ["p/a", "p/a", "p/b", "p/b", "p/sub/c"]
    assert await (await bucket.by_name("p/a")).read() == b"A"


async def test_sync_writes_what_is_new_or_changed(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/out").symlink_to(tmp_path)
    await stored(bucket, "a", "d/b", "same")
    await bucket.upload(b"newer", filename="a")
    (tmp_path / "new/same").write_bytes(b"same")
    (tmp_path / "new/a").write_bytes(b"older")
    dry = await run("sync", "gridfs://fs", "new", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "write\ta\t5 B\nwrite\td/b\t3 B\n")
    assert dry.stderr == "2 files would be written, 1 are the same\n"
    assert (tmp_path / "new/a").read_bytes() == b"older"
    await stored(bucket, "../up", "out/x")
    written = await run("sync", "gridfs://fs", "new")
    assert written.exit_code == 2
    assert written.stderr.count("is not a safe path in new: export it") == 2
    assert ((tmp_path / "new/a").read_bytes(), (tmp_path / "new/d/b").read_bytes()) == (b"newer", b"d/b")
    assert sorted(os.listdir(tmp_path)) == ["new"]


async def test_transfer_reports_what_arrived_and_what_did_not(
    run: Run, bucket: Bucket, database: Database, archive: Database, mongodb_uri: str
) -> None:
    await stored(bucket, "d/a", "d/b", "other")
    moved = await run("transfer", "d/", "--to-db", archive.name, "--to-bucket", "kept")
    assert (moved.exit_code, moved.stdout) == (0, "transferred 2 files, 6 B\n")
    kept = Bucket(archive, "kept")
    assert await names(kept) == ["d/a", "d/b"]
    changed, damaged = [await bucket.by_name(name) for name in ("d/a", "other")]
    await kept.update_metadata(changed.id, owner=7)
    await bucket.store.chunks.delete_many({"files_id": damaged.id})
    uri = f"{mongodb_uri.split('?', maxsplit=1)[0].rstrip('/')}/{archive.name}"
    there = ["--to-uri", uri, "--to-bucket", "kept", "--delete"]
    again = await run("transfer", *there)
    assert (again.exit_code, again.stderr) == (1, "1 were there already, 1 removed from the source\n")
    heading, *rows = [line.split("\t") for line in again.stdout.splitlines()[1:]]
    assert heading == ["OUTCOME", "ID", "NAME", "WHAT IS WRONG"]
    assert [row[:3] for row in rows] == [
        ["differs", str(changed.id), "d/a"],
        ["failed", str(damaged.id), "other"],
    ]
    differs = await run("transfer", "d/", *there, "--json")
    assert differs.exit_code == 5
    assert [each["id"] for each in documents(differs)[0]["different"]] == [str(changed.id)]


async def test_a_bucket_is_not_moved_into_itself(run: Run, bucket: Bucket, mongodb_uri: str) -> None:
    await stored(bucket, "a")
    there = ["--to-uri", mongodb_uri, "--to-db", bucket.database.name, "--delete"]
    refused = await run("transfer", *there)
    assert (refused.exit_code, "source and target are both" in refused.stderr) == (2, True)
    assert await names(bucket) == ["a"]


async def test_a_round_trip_by_export_and_import(
    run: Run, bucket: Bucket, database: Database, archive: Database, tmp_path: Path
) -> None:
    await bucket.upload(b"one", filename="a/1", metadata={"owner": 7})
    await bucket.upload(b"two", filename="b")
    exported = await run("export", "out", "--where", "owner=7")
    assert (exported.exit_code, exported.stdout) == (0, "exported 1 file, 3 B\n")
    assert (tmp_path / "out/a/1").read_bytes() == b"one"
    assert (await run("export", "out", "b")).exit_code == 0
    imported = await run("import", "out", "--bucket", "restored")
    assert (imported.exit_code, imported.stdout) == (0, "imported 2 files, 6 B\n")
    restored = Bucket(database, "restored")
    found, expected = [[info async for info in each.find(sort="_id")] for each in (restored, bucket)]
    assert found == expected
    (tmp_path / "out/manifest.jsonl").write_text("{}\n")
    refused = await run("import", "out")
    assert (refused.exit_code, "is not the manifest of an export" in refused.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["export", "backup"], ["transfer", "--to-bucket", "other"]])
async def test_a_bucket_that_does_not_exist_is_no_success(
    run: Run, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A backup of a bucket whose name is misspelt must not look like one."""
    monkeypatch.chdir(tmp_path)
    await bucket.upload(b"a marmot", filename="a")
    wrong = await run(*arguments, "--bucket", "misspelt")
    assert wrong.exit_code == 3
    assert f"the bucket misspelt is empty. Other buckets in the database {bucket.database.name}: fs" in wrong.stderr
    await Bucket(bucket.database, "empty").ensure_indexes()
    assert (await run(*arguments, "--bucket", "empty")).exit_code == 0


async def test_du_adds_up_the_parts_of_names(run: Run, bucket: Bucket) -> None:
    await bucket.upload_many({"a/b/1": bytes(1000), "a/2": bytes(500), "c/3": b"x", "4": b"x"}, metadata={"owner": 7})
    await bucket.store.files.insert_one({"_id": "odd", "length": "long"})
    assert (await run("du")).stdout == ("SIZE\tFILES\tNAME\n1.5 kB\t2\ta/\n1 B\t1\tc/\n1.5 kB\t5\t(all)\n")
    assert documents(await run("du", "a/", "--json")) == [
        {"name": "a/b/", "files": 1, "bytes": 1000},
        {"name": "a/", "files": 2, "bytes": 1500},
    ]
    deep = documents(await run("du", "--depth", "2", "--where", "owner=7", "--json"))
    assert [each["name"] for each in deep] == ["a/", "a/b/", "c/", "(all)"]
