"""Names that others chose, where they meet a file system or a terminal."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from pymongo.asynchronous.database import AsyncDatabase
from rich.console import Console

from gridproxy import Bucket
from gridproxy.cli import cli
from gridproxy.cli.screen import Screen

Database = AsyncDatabase[dict[str, Any]]
Run = Callable[..., Any]

# Controls of seven and eight bits, and what turns the direction of writing.
ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\x85\u202egnpexe\u2066\x7f\r\n\tend"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def run(mongodb_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run one command in an empty folder inside the test's own."""
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    async def run(*arguments: str) -> Any:
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, [*arguments, "--db", database.name]))

    return run


def everything_in(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "lands"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("..\\..\\x.txt", "x.txt"),
        ("a/b/../c.txt", "c.txt"),
        # a later `tar *` or `rm *` would take a dash for an option
        ("-rf", "_rf"),
        ("--checkpoint-action=exec=sh x.sh", "_checkpoint-action=exec=sh x.sh"),
        ("-", "_"),
        ("..", None),
        ("a/..", None),
        ("../.bashrc", None),
        (".profile", None),
        ("\x1b]0;title\x07.txt", None),
        ("a\nb", None),
        ("\u202egpj.exe", None),
        ("x" * 300, None),
    ],
)
async def test_without_a_destination_a_name_leads_nowhere_else(
    run: Run, bucket: Bucket, tmp_path: Path, name: str, lands: str | None
) -> None:
    info = await bucket.upload(b"theirs", filename=name)
    got = await run("get", str(info.id))
    assert (got.exit_code == 0) == (lands is not None)
    assert everything_in(tmp_path) == sorted(["here", *([f"here/{lands}"] if lands else [])])
    assert not OBEYED.search(got.stdout + got.stderr)


async def test_a_name_from_a_record_of_another_writer(
    run: Run, bucket: Bucket, database: Database, tmp_path: Path
) -> None:
    for name in ("a\x00b", {"$gt": ""}, 7, None):
        info = await bucket.upload(b"theirs")
        await database["fs.files"].update_one({"_id": info.id}, {"$set": {"filename": name}})
        await run("get", str(info.id))
    info = await bucket.upload(b"theirs", id="../outside")
    assert (await run("get", "../outside")).exit_code == 2
    assert everything_in(tmp_path)[0] == "here"
    assert all(re.fullmatch("here(/[0-9a-f]{24})?", each) for each in everything_in(tmp_path))


async def test_an_existing_file_is_not_overwritten(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    """Neither through a link, be it one that leads to nothing yet."""
    here = tmp_path / "here"
    (tmp_path / "mine").write_bytes(b"mine")
    (here / "file").write_bytes(b"mine")
    (here / "link").symlink_to(tmp_path / "mine")
    (here / "dangling").symlink_to(tmp_path / "made")
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")
    before = everything_in(tmp_path)
    for name in ("file", "link", "dangling", "folder", "pipe"):
        info = await bucket.upload(b"theirs", filename=name)
        assert (await run("get", str(info.id))).exit_code == 2
    assert everything_in(tmp_path) == before
    assert (here / "file").read_bytes() == (tmp_path / "mine").read_bytes() == b"mine"


async def test_save_to_never_uses_the_name(bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"theirs", filename="../../etc/passwd")
    await bucket.file(info.id).save_to(tmp_path / "mine")
    assert everything_in(tmp_path) == ["mine"]


async def test_save_to_refuses_a_path_that_is_not_a_file(bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"theirs")
    os.mkfifo(tmp_path / "pipe")
    before = everything_in(tmp_path)
    for path in (tmp_path / "pipe", tmp_path, "/dev/null", "/dev/full", tmp_path / "no" / "file"):
        with pytest.raises(OSError, match=r"save_to|No such file"):
            await bucket.file(info.id).save_to(path)
    with pytest.raises(ValueError, match="null"):
        await bucket.file(info.id).save_to(f"{tmp_path}/a\0b")
    assert everything_in(tmp_path) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("mode", [None, 0o600, 0o644])
async def test_a_file_is_private_while_it_is_written(bucket: Bucket, tmp_path: Path, mode: int | None) -> None:
    """The new content is in a temporary file until it is complete. After a kill, this file stays."""
    info = await bucket.upload(bytes(3_000_000))
    target = tmp_path / "target"
    if mode is not None:
        target.write_bytes(b"old")
        target.chmod(mode)
    seen: list[int] = []

    def look(done: int, total: int | None) -> None:
        seen.extend(stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob(".*.part"))

    before = os.umask(0o022)
    try:
        await bucket.file(info.id).save_to(target, look)
    finally:
        os.umask(before)
    assert len(seen) >= 2
    assert set(seen) == {0o600}
    assert stat.S_IMODE(target.stat().st_mode) == (0o644 if mode is None else mode)
    assert everything_in(tmp_path) == ["target"]


async def test_the_stored_bytes_do_not_become_a_setuid_program(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"#!/bin/sh\nid")
    target = tmp_path / "program"
    for save in (bucket.file(info.id).save_to(target), run("get", str(info.id), str(target))):
        target.write_bytes(b"old")
        target.chmod(0o6755 | stat.S_ISVTX)
        await save
        assert target.read_bytes().endswith(b"id")
        assert stat.S_IMODE(target.stat().st_mode) == 0o755


another_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create files of another user")


@another_user
async def test_the_mode_of_another_users_file_is_not_taken_over(bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"mine")
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    target.chmod(0o6777)
    os.chown(target, 12345, 12345)
    target.chmod(0o6777)
    before = os.umask(0o027)
    try:
        await bucket.file(info.id).save_to(target)
    finally:
        os.umask(before)
    assert target.read_bytes() == b"mine"
    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o640)


