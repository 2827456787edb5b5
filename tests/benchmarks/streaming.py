"""Memory, loop stalls and CPU of one long stream, in a process of its own, where nothing else leaves a mark."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bson import ObjectId

from .contenders import contender
from .interface import MOTOR, OURS, PYMONGO
from .results import STUB, Row, goal_of
from .stub import stub_id
from .work import size_text

__all__ = ["PeakMemory", "measure_streams"]

_ROOT = Path(__file__).resolve().parents[2]
_MB = 1024 * 1024
_TICK = 0.002
_UP, _DOWN = "up", "down"
_WAYS = {_UP: "upload", _DOWN: "download"}


def measure_streams(
    key: str,
    uri: str,
    options: Mapping[str, Any],
    sizes: Sequence[int],
    names: Sequence[str],
    rounds: int,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure streams of all sizes, both ways, on one server, and return the rows."""
    found: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for size in sizes:
        for turn in range(rounds):
            id = str(stub_id(size)) if key == STUB else ""
            turned = [*names[turn % len(names) :], *names[: turn % len(names)]]
            for way in (_UP, _DOWN):
                for name in turned:
                    say(f"{key}: {_WAYS[way]} {size_text(size)}, round {turn + 1} of {rounds}: {name}")
                    keep = key == STUB or (way == _UP and name == turned[-1])
                    answer = _in_child(name, uri, options, way, size, id, keep or way == _DOWN)
                    found.setdefault((size, way, name), []).append(answer)
                    id = answer["id"] if keep and way == _UP and key != STUB else id
            if key != STUB:
                _delete(uri, options, id)
    return _rows(key, sizes, found)


def _rows(
    key: str, sizes: Sequence[int], found: Mapping[tuple[int, str, str], Sequence[Mapping[str, Any]]]
) -> list[Row]:
    where = ", stub server" if key == STUB else ""
    units = {"memory": ("memory above idle", "MB"), "stall": ("longest loop stall", "ms"), "cpu": ("CPU per GB", "s")}
    rows = []
    for (measured, (text, unit)), way, size in itertools.product(units.items(), _WAYS, sizes):
        if size != max(sizes) and measured == "cpu":
            continue
        label = f"{_WAYS[way]} {size_text(size)}: {text}{where}"
        work = f"{measured}-{way}"
        row = Row(work, label, key, None, unit, OURS, goal_of(work, key, None))
        for name in (PYMONGO, OURS, MOTOR):
            if (size, way, name) in found:
                row.values[name] = [float(each[measured]) for each in found[size, way, name]]
        rows.append(row)
    return rows


def _in_child(
    name: str, uri: str, options: Mapping[str, Any], way: str, size: int, id: str, keep: bool
) -> dict[str, Any]:
    order = {"name": name, "uri": uri, "options": options, "way": way, "size": size, "id": id, "keep": keep}
    command = [sys.executable, "-m", "tests.benchmarks.streaming", json.dumps(order)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _delete(uri: str, options: Mapping[str, Any], id: str) -> None:
    async def delete() -> None:
        async with contender(PYMONGO, uri, options) as one:
            await one.delete("streams", ObjectId(id))

    asyncio.run(delete())


# In the child


async def _measured(order: Mapping[str, Any]) -> dict[str, Any]:
    async with contender(order["name"], order["uri"], order["options"]) as one:
        warm = await one.upload("streams", bytes(1024))
        with contextlib.suppress(Exception):  # the stub keeps nothing, but asking has warmed this way up
            await one.read("streams", warm)
        block = os.urandom(_MB)
        watch = _LoopWatch()
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(0.1)
        id: Any = ObjectId(order["id"]) if order["id"] else None
        gc.collect()
        memory = PeakMemory()
        await asyncio.sleep(0.05)  # what these two took is no stall of the contender's
        watch.longest = 0.0
        cpu = time.process_time()
        if order["way"] == _UP:
            id = await one.upload_blocks("streams", block, order["size"] // _MB)
        else:
            assert await one.stream("streams", id) == order["size"]
        cpu = time.process_time() - cpu
        above = memory.above_idle()
        watching.cancel()
        if not order["keep"]:
            await one.delete("streams", id)
    return {
        "id": str(id),
        "memory": above / _MB,
        "stall": watch.longest * 1000,
        "cpu": cpu / order["size"] * 1024 * _MB,
    }


class _LoopWatch:
    """How late a timer came, at worst: for so long nothing else could run in this loop."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_TICK)
            self.longest = max(self.longest, time.perf_counter() - before - _TICK)


class PeakMemory:
    """The highest resident size from now on, above the one of now, in bytes."""

    def __init__(self) -> None:
        # Linux forgets a process's peak on demand; elsewhere the peak of its whole life has to do.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._idle = self._status("VmRSS") or _peak()

    def above_idle(self) -> int:
        return (self._status("VmHWM") or _peak()) - self._idle

    @staticmethod
    def _status(name: str) -> int | None:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measured(json.loads(sys.argv[1])))))
