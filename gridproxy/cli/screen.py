"""Output of the commands: tables in a terminal, tab-separated lines in a pipe, JSON for programs.

Results are written to stdout. Progress, notes and errors are written to stderr. Unprintable characters in names that
other clients chose are escaped, because a terminal would interpret them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

import click
import rich.progress
from bson import ObjectId, json_util
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.runtime.progress import Progress


class Screen:
    """The output of one command."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False)

    def document(self, value: Mapping[str, Any]) -> None:
        """Print a JSON document on one line of stdout."""
        click.echo(_as_json(plain(value)))

    def line(self, *cells: str, style: str = "") -> None:
        """Print one line to stdout."""
        if self._out.is_terminal:
            self._out.print(Text("  ".join(map(printable, cells)), style=style), soft_wrap=True)
        else:
            click.echo("\t".join(map(printable, cells)))

    def table(self, columns: Mapping[str, str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Print a table. `columns` maps titles to "left" or "right". `styles` has a style for each row, or is empty."""
        if not self._out.is_terminal:
            for row in [list(columns), *rows] if rows else []:
                click.echo("\t".join(map(printable, row)))
            return
        if not rows:
            return
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
        for title, side in columns.items():
            # Users copy ids from here, so only other columns wrap.
            wrap = title in ("NAME", "WHAT IS WRONG", "VALUE")
            table.add_column(title, justify="right" if side == "right" else "left", no_wrap=not wrap, overflow="fold")
        for at, row in enumerate(rows):
            table.add_row(*(Text(printable(cell)) for cell in row), style=styles[at] if styles else None)
        self._out.print(table)

    def fields(self, values: Mapping[str, str]) -> None:
        """Print names and values to stdout."""
        if not self._out.is_terminal:
            for name, value in values.items():
                click.echo(f"{printable(name)}\t{printable(value)}")
            return
        grid = Table.grid(padding=(0, 2))
        for name, value in values.items():
            grid.add_row(Text(printable(name), style="bold"), Text(printable(value), overflow="fold"))
        self._out.print(grid)

    def note(self, text: str, style: str = "dim") -> None:
        """Print a note to stderr, unless the output is JSON."""
        if not self.as_json:
            self._err.print(Text(printable(text), style=style), soft_wrap=True)

    def failure(self, error: str, message: str) -> None:
        """Print an error to stderr."""
        if self.as_json:
            click.echo(_as_json({"error": error, "message": message}), err=True)
            return
        line = Text("gridproxy: ", style="bold red").append(Text(printable(message), style="not bold default"))
        self._err.print(line, soft_wrap=True)

    def bytes_bar(self, title: str, *, beside_bytes: bool = False) -> AbstractContextManager[Progress]:
        """Show a progress bar of bytes, and yield a callback for `progress=`.

        With `beside_bytes` a file is written to stdout, so the bar is hidden if that is a terminal.
        """
        columns = rich.progress.DownloadColumn(), rich.progress.TransferSpeedColumn()
        return self._bar(title, *columns, hidden=beside_bytes and self._out.is_terminal)

    def count_bar(self, title: str) -> AbstractContextManager[Progress]:
        """Show a progress bar of counted items, and yield a callback for `progress=`."""
        return self._bar(title, rich.progress.MofNCompleteColumn())

    @contextmanager
    def _bar(self, title: str, *columns: rich.progress.ProgressColumn, hidden: bool = False) -> Iterator[Progress]:
        with rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            *columns,
            rich.progress.TimeRemainingColumn(compact=True),
            console=self._err,
            transient=True,
            disable=hidden or not self._err.is_terminal,
        ) as bar:
            task = bar.add_task(printable(title), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def printable(text: str) -> str:
    """Escape the unprintable characters of a text."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _as_json(value: object) -> str:
    """Encode a value as JSON on one line, with unprintable characters escaped."""
    text = json.dumps(value, ensure_ascii=False)
    # Unprintable characters only occur in strings, in which an escape has the same meaning.
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def readable_size(size: int) -> str:
    """Format a number of bytes: `999 B`, `1.5 MB`."""
    if size < 1000:
        return f"{size} B"
    power = min(6, int(math.log10(size)) // 3)
    return f"{size / 1000**power:.1f} {'kMGTPE'[power - 1]}B"


def plain(value: object) -> Any:
    """Convert a value for JSON: ObjectIds to hex, datetimes to ISO 8601, other types to Extended JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value) if isinstance(value, float) else json_util.default(value, json_util.RELAXED_JSON_OPTIONS)


def file_document(info: FileInfo) -> dict[str, Any]:
    """Return the form of a file that `--json` shows."""
    names = ("id", "filename", "length", "content_type", "upload_date", "chunk_size", "sha256")
    document = {**{name: getattr(info, name) for name in names}, "metadata": dict(info.metadata)}
    if info.expires_at is not None:
        document["expires_at"] = info.expires_at
    return document


def shown_id(id: object) -> str:
    """Format an id so that a command accepts it as an argument."""
    shown = plain(id)
    return shown if isinstance(shown, str) else json.dumps(shown)
