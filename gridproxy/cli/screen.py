"""What a command shows: tables for people, tab-separated lines for pipes, JSON for programs; progress beside it.

What was found goes to stdout. Progress, notes and errors go to stderr. Names that others chose reach no terminal as
they are: whatever is not printable in them is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from bson import ObjectId, json_util
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.runtime.progress import Progress as Callback

_JSON = json_util.RELAXED_JSON_OPTIONS


class Screen:
    """Where one command's output goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False)

    # What was found

    def document(self, value: Mapping[str, Any]) -> None:
        """One JSON document on a line of its own."""
        click.echo(_as_json(plain(value)))

    def line(self, *cells: str, style: str = "") -> None:
        """One line for people, or for a pipe."""
        if self._out.is_terminal:
            self._out.print(Text("  ".join(map(printable, cells)), style=style), soft_wrap=True)
        else:
            click.echo("\t".join(map(printable, cells)))

    def table(self, columns: Mapping[str, str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Rows below their titles: `columns` says "left" or "right" of each; `styles` is one for each row, or none."""
        if not self._out.is_terminal:
            for row in rows:
                click.echo("\t".join(map(printable, row)))
            return
        if not rows:
            return
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
        for title, side in columns.items():
            # Ids have to be copied from here, so it is the other columns that give way.
            wrap = title in ("NAME", "WHAT IS WRONG", "VALUE")
            table.add_column(title, justify="right" if side == "right" else "left", no_wrap=not wrap, overflow="fold")
        for at, row in enumerate(rows):
            table.add_row(*(Text(printable(cell)) for cell in row), style=styles[at] if styles else None)
        self._out.print(table)

    def fields(self, values: Mapping[str, str]) -> None:
        """Names and values below each other."""
        if not self._out.is_terminal:
            for name, value in values.items():
                click.echo(f"{printable(name)}\t{printable(value)}")
            return
        grid = Table.grid(padding=(0, 2))
        for name, value in values.items():
            grid.add_row(Text(printable(name), style="bold"), Text(printable(value), overflow="fold"))
        self._out.print(grid)

    # Beside it

    def note(self, text: str, style: str = "dim") -> None:
        """A word beside the output; none where JSON is wanted."""
        if not self.as_json:
            self._err.print(Text(printable(text), style=style), soft_wrap=True)

    def failure(self, error: str, message: str) -> None:
        """What went wrong, on stderr."""
        if self.as_json:
            click.echo(_as_json({"error": error, "message": message}), err=True)
            return
        line = Text("gridproxy: ", style="bold red").append(Text(printable(message), style="not bold default"))
        self._err.print(line, soft_wrap=True)

    @contextmanager
    def bytes_bar(self, title: str, *, beside_bytes: bool = False) -> Iterator[Callback]:
        """A bar of bytes while the block runs, where somebody looks at it; its callback is a `progress=`.

        `beside_bytes` says that a file's bytes go to stdout meanwhile: into a terminal both would mix.
        """
        hidden = beside_bytes and self._out.is_terminal
        with self._bar(title, DownloadColumn(), TransferSpeedColumn(), hidden=hidden) as callback:
            yield callback

    @contextmanager
    def count_bar(self, title: str) -> Iterator[Callback]:
        """A bar of things that are counted while the block runs."""
        with self._bar(title, MofNCompleteColumn()) as callback:
            yield callback

    @contextmanager
    def _bar(self, title: str, *columns: ProgressColumn, hidden: bool = False) -> Iterator[Callback]:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TimeRemainingColumn(compact=True),
            console=self._err,
            transient=True,
            disable=hidden or not self._err.is_terminal,
        ) as progress:
            task = progress.add_task(printable(title), total=None)

            def callback(done: int, total: int | None) -> None:
                progress.update(task, completed=done, total=total)

            yield callback


def printable(text: str) -> str:
    """The text with escapes in the place of what a terminal would obey, or not show."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _as_json(value: object) -> str:
    """JSON on one line, as readable as a terminal may get it."""
    text = json.dumps(value, ensure_ascii=False)
    # Outside of strings there is nothing that is not printable; in them this is another spelling of the same.
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def readable_size(size: int) -> str:
    """Bytes as people say them: `999 B`, `1.5 MB`."""
    if size < 1000:
        return f"{size} B"
    power = min(6, int(math.log10(size)) // 3)
    return f"{size / 1000**power:.1f} {'kMGTPE'[power - 1]}B"


def plain(value: object) -> Any:
    """What JSON can say of a value: ObjectIds as hex, moments in ISO 8601, the rest as MongoDB's Extended JSON."""
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
    return str(value) if isinstance(value, float) else json_util.default(value, _JSON)


def file_document(info: FileInfo) -> dict[str, Any]:
    """One file as `--json` shows it."""
    document = {
        "id": info.id,
        "filename": info.filename,
        "length": info.length,
        "content_type": info.content_type,
        "upload_date": info.upload_date,
        "chunk_size": info.chunk_size,
        "sha256": info.sha256,
        "metadata": dict(info.metadata),
    }
    if info.expires_at is not None:
        document["expires_at"] = info.expires_at
    return document


def shown_id(id: object) -> str:
    """An id as it is shown, and as a command takes it back."""
    shown = plain(id)
    return shown if isinstance(shown, str) else json.dumps(shown)
