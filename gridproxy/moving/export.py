"""Files of a bucket to a folder or a URL, and back, with records that stay as they are."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO

from gridproxy.bucket import Bucket
from gridproxy.errors import BadManifest, CorruptFile, FileVanished
from gridproxy.gridfs.download.download import Download
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.operations.many import read_together
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.ids import id_key
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tasks import gather, in_thread, interruptible
from gridproxy.upkeep.bucket_scanner import open_scanner

from .manifest import Entry, check_manifest, header, read_entries
from .names import MANIFEST, TakenPaths, other_paths, safe_path
from .places import NOT_A_FILE, Place, PlacedFile, open_place
from .receiver import MovingFile, Outcome, Receiver, count_outcomes, exact_store, grouped, is_small, without_own_keys
from .report import Tallies, TransferReport, UnmovedFile
from .transfer import RANGES_AHEAD, total_bytes
from .workers import Workers

_FILES_PER_PAGE = 200
_PAGES_AT_ONCE = 3
_FILES_AT_ONCE = 8
# The manifest is kept in memory up to this size, and then in a temporary file.
_MANIFEST_IN_MEMORY = 1024 * 1024


async def export_files(
    bucket: Bucket,
    target: str | os.PathLike[str],
    filter: Mapping[str, Any] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Write files to a folder or a URL, with a `manifest.jsonl` that `import_files` reads.

    The manifest has the whole record of each file, so an import restores ids, names, metadata and dates. The path of a
    file is its name, if that is a safe path in the folder and no other file has it. Otherwise the path is another one,
    and the manifest says so. Expired files are left out.

    Each file is written as a whole or not at all, and its SHA-256 is compared. A file in the folder is never
    overwritten, except for the manifest. A repetition skips what is there already, and adds to the manifest.

    Args:
        bucket: The bucket to read from.
        target: A folder, which is created if it does not exist, or a URL that fsspec can open (`s3://bucket/folder`).
            URLs need the extra `fsspec`.
        filter: A MongoDB query on the records. None for all files. Put values from outside into `{"$eq": value}` only.
        storage_options: What fsspec needs to open the URL, such as credentials.
        progress: Called with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not written with the reasons.

    Raises:
        BadOption: An argument is wrong, or it runs in a block of `session.bind()`.
        BadManifest: The folder has a `manifest.jsonl` that is not one of an export.
        OSError: A file cannot be written, for example `NotADirectoryError`, or the disk is full. What was written
            before is whole, and a repetition continues.

    ```python
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        report = await gridproxy.export_files(bucket, folder)
        assert (report.transferred, report.ok) == (1, True)
        assert Path(folder, "notes.txt").read_bytes() == b"some content"
    ```
    """
    store = exact_store(bucket, "bucket")
    place = open_place(target, storage_options)
    empty = await in_thread(place.prepare)
    if not empty and await in_thread(partial(place.length, MANIFEST)) is not None:
        await in_thread(partial(check_manifest, place))  # another file of this name must not be replaced
    tallies = Tallies(progress, await total_bytes(store, filter, progress))
    with tempfile.SpooledTemporaryFile(_MANIFEST_IN_MEMORY) as lines:
        export = _Export(store, place, filter or {}, tallies, lines, empty)
        await export.run()
        await export.write_manifest()
    return tallies.report()


