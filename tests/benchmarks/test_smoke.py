"""The benchmark commands still run. Speed is not checked here. The number of calls is: it is the same each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

_ROOT = Path(__file__).resolve().parents[2]


def test_a_small_selection_gives_rows_and_a_picture(mongodb_uri: str, tmp_path: Path) -> None:
    picture, page, values = (tmp_path / name for name in ("figures.svg", "figures.md", "values.json"))
    works = ["upload-small", "upload-large", "first-byte", "middle", "growth", "wire", "streams"]
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--rounds", "1", "--rtt", "0,5", "--only", *works]
    done = subprocess.run(
        [*command, "--plot", str(picture), "--json", str(values)],
        cwd=_ROOT,
        env={**os.environ, "MONGODB_URI": mongodb_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "64 KB from the middle of" in done.stdout

    found = json.loads(values.read_text())
    measured = {(row["work"], row["place"], row["rtt"]) for row in found["rows"] if row["ratio"] is not None}
    assert {("middle", "server", 0), ("middle", "server", 5), ("upload-large", "stub", 0)} <= measured
    assert {("memory-up", "stub", None), ("stall-down", "stub", None)} <= measured
    assert all(seconds for line in found["growth"] for seconds in line["seconds"].values())
    ceilings = {(row["work"], row["place"]) for row in found["rows"] if row["ceiling"] is not None}
    assert {("upload-large", "server"), ("upload-large-bare", "stub")} <= ceilings
    assert "| upload 1 KB | 5 ms |" in page.read_text()
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_benchmark_of_pictures_runs() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.pictures", "--quick"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| honest picture | alone | beside 2 hostile uploads |" in done.stdout
    assert done.stderr == ""


def test_the_benchmark_of_blocking_calls_runs(mongodb_uri: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.sync", "--rounds", "1", "--megabytes", "1", "--repeat", "2"]
    environment = {**os.environ, "MONGODB_URI": mongodb_uri}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r" ms +\d+\.\d\d +\d+\.\d\d$", done.stdout, re.MULTILINE)) == 11


def test_an_unknown_work_is_refused_with_the_list_of_those_there_are() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "flying"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "upload-small" in done.stderr


def test_the_hot_paths_keep_within_their_goals_of_calls_and_files(mongodb_uri: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.calls"]
    environment = {**os.environ, "MONGODB_URI": mongodb_uri}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(.+?) +(\d+) calls in +(\d+) files$", done.stdout, re.MULTILINE)
    counted = {name: (int(calls), int(files)) for name, calls, files in found}
    assert len(counted) == 6
    for name, most in {"put 1 KB": (110, 14), "Beanie save, unchanged, one file": (120, 19)}.items():
        assert counted[name] <= most, done.stdout
        assert counted[name][1] <= most[1], done.stdout


def test_the_benchmark_of_transfers_runs(mongodb_uri: str) -> None:
    small = ["--files", "20", "--baseline", "2", "--large", "3", "--rtt", "0"]
    command = [sys.executable, "-m", "tests.benchmarks.moving", *small]
    environment = {**os.environ, "MONGODB_URI": mongodb_uri}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "transfer inside one server" in done.stdout
