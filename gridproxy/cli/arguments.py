"""What commands are told: ids, durations and references as people write them; options that all commands have.

What cannot be meant raises click's `BadParameter` or `UsageError`, before there is a client.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click
from bson import ObjectId, json_util
from bson.errors import BSONError

from .running import EXIT_CODES, Connection, Work, run

F = TypeVar("F", bound=Callable[..., Any])

STDIO = "-"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def duration(value: str) -> timedelta:
    """The duration that is meant: 90s, 30m, 12h, 1d, 1w, or seconds without a letter."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration such as 90s, 30m, 12h, 1d or 1w")
    try:
        return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        raise click.BadParameter(f"{value!r} is longer than can be counted") from None


def id_of(value: str) -> object:
    """The id that is meant: 24 hex digits, Extended JSON in braces, or the text itself."""
    if value.startswith("{"):
        try:
            return json_util.loads(value)
        except (ValueError, TypeError, BSONError) as error:
            raise click.BadParameter(f'{value!r} is no Extended JSON such as {{"$numberInt": "7"}}: {error}') from None
    return ObjectId(value) if ObjectId.is_valid(value) else value


def pair(value: str) -> tuple[str, str]:
    """The two sides of the first `=`."""
    key, equals, text = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} is no KEY=VALUE")
    return key, text


def _reference(value: str) -> tuple[str, str]:
    collection, _, path = value.partition(":" if ":" in value else ".")
    if not collection or not path:
        raise click.BadParameter(f"{value!r} is no reference such as animals.photo (or zoo.animals:photo)")
    return collection, path


def one_of(**given: object) -> None:
    """Refuse anything but exactly one of them."""
    if [bool(value) for value in given.values()].count(True) != 1:
        raise click.UsageError(f"Give one of these: {', '.join(given)}.")


def references_option(function: F) -> F:
    """The option that says where documents hold files."""
    return click.option(
        "--reference",
        "references",
        multiple=True,
        type=_reference,
        metavar="COLLECTION.PATH",
        help="Where documents hold files: animals.photo, zoos.rooms.photos, zoo.animals:photo; repeatable.",
    )(function)


def connection_options(function: F) -> F:
    """The options that say where the bucket lies, and how to answer."""
    options = [
        click.option(
            "--uri",
            metavar="URI",
            help="The server's address; default: $MONGODB_URI, which is better: whoever lists processes sees this one.",
        ),
        click.option("--db", metavar="NAME", help="The database; default: the one in the URI's path."),
        click.option("--bucket", metavar="NAME", help="The bucket; default: fs."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long to wait for a server; default: 10.",
        ),
        click.option("--json", "as_json", is_flag=True, help="For programs: a JSON document, or one on each line."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def command(function: Callable[..., Work]) -> click.Command:
    """A command; its function checks what it was told, and returns the work to do."""

    def invoke(context: click.Context, /, **told: Any) -> None:
        names = ("uri", "db", "bucket", "timeout", "as_json")
        connection = Connection(**{name: told.pop(name) for name in names})
        outside = Connection(uri=os.environ.get("MONGODB_URI"))
        context.exit(run(connection.completed_by(context.obj).completed_by(outside), function(**told)))

    # What click finds on a function (its help, and the options that were put on it) belongs to the whole.
    whole = functools.update_wrapper(click.pass_context(invoke), function)
    return click.command(function.__name__, epilog=EXIT_CODES)(connection_options(whole))