class _Export:
    def __init__(
        self,
        store: Store,
        place: Place,
        filter: Mapping[str, Any],
        tallies: Tallies,
        lines: Any,
        empty: bool,
    ) -> None:
        self._store = store
        self._place = place
        self._filter = filter
        self._tallies = tallies
        self._lines: BinaryIO = lines
        self._empty = empty  # whether the folder was empty at the beginning
        self._taken = TakenPaths()
        self._ids: set[int] = set()  # hashes of the ids in the manifest
        self._large = asyncio.Semaphore(1)
        self._lock = asyncio.Lock()  # of the lines, which several pages write

    async def run(self) -> None:
        async with open_scanner(self._store) as scanner, Workers(_PAGES_AT_ONCE) as workers:
            pages = scanner.pages(scanner.files, None, self._filter, _FILES_PER_PAGE)
            while records := await interruptible(anext(pages, None)):
                now = await server_now(self._store)
                files = [file for record in records if (file := self._moving(record)) and not file.source.expired(now)]
                renamed = {id(file): await self._choose_path(file) for file in files}
                await workers.start(self._move(files, renamed))

    def _moving(self, record: Record) -> MovingFile | None:
        try:
            return MovingFile(without_own_keys(record), FileInfo.from_record(record))
        except CorruptFile as error:
            self._tallies.add_failed(UnmovedFile(record["_id"], None, error.reason))
            return None

    async def _choose_path(self, file: MovingFile) -> str | None:
        """Choose the path of a file, and note whether its bytes are there. Return why it is not the name."""
        name = file.source.filename
        path = safe_path(name, file.id)
        reason = None if path == name else "it has no name" if not name else "its name is not a safe path"
        for candidate in (path, *other_paths(path, file.id)):
            if self._taken.is_free(candidate) and await self._is_there(file, candidate) is not False:
                file.place = candidate
                self._taken.add(candidate)
                return reason
            reason = reason or "its path is taken by another file"
        file.end(Outcome.DIFFERENT, f"other files have the paths {path} and {candidate}")
        return reason

    async def _is_there(self, file: MovingFile, path: str) -> bool | None:
        """Return whether a file at this path has the same bytes, or None if there is none."""
        if self._empty:
            return None
        length = await in_thread(partial(self._place.length, path))
        if length is None:
            return None
        if length == NOT_A_FILE or length != file.source.length:
            return False
        digest = await in_thread(partial(self._place.digest, path))
        expected = file.source.sha256
        if expected is None:
            content = Download(self._store, file.source.id, info=file.source, most_ahead=RANGES_AHEAD)
            expected = await _digest_of(DownloadStream(content))
        if digest == expected:
            file.digest = digest
            file.end(Outcome.SKIPPED)
        return digest == expected

    async def _move(self, files: Sequence[MovingFile], renamed: Mapping[int, str | None]) -> None:
        waiting = [file for file in files if file.outcome is None]
        await self._tallies.advance(sum(file.source.length for file in files if file.outcome is not None))
        for group in grouped([file for file in waiting if is_small(file)], BATCH_BYTES):
            contents = await interruptible(read_together(self._store, [file.source for file in group]))
            for file in group:
                await self._write(file, contents.get(file.source.id))
        for file in waiting:
            if not is_small(file):
                async with self._large:
                    await self._write(file, None)
        count_outcomes(files, self._tallies)
        entries = [
            Entry(file.place, file.digest or "", file.record, renamed[id(file)]) for file in files if file.is_whole
        ]
        self._ids.update(hash(id_key(entry.record["_id"])) for entry in entries)
        async with self._lock:
            await in_thread(partial(self._lines.writelines, [entry.line() for entry in entries]))

    async def _write(self, file: MovingFile, content: bytes | None) -> None:
        stream = DownloadStream(Download(self._store, file.source.id, info=file.source, most_ahead=RANGES_AHEAD))
        blocks = _Checked(file, stream if content is None else _once(content))
        progress = self._tallies.of_one(id(file)) if content is None else None
        try:
            await self._place.write(file.place, blocks.run(), file.source.length, progress)
        except (CorruptFile, FileVanished) as error:
            file.end(Outcome.FAILED, str(error))
        else:
            file.digest = blocks.digest
            file.end(Outcome.TRANSFERRED)
        finally:
            self._tallies.end_of(id(file))
            await stream.aclose()
        await self._tallies.advance(file.source.length)

    async def write_manifest(self) -> None:
        """Write the manifest, with the lines of earlier exports to the same folder for files that are not in this."""
        lines = self._lines
        if not self._empty and await in_thread(partial(self._place.length, MANIFEST)) is not None:
            async with aclosing(read_entries(self._place)) as pages:
                async for page in pages:
                    kept = [entry for _, entry in page if hash(id_key(entry.record["_id"])) not in self._ids]
                    await in_thread(partial(lines.writelines, [entry.line() for entry in kept]))
        await in_thread(partial(lines.seek, 0, os.SEEK_END))
        length = lines.tell()

        async def blocks() -> AsyncIterator[bytes]:
            yield header(self._store.name)
            await in_thread(partial(lines.seek, 0))
            while block := await in_thread(partial(lines.read, BATCH_BYTES)):
                yield block

        await self._place.write(MANIFEST, blocks(), length)


