"""Fields for files: the document stores an id or a snapshot, and GridFS stores the content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Unpack

from bson import ObjectId

from gridproxy.errors import BadId, BadOption, BadSource, ValidationError
from gridproxy.file.attachment import Proof
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FieldOptions, FileOptions
from gridproxy.file.values import assign, from_stored, stored_form, stored_value
from gridproxy.gridfs.content.images import ImageOptions, Size
from gridproxy.gridfs.records.ids import id_filter

from .base import BaseDocument
from .fields import Field


class FileField(Field[AsyncGridFile, Any]):
    """A file: an `AsyncGridFile`, empty or stored, never None. The options are those of `FileOptions`.

    Assigning bytes, a path or an open file does no I/O: the next `save()` stores it. Assigning another file, its id (an
    `ObjectId` or 24 hex digits) or None moves the reference.

    Args:
        required: Whether a save refuses an empty file.
        collection_name: MongoEngine's word for `bucket`.
        **options: Those of `FileOptions`.

    Raises:
        BadOption: An option is invalid.
        ValidationError: The assigned value is not a file, or the file is in another bucket or database.
        UploadInProgress: Content is assigned while the field's file is being written.

    ```python
    from gridproxy.adapters.document import Document, FileField

    class Track(Document):
        scan = FileField(bucket="scans", max_size=1_000_000, on_delete="delete")

    track = await Track(scan=b"a footprint").save()
    assert await track.scan.read() == b"a footprint"
    ```
    """

    two_forms = True

    def __init__(
        self, *, required: bool = False, collection_name: str | None = None, **options: Unpack[FieldOptions]
    ) -> None:
        super().__init__(required=required)
        if collection_name is not None:
            if options.get("bucket") is not None:
                raise BadOption("collection_name= is MongoEngine's word for bucket=: give one of the two")
            options["bucket"] = collection_name
        self.options: FileOptions = FileOptions(**options)

    def options_in(self, owner: BaseDocument) -> FileOptions:
        """Return the field's options, in the document's own database if the field names none."""
        return self.options.in_database(owner.document_alias)

    def new_value(self, owner: BaseDocument) -> AsyncGridFile:
        return self.loaded(owner, None)

    def assigned(self, owner: BaseDocument, value: Any) -> AsyncGridFile:
        current = owner.document_state.values.get(self.name)
        if not isinstance(current, AsyncGridFile):
            current = self.loaded(owner, None)
        return self._taken(owner, current, value)

    def checked(self, owner: BaseDocument, value: Any) -> AsyncGridFile:
        if isinstance(value, AsyncGridFile):
            return self._taken(owner, value, value)
        return self._taken(owner, self.loaded(owner, None), value)

    def _taken(self, owner: BaseDocument, current: AsyncGridFile, value: Any) -> AsyncGridFile:
        try:
            file = assign(current, value, self.options_in(owner))
        except (BadId, BadSource) as error:
            raise ValidationError(self.name, str(error)) from error
        file.state.attach(owner, self.name)
        return file

    def loaded(self, owner: BaseDocument, raw: Any) -> AsyncGridFile:
        file = from_stored(AsyncGridFile, raw, self.options_in(owner))
        file.state.attach(owner, self.name, Proof.NONE if raw is None else Proof.LOADED)
        return file

    def stored(self, value: Any) -> Any:
        # A value that the caller put into a list becomes a file only when the list is checked.
        return stored_value(value) if isinstance(value, AsyncGridFile) else value

    def untouched(self, raw: Any) -> Any:
        return stored_form(raw, self.options)

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        if not isinstance(value, AsyncGridFile):
            return value
        # A pickled Bucket has kept only its name, so the options are the field's own.
        state = {**value.__getstate__(), "options": self.options_in(owner)}
        file = AsyncGridFile.__new__(AsyncGridFile)
        file.__setstate__(state)
        file.state.attach(owner, self.name, Proof.COPIED)
        return file

    def files(self, value: Any) -> Iterator[AsyncGridFile]:
        if isinstance(value, AsyncGridFile):
            yield value

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        # A query does not hold the file, so the file is not attached.
        if isinstance(value, AsyncGridFile):
            return value.id
        if value is not None and not isinstance(value, str | ObjectId):
            raise self.refuse("a file, an id or None", value)
        return self.assigned(owner, value).id

    def equals(self, path: str, stored: Any) -> Mapping[str, Any]:
        # A document keeps the form that it was saved with, so both forms are compared.
        return (
            {path: None} if stored is None else {"$or": [{path: id_filter(stored)}, {f"{path}._id": id_filter(stored)}]}
        )


class ImageField(FileField):
    """A picture, with a thumbnail and variants that are stored and deleted with it. Needs the extra `images`.

    It is stored in the bucket "images" unless `bucket=` names another one, as in MongoEngine. Its file also has
    `width`, `height`, `format`, `thumbnail` and `variants`. Each size is (width, height) in pixels, or
    (width, height, True) for exactly this size, as in `ImageOptions`.

    Args:
        size: The size to which a larger picture is scaled down.
        thumbnail_size: The size of the thumbnail.
        variants: The sizes of further copies, by name.
        max_pixels: The largest number of pixels in all frames, as in `ImageOptions`.
        max_frames: The largest number of frames, as in `ImageOptions`.
        timeout: The number of seconds that decoding may take, as in `ImageOptions`.
        format: The format of the smaller pictures, such as "WEBP".
        quality: The quality of encoded pictures, from 1 to 100.
        **options: The options of `FileField`.

    Raises:
        BadOption: A size or another option is invalid, or the extra is missing.
        PictureRefused: The content is not a picture, on putting or saving.

    ```python
    import io
    from PIL import Image
    from gridproxy.adapters.document import Document, ImageField

    class Portrait(Document):
        face = ImageField(size=(800, 600), thumbnail_size=(80, 60), variants={"small": (320, 240)})

    Image.new("RGB", (1600, 1200)).save(picture := io.BytesIO(), "PNG")
    portrait = await Portrait(face=picture.getvalue()).save()
    assert (portrait.face.width, portrait.face.height) == (800, 600)
    ```
    """

    def __init__(
        self,
        *,
        size: Size | None = None,
        thumbnail_size: Size | None = None,
        variants: Mapping[str, Size] | None = None,
        max_pixels: int | None = None,
        max_frames: int = ImageOptions.max_frames,
        timeout: float = ImageOptions.timeout,
        format: str | None = None,  # noqa: A002  # the name in ImageOptions
        quality: int | None = None,
        **options: Any,
    ) -> None:
        if options.get("bucket") is None and options.get("collection_name") is None:
            options["bucket"] = "images"
        super().__init__(**options)
        image = ImageOptions(
            size=size,
            thumbnail_size=thumbnail_size,
            variants=variants or {},
            max_pixels=max_pixels,
            max_frames=max_frames,
            timeout=timeout,
            format=format,
            quality=quality,
        )
        self.options: FileOptions = replace(self.options, image=image)
