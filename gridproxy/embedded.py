"""A throw-away MongoDB-compatible server, for trials and tests.

```python
from gridproxy.embedded import EmbeddedServer

with EmbeddedServer() as server:
    client = AsyncMongoClient(server.uri)
```

`python -m gridproxy.embedded` runs one until Ctrl-C and prints its address. The server is SecantusDB's daemon
(`pip install 'gridproxy-mongo[embedded]'`). It always runs as a process of its own and is never imported: its
licence is the GPL, and it would share our interpreter's lock.

Three processes are at work, because a parent that is killed with SIGKILL can clean up nothing:

    your program ──pipe──> supervisor (this file, run as a script) ──child──> secantusd-py

The supervisor owns the server and its temporary folder. Whatever ends your program closes the pipe as well;
then the supervisor stops the server and removes the folder. The server listens on the loopback interface, but
without a password: keep nothing in it that other users of the machine must not see.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["EmbeddedServer", "EmbeddedServerUnavailable", "server_uri"]

_DAEMON = "secantusd-py"
_LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")
_SUPERVISE = "--supervise"
_TERMINATE_SECONDS = 5.0
_SUPERVISOR_SECONDS = 15.0
_SET_URI = "set MONGODB_URI to the address of a MongoDB that you have (mongodb://host:27017/?replicaSet=rs0)"


class EmbeddedServerUnavailable(RuntimeError):
    """The embedded server can't be started; the message says why, and what to install or to set instead."""


