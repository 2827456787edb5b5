"""AsyncGridFile: one object that stands for one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gridproxy.gridfs.content.variants import named_variants, thumbnail_id
from gridproxy.gridfs.operations.copy import copy_file
from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.operations.update import rename_file, update_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.runtime.tasks import run_to_completion

from .options import FileOptions
from .pydantic import apply_options_to_default, file_json_schema, file_schema
from .writing import WritableFile

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class AsyncGridFile(WritableFile):
    """One file in MongoDB GridFS: empty (false) or stored (true, `id` is not None).

    `bucket` is a `Bucket`, a bucket's name, or None for "fs"; a name is looked up in the database that `connect` (or
    `using`) gave for `alias` (None for "default"), at each operation and never before: making, copying, comparing and
    pickling need no connection. `options` say both. Raises `BadOption` for what is no bucket, `BadId` for a file in the
    place of an id. Equal are files of the same (id, bucket, alias). Unhashable, since the id changes.

    The record's fields (`length`, `metadata`, ...) are known after any put, read, stat or open, and from a snapshot;
    before that they raise `InfoNotLoaded`.

    Every method that does I/O takes `session=`; raises pymongo's own errors where the server or the network fails,
    `NotConnected` where no database is known, `BadOption` where that can have no such bucket, and `UploadInProgress`
    while this very file is being written, has assigned content that is not saved yet, or is to be changed while it
    takes part in a transaction that is another one than the call's.

    ```python
    file = AsyncGridFile()
    await file.put(b"some content", filename="notes.txt", reviewed=False)
    assert await file.read() == b"some content"
    ```
    """

    _default_of: tuple[type, str] | None = None  # the field of a pydantic model, until its options are known

    def __set_name__(self, owner: type, name: str) -> None:
        # pydantic copies a default for each new object, and validates none: its field's options come with the copy.
        if not hasattr(owner, "__pydantic_fields_set__") or vars(owner).get(name) is not self:
            return
        default = self
        if self._default_of is not None:  # one object, the default of several fields
            default = type(self)(self._id, options=self._options, info=self._info)
            setattr(owner, name, default)
        default._default_of = owner, name

    def __getstate__(self) -> dict[str, Any]:
        if self._default_of is not None:
            apply_options_to_default(self, *self._default_of)
        return super().__getstate__()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        return file_schema(cls, FileOptions.of_field())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return file_json_schema(schema, handler)

    @property
    def thumbnail(self) -> AsyncGridFile:
        """A picture's thumbnail, a file of its own; an empty one where there is none."""
        info = self._known("thumbnail")
        return self._variant(thumbnail_id(info.metadata, info.extra))

    @property
    def variants(self) -> Mapping[str, AsyncGridFile]:
        """A picture's variants by their names, files of their own; empty where there are none."""
        return {name: self._variant(id) for name, id in named_variants(self._known("variants").metadata).items()}

    def _variant(self, id: object) -> AsyncGridFile:
        known = self._variants.get(repr(id))  # the same object each time: it has a position
        if not isinstance(known, AsyncGridFile):
            known = AsyncGridFile(id, bucket=self._options.bucket, alias=self._options.db_alias)
            self._variants[repr(id)] = known
        return known

    # What is done to a stored file

    async def update_metadata(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        unset: Iterable[str] = (),
        session: Session | None = None,
        **more: Any,
    ) -> FileInfo:
        """Set keys of the metadata (`changes`, and keywords) and `unset` others, in one step; the new info.

        Raises `FileMissing`, `BadMetadata` for what cannot be stored, is said twice, or is not the caller's (`sha256`).
        """
        store, id = self._readable()
        self._join(store.session_for(session))
        return self._edited(await update_file(store, id, changes, unset, more, session))

    async def rename(self, filename: str, *, session: Session | None = None) -> FileInfo:
        """Give the stored file another name; the new info. Raises `FileMissing`, `BadOption` for what is no name."""
        store, id = self._readable()
        self._join(store.session_for(session))
        return self._edited(await rename_file(store, id, filename, session))

    def _edited(self, info: FileInfo) -> FileInfo:
        self._loaded(info.id)(info)
        return info

    async def copy(
        self,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: object = None,
        expires_at: datetime | None = None,
        expires_after: timedelta | float | None = None,
        session: Session | None = None,
        **more_metadata: Any,
    ) -> AsyncGridFile:
        """A second file with the same bytes, copied inside the server; what is not given stays as it is here.

        `metadata` stands for all of the original's, keywords for single keys; `id`, `expires_at` (UTC) and
        `expires_after` (seconds) are as `put` has them, but no copy expires unless told. Raises `FileMissing`,
        `CorruptFile` (nothing is made of half a file), `FileAlreadyStored` or `UploadInProgress` where `id` is taken,
        `BadMetadata`, `BadId`, `BadOption` (inside a transaction, too), `OutcomeUnknown`.
        """
        info = await copy_file(
            *self._readable(),
            id=id,
            filename=filename,
            content_type=content_type,
            metadata=metadata,
            expires_at=expires_at,
            expires_after=expires_after,
            more_metadata=more_metadata,
            session=session,
        )
        return AsyncGridFile(info.id, options=self._options, info=info)

    async def delete(self, *, session: Session | None = None) -> None:
        """Remove the file, and a picture's variants; this object is empty then. No error where there is none."""
        with self._exclusive("being deleted"):
            self._join(self._session(session))
            self._content = None
            if self._id is not None:
                # Together, since a cancellation is raised only after the removal came to its end.
                await run_to_completion(self._remove(self._store(), self._id, session))

    async def _remove(self, store: Store, id: object, session: Session | None) -> None:
        await remove_file(store, id, session)
        self._point_to(None, None)

    # What it and its document owe each other

    async def finalize(self, *, session: Session | None = None) -> None:
        """The document that holds this file was saved by hand: remove the files that it replaced. Else no effect.

        Where the document was saved in a transaction of ours, so is this called, and the files go with its commit.
        """
        if self._attachment is not None:
            through = self._session(session)
            self._join(through)
            await self._attachment.finalize(through)

    async def revert(self, *, session: Session | None = None) -> None:
        """Go back to the file that the saved document points to, and remove the new one. Unheld: no effect."""
        if self._attachment is not None:
            with self._exclusive("being reverted"):
                through = self._session(session)
                self._join(through)
                await self._attachment.revert(through)
