"""The command line: what each command does, shows and ends with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from bson import ObjectId
from click.testing import CliRunner, Result
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import Bucket
from gridproxy.cli import cli
from tests.observing import contents

Database = AsyncDatabase[dict[str, Any]]
Run = Callable[..., Any]

HEX = re.compile(r"[0-9a-f]{24}")


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database)


@pytest.fixture
def run(mongodb_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run one command in an empty folder, in a thread because it has an event loop of its own."""
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.chdir(tmp_path)

    async def run(*arguments: str, stdin: bytes | None = None, db: str | None = database.name) -> Result:
        named = [] if db is None else ["--db", db]
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, [*arguments, *named], input=stdin))

    return run


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# In and out


async def test_put_and_get_a_file(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"some notes")
    put = await run("put", "notes.txt", "--meta", "owner=7", "--meta", "tags=a=b", "--expires-after", "1h")
    assert (put.exit_code, put.stderr) == (0, "")
    [id] = HEX.findall(put.stdout)
    assert put.stdout == f"{id}\t10 B\tnotes.txt\n"
    info = await bucket.verify(ObjectId(id))
    assert (info.filename, info.content_type) == ("notes.txt", "text/plain")
    assert (info.metadata["owner"], info.metadata["tags"]) == ("7", "a=b")
    assert info.expires_at is not None
    got = await run("get", id, "copy.txt")
    assert (got.exit_code, got.stdout) == (0, "copy.txt\t10 B\n")
    assert (tmp_path / "copy.txt").read_bytes() == b"some notes"
    # An explicit destination is written over, as `cp` does.
    (tmp_path / "copy.txt").write_bytes(b"other")
    assert (await run("get", id, "copy.txt", "--json")).exit_code == 0
    assert (tmp_path / "copy.txt").read_bytes() == b"some notes"


async def test_stdin_and_stdout(run: Run, bucket: Bucket) -> None:
    data = bytes(range(256)) * 5000
    put = await run("put", "-", "--name", "piped.bin", "--content-type", "x/y", "--json", stdin=data)
    [document] = documents(put)
    assert (document["filename"], document["length"], document["content_type"]) == ("piped.bin", len(data), "x/y")
    got = await run("get", document["id"], "-")
    assert got.exit_code == 0
    assert got.stdout_bytes == data
    assert (await run("get", "--name", "piped.bin", "-")).stdout_bytes == data


