"""Where files are exported to: a local folder, or a URL that fsspec can open. Most methods block."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gridproxy.errors import BadOption, shown
from gridproxy.gridfs.download.sinks import save
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.upload.sources import Source
from gridproxy.runtime.extras import require_extra
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tasks import clean_up, in_thread

NOT_A_FILE = -1


class Opened:
    """A file that a thread opens. It can be closed even if the opening was cancelled. The methods block."""

    def __init__(self, opener: Callable[[], Any]) -> None:
        self._opener = opener
        self._file: Any = None

    def open(self) -> None:
        """Open the file."""
        self._file = self._opener()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        data: bytes = self._file.read(size)
        return data

    def lines(self, count: int, longest: int) -> list[bytes]:
        """Return the next lines, at most `count`. Each has at most `longest` bytes."""
        return list(islice(iter(partial(self._file.readline, longest), b""), count))

    def write(self, block: bytes) -> None:
        """Write a block."""
        self._file.write(block)

    def close(self) -> None:
        """Close the file if it is open."""
        if self._file is not None:
            self._file.close()

    def discard(self, error: BaseException) -> None:
        """Leave the file because of an error. Some file systems do not show it then."""
        if self._file is not None:
            self._file.__exit__(type(error), error, error.__traceback__)


class Place(ABC):
    """A folder. Paths in it are relative and have slashes."""

    name: str
    """The folder for messages."""

    @abstractmethod
    def prepare(self) -> bool:
        """Create the folder, and return whether it is empty. Raises `NotADirectoryError` if it is a file."""

    @abstractmethod
    def length(self, path: str) -> int | None:
        """Return how many bytes a file has, None if there is none, or `NOT_A_FILE` if no file can have this path."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file to read it."""

    @abstractmethod
    async def write(
        self, path: str, blocks: AsyncIterator[bytes], length: int, progress: Progress | None = None
    ) -> None:
        """Write a file. After an error there is none."""

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file in hex."""
        digest = sha256()
        with self.open(path) as file:
            while block := file.read(BATCH_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def read(self, path: str) -> bytes:
        """Return the content of a small file."""
        with self.open(path) as file:
            return file.read()


def open_place(where: object, storage_options: Mapping[str, Any] | None) -> Place:
    """Return the place that a path or a URL names. Raises `BadOption` for anything else."""
    if isinstance(where, str) and "://" in where:
        return _Url(where, storage_options or {})
    if not isinstance(where, str | os.PathLike) or not os.fspath(where):
        raise BadOption(f"a folder is a path or a URL such as s3://bucket/folder, not {shown(where)}")
    if storage_options:
        raise BadOption(f"storage_options are for URLs, and {os.fspath(where)!r} is a local folder")
    return _Folder(Path(where))


class _Folder(Place):
    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def prepare(self) -> bool:
        if self._root.exists() and not self._root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "this is a file, and a folder is needed", self.name)
        self._root.mkdir(parents=True, exist_ok=True)
        with os.scandir(self._root) as entries:
            return not any(entries)

    def length(self, path: str) -> int | None:
        local = self._root / path
        try:
            found = local.stat()
        except FileNotFoundError:
            if local.is_symlink() or not self._is_inside(local):
                return NOT_A_FILE
            return None
        except NotADirectoryError:
            return NOT_A_FILE
        return found.st_size if local.is_file() and self._is_inside(local) else NOT_A_FILE

    def _is_inside(self, local: Path) -> bool:
        # A symbolic link could lead out of the folder.
        return local.resolve().is_relative_to(self._root.resolve())

    def open(self, path: str) -> BinaryIO:
        return (self._root / path).open("rb")

    async def write(
        self, path: str, blocks: AsyncIterator[bytes], length: int, progress: Progress | None = None
    ) -> None:
        local = self._root / path
        await in_thread(partial(local.parent.mkdir, parents=True, exist_ok=True))
        with _naming(str(local)):
            await save(blocks, local, length, progress)


class _Url(Place):
    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        require_extra("fsspec", "fsspec", "a URL")
        from fsspec.core import url_to_fs  # noqa: PLC0415  # an optional package

        self.name = url
        try:
            self._fs, root = url_to_fs(url, **storage_options)
        except (ImportError, ValueError) as error:
            raise BadOption(f"{url!r} cannot be opened: {error}") from error
        self._root: str = root.rstrip("/")

    def prepare(self) -> bool:
        if self._fs.isfile(self._root):
            raise NotADirectoryError(errno.ENOTDIR, "this is a file, and a folder is needed", self.name)
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.invalidate_cache()
        return not self._fs.ls(self._root)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def length(self, path: str) -> int | None:
        try:
            found = self._fs.info(self._path(path))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return NOT_A_FILE
        return int(found["size"]) if found["type"] == "file" else NOT_A_FILE

    def open(self, path: str) -> BinaryIO:
        file: BinaryIO = self._fs.open(self._path(path), "rb")
        return file

    async def write(
        self, path: str, blocks: AsyncIterator[bytes], length: int, progress: Progress | None = None
    ) -> None:
        # A file system of fsspec may show a file before it is complete, so what exists is replaced by a rename.
        exists = await in_thread(partial(self.length, path)) is not None
        temporary = self._path(f"{path}.part" if exists else path)
        with _naming(f"{self.name}/{path}"):
            await in_thread(partial(self._fs.makedirs, str(PurePosixPath(temporary).parent), exist_ok=True))
            file = Opened(partial(self._fs.open, temporary, "wb"))
            done = 0
            try:
                await in_thread(file.open)
                async for block in blocks:
                    await in_thread(partial(file.write, block))
                    done += len(block)
                    await report(progress, done, length)
                await in_thread(file.close)
                if exists:
                    await in_thread(partial(self._fs.mv, temporary, self._path(path)))
            except BaseException as error:
                left = f"a part of the file may be left at {temporary}"
                await clean_up(in_thread(partial(self._discard, file, temporary, error)), error, left)
                raise

    def _discard(self, file: Opened, path: str, error: BaseException) -> None:
        try:
            file.discard(error)
        finally:  # on a full disk, closing fails again
            if self._fs.exists(path):
                self._fs.rm_file(path)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Add the path to an `OSError` without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = path
        raise


class PlacedFile(Source):
    """A file of a place as the source of an upload."""

    repeatable = True
    size: int | None

    def __init__(self, place: Place, path: str, size: int) -> None:
        self.size = size
        self._file = Opened(partial(place.open, path))

    async def prepare(self) -> None:
        await in_thread(self._file.open)

    async def read(self) -> bytes:
        return await in_thread(partial(self._file.read, BATCH_BYTES))

    async def aclose(self) -> None:
        await in_thread(self._file.close)
