"""ContentCheck: content on its way in, held until its first bytes have been looked at."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial

from gridproxy.errors import FileRefused
from gridproxy.gridfs.content.limits import HEAD_BYTES, Limits, Validator
from gridproxy.gridfs.records.chunks import ChunkRange
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.runtime.tasks import in_thread

from .staging import Staged


class ContentCheck:
    """The limits of one upload. Nothing is to be sent before `done`."""

    def __init__(self, limits: Limits) -> None:
        self.done: bool = not limits.look_inside
        self._limits = limits
        self._head = bytearray()
        self._content_type: str | None = None
        self._turn = asyncio.Lock()

    @property
    def has_head(self) -> bool:
        """Whether as much has come as will be looked at."""
        return len(self._head) == HEAD_BYTES

    def feed(self, data: bytes | memoryview, before: int) -> None:
        """See the content go by, `before` bytes behind it; raises `TooLarge` at the byte that is too many."""
        self._limits.check_size(before + len(data))
        if not self.done:
            self._head += data[: HEAD_BYTES - len(self._head)]

    async def run(self, declared: str | None, described: Callable[[str | None], FileInfo]) -> str | None:
        """Look at the head; the content type to store. `described` gives the info for the validators.

        Raises `ContentTypeRefused`, `FileRefused`, or whatever else a validator raised.
        """
        async with self._turn:  # writers that are awaited at the same time ask once
            if not self.done:
                head = bytes(self._head)
                self._content_type = self._limits.checked_type(declared, head)
                await validate(self._limits, described(self._content_type), head)
                self.done = True
                self._head.clear()
            return self._content_type


async def validate(limits: Limits, info: FileInfo, head: bytes) -> None:
    """Ask every validator; raises `FileRefused` for a ValueError or a False of theirs."""
    for validator in limits.validators:
        try:
            verdict = await _verdict(validator, info, head)
        except FileRefused:
            raise
        except ValueError as error:
            raise _refusal(limits, validator, str(error)) from error
        if verdict is False:
            raise _refusal(limits, validator, f"{_name(validator)} refuses this content")


async def check_staged(staged: Staged, limits: Limits) -> None:
    """The limits of the field that is going to hold what was staged without any; raises as an upload."""
    info = staged.info
    limits.check_size(info.length)
    if limits.look_inside:
        check = ContentCheck(limits)
        head = ChunkRange(0, -(-min(HEAD_BYTES, info.length) // info.chunk_size), False)
        for chunk in await staged.store.find_chunks(info.id, head, primary=True):
            check.feed(chunk["data"], 0)
        await check.run(info.content_type, lambda _: info)


async def _verdict(validator: Validator, info: FileInfo, head: bytes) -> object:
    if inspect.iscoroutinefunction(validator):
        return await validator(info, head)
    # In a thread, since it may well parse what it is given.
    verdict = await in_thread(partial(validator, info, head))
    return await verdict if inspect.isawaitable(verdict) else verdict


def _refusal(limits: Limits, validator: Validator, reason: str) -> FileRefused:
    return FileRefused(reason, field=limits.field, limit=_name(validator), actual=reason)


def _name(validator: Validator) -> str:
    return getattr(validator, "__name__", None) or type(validator).__name__
