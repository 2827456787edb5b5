"""`python -m tests.benchmarks.pictures`: what hostile and honest pictures cost. It needs no server.

It prints three tables: a picture in a thread beside one in a worker process, memory and time of the largest file of
each format that the default limits accept, and what an honest picture waits for while ten hostile uploads run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pillow_heif
from PIL import Image

from gridproxy import ImageOptions
from gridproxy.errors import PictureRefused
from gridproxy.gridfs.content import decoding
from gridproxy.gridfs.content.picture_headers import read_header
from gridproxy.gridfs.operations import decode_picture
from gridproxy.runtime.client_state import DecodingLimits
from tests.security import hostile_pictures as hostile

_ROOT = Path(__file__).resolve().parents[2]
_OPTIONS = ImageOptions(thumbnail_size=(150, 150, True), variants={"small": (800, 800)})
_MB = 1024 * 1024


@dataclass
class Cost:
    """What decoding one file took in a process of its own, without limits."""

    name: str
    size: int
    estimate: int
    memory: int
    seconds: float
    result: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pictures", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller pictures")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(asdict(_measure(given.measure))))
        return 0
    asyncio.run(_compare_places((64, 500) if given.quick else (64, 500, 1_000, 3_000)))
    if not given.quick:
        _worst()
    asyncio.run(_waiting(2 if given.quick else 10))
    return 0


async def _decode(limits: DecodingLimits, data: bytes, options: ImageOptions = _OPTIONS) -> None:
    await decode_picture.decode_picture(limits, data, options, field=None, filename=None)


async def _seconds(work: Callable[[], Awaitable[object]], times: int) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        await work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


async def _compare_places(sides: Sequence[int]) -> None:
    limits = DecodingLimits()
    print("| picture | in a thread | in a worker process |\n|---|---:|---:|")
    job = _OPTIONS.job({})
    start = time.perf_counter()
    await decode_picture._Decoding(limits, hostile.png(64, 64), job, None, 60).run()
    first = time.perf_counter() - start
    for side in sides:
        data = hostile.saved(Image.effect_noise((side, side), 50), "PNG")
        thread = await _seconds(partial(decode_picture._in_thread, limits, data, job), 5)
        decoded = decode_picture._Decoding(limits, data, job, read_header(data), 60)
        worker = await _seconds(decoded.run, 5)
        print(f"| PNG of {side} x {side} | {thread * 1000:.1f} ms | {worker * 1000:.1f} ms |")
    print(f"\nThe first picture in a worker process took {first * 1000:.0f} ms.\n")


def _measure(name: str) -> Cost:
    Image.MAX_IMAGE_PIXELS = None
    pillow_heif.register_heif_opener()
    Image.init()
    data = hostile.WORST[name]()
    decoding.make(hostile.png(8, 8), _OPTIONS.job({}))
    # The peak so far is that of making the file, so it is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    start = time.perf_counter()
    estimate, result = 0, "accepted"
    try:
        original = decoding.Original(data, _OPTIONS.job({}))
        estimate = original.memory
        original.made()
    except decoding.Refused as error:
        result = error.reason
    return Cost(name, len(data), estimate, _peak() - before, time.perf_counter() - start, result)


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def _worst() -> None:
    allowed = DecodingLimits().memory.heavy
    print("| file | size | estimated | used | time | with the default limits |\n|---|---:|---:|---:|---:|---|")
    for name in hostile.WORST:
        command = [sys.executable, "-m", "tests.benchmarks.pictures", "--measure", name]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
        cost = Cost(**json.loads(done.stdout))
        result = cost.result
        if result == "accepted" and cost.estimate > allowed:
            result = "refused: memory"
        size = f"{cost.size:,} bytes"
        memory = f"{cost.estimate / _MB:.0f} MB | {cost.memory / _MB:.0f} MB"
        print(f"| {name} | {size} | {memory} | {cost.seconds:.1f} s | {result} |", flush=True)
    print()


async def _waiting(attackers: int) -> None:
    limits = DecodingLimits()
    small, photo = hostile.png(64, 64), hostile.saved(Image.new("RGB", (4_000, 3_000)), "JPEG")
    hostile_files = [
        hostile.jpeg_of_scans(4_000, 20_000),
        hostile.saved(hostile.black(6_000), "TIFF", compression="tiff_adobe_deflate"),
        hostile.gif(900, 100),
    ]
    alone = [await _seconds(partial(_decode, limits, data), 5) for data in (small, photo)]
    ended = asyncio.Event()

    async def attack(data: bytes) -> None:
        while not ended.is_set():
            with contextlib.suppress(PictureRefused):
                await _decode(limits, data)

    running = [asyncio.ensure_future(attack(hostile_files[at % 3])) for at in range(attackers)]
    await asyncio.sleep(3)
    beside = [await _seconds(partial(_decode, limits, data), 5) for data in (small, photo)]
    for each in running:
        each.cancel()
    await asyncio.wait(running)
    print(f"| honest picture | alone | beside {attackers} hostile uploads |\n|---|---:|---:|")
    for name, first, second in zip(("PNG of 64 x 64", "JPEG of 12 megapixels"), alone, beside, strict=True):
        print(f"| {name} | {first:.3f} s | {second:.3f} s |")


if __name__ == "__main__":
    sys.exit(main())
