"""`transfer`, `export_files` and `import_files` without await."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import BadManifest, BadOption, EventLoopRunning, sync
from gridproxy.sync import Bucket, Client


@pytest.mark.parametrize("name", ["transfer", "export_files", "import_files"])
def test_the_arguments_are_those_of_the_asynchronous_function(name: str) -> None:
    ours, theirs = getattr(sync, name), getattr(gridproxy, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert not inspect.iscoroutinefunction(ours)


def test_files_are_transferred_exported_and_imported(blocking: Bucket, blocking_client: Client, tmp_path: Path) -> None:
    infos = [blocking.upload(f"marmot {n}", filename=f"{n}.txt") for n in range(3)]
    threads = set()

    def progress(done: int, total: int | None) -> None:
        threads.add(threading.get_ident())

    database = blocking.asynchronous().database.name
    archive = blocking_client.bucket(database, "archive")
    report = sync.transfer(blocking, archive, {"filename": {"$ne": "0.txt"}}, progress=progress)
    assert (report.transferred, report.ok) == (2, True)
    assert archive.stat(infos[1].id) == infos[1]
    assert sync.export_files(archive, tmp_path, progress=progress).transferred == 2
    assert (tmp_path / "1.txt").read_bytes() == b"marmot 1"
    restored = blocking_client.bucket(database, "restored")
    assert sync.import_files(tmp_path, restored, progress=progress).transferred == 2
    assert {each.filename for each in restored.find()} == {"1.txt", "2.txt"}
    assert threads == {threading.get_ident()}
    assert sync.transfer(archive, blocking_client.bucket(database, "moved"), delete=True).ok
    assert list(archive.find()) == []


def test_errors_are_those_of_the_asynchronous_function(blocking: Bucket, tmp_path: Path) -> None:
    with pytest.raises(BadManifest):
        sync.import_files(tmp_path, blocking)
    with pytest.raises(BadOption, match="are both the bucket"):
        sync.transfer(blocking, blocking)


def test_an_asynchronous_bucket_is_refused(blocking: Bucket, tmp_path: Path) -> None:
    other: Any = gridproxy.Bucket(AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)["zoo"])
    works: list[Callable[[], object]] = [
        lambda: sync.transfer(other, blocking),
        lambda: sync.transfer(blocking, other),
        lambda: sync.export_files(other, tmp_path),
        lambda: sync.import_files(tmp_path, other),
    ]
    for work in works:
        with pytest.raises(BadOption, match=r"is a bucket of gridproxy\.sync, such as client\.bucket"):
            work()


async def test_the_error_in_a_running_event_loop_names_the_asynchronous_function(
    blocking: Bucket, tmp_path: Path
) -> None:
    with pytest.raises(EventLoopRunning, match=r"gridproxy\.export_files"):
        sync.export_files(blocking, tmp_path)