async def test_several_sources_and_a_file_of_every_kind_of_id(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert [each["filename"] for each in documents(await run("put", "a", "b", "--json"))] == ["a", "b"]
    for given, id in (("text", "text"), ('{"$numberInt": "7"}', 7), ("5f" * 12, ObjectId("5f" * 12))):
        assert (await run("put", "a", "--id", given, "--chunk-size", "100")).exit_code == 0
        assert await bucket.read(id) == b"a"
        assert (await run("get", given, "-")).stdout == "a"
    assert (await run("put", "a", "b", "--id", "text")).exit_code == 2


async def test_a_revision_of_a_name(run: Run, bucket: Bucket) -> None:
    for content in (b"old", b"new"):
        await bucket.upload(content, filename="name")
    assert (await run("get", "--name", "name", "-")).stdout == "new"
    assert (await run("get", "--name", "name", "--revision", "0", "-")).stdout == "old"
    missing = await run("get", "--name", "name", "--revision", "5", "-")
    assert (missing.exit_code, missing.stdout) == (3, "")


@pytest.mark.parametrize(
    ("filename", "saved"),
    [("plain.txt", "plain.txt"), ("/etc/deep/name.txt", "name.txt"), ("c:\\x\\name.txt", "name.txt"), ("../..", None)],
)
async def test_without_a_destination_the_name_leads_nowhere_else(
    run: Run, bucket: Bucket, tmp_path: Path, filename: str, saved: str | None
) -> None:
    info = await bucket.upload(b"content", filename=filename)
    got = await run("get", str(info.id))
    assert [path.name for path in tmp_path.iterdir()] == ([saved] if saved else [])
    assert got.exit_code == (0 if saved else 2)
    # And it is never written over: the name was not chosen by who sits here.
    again = await run("get", str(info.id))
    assert again.exit_code == 2
    assert "give a DESTINATION" in again.stderr


async def test_a_file_without_a_name_is_saved_under_its_id(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"content")
    assert (await run("get", str(info.id))).exit_code == 0
    assert (tmp_path / str(info.id)).read_bytes() == b"content"


# Looking


async def test_files_are_listed(run: Run, bucket: Bucket) -> None:
    empty = await run("ls")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "0 files, 0 B\n")
    sizes = {"b.txt": 1500, "a.png": 2, "c": 0}
    infos = [await bucket.upload(bytes(size), filename=name) for name, size in sizes.items()]
    await bucket.upload(b"x", filename="d", expires_after=-1)
    await bucket.upload(b"x")
    listed = await run("ls")
    heading, *rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert heading == ["ID", "SIZE", "UPLOADED", "TYPE", "NAME"]
    assert sorted(row[4] for row in rows) == ["", "a.png", "b.txt", "c", "d (expired)"]
    by_name = {row[4]: row for row in rows}
    assert infos[0].upload_date is not None
    moment = f"{infos[0].upload_date:%Y-%m-%d %H:%M}"
    assert by_name["b.txt"] == [str(infos[0].id), "1.5 kB", moment, "text/plain", "b.txt"]
    assert listed.stderr == "5 files, 1.5 kB\n"
    assert [each["filename"] for each in documents(await run("ls", "a.", "--json"))] == ["a.png"]
    await bucket.upload(b"x", filename="e", metadata={"owner": 7})
    await bucket.upload(b"x", filename="f", metadata={"owner": "7"})
    for where in (["owner=7"], ["metadata.owner=7", "length=1"], ["owner=7", "content_type=text/plain"]):
        found = documents(await run("ls", "--json", *(part for each in where for part in ("--where", each))))
        assert [each["filename"] for each in found] == (["e", "f"] if len(where) < 2 or "length=1" in where else [])
    assert [each["id"] for each in documents(await run("ls", "--json", "--where", f"_id={infos[0].id}"))] == [
        str(infos[0].id)
    ]
    named = documents(await run("ls", "--sort", "-length", "--limit", "2", "--json"))
    assert [each["filename"] for each in named] == ["b.txt", "a.png"]


async def test_an_empty_bucket_names_the_others(run: Run, bucket: Bucket, database: Database) -> None:
    for name in ("images", "uploads"):
        await Bucket(database, name).upload(b"x")
    listed = await run("ls")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert listed.stderr.splitlines()[1] == (
        f"the bucket fs is empty. Other buckets in the database {database.name}: images, uploads. Use --bucket NAME"
    )
    assert (await run("ls", "--json")).stderr == ""


async def test_the_contents_of_files_are_written_to_stdout(run: Run, bucket: Bucket) -> None:
    one, two = [await bucket.upload(data, filename=name) for data, name in ((b"one\n", "a"), (b"two\n", "b"))]
    assert (await run("cat", str(two.id), str(one.id))).stdout == "two\none\n"
    assert (await run("cat", "--name", "a", "--name", "b")).stdout == "one\ntwo\n"
    missing = await run("cat", str(one.id), "nothing")
    assert (missing.exit_code, missing.stdout) == (3, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["put", "-", "--chunk-size", "0"], "--chunk-size is 1 to"),
        (["put", "-", "--name", "a\0b"], "--name 'a\\x00b' contains a NUL"),
        (["put", "-", "--meta", "a.b=c"], "--meta key 'a.b'"),
        (["gc", "--older-than", "5m"], "--older-than "),
    ],
)
async def test_usage_errors_speak_of_options(run: Run, arguments: list[str], words: str) -> None:
    refused = await run(*arguments, stdin=b"x")
    assert refused.exit_code == 2
    assert words in refused.stderr


