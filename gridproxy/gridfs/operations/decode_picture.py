"""Decides where a picture is decoded, and with which limits.

A small picture is decoded in a thread, because it costs little whatever its bytes are. Every other one is decoded in
a worker process, which is killed if it takes too long or its caller is cancelled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from gridproxy.gridfs.content import decoding
from gridproxy.gridfs.content.decoding import Job, Refused, Tally
from gridproxy.gridfs.content.images import ImageOptions, Picture, picture_of, refusal
from gridproxy.gridfs.content.picture_headers import PictureHeader, is_small, is_usual, read_header
from gridproxy.runtime.client_state import DecodingLimits
from gridproxy.runtime.tasks import in_thread
from gridproxy.runtime.worker_process import Worker, WorkerDied, WorkerPool, can_start_workers

_MB = 1024 * 1024
# A picture that should be decoded soon, and is not, gives its place to others and continues among the slow ones.
_USUAL_SECONDS = 4.0
# A worker may use so much more than it needs for the pixels: the code of encoders, and the stacks of their threads.
_WORKER_BYTES = 128 * _MB + 16 * _MB * (os.cpu_count() or 1)
# A picture that no worker can decode is decoded in a thread, which nothing can stop.
_THREAD_PIXELS = 25_000_000
_START_SECONDS = 30.0


@cache
def _workers() -> WorkerPool:
    return WorkerPool(Path(decoding.__file__), decoding.send, decoding.receive, most_idle=os.cpu_count() or 1)


@cache
def _is_script() -> bool:
    return Path(decoding.__file__).is_file()  # not if the package is imported from a zip file


async def decode_picture(
    limits: DecodingLimits, data: bytes, options: ImageOptions, *, field: str | None, filename: str | None
) -> Picture:
    """Decode a picture and make its variants. Raises `PictureRefused`."""
    plugins, unknown = decoding.plugin_references()
    job = options.job(plugins)
    header = read_header(data)
    try:
        if header is not None:
            Tally(job["max_pixels"], job["max_frames"]).add(header.width, header.height)
        if is_small(data, header, options):
            made = await _in_thread(limits, data, job)
        elif not (can_start_workers() and _is_script()) or unknown.intersection(decoding.accepting(data)):
            job["max_pixels"] = min(job["max_pixels"], _THREAD_PIXELS)
            made = await _in_thread(limits, data, job)
        else:
            made = await _Decoding(limits, data, job, header, options.timeout).run()
        return picture_of(made, data)
    except Refused as error:
        raise refusal(error, data, field, filename) from error


async def _in_thread(limits: DecodingLimits, data: bytes, job: Job) -> dict[str, Any]:
    async with limits.threads:
        return await in_thread(partial(decoding.make, data, job))


class _Decoding:
    """One picture in a worker process."""

    def __init__(
        self, limits: DecodingLimits, data: bytes, job: Job, header: PictureHeader | None, timeout: float
    ) -> None:
        self._limits = limits
        self._data = data
        self._job = job
        self._timeout = timeout
        self._usual = is_usual(data, header)
        canvas = 0 if header is None else header.width * header.height
        # Opening takes some copies of the file, and of WebP the canvas, whose pages are not used yet.
        self._opening = _WORKER_BYTES + 4 * len(data) + 8 * canvas

    async def run(self) -> dict[str, Any]:
        if self._usual:
            try:
                return await self._attempt(min(self._timeout, _USUAL_SECONDS), heavy=False)
            except TimeoutError:
                pass
        try:
            return await self._attempt(self._timeout, heavy=True)
        except TimeoutError:
            raise Refused(f"decoding the picture takes more than {self._timeout:g} seconds") from None

    async def _attempt(self, seconds: float, *, heavy: bool) -> dict[str, Any]:
        async with self._limits.processes.hold(1, heavy=heavy), _worker(reusable=not heavy) as worker:
            await _Time(_START_SECONDS).spend(worker, {"do": "wait"})
            left = _Time(seconds)
            inspect = {"do": "inspect", "job": self._job, "memory": self._opening, "slow": heavy}
            head, _ = await left.spend(worker, inspect, self._data)
            memory: int = head["memory"]
            most = self._limits.memory.heavy
            if memory > most:
                raise Refused(
                    f"decoding the picture takes about {memory // _MB} MB, more than the {most // _MB} MB allowed here",
                    most,
                    memory,
                )
            async with self._limits.memory.hold(memory, heavy=memory > most // 6):
                made, blobs = await left.spend(worker, {"do": "make", "memory": memory + _WORKER_BYTES})
        for each in (made["main"], made["thumbnail"], *made["variants"].values()):
            if each is not None and each["data"] is not None:
                each["data"] = blobs[each["data"]]
        return {key: made[key] for key in ("main", "thumbnail", "variants")}


class _Time:
    """The seconds that a picture has left. What it waits for is not counted."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    async def spend(self, worker: Worker, head: dict[str, Any], *blobs: bytes) -> decoding.Message:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(self._left):
            answer, data = await worker.call(head, *blobs)
        self._left -= loop.time() - start
        if (refused := answer.get("refused")) is not None:
            raise Refused(**refused)
        return answer, data


@asynccontextmanager
async def _worker(*, reusable: bool) -> AsyncIterator[Worker]:
    """Hold a worker. It is killed if the block fails otherwise than by a refusal, and if it is not reusable."""
    workers = _workers()
    worker = workers.take()
    done = False
    try:
        yield worker
        done = reusable
    except Refused:
        done = reusable
        raise
    except WorkerDied as error:
        raise Refused(f"the decoder failed: {error}", undecodable=True) from error
    finally:
        if done:
            workers.give_back(worker)
        else:
            worker.kill()
