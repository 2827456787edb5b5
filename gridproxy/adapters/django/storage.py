"""The storage of Django's files in a GridFS bucket."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urljoin

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils import timezone
from django.utils.deconstruct import deconstructible
from django.utils.encoding import filepath_to_uri

from gridproxy.errors import FileMissing
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import DEFAULT_NAME
from gridproxy.sync import Bucket, Client, GridFile, Reader, Writer

from .files import GridFSFile


class Links(Protocol):
    """Makes links to files, as `gridproxy.adapters.starlette.SignedLinks` does."""

    def url(self, prefix: str, file: object = None, /, *, expires_in: timedelta | float) -> str:
        """Return a link to the file of this name below `prefix`. It is valid for `expires_in` seconds."""


@deconstructible(path="gridproxy.adapters.django.GridFSStorage")
class GridFSStorage(Storage):
    """A storage for `STORAGES`: each file of Django is a file in one GridFS bucket, under its name.

    Other drivers read the files by this name. Directories are the parts of names before a `/`. Missing files raise
    `FileNotFoundError`. The storage connects with its first use, and threads and forked processes can share it.

    Args:
        uri: The address of the server.
        database: The name of the database.
        bucket: The name of the bucket.
        base_url: The address below which `GridFSView` or another server serves the files. None for `MEDIA_URL`.
        links: An object whose `url(base_url, name, expires_in=...)` makes the address of a file, such as `SignedLinks`.
            None for `base_url` followed by the name.
        expires_in: How long an address of `links` is valid, in seconds or as a timedelta.
        allow_overwrite: Whether a saved file replaces one of the same name. By default it gets another name.
        client_options: Options of pymongo's client, such as `{"timeoutMS": 5000}`.
        bucket_options: Options of `Client.bucket`, such as `{"chunk_size": 1024 * 1024}`.

    ```python
    storage = GridFSStorage(uri=uri, database="zoo", bucket="media", base_url="/media/")
    name = storage.save("photos/marmot.txt", File(io.BytesIO(b"a marmot")))
    assert storage.url(name) == "/media/photos/marmot.txt"
    ```
    """

    def __init__(
        self,
        *,
        uri: str,
        database: str,
        bucket: str = DEFAULT_NAME,
        base_url: str | None = None,
        links: Links | None = None,
        expires_in: timedelta | float = 3600,
        allow_overwrite: bool = False,
        client_options: dict[str, Any] | None = None,
        bucket_options: dict[str, Any] | None = None,
    ) -> None:
        self._connect: Callable[[], Bucket] = lambda: Client(uri, **(client_options or {})).bucket(
            database, bucket, **(bucket_options or {})
        )
        self._bucket: Bucket | None = None
        self._lock = Lock()
        self._base_url = base_url
        self._links = links
        self._expires_in = expires_in
        self._allow_overwrite = allow_overwrite

    @property
    def bucket(self) -> Bucket:
        """The bucket that the files are in."""
        with self._lock:
            if self._bucket is None:
                self._bucket = self._connect()
            return self._bucket

    def file(self, name: str | os.PathLike[str]) -> GridFile:
        """Return the newest file of a name, with its record.

        Raises:
            FileNotFoundError: There is no such file, or it has expired.

        ```python
        assert storage.file(storage.save("notes.txt", File(io.BytesIO(b"text")))).length == 4
        ```
        """
        with _not_found(name):
            return self.bucket.by_name(str(name))

    def _info(self, name: str | os.PathLike[str]) -> FileInfo:
        info = self.file(name).info
        assert info is not None, "`by_name` returns the record, too"
        return info

    def _revisions(self, name: str | os.PathLike[str]) -> list[object]:
        return [info.id for info in self.bucket.find({"filename": {"$eq": str(name)}})]

    def _open(self, name: str | os.PathLike[str], mode: str = "rb") -> GridFSFile:
        def read() -> Reader:
            with _not_found(name):
                return self.bucket.by_name(str(name)).open()

        def write() -> tuple[Writer, Callable[[], object]]:
            older = self._revisions(name)
            return self.bucket.create(filename=str(name)), lambda: self.bucket.delete_many(older)

        return GridFSFile(str(name), mode, read, write)

    def _save(self, name: str, content: File) -> str:
        name = str(name).replace("\\", "/")
        older = self._revisions(name) if self._allow_overwrite else []
        # The type that a browser declares is used if the content does not contradict it.
        info = self.bucket.upload(_source(content), filename=name)
        if self._allow_overwrite:
            self.bucket.delete_many(older)
            return name
        # Another process may have stored a file of this name since it was available.
        while any(id != info.id for id in self._revisions(name)):
            other = self.get_available_name(name)
            if other == name:
                break  # a subclass keeps several files of one name, of which the newest is read
            name = other
            self.bucket.rename(info.id, name)
        return name

    def delete(self, name: str | os.PathLike[str]) -> None:
        """Remove all revisions of a name. A missing file is not an error."""
        if not name:
            raise ValueError("The name must be given to delete().")
        self.bucket.delete_many(self._revisions(name))

    def exists(self, name: str | os.PathLike[str]) -> bool:
        """Return whether there is a file of this name."""
        try:
            self.file(name)
        except FileNotFoundError:
            return False
        return True

    def is_name_available(self, name: str, max_length: int | None = None) -> bool:
        """Return whether a file can be saved under this name."""
        if self._allow_overwrite:
            return not max_length or len(name) <= max_length
        return bool(super().is_name_available(name, max_length))

    def listdir(self, path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
        """Return the names of the directories and of the files in a directory.

        Raises:
            FileNotFoundError: There is no file in it.
        """
        folder = str(path).strip("/")
        prefix = f"{folder}/" if folder not in ("", ".") else ""
        folders: set[str] = set()
        files: set[str] = set()
        for info in self.bucket.find({"filename": {"$regex": f"^{re.escape(prefix)}"}}):
            name, slash, _ = (info.filename or "").removeprefix(prefix).partition("/")
            (folders if slash else files).add(name)
        if prefix and not folders | files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return sorted(folders), sorted(files)

    def size(self, name: str | os.PathLike[str]) -> int:
        """Return the length in bytes."""
        return self._info(name).length

    def url(self, name: str | os.PathLike[str] | None) -> str:
        """Return the address of a file. Whether the file exists is not checked."""
        base: str = (settings.MEDIA_URL if self._base_url is None else self._base_url).rstrip("/")
        if self._links is not None and name is not None:
            return self._links.url(base, str(name), expires_in=self._expires_in)
        path: str = filepath_to_uri(None if name is None else str(name)) or ""
        return urljoin(f"{base}/", path.lstrip("/"))

    def get_created_time(self, name: str | os.PathLike[str]) -> datetime:
        """Return the time when the file was stored: aware if `USE_TZ` is set, and otherwise in local time."""
        uploaded = self._info(name).upload_date
        if uploaded is None:
            raise NotImplementedError(f"the record of {name!r} has no date")
        return uploaded if settings.USE_TZ else timezone.make_naive(uploaded, timezone.get_default_timezone())

    def get_modified_time(self, name: str | os.PathLike[str]) -> datetime:
        """Return the same as `get_created_time`: content never changes, and a new file takes its place."""
        return self.get_created_time(name)


@contextmanager
def _not_found(name: object) -> Iterator[None]:
    try:
        yield
    except FileMissing as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(name)) from error


def _source(content: File) -> Any:
    """Return the content from its start, as a source of an upload."""
    if isinstance(content.file, io.TextIOBase):
        return (chunk.encode() for chunk in content.chunks())
    if content.seekable():
        content.seek(0)
    return content
