"""One thread runs the event loop of all blocking calls: what interrupts it, what it refuses, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gridproxy import EventLoopRunning, FileClosed, FileInfo
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.operations.find import FoundFiles
from gridproxy.gridfs.upload.upload import Upload
from gridproxy.sync import Bucket, Client, portal
from gridproxy.sync.portal import current_portal


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


async def endless() -> AsyncIterator[bytes]:
    yield b"1" * 1000
    interrupt()
    await asyncio.sleep(60)


def slow() -> Iterator[bytes]:
    yield b"1" * 1000
    interrupt()
    time.sleep(60)


INTERRUPTED: dict[str, Callable[[Bucket], object]] = {
    "waiting": lambda bucket: bucket.upload(endless()),
    "in the source": lambda bucket: bucket.upload(slow()),
    "in a stream": lambda bucket: bucket.upload_many([b"1", endless()]),
}


@pytest.mark.usefixtures("_interruptible", "small_batches")
@pytest.mark.parametrize("name", INTERRUPTED)
def test_ctrl_c_cancels_the_operation_which_takes_itself_back(blocking: Bucket, name: str) -> None:
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        INTERRUPTED[name](blocking)
    assert time.monotonic() - before < 8
    assert list(blocking.find()) == []
    assert list(blocking.check()) == []


@pytest.mark.parametrize("moment", ["before the start", "at the start", "after the end"])
def test_an_exception_at_any_moment_is_raised_at_once(
    blocking: Bucket, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run_jobs = portal._Call._run_jobs
    interrupted: list[str] = []

    def run_jobs_interrupted(call: Any) -> None:
        if interrupted or moment == "after the end":
            run_jobs(call)
        if not interrupted:
            interrupted.append(moment)
            raise KeyboardInterrupt

    if moment == "before the start":
        monkeypatch.setattr(portal._Call, "_start", lambda _: None)
    monkeypatch.setattr(portal._Call, "_run_jobs", run_jobs_interrupted)
    with pytest.raises(KeyboardInterrupt):
        blocking.stat_many([])


def hanging(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, calls: int) -> None:
    """Let the method hang at its call of this number, and interrupt the main thread then. Once."""
    method = getattr(kind, name)
    called = []

    async def hang(*arguments: Any) -> Any:
        called.append(arguments)
        if len(called) == calls:
            interrupt()
            await asyncio.sleep(60)
        return await method(*arguments)

    monkeypatch.setattr(kind, name, hang)


@pytest.mark.usefixtures("_interruptible")
def test_an_iterator_never_ends_short_after_ctrl_c(blocking: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    info, _ = blocking.upload_many([b"1" * 500, b"2"])
    hanging(monkeypatch, FoundFiles, "__anext__", 2)
    found = blocking.find(sort="_id")
    infos: list[FileInfo] = []
    with pytest.raises(KeyboardInterrupt):
        infos.extend(found)
    with pytest.raises(FileClosed, match="interrupted"):
        infos.extend(found)
    assert [each.id for each in infos] == [info.id]
    hanging(monkeypatch, DownloadStream, "_next_piece", 3)
    stream, content = blocking.stream(info.id), bytearray()
    with pytest.raises(KeyboardInterrupt):
        for block in stream:
            content += block
    for block in stream:
        content += block
    assert content == b"1" * 500


@pytest.mark.usefixtures("_interruptible", "small_batches")
def test_a_writer_loses_nothing_after_ctrl_c(blocking: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with blocking.create() as writer:
        writer.write(b"1" * 500)
        with monkeypatch.context() as patched:
            hanging(patched, Upload, "flow", 1)
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
            patched.setattr(portal._Call, "_start", lambda _: interrupt())
            writer.write(b"2" * 500)
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
        writer.write(b"3")
    assert blocking.read(writer.id) == b"1" * 500 + b"2" * 500 + b"3"


def test_what_was_given_up_is_said_on_the_exception(blocking: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridproxy.runtime.tasks.SETTLE_SECONDS", 0.1)

    class Stop(Exception):
        pass

    def raise_stop(*_: object) -> None:
        raise Stop

    async def silent(*_: Any, **__: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        await asyncio.sleep(60)

    monkeypatch.setattr("gridproxy.gridfs.store.collections.Store.drop", silent)
    before = signal.signal(signal.SIGALRM, raise_stop)  # as Celery's time limit does
    try:
        with pytest.raises(Stop) as raised:
            blocking.drop()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "The server did not answer" in raised.value.__notes__[0]


def blocking_calls(bucket: Bucket) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "Bucket.read", lambda: bucket.read(1)
    yield "AsyncGridFile.exists", bucket.file(1).exists
    yield "Bucket.find", lambda: list(bucket.find())
    yield "Bucket.stream", lambda: list(bucket.stream(1))
    yield "AsyncGridFile.open", lambda: bucket.open(1)
    yield "Bucket.open_upload", bucket.create
    yield "AsyncGridFile.new_file", bucket.file(None).new_file
    yield "Bucket.delete_many", lambda: bucket.delete_many(iter([1]))


async def test_in_a_running_loop_a_call_raises_and_names_the_asynchronous_one(mongodb_uri: str) -> None:
    client = Client(mongodb_uri)
    bucket = client.bucket("zoo")
    for name, call in blocking_calls(bucket):
        with pytest.raises(EventLoopRunning, match=name.replace(".", r"\.")) as raised:
            call()
        assert raised.value.name == name
    assert await asyncio.to_thread(bucket.read_many, []) == {}
    await asyncio.to_thread(client.close)


async def test_the_loop_of_a_notebook_may_be_blocked(blocking: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(get_ipython=object)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    info = blocking.upload(b"from a cell")
    assert blocking.read(info.id) == b"from a cell"

    async def inside() -> None:
        blocking.read(info.id)

    with pytest.raises(EventLoopRunning):  # it would wait for itself
        current_portal().call("test", inside)


def test_a_client_that_is_dropped_is_closed(mongodb_uri: str) -> None:
    client = Client(mongodb_uri)
    key = id(client.asynchronous())
    assert key in current_portal().clients
    del client
    current_portal().call("test", lambda: asyncio.sleep(0.01))
    assert key not in current_portal().clients


def run(script: str, mongodb_uri: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, "MONGODB_URI": mongodb_uri, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


SCRIPT = """
import os, sys, uuid, warnings
from gridproxy.sync import Client
client = Client(os.environ["MONGODB_URI"])
bucket = client.bucket(f"gridproxy_sync_{uuid.uuid4().hex}")
"""


def test_a_script_that_closes_nothing_ends_in_silence(mongodb_uri: str) -> None:
    script = """
    info = bucket.upload(b"1")
    reader = bucket.open(info.id)
    stream = bucket.stream(info.id)
    print(next(stream), threads)
    bucket.drop()
    """
    threads = "\nimport threading; threads = threading.active_count()\n"
    assert run(SCRIPT + threads + textwrap.dedent(script), mongodb_uri) == "b'1' 2\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_a_portal_of_its_own(mongodb_uri: str) -> None:
    script = """
    info = bucket.upload(b"1")
    file = bucket.file(info.id)
    upload = bucket.resumable(filename="in parts")
    upload.append(b"1")
    reader, writer = bucket.open(info.id), bucket.create(filename="of the parent")
    warnings.simplefilter("ignore")  # of Python 3.12, for a fork beside threads
    child = os.fork()
    if not child:
        assert bucket.read(info.id) == file.read() == b"1"
        bucket.upload(b"of the child", filename="child")
        upload.append(b"2")
        try:
            reader.readline(), reader.seek(0), reader.read()
        except ValueError as error:
            print(error)
        del reader, writer
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    writer.write(b"2")
    writer.close()
    assert bucket.resume(upload.id).offset == 2
    upload.abort()
    print(sorted(info.filename or "" for info in bucket.find()))
    bucket.drop()
    client.close()
    """
    said = run(SCRIPT + textwrap.dedent(script), mongodb_uri)
    assert said.endswith("['', 'child', 'of the parent']\n")
    assert "before the process was forked" in said