async def test_a_damaged_record_is_listed_among_the_others(run: Run, bucket: Bucket, database: Database) -> None:
    infos = [await bucket.upload(b"x", filename=name) for name in ("a", "c")]
    await database["fs.files"].insert_one({"_id": "bad", "filename": "b", "length": "long"})
    listed = await run("ls")
    _, *rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(infos[0].id), "bad", str(infos[1].id)]
    assert rows[1] == ["bad", "", "", "", "(damaged: its record has length='long')"]
    assert listed.exit_code == 0
    assert listed.stderr == "3 files, 2 B, 1 of them damaged: see `gridproxy check`\n"
    shown = documents(await run("ls", "--json"))
    assert [each.get("filename") for each in shown] == ["a", None, "c"]
    assert shown[1] == {"id": "bad", "damaged": "its record has length='long'"}


async def test_names_that_others_chose_reach_no_terminal_as_they_are(run: Run, bucket: Bucket) -> None:
    await bucket.upload(b"x", filename="\x1b[2J[red]\tname\n", id="id")
    listed = await run("ls")
    assert listed.stdout.splitlines()[1].split("\t")[4] == "\\x1b[2J[red]\\tname\\n"


async def test_a_record_is_shown(run: Run, bucket: Bucket) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    metadata = {"owner": 7, "at": at, "ratio": float("inf"), "raw": b"x", "l": [ObjectId()]}
    info = await bucket.upload(b"content", filename="name.txt", metadata=metadata, id=7)
    shown = await run("stat", '{"$numberInt": "7"}')
    fields = dict(line.split("\t") for line in shown.stdout.splitlines())
    assert (fields["id"], fields["length"], fields["sha256"]) == ("7", "7", info.sha256)
    assert fields["metadata.owner"] == "7"
    assert "expires_at" not in fields
    [document] = documents(await run("stat", "--name", "name.txt", "--json"))
    assert document["metadata"]["ratio"] == "inf"
    assert document["metadata"]["raw"] == {"$binary": {"base64": "eA==", "subType": "00"}}
    assert document["metadata"]["at"].startswith("2024-01-01T00:00:00")
    assert document["upload_date"].endswith("+00:00")


async def test_files_are_removed(run: Run, bucket: Bucket, database: Database) -> None:
    ids = [(await bucket.upload(b"x", filename="name")).id for _ in range(4)]
    removed = await run("rm", str(ids[0]), "nothing", str(ids[1]))
    assert (removed.exit_code, removed.stdout) == (3, "removed 2 files\n")
    assert removed.stderr == "no file is stored under the id 'nothing'. For a filename, use --name\n"
    assert documents(await run("rm", "nothing", "--json")) == [{"removed": 0, "missing": ["nothing"]}]
    assert (await run("rm", "--name", "name")).stdout == "removed 2 files\n"
    assert (await run("rm", "--name", "name")).exit_code == 3
    assert await contents(database) == (0, 0)


async def leave_chunks(database: Database, id: object, *, age: timedelta) -> None:
    """Three chunks without a record, the youngest of which has this age."""
    moments = [datetime.now(UTC) - age - timedelta(seconds=second) for second in range(3)]
    await database["fs.chunks"].insert_many(
        [
            {"_id": ObjectId.from_datetime(moment), "files_id": id, "n": n, "data": bytes(1000)}
            for n, moment in enumerate(moments)
        ]
    )


async def test_an_upload_in_progress_is_not_removed_unless_forced(run: Run, bucket: Bucket, database: Database) -> None:
    running = await bucket.stage(bytes(50_000), id="running", chunk_size=1000)
    stored = await bucket.upload(b"x", id="stored")
    refused = await run("rm", "running", "stored", "nothing")
    assert (refused.exit_code, refused.stdout) == (5, "removed 1 file\n")
    missing, left = refused.stderr.splitlines()
    assert missing == "no file is stored under the id 'nothing'. For a filename, use --name"
    assert left.startswith("no file is stored under the id running, but 50 chunks without a file, the last of ")
    assert " UTC (50.0 kB). They were kept because an upload may be running" in left
    assert "`gridproxy rm --force ID`" in left
    assert "`gridproxy gc --delete`" in left
    told = await run("rm", "running", "--json")
    assert (told.exit_code, told.stderr) == (5, "")
    some = {"id": "running", "chunks": 50, "bytes": 50_000}
    assert documents(told) == [{"removed": 0, "missing": [], "refused": [some]}]
    await bucket.publish(running)
    assert (await bucket.verify("running")).length == 50_000
    assert not await bucket.file(stored.id).exists()


