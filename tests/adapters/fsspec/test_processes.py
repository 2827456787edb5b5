"""Several processes: pickled file systems, forks, writers of one name, and the end of a program."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import fsspec
import pytest
from pymongo.database import Database

from gridproxy import FileVanished
from gridproxy.adapters.fsspec import GridFSFileSystem

Synchronous = Database[dict[str, Any]]


def run(code: str, options: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a program in which every warning is an error. Its `options` are those of the test."""
    code = f"import fsspec, os, pickle, sys\noptions = {options!r}\n{code}"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str], given: str | None = None) -> str:
    """Return what the program printed. It has to end well and without a warning."""
    out, err = process.communicate(given, timeout=120)
    assert (process.returncode, err) == (0, "")
    return out.strip()


def test_equal_options_give_the_same_instance_also_after_pickling(
    fs: GridFSFileSystem, options: dict[str, Any], mongodb_uri: str
) -> None:
    assert fsspec.filesystem("gridfs", **options) is fs
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()) is fs
    assert fsspec.filesystem("gridfs", uri=mongodb_uri, database="another") is not fs


def test_a_pickled_file_system_works_in_another_process(fs: GridFSFileSystem, options: dict[str, Any]) -> None:
    fs.pipe("data/x", b"content")
    code = "print(pickle.loads(bytes.fromhex(sys.stdin.read())).cat('data/x'))"
    assert output(run(code, options), pickle.dumps(fs).hex()) == "b'content'"


def test_a_program_ends_without_a_warning(fs: GridFSFileSystem, options: dict[str, Any]) -> None:
    code = """
import asyncio, gc
from gridproxy import FileVanished
from gridproxy.adapters.fsspec import GridFSFileSystem
fs = fsspec.filesystem("gridfs", **options)
fs.pipe("data/x", b"content")
other = GridFSFileSystem(**options, revisions="keep", skip_instance_cache=True)
print(other.cat("data/x"))
del other
gc.collect()

async def main():
    fs = GridFSFileSystem(**options, asynchronous=True)
    print(await fs._cat_file("data/x"))
    await fs.aclose()

asyncio.run(main())
asyncio.run(main())
"""
    assert output(run(code, options)).splitlines() == ["b'content'"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_uses_a_client_of_its_own(fs: GridFSFileSystem, options: dict[str, Any]) -> None:
    code = """
import gc, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)  # Python 3.12 warns of fork
fs = fsspec.filesystem("gridfs", **options)
fs.pipe("data/x", b"content")
file = fs.open("data/x")
if (child := os.fork()) == 0:
    # pymongo drops the connections that a client inherits.
    warnings.filterwarnings("ignore", message="unclosed (transport|<socket)", category=ResourceWarning)
    assert file.read() == b"content"
    assert fsspec.filesystem("gridfs", **options).cat("data/x") == b"content"
    fs.pipe("data/y", b"from the child")
    fs.close()
    del file, fs
    gc.collect()
    os._exit(0)  # as multiprocessing ends its processes
assert os.waitpid(child, 0)[1] == 0
print(fs.cat("data/y"), file.read())
"""
    assert output(run(code, options)) == "b'from the child' b'content'"


def test_two_processes_that_overwrite_one_name_leave_whole_files(
    fs: GridFSFileSystem, options: dict[str, Any], synchronous: Synchronous
) -> None:
    code = """
fs = fsspec.filesystem("gridfs", **options)
sys.stdin.readline()
for number in range(15):
    fs.pipe_file("data/x", sys.argv[0].encode() + bytes([number]) * 2000, chunk_size=100)
"""
    fs.pipe("data/x", b"old")
    writers = [run(code, options) for _ in range(2)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        try:
            content = fs.cat("data/x")
        except FileVanished:
            continue  # each of the revisions that it looked for was replaced between two requests
        assert content == b"old" or content == b"-c" + content[-1:] * 2000
    for writer in writers:
        output(writer)
    assert fs.cat("data/x") == b"-c" + bytes([14]) * 2000
    fs.pipe("data/x", b"last")
    assert synchronous["data.files"].count_documents({}) == synchronous["data.chunks"].count_documents({}) == 1
