"""The command that shards a bucket: shard."""

from __future__ import annotations

import json

import click
from pymongo.errors import OperationFailure

from gridproxy.bucket import Bucket
from gridproxy.upkeep.sharding import shard_commands

from .arguments import command
from .running import SERVER, Stop, Work
from .screen import Screen

_ALREADY_INITIALIZED = 23


@command
@click.option("--files", is_flag=True, help="Also shard the collection of records, which is small in most buckets.")
@click.option(
    "--dry-run/--no-dry-run",
    " /--send",
    default=True,
    help="Only print the commands (the default). --send sends them to a mongos.",
)
def shard(files: bool, dry_run: bool) -> Work:
    """Shard the bucket by hashed keys: chunks by files_id, records by _id.

    Prints the commands for mongosh. Without --send nothing is sent. If it is interrupted, run it again.
    """

    async def work(bucket: Bucket, screen: Screen) -> None:
        if not dry_run:
            await _require_router(bucket)
        for database, admin_command in shard_commands(bucket.store, with_files=files):
            if not dry_run:
                await _send(bucket, database, admin_command)
            if screen.as_json:
                screen.document({"database": database, "command": admin_command, "sent": not dry_run})
            else:
                screen.line(f"db.getSiblingDB({json.dumps(database)}).runCommand({json.dumps(admin_command)})")
        screen.note(
            "nothing was sent: use --send to send these commands to a mongos" if dry_run else "the bucket is sharded"
        )

    return work


async def _require_router(bucket: Bucket) -> None:
    hello = await bucket.database.client.admin.command("hello")
    if hello.get("msg") != "isdbgrid":
        name = hello.get("setName")
        kind = "a standalone server" if name is None else f"a member of the replica set {name!r}"
        raise Stop(
            SERVER,
            f"this server is not a mongos but {kind}, and only the router of a sharded cluster can shard a collection. "
            "Nothing was sent: connect to a mongos",
        )


async def _send(bucket: Bucket, database: str, admin_command: dict[str, object]) -> None:
    try:
        await bucket.database.client[database].command(admin_command)
    except OperationFailure as error:
        name, collection = next(iter(admin_command.items()))
        advice = ""
        if error.code == _ALREADY_INITIALIZED:
            advice = ". The collection has another shard key already: reshardCollection changes it"
        raise Stop(SERVER, f"the server refuses {name} of {collection}: {_reason(error)}{advice}") from error


def _reason(error: OperationFailure) -> str:
    return str(error).partition(", full error:")[0]
