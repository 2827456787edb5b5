"""Parsing of arguments: ids, durations and references, and the options that all commands have."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar

import click
from bson import ObjectId, json_util
from bson.errors import BSONError

from .running import EXIT_CODES, Connection, Work, run

F = TypeVar("F", bound=Callable[..., Any])

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def duration(value: str) -> timedelta:
    """Parse a duration: 90s, 30m, 12h, 1d, 1w, or a number of seconds."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s, 30m, 12h, 1d or 1w")
    try:
        return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        raise click.BadParameter(f"{value!r} is too long") from None


def id_of(value: str) -> object:
    """Parse an id: 24 hex digits, Extended JSON in braces, or a text."""
    if value.startswith("{"):
        try:
            return json_util.loads(value)
        except (ValueError, TypeError, BSONError) as error:
            raise click.BadParameter(f'{value!r} is not Extended JSON such as {{"$numberInt": "7"}}: {error}') from None
    return ObjectId(value) if ObjectId.is_valid(value) else value


def pair(value: str) -> tuple[str, str]:
    """Split a value at the first `=`."""
    key, equals, text = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
    return key, text


def _reference(value: str) -> tuple[str, str]:
    collection, _, path = value.partition(":" if ":" in value else ".")
    if not collection or not path:
        raise click.BadParameter(f"{value!r} is not a reference such as animals.photo (or zoo.animals:photo)")
    return collection, path


def one_of(**values: object) -> None:
    """Raise `UsageError` unless exactly one of the values is true."""
    if [bool(value) for value in values.values()].count(True) != 1:
        raise click.UsageError(f"Give exactly one of: {', '.join(values)}.")


_RECORD_KEYS = {"_id", "filename", "length", "chunkSize", "uploadDate", "contentType", "expires_at", "aliases", "md5"}


def query_of(prefix: str, where: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the query for names that begin with a prefix and for keys that have a value, as a text or as JSON."""
    conditions: list[dict[str, Any]] = [{"filename": {"$regex": f"^{re.escape(prefix)}"}}] if prefix else []
    for key, text in where:
        name = key if key in _RECORD_KEYS or key.partition(".")[0] == "metadata" else f"metadata.{key}"
        values: list[object] = [text]
        with suppress(ValueError, TypeError, BSONError):
            values.append(json_util.loads(text))
        if name == "_id":
            values.append(id_of(text))
        conditions.append({name: {"$in": [value for value in values if not isinstance(value, Mapping)]}})
    return {"$and": conditions} if conditions else {}


where_option: Callable[[F], F] = click.option(
    "--where",
    multiple=True,
    type=pair,
    metavar="KEY=VALUE",
    help="Only files with this value in the metadata or in the record: owner=7, length=0. Repeatable.",
)

references_option: Callable[[F], F] = click.option(
    "--reference",
    "references",
    multiple=True,
    type=_reference,
    metavar="COLLECTION.PATH",
    help="A field that contains files: animals.photo, zoos.rooms.photos, zoo.animals:photo. Repeatable.",
)


def connection_options(function: F) -> F:
    """Add the options for the bucket and the output."""
    uri_help = "The server's address. Default: $MONGODB_URI, which hides a password from other users of the machine."
    positive = click.FloatRange(min=0, min_open=True)
    options = [
        click.option("--uri", metavar="URI", help=uri_help),
        click.option("--db", metavar="NAME", help="The database. Default: the one in the URI's path."),
        click.option("--bucket", metavar="NAME", help="The bucket. Default: fs."),
        click.option("--timeout", type=positive, metavar="SECONDS", help="How long to wait for a server. Default: 10."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON: one document on each line."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def command(function: Callable[..., Work]) -> click.Command:
    """Create a command from a function that checks its arguments and returns the work to do."""

    def invoke(context: click.Context, /, **arguments: Any) -> None:
        connection = Connection(**{field.name: arguments.pop(field.name) for field in fields(Connection)})
        context.exit(run(connection.completed_by(context.obj), function(**arguments)))

    # click reads the help and the options from the function that it calls.
    wrapped = functools.update_wrapper(click.pass_context(invoke), function)
    return click.command(function.__name__.rstrip("_"), epilog=EXIT_CODES)(connection_options(wrapped))