async def test_force_removes_and_describes_a_possible_upload(run: Run, bucket: Bucket, database: Database) -> None:
    staged = [await bucket.stage(bytes(2500), chunk_size=1000) for _ in range(2)]
    forced = await run("rm", "--force", str(staged[0].id))
    assert (forced.exit_code, forced.stderr) == (0, "")
    assert re.fullmatch(
        rf"removed 3 chunks without a file, the last of [-0-9: ]+ UTC \(2\.5 kB\), under the id {staged[0].id}\n",
        forced.stdout,
    )
    id = str(staged[1].id)
    [told] = documents(await run("rm", "--force", id, "--json"))
    assert told == {"removed": 0, "missing": [], "orphans": [{"id": id, "chunks": 3, "bytes": 2500}]}
    assert await contents(database) == (0, 0)


async def test_rm_removes_and_reports_old_chunks_of_an_upload(run: Run, bucket: Bucket, database: Database) -> None:
    await leave_chunks(database, "old", age=timedelta(hours=1, minutes=1))
    await leave_chunks(database, "young", age=timedelta(minutes=59))
    await database["fs.chunks"].insert_one({"_id": "theirs", "files_id": "untimed", "n": 0, "data": b"x"})
    stored = await bucket.upload(b"x")
    removed = await run("rm", "old", str(stored.id), "young", "untimed")
    assert removed.exit_code == 5
    files, chunks = removed.stdout.splitlines()
    assert files == "removed 1 file"
    assert chunks.startswith("removed 3 chunks without a file, the last of ")
    assert chunks.endswith(" UTC (3.0 kB), under the id old")
    young, untimed = removed.stderr.splitlines()
    assert ("under the id young," in young, "gc --delete" in young) == (True, True)
    # The garbage collector never deletes these.
    assert ("of unknown age" in untimed, "gc --delete" in untimed) == (True, False)
    assert sorted(await database["fs.chunks"].distinct("files_id")) == ["untimed", "young"]
    assert (await run("rm", "--force", "young", "untimed")).exit_code == 0
    assert await contents(database) == (0, 0)


# Upkeep


async def test_check_marks_chunks_of_a_possible_running_upload(run: Run, database: Database) -> None:
    await leave_chunks(database, "old", age=timedelta(hours=1, minutes=1))
    await leave_chunks(database, "young", age=timedelta(minutes=59))
    told = {line.split("\t")[1]: line for line in (await run("check")).stdout.splitlines()}
    assert told["young"].endswith(" UTC (it may be an upload in progress)")
    assert told["old"].endswith(" UTC")


async def test_verifying(run: Run, bucket: Bucket, database: Database) -> None:
    good, bad, short = [await bucket.upload(content, filename="name") for content in (b"good", b"bad", b"short")]
    assert (await run("verify", str(good.id))).exit_code == 0
    await database["fs.chunks"].update_one({"files_id": bad.id}, {"$set": {"data": b"BAD"}})
    await database["fs.chunks"].delete_one({"files_id": short.id})
    every = await run("verify", "--all")
    assert every.exit_code == 1
    assert every.stderr == "1 whole, 2 corrupt, 0 missing\n"
    assert [line.split("\t")[0] for line in every.stdout.splitlines()] == [str(bad.id), str(short.id)]
    lines = documents(await run("verify", str(good.id), "nothing", "--json"))
    assert lines[0] == {"id": str(good.id), "ok": True}
    assert (lines[1]["ok"], "no file is stored" in lines[1]["reason"]) == (False, True)
    assert (await run("verify", "nothing")).exit_code == 3
    assert (await run("verify", "--name", "name")).exit_code == 1
    assert (await run("verify", "--name", "name", "--all")).exit_code == 2
    await bucket.upload(b"x", expires_after=-1)  # missing to everybody: no finding of a whole bucket's
    assert (await run("verify", "--all")).stderr == "1 whole, 2 corrupt, 0 missing\n"


