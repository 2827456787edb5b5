"""The unfinished SHA-256 of uploads.

`hashlib` cannot save one, so this process keeps it for each upload that it receives. If another process finishes the
upload, it reads the content back.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict

from bson import ObjectId

from gridproxy.gridfs.records.chunks import ChunkRange, check_range, chunks_per_range
from gridproxy.gridfs.records.file_info import UPLOAD_ID
from gridproxy.gridfs.store.collections import Store
from gridproxy.runtime.client_state import Client
from gridproxy.runtime.tasks import in_thread, interruptible, run_to_completion
from gridproxy.runtime.weak_identity_map import WeakIdentityMap

from .lease import Lease
from .unfinished import Unfinished

# Each takes about 500 bytes.
_MOST = 10_000

_digests: WeakIdentityMap[Client, OrderedDict[ObjectId, tuple[int, hashlib._Hash]]] = WeakIdentityMap()


def keep_digest(store: Store, upload: Unfinished, digest: hashlib._Hash | None) -> None:
    """Keep the digest of the full chunks for the next append."""
    if digest is None:
        return
    kept = _digests.get(store.client)
    if kept is None:
        kept = OrderedDict()
        _digests.set(store.client, kept)
    kept[upload.upload_id] = upload.full_chunks, digest
    if len(kept) > _MOST:
        kept.popitem(last=False)


def take_digest(store: Store, upload: Unfinished) -> hashlib._Hash | None:
    """Return the digest of the full chunks, and forget it. None if it is not known, or if the bucket wants none."""
    kept = _digests.get(store.client)
    chunks, digest = (0, None) if kept is None else kept.pop(upload.upload_id, (0, None))
    if not store.checksum:
        return None
    if not upload.full_chunks:
        return hashlib.sha256()
    return digest if chunks == upload.full_chunks else None


async def complete_digest(store: Store, lease: Lease) -> str | None:
    """Return the SHA-256 of the whole content in hex, None if the bucket wants none."""
    if not store.checksum:
        return None
    upload = lease.upload
    digest = take_digest(store, upload)
    if digest is None:
        digest = hashlib.sha256()
        step = chunks_per_range(upload.chunk_size)
        for first in range(0, upload.full_chunks, step):
            if lease.is_due:
                await run_to_completion(lease.save({}), client=store.client)
            content = await read_chunks(store, upload, first, min(upload.full_chunks, first + step))
            await in_thread(functools.partial(digest.update, content))
    keep_digest(store, upload, digest.copy())  # for the case that the rest of the end fails
    digest.update(upload.tail)
    return digest.hexdigest()


async def read_chunks(store: Store, upload: Unfinished, first: int, stop: int) -> bytes:
    """Return the content of full chunks, from `first` to `stop` (exclusive). Raises `CorruptFile` if some are gone."""
    wanted = ChunkRange(first, stop, False)
    found = await interruptible(store.find_chunks(upload.id, wanted, primary=True))
    own = [chunk for chunk in found if chunk.get(UPLOAD_ID) == upload.upload_id]
    return b"".join(check_range(upload.info, wanted, own))
