"""The embedded server starts, answers, comes back after a crash, and never stays behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from gridproxy import embedded
from gridproxy.embedded import EmbeddedServer, EmbeddedServerUnavailable, server_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="SecantusDB has no wheel for Python 3.14; MONGODB_URI can't replace it here"
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Create all temporary folders here, and check that none is left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("MONGODB_URI", raising=False)
    yield folder
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedServer]:
    """Share a server between the tests that do not stop it, because a start takes a second."""
    with EmbeddedServer() as server:
        yield server


def connect(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=5000)


def insert(uri: str, value: object) -> None:
    with connect(uri) as client:
        client["zoo"]["animals"].insert_one({"value": value})


def values(uri: str) -> list[object]:
    with connect(uri) as client:
        return [document["value"] for document in client["zoo"]["animals"].find(sort=[("_id", 1)])]


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def refuses(uri: str) -> bool:
    """Check whether the port is closed. A process id could belong to a zombie."""
    port = int(uri.partition("127.0.0.1:")[2].partition("/")[0])
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return False
    return True


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def started(server: EmbeddedServer) -> tuple[int, Path]:
    """Return the process and the folder of a running server."""
    assert server.pid is not None
    assert server.folder is not None
    return server.pid, server.folder


def supervisor_pid(server: EmbeddedServer) -> int:
    assert server._supervisor is not None
    return server._supervisor._process.pid


def run_script(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def write_daemon(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    """Put another program in the place of SecantusDB's daemon."""
    path.write_text(text)
    path.chmod(stat.S_IRWXU)
    monkeypatch.setattr(embedded, "_find_daemon", lambda: str(path))


PRINT_SERVER = """
from gridproxy.embedded import EmbeddedServer
server = EmbeddedServer()
server.start()
print(server.uri, server.pid, server.folder, flush=True)
"""


def test_it_answers_as_a_member_of_a_replica_set(running: EmbeddedServer) -> None:
    assert repr(running) == f"<EmbeddedServer {running.uri.partition('://')[2].partition('/')[0]}>"
    with connect(running.uri) as client:
        assert client.admin.command("hello")["setName"]
        assert client.admin.command("serverStatus")["pid"] == running.pid


def test_a_transaction_commits_and_another_aborts(running: EmbeddedServer) -> None:
    with connect(running.uri) as client:
        animals = client["transactions"]["animals"]
        with client.start_session() as session:
            with session.start_transaction():
                animals.insert_one({"value": "kept"}, session=session)
            with pytest.raises(ZeroDivisionError), session.start_transaction():
                animals.insert_one({"value": "dropped"}, session=session)
                raise ZeroDivisionError
        assert animals.distinct("value") == ["kept"]


def test_failpoints_are_enabled(running: EmbeddedServer) -> None:
    with connect(running.uri) as client:
        assert client.admin.command("configureFailPoint", "failCommand", mode="off")["ok"] == 1


def test_stop_leaves_neither_process_nor_folder_and_may_be_repeated() -> None:
    server = EmbeddedServer()
    server.start()
    pid, folder = started(server)
    supervisor, uri = supervisor_pid(server), server.uri
    assert server.running
    assert folder.stat().st_mode & 0o077 == 0
    server.stop()
    server.stop()
    assert is_gone(pid)
    assert is_gone(supervisor)
    assert refuses(uri)
    assert not folder.exists()
    assert not server.running
    assert server.pid is None
    assert server.folder is None
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.uri


def test_it_can_be_started_again_after_stop_and_is_empty_then() -> None:
    server = EmbeddedServer()
    for _ in range(2):
        with server:
            assert values(server.uri) == []
            insert(server.uri, 1)


def test_an_exception_in_the_block_stops_it() -> None:
    server = EmbeddedServer()
    with pytest.raises(ZeroDivisionError), server:
        pid, _ = started(server)
        raise ZeroDivisionError
    assert is_gone(pid)


def test_starting_twice_is_an_error_that_does_no_harm(running: EmbeddedServer) -> None:
    uri, process = running.uri, started(running)
    insert(uri, "before")
    with pytest.raises(RuntimeError, match="running already"):
        running.start()
    assert (running.uri, started(running)) == (uri, process)
    assert "before" in values(uri)


def test_a_given_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with EmbeddedServer(port=port) as server:
        assert server.uri.startswith(f"mongodb://127.0.0.1:{port}/")


def test_two_servers_run_side_by_side(running: EmbeddedServer) -> None:
    with EmbeddedServer(sync_on_commit=False) as other:
        assert running.uri != other.uri
        insert(running.uri, "one")
        assert "one" in values(running.uri)
        assert values(other.uri) == []


def test_acknowledged_writes_outlive_a_kill_and_the_address_stays(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    with EmbeddedServer(storage_path=data) as server:
        uri = server.uri
        with connect(uri) as client:
            for number in range(3):
                client["zoo"]["animals"].insert_one({"value": number})
                pid, _ = started(server)
                server.kill()
                assert is_gone(pid)
                assert not server.running
                assert server.pid is None
                assert server.uri == uri
                server.kill()
                server.start()
                assert server.uri == uri
            # The client that saw the crashes finds its server again by itself.
            assert client["zoo"]["animals"].count_documents({}) == 3
    assert data.is_dir()
    with EmbeddedServer(storage_path=str(data)) as server:
        assert values(server.uri) == [0, 1, 2]


def test_temporary_data_outlive_a_kill_too() -> None:
    with EmbeddedServer() as server:
        insert(server.uri, 1)
        server.kill()
        server.start()
        assert values(server.uri) == [1]


def test_a_server_that_died_by_itself_can_be_started_again() -> None:
    with EmbeddedServer() as server:
        insert(server.uri, 1)
        pid, _ = started(server)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not server.running)
        server.start()
        assert values(server.uri) == [1]


