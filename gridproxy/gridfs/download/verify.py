"""Verifies one stored file against its record and its SHA-256."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

from gridproxy.errors import CorruptFile
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.progress import Progress, report
from gridproxy.runtime.tasks import in_thread

from .download import IN_FLIGHT, Download, load_info


async def verify_file(
    store: Store, id: object, session: Session | None = None, progress: Progress | None = None
) -> FileInfo:
    """Read a file in bounded memory, compare the number, the sizes and the SHA-256 of its chunks, and return its info.

    Raises `FileMissing`, or `CorruptFile` with the first mismatch.
    """
    # The record is loaded first, because only a read that knows the file's end detects all surplus chunks.
    info = await load_info(store, id, session)
    digest = await hash_file(store, info, session, progress)
    if info.sha256 is not None and digest != info.sha256:
        raise CorruptFile(id, f"its bytes have the SHA-256 {digest} instead of {info.sha256}")
    return info


async def hash_file(
    store: Store, info: FileInfo, session: Session | None = None, progress: Progress | None = None
) -> str:
    """Read a file in bounded memory and return the SHA-256 of its bytes in hex.

    Raises `CorruptFile` if its chunks do not match the record.
    """
    download = Download(store, info.id, info=info, session=session, ahead=IN_FLIGHT)
    digest = hashlib.sha256()
    try:
        while (block := await download.next()) is not None:
            await in_thread(functools.partial(_update, digest, block.pieces))
            await report(progress, block.end, info.length)
    finally:
        await download.aclose()
    return digest.hexdigest()


def _update(digest: hashlib._Hash, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        digest.update(piece)
