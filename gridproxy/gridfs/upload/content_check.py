"""ContentCheck: hold back an upload until its first bytes have been checked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial

from gridproxy.errors import FileRefused
from gridproxy.gridfs.content.limits import Limits, Validator
from gridproxy.gridfs.content.sniffing import HEAD_BYTES
from gridproxy.gridfs.download.download import Download
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.records.chunks import ChunkRange
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.tasks import in_thread

from .options import UploadRequest
from .staging import Staged


class ContentCheck:
    """The limits of one upload. Nothing may be sent before `done`."""

    def __init__(self, limits: Limits) -> None:
        self.done: bool = not limits.look_inside
        self._limits = limits
        self._head = bytearray()
        self._content_type: str | None = None
        self._lock = asyncio.Lock()

    @property
    def has_head(self) -> bool:
        """Whether enough bytes for the check have been fed."""
        return len(self._head) == HEAD_BYTES

    def feed(self, data: bytes | memoryview, before: int) -> None:
        """Count `data`, which follows `before` bytes. Raises `TooLarge` at the first byte above the limit."""
        self._limits.check_size(before + len(data))
        if not self.done:
            self._head += data[: HEAD_BYTES - len(self._head)]

    async def run(self, request: UploadRequest, described: Callable[[str | None], FileInfo]) -> str | None:
        """Check the head and return the content type to store. `described` returns the validators' info."""
        async with self._lock:  # concurrent writers run the check once
            if not self.done:
                head = bytes(self._head)
                self._content_type = self._limits.checked_type(
                    request.content_type, head, request.guesses, request.filename
                )
                self._limits.check_other_types(self._content_type, request.metadata)
                await validate(self._limits, described(self._content_type), head)
                self.done = True
                self._head.clear()
            return self._content_type


async def validate(limits: Limits, info: FileInfo, head: bytes) -> None:
    """Call every validator. Raises `FileRefused` if one raises ValueError or returns False."""
    for validator in limits.validators:
        await _refuse_if(limits, validator, _verdict(validator, info, head))


async def _refuse_if(limits: Limits, judge: object, verdict: Awaitable[object]) -> None:
    """Raise `FileRefused` if a function of the caller's raises ValueError or returns False."""
    name = getattr(judge, "__name__", None) or type(judge).__name__
    reason, cause = f"{name} refuses this content", None
    try:
        if await verdict is not False:
            return
    except FileRefused:
        raise
    except ValueError as error:
        reason, cause = str(error), error
    raise FileRefused(reason, field=limits.field, limit=name, actual=reason) from cause


async def inspect_content(store: Store, info: FileInfo, limits: Limits) -> None:
    """Show the chunks of a file without a record to the inspector. Raises `FileRefused` if it refuses them."""
    if limits.inspect is not None:
        async with DownloadStream(Download(store, info.id, info=info)) as stream:
            await _refuse_if(limits, limits.inspect, limits.inspect(info, stream))


async def check_staged(staged: Staged, limits: Limits) -> None:
    """Check staged content against the limits of a field. Raises the errors of an upload."""
    info = staged.info
    limits.check_size(info.length)
    if limits.look_inside:
        kind = await check_stored(staged.store, info, limits)
        await validate(limits, info, await _head(staged.store, info))
        if kind is not None and kind != info.content_type:
            staged.record["metadata"] = {**info.metadata, "content_type": kind}
    await inspect_content(staged.store, staged.info, limits)


async def check_stored(store: Store, info: FileInfo, limits: Limits) -> str | None:
    """Check the type in the record of stored chunks, and return it. Raises `ContentTypeRefused`."""
    kind = limits.checked_type(info.content_type, await _head(store, info), filename=info.filename)
    limits.check_other_types(kind, {**info.extra, **info.metadata})
    return kind


async def _head(store: Store, info: FileInfo) -> bytes:
    if not info.length:
        return b""
    first = ChunkRange(0, -(-min(HEAD_BYTES, info.length) // info.chunk_size), False)
    chunks = await store.find_chunks(info.id, first, primary=True)
    return b"".join(chunk["data"] for chunk in chunks)[:HEAD_BYTES]


async def _verdict(validator: Validator, info: FileInfo, head: bytes) -> object:
    if inspect.iscoroutinefunction(validator):
        return await validator(info, head)
    # Use a thread, since a validator may parse for long. It uses nothing that a cancelled upload changes.
    verdict = await in_thread(partial(validator, info, head), abandon=True)
    return await verdict if inspect.isawaitable(verdict) else verdict
