"""One append: the bytes of a source become chunks, and the offset of the upload moves after them.

Until the offset has moved, the new chunks do not count. The next append removes those that were left.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from bson import Int64

from gridproxy.errors import FileRefused, WrongLength
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.content.sniffing import HEAD_BYTES
from gridproxy.gridfs.records.chunks import BATCH_BYTES, Splitter, chunks_per_batch, object_ids
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Store
from gridproxy.gridfs.store.loose_chunks import Loose, remove_upload_chunks
from gridproxy.gridfs.upload.batch_sender import BatchSender
from gridproxy.gridfs.upload.content_check import ContentCheck
from gridproxy.gridfs.upload.sources import Source
from gridproxy.runtime.tasks import clean_up, run_to_completion

from .digests import keep_digest, read_chunks, take_digest
from .lease import Lease
from .unfinished import Unfinished, Uploads

LEFT = "chunks beyond the offset may be left. The next append removes them."


class Append:
    """The bytes of one source, on their way to an upload.

    If `whole`, nothing of a source that fails is kept. Otherwise all bytes are kept that arrived before.
    """

    def __init__(self, uploads: Uploads, lease: Lease, limits: Limits, *, whole: bool) -> None:
        self._uploads = uploads
        self._store: Store = uploads.store
        self._lease = lease
        self._limits = limits
        self._whole = whole
        self._splitter = Splitter(lease.upload.chunk_size)
        self._per_batch = chunks_per_batch(lease.upload.chunk_size)
        self._chunks: list[bytes] = []  # that were not sent yet
        self._sender: BatchSender | None = None
        self._digest: hashlib._Hash | None = None
        self._judged: Unfinished = lease.upload  # with the content type, which is stored with the next offset
        self._head = bytearray()
        self._received = 0
        self._safe = 0  # how many of the sent chunks the offset covers

    async def run(self, source: Source, at: int) -> None:
        """Append all of the source at the offset `at`. See `ResumableUpload.append`."""
        lease = self._lease
        try:
            await run_to_completion(lease.take(at), client=self._store.client)
            await self._begin()
            if source.size is not None:
                self._check_length(source.size)  # a source that declares too many bytes is not read
            while block := await source.read():
                self._check_length(len(block))
                view = memoryview(block)
                for start in range(0, len(view), BATCH_BYTES):
                    await self._accept(view[start : start + BATCH_BYTES])
            await run_to_completion(self._save(), client=self._store.client)
        except BaseException as error:
            if lease.held or lease.lost:
                await clean_up(self._keep_received(error), error, LEFT)
            raise

    async def _begin(self) -> None:
        lease, upload = self._lease, self._lease.upload
        limits = upload.limits(self._limits)
        self._limits = limits
        first = upload.full_chunks
        await run_to_completion(lease.delete_chunks_from(first), client=self._store.client)
        self._digest = take_digest(self._store, upload)
        self._sender = BatchSender.resumed(self._store, upload.id, upload.upload_id, first)
        self._received, self._judged = upload.offset, upload
        for _ in self._splitter.feed(upload.tail):
            raise AssertionError("a tail is less than one chunk")
        if not upload.checked:
            self._head += await read_head(self._store, upload)

    def _check_length(self, more: int) -> None:
        announced = self._lease.upload.length
        if announced is not None and self._received + more > announced:
            raise WrongLength(announced, self._received + more)
        self._limits.check_size(self._received + more)

    async def _accept(self, data: memoryview) -> None:
        # Without a break up to the end, so that a cancellation loses no byte.
        self._received += len(data)
        if not self._judged.checked:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._chunks.extend(self._splitter.feed(data))
        if self._lease.is_due:
            await run_to_completion(self._renew())
        if not self._judged.checked and len(self._head) == HEAD_BYTES:
            self._judged = await judge(self._judged, self._limits, bytes(self._head))
        while len(self._chunks) >= self._per_batch:
            await self._send()

    async def _send(self) -> None:
        assert self._sender is not None
        await self._sender.wait_for_slot()
        batch, self._chunks = self._chunks[: self._per_batch], self._chunks[self._per_batch :]
        if self._digest is not None:
            for chunk in batch:
                self._digest.update(chunk)
        self._sender.send(batch)
        # Hashing here and encoding in a task each block the loop, so let other tasks run after each.
        for _ in range(2):
            await asyncio.sleep(0)

    async def _renew(self) -> None:
        if self._whole:
            await self._lease.save({})
        else:
            await self._save(release=False)

    async def _save(self, *, release: bool = True) -> None:
        """Move the offset behind all bytes that were received."""
        assert self._sender is not None
        while self._chunks:
            await self._send()
        await self._sender.drain()
        changes = {"offset": Int64(self._received), "tail": self._splitter.rest, **self._judged.judged()}
        await self._lease.save(changes, release=release)
        self._safe = len(self._sender.undo_log.chunk_ids) // 12
        if release:
            keep_digest(self._store, self._lease.upload, self._digest)

    async def _keep_received(self, error: BaseException) -> None:
        """End the append after a failure: keep what was received, or remove what was sent."""
        lease, store = self._lease, self._store
        upload = lease.upload
        if self._sender is None:
            await lease.save({}, release=True)
            return
        failure = await self._sender.settle()
        try:
            if lease.lost:
                pass
            elif isinstance(error, FileRefused):
                await remove_upload(self._uploads, upload)
            elif failure is None and not self._whole:
                await self._save()
            else:
                await lease.delete_chunks_from(upload.full_chunks)
                await lease.save({}, release=True)
        finally:
            if lease.lost:
                # Another client writes chunks with the same numbers. These were inserted too late.
                sent = list(object_ids(self._sender.undo_log.chunk_ids))[self._safe :]
                await store.delete_chunks_by_id(upload.id, sent)


async def read_head(store: Store, upload: Unfinished) -> bytes:
    """Return the first 64 KiB of what is stored."""
    chunks = min(upload.full_chunks, -(-HEAD_BYTES // upload.chunk_size))
    head = await read_chunks(store, upload, 0, chunks) if chunks else b""
    return (head + upload.tail if chunks == upload.full_chunks else head)[:HEAD_BYTES]


async def judge(upload: Unfinished, limits: Limits, head: bytes) -> Unfinished:
    """Check the first bytes, and return the upload with its content type. Raises `FileRefused`."""
    request = upload.request
    if limits.look_inside:

        def described(content_type: str | None) -> FileInfo:
            return replace(upload, request=replace(request, content_type=content_type)).info

        check = ContentCheck(limits)
        check.feed(head, 0)
        request = replace(request, content_type=await check.run(request, described), guesses=None)
    else:
        request = request.typed(head)
    return replace(upload, request=request, checked=True)


async def remove_upload(uploads: Uploads, upload: Unfinished) -> Loose:
    """Remove the document of an upload, then its chunks. A client that appends to it finds out and fails."""
    await uploads.delete(upload, {"stored": False})
    return await remove_upload_chunks(uploads.store, upload.id, upload.upload_id)