class EmbeddedServer:
    """One SecantusDB server on a loopback port, as a context manager or by `start()` and `stop()`.

    Making the object does no I/O. The server ends with the `with` block, at `stop()`, when the object is
    forgotten, at the interpreter's exit, and when this process dies in any other way, SIGKILL included.
    `start()` and `stop()` block for half a second each: beside a running event loop use a worker thread.

    Args:
        storage_path: a folder for the data, made if it is missing, and kept; a later server reopens it.
            Without it the data lie in a temporary folder that goes when the server stops.
        sync_on_commit: whether acknowledged writes survive `kill()`; without it writes are faster.
        port: the port to listen on, 127.0.0.1 only; 0 takes a free one.
        start_timeout: seconds until `start()` gives up.
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
        """The address for a client; it stays the same over `kill()` and `start()`.

        Raises:
            RuntimeError: the server has not been started, or was stopped.
        """
        if self._port is None:
            raise RuntimeError("the embedded server has no address: it is not started")
        # pymongo's monitor notices a stopped server, and lets a client close, only once per heartbeat.
        return f"mongodb://127.0.0.1:{self._port}/?heartbeatFrequencyMS=500"

    @property
    def pid(self) -> int | None:
        """The server's process id; None before `start()` and after `kill()` or `stop()`."""
        return self._pid

    @property
    def folder(self) -> Path | None:
        """The temporary folder: the log, and the data unless `storage_path` was given. None when stopped."""
        return None if self._supervisor is None else self._supervisor.folder

    @property
    def running(self) -> bool:
        """Whether the server's process is alive at this moment."""
        with contextlib.suppress(EmbeddedServerUnavailable):
            if self._supervisor is not None and self._pid is not None:
                return self._supervisor.exit_code() is None
        return False

    def start(self) -> None:
        """Starts the server and returns once it answers; after `kill()` with the same data on the same port.

        Raises:
            EmbeddedServerUnavailable: it is not installed, or ended, or gave no answer in `start_timeout`.
            RuntimeError: it is running already.
        """
        if self.running:
            raise RuntimeError("the embedded server is running already")
        deadline = time.monotonic() + self._start_timeout
        daemon = _find_daemon()
        try:
            if self._supervisor is None:
                self._supervisor = _Supervisor()
                self._unwatch = weakref.finalize(self, self._supervisor.close).detach
            command = self._command(daemon, self._supervisor.folder)
            self._pid = self._supervisor.ask("start", command=command)["pid"]
            self._wait_until_ready(self._supervisor, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server and removes the temporary folder; a server that is stopped already is no error."""
        if self._supervisor is not None:
            self._supervisor.close()
        if self._unwatch is not None:
            self._unwatch()
        self._supervisor = self._unwatch = self._port = self._pid = None

    def kill(self) -> None:
        """Ends the server as a crash would, with no chance to tidy up; `start()` brings it back.

        Raises:
            EmbeddedServerUnavailable: the process that watches over it is gone.
            RuntimeError: the server has not been started.
        """
        if self._supervisor is None:
            raise RuntimeError("the embedded server can't be killed: it is not started")
        self._supervisor.ask("kill")
        self._pid = None

    def _command(self, daemon: str, folder: Path) -> list[str]:
        storage = folder / "data" if self._storage_path is None else self._storage_path.absolute()
        command = [daemon, "--config", str(folder / "empty.toml"), "--host", "127.0.0.1"]
        command += ["--port", str(self._port or self._wanted_port), "--storage-path", str(storage)]
        command += ["--enable-test-commands", "--oplog-max-entries", "5000"]
        return [*command, "--sync-on-commit"] if self._sync_on_commit else command

    def _wait_until_ready(self, supervisor: _Supervisor, deadline: float) -> None:
        # Imported late: the supervisor runs this file without the user's packages, and must start quickly.
        from pymongo import MongoClient  # noqa: PLC0415
        from pymongo.errors import PyMongoError  # noqa: PLC0415

        too_slow = f"{_DAEMON} did not answer within {self._start_timeout:g} s"
        while True:
            # In this order, because the last words of a dying server would be missed in the other.
            code = supervisor.exit_code()
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
            with MongoClient[dict[str, Any]](self.uri, timeoutMS=left, serverSelectionTimeoutMS=left) as client:
                client.admin.command("hello")
        except PyMongoError as error:
            raise EmbeddedServerUnavailable(too_slow + supervisor.log_tail()) from error


@contextlib.contextmanager
def server_uri(*, sync_on_commit: bool = True) -> Iterator[tuple[str, str]]:
    """Gives `(uri, label)`: the server that MONGODB_URI names, or else an embedded one for the block.

    The label is one line for people that says which server it is; no user name or password is in it.
    `sync_on_commit` is for the embedded one: without it writes are faster, and a crash of it loses some.

    Raises:
        EmbeddedServerUnavailable: MONGODB_URI is not set, and no embedded server can be started.
    """
    if uri := os.environ.get("MONGODB_URI"):
        yield uri, f"MongoDB at {_hosts(uri)}, as MONGODB_URI says"
        return
    with EmbeddedServer(sync_on_commit=sync_on_commit) as server:
        yield server.uri, f"embedded SecantusDB at {_hosts(server.uri)} (MONGODB_URI is not set)"


def _hosts(uri: str) -> str:
    authority, *rest = re.split("[/?]", uri.partition("://")[2], maxsplit=1)
    # A password with a bare slash in it is cut in two here: then show nothing, rather than half of it.
    return "an undisclosed address" if "@" in "".join(rest) else authority.rpartition("@")[2]


def _find_daemon() -> str:
    # Beside the interpreter first: while a virtual environment is not activated, PATH names another, or none.
    user_scripts = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    for folder in (str(Path(sys.executable).parent), sysconfig.get_path("scripts"), user_scripts, None):
        if found := shutil.which(_DAEMON, path=folder):
            return found
    if sys.version_info >= (3, 14):
        version = ".".join(map(str, sys.version_info[:2]))
        raise EmbeddedServerUnavailable(
            "no embedded server: SecantusDB has wheels for Python 3.11 to 3.13, "
            f"but none for Python {version}; {_SET_URI}"
        )
    raise EmbeddedServerUnavailable(
        f"no embedded server: {_DAEMON} is neither beside {sys.executable} nor on PATH; "
        f"pip install 'gridproxy-mongo[embedded]', or {_SET_URI}"
    )


class _Supervisor:
    """Our end of the pipe to the process that owns the server; orders and their answers are JSON lines."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        # Named here and made there: so it has an owner who removes it from the moment it exists.
        self.folder = Path(tempfile.gettempdir(), f"gridproxy-{secrets.token_hex(8)}")
        # In a session of its own it does not hear a Ctrl-C at the terminal. Isolated (-I), because modules in
        # this script's folder would shadow the standard library's, and PYTHONWARNINGS is not meant for it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).resolve()), _SUPERVISE, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def exit_code(self) -> int | None:
        code: int | None = self.ask("poll")["code"]
        return code

    def read_log(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def log_tail(self) -> str:
        lines = self.read_log().decode(errors="replace").strip().splitlines()[-15:]
        return "; its log ends with:\n    " + "\n    ".join(lines) if lines else "; its log is empty"

    def close(self) -> None:
        """Closes the pipe, which is the order to stop, and waits; may be called again when interrupted."""
        if os.getpid() != self._owner:
            return  # a forked child inherits our finalizers, but the server is not the child's to stop
        self._orders.close()
        try:
            code = self._process.wait(_SUPERVISOR_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._answers.close()
        if code != 0:
            # The process group's id stays taken for as long as the orphaned server is a member of it.
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(self._process.pid, signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, order: str, **details: object) -> dict[str, Any]:
        line = b""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._orders.write(json.dumps({"order": order, **details}).encode() + b"\n")
            line = self._answers.readline()
        if not line:
            raise EmbeddedServerUnavailable("the process that watches over the embedded server is gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EmbeddedServerUnavailable(f"{_DAEMON} can't be run: {answer['error']}")
        return answer


def _supervise(folder: Path) -> None:
    """The supervisor's life: it carries out orders from standard input, and cleans up at their end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder.mkdir(mode=0o700)
    server: subprocess.Popen[bytes] | None = None
    try:
        # Without --config the daemon would take a secantusd.toml from its working folder or the user's home.
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
    # Meant for the user's own code; for the daemon they would mean slowness, or a warning that ends it.
    unwanted = ("COVERAGE_", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder / "cwd",
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    found = _LISTENING.search((folder / "log").read_bytes())
    deadline = time.monotonic() + _TERMINATE_SECONDS
    server.terminate()
    while True:
        try:
            server.wait(0.05)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                server.kill()
        # The daemon sleeps in accept() for two more seconds after SIGTERM, unless somebody knocks.
        with contextlib.suppress(OSError):
            if found:
                socket.create_connection(("127.0.0.1", int(found[1])), timeout=0.1).close()


def _main(arguments: Sequence[str]) -> int:
    if arguments[:1] == [_SUPERVISE]:
        _supervise(Path(arguments[1]))
        return 0
    description = "Runs a throw-away MongoDB-compatible server until Ctrl-C, and prints its address."
    parser = argparse.ArgumentParser(prog="python -m gridproxy.embedded", description=description)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument("--storage-path", metavar="FOLDER", help="a folder to keep the data in (default: none)")
    options = parser.parse_args(arguments)
    try:
        with EmbeddedServer(port=options.port, storage_path=options.storage_path) as server:
            print(server.uri, flush=True)
            print("Ctrl-C stops it.", file=sys.stderr, flush=True)
            while server.running:
                time.sleep(0.2)
            print("The server has ended by itself.", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    except EmbeddedServerUnavailable as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
