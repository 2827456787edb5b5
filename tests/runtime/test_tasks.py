"""Work in separate tasks and threads: how it ends if its caller is cancelled, and what the caller's code may raise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from gridproxy import AsyncGridFile, Bucket, FileOptions
from gridproxy.runtime import tasks
from gridproxy.runtime.tasks import run_to_completion
from gridproxy.runtime.thread_guard import ThreadGuard

from ..faults.whole import files_and_orphans
from ..observing import Database

SOON = 20.0  # seconds, for what takes no time


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SETTLE_SECONDS", 0.2)


async def stubborn(ends: list[str]) -> None:
    """Ignore every cancellation."""
    for _ in range(40):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            ends.append("cancelled")


@pytest.mark.usefixtures("short")
async def test_work_that_ignores_cancellations_does_not_hold_its_caller() -> None:
    ends: list[str] = []
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run_to_completion(stubborn(ends))
    assert time.monotonic() - begun < SOON
    assert ends


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_task_that_was_cancelled_can_go_on(times: int) -> None:
    async def work() -> None:
        await run_to_completion(asyncio.sleep(100))

    task = asyncio.create_task(work())
    for _ in range(times):
        await asyncio.sleep(0.02)
        task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert len(caught.value.__notes__) == 1
    with anyio.move_on_after(0.1) as scope:
        await run_to_completion(asyncio.sleep(100))
    assert scope.cancelled_caught
    assert await run_to_completion(asyncio.sleep(0, "done")) == "done"


@pytest.mark.usefixtures("short")
async def test_nothing_begins_in_work_that_was_given_up() -> None:
    begun: list[str] = []

    async def clean_up() -> None:
        begun.append("clean-up")

    async def work() -> None:
        try:
            await run_to_completion(asyncio.sleep(100))
        finally:
            await run_to_completion(clean_up())

    with anyio.move_on_after(0.1):
        await run_to_completion(work())
    assert begun == []


# SystemExit and KeyboardInterrupt of the caller's code


def exit_now(*_: object) -> Any:
    raise SystemExit(3)


def interrupt_now(*_: object) -> Any:
    raise KeyboardInterrupt


class Leaving:
    """A source that leaves the program in its second read."""

    def __init__(self, leave: Callable[..., Any]) -> None:
        self._leave = leave
        self._reads = 0

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        return bytes(1000) if self._reads == 1 else self._leave()


def leaving(leave: Callable[..., Any]) -> Iterator[bytes]:
    yield bytes(1000)
    leave()


@pytest.mark.parametrize(
    ("leave", "error"), [(exit_now, SystemExit), (interrupt_now, KeyboardInterrupt)], ids=["exit", "interrupt"]
)
@pytest.mark.usefixtures("small_batches")
async def test_leaving_in_the_callers_code_reaches_the_caller_and_stores_nothing(
    leave: Callable[..., Any], error: type[BaseException], database: Database, bucket: Bucket
) -> None:
    checked = AsyncGridFile(options=FileOptions(bucket=bucket, validators=[leave]))
    calls: list[Callable[[], Any]] = [
        lambda: bucket.upload(Leaving(leave)),
        lambda: bucket.upload(leaving(leave)),
        lambda: bucket.upload_many([b"first", Leaving(leave)]),
        lambda: bucket.upload(bytes(5000), progress=leave),
        lambda: checked.put(b"content"),
        lambda: checked.put(bytes(100_000)),
    ]
    for call in calls:
        with pytest.raises(error):
            await call()
    assert await files_and_orphans(database) == ({}, [])
    assert not checked


async def test_leaving_in_a_write_of_a_document_reaches_the_caller() -> None:
    async def write() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        await run_to_completion(write())
    assert caught.value.code == 3


# Threads


async def test_an_upload_of_a_silent_pipe_can_be_cancelled(bucket: Bucket, database: Database, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    begun = time.monotonic()
    with anyio.move_on_after(0.2) as scope:
        await bucket.upload(pipe)  # waits for a writer, in open()
    assert scope.cancelled_caught
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)  # the first thread opens the pipe now, and closes it
    os.close(writer)
    other = tmp_path / "other"
    os.mkfifo(other)
    task = asyncio.create_task(bucket.upload(other))
    writer = await asyncio.to_thread(os.open, other, os.O_WRONLY)
    os.write(writer, b"some")
    await asyncio.sleep(0.1)
    task.cancel()  # waits for more, in read()
    await asyncio.wait({task})
    os.close(writer)
    assert task.cancelled()
    assert time.monotonic() - begun < SOON
    assert await files_and_orphans(database) == ({}, [])


async def test_a_pipe_is_stored_as_a_whole(bucket: Bucket, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = asyncio.create_task(bucket.upload(pipe))
    await asyncio.to_thread(pipe.write_bytes, bytes(10_000))
    info = await task
    assert (info.length, info.filename) == (10_000, "pipe")


@pytest.mark.usefixtures("short")
async def test_a_silent_file_of_the_caller_is_left_to_its_thread(bucket: Bucket, database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        begun = time.monotonic()
        with anyio.move_on_after(0.2) as scope:
            await bucket.upload(process.stdout)
        assert scope.cancelled_caught
        assert time.monotonic() - begun < SOON
        process.kill()
    assert await files_and_orphans(database) == ({}, [])


async def test_a_slow_validator_can_be_cancelled(bucket: Bucket, database: Database) -> None:
    free = threading.Event()
    file = AsyncGridFile(options=FileOptions(bucket=bucket, validators=[lambda info, head: free.wait(60)]))
    begun = time.monotonic()
    try:
        with anyio.move_on_after(0.2) as scope:
            await file.put(b"content")
        assert scope.cancelled_caught
        assert time.monotonic() - begun < SOON
    finally:
        free.set()
    assert await files_and_orphans(database) == ({}, [])
    assert not file


PIPE_SCRIPT = """
import asyncio, pathlib, sys
from pymongo import AsyncMongoClient
from gridproxy import Bucket

async def main():
    async with AsyncMongoClient(sys.argv[1]) as client:
        async with asyncio.timeout(0.3):
            await Bucket(client["pipe"]).upload(pathlib.Path(sys.argv[2]))

try:
    asyncio.run(main())
except TimeoutError:
    print("timeout")
"""


def test_a_silent_pipe_does_not_hold_the_end_of_the_program(mongodb_uri: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", PIPE_SCRIPT, mongodb_uri, str(pipe)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.returncode) == ("timeout\n", 0), run.stderr


def test_a_file_is_closed_by_the_last_one_who_uses_it() -> None:
    ended: list[str] = []
    guard = ThreadGuard(lambda: ended.append("end"))

    def work() -> str:
        guard.finish()
        assert ended == []
        return "result"

    assert guard.run(work) == "result"
    assert ended == ["end"]
    guard.finish()
    assert ended == ["end"]
    with pytest.raises(ValueError, match="closed file"):
        guard.run(work)
