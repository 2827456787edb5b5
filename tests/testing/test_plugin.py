"""The plugin of pytest, under the plugin of anyio, under pytest-asyncio, and in tests that do not await."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from gridproxy import Bucket, sync

pytest_plugins = ["gridproxy.testing.plugin"]


@pytest.fixture
def used(gridfs_server: str) -> Iterator[list[str]]:
    """Return a list for names of databases, which have to be gone after the test. Request it first."""
    names: list[str] = []
    yield names
    with MongoClient[dict[str, Any]](gridfs_server) as client:
        assert names
        assert not set(names) & set(client.list_database_names())


@pytest.fixture
async def stored(gridfs_bucket: Bucket) -> Any:
    """Store a file before the test and read it after the test, in the event loop of the test."""
    loop = asyncio.get_running_loop()
    info = await gridfs_bucket.upload(b"a marmot")
    yield info.id
    assert await gridfs_bucket.read(info.id) == b"a marmot"
    assert asyncio.get_running_loop() is loop


@pytest.mark.parametrize("time", range(2))
async def test_each_test_has_an_empty_bucket_in_its_loop(
    used: list[str], time: int, stored: Any, gridfs_bucket: Bucket, gridfs_database: AsyncDatabase[dict[str, Any]]
) -> None:
    assert [info.id async for info in gridfs_bucket.find()] == [stored]
    assert gridfs_bucket.database is gridfs_database
    used.append(gridfs_database.name)


def test_a_test_that_does_not_await_has_a_database(
    used: list[str], gridfs_sync_bucket: sync.Bucket, gridfs_sync_database: Database[dict[str, Any]]
) -> None:
    assert list(gridfs_sync_bucket.find()) == []
    gridfs_sync_bucket.upload(b"a marmot")
    assert gridfs_sync_database["fs.files"].count_documents({}) == 1
    gridfs_sync_database["animals"].insert_one({"name": "marmot"})
    assert gridfs_sync_database["animals"].count_documents({}) == 1
    used.append(gridfs_sync_database.name)


CONFTEST = 'pytest_plugins = ["gridproxy.testing.plugin"]\n'


def run(folder: Path, text: str, uri: str, *options: str) -> str:
    """Run pytest on a file with these tests, and return what it printed."""
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_them.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rsfE", "-W", "error", "-p", "no:cacheprovider"]
    # The plugins of other packages take a second to load.
    environment = {**os.environ, "MONGODB_URI": uri, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_the_tests_of_the_guide_pass(tmp_path: Path, mongodb_uri: str) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs/running.md").read_text(encoding="utf-8")
    conftest, tests = re.findall(r"^```py\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert conftest == CONFTEST
    assert "2 passed" in run(tmp_path, tests, mongodb_uri, "-p", "anyio")


MISUSES = """
import pytest

def test_without_awaiting(gridfs_bucket): ...

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", ("trio", {})])
async def test_on_trio(anyio_backend, gridfs_bucket): ...
"""


def test_a_test_that_cannot_use_the_fixtures_is_told_why(tmp_path: Path, mongodb_uri: str) -> None:
    printed = run(tmp_path, MISUSES, mongodb_uri, "-p", "anyio")
    assert "2 skipped, 1 error" in printed
    assert "needs asyncio, because pymongo's AsyncMongoClient does" in printed
    assert "are for asynchronous tests: mark the test with pytest.mark.anyio" in printed


# The marker is added by the auto mode.
ASYNCIO = """
import asyncio
import pytest

LOOPS = set()

@pytest.mark.parametrize("time", range(2))
MARK
async def test_each(time, gridfs_bucket, gridfs_database):
    info = await gridfs_bucket.upload(b"a marmot")
    assert [each.id async for each in gridfs_bucket.find()] == [info.id]
    LOOPS.add(asyncio.get_running_loop())

def test_loops():
    assert len(LOOPS) == COUNT
"""
MARK = "@pytest.mark.asyncio"


@pytest.mark.skipif(importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize(
    ("mark", "options", "loops"),
    [
        ("", ["-p", "asyncio", "-o", "asyncio_mode=auto"], 2),
        (MARK, ["-p", "asyncio"], 2),
        (f'{MARK}(loop_scope="module")', ["-p", "pytest_asyncio.plugin", "-p", "anyio"], 1),
    ],
    ids=["auto", "strict", "a loop for the module"],
)
def test_it_works_with_pytest_asyncio(
    mark: str, options: list[str], loops: int, tmp_path: Path, mongodb_uri: str
) -> None:
    text = ASYNCIO.replace("MARK", mark).replace("COUNT", str(loops))
    printed = run(tmp_path, text, mongodb_uri, "-o", "asyncio_default_fixture_loop_scope=function", *options)
    assert "3 passed" in printed, printed
