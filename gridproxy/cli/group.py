"""The command that all others hang on."""

from __future__ import annotations

from typing import Any

import click

from .arguments import connection_options
from .files import get, ls, put, stat
from .removing import rm
from .running import EXIT_CODES, Connection
from .upkeep import check, gc, verify


@click.group(
    commands=(ls, put, get, rm, stat, verify, check, gc),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="gridproxy-mongo", prog_name="gridproxy")
@connection_options
@click.pass_context
def cli(context: click.Context, /, **connection: Any) -> None:
    """Files in MongoDB GridFS.

    Ids are given as hex digits or as text (other kinds as Extended JSON, {"$numberInt": "7"}). The options below may
    stand before or behind the command.
    """
    context.obj = Connection(**connection)