class _Checked:
    """Blocks that are hashed while they pass. The end raises `CorruptFile` if the SHA-256 is not that of the record."""

    def __init__(self, file: MovingFile, blocks: AsyncIterator[bytes]) -> None:
        self.digest: str = ""
        self._file = file
        self._blocks = blocks

    async def run(self) -> AsyncIterator[bytes]:
        """Yield the blocks."""
        digest = sha256()
        async for block in self._blocks:
            digest.update(block)
            yield block
        self.digest = digest.hexdigest()
        expected = self._file.source.sha256
        if expected is not None and self.digest != expected:
            raise CorruptFile(self._file.source.id, f"its bytes have the SHA-256 {self.digest} instead of {expected}")


async def _once(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


async def _digest_of(stream: DownloadStream) -> str:
    digest = sha256()
    async with stream:
        async for block in stream:
            digest.update(block)
    return digest.hexdigest()


async def import_files(
    source: str | os.PathLike[str],
    bucket: Bucket,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Store the files of an export, with the records that its `manifest.jsonl` has.

    The whole manifest and the lengths of all files are checked before anything is stored. The SHA-256 of each file is
    compared before its record is inserted. As with `transfer`, a repetition skips what is there already, and what
    differs in the bucket is listed and never overwritten.

    Args:
        source: The folder or the URL that was the target of `export_files`.
        bucket: The bucket to store into.
        storage_options: As for `export_files`.
        progress: Called with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not stored with the reasons.

    Raises:
        BadManifest: There is no manifest, a line of it is wrong, or a file that it names is missing or has another
            length. Nothing was stored.
        BadOption: An argument is wrong, or it runs in a block of `session.bind()`.
        OutcomeUnknown: The server did not answer. Run it again.

    ```python
    from tempfile import TemporaryDirectory

    copy = gridproxy.Bucket(client["zoo"], "restored")
    with TemporaryDirectory() as folder:
        await gridproxy.export_files(bucket, folder)
        report = await gridproxy.import_files(folder, copy)
    assert await copy.stat(info.id) == info
    ```
    """
    store = exact_store(bucket, "bucket", target=True)
    place = open_place(source, storage_options)
    total = await _check_files(place)
    tallies = Tallies(progress, total)
    receiver = Receiver(store, _PlaceOrigin(place), tallies)
    await receiver.prepare()
    async with aclosing(read_entries(place)) as pages, Workers(_PAGES_AT_ONCE) as workers:
        async for page in pages:
            entries = {id_key(entry.record["_id"]): entry for _, entry in page}
            files = [
                MovingFile(entry.record, entry.info, place=entry.path, expected=entry.sha256)
                for entry in entries.values()
            ]
            await workers.start(_import(receiver, files, tallies))
    return tallies.report()


async def _import(receiver: Receiver, files: list[MovingFile], tallies: Tallies) -> None:
    await receiver.receive(files)
    count_outcomes(files, tallies)


async def _check_files(place: Place) -> int:
    """Return how many bytes the export has. Raises `BadManifest` for a line or a file that is wrong."""
    total = 0
    async with aclosing(read_entries(place)) as pages:
        async for page in pages:
            looks = [in_thread(partial(place.length, entry.path)) for _, entry in page]
            for (number, entry), length in zip(page, await gather(looks, at_most=_FILES_AT_ONCE), strict=True):
                if length != entry.info.length:
                    found = "is missing" if length in (None, NOT_A_FILE) else f"has {length} bytes"
                    raise BadManifest(
                        f"{place.name}/{MANIFEST}, line {number}: {entry.path} {found}, and the record says "
                        f"{entry.info.length} bytes. Nothing was imported"
                    )
                total += length
    return total


class _PlaceOrigin:
    inside: Store | None = None

    def __init__(self, place: Place) -> None:
        self._place = place

    async def read_small(self, files: Sequence[MovingFile]) -> dict[Hashable, bytes]:
        reads = [in_thread(partial(self._place.read, file.place)) for file in files]
        contents = await gather(reads, at_most=_FILES_AT_ONCE)
        return {file.key: content for file, content in zip(files, contents, strict=True)}

    def open(self, file: MovingFile) -> PlacedFile:
        return PlacedFile(self._place, file.place, file.source.length)
