"""Files and directories in the buckets of a database. A directory is the beginning of names, up to a slash."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol, TypeVar

from gridproxy.bucket import Bucket
from gridproxy.errors import CorruptFile, FileMissing, FileVanished
from gridproxy.gridfs.operations.copy import copy_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import DEFAULT_CHUNK_SIZE
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.upload.options import UploadOptions
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.tasks import both

from .clients import Clients
from .paths import (
    PROTOCOL,
    beginning,
    directory_entry,
    file_entry,
    is_newer,
    is_path,
    missing,
    parents_of,
    split_path,
    split_target,
)

Revisions = Literal["replace", "keep"]
T = TypeVar("T")

# How often a read by name looks for the newest revision.
_LOOKS = 4

# Names in one page of a search for directories. Each directory in a page costs no request of its own.
_NAMES_PER_PAGE = 1000
# Names in one condition. Servers process long lists slowly.
_NAMES_PER_QUERY = 250


class Tree:
    """The operations on files and directories, by path. Paths have no protocol."""

    def __init__(
        self,
        clients: Clients,
        revisions: Revisions,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: Literal["sha256"] | None = "sha256",
    ) -> None:
        self._clients = clients
        self._revisions = revisions
        self._chunk_size = chunk_size
        self._checksum = checksum

    def bucket(self, name: str) -> Bucket:
        """Return a bucket, with the client of the running event loop."""
        return Bucket(self._clients.database(), name, chunk_size=self._chunk_size, checksum=self._checksum)

    # Looking up

    async def file(self, path: str) -> tuple[Bucket, FileInfo]:
        """Return the newest revision of a file.

        Raises `FileNotFoundError`, or `IsADirectoryError` for a directory.
        """
        bucket_name, name = split_path(path)
        if bucket_name and name:
            bucket = self.bucket(bucket_name)
            try:
                found = await bucket.by_name(name)
            except FileMissing:
                if not await self._has_files(bucket, name):
                    raise missing(path, f"no file or directory in {bucket.store.description}") from None
            else:
                assert found.info is not None
                return bucket, found.info
        elif bucket_name and not await self.has_bucket(bucket_name):
            raise self._missing_bucket(bucket_name)
        hint = "" if name else f". A URL is {PROTOCOL}://BUCKET/NAME"
        raise IsADirectoryError(errno.EISDIR, f"this is a directory and not a file{hint}", f"{PROTOCOL}://{path}")

    async def read_newest(self, path: str, read: Callable[[Bucket, FileInfo], Awaitable[T]]) -> T:
        """Read the newest revision, and look again if another client has replaced it in between."""
        for _ in range(_LOOKS - 1):
            with suppress(FileVanished):
                return await read(*await self.file(path))
        return await read(*await self.file(path))

    async def entry(self, path: str) -> dict[str, Any]:
        """Return what is known about a file or a directory. Raises `FileNotFoundError`."""
        try:
            bucket, info = await self.file(path)
        except IsADirectoryError:
            return directory_entry(path)
        return file_entry(bucket.name, info)

    async def buckets(self) -> list[str]:
        """Return the names of all buckets of the database."""
        names = await self._clients.database().list_collection_names(filter={"name": {"$regex": r"\.files$"}})
        return sorted(name.removesuffix(".files") for name in names if "/" not in name)

    async def has_bucket(self, name: str) -> bool:
        """Return whether the collection of a bucket's records exists."""
        return bool(await self._clients.database().list_collection_names(filter={"name": f"{name}.files"}))

    def _missing_bucket(self, name: str) -> FileNotFoundError:
        database = self._clients.database().name
        return missing(name, f"the database {database!r} has no bucket of this name. A URL is {PROTOCOL}://BUCKET/NAME")

    async def _has_files(self, bucket: Bucket, name: str) -> bool:
        return bool(
            await self._names(bucket, {"filename": beginning(f"{name}/"), **await _not_expired(bucket)}, limit=1)
        )

    # Listing

    async def entries(self, path: str, stem: str = "") -> list[dict[str, Any]]:
        """Return the entries of a directory whose names begin with `stem`, or the entry of a file.

        Raises `FileNotFoundError` if there is nothing, unless `stem` is given.
        """
        bucket_name, name = split_path(path)
        if not bucket_name:
            return [directory_entry(bucket) for bucket in await self.buckets() if bucket.startswith(stem)]
        bucket = self.bucket(bucket_name)
        prefix = f"{name}/" if name else ""
        files = await self._newest(bucket, beginning(prefix + stem, "[^/]*$"))
        directories = [
            directory_entry(f"{bucket_name}/{each}") async for each in self._directories(bucket, prefix, stem)
        ]
        found = [*directories, *(file_entry(bucket_name, info) for info in files.values())]
        if not found and not stem:
            entry = await self.entry(path)  # raises if there is nothing
            return [entry] if entry["type"] == "file" else []
        return sorted(found, key=lambda entry: str(entry["name"]))

    async def find(self, path: str) -> dict[str, dict[str, Any]]:
        """Return the entries of all files below a directory, or of one file, by path. Empty if there is nothing."""
        bucket_name, name = split_path(path)
        if not bucket_name:
            found: dict[str, dict[str, Any]] = {}
            for each in await self.buckets():
                found.update(await self.find(each))
            return found
        files = await self._newest(self.bucket(bucket_name), beginning(f"{name}/" if name else ""))
        entries = [file_entry(bucket_name, info) for info in files.values()]
        if not entries and name:
            try:
                bucket, info = await self.file(path)
            except FileNotFoundError:
                return {}
            entries = [file_entry(bucket.name, info)]
        return {str(entry["name"]): entry for entry in sorted(entries, key=lambda entry: str(entry["name"]))}

    async def _newest(self, bucket: Bucket, names: Mapping[str, Any]) -> dict[str, FileInfo]:
        """Return the newest revision of each name that matches and is a path."""
        found: dict[str, FileInfo] = {}
        search = bucket.find({"filename": names, **await _not_expired(bucket)})
        while True:
            try:
                info = await anext(search)
            except StopAsyncIteration:
                return found
            except CorruptFile:
                continue  # its record is not that of a file: opening it by its name raises the error
            if info.filename is None or not is_path(info.filename):
                continue
            known = found.get(info.filename)
            if known is None or is_newer(info, known):
                found[info.filename] = info

    async def _directories(self, bucket: Bucket, prefix: str, stem: str) -> AsyncIterator[str]:
        """Yield the directories at one level. A page of names at most is fetched for each of them."""
        inside = beginning(prefix + stem, "[^/]*/")
        after, last = "", None
        while True:
            condition = {"filename": {**inside, "$gt": after}, **await _not_expired(bucket)}
            names = await self._names(bucket, condition, limit=_NAMES_PER_PAGE)
            for name in names:
                directory = prefix + name[len(prefix) :].partition("/")[0]
                if directory != last and is_path(name):
                    yield directory
                    last = directory
                # The next page begins after the directory: 0 is the character that follows the slash.
                after = f"{directory}0" if directory == last else name
            if len(names) < _NAMES_PER_PAGE:
                return

    async def _names(self, bucket: Bucket, query: Mapping[str, Any], *, limit: int = 0) -> list[str]:
        store = bucket.store
        session = store.session_for(None)
        found = store.files.find(query, {"_id": 0, "filename": 1}, sort=[("filename", 1)], limit=limit, session=session)
        async with lock(session), found as cursor:
            return [record["filename"] for record in await cursor.to_list()]

    # Storing

    async def check_target(self, path: str, *, exclusive: bool = False) -> None:
        """Check that a file can be stored under a path.

        Raises `NotADirectoryError` if a directory above is a file, `IsADirectoryError` if the path is a directory, and
        `FileExistsError` for an existing file if `exclusive`.
        """
        bucket_name, name = split_target(path)
        bucket = self.bucket(bucket_name)
        taken = {"$or": [{"filename": {"$in": parents_of(name)}}, {"filename": beginning(f"{name}/")}]}
        if exclusive:
            taken["$or"].append({"filename": name})
        for other in await self._names(bucket, {**taken, **await _not_expired(bucket)}, limit=1):
            url = f"{PROTOCOL}://{bucket_name}/{other}"
            if other == name:
                raise FileExistsError(errno.EEXIST, "this file exists", url)
            if len(other) > len(name):
                raise IsADirectoryError(errno.EISDIR, "this is a directory and cannot be stored as a file", url)
            raise NotADirectoryError(errno.ENOTDIR, "this is a file and cannot be a directory, too", url)

    async def store(
        self,
        path: str,
        source: SourceLike,
        options: UploadOptions,
        *,
        exclusive: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Store a file. The older revisions are removed when it is stored."""
        bucket_name, name = split_target(path)
        bucket = self.bucket(bucket_name)
        _, older = await both(self.check_target(path, exclusive=exclusive), self._revisions_to_remove(bucket, name))
        named: UploadOptions = {**options, "filename": name}
        await bucket.upload(source, progress=progress, **named)
        await bucket.delete_many(older)

    async def open_upload(self, path: str, options: UploadOptions) -> Writer:
        """Begin a file that is written in parts."""
        bucket, name = split_target(path)
        named: UploadOptions = {**options, "filename": name}
        return await self.bucket(bucket).open_upload(**named)

    async def publish(self, writer: Writer, path: str) -> None:
        """Make a written file visible, and remove the older revisions then."""
        bucket_name, name = split_target(path)
        bucket = self.bucket(bucket_name)
        older = await self._revisions_to_remove(bucket, name)
        await writer.close()
        await bucket.delete_many(older)

    async def _revisions_to_remove(self, bucket: Bucket, name: str) -> list[object]:
        """Return the ids of the revisions that exist before a new one is stored.

        Only these are removed afterwards. Of two clients that store the same name at once, at most one sees the file of
        the other one, so they cannot remove each other's file.
        """
        return [] if self._revisions == "keep" else await self._ids(bucket, name)

    async def _ids(self, bucket: Bucket, name: str) -> list[object]:
        return await bucket.store.find_ids({"filename": name}, bucket.store.session_for(None))

    async def _ids_by_name(self, bucket: Bucket, names: list[str]) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {}
        session = bucket.store.session_for(None)
        for at in range(0, len(names), _NAMES_PER_QUERY):
            query = {"filename": {"$in": names[at : at + _NAMES_PER_QUERY]}}
            async with lock(session), bucket.store.files.find(query, {"filename": 1}, session=session) as cursor:
                for record in await cursor.to_list():
                    found.setdefault(record["filename"], []).append(record["_id"])
        return found

    async def touch(self, path: str) -> bool:
        """Set the date of an existing file to now. Return False if there is no file."""
        try:
            bucket, info = await self.file(path)
        except FileNotFoundError:
            return False
        await bucket.store.update_record(
            info.id, {"$currentDate": {"uploadDate": True}}, bucket.store.session_for(None)
        )
        return True

    # Copying and removing

    async def copy(self, source: str, target: str, *, move: bool = False) -> None:
        """Copy or move one file, inside the server. A directory is left out."""
        try:
            bucket, info = await self.file(source)
        except IsADirectoryError:
            return
        target_bucket, name = split_target(target)
        if (bucket.name, info.filename) == (target_bucket, name):
            return
        assert info.filename is not None
        other = self.bucket(target_bucket)
        _, existing = await both(self.check_target(target), self._ids(other, name))
        older = existing if self._revisions == "replace" else []
        if target_bucket != bucket.name:
            await copy_file(bucket.store, info.id, filename=name, target=other.store)
        # A renamed file keeps its date, so it may not be the newest revision beside others that stay.
        elif move and existing == older:
            await bucket.rename_by_name(info.filename, name)
        else:
            await bucket.copy(info.id, filename=name)
        await other.delete_many(older)
        if move:
            await bucket.delete_many(await self._ids(bucket, info.filename))

    async def remove(self, paths: Iterable[str], *, directories: bool = False) -> None:
        """Remove files with all their revisions. `directories` allows directories, which are left out.

        Raises `FileNotFoundError` or `IsADirectoryError` before anything is removed.
        """
        buckets: dict[str, set[str]] = {}
        for path in paths:
            bucket_name, name = split_path(path)
            if name:
                buckets.setdefault(bucket_name, set()).add(name)
            elif not directories:
                await self.file(path)  # raises the error
        found: list[tuple[Bucket, list[object]]] = []
        for bucket_name, names in buckets.items():
            bucket = self.bucket(bucket_name)
            ids = await self._ids_by_name(bucket, sorted(names))
            for name in sorted(names - ids.keys()):
                if not directories:
                    await self.file(f"{bucket_name}/{name}")  # raises the error
            found.append((bucket, [id for each in ids.values() for id in each]))
        for bucket, existing in found:
            await bucket.delete_many(existing)

    async def make_directory(self, path: str, *, exist_ok: bool) -> None:
        """Create a bucket, or check that a directory can be created. Directories without files do not exist."""
        bucket_name, name = split_path(path)
        if not name:
            if bucket_name and not await self.has_bucket(bucket_name):
                await self.bucket(bucket_name).ensure_indexes(force=True)
            elif not exist_ok:
                raise FileExistsError(errno.EEXIST, "this directory exists", f"{PROTOCOL}://{path}")
            return
        try:
            entry = await self.entry(path)
        except FileNotFoundError:
            await self.check_target(f"{path}/name")  # none of the directories above is a file
            return
        if entry["type"] == "file" or not exist_ok:
            raise FileExistsError(errno.EEXIST, f"this {entry['type']} exists", f"{PROTOCOL}://{path}")

    async def remove_directory(self, path: str) -> None:
        """Remove a bucket that has no files. Other directories exist only while they have files."""
        bucket_name, name = split_path(path)
        entry = await self.entry(path)
        if entry["type"] == "file":
            raise NotADirectoryError(errno.ENOTDIR, "this is a file", f"{PROTOCOL}://{path}")
        if name or not bucket_name or await self.bucket(bucket_name).store.files.find_one({}, {"_id": 1}) is not None:
            raise OSError(errno.ENOTEMPTY, "this directory has files", f"{PROTOCOL}://{path}")
        await self.bucket(bucket_name).drop()


async def _not_expired(bucket: Bucket) -> dict[str, Any]:
    return {"expires_at": {"$not": {"$lte": await server_now(bucket.store)}}}


class FileSystem(Protocol):
    """What an open file needs of its file system."""

    files: Tree

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the blocking methods."""
