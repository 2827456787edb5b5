"""Verifying one file: whether what is stored is what was put in."""

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
    """Read a file again, chunk by chunk, and compare number, sizes and SHA-256; its info.

    Raises `FileMissing`, or `CorruptFile` saying what is wrong. Memory is bounded, whatever the file's length.
    """
    # The record first: only a read that knows the file's end sees all that stands behind it.
    info = await load_info(store, id, session)
    download = Download(store, id, info=info, session=session, ahead=IN_FLIGHT)
    digest = hashlib.sha256()
    try:
        while (block := await download.next()) is not None:
            await in_thread(functools.partial(_update, digest, block.pieces))
            await report(progress, block.end, info.length)
    finally:
        await download.aclose()
    if info.sha256 is not None and digest.hexdigest() != info.sha256:
        raise CorruptFile(id, f"its bytes have the SHA-256 {digest.hexdigest()} instead of {info.sha256}")
    return info


def _update(digest: hashlib._Hash, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        digest.update(piece)
