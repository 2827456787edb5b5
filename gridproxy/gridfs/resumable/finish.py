"""The end of a resumable upload: its last chunk, then its record. Each step may be repeated by another client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from bson import Int64
from pymongo.errors import BulkWriteError

from gridproxy.errors import CorruptFile, FileRefused, WrongLength
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.download.download import load_info
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.upload.commit import Verify, duplicate_chunk, insert_record, is_duplicate_key, withdraw_record
from gridproxy.gridfs.upload.content_check import inspect_content
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.tasks import clean_up, end_tasks, run_to_completion, spawn

from .append import LEFT, judge, read_head, remove_upload
from .digests import complete_digest, take_digest
from .lease import Lease
from .unfinished import Unfinished, Uploads


async def finish_upload(uploads: Uploads, lease: Lease, limits: Limits) -> FileInfo:
    """Make a file of the upload. See `ResumableUpload.finish`."""
    store = uploads.store
    if lease.upload.stored:
        return await load_info(store, lease.upload.id)
    began = time.monotonic()
    try:
        await run_to_completion(lease.take(lease.upload.offset, finishing=True), client=store.client)
        if lease.upload.finished_at is None:
            await _complete(store, lease, lease.upload.limits(limits))
        info = await run_to_completion(_publish(store, lease), client=store.client)
    except BaseException as error:
        if lease.held:
            refused = isinstance(error, FileRefused)
            work = remove_upload(uploads, lease.upload) if refused else lease.save({}, release=True)
            await clean_up(work, error, LEFT)
        raise
    take_digest(store, lease.upload)  # it is not needed any more
    log_event(Event.STORED, store, info.id, size=info.length, since=began)
    return info


async def _complete(store: Store, lease: Lease, limits: Limits) -> None:
    upload = lease.upload
    if upload.length not in (None, upload.offset):
        assert upload.length is not None
        raise WrongLength(upload.length, upload.offset)
    if not upload.checked:
        upload = await judge(upload, limits, await read_head(store, upload))
    sha256 = await complete_digest(store, lease)
    await run_to_completion(_store_tail(store, lease, upload), client=store.client)
    upload = replace(upload, sha256=sha256)
    await _inspect(store, lease, upload, limits)
    finished = {"tail": b"", "finished_at": store.now(), "sha256": sha256, **upload.judged()}
    await run_to_completion(lease.save(finished), client=store.client)


async def _inspect(store: Store, lease: Lease, upload: Unfinished, limits: Limits) -> None:
    """Show the content to the inspector, however long it takes."""
    if limits.inspect is None:
        return
    inspecting = spawn(inspect_content(store, upload.info, limits))
    try:
        while not inspecting.done():
            await asyncio.wait({inspecting}, timeout=1)
            if lease.is_due:
                await run_to_completion(lease.save({}), client=store.client)
        inspecting.result()
    finally:
        await end_tasks([inspecting])


async def _store_tail(store: Store, lease: Lease, upload: Unfinished) -> None:
    await lease.delete_chunks_from(upload.full_chunks)
    if upload.tail:
        chunk: Record = {
            "_id": store.new_chunk_id(),
            "files_id": upload.id,
            "n": upload.full_chunks,
            "data": upload.tail,
            UPLOAD_ID: upload.upload_id,
        }
        try:
            await store.insert_chunks([chunk], majority=True)
        except BulkWriteError as error:
            if is_duplicate_key(error):
                raise duplicate_chunk(store, upload.id, error) from error
            raise
    await _check_whole(store, upload)


async def _publish(store: Store, lease: Lease) -> FileInfo:
    upload = lease.upload
    record = upload.record
    # A client that has lost the upload may have inserted chunks late.
    await lease.delete_chunks_from(-(-upload.offset // upload.chunk_size))
    await insert_record(store, record, b"", None, retry=True, verify=Verify.NONE)
    try:
        # Another client may have removed chunks since, or is about to: it marks the first one before it looks for a
        # record.
        await _check_whole(store, upload)
    except CorruptFile:
        await withdraw_record(store, record, None)
        raise
    await lease.save({"stored": True, "length": Int64(upload.offset)}, release=True)
    return FileInfo.from_record(record)


async def _check_whole(store: Store, upload: Unfinished) -> None:
    wanted = -(-upload.offset // upload.chunk_size)
    found = await store.count_chunks(upload.id)
    ends = await store.end_chunk_ids(upload.id, wanted - 1)
    if found != wanted or len(ends) != min(wanted, 2):
        raise CorruptFile(
            upload.id,
            f"it has {found} chunks instead of {wanted}, because another client removed some, "
            "or wrote to the upload late. No file was stored. Finish it again, or abort it and begin a new upload",
        )
