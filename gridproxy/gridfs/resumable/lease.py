"""The lease on an upload: only its holder changes the upload, and it ends by itself if the holder dies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bson import ObjectId

from gridproxy.errors import FileAlreadyStored, UploadInProgress, UploadMissing, WrongOffset
from gridproxy.gridfs.records.file_info import UPLOAD_ID, utc_milliseconds

from .unfinished import Unfinished, Uploads, is_free

# How long a client that was killed holds up others. A client that lives renews its lease after half of the time, at the
# next block of its source. If the source pauses for longer, another client may take over.
LEASE_SECONDS = 15.0  # far more than a second, which is the precision of the time in a chunk's `_id`


def in_progress() -> UploadInProgress:
    """Return the error for an upload that another client is writing to."""
    return UploadInProgress(
        "another client writes to this upload at this moment. If it has died, the upload is free after "
        f"{LEASE_SECONDS:g} seconds"
    )


class Lease:
    """The right to change one upload. `upload` is what is stored of it, as far as it is known."""

    def __init__(self, uploads: Uploads, upload: Unfinished) -> None:
        self.upload: Unfinished = upload
        self.held: bool = False
        self.lost: bool = False  # whether another client has taken over
        self._uploads = uploads
        self._by = ObjectId()
        self._renew_at = 0.0
        self._until = upload.started  # as the server has confirmed it

    @property
    def is_due(self) -> bool:
        """Whether half of the time is over."""
        return time.monotonic() >= self._renew_at

    async def take(self, at: int, *, finishing: bool = False) -> None:
        """Begin to change the upload, which has to have `at` bytes.

        Raises `UploadMissing`, `UploadInProgress` if another client holds the lease, `WrongOffset`, and
        `FileAlreadyStored` if the upload is finished, unless `finishing`.
        """
        now = self._uploads.store.now()
        matching: dict[str, Any] = {"offset": at, "expires_at": {"$gt": now}, "stored": False, **is_free(now)}
        if not finishing:
            matching["finished_at"] = None
        terms = self._terms()
        document, changed = await self._uploads.change(self.upload, matching, terms)
        if document is None or document[UPLOAD_ID] != self.upload.upload_id:
            raise UploadMissing(self.upload.id)
        self.upload = Unfinished.from_document(document)
        if changed:
            self.held, self._until = True, terms["lease"]["until"]
        elif self.upload.stored or (self.upload.finished_at is not None and not finishing):
            raise FileAlreadyStored(self.upload.id, message="this upload is finished, so nothing can be appended")
        elif self.upload.expires_at <= now:
            raise UploadMissing(self.upload.id)
        elif self.upload.is_leased(now):
            raise in_progress()
        else:
            raise WrongOffset(self.upload.offset, at)

    async def save(self, changes: Mapping[str, Any], *, release: bool = False) -> None:
        """Change the upload, and renew the lease or end it. Raises `UploadInProgress` if it was lost."""
        terms = self._terms()
        until = terms["lease"]["until"]
        if release:
            terms["lease"] = None
        matching = {"lease.by": self._by, "offset": self.upload.offset}
        # Without an answer the lease is not used any more, and ends by itself.
        self.held = False
        document, changed = await self._uploads.change(self.upload, matching, {**terms, **changes})
        if not changed or document is None:
            self.lost = True
            if document is None:
                raise UploadMissing(self.upload.id)
            raise UploadInProgress("another client has continued this upload, because this one paused for too long")
        self.upload = Unfinished.from_document(document)
        self.held, self._until = not release, until

    async def delete_chunks_from(self, n: int) -> None:
        """Delete the chunks from number `n` on, which do not count.

        Another client takes over only after the end of this lease, so its chunks are younger. However late the server
        carries this out, it removes none of them.
        """
        upload = self.upload
        await self._uploads.store.delete_chunks_from(upload.id, upload.upload_id, n, self._until)

    def _terms(self) -> dict[str, Any]:
        self._renew_at = time.monotonic() + LEASE_SECONDS / 2
        now = self._uploads.store.now()
        return {
            "lease": {"by": self._by, "until": utc_milliseconds(now + timedelta(seconds=LEASE_SECONDS))},
            "expires_at": utc_milliseconds(now + self.upload.lifetime),
        }
