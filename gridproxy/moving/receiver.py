"""The target of a transfer or an import: it stores files under given ids with given records, and overwrites none.

Small files share commands. For a group of them the steps are those of one upload: the chunks, a look at their sizes,
the records, and a second look that finds chunks which another client has removed in between. A group that fails is
removed and sent again file by file, so that one bad file does not keep the others away.
"""

from __future__ import annotations

import asyncio
import enum
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Protocol

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ReadPreference
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

from gridproxy.bucket import Bucket
from gridproxy.errors import (
    BadOption,
    CorruptFile,
    FileAlreadyStored,
    FileVanished,
    GridProxyError,
    OutcomeUnknown,
    UniqueIndexViolation,
    type_name,
)
from gridproxy.gridfs.download.verify import hash_file
from gridproxy.gridfs.operations.copy import ChunkCopy
from gridproxy.gridfs.operations.many import read_together
from gridproxy.gridfs.records.chunks import BATCH_BYTES, group_by_bytes
from gridproxy.gridfs.records.file_info import REFERENCED_AT, UPLOAD_ID, FileInfo
from gridproxy.gridfs.records.ids import id_key, is_plain_id
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.store.indexes import ensure_indexes
from gridproxy.gridfs.store.loose_chunks import Loose, remove_loose_chunks
from gridproxy.gridfs.upload.commit import Verify, duplicate_chunk, id_in_progress, insert_record, is_duplicate_key
from gridproxy.gridfs.upload.options import UploadRequest, check_record
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.staging import discard_staged, log_stored, publish_staged
from gridproxy.gridfs.upload.undo_log import UndoLog
from gridproxy.gridfs.upload.upload import stage_source
from gridproxy.runtime.capabilities import Feature
from gridproxy.runtime.events import INFO, WARNING, Event, log_event
from gridproxy.runtime.tasks import clean_up, interruptible, run_to_completion
from gridproxy.upkeep.check import ChunkAudit

from .report import Tallies, UnmovedFile

# The server copies a group of this size at once.
_MERGE_BYTES = 16 * BATCH_BYTES
# Files with more chunks are moved one by one, because the `_id`s of a group's chunks are kept in memory.
_CHUNKS_PER_FILE = 64
# The first bytes of the upload ids of moved files. By them a repeated run knows what an interrupted one has left.
_MARK = b"gpmove"
# Two large files at once would need more memory than the 48 MB of a transfer.
_LARGE_AT_ONCE = 1
_COPIES_AT_ONCE = 3
# What the package itself keeps in a record, about this one copy of the file.
_OWN_KEYS = (UPLOAD_ID, REFERENCED_AT)