async def test_checking(run: Run, bucket: Bucket, database: Database) -> None:
    fine = await run("check")
    assert (fine.exit_code, fine.stdout, fine.stderr) == (0, "", "nothing is wrong\n")
    staged = await bucket.stage(b"orphan")
    info = await bucket.upload(b"x")
    found = await run("check", "--reference", "animals.photo")
    assert found.exit_code == 1
    assert [line.split("\t")[:3] for line in found.stdout.splitlines()] == [
        ["KIND", "ID", "SIZE"],
        ["orphan", str(staged.id), "6 B"],
        ["unreferenced", str(info.id), "1 B"],
    ]
    assert found.stderr == "1 orphan, 1 unreferenced\n"
    assert (await run("check", "--older-than", "1h")).exit_code == 0
    await database["zoo.animals"].insert_one({"_id": 5, "rooms": [{"photo": info.id}, {"photo": "gone"}]})
    lines = documents(await run("check", "--json", "--reference", "zoo.animals:rooms.photo"))
    assert [(line["kind"], line["id"]) for line in lines] == [("orphan", str(staged.id)), ("dangling", "gone")]
    assert (lines[1]["document"], lines[1]["collection"], lines[1]["path"]) == (5, "zoo.animals", "rooms.photo")
    assert lines[0]["since"].endswith("+00:00")


async def test_files_that_expired_are_no_fault(run: Run, bucket: Bucket) -> None:
    await bucket.upload(b"x", expires_after=-1)
    checked = await run("check")
    assert (checked.exit_code, checked.stderr) == (0, "1 expired\n")
    await bucket.stage(b"orphan")
    assert (await run("check")).exit_code == 1


async def leave_leave_chunks(database: Database, id: object) -> None:
    moment = ObjectId.from_datetime(datetime.now(UTC) - timedelta(days=2))
    old = ObjectId(moment.binary[:4] + ObjectId().binary[4:])
    await database["fs.chunks"].insert_one({"_id": old, "files_id": id, "n": 0, "data": bytes(2000)})


async def test_gc_deletes_only_with_the_delete_option(run: Run, bucket: Bucket, database: Database) -> None:
    nothing = await run("gc")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing to remove\n")
    await leave_leave_chunks(database, "gone")
    await bucket.stage(b"running")
    await bucket.upload(b"expired", expires_after=-1)
    await database["fs.chunks"].insert_one({"_id": 5, "files_id": "theirs", "n": 0, "data": b"x"})
    for dry in ([], ["--dry-run"]):
        told = await run("gc", *dry)
        assert told.stdout.splitlines() == [
            "WHAT\tIDS\tCHUNKS\tSIZE\tOUTCOME",
            "chunks without a file\t1\t1\t2.0 kB\twould be removed",
            "expired files\t1\t1\t7 B\twould be removed",
            "chunks that may be a running upload\t1\t1\t7 B\tleft",
            "chunks of unknown age\t1\t1\t1 B\tleft",
        ]
        assert told.stderr == "nothing was removed: use --delete to remove it\n"
        assert await contents(database) == (1, 4)
    await leave_leave_chunks(database, "gone too")
    told = await run("gc", "--delete")
    assert told.stdout.splitlines()[1] == "chunks without a file\t2\t2\t4.0 kB\tremoved"
    assert told.stderr == ""
    await leave_leave_chunks(database, "gone")
    await bucket.upload(b"expired", expires_after=-1)
    [report] = documents(await run("gc", "--delete", "--json"))
    assert (report["dry_run"], report["orphans"]["bytes"], report["files"]) == (False, 2000, 1)
    assert await contents(database) == (0, 2)
    assert (await run("gc", "--no-dry-run", "--older-than", "90m")).stdout.count("left") == 2


async def test_unreferenced_files_need_references(run: Run, bucket: Bucket, database: Database) -> None:
    await bucket.upload(b"x")
    await database["animals"].insert_one({"photo": None})
    alone = await run("gc", "--unreferenced")
    assert alone.exit_code == 2
    assert "--unreferenced needs --reference animals.photo" in alone.stderr
    assert (await run("gc", "--unreferenced", "--reference", "animals.photo")).exit_code == 0
    mistyped = await run("gc", "--delete", "--unreferenced", "--reference", "animal.photo")
    assert mistyped.exit_code == 2
    assert "Nothing was deleted" in mistyped.stderr


