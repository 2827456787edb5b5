"""What was measured: rows of values, the goals that stand beside them, and the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from .interface import DRIVER, MOTOR, OURS, OURS_BARE, PYMONGO

__all__ = ["SERVER", "STUB", "Goal", "Growth", "Row", "compared", "goal_of", "in_unit", "markdown", "table"]

SERVER, STUB = "server", "stub"


@dataclass(frozen=True)
class Goal:
    """What the row is to reach: a ratio of at least, or a value of at most."""

    at_least: float | None = None
    at_most: float | None = None


@dataclass
class Row:
    """One kind of work on one server: the values of each contender, one for each round."""

    work: str
    label: str
    place: str
    rtt: float | None
    unit: str
    subject: str = OURS
    goal: Goal | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """Return the median of one contender's values."""
        values = self.values.get(name)
        return statistics.median(values) if values else None

    @property
    def ratios(self) -> list[float]:
        """pymongo's value over ours, round by round: those two were measured right after each other."""
        return self._beside(self.subject)

    def _beside(self, name: str) -> list[float]:
        theirs, others = self.values.get(PYMONGO, []), self.values.get(name, [])
        return [their / other for their, other in zip(theirs, others, strict=False) if other > 0]

    @property
    def ratio(self) -> float | None:
        """The median of the ratios."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def ceiling(self) -> float | None:
        """The same median for the driver alone: what can be reached through it; None where it was not measured."""
        ratios = self._beside(DRIVER)
        return statistics.median(ratios) if ratios else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        if self.goal is None:
            return None
        if self.goal.at_least is not None:
            return self.ratio is not None and self.ratio >= self.goal.at_least
        value = self.median(self.subject)
        return value is not None and self.goal.at_most is not None and value <= self.goal.at_most


@dataclass
class Growth:
    """Seconds by size in bytes, of one contender in one direction."""

    place: str
    name: str
    direction: str
    seconds: dict[int, list[float]] = field(default_factory=dict)

    @property
    def points(self) -> list[tuple[int, float]]:
        """Size and median, in order."""
        return [(size, statistics.median(seconds)) for size, seconds in sorted(self.seconds.items())]

    @property
    def exponent(self) -> float | None:
        """What power of the size the time grows with, from 10 MB on (below, round trips count): 1 is linear."""
        points = [point for point in self.points if point[0] >= 10 * 2**20]
        if len(points) < 2:
            return None
        sizes, times = zip(*points, strict=True)
        return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, times)]).slope


# The tables of issues 3 and 18: by work, place and round-trip time in milliseconds. Work with `checksum=None`, and the
# processor time of a work, have names of their own.
_GOALS: Mapping[tuple[str, str, float | None], Goal] = {
    ("upload-large", SERVER, 0): Goal(at_least=1.4),
    ("upload-large", SERVER, 25): Goal(at_least=1.8),
    ("upload-large", STUB, 0): Goal(at_least=2.5),
    ("upload-large-bare", STUB, 0): Goal(at_least=4.0),
    ("upload-path", STUB, 0): Goal(at_least=2.5),
    ("upload-path-bare", STUB, 0): Goal(at_least=4.0),
    ("upload-large-cpu", STUB, 0): Goal(at_least=2.0),
    ("upload-large-bare-cpu", STUB, 0): Goal(at_least=2.0),
    ("download-large", STUB, 0): Goal(at_least=3.0),
    ("stream-large", STUB, 0): Goal(at_least=3.0),
    ("upload-small", SERVER, 0): Goal(at_least=1.8),
    ("upload-small", SERVER, 5): Goal(at_least=3.5),
    ("upload-small", SERVER, 25): Goal(at_least=3.5),
    ("download-large", SERVER, 0): Goal(at_least=1.0),
    ("download-large", SERVER, 25): Goal(at_least=1.6),
    ("stream-large", SERVER, 0): Goal(at_least=1.0),
    ("stream-large", SERVER, 25): Goal(at_least=1.6),
    ("download-small", SERVER, 0): Goal(at_least=1.2),
    ("download-small-cpu", SERVER, 0): Goal(at_least=1.2),
    ("download-concurrent", SERVER, 0): Goal(at_least=2.5),
    ("download-concurrent", SERVER, 5): Goal(at_least=2.5),
    ("download-concurrent", SERVER, 25): Goal(at_least=2.0),
    ("download-concurrent-cpu", SERVER, 0): Goal(at_least=2.0),
    ("download-concurrent-cpu", SERVER, 5): Goal(at_least=2.0),
    ("download-concurrent-cpu", SERVER, 25): Goal(at_least=2.0),
    ("read-gathered", SERVER, 5): Goal(at_least=3.0),
    ("upload-concurrent-plain", SERVER, 5): Goal(at_least=3.0),
    ("beanie-load", SERVER, None): Goal(at_most=1.3),
    ("beanie-save", SERVER, None): Goal(at_most=1.15),
    ("beanie-save-list", SERVER, None): Goal(at_most=1.5),
    ("import", SERVER, None): Goal(at_most=40.0),
    ("memory-burst", SERVER, None): Goal(at_most=3.0),
    ("serving", SERVER, 0): Goal(at_least=2.0),
    ("serving-cpu", SERVER, 0): Goal(at_least=2.0),
    ("serving-disk", SERVER, 0): Goal(at_least=1.0),
    ("download-small", SERVER, 5): Goal(at_least=1.8),
    ("download-small", SERVER, 25): Goal(at_least=1.8),
    ("first-byte", SERVER, 25): Goal(at_least=3.0),
    ("middle", SERVER, 0): Goal(at_least=20.0),
    ("middle", SERVER, 25): Goal(at_least=4.0),
    ("read-many", SERVER, 5): Goal(at_least=15.0),
    ("read-many-gathered", SERVER, 5): Goal(at_least=2.0),
    ("upload-many", SERVER, 5): Goal(at_least=15.0),
    ("upload-many-gathered", SERVER, 5): Goal(at_least=2.0),
    ("memory-up", STUB, None): Goal(at_most=48.0),
    ("memory-up", SERVER, None): Goal(at_most=48.0),
    ("memory-down", STUB, None): Goal(at_most=24.0),
    ("memory-down", SERVER, None): Goal(at_most=24.0),
    ("stall-up", STUB, None): Goal(at_most=30.0),
    ("stall-up", SERVER, None): Goal(at_most=30.0),
    ("stall-down", STUB, None): Goal(at_most=30.0),
    ("stall-down", SERVER, None): Goal(at_most=30.0),
}


def goal_of(work: str, place: str, rtt: float | None) -> Goal | None:
    """Return the ratio that this work has to reach."""
    return _GOALS.get((work, place, rtt))


def in_unit(value: float | None, unit: str) -> str:
    """Format a value for people."""
    if value is None:
        return "-"
    if unit != "s":
        if unit in ("times", "bytes"):
            return f"{value:.2f} {unit}"
        return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    if value < 0.1:
        return f"{value * 1000:.2f} ms" if value < 0.01 else f"{value * 1000:.1f} ms"
    return f"{value:.2f} s"


def table(rows: Sequence[Row], *, with_goals: bool) -> str:
    """All rows as text, one line each."""
    head, *lines = _cells(rows, with_goals)
    blank = [""] * len(head)
    widths = [max(len(line[column]) for line in [head, *lines, blank]) for column in range(len(head))]
    texts = ["  ".join(_aligned(line, widths)).rstrip() for line in [head, *lines]]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *_parted(texts[1:], rows)])


def markdown(rows: Sequence[Row], about: Iterable[str], remarks: Iterable[str], *, with_goals: bool) -> str:
    """Return the report as a page: the bench, the table, and the remarks."""
    head, *lines = _cells(rows, with_goals)
    body = [head, ["---" if column == 0 else "--:" for column in range(len(head))], *lines]
    parts = [
        *(f"{line}  " for line in about),
        "",
        *("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in body),
        "",
        *(f"- {line}" for line in remarks if line),
    ]
    return "\n".join(parts) + "\n"


def _cells(rows: Sequence[Row], with_goals: bool) -> list[list[str]]:
    lines = [["work", "RTT", PYMONGO, "ours", MOTOR, DRIVER, "pymongo / ours (min - max)", "/ driver", "goal", ""]]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f} ({min(row.ratios):.2f} - {max(row.ratios):.2f})"
        lines.append(
            [
                row.label + (" (checksum=None)" if row.subject == OURS_BARE else ""),
                "" if row.rtt is None else f"{row.rtt:g} ms",
                *(in_unit(row.median(name), row.unit) for name in (PYMONGO, row.subject, MOTOR)),
                "" if row.ceiling is None else in_unit(row.median(DRIVER), row.unit),
                ratio,
                "" if row.ceiling is None else f"{row.ceiling:.2f}",
                *(_goal_texts(row) if with_goals else ("", "")),
            ]
        )
    return lines


def compared(rows: Sequence[Row], earlier: Mapping[str, object]) -> str:
    """Return this run's medians beside those of an earlier one, which is the content of a `--json` file."""
    known: dict[tuple[object, ...], Mapping[str, Sequence[float]]] = {}
    for each in cast("Sequence[Mapping[str, Any]]", earlier["rows"]):
        known[each["label"], each["place"], each["rtt"], each["subject"]] = each["values"]
    lines = [["work", "RTT", "then", "now", "then / now", "pymongo / ours then", "now"]]
    for row in rows:
        values = known.get((row.label, row.place, row.rtt, row.subject), {})
        now, then = row.median(row.subject), values.get(row.subject)
        if now is None or not then:
            continue
        was = replace(row, values={name: list(some) for name, some in values.items()})
        lines.append(
            [
                row.label,
                "" if row.rtt is None else f"{row.rtt:g} ms",
                in_unit(was.median(row.subject), row.unit),
                in_unit(now, row.unit),
                f"{statistics.median(then) / now:.2f}",
                *("-" if each.ratio is None else f"{each.ratio:.2f}" for each in (was, row)),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _goal_texts(row: Row) -> tuple[str, str]:
    if row.goal is None:
        return "", ""
    wanted = f">= {row.goal.at_least:g}" if row.goal.at_least is not None else f"<= {row.goal.at_most:g} {row.unit}"
    if row.reached:
        return wanted, "reached"
    # What the driver alone does not reach either, nobody does through it.
    beyond = row.goal.at_least is not None and row.ceiling is not None and row.ceiling < row.goal.at_least
    return wanted, "beyond the driver" if beyond else "MISSED"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for column, (text, width) in enumerate(zip(line, widths, strict=True)):
        yield text.ljust(width) if column == 0 or column > 7 else text.rjust(width)


def _parted(texts: Sequence[str], rows: Sequence[Row]) -> Iterable[str]:
    """Return a blank line if the kind of work changes."""
    before = ""
    for text, row in zip(texts, rows, strict=True):
        kind = row.work.split("-")[0] + row.place
        if before and kind != before:
            yield ""
        before = kind
        yield text
