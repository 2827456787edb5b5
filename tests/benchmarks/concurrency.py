"""Many small files at once: throughput and latency against the number of tasks, and the memory of 200 uploads."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .contenders import contender
from .interface import OURS, PYMONGO, Contender
from .results import SERVER, Row, goal_of
from .streaming import PeakMemory

__all__ = ["Load", "measure_burst", "measure_loads"]

_ROOT = Path(__file__).resolve().parents[2]
_KB, _MB = 1024, 1024 * 1024
TASKS = (1, 2, 5, 10, 20, 50, 100, 200)
_OPERATIONS = 600
_BURST = 200


@dataclass
class Load:
    """Operations a second and latencies in seconds, by the number of tasks that run at once."""

    name: str
    work: str
    rates: dict[int, float] = field(default_factory=dict)
    median: dict[int, float] = field(default_factory=dict)
    slowest: dict[int, float] = field(default_factory=dict)  # the 99th percentile


async def measure_loads(
    uri: str, options: Mapping[str, Any], tasks: Sequence[int], operations: int, say: Callable[[str], None]
) -> list[Load]:
    """Download and upload files of 1 KB with each number of tasks."""
    found = {(name, work): Load(name, work) for name in (PYMONGO, OURS) for work in ("download", "upload")}
    content = os.urandom(_KB)
    async with AsyncExitStack() as stack:
        contenders = {name: await stack.enter_async_context(contender(name, uri, options)) for name in (PYMONGO, OURS)}
        ids = [await contenders[OURS].upload("loads", content) for _ in range(200)]
        for count in tasks:
            for name, one in contenders.items():
                works: dict[str, Callable[[int], Awaitable[object]]] = {
                    "download": partial(_download, one, ids),
                    "upload": partial(_upload, one, f"loads_{name}", content),
                }
                for work, run in works.items():
                    say(f"{count} tasks: {work}, {name}")
                    await _timed(run, count, count)  # opens the connections
                    took, latencies = await _timed(run, count, max(operations, 3 * count))
                    load = found[name, work]
                    load.rates[count] = len(latencies) / took
                    load.median[count] = statistics.median(latencies)
                    load.slowest[count] = statistics.quantiles(latencies, n=100)[98]
    return list(found.values())


async def _download(one: Contender, ids: Sequence[Any], n: int) -> None:
    await one.read("loads", ids[n % len(ids)])


async def _upload(one: Contender, bucket: str, content: bytes, _: int) -> None:
    await one.upload(bucket, content)


async def _timed(run: Callable[[int], Awaitable[object]], tasks: int, operations: int) -> tuple[float, list[float]]:
    """Run the operations with so many tasks. Return the seconds of all, and those of each."""
    numbers = iter(range(operations))
    latencies = []

    async def task() -> None:
        for n in numbers:
            before = time.perf_counter()
            await run(n)
            latencies.append(time.perf_counter() - before)

    before = time.perf_counter()
    await asyncio.gather(*(task() for _ in range(tasks)))
    return time.perf_counter() - before, latencies


def measure_burst(uri: str, options: Mapping[str, Any], rounds: int, say: Callable[[str], None]) -> Row:
    """Measure the peak of memory while 200 files of 1 MB are uploaded at once, each time in a process of its own."""
    label = f"{_BURST} uploads of 1 MB at once: memory above idle, for each byte in flight"
    row = Row("memory-burst", label, SERVER, None, "bytes", OURS, goal_of("memory-burst", SERVER, None))
    for turn in range(rounds):
        say(f"{_BURST} uploads at once, round {turn + 1} of {rounds}")
        command = [sys.executable, "-m", "tests.benchmarks.concurrency", json.dumps({"uri": uri, "options": options})]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, timeout=120)
        row.values.setdefault(OURS, []).append(float(done.stdout))
    return row


async def _burst(order: Mapping[str, Any]) -> float:
    async with contender(OURS, order["uri"], order["options"]) as one:
        await one.upload("burst", bytes(_KB))
        contents = [os.urandom(_MB) for _ in range(_BURST)]
        memory = PeakMemory()
        await asyncio.gather(*(one.upload("burst", content) for content in contents))
        # The contents themselves are in flight, too.
        return memory.above_idle() / (_BURST * _MB) + 1


if __name__ == "__main__":
    print(asyncio.run(_burst(json.loads(sys.argv[1]))))