async def test_a_file_that_appeared_during_the_removal_is_named(
    run: Run, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridproxy.upkeep.bucket_scanner import BucketScanner

    await leave_leave_chunks(database, "late")

    async def is_stored(self: BucketScanner, id: object) -> bool:
        return True

    monkeypatch.setattr(BucketScanner, "is_stored", is_stored)
    told = await run("gc", "--delete")
    assert told.exit_code == 0
    assert "a file appeared under the id 'late'" in told.stderr


# On a terminal


async def test_a_terminal_sees_tables_and_no_escapes_of_others(
    run: Run, bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes a terminal of everything, for rich
    monkeypatch.setenv("COLUMNS", "110")
    assert (await run("ls")).stdout == ""
    await database["fs.files"].insert_one(
        {"_id": "evil", "length": 0, "chunkSize": 1, "filename": "\x1b]0;evil\x07[red]"}
    )
    (tmp_path / "large.bin").write_bytes(bytes(9_400_000))
    put = await run("put", "large.bin", "--id", "large")
    assert put.stdout.strip() == "large  9.4 MB  large.bin"
    assert "━" in put.stderr
    listed = (await run("ls")).stdout
    titles = re.sub(r"\x1b\[[0-9;]*m", "", listed).splitlines()[0]
    assert titles.split() == ["ID", "SIZE", "UPLOADED", "TYPE", "NAME"]
    assert "\\x1b]0;evil\\x07[red]" in listed
    assert "\x1b]" not in listed
    shown = re.sub(r"\x1b\[[0-9;]*m", "", (await run("stat", "large")).stdout)
    assert re.search(r"^length +9400000 *$", shown, re.MULTILINE)
    # A bar and the bytes of a file would mix on one terminal.
    got = await run("get", "evil", "-")
    assert (got.stdout, got.stderr) == ("", "")
    await database["fs.chunks"].delete_one({"files_id": "large", "n": 3})
    for command in (["check"], ["verify", "--all"]):
        result = await run(*command)
        assert result.exit_code == 1
        assert "chunk 3 of 36 is missing" in result.stdout


# Errors


async def test_a_missing_file(run: Run) -> None:
    for arguments in (["get", "nothing", "-"], ["stat", "nothing"], ["stat", "--name", "nothing"]):
        result = await run(*arguments)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("gridproxy: no file ")
    result = await run("stat", "nothing", "--json")
    answer = json.loads(result.stderr)
    assert (answer["error"], answer["message"].partition(" in ")[0]) == (
        "FileMissing",
        "no file is stored under the id 'nothing'",
    )


async def test_a_taken_id(run: Run, bucket: Bucket) -> None:
    await bucket.upload(b"first", id="name")
    await bucket.stage(b"second", id="other")
    for id in ("name", "other"):
        result = await run("put", "-", "--id", id, stdin=b"x")
        assert (result.exit_code, result.stdout) == (5, "")
    assert await bucket.read("name") == b"first"


async def test_a_corrupt_file_leaves_no_half_of_it(
    run: Run, bucket: Bucket, database: Database, tmp_path: Path
) -> None:
    info = await bucket.upload(bytes(1000), chunk_size=100)
    await database["fs.chunks"].delete_one({"files_id": info.id, "n": 7})
    result = await run("get", str(info.id), "half")
    assert result.exit_code == 1
    assert "chunk 7 of 10 is missing" in result.stderr
    assert not list(tmp_path.iterdir())


async def test_local_files_that_cannot_be(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"x")
    assert (await run("put", "nothing.txt")).exit_code == 2
    result = await run("get", str(info.id), "no/such/folder")
    assert result.exit_code == 6
    assert "no/such" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["stat"],
        ["stat", "a", "--name", "b"],
        ["get"],
        ["get", "a", "b", "c"],
        ["rm"],
        ["rm", "a", "--name", "b"],
        ["put"],
        ["put", "-", "--meta", "none"],
        ["put", "-", "--expires-after", "soon"],
        ["put", "-", "--expires-after", "99999999999999w"],
        ["put", "-", "--chunk-size", "0"],
        ["put", "-", "--id", "{"],
        ["put", "-", "--id", '{"$oid": "x"}'],
        ["check", "--reference", "animals"],
        ["check", "--reference", ".photo"],
        ["gc", "--older-than", "5m"],
        ["ls", "--bucket", "a$b"],
        ["ls", "--timeout", "0"],
        ["nothing"],
    ],
)
async def test_invalid_arguments_exit_with_code_2(run: Run, arguments: list[str], database: Database) -> None:
    result = await run(*arguments, stdin=b"x")
    assert result.exit_code == 2
    assert result.stderr
    assert not result.stdout
    assert await contents(database) == (0, 0)


