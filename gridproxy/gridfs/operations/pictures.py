"""Pictures on their way in: decoded and made smaller in a worker thread, stored with all that belongs to them.

The variants are stored first and the picture last, so that whoever sees it finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gridproxy.errors import BadMetadata, BadOption, OutcomeUnknown
from gridproxy.gridfs.content.images import ImageOptions, Picture, Rendition, make_picture
from gridproxy.gridfs.content.limits import HEAD_BYTES, Limits
from gridproxy.gridfs.content.variants import picture_keys
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.upload.content_check import validate
from gridproxy.gridfs.upload.options import UploadRequest
from gridproxy.gridfs.upload.sources import open_source
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.upload import Upload, check_repeatable, close_after
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tasks import in_thread

from .delete import delete_after_failure

# A picture is decoded whole, so it is held whole; a field's `max_size` may say less, or more.
MAX_PICTURE_BYTES = 64 * 1024 * 1024


async def upload_picture(
    store: Store,
    source: object,
    request: UploadRequest,
    options: ImageOptions,
    *,
    session: Session | None = None,
    progress: Progress | None = None,
) -> FileInfo:
    """Store a picture and its variants; the picture's info. Whatever this raises, none of them stays behind (but see
    `OutcomeUnknown`).

    Raises as `upload_source`, and `PictureRefused`. The size and the type are checked as the picture came, validators
    see it as it will be stored.
    """
    if isinstance(source, Staged):
        raise BadOption(
            "a picture's field takes content, which it decodes, and not what is staged already: read it into bytes, "
            "where a transaction may want it twice"
        )
    if taken := sorted(picture_keys().intersection(request.metadata)):
        raise BadMetadata(f"metadata key {taken[0]!r} is the picture's own and cannot be given")
    session = store.session_for(session)
    data, named = await _gathered(source, request, session)
    async with store.state.decoding:
        picture = await in_thread(partial(make_picture, data, options, request.limits.field))
    return await _Storing(store, named, session, progress).run(picture)


async def _gathered(source: object, request: UploadRequest, session: Session | None) -> tuple[bytes, UploadRequest]:
    """All bytes of a source, let in by the limits of the field."""
    limits = request.limits
    if limits.max_size is None:
        limits = replace(limits, max_size=MAX_PICTURE_BYTES)
    opened = open_source(source, encoding=request.encoding)
    data = bytearray()
    try:
        check_repeatable(opened, session)
        await opened.prepare()
        named = request.completed_by(opened.name, opened.content_type)
        while block := await opened.read():
            limits.check_size(len(data) + len(block))
            first = len(data) < HEAD_BYTES
            data += block
            if first and len(data) >= HEAD_BYTES:
                limits.checked_type(named.content_type, bytes(data[:HEAD_BYTES]))
    except BaseException as error:
        await close_after(opened, error)
        raise
    await opened.aclose()
    limits.checked_type(named.content_type, bytes(data[:HEAD_BYTES]))
    return bytes(data), named


class _Storing:
    def __init__(
        self, store: Store, request: UploadRequest, session: Session | None, progress: Progress | None
    ) -> None:
        self._store = store
        self._request = replace(request, limits=Limits())  # they have let it in
        self._limits = request.limits
        self._session = session
        self._progress = progress
        self._stored: list[object] = []

    async def run(self, picture: Picture) -> FileInfo:
        upload = self._upload(picture.main, self._request)
        info = FileInfo.from_record(upload.request.record(upload.id, len(picture.main.data), upload.chunk_size, None))
        await validate(self._limits, info, picture.main.data[:HEAD_BYTES])
        try:
            upload.request = _with_metadata(upload.request, await self._store_variants(picture, upload.id))
            return await _sent(upload, picture.main.data)
        except OutcomeUnknown as error:
            if error.id != upload.id:  # else the picture may be there, and needs them
                await delete_after_failure(self._store, self._stored, self._session, error)
            raise
        except BaseException as error:
            await delete_after_failure(self._store, self._stored, self._session, error)
            raise

    async def _store_variants(self, picture: Picture, id: object) -> dict[str, Any]:
        """What the picture's metadata say of its variants."""
        said: dict[str, Any] = {}
        if picture.thumbnail is not None:
            said["thumbnail_id"] = await self._store_variant(picture.thumbnail, id)
        if picture.variants:
            said["variants"] = {name: await self._store_variant(each, id) for name, each in picture.variants.items()}
        return said

    async def _store_variant(self, variant: Rendition, id: object) -> object:
        # Without a name: they are no revisions of the picture's.
        request = replace(self._request, id=None, filename=None, metadata={"variant_of": id})
        info = await _sent(self._upload(variant, request), variant.data)
        self._stored.append(info.id)
        return info.id

    def _upload(self, rendition: Rendition, request: UploadRequest) -> Upload:
        measured = {"width": rendition.width, "height": rendition.height, "format": rendition.format}
        request = _with_metadata(replace(request, content_type=rendition.content_type), measured)
        return Upload(self._store, request, self._session, self._progress, len(rendition.data))


def _with_metadata(request: UploadRequest, more: Mapping[str, Any]) -> UploadRequest:
    return replace(request, metadata={**request.metadata, **more})


async def _sent(upload: Upload, data: bytes) -> FileInfo:
    try:
        await upload.start()
        for at in range(0, len(data), BATCH_BYTES):
            upload.feed(memoryview(data)[at : at + BATCH_BYTES])
            await upload.flow()
    except BaseException as error:
        await upload.abort(error)
        raise
    return await upload.finish()
