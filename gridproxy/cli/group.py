"""The command group `gridproxy`."""

from __future__ import annotations

import os
from typing import Any

import click

from .arguments import connection_options
from .files import cat, get, ls, put, rm, stat
from .moving import cp, du, export, import_, mv, sync, transfer
from .running import EXIT_CODES, Connection
from .sharding import shard
from .upkeep import check, gc, verify


@click.group(
    commands=(
        *(ls, du, put, get, cat, rm, stat, cp, mv, sync, transfer, export, import_),
        *(verify, check, gc, shard),
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="gridproxy-mongo", prog_name="gridproxy")
@connection_options
@click.pass_context
def cli(context: click.Context, /, **connection: Any) -> None:
    """Manage files in MongoDB GridFS.

    An id is a sequence of hex digits, a text, or Extended JSON such as {"$numberInt": "7"}. The options below can be
    given before or after the command.
    """
    context.obj = Connection(**connection).completed_by(Connection(uri=os.environ.get("MONGODB_URI")))