# The server


async def test_the_server_the_database_and_the_bucket_can_be_named_before_or_behind_the_command(
    run: Run, bucket: Bucket, mongodb_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Bucket(database, "photos").upload(b"x", filename="name")
    monkeypatch.delenv("MONGODB_URI")
    at = mongodb_uri.replace("/?", f"/{database.name}?")
    for arguments in (
        ["--uri", mongodb_uri, "--db", database.name, "--bucket", "photos", "ls", "--json"],
        ["ls", "--uri", at, "--bucket", "photos", "--json"],
        ["--json", "--uri", "mongodb://nowhere/", "--timeout", "9", "ls", "--uri", at, "--bucket", "photos"],
    ):
        result = await run(*arguments, db=None)
        assert [each["filename"] for each in documents(result)] == ["name"]
    for arguments, words in (
        (["ls"], "--uri"),
        (["ls", "--uri", mongodb_uri], "--db"),
        # Joined by hand, to an address that has options already.
        (["ls", "--uri", "mongodb://nowhere/?heartbeatFrequencyMS=500/zoo"], "/database?option=value"),
    ):
        result = await run(*arguments, db=None)
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:s3cret@host:port/",
        "mongodb://user:s3/cret@host/",
        "mongodb://user:s3@cret@host/",
        "http://user:s3cret@host/",
        "user:s3cret@host",
    ],
)
async def test_an_address_that_cannot_be_read_is_not_shown(run: Run, uri: str) -> None:
    for flags in ([], ["--json"]):
        result = await run("ls", "--uri", uri, *flags)
        assert result.exit_code == 2
        assert "the server's address cannot be read" in result.stderr
        assert "cret" not in result.output


async def test_a_password_that_is_quoted_by_an_error_is_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, mongodb_uri: str
) -> None:
    async def quoting(self: Bucket, *args: object, **options: object) -> None:
        raise ConnectionError("cannot log in with s3@cret (s3%40cret)")

    monkeypatch.setattr(Bucket, "collect_garbage", quoting)
    uri = mongodb_uri.replace("//", "//user:s3%40cret@", 1)
    # The embedded server asks for no password, so one that it does not know would be refused first.
    monkeypatch.setattr("gridproxy.cli.running.AsyncMongoClient", lambda uri, **options: _client(mongodb_uri, options))
    result = await run("gc", "--uri", uri)
    assert result.exit_code == 6
    assert result.stderr == "gridproxy: cannot log in with *** (***)\n"


def _client(uri: str, options: dict[str, Any]) -> Any:
    from pymongo import AsyncMongoClient

    return AsyncMongoClient[dict[str, Any]](uri, **options)


async def test_the_reason_of_a_refusing_server_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, mongodb_uri: str
) -> None:
    result = await run("ls", "--sort", "a..b", "--uri", mongodb_uri.replace("//", "//user:s3cret@", 1))
    assert result.exit_code == 4
    assert result.stderr.startswith("gridproxy: the server refuses the command: ")
    assert "s3cret" not in result.stderr
    assert "full error" not in result.stderr


async def test_an_unknown_option_in_the_uri_is_reported(run: Run, mongodb_uri: str) -> None:
    result = await run("ls", "--uri", f"{mongodb_uri}&pasword=s3cret")
    assert result.exit_code == 0
    assert "warning: Unknown option" in result.stderr
    assert "s3cret" not in result.stderr


async def test_help_lists_the_exit_codes(run: Run) -> None:
    for arguments in ([], ["gc"]):
        result = await run(*arguments, "--help", db=None)
        assert result.exit_code == 0
        assert re.search(r"^ +3 +the file does not exist$", result.stdout, re.MULTILINE)
    assert (await run("--version", db=None)).stdout.startswith("gridproxy, version ")
