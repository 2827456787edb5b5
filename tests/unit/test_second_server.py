"""The lane of the second server leaves out what is there, finds what it is told, and says when it tests nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import second_server

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRIDPROXY_SECOND_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(second_server, "_CACHE", tmp_path / "cache")


def program(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (file := folder / "secantusd-rs").touch(mode=0o755)
    return file


def test_what_is_left_out_is_there() -> None:
    assert [name for name in second_server._LEFT_OUT if not (TESTS / name).exists()] == []


def test_without_the_program_and_cargo_the_lane_says_that_it_tested_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert second_server.main([]) == 0
    assert capsys.readouterr().out.startswith("second server: skipped: secantusd-rs is not here, nor cargo")


def test_a_cargo_that_cannot_build_it_is_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cargo = tmp_path / "empty" / "cargo"
    cargo.parent.mkdir()
    cargo.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    cargo.chmod(0o755)
    assert second_server.main([]) == 0
    assert "second server: skipped: cargo could not build secantus-mdb" in capsys.readouterr().out


def test_the_named_program_comes_before_that_of_the_path_and_that_of_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert second_server.find() is None
    for folder in (tmp_path / "cache" / "bin", tmp_path / "empty"):
        made = program(folder)
        assert second_server.find() == made
    named = program(tmp_path / "named")
    monkeypatch.setenv("GRIDPROXY_SECOND_SERVER", str(named))
    assert second_server.find() == named


def test_a_name_that_is_no_program_is_a_mistake_and_no_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRIDPROXY_SECOND_SERVER", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="which is no program"):
        second_server.main([])
