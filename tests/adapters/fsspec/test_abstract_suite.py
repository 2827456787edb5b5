"""fsspec's own tests of a file system. All of them run, except for the ones that it skips itself."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Callable, Iterator

import pytest
from fsspec.tests import abstract

from gridproxy.adapters.fsspec import GridFSFileSystem

from .conftest import close_all


@pytest.fixture(scope="module")
def shared_fs(mongodb_uri: str) -> Iterator[GridFSFileSystem]:
    """Share one file system: the suite has more than a hundred tests."""
    made = GridFSFileSystem(uri=mongodb_uri, database=f"gridproxy_fsspec_{uuid.uuid4().hex}")
    yield made
    made.rm("data", recursive=True)
    made.rmdir("data")
    close_all()


class GridFSFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, shared_fs: GridFSFileSystem) -> GridFSFileSystem:
        return shared_fs

    @pytest.fixture
    def fs_path(self) -> str:
        return "data/tests"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        """Let the suite put a file into each directory: a directory is only the beginning of names."""
        return False


class TestCopy(abstract.AbstractCopyTests, GridFSFixtures):
    pass


class TestGet(abstract.AbstractGetTests, GridFSFixtures):
    pass


class TestPut(abstract.AbstractPutTests, GridFSFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, GridFSFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, GridFSFixtures):
    pass


def test_every_part_of_the_suite_is_run_here() -> None:
    parts = {name for name in dir(abstract) if name.startswith("Abstract") and name.endswith("Tests")}
    assert parts == {
        "AbstractCopyTests",
        "AbstractGetTests",
        "AbstractPutTests",
        "AbstractOpenTests",
        "AbstractPipeTests",
    }
