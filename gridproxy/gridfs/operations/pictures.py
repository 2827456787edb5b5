"""The upload of pictures: decoded by `decode_picture`, and stored after their variants, so that readers find both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gridproxy.errors import BadMetadata, BadOption, OutcomeUnknown
from gridproxy.gridfs.content.images import ImageOptions, Picture, Rendition
from gridproxy.gridfs.content.limits import NO_LIMITS, Limits
from gridproxy.gridfs.content.sniffing import HEAD_BYTES
from gridproxy.gridfs.content.variants import picture_keys
from gridproxy.gridfs.records.chunks import BATCH_BYTES
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.gridfs.upload.content_check import validate
from gridproxy.gridfs.upload.options import UploadRequest
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.upload import Upload, open_prepared
from gridproxy.runtime.progress import Progress

from .decode_picture import decode_picture
from .delete import delete_after_failure

# Decoding needs the whole picture in memory. A field's `max_size` replaces this limit.
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
    """Store a picture and its variants, and return its info. After an error none is left, except with `OutcomeUnknown`.

    Raises the errors of `upload_source`, and `PictureRefused`. Size and type are checked as received, and validators
    see the picture as it will be stored.
    """
    if isinstance(source, Staged):
        raise BadOption(
            "a picture's field cannot store staged content, because it decodes the bytes: pass the bytes themselves, "
            "which a transaction can also read twice"
        )
    if reserved := sorted(picture_keys().intersection(request.metadata)):
        raise BadMetadata(f"metadata key {reserved[0]!r} is set by the picture itself: give another key")
    session = store.session_for(session)
    data, named = await _read_picture(source, request, session)
    named = named.expiring_from(await server_now(store))
    picture = await decode_picture(
        store.state.decoding, data, options, field=request.limits.field, filename=named.filename
    )
    return await _PictureUpload(store, named, session, progress).run(picture)


async def _read_picture(source: object, request: UploadRequest, session: Session | None) -> tuple[bytes, UploadRequest]:
    """Return all bytes of a source after the checks of size and type, and the request with its names."""
    limits = request.limits
    if limits.max_size is None:
        limits = replace(limits, max_size=MAX_PICTURE_BYTES)
    data = bytearray()
    async with open_prepared(source, request.encoding, session) as opened:
        named = request.completed_by(opened.name, opened.content_type).keeping(opened.metadata)
        while block := await opened.read():
            limits.check_size(len(data) + len(block))
            first = len(data) < HEAD_BYTES
            data += block
            if first and len(data) >= HEAD_BYTES:
                _check_type(limits, named, data)
    _check_type(limits, named, data)
    return bytes(data), named


def _check_type(limits: Limits, request: UploadRequest, data: bytearray) -> None:
    kind = limits.checked_type(request.content_type, bytes(data[:HEAD_BYTES]), request.guesses, request.filename)
    limits.check_other_types(kind, request.metadata)


class _PictureUpload:
    def __init__(
        self, store: Store, request: UploadRequest, session: Session | None, progress: Progress | None
    ) -> None:
        self._store = store
        self._request = replace(request, limits=NO_LIMITS)  # they are checked here already
        self._limits = request.limits
        self._session = session
        self._progress = progress
        self._stored: list[object] = []

    async def run(self, picture: Picture) -> FileInfo:
        shown = replace(
            self._request, limits=replace(NO_LIMITS, inspect=self._limits.inspect, field=self._limits.field)
        )
        upload = self._upload(picture.main, shown)
        info = FileInfo.from_record(
            upload.request.record(upload.id, len(picture.main.data), upload.chunk_size, None, self._store.now())
        )
        await validate(self._limits, info, picture.main.data[:HEAD_BYTES])
        try:
            upload.request = _with_metadata(upload.request, await self._store_variants(picture, upload.id))
            return await _send(upload, picture.main.data)
        except BaseException as error:
            if not (isinstance(error, OutcomeUnknown) and error.id == upload.id):  # else it may exist and need them
                await delete_after_failure(self._store, self._stored, self._session, error)
            raise

    async def _store_variants(self, picture: Picture, id: object) -> dict[str, Any]:
        """Store the variants and return the metadata keys that refer to them."""
        keys: dict[str, Any] = {}
        if picture.thumbnail is not None:
            keys["thumbnail_id"] = await self._store_variant(picture.thumbnail, id)
        if picture.variants:
            keys["variants"] = {name: await self._store_variant(each, id) for name, each in picture.variants.items()}
        return keys

    async def _store_variant(self, variant: Rendition, id: object) -> object:
        # Variants have no name, so that they are not revisions of the picture.
        request = replace(self._request, id=None, filename=None, metadata={"variant_of": id})
        info = await _send(self._upload(variant, request), variant.data)
        self._stored.append(info.id)
        return info.id

    def _upload(self, rendition: Rendition, request: UploadRequest) -> Upload:
        measured = {"width": rendition.width, "height": rendition.height, "format": rendition.format}
        request = _with_metadata(replace(request, content_type=rendition.content_type, guesses=None), measured)
        return Upload(self._store, request, self._session, self._progress, len(rendition.data))


def _with_metadata(request: UploadRequest, more: Mapping[str, Any]) -> UploadRequest:
    return replace(request, metadata={**request.metadata, **more})


async def _send(upload: Upload, data: bytes) -> FileInfo:
    try:
        await upload.start()
        for at in range(0, len(data), BATCH_BYTES):
            upload.feed(memoryview(data)[at : at + BATCH_BYTES])
            await upload.flow()
    except BaseException as error:
        await upload.abort(error)
        raise
    return await upload.finish()