@another_user
async def test_a_symbolic_link_of_another_user_is_not_followed(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    info = await bucket.upload(b"theirs")
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    for name, to in (("file", "mine"), ("new", "made"), ("into", "folder"), ("twice", "file")):
        (tmp_path / name).symlink_to(to)
        os.lchown(tmp_path / name, 12345, 12345)
    os.lchown(tmp_path / "twice", 0, 0)
    before = everything_in(tmp_path)
    for path in ("file", "new", "into/file", "twice", "folder/../into/file"):
        with pytest.raises(PermissionError, match="symbolic link of another user"):
            await bucket.file(info.id).save_to(tmp_path / path)
        assert (await run("get", str(info.id), str(tmp_path / path))).exit_code != 0
    assert everything_in(tmp_path) == before
    assert (tmp_path / "mine").read_bytes() == b"mine"


async def test_links_of_this_user_lead_where_the_system_leads(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bucket.upload(b"new")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "relative").symlink_to("a/b/../b")
    (tmp_path / "chain").symlink_to("relative")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("absolute/1", "relative/../2", "chain/3", "./a//b/../b/4", str(tmp_path / "absolute" / "b" / "5")):
        await bucket.file(info.id).save_to(path)
        assert Path(os.path.realpath(path)).read_bytes() == b"new"
        assert Path(path).read_bytes() == b"new"
    with pytest.raises(OSError, match="levels of symbolic links"):
        await bucket.file(info.id).save_to("loop")


# Terminals


async def test_nothing_that_a_terminal_obeys_is_shown(run: Run, bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(b"x", id=ESCAPES, filename=ESCAPES, content_type=ESCAPES, metadata={ESCAPES: ESCAPES})
    await database["fs.chunks"].update_one({}, {"$set": {"n": ESCAPES}})
    await database["fs.chunks"].insert_one({"files_id": ESCAPES + "2", "n": ESCAPES, "data": b"x"})
    await database["animals"].insert_one({"_id": ESCAPES, "photo": ESCAPES + "3"})
    for command in (
        ["ls"],
        ["stat", ESCAPES],
        ["verify", ESCAPES],
        ["verify", "--all"],
        ["check", "--reference", "animals.photo"],
        ["get", ESCAPES],
        ["get", ESCAPES + "4"],
        ["get", "--name", ESCAPES, "-"],
        ["gc"],
        ["put", "nothing" + ESCAPES],
        ["rm", ESCAPES + "5"],
        ["rm", ESCAPES],
    ):
        for more in ([], ["--json"]):
            shown = await run(*command, *more)
            if command[0] != "put":  # click's own words, on the operator's own
                assert not OBEYED.search(shown.stdout + shown.stderr), (command, shown.stdout, shown.stderr)
            if more and command[0] in ("ls", "stat") and shown.exit_code == 0:
                assert json.loads(shown.stdout)["filename"] == info.filename  # escaped, and nothing lost


async def test_nor_in_what_is_made_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    screen = Screen(False)
    screen._out = screen._err = Console(file=out, force_terminal=True, width=200, no_color=True, highlight=False)
    screen.fields({f"metadata.{ESCAPES}": ESCAPES})
    screen.table({"NAME": "left"}, [[ESCAPES]])
    screen.line(ESCAPES)
    screen.note(ESCAPES)
    screen.failure("Error", ESCAPES)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # rich's own
    assert "31m" in plain  # the text of theirs, and not its effect
    assert not OBEYED.search(plain)
