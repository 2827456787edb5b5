"""`python -m tests.benchmarks`: ours beside pymongo's async bucket and Motor's, in one run.

Prints a table, and writes it beside a picture. Contenders take turns at every operation, so that a machine whose
speed changes changes it for all of them; what counts is the ratio of one round, and the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gridproxy.embedded import EmbeddedServerUnavailable
from tests.proxy import child_server, delaying_proxy

from .concurrency import TASKS, Load, measure_burst, measure_loads
from .interface import DRIVER, MOTOR, OURS_BARE, names
from .models import measure_import, measure_models
from .plot import draw
from .results import SERVER, STUB, Growth, Row, compared, markdown, table
from .servers import address, benchmark_server, moved, ping
from .serving import measure_serving
from .streaming import measure_streams
from .wire import Wire, measure_wire
from .work import FULL, QUICK, WORKS, Sizes, at_place, make_files, measure_growth, measure_works, size_text, stub_files

_OTHER_WORKS = ("growth", "wire", "streams", "serving", "tasks", "burst", "models", "import")
_PICTURE = Path(__file__).with_name("benchmark.svg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. The exit code says whether it could measure."""
    given = _parser().parse_args(arguments)
    say = _Progress()
    with ExitStack() as stack:
        try:
            uri, options, label = stack.enter_context(benchmark_server())
        except EmbeddedServerUnavailable as error:
            print(error, file=sys.stderr)
            return 1
        run = _Run(given, uri, options, stack, say)
        for line in run.headline(label):
            print(line, flush=True)
        try:
            run.measure()
        except BaseException:
            say.end()
            print(table(run.rows, with_goals=False))
            print("\nThe run was cut off: the rows above are what it has found, and nothing was written.")
            raise
    say.end()
    _publish(run, given, label)
    return 0


def _publish(run: _Run, given: argparse.Namespace, label: str) -> None:
    with_goals = not given.quick
    print(table(run.rows, with_goals=with_goals))
    remarks = list(run.remarks())
    print("", *remarks, sep="\n")
    if given.compare:
        print(f"\nBeside {given.compare}:\n{compared(run.rows, json.loads(given.compare.read_text()))}")
    if given.quick:
        print("\n--quick: the sizes are not the issue's, so its goals are not shown.")
    given.plot.write_text(draw(run.rows, run.growth, run.loads, run.caption(label), with_goals=with_goals))
    page = given.plot.with_suffix(".md")
    page.write_text(markdown(run.rows, run.headline(label), remarks, with_goals=with_goals))
    written = [given.plot, page]
    if given.json:
        given.json.write_text(json.dumps(run.as_json(label), indent=1) + "\n")
        written.append(given.json)
    print("\nWritten:", *written)


def _parser() -> argparse.ArgumentParser:
    known = [*(work.name for work in WORKS), *_OTHER_WORKS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a trial, and not the figures")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of each work (3, quick: 2)")
    parser.add_argument(
        "--rtt", type=_distances, default=[0.0, 5.0, 25.0], metavar="MS,...", help="round-trip times (0,5,25)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=known, metavar="NAME", help="just these works: " + ", ".join(known)
    )
    parser.add_argument(
        "--plot", type=Path, default=_PICTURE, metavar="PATH", help="the picture, and beside it the table (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every single value, too")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print this run beside an earlier one's --json")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _distances(text: str) -> list[float]:
    found = sorted({float(part) for part in text.split(",")})
    if found[0] < 0:
        raise ValueError(text)
    return found