class Outcome(enum.Enum):
    """What became of a file."""

    TRANSFERRED = "transferred"
    SKIPPED = "skipped"
    DIFFERENT = "different"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class MovingFile:
    """A file on its way.

    `record` and `info` are those of the target, without an upload id. `digest` is the SHA-256 of the bytes that passed
    through the client, or "" if the server copied them. Raises `CorruptFile` for a record that is not that of a file.
    """

    record: Record
    source: FileInfo
    info: FileInfo = field(init=False)
    place: str = ""  # where an export keeps the content
    expected: str | None = None  # the SHA-256 of the content if the record has none
    outcome: Outcome | None = None
    reason: str = ""
    digest: str | None = None

    def __post_init__(self) -> None:
        self.info = FileInfo.from_record(self.record)

    @property
    def id(self) -> object:
        """The id in the target."""
        return self.record["_id"]

    @property
    def key(self) -> Hashable:
        """The id in the target as a key of a dict."""
        return id_key(self.record["_id"])

    @property
    def is_whole(self) -> bool:
        """Whether the file is in the target."""
        return self.outcome in (Outcome.TRANSFERRED, Outcome.SKIPPED)

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Note what became of the file."""
        self.outcome, self.reason = outcome, reason


class Origin(Protocol):
    """The origin of the content of moving files."""

    inside: Store | None
    """The bucket, if the server of the target can copy from it."""

    async def read_small(self, files: Sequence[MovingFile]) -> dict[Hashable, bytes]:
        """Return the contents of small files by their keys. Files that cannot be read together may be left out."""

    def open(self, file: MovingFile) -> SourceLike:
        """Return the content of one file as the source of an upload."""


def exact_store(bucket: object, name: str, *, target: bool = False) -> Store:
    """Return the bucket with codec options that change no value: what is read is written again as it was.

    `target`: what is in it decides what happens, so it is read from the primary.

    Raises `BadOption` for another object, and in a block of `session.bind()`.
    """
    if not isinstance(bucket, Bucket):
        raise BadOption(f"{name} is a Bucket, not {type_name(bucket)}")
    store = bucket.store
    if store.session_for(None) is not None:
        raise BadOption(
            "files cannot be moved in a block of session.bind(), because several sessions are needed at once"
        )
    exact = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    return Store(
        store.database.with_options(codec_options=exact),
        store.name,
        chunk_size=store.chunk_size,
        write_concern=store.files.write_concern,
        read_concern=store.files.read_concern,
        read_preference=ReadPreference.PRIMARY if target else store.files.read_preference,
        indexes=store.indexes,
    )


def without_own_keys(record: Mapping[str, Any]) -> Record:
    """Return the record without what the package keeps about one copy of the file."""
    return {key: value for key, value in record.items() if key not in _OWN_KEYS}


class Receiver:
    """Stores moving files in one bucket. `any_date`: the upload date of the source is not kept."""

    def __init__(self, store: Store, origin: Origin, tallies: Tallies, *, any_date: bool = False) -> None:
        self.store = store
        self._origin = origin
        self._tallies = tallies
        self._any_date = any_date
        self._large = asyncio.Semaphore(_COPIES_AT_ONCE if self._merges else _LARGE_AT_ONCE)

    @property
    def _merges(self) -> bool:
        return self._origin.inside is not None and Feature.MERGE not in self.store.state.capabilities.missing

    async def prepare(self) -> None:
        """Create the indexes if the bucket is new."""
        await ensure_indexes(self.store)

    async def receive(self, files: Sequence[MovingFile]) -> None:
        """Store the files that are not there yet, and note the outcome of each. At most a few hundred at once."""
        await self._look(files)
        await self._tallies.advance(sum(file.source.length for file in files if file.outcome is not None))
        files = [file for file in files if file.outcome is None]
        # What cannot be sent with its group is sent after it.
        alone = [file for file in files if not is_small(file)]
        send_group = partial(self._send_group, alone=alone)
        for group in grouped(list(filter(is_small, files)), _MERGE_BYTES if self._merges else BATCH_BYTES):
            await self._one_by_one(group, send_group)
        for file in alone:
            async with self._large:
                await self._one_by_one([file], self._send_large)

    # What is in the target already

    async def _look(self, files: Sequence[MovingFile]) -> None:
        """Note which files are in the target, and remove what an interrupted run has left of the others."""
        stored = {id_key(record["_id"]): record for record in await self._stored([file.id for file in files])}
        audits = {file.key: ChunkAudit(file.info) for file in files if file.key in stored}
        loose: dict[Hashable, object] = {}  # the upload id of the first chunk without a record

        async def look() -> None:
            async for row in self.store.lasting_chunks([file.id for file in files]):
                key = id_key(row["files_id"])
                if key in audits:
                    audits[key].add(row.get("n"), row["size"])
                else:
                    loose.setdefault(key, row.get(UPLOAD_ID))

        await interruptible(look())
        for file in files:
            if (record := stored.get(file.key)) is not None:
                self._compare(file, record, audits[file.key])
                continue
            try:
                chunk_size = file.info.chunk_size or self.store.chunk_size
                check_record({**file.record, UPLOAD_ID: ObjectId()}, chunk_size, self.store.codec_options)
                if file.key in loose:
                    await self._clear(file.id, loose[file.key])
            except GridProxyError as error:
                file.end(Outcome.FAILED, str(error))

    async def _stored(self, ids: list[object]) -> list[Record]:
        plain = [id for id in ids if is_plain_id(id)]
        found = await self.store.find_records(plain) if plain else []
        alone = [await self.store.find_record(id, primary=True) for id in ids if not is_plain_id(id)]
        return found + [record for record in alone if record is not None]

    def _compare(self, file: MovingFile, record: Record, audit: ChunkAudit) -> None:
        there = without_own_keys(record)
        keys = there.keys() | file.record.keys()
        if self._any_date:
            keys -= {"uploadDate"}
        if differing := sorted(key for key in keys if not self._equal(there.get(key), file.record.get(key))):
            reason = f"a file with this id is in the target already, and differs in {', '.join(differing)}"
            file.end(Outcome.DIFFERENT, reason)
        elif damage := next(audit.findings(), None):
            file.end(Outcome.DIFFERENT, f"the file is in the target already, and is damaged there: {damage.reason}")
        else:
            file.end(Outcome.SKIPPED)

    def _equal(self, value: object, other: object) -> bool:
        # A NaN does not equal itself, except as BSON.
        options = self.store.codec_options
        return value == other or bson.encode({"": value}, False, options) == bson.encode({"": other}, False, options)

    async def _clear(self, id: object, upload_id: object) -> None:
        """Remove the chunks that an interrupted run has left under an id. Raises `UploadInProgress` for others."""
        if not (isinstance(upload_id, ObjectId) and upload_id.binary.startswith(_MARK)):
            raise id_in_progress(id)
        found = await run_to_completion(remove_loose_chunks(self.store, id), client=self.store.client)
        if found is not Loose.REMOVED:
            raise id_in_progress(id)

    # Sending

    async def _one_by_one(self, files: list[MovingFile], send: Callable[[list[MovingFile]], Awaitable[None]]) -> None:
        """Send files together. If that fails because of one of them, send each of them alone."""
        again: list[MovingFile] = []
        try:
            await send(files)
        except OutcomeUnknown:
            raise
        except GridProxyError as error:
            if len(files) == 1:
                files[0].end(Outcome.FAILED, str(error))
            else:
                again = [file for file in files if file.outcome is None]
        await self._tallies.advance(sum(file.source.length for file in files if file.outcome is not None))
        for file in again:
            await self._one_by_one([file], send)

    async def _send_large(self, files: list[MovingFile]) -> None:
        [file] = files
        key = id(file)
        try:
            if self._merges:
                await self._copy_large(file)
            else:
                await self._upload_large(file)
        finally:
            self._tallies.end_of(key)
        file.end(Outcome.TRANSFERRED)

    async def _copy_large(self, file: MovingFile) -> None:
        inside = self._origin.inside
        assert inside is not None
        undo_log = UndoLog(self.store, file.id, None, shared_id=True, known_id=True, upload_id=_new_upload_id())
        began, size = time.monotonic(), file.source.length
        try:
            await ChunkCopy(inside, file.source, undo_log, shared_id=True).run(self._tallies.of_one(id(file)))
            # If the server has refused to copy, the chunks have passed through the client.
            file.digest = "" if self._merges else None
            await undo_log.insert_record({**file.record, UPLOAD_ID: undo_log.upload_id})
        except BaseException as error:
            await undo_log.rollback(error, size=size, since=began)
            raise
        log_stored(self.store, file.id, size, began)

    async def _upload_large(self, file: MovingFile) -> None:
        request = UploadRequest(
            id=file.id,
            filename="",  # the record has the real name and type
            content_type="",
            metadata={},
            keeps_metadata=False,
            chunk_size=file.info.chunk_size or None,
            upload_id=_new_upload_id(),
        )
        progress = self._tallies.of_one(id(file))
        staged = await stage_source(self.store, self._origin.open(file), request, progress=progress)
        try:
            sent: str = staged.record["metadata"]["sha256"]
            file.digest = _check_arrived(file, int(staged.record["length"]), sent)
            staged.record = {**file.record, UPLOAD_ID: staged.record[UPLOAD_ID]}
            staged.tried = True  # so that the record keeps its date and all chunks are counted
            await publish_staged(staged)
        except BaseException as error:
            if not isinstance(error, OutcomeUnknown):
                left = f"chunks under files_id {file.id!r} may be left in {self.store!r} until collect_garbage() runs."
                await clean_up(discard_staged(staged), error, left)
            raise

    async def _send_group(self, files: list[MovingFile], alone: list[MovingFile]) -> None:
        group = _Group(self.store, files)
        try:
            inside = self._origin.inside
            if inside is None or not await self._merge(group, inside):
                for part in grouped(files, BATCH_BYTES):
                    await self._upload(group, part, alone)
            await group.check_chunks(inside)
            await group.insert_records()
        except BaseException as error:
            await group.rollback(error)
            raise

    async def _merge(self, group: _Group, inside: Store) -> bool:
        """Let the server copy the chunks. Return False if it cannot."""
        if not self._merges:
            return False
        pairs = [(file.source.id, file.id) for file in group.files]
        merge = inside.merge_files([old for old, _ in pairs], [new for _, new in pairs], group.upload_id, self.store)
        try:
            await run_to_completion(merge, client=self.store.client)
        except OperationFailure as error:
            if is_duplicate_key(error):
                raise duplicate_chunk(self.store, group.files[0].id, error) from error
            if not self.store.state.capabilities.is_refused(Feature.MERGE, error):
                raise
            return False
        for file in group.files:
            file.digest = ""
        return True

    async def _upload(self, group: _Group, files: list[MovingFile], alone: list[MovingFile]) -> None:
        """Send the chunks of a part of the group through the client."""
        contents = await self._origin.read_small(files)
        chunks: list[Record] = []
        for file in files:
            if file.key not in contents:
                group.leave(file)
                alone.append(file)
                continue
            data = contents[file.key]
            try:
                file.digest = _check_arrived(file, len(data), sha256(data).hexdigest())
            except CorruptFile as error:
                group.fail(file, error)
                continue
            size = file.info.chunk_size or self.store.chunk_size
            chunks += [
                {
                    "_id": self.store.new_chunk_id(),
                    "files_id": file.id,
                    "n": n,
                    "data": data[at : at + size],
                    UPLOAD_ID: group.upload_id,
                }
                for n, at in enumerate(range(0, len(data), size))
            ]
        if chunks:
            try:
                await run_to_completion(self.store.insert_chunks(chunks), client=self.store.client)
            except BulkWriteError as error:
                if not is_duplicate_key(error):
                    raise
                raise duplicate_chunk(self.store, files[0].id, error) from error

    # After the transfer

    async def verify(self, files: Sequence[MovingFile], source: Store) -> None:
        """Read the files in the target again and compare their SHA-256. What differs is noted as failed.

        What the server copied in this run passed through no network, so its sizes are enough.
        """
        files = [file for file in files if file.digest != ""]
        for group in grouped(list(filter(is_small, files)), BATCH_BYTES):
            contents = await interruptible(read_together(self.store, [file.info for file in group]))
            for file in group:
                data = contents.get(file.id)
                await self._verify(file, source, None if data is None else sha256(data).hexdigest())
        for file in files:
            if not is_small(file):
                await self._verify(file, source, None)

    async def _verify(self, file: MovingFile, source: Store, found: str | None) -> None:
        try:
            expected = file.digest or file.source.sha256 or await hash_file(source, file.source)
            found = found or await hash_file(self.store, file.info)
        except CorruptFile as error:
            file.end(Outcome.DIFFERENT, f"it could not be verified in the target: {error}")
            return
        if found != expected:
            file.end(Outcome.DIFFERENT, f"its bytes in the target have the SHA-256 {found} instead of {expected}")


class _Group:
    """Small files that share commands."""

    def __init__(self, store: Store, files: list[MovingFile]) -> None:
        self.files = files
        self.upload_id = _new_upload_id()
        self._store = store
        self._chunk_ids: dict[Hashable, list[ObjectId]] = {}
        self._outcome_unknown = False
        self._begun = list(files)
        self._began = time.monotonic()

    def leave(self, file: MovingFile) -> None:
        """Take a file out of the group before anything of it was sent."""
        self.files = [each for each in self.files if each is not file]

    def fail(self, file: MovingFile, error: Exception) -> None:
        """Note the failure of a file. The others are stored."""
        file.end(Outcome.FAILED, str(error))
        self.leave(file)

    async def check_chunks(self, source: Store | None) -> None:
        """Compare the chunks in the target with the records, and leave out the files whose chunks do not match."""
        audits = {file.key: ChunkAudit(file.info) for file in self.files}
        self._chunk_ids = await self._found_chunks(audits)
        damaged = []
        for file in self.files:
            if damage := next(audits[file.key].findings(), None):
                gone = source is not None and await source.find_record(file.source.id, primary=True) is None
                error = FileVanished(file.source.id) if gone else CorruptFile(file.source.id, damage.reason)
                damaged.append((file, error))
        for file, error in damaged:
            self.fail(file, error)
        await self._remove_chunks([file for file, _ in damaged])

    async def _found_chunks(self, audits: Mapping[Hashable, ChunkAudit]) -> dict[Hashable, list[ObjectId]]:
        found: dict[Hashable, list[ObjectId]] = {file.key: [] for file in self.files}

        async def look() -> None:
            async for row in self._store.lasting_chunks([file.id for file in self.files]):
                key = id_key(row["files_id"])
                if row.get(UPLOAD_ID) == self.upload_id:
                    found[key].append(row["_id"])
                    if key in audits:
                        audits[key].add(row.get("n"), row["size"])

        await interruptible(look())
        return found

    async def insert_records(self) -> None:
        """Insert the records, then look whether another client has removed chunks in between."""
        if not self.files:
            return
        await run_to_completion(self._insert(), client=self._store.client)
        found = await self._found_chunks({})
        for file in list(self.files):
            if found[file.key] != self._chunk_ids[file.key]:
                reason = "another client removed its chunks while it was stored. Nothing of it was kept"
                self.fail(file, CorruptFile(file.id, reason))
                await run_to_completion(self._remove([file]))
            else:
                file.end(Outcome.TRANSFERRED)
                log_stored(self._store, file.id, file.source.length, self._began)

    async def _insert(self) -> None:
        # Note the outcome inside `run_to_completion`: outside, a cancellation would hide it.
        records = [{**file.record, UPLOAD_ID: self.upload_id} for file in self.files]
        try:
            try:
                await self._store.insert_records(records)
            except (BulkWriteError, ConnectionFailure) as error:
                if isinstance(error, BulkWriteError) and not error.details.get("writeErrors"):
                    raise  # the records are stored, but not as safely as the write concern demands
                for file, record in zip(self.files, records, strict=True):
                    await self._insert_one(file, record)
        except (OutcomeUnknown, asyncio.CancelledError):
            self._outcome_unknown = True
            raise

    async def _insert_one(self, file: MovingFile, record: Record) -> None:
        chunk_ids = b"".join(id.binary for id in self._chunk_ids[file.key])
        try:
            await insert_record(self._store, record, chunk_ids, None, retry=True, verify=Verify.NONE)
        except (FileAlreadyStored, UniqueIndexViolation) as error:
            self.fail(file, error)
            await self._remove_chunks([file])

    async def _remove_chunks(self, files: Sequence[MovingFile]) -> None:
        await self._store.delete_chunks_of_upload([file.id for file in files], self.upload_id)

    async def _remove(self, files: Sequence[MovingFile]) -> None:
        ids = [file.id for file in files]
        await self._store.delete_records({"_id": {"$in": ids}, UPLOAD_ID: self.upload_id}, None)
        await self._remove_chunks(files)

    async def rollback(self, cause: BaseException) -> None:
        """Remove what was sent, unless its outcome is unknown. A failure of the clean-up is noted on `cause`."""
        left = f"chunks with the upload_id {self.upload_id!r} may be left in {self._store!r}: run the transfer again."
        complete = not self._outcome_unknown and await clean_up(self._remove(self._begun), cause, left)
        for file in self._begun:
            log_event(
                Event.OUTCOME_UNKNOWN if self._outcome_unknown else Event.ROLLED_BACK,
                self._store,
                file.id,
                size=file.source.length,
                since=self._began,
                level=INFO if complete else WARNING,
                error=type(cause).__name__,
                complete=complete,
            )


def count_outcomes(files: Iterable[MovingFile], tallies: Tallies) -> None:
    """Add what became of the files to the counts."""
    for file in files:
        unmoved = UnmovedFile(file.source.id, file.source.filename, file.reason)
        if file.outcome is Outcome.TRANSFERRED:
            tallies.transferred += 1
            tallies.bytes += file.source.length
        elif file.outcome is Outcome.SKIPPED:
            tallies.skipped += 1
        elif file.outcome is Outcome.DIFFERENT:
            tallies.add_different(unmoved)
        else:
            tallies.add_failed(unmoved)


def is_small(file: MovingFile) -> bool:
    """Return whether a file may share commands with others."""
    # Other ids may be equal in Python and not in MongoDB, or cannot be the key of a dict.
    ordinary = isinstance(file.id, ObjectId | str | bytes | int) and not isinstance(file.id, bool)
    return ordinary and file.source.length <= BATCH_BYTES and file.info.chunk_count <= _CHUNKS_PER_FILE


def grouped(files: list[MovingFile], most_bytes: int) -> list[list[MovingFile]]:
    """Group files in order, at most so many bytes together."""
    by_key = {file.key: file for file in files}
    groups = group_by_bytes([file.info for file in files], most_bytes, len(files))
    return [[by_key[id_key(info.id)] for info in infos] for infos in groups]


def _new_upload_id() -> ObjectId:
    return ObjectId(_MARK + os.urandom(12 - len(_MARK)))


def _check_arrived(file: MovingFile, length: int, digest: str) -> str:
    """Return the SHA-256 of the bytes that were sent. Raises `CorruptFile` if they are not those of the record."""
    if length != file.source.length:
        raise CorruptFile(file.source.id, f"it has {length} bytes instead of {file.source.length}")
    expected = file.expected or file.source.sha256
    if expected is not None and digest != expected:
        raise CorruptFile(file.source.id, f"its bytes have the SHA-256 {digest} instead of {expected}")
    return digest
