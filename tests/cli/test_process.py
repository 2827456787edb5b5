"""The command line as a process: signals, pipes, terminals, and what is left when it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from gridproxy.cli.running import EXIT_CODES, Connection

COMMAND = [sys.executable, "-m", "gridproxy"]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    name = f"gridproxy_test_{os.urandom(8).hex()}"
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def start(mongodb_uri: str, database: Database[dict[str, Any]]) -> Iterator[Start]:
    """Start commands, and end them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, uri: str = mongodb_uri, **options: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "MONGODB_URI": uri, "TERM": "xterm", "COLUMNS": "100"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--db", database.name], env=environment, **{**pipes, **options}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def wait_for_chunks(database: Database[dict[str, Any]]) -> None:
    until = time.monotonic() + 30
    while database["fs.chunks"].find_one({}, {"_id": 1}) is None:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("sent", "code", "words"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_a_signal_leaves_nothing_behind(
    start: Start, database: Database[dict[str, Any]], sent: signal.Signals, code: int, words: bytes
) -> None:
    process = start("put", "-", "--name", "half")
    assert process.stdin is not None
    process.stdin.write(bytes(9 * 1024 * 1024))
    process.stdin.flush()
    wait_for_chunks(database)
    # It waits for more of stdin now, and must not go on waiting.
    process.send_signal(sent)
    process.wait(timeout=30)
    assert process.stderr is not None
    assert (process.returncode, words in process.stderr.read()) == (code, True)
    assert (database["fs.files"].count_documents({}), database["fs.chunks"].count_documents({})) == (0, 0)


def test_a_closed_output_pipe_ends_the_command(start: Start, database: Database[dict[str, Any]]) -> None:
    stored, errors = start("put", "-", "--id", "piped").communicate(bytes(6 * 1024 * 1024), timeout=30)
    assert (stored, errors) == (b"piped\t6.3 MB\t\n", b"")
    reading = start("get", "piped", "-")
    assert reading.stdout is not None
    assert reading.stdout.read(10) == bytes(10)
    reading.stdout.close()
    assert reading.wait(timeout=30) == 141
    assert reading.stderr is not None
    assert reading.stderr.read() == b""


def test_a_source_that_cannot_be_read_stores_nothing(start: Start, database: Database[dict[str, Any]]) -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        process = start("put", "-", stdin=descriptor)
        assert process.wait(timeout=30) == 6
    finally:
        os.close(descriptor)
    assert database["fs.files"].count_documents({}) == 0


def test_a_terminal_sees_a_bar(start: Start, database: Database[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(9 * 1024 * 1024))
    ours, theirs = pty.openpty()
    process = start("put", "large.bin", "--id", "large", stdout=theirs, stderr=theirs, cwd=tmp_path)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:
        pass  # that is how the end of a terminal looks on Linux
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert "━" in shown.decode()
    assert "large  9.4 MB  large.bin" in shown.decode()


def test_an_unreachable_server_is_reported_soon(start: Start) -> None:
    process = start("ls", "--timeout", "0.2", uri="mongodb://user:s3cret@127.0.0.1:9/")
    shown, errors = process.communicate(timeout=30)
    assert (process.returncode, shown) == (4, b"")
    assert errors.startswith(b"gridproxy: no server responds: 127.0.0.1:9")
    assert b"s3cret" not in errors


@pytest.mark.parametrize(
    ("query", "timeout", "seconds"),
    [("", None, 10.0), ("?serverSelectionTimeoutMS=200", None, 0.2), ("?serverSelectionTimeoutMS=200", 3.0, 3.0)],
)
def test_how_long_a_server_is_waited_for(query: str, timeout: float | None, seconds: float) -> None:
    client = Connection(uri=f"mongodb://127.0.0.1:9/{query}", timeout=timeout).client()
    assert client.options.server_selection_timeout == seconds


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_the_error_names_the_package(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from gridproxy.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"gridproxy: the command line needs {missing}: pip install 'gridproxy-mongo[cli]'\n"


def test_another_missing_module_raises_its_own_error() -> None:
    code = "import sys; sys.modules['gridproxy.cli.upkeep'] = None; from gridproxy.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of gridproxy.cli.upkeep halted" in done.stderr


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).with_name("gridproxy")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert EXIT_CODES.splitlines()[2].strip() in done.stdout
