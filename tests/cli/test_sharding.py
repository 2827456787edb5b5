"""`gridproxy shard`: what it prints, what it sends to a router, and what it says if the server refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .router import mongos
from .test_cli import Database, Run, documents, run

__all__ = ["run"]

CHUNKS_INDEX = {"createIndexes": "fs.chunks", "indexes": [{"key": {"files_id": "hashed"}, "name": "files_id_hashed"}]}
FILES_INDEX = {"createIndexes": "fs.files", "indexes": [{"key": {"_id": "hashed"}, "name": "_id_hashed"}]}


def commands(db: str, *, files: bool) -> list[dict[str, Any]]:
    chunks = [
        {"database": db, "command": CHUNKS_INDEX},
        {"database": "admin", "command": {"shardCollection": f"{db}.fs.chunks", "key": {"files_id": "hashed"}}},
    ]
    return [
        *chunks,
        {"database": db, "command": FILES_INDEX},
        {"database": "admin", "command": {"shardCollection": f"{db}.fs.files", "key": {"_id": "hashed"}}},
    ][: 4 if files else 2]


@pytest.mark.parametrize("files", [False, True])
async def test_a_dry_run_prints_the_commands_and_asks_no_server(run: Run, files: bool) -> None:
    options = ["--uri", "mongodb://127.0.0.1:1", *(["--files"] if files else [])]
    dry = await run("shard", *options, "--json", db="zoo")
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert documents(dry) == [{**each, "sent": False} for each in commands("zoo", files=files)]

    shown = await run("shard", *options, db="zoo")
    assert [json.loads(line.partition(".runCommand(")[2][:-1]) for line in shown.stdout.splitlines()] == [
        each["command"] for each in commands("zoo", files=files)
    ]
    assert shown.stdout.startswith('db.getSiblingDB("zoo").runCommand({"createIndexes": "fs.chunks"')
    assert "nothing was sent" in shown.stderr


@pytest.mark.parametrize("files", [False, True])
async def test_a_router_gets_the_commands_in_order(run: Run, files: bool) -> None:
    with mongos() as router:
        sent = await run("shard", "--send", "--uri", router.uri, *(["--files"] if files else []), db="zoo")
        assert router.seen == [{**each["command"], "$db": each["database"]} for each in commands("zoo", files=files)]
    assert sent.exit_code == 0, sent.stderr
    assert len(sent.stdout.splitlines()) == (4 if files else 2)
    assert sent.stderr == "the bucket is sharded\n"


async def test_another_bucket_is_sharded_under_its_name(run: Run) -> None:
    with mongos() as router:
        assert (await run("shard", "--send", "--uri", router.uri, "--bucket", "a.b", db="zoo")).exit_code == 0
        assert [next(iter(each.values())) for each in router.seen] == ["a.b.chunks", "zoo.a.b.chunks"]


async def test_a_server_that_is_not_a_router_is_sent_nothing(run: Run, database: Database) -> None:
    refused = await run("shard", "--send")
    assert (refused.exit_code, refused.stdout) == (4, "")
    message = " ".join(refused.stderr.split())
    assert "this server is not a mongos but a member of the replica set" in message
    assert "Nothing was sent: connect to a mongos" in message
    assert await database.list_collection_names() == []


@pytest.mark.parametrize(
    ("command", "error", "printed", "message"),
    [
        (
            "shardCollection",
            {"code": 23, "codeName": "AlreadyInitialized", "errmsg": "sharding already enabled for collection"},
            1,
            "refuses shardCollection of zoo.fs.chunks: sharding already enabled for collection. The collection has "
            "another shard key already: reshardCollection changes it",
        ),
        (
            "createIndexes",
            {"code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on zoo"},
            0,
            "the server refuses createIndexes of fs.chunks: not authorized on zoo",
        ),
        (
            "shardCollection",
            {"code": 59, "codeName": "CommandNotFound", "errmsg": "no such command: 'shardCollection'"},
            1,
            "the server refuses shardCollection of zoo.fs.chunks: no such command: 'shardCollection'",
        ),
    ],
)
async def test_a_command_that_the_router_refuses_is_named(
    run: Run, command: str, error: dict[str, Any], printed: int, message: str
) -> None:
    with mongos(**{command: error}) as router:
        refused = await run("shard", "--send", "--files", "--uri", router.uri, db="zoo")
        assert len(router.seen) == printed + 1
    assert (refused.exit_code, len(refused.stdout.splitlines())) == (4, printed)
    assert message in " ".join(refused.stderr.split())
