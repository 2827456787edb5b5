"""`GridFSFileSystem`: the buckets of a database as a file system of fsspec."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import anyio
from fsspec.asyn import AsyncFileSystem, get_loop, sync
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import _Cached
from fsspec.utils import isfilelike
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption
from gridproxy.gridfs.download.download import read_range, read_ranges
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import DEFAULT_CHUNK_SIZE
from gridproxy.gridfs.upload.options import UploadOptions, upload_request
from gridproxy.runtime.tasks import gather

from .async_file import AsyncGridFSFile
from .clients import Clients
from .file import CompressedFile, GridFSFile
from .paths import PROTOCOL, split_target
from .tree import Revisions, Tree

Path_ = str | os.PathLike[str]
Entry = dict[str, Any]

# The options of an upload that a call may give. The path is the name, and content is always bytes.
_UPLOAD_OPTIONS = UploadOptions.__annotations__.keys() - {"filename", "encoding"}
# Options of fsspec's own, which have no effect here: listings are not cached.
_IGNORED_OPTIONS = {"use_listings_cache", "listings_expiry_time", "max_paths"}
# Files of one call that are read at the same time.
_FILES_AT_ONCE = 16


class _Instances(_Cached):
    """Makes the instances. fsspec returns one of them for equal options, but two database objects are never equal."""

    def __call__(
        cls,  # noqa: N805  # of a metaclass
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if any(isinstance(value, AsyncDatabase) for value in (*args, *kwargs.values())):
            kwargs["skip_instance_cache"] = True
        return super().__call__(*args, **kwargs)


class GridFSFileSystem(AsyncFileSystem, metaclass=_Instances):
    """The buckets of a database as directories, and their files by name.

    `gridfs://data/2026/t.parquet` is the file `2026/t.parquet` in the bucket `data`. Every other GridFS driver reads it
    by this name. A directory is the beginning of names, so one without files does not exist. Names that are no paths
    (with an empty part, `.` or `..`) are not listed.

    Storing a file under an existing name removes the older revisions when the new one is stored. A file that is open
    keeps its revision. Files cannot be appended to or changed in place.

    Args:
        uri: The address of the server, with user and password if it needs them.
        database: The name of the database. It may be in `uri` instead. With `asynchronous=True` also a database of
            your own `AsyncMongoClient`, which stays yours to close.
        revisions: "replace" removes the older revisions of an overwritten file, "keep" keeps them.
        chunk_size: The size of each chunk but the last, in bytes: 1 to 16 MiB less 256 bytes.
        checksum: "sha256" stores the SHA-256 of the content in the metadata, None computes none.
        asynchronous: Whether you await the methods with an underscore in your own event loop.
        loop: The event loop of the blocking methods. None for that of fsspec, which runs in a thread of its own.
        batch_size: How many files a call transfers at once. None for fsspec's choice.

    Raises:
        BadOption: An option is wrong or unknown, or no database is named.

    ```py
    fs = fsspec.filesystem("gridfs", uri="mongodb://localhost:27017", database="zoo")
    fs.pipe("data/notes.txt", b"some text")
    assert fs.cat("data/notes.txt") == b"some text"
    ```
    """

    protocol: ClassVar[str] = PROTOCOL
    root_marker: ClassVar[str] = ""

    def __init__(
        self,
        uri: str | None = None,
        database: str | AsyncDatabase[Any] | None = None,
        *,
        revisions: Revisions = "replace",
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: Literal["sha256"] | None = "sha256",
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if unknown := sorted(options.keys() - _IGNORED_OPTIONS):
            raise BadOption(f"a {PROTOCOL}:// file system has no option {unknown[0]!r}")
        if revisions not in ("replace", "keep"):
            raise BadOption(f"revisions is 'replace' or 'keep', not {revisions!r}")
        if isinstance(database, AsyncDatabase) and not asynchronous:
            raise BadOption(
                "a database object works in one event loop: pass asynchronous=True and await the methods, or give "
                "uri= and the database's name for the blocking ones"
            )
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self.clients: Clients = Clients(uri, database)
        self.files: Tree = Tree(self.clients, revisions, chunk_size, checksum)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the blocking methods, None for an asynchronous file system."""
        if self._pid != os.getpid():
            # A forked process has another loop, and `clients` makes a client for it.
            self._pid: int = os.getpid()
            self._loop: asyncio.AbstractEventLoop | None = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def fsid(self) -> str:
        """The name of the kind of file system."""
        return PROTOCOL

    async def aclose(self) -> None:
        """Close the client of the running event loop, unless the database is yours. The next use makes another one.

        An asynchronous file system that was made with `uri` needs this before its loop ends.
        """
        await self.clients.aclose()

    def close(self) -> None:
        """Close the client of the blocking methods. The next use makes another one. The end of the program does so."""
        sync(self.loop, self.aclose)

    def __reduce__(self) -> tuple[Any, ...]:
        if any(isinstance(value, AsyncDatabase) for value in (*self.storage_args, *self.storage_options.values())):
            raise TypeError("a file system with a database object cannot be pickled: make it with uri= and a name")
        reduced: tuple[Any, ...] = super().__reduce__()
        return reduced

    # Looking up

    async def _info(self, path: Path_, **_: Any) -> Entry:
        return await self.files.entry(self._path(path))

    async def _isfile(self, path: Path_) -> bool:
        try:
            return bool((await self._info(path))["type"] == "file")
        except FileNotFoundError:
            return False

    async def _ls(self, path: Path_, detail: bool = True, prefix: str = "", **_: Any) -> list[Any]:
        entries = await self.files.entries(self._path(path), prefix)
        return entries if detail else [entry["name"] for entry in entries]

    async def _find(
        self, path: Path_, maxdepth: int | None = None, withdirs: bool = False, prefix: str = "", **kwargs: Any
    ) -> Any:
        root = self._path(path)
        if maxdepth is not None:
            # Level by level, so that a search at the top of a large tree does not fetch all of it.
            first = {"prefix": prefix} if maxdepth == 1 and prefix else {}
            return await super()._find(root, maxdepth=maxdepth, withdirs=withdirs, **first, **kwargs)
        found = await self.files.find(root)
        if withdirs:
            found = {**_directories(root, found), **found}
            if root and found and root not in found:
                found[root] = {"name": root, "size": 0, "type": "directory"}
        names = sorted(found)
        return {name: found[name] for name in names} if kwargs.get("detail") else names

    async def _du(self, path: Path_, total: bool = True, maxdepth: int | None = None, **kwargs: Any) -> Any:
        found = await self._find(path, maxdepth=maxdepth, detail=True, **kwargs)
        sizes = {name: entry["size"] for name, entry in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _created(self, path: Path_) -> datetime | None:
        moment: datetime | None = (await self._info(path)).get("created")
        return moment

    def created(self, path: Path_) -> datetime | None:
        """Return when a file was stored, in UTC. None for a directory."""
        moment: datetime | None = sync(self.loop, self._created, path)
        return moment

    async def _modified(self, path: Path_) -> datetime | None:
        return await self._created(path)

    def modified(self, path: Path_) -> datetime | None:
        """Return when a file was stored, in UTC. The content of a stored file never changes. None for a directory."""
        return self.created(path)

    async def _checksum(self, path: Path_) -> int:
        _, info = await self.files.file(self._path(path))
        return int(info.sha256 or info.etag.strip('"'), 16)

    def checksum(self, path: Path_) -> int:
        """Return the SHA-256 of a file as a number, or another number that changes with the content."""
        number: int = sync(self.loop, self._checksum, path)
        return number

    # Reading

    async def _cat_file(self, path: Path_, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        async def read(bucket: Bucket, info: FileInfo) -> bytes:
            first, stop, _step = slice(start, end).indices(info.length)
            return await read_range(bucket.store, info.id, first, max(first, stop), info=info)

        return await self.files.read_newest(self._path(path), read)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        if not isinstance(paths, list):
            raise TypeError(f"paths is a list, not {type(paths).__name__}")
        begins = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        stops = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(begins) == len(stops):
            raise ValueError(f"{len(paths)} paths need as many starts and ends, not {len(begins)} and {len(stops)}")
        places: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            places.setdefault(path, []).append(place)

        async def read(path: str) -> list[bytes] | Exception:
            async def read_slices(bucket: Bucket, info: FileInfo) -> list[bytes]:
                slices = [slice(begins[place], stops[place]).indices(info.length)[:2] for place in places[path]]
                return await read_ranges(bucket.store, info.id, slices, info=info)

            try:
                return await self.files.read_newest(self._path(path), read_slices)
            except Exception as error:  # noqa: BLE001  # the caller gets it in the place of the content
                return error

        contents: list[Any] = [None] * len(paths)
        at_most = batch_size or self.batch_size or _FILES_AT_ONCE
        for path, found in zip(places, await gather([read(path) for path in places], at_most=at_most), strict=True):
            if isinstance(found, Exception) and on_error != "return":
                raise found
            for number, place in enumerate(places[path]):
                contents[place] = found if isinstance(found, Exception) else found[number]
        return contents

    async def _get_file(self, rpath: Path_, lpath: Any, callback: Callback = DEFAULT_CALLBACK, **_: Any) -> None:
        try:
            bucket, info = await self.files.file(self._path(rpath))
        except IsADirectoryError:
            await anyio.Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        if not isfilelike(lpath):
            await anyio.Path(lpath).parent.mkdir(parents=True, exist_ok=True)
        callback.set_size(info.length)
        await bucket.file(info.id).save_to(lpath, lambda done, _: callback.absolute_update(done))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> GridFSFile:
        _check_mode(path, mode)
        if self.asynchronous:
            raise NotImplementedError(f"this file system is asynchronous: await open_async({path!r}) instead of open")
        if mode == "rb":
            _, record = sync(self.loop, self.files.file, self._path(path))
            cache_type = kwargs.get("cache_type") or "gridfs"
            return GridFSFile(
                self, path, mode, block_size, cache_type=cache_type, cache_options=cache_options, record=record
            )
        options = _upload_options(kwargs)
        sync(self.loop, self.files.check_target, self._path(path), exclusive=mode == "xb")
        return GridFSFile(self, path, "wb", block_size, autocommit, options=options)

    def open(
        self,
        path: Path_,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return an open file.

        Args:
            path: The bucket and the name, as `data/notes.txt` or as a URL.
            mode: "rb", "wb" or "xb" (fails if the file exists), or "r", "w" or "x" for text.
            block_size: How many bytes to fetch or send at least. None for the file's chunk size.
            cache_options: Options of the cache that `cache_type` names.
            compression: A codec of fsspec's such as "gzip", or "infer" for that of the name.
            **kwargs: `encoding`, `errors` and `newline` for text. `cache_type` for reading. For writing `content_type`,
                `metadata`, `chunk_size` (bytes), `expires_at` and `expires_after` (seconds) as in `Bucket.upload`.

        Raises:
            FileNotFoundError: There is no such file.
            NotImplementedError: The mode appends or changes a file in place, which GridFS cannot do.
        """
        if compression is None or "b" not in mode or "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        from fsspec.compression import compr  # noqa: PLC0415  # it imports every codec that is installed
        from fsspec.core import get_compression  # noqa: PLC0415  # it imports all of fsspec

        file = super().open(path, mode, block_size, cache_options, **kwargs)
        codec = get_compression(os.fspath(path), compression)
        return file if codec is None else CompressedFile(compr[codec](file, mode="w"), file)

    async def open_async(self, path: Path_, mode: str = "rb", **kwargs: Any) -> AsyncGridFSFile:
        """Return an open file whose methods are awaited.

        Args:
            path: The bucket and the name.
            mode: "rb", "wb" or "xb".
            **kwargs: For writing `content_type`, `metadata` and others, as for `open`.

        Raises:
            FileNotFoundError: There is no such file.
            NotImplementedError: The mode appends or changes a file in place, or is one of text.
        """
        target = self._path(path)
        _check_mode(target, mode)
        if mode == "rb":
            bucket, record = await self.files.file(target)
            return AsyncGridFSFile(self, target, mode, record=record, reader=await bucket.file(record.id).open())
        options = _upload_options(kwargs)
        await self.files.check_target(target, exclusive=mode == "xb")
        return AsyncGridFSFile(self, target, "wb", writer=await self.files.open_upload(target, options))

    # Writing

    async def _pipe_file(self, path: Path_, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        options = _upload_options(kwargs)
        await self.files.store(self._path(path), value, options, exclusive=mode == "create")

    async def _put_file(
        self, lpath: Path_, rpath: Path_, mode: str = "overwrite", callback: Callback = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        options = _upload_options(kwargs)
        source = anyio.Path(lpath)
        if await source.is_dir():
            await self._makedirs(rpath, exist_ok=True)
            return
        callback.set_size((await source.stat()).st_size)
        await self.files.store(
            self._path(rpath),
            Path(lpath),
            options,
            exclusive=mode == "create",
            progress=lambda done, _: callback.absolute_update(done),
        )

    async def _touch(self, path: Path_, truncate: bool = True, **kwargs: Any) -> None:
        if truncate or not await self.files.touch(self._path(path)):
            await self._pipe_file(path, b"", **kwargs)

    def touch(self, path: Path_, truncate: bool = True, **kwargs: Any) -> None:
        """Store an empty file. With `truncate=False` only set the date of an existing file to now."""
        sync(self.loop, self._touch, path, truncate=truncate, **kwargs)

    async def _mkdir(self, path: Path_, create_parents: bool = True, **_: Any) -> None:
        await self.files.make_directory(self._path(path), exist_ok=False)

    async def _makedirs(self, path: Path_, exist_ok: bool = False) -> None:
        await self.files.make_directory(self._path(path), exist_ok=exist_ok)

    async def _rmdir(self, path: Path_) -> None:
        await self.files.remove_directory(self._path(path))

    def rmdir(self, path: Path_) -> None:
        """Remove a bucket without files. Other directories exist only while they have files."""
        sync(self.loop, self._rmdir, path)

    # Copying and removing

    async def _cp_file(self, path1: Path_, path2: Path_, *, move: bool = False, **_: Any) -> None:
        await self.files.copy(self._path(path1), self._path(path2), move=move)

    async def _mv_file(self, path1: Path_, path2: Path_) -> None:
        await self._cp_file(path1, path2, move=True)

    async def _mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        if isinstance(path1, str | os.PathLike) and not recursive:
            recursive = await self._isdir(path1)
        # A directory is gone when its files were moved, which is not an error.
        on_error = "ignore" if recursive else "raise"
        await self._copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error=on_error, move=True)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Move files. Inside a bucket the server only renames them. A directory is moved with its files."""
        sync(self.loop, self._mv, path1, path2, recursive=recursive, maxdepth=maxdepth)

    async def _rm_file(self, path: Path_, **_: Any) -> None:
        await self.files.remove([self._path(path)])

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        await self.files.remove(paths, directories=recursive)

    @classmethod
    def _path(cls, path: Path_) -> str:
        return str(cls._strip_protocol(path))


def _directories(root: str, names: Iterable[str]) -> dict[str, Entry]:
    """Return the entries of all directories between `root` and the files."""
    found: dict[str, Entry] = {}
    for name in names:
        parent = name.rpartition("/")[0]
        while len(parent) > len(root) and parent not in found:
            found[parent] = {"name": parent, "size": 0, "type": "directory"}
            parent = parent.rpartition("/")[0]
    return found


def _upload_options(given: Mapping[str, Any]) -> UploadOptions:
    if unknown := sorted(given.keys() - _UPLOAD_OPTIONS):
        raise TypeError(f"a {PROTOCOL}:// file has no option {unknown[0]!r}, only {', '.join(sorted(_UPLOAD_OPTIONS))}")
    options: UploadOptions = {**given}  # type: ignore[typeddict-item]  # the line above has checked the keys
    upload_request(**options)
    return options


def _check_mode(path: str, mode: str) -> None:
    if mode not in ("rb", "wb", "xb"):
        raise NotImplementedError(
            f"{PROTOCOL}://{path} cannot be opened with {mode!r}: a file in GridFS is read ('rb') or written "
            "as a whole ('wb', 'xb'). To append, store another file, or read this one and store it again"
        )
    if mode != "rb":
        split_target(path)