def test_a_relative_storage_path_is_relative_to_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer(storage_path="data"):
        assert (tmp_path / "data" / "WiredTiger").exists()


def readable_by_others(folder: Path) -> list[Path]:
    return [each for each in (folder, *folder.rglob("*")) if each.stat().st_mode & 0o077]


def test_no_other_user_can_read_the_data_in_a_given_folder(tmp_path: Path) -> None:
    """G13: the folder was 0755 and its files 0644 if the caller gave one."""
    tmp_path.chmod(0o755)
    (tmp_path / "empty").mkdir(mode=0o755)
    for name in ("new", "empty"):
        with EmbeddedServer(storage_path=tmp_path / name) as server:
            insert(server.uri, 1)
            assert readable_by_others(tmp_path / name) == []
    # The data of a server before this rule.
    (tmp_path / "new").chmod(0o755)
    with EmbeddedServer(storage_path=tmp_path / "new"):
        assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_folder_with_other_contents_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    tmp_path.chmod(0o755)
    with EmbeddedServer(storage_path=tmp_path) as server:
        insert(server.uri, 1)
        assert (tmp_path / "WiredTiger").stat().st_mode & 0o077 == 0
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_the_users_own_configuration_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / ".secantus"):
        folder.mkdir(exist_ok=True)
        (folder / "secantusd.toml").write_text("this is [no configuration")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with EmbeddedServer() as server:
        assert values(server.uri) == []


def test_the_server_ends_when_its_parent_is_killed() -> None:
    with run_script(PRINT_SERVER + "input()") as parent:
        assert parent.stdout is not None
        uri, pid, folder = parent.stdout.readline().split()
        assert not refuses(uri)
        parent.kill()
        wait_until(lambda: is_gone(int(pid)) and not Path(folder).exists())
        assert refuses(uri)


def test_the_server_ends_when_the_interpreter_exits() -> None:
    with run_script(PRINT_SERVER) as parent:
        output, _ = parent.communicate()
    _, pid, folder = output.split()
    assert parent.returncode == 0
    assert is_gone(int(pid))
    assert not Path(folder).exists()


def test_the_server_ends_when_the_object_is_collected() -> None:
    server = EmbeddedServer()
    server.start()
    pid, folder = started(server)
    del server
    gc.collect()
    assert is_gone(pid)
    assert not folder.exists()


def test_a_forked_child_does_not_take_it_away() -> None:
    fork = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
if child := os.fork():
    os.waitpid(child, 0)
    print(server.running)
"""
    with run_script(PRINT_SERVER + fork) as parent:
        output, _ = parent.communicate()
    assert output.splitlines()[1] == "True"


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_the_server_ends_when_the_supervisor_is_killed(way: signal.Signals) -> None:
    server = EmbeddedServer()
    server.start()
    uri, (_, folder) = server.uri, started(server)
    os.kill(supervisor_pid(server), way)
    wait_until(lambda: not server.running)
    server.stop()
    wait_until(lambda: refuses(uri))
    assert not folder.exists()


def test_the_server_ends_when_the_supervisor_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_SUPERVISOR_SECONDS", 0.2)
    with EmbeddedServer() as server:
        uri = server.uri
        os.kill(supervisor_pid(server), signal.SIGSTOP)
    wait_until(lambda: refuses(uri))


def test_a_bad_storage_path_shows_the_servers_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerUnavailable, match=r"(?s)ended with code 1; its log ends with.*NotADirectory"):
        EmbeddedServer(storage_path=tmp_path / "file" / "data").start()


def test_a_storage_path_that_is_in_use_is_refused(tmp_path: Path) -> None:
    with EmbeddedServer(storage_path=tmp_path / "data") as server:
        with pytest.raises(EmbeddedServerUnavailable, match="its log ends with"):
            EmbeddedServer(storage_path=tmp_path / "data").start()
        assert values(server.uri) == []


def test_a_server_that_is_too_slow_is_given_up() -> None:
    server = EmbeddedServer(start_timeout=0)
    with pytest.raises(EmbeddedServerUnavailable, match="did not answer within 0 s; its log is empty"):
        server.start()
    assert server.folder is None


def test_a_server_that_listens_but_never_answers_nor_stops_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deaf = f"""#!{sys.executable}
import signal, socket, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", 0))
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
time.sleep(60)
"""
    write_daemon(monkeypatch, tmp_path / "deaf", deaf)
    with pytest.raises(EmbeddedServerUnavailable, match=r"(?s)within 1 s; its log ends with.*listening on") as caught:
        EmbeddedServer(start_timeout=1).start()
    assert refuses(str(caught.value))


def test_a_program_that_cannot_be_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_daemon(monkeypatch, tmp_path / "daemon", "#!/no/such/interpreter")
    with pytest.raises(EmbeddedServerUnavailable, match=r"cannot be run: .*No such file"):
        EmbeddedServer().start()


def test_server_uri_starts_one_for_the_block() -> None:
    with server_uri() as (uri, label):
        assert values(uri) == []
        assert "\n" not in label
        assert label.startswith("embedded SecantusDB at 127.0.0.1:")
    assert refuses(uri)


def test_the_command_prints_the_address_and_ends_on_ctrl_c() -> None:
    command = [sys.executable, "-m", "gridproxy.embedded"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        assert values(uri) == []
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert refuses(uri)


def test_the_command_ends_with_its_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gridproxy.embedded", "--storage-path", str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with connect(process.stdout.readline().strip()) as client:
            os.kill(client.admin.command("serverStatus")["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "has ended" in errors
    assert (tmp_path / "data").is_dir()
