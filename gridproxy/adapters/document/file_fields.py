"""Fields that hold files: what is stored of them is an id or a snapshot, and their content lies in GridFS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bson import ObjectId

from gridproxy.bucket import Bucket
from gridproxy.errors import BadId, BadSource, ValidationError
from gridproxy.file.attachment import Proof
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions, OnDelete, StoreAs
from gridproxy.file.values import assign, from_stored, stored_form, stored_value
from gridproxy.gridfs.content.images import ImageOptions, Size
from gridproxy.gridfs.content.limits import Validator
from gridproxy.gridfs.records.ids import id_filter

from .base import BaseDocument
from .fields import Field


class FileField(Field[AsyncGridFile, Any]):
    """A file: `AsyncGridFile`, always there, empty or stored. Takes what `FileOptions` takes, `max_size` in bytes.

    Assigning bytes, a path or an open file does no I/O: the next `save()` stores it. Assigning another file, its id
    (also as 24 hex digits) or None moves the reference. Anything else raises `ValidationError`, and so does a file that
    lies in another bucket or database. `UploadInProgress` is raised for content while the field's file is being
    written. The field itself raises `BadOption` for options, as `FileOptions` does.
    """

    two_forms = True

    def __init__(
        self,
        *,
        bucket: Bucket | str | None = None,
        db_alias: str | None = None,
        store: StoreAs = "id",
        on_delete: OnDelete = "keep",
        max_size: int | None = None,
        content_types: Iterable[str] | str | None = None,
        validators: Iterable[Validator] | Validator | None = None,
        required: bool = False,
    ) -> None:
        super().__init__(required=required)
        self.options: FileOptions = FileOptions(
            bucket=bucket,
            db_alias=db_alias,
            store=store,
            on_delete=on_delete,
            max_size=max_size,
            content_types=content_types,
            validators=validators,
        )

    def options_in(self, owner: BaseDocument) -> FileOptions:
        """The field's options, with the document's own database where the field names none."""
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
        # What was put into a list by hand is a file only once the list was checked.
        return stored_value(value) if isinstance(value, AsyncGridFile) else value

    def untouched(self, raw: Any) -> Any:
        return stored_form(raw, self.options)

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        if not isinstance(value, AsyncGridFile):
            return value
        # With the field's own options: a pickled Bucket has kept its name only.
        state = {**value.__getstate__(), "options": self.options_in(owner)}
        file = AsyncGridFile.__new__(AsyncGridFile)
        file.__setstate__(state)
        file.state.attach(owner, self.name, Proof.COPIED)
        return file

    def files(self, value: Any) -> Iterator[AsyncGridFile]:
        if isinstance(value, AsyncGridFile):
            yield value

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        # Asking for a file is no place that holds it: it is not attached to anything.
        if isinstance(value, AsyncGridFile):
            return value.id
        if value is not None and not isinstance(value, str | ObjectId):
            raise self.refuse("a file, an id or None", value)
        return self.assigned(owner, value).id

    def equals(self, path: str, stored: Any) -> Mapping[str, Any]:
        # Either form, whatever the field stores now: documents keep the one that they were saved with.
        return (
            {path: None} if stored is None else {"$or": [{path: id_filter(stored)}, {f"{path}._id": id_filter(stored)}]}
        )


class ImageField(FileField):
    """A picture (extra `images`), with a thumbnail and variants that come and go with it.

    `size`, `thumbnail_size` and each of `variants` are (width, height) in pixels, or (width, height, True) for exactly
    these, see `ImageOptions`; all else is as in `FileField`. Besides a file's own members a picture has `width`,
    `height`, `format`, `thumbnail` and `variants`. Content that is no picture raises `PictureRefused` when it is put or
    saved. The field itself raises `BadOption` for sizes, and where the extra is missing.
    """

    def __init__(
        self,
        *,
        size: Size | None = None,
        thumbnail_size: Size | None = None,
        variants: Mapping[str, Size] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        image = ImageOptions(size=size, thumbnail_size=thumbnail_size, variants=variants or {})
        self.options: FileOptions = replace(self.options, image=image)
