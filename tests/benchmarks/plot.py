"""The picture: how many times faster than pymongo, how time grows with size, and what a long stream costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from .concurrency import Load
from .interface import MOTOR, OURS, OURS_BARE, PYMONGO
from .results import SERVER, STUB, Growth, Row, in_unit

__all__ = ["draw"]

_WIDTH = 1180
_MARGIN = 24
_INK, _FAINT, _GRID, _SLOWER, _GOAL = "#1f2933", "#66727f", "#e3e8ee", "#d9772b", "#111827"
# Darker means farther away; the server that answers at once is another thing, and green.
_DISTANCES = ("#8ec5f0", "#3f8fd2", "#174a7e")
_STUB = "#3d9a78"
_CONTENDERS = {OURS: "#3f8fd2", PYMONGO: "#8a96a3", MOTOR: "#c3ccd6"}
_BAR, _GAP = 11, 9
_TIMES = "\N{MULTIPLICATION SIGN}"
_Span = tuple[float, float]


class _Canvas:
    def __init__(self) -> None:
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, size: float = 12, *, anchor: str = "start", **style: str) -> None:
        more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in {"fill": _INK, **style}.items())
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
        )

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{fill}"/>'
        )

    def line(self, start: _Span, end: _Span, stroke: str, width: float = 1, dash: str = "") -> None:
        (x1, y1), (x2, y2) = start, end
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
            f'stroke-width="{width:g}"{dashed}/>'
        )

    def goal(self, x: float, top: float, bottom: float) -> None:
        self.line((x, top), (x, bottom), "#ffffff", 4.5)  # stands out on dark bars, too
        self.line((x, top), (x, bottom), _GOAL, 2)

    def diamond(self, x: float, y: float) -> None:
        self._parts.append(
            f'<path d="M{x - 4.5:.1f},{y:.1f} l4.5,-4.5 l4.5,4.5 l-4.5,4.5 z" fill="#ffffff" stroke="{_INK}"/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], stroke: str, dash: str = "") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{dashed}/>')
        self._parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{stroke}"/>' for x, y in points]

    def finished(self, height: float) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
                f'width="{_WIDTH}" height="{height:.0f}" font-family="system-ui, Helvetica, Arial, sans-serif">',
                f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


class _LogScale:
    def __init__(self, values: _Span, pixels: _Span) -> None:
        (self._low, high), (self._from, to) = values, pixels
        self._per_log = (to - self._from) / math.log(high / self._low)

    def __call__(self, value: float) -> float:
        return self._from + math.log(max(value, 1e-9) / self._low) * self._per_log


def draw(
    rows: Sequence[Row], growth: Sequence[Growth], loads: Sequence[Load], caption: str, *, with_goals: bool
) -> str:
    """Return the SVG."""
    canvas = _Canvas()
    canvas.text(_MARGIN, 38, "gridproxy beside pymongo's AsyncGridFSBucket", 20, font_weight="600")
    canvas.text(_MARGIN, 58, caption, 12, fill=_FAINT)
    if not with_goals:
        rows = [replace(row, goal=None) for row in rows]
    ratios = [row for row in rows if row.rtt is not None and row.ratio is not None]
    # Of each measure the largest stream, against the server where nothing but the client counts.
    costs = {row.work: row for row in rows if row.rtt is None and row.values and row.place == STUB}
    costs |= {row.work: row for row in rows if row.work == "memory-burst"}
    left = right = 96.0
    if ratios:
        left = _draw_ratios(canvas, ratios, _MARGIN, left, 690)
    growth = [line for line in growth if line.place == SERVER and line.points]
    if growth:
        right = _draw_growth(canvas, growth, 770, right, 386, 300) + 48
    if costs:
        right = _draw_costs(canvas, list(costs.values()), 770, right, 386)
    if loads:
        right = _draw_loads(canvas, loads, 770, right + 40, 386, 220)
    return canvas.finished(max(left, right) + _MARGIN)


def _draw_ratios(canvas: _Canvas, rows: Sequence[Row], x: float, y: float, width: float) -> float:
    canvas.text(x, y, "How many times faster", 15, font_weight="600")
    distances = sorted({row.rtt for row in rows if row.place == SERVER and row.rtt is not None})
    colours = dict(zip(distances, _DISTANCES[-len(distances) :] if len(distances) < 3 else _DISTANCES, strict=False))
    at = x
    keys = [(f"{distance:g} ms round trip", colours.get(distance, _DISTANCES[-1])) for distance in distances]
    if any(row.place == STUB for row in rows):
        keys.append(("server that answers at once", _STUB))
    for text, colour in keys:
        canvas.rect(at, y + 13, 10, 10, colour)
        canvas.text(at + 15, y + 22, text, 11, fill=_FAINT)
        at += 29 + len(text) * 6
    y += 17
    canvas.line((x, y + 18), (x + 18, y + 18), _INK)
    canvas.text(x + 24, y + 22, "all rounds", 11, fill=_FAINT)
    canvas.goal(x + 110, y + 12, y + 24)
    canvas.text(x + 117, y + 22, "goal", 11, fill=_FAINT)
    if any(row.ceiling is not None for row in rows):
        canvas.diamond(x + 180, y + 18)
        canvas.text(x + 190, y + 22, "the driver alone: what can be reached through it", 11, fill=_FAINT)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        label = row.label.removesuffix(", stub server") + (", no checksum" if row.subject == OURS_BARE else "")
        groups.setdefault((row.place, label), []).append(row)
    top = y + 46
    bottom = top + sum(len(group) * _BAR + _GAP for group in groups.values()) + 12
    start = x + 250
    shown = [ratio for row in rows for ratio in (*row.ratios, row.ceiling) if ratio is not None]
    highest, lowest = max(shown), min(shown)
    scale = _LogScale((min(0.7, lowest * 0.9), max(4.0, highest * 1.1)), (start, x + width - 42))
    for mark in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if start <= scale(mark) <= x + width - 42:
            canvas.line((scale(mark), top - 6), (scale(mark), bottom), _INK if mark == 1 else _GRID, 1)
            canvas.text(scale(mark), top - 10, f"{mark:g}{_TIMES}", 11, anchor="middle", fill=_FAINT)
    at = top
    before = SERVER
    for (place, label), group in groups.items():
        if place != before:
            at += 12
            before = place
        middle = at + len(group) * _BAR / 2 + 4
        canvas.text(start - 10, middle, label, 12, anchor="end")
        for row in group:
            colour = _STUB if place == STUB else colours.get(row.rtt or 0.0, _DISTANCES[-1])
            _draw_ratio(canvas, row, at, scale, colour)
            at += _BAR
        at += _GAP
    return at


def _draw_ratio(canvas: _Canvas, row: Row, y: float, scale: _LogScale, colour: str) -> None:
    assert row.ratio is not None
    one, end = scale(1), scale(row.ratio)
    canvas.rect(min(one, end), y, abs(end - one), _BAR - 1.5, colour if row.ratio >= 1 else _SLOWER)
    low, high = scale(min(row.ratios)), scale(max(row.ratios))
    middle = y + (_BAR - 1.5) / 2
    canvas.line((low, middle), (high, middle), _INK, 0.8)
    if row.ceiling is not None:
        canvas.diamond(scale(row.ceiling), middle)
    digits = 0 if row.ratio >= 20 else 1 if row.ratio >= 3 else 2
    text = f"{row.ratio:.{digits}f}{_TIMES}"
    right = max(one, end, high, 0.0 if row.ceiling is None else scale(row.ceiling) + 3) + 5
    if row.goal is not None and row.goal.at_least is not None:
        goal = scale(row.goal.at_least)
        canvas.goal(goal, y - 0.5, y + _BAR - 1)
        if right - 5 < goal + 4 and goal < right + 6 * len(text):
            right = goal + 5
    canvas.text(right, y + _BAR - 2.5, text, 10)


def _draw_growth(canvas: _Canvas, growth: Sequence[Growth], x: float, y: float, width: float, height: float) -> float:
    canvas.text(x, y, "Time grows with size, and no faster", 15, font_weight="600")
    points = [point for line in growth for point in line.points]
    sizes, times = [size for size, _ in points], [seconds for _, seconds in points]
    across = _LogScale((min(sizes) * 0.8, max(sizes) * 1.25), (x + 44, x + width))
    down = _LogScale((min(times) * 0.7, max(times) * 1.5), (y + height, y + 52))
    for exponent in range(-4, 4):
        level = 10.0**exponent
        if y + 52 <= down(level) <= y + height:
            canvas.line((x + 44, down(level)), (x + width, down(level)), _GRID)
            text = f"{level:g} s" if level >= 1 else f"{level * 1000:g} ms"
            canvas.text(x + 38, down(level) + 4, text, 11, anchor="end", fill=_FAINT)
    for size in (1, 10, 100, 1024):
        at = across(size * 2**20)
        if x + 44 <= at <= x + width:
            canvas.line((at, y + 52), (at, y + height), _GRID)
            canvas.text(at, y + height + 16, f"{size} MB" if size < 1024 else "1 GB", 11, anchor="middle", fill=_FAINT)
    largest = max(sizes)
    for ours in (False, True):
        for line in (line for line in growth if (line.name == OURS) == ours):
            colour = _CONTENDERS[line.name]
            canvas.curve(
                [(across(size), down(seconds)) for size, seconds in line.points],
                colour,
                "" if line.direction == "up" else "5 4",
            )
    # Exactly linear, to compare with: through our own largest upload, a bit aside.
    reference = next((line for line in growth if line.name == OURS and line.direction == "up"), None)
    if reference is not None:
        seconds = dict(reference.points)[largest] * 2.2
        first = max(min(sizes), largest * min(times) * 0.75 / seconds)
        canvas.line(
            (across(first), down(seconds * first / largest)), (across(largest), down(seconds)), _FAINT, 1, "1.5 3"
        )
    for index, (text, colour, dash) in enumerate(
        (
            ("ours, up", _CONTENDERS[OURS], ""),
            ("ours, down", _CONTENDERS[OURS], "5 4"),
            ("exactly linear", _FAINT, "1.5 3"),
            ("pymongo, up", _CONTENDERS[PYMONGO], ""),
            ("pymongo, down", _CONTENDERS[PYMONGO], "5 4"),
        )
    ):
        at, line_y = x + index % 3 * 120, y + 18 + index // 3 * 15
        canvas.line((at, line_y), (at + 22, line_y), colour, 2, dash)
        canvas.text(at + 28, line_y + 4, text, 11, fill=_FAINT)
    return y + height + 16


def _draw_loads(canvas: _Canvas, loads: Sequence[Load], x: float, y: float, width: float, height: float) -> float:
    canvas.text(x, y, "Files of 1 KB at once, 5 ms away: throughput", 15, font_weight="600")
    y = _draw_curves(canvas, [(load, load.rates) for load in loads], "/s", x, y, width, height)
    canvas.text(x, y + 40, "The same: half of the files take at most, 99 % take at most (thin)", 15, font_weight="600")
    curves = [(load, load.median) for load in loads] + [(load, load.slowest) for load in loads]
    return _draw_curves(canvas, curves, " s", x, y + 40, width, height)


def _draw_curves(
    canvas: _Canvas,
    curves: Sequence[tuple[Load, dict[int, float]]],
    unit: str,
    x: float,
    y: float,
    width: float,
    height: float,
) -> float:
    values = [value for _, points in curves for value in points.values()]
    tasks = sorted({count for _, points in curves for count in points})
    across = _LogScale((min(tasks) * 0.8, max(tasks) * 1.25), (x + 44, x + width))
    down = _LogScale((min(values) * 0.7, max(values) * 1.5), (y + height, y + 36))
    for exponent in range(-4, 6):
        level = 10.0**exponent
        if y + 36 <= down(level) <= y + height:
            canvas.line((x + 44, down(level)), (x + width, down(level)), _GRID)
            text = f"{level * 1000:g} ms" if unit == " s" and level < 1 else f"{level:g}{unit}"
            canvas.text(x + 38, down(level) + 4, text, 11, anchor="end", fill=_FAINT)
    for count in tasks:
        canvas.text(across(count), y + height + 16, f"{count}", 11, anchor="middle", fill=_FAINT)
    for load, points in curves:
        at = [(across(count), down(value)) for count, value in sorted(points.items())]
        dash = "" if load.work == "upload" else "5 4"
        canvas.curve(at, _CONTENDERS[load.name], "1.5 3" if points is load.slowest else dash)
    names = [("ours, up", OURS, ""), ("ours, down", OURS, "5 4"), ("pymongo, up", PYMONGO, "")]
    for index, (text, name, dash) in enumerate([*names, ("pymongo, down", PYMONGO, "5 4")]):
        canvas.line((x + index * 95, y + 18), (x + index * 95 + 16, y + 18), _CONTENDERS[name], 2, dash)
        canvas.text(x + index * 95 + 20, y + 22, text, 11, fill=_FAINT)
    return y + height + 16


def _draw_costs(canvas: _Canvas, rows: Sequence[Row], x: float, y: float, width: float) -> float:
    canvas.text(x, y, "What a long stream costs: less is better", 15, font_weight="600")
    at = x
    for name, colour in _CONTENDERS.items():
        if any(name in row.values for row in rows):
            canvas.rect(at, y + 13, 10, 10, colour)
            canvas.text(at + 15, y + 22, name, 11, fill=_FAINT)
            at += 32 + len(name) * 6.2
    canvas.goal(at + 1, y + 12, y + 24)
    canvas.text(at + 7, y + 22, "goal: at most", 11, fill=_FAINT)
    y += 38
    for row in rows:
        names = [name for name in _CONTENDERS if name in row.values]
        medians = {name: row.median(name) or 0.0 for name in names}
        most = max([*medians.values(), (row.goal.at_most or 0.0) if row.goal else 0.0])
        per_unit = (width - 62) / most if most else 0.0
        canvas.text(x, y + 10, row.label.removesuffix(", stub server"), 11)
        y += 15
        goal = x + row.goal.at_most * per_unit if row.goal is not None and row.goal.at_most is not None else None
        for name in names:
            canvas.rect(x, y, medians[name] * per_unit, _BAR - 2, _CONTENDERS[name])
            text, right = in_unit(medians[name], row.unit), x + medians[name] * per_unit + 5
            if goal is not None and name == OURS:
                canvas.goal(goal, y - 1, y + _BAR - 1)
                if right - 9 < goal < right + 6 * len(text):
                    right = goal + 6
            canvas.text(right, y + _BAR - 3, text, 10)
            y += _BAR - 1
        y += 8
    return y