class _Progress:
    """One line on standard error that is always the newest."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        line = f"[{time.monotonic() - self._start:4.0f} s] {text}"
        if self._live:
            print(f"\r\x1b[K{line[:150]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _Run:
    """One run of the command: what it was told, and what it found."""

    def __init__(
        self,
        given: argparse.Namespace,
        uri: str,
        options: Mapping[str, Any],
        stack: ExitStack,
        say: Callable[[str], None],
    ) -> None:
        self.rows: list[Row] = []
        self.growth: list[Growth] = []
        self.loads: list[Load] = []
        self.wire: Wire | None = None
        self._given = given
        self._uri = uri
        self._options = options
        self._stack = stack
        self._say = say
        self._sizes: Sizes = QUICK if given.quick else FULL
        self._rounds: int = given.rounds or (2 if given.quick else 3)
        self._names = names()
        self._works = [work for work in WORKS if not given.only or work.name in given.only]
        self._distances: dict[float, float] = {}
        self._began = time.monotonic()

    def headline(self, label: str) -> Iterator[str]:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pymongo", "anyio"))
        motor = f"Motor {importlib.metadata.version('motor')}" if MOTOR in self._names else "Motor is not installed"
        yield f"Python {platform.python_version()}, {versions}, {motor}; {os.cpu_count()} cores, {platform.platform()}"
        yield f"server: {label}"
        yield f"{self._rounds} rounds; medians; ratios are of the same round"

    def caption(self, label: str) -> str:
        quick = "A QUICK TRIAL, not the figures. " if self._given.quick else ""
        server = label.partition(",")[0].partition(" (")[0]
        return (
            f"{quick}pymongo {importlib.metadata.version('pymongo')}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, {server}. Medians of {self._rounds} rounds."
        )

    def measure(self) -> None:
        if self._works:
            asyncio.run(self._measure_works())
        if self._wanted("growth"):
            rounds = min(3, self._rounds)
            for key, uri, options in ((SERVER, self._uri, self._options), (STUB, self._stub, {})):
                self.growth += asyncio.run(measure_growth(key, uri, options, self._sizes.growth, rounds, self._say))
        if self._wanted("wire"):
            self._say("the wire itself")
            self.wire = measure_wire(self._stub_port, self._sizes.large, self._rounds)
        if self._wanted("streams"):
            stub = self._stub
            unwanted = (OURS_BARE, DRIVER, MOTOR) if self._given.quick else (OURS_BARE, DRIVER)
            streaming = [name for name in self._names if name not in unwanted]
            rounds = min(3, self._rounds)
            self.rows += measure_streams(STUB, stub, {}, self._sizes.streams, streaming, rounds, self._say)
            if not self._given.quick:
                self.rows += measure_streams(
                    SERVER, self._uri, self._options, self._sizes.streams[-1:], streaming, 1, self._say
                )

        if self._wanted("serving"):
            requests = 200 if self._given.quick else 1500
            self.rows += measure_serving(self._uri, self._options, requests, self._rounds, self._say)

        if self._wanted("tasks"):
            tasks, operations = ((1, 20), 60) if self._given.quick else (TASKS, 600)
            self.loads = asyncio.run(measure_loads(self._away(5.0), self._options, tasks, operations, self._say))
        if self._wanted("burst"):
            self.rows.append(measure_burst(self._uri, self._options, self._rounds, self._say))
        if self._wanted("models"):
            self.rows += measure_models(self._uri, self._options, self._rounds, self._say)
        if self._wanted("import"):
            self.rows.append(measure_import(self._rounds, self._say))

    def _wanted(self, name: str) -> bool:
        return not self._given.only or name in self._given.only

    @functools.cached_property
    def _stub_port(self) -> int:
        return self._stack.enter_context(child_server("tests.benchmarks.stub"))

    @property
    def _stub(self) -> str:
        return f"mongodb://127.0.0.1:{self._stub_port}/"

    async def _measure_works(self) -> None:
        self._say("files to read from")
        files = await make_files(self._uri, self._options, self._sizes)
        for rtt in self._given.rtt:
            works = [work for work in self._works if rtt <= work.most_rtt]
            uri = self._away(rtt)
            async with at_place(SERVER, rtt, uri, self._options, self._names, self._sizes, files) as place:
                self.rows += await measure_works(works, place, self._rounds, self._say)
        # The same work at all distances stands together.
        order = {work.label(self._sizes): index for index, work in enumerate(self._works)}
        self.rows.sort(key=lambda row: (order[row.label.removesuffix(": CPU")], row.subject))
        works = [work for work in self._works if work.stub]
        if works:
            there = stub_files(self._sizes)
            async with at_place(STUB, 0.0, self._stub, {}, self._names, self._sizes, there) as place:
                self.rows += await measure_works(works, place, self._rounds, self._say)

    def _away(self, rtt: float) -> str:
        if not rtt:
            return self._uri
        host, port = address(self._uri, self._options)
        uri = moved(self._uri, self._stack.enter_context(delaying_proxy(host, port, rtt / 1000)))
        self._distances[rtt] = ping(uri, self._options) * 1000
        return uri

    def remarks(self) -> Iterator[str]:
        """Return the remarks, one line each."""
        if any(row.ceiling is not None for row in self.rows):
            yield (
                f"{DRIVER}: pymongo's own insert_many, bulk_write and find in the best shape known, nothing hashed, "
                "checked or taken back; '/ driver' is pymongo's bucket over it: what this driver lets anybody reach"
            )
        if MOTOR not in self._names:
            yield "Motor is not installed (pip install motor), so its column is empty."
        if self._distances:
            measured = ", ".join(f"{rtt:g} ms: a ping takes {ping:.1f} ms" for rtt, ping in self._distances.items())
            yield f"distances: {measured}"
        for load in self.loads:
            rates = ", ".join(
                f"{tasks}: {rate:.0f}/s, p50 {load.median[tasks] * 1000:.1f}, p99 {load.slowest[tasks] * 1000:.1f} ms"
                for tasks, rate in load.rates.items()
            )
            yield f"{load.work}s of 1 KB at 5 ms, {load.name}, by the number of tasks: {rates}"
        if self.wire is not None:
            yield (
                f"the wire itself ({size_text(self.wire.size)} through one blocking socket, nothing encoded, decoded "
                f"or kept): {_clocks('up', self.wire.up)}; {_clocks('down', self.wire.down)}"
            )
        for line in self.growth:
            if line.exponent is not None:
                times = ", ".join(f"{size / 2**20:g} MB {seconds:.3g} s" for size, seconds in line.points)
                yield f"growth, {line.place}, {line.name} {line.direction}: size^{line.exponent:.2f} ({times})"
        yield f"took {time.monotonic() - self._began:.0f} s"

    def as_json(self, label: str) -> dict[str, Any]:
        return {
            "about": list(self.headline(label)),
            "quick": self._given.quick,
            "pings": self._distances,
            "rows": [
                {**asdict(row), "ratio": row.ratio, "ceiling": row.ceiling, "reached": row.reached} for row in self.rows
            ],
            "growth": [{**asdict(line), "exponent": line.exponent} for line in self.growth],
            "loads": [asdict(load) for load in self.loads],
            "wire": asdict(self.wire) if self.wire is not None else None,
        }


def _clocks(way: str, samples: Sequence[tuple[float, float]]) -> str:
    wall, cpu = (statistics.median(clock) * 1000 for clock in zip(*samples, strict=True))
    return f"{way} {wall:.1f} ms, of CPU {cpu:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
