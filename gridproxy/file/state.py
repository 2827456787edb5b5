"""Handle: what a file proxy knows and remembers without any I/O."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from gridproxy.errors import BadId, BadOption, BadSource, FileMissing, InfoNotLoaded, UploadInProgress, type_name
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import Hooks, TransactionLog, transaction_log_of
from gridproxy.gridfs.upload.sources import Spent, open_source
from gridproxy.runtime.sessions import bound_session

from .attachment import Attachment, Standing, attach_unowned
from .connection import store_for
from .options import FileOptions

if TYPE_CHECKING:
    from gridproxy.bucket import Bucket


class Handle:
    """The id, the options and the last seen record of one file, and whether it is busy."""

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the way Python spells "unhashable"

    def __init__(
        self,
        id: object = None,
        *,
        bucket: Bucket | str | None = None,
        alias: str | None = None,
        options: FileOptions | None = None,
        info: FileInfo | None = None,
    ) -> None:
        if isinstance(id, Handle):
            raise BadId("an AsyncGridFile is not an id; give its .id")
        if options is not None and (bucket is not None or alias is not None):
            raise BadOption("options= says the bucket and the alias already")
        self._id = id
        self._options = options or FileOptions(bucket=bucket, db_alias=alias)
        self._info = info
        self._busy: str | None = None
        self._variants: dict[str, Handle] = {}  # the files of a picture's variants, as long as it is that picture
        self._content: object | None = None  # assigned to a field, and stored by its document's next save
        self._attachment: Attachment | None = None
        self.outcome_unknown = False  # whether it was stored in a transaction of which nobody knows how it ended
        self._tx_log: TransactionLog | None = None  # of the last transaction that changed this file

    def __bool__(self) -> bool:
        return self._id is not None

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Handle) else NotImplemented

    def _key(self) -> tuple[object, object, object]:
        return self._id, self._options.bucket, self._options.db_alias

    def __repr__(self) -> str:
        state = "empty" if self._id is None else f"id={self._id!r}"
        name = "" if self._info is None else f" {self._info.filename!r} {self._info.length} bytes"
        doing = f", {self._busy}" if self._busy else ""
        return f"<{type(self).__name__} {state}{name}{doing}>"

    def __getstate__(self) -> dict[str, Any]:
        if self._content is not None and not isinstance(self._content, bytes | os.PathLike):
            raise BadSource(
                f"content of type {type_name(self._content)} was assigned and can be read only once: "
                "save the document before copying it"
            )
        return {
            "id": self._id,
            "options": self._options,
            "info": self._info,
            "content": self._content,
            "held": self._attachment is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]  # every attribute starts as in a new one
            state["id"], options=state["options"], info=state["info"]
        )
        self._content = state["content"]
        if state["held"]:
            attach_unowned(self)  # a copied model's file is replaced as carefully as the one that it was copied from

    # What is known without I/O

    @property
    def id(self) -> object:
        """The stored file's id, None for an empty one."""
        return self._id

    @property
    def options(self) -> FileOptions:
        """Where and how this file is kept."""
        return self._options

    @property
    def info(self) -> FileInfo | None:
        """The record as it was last seen: after a put, read, stat or open; else None."""
        return self._info

    @property
    def filename(self) -> str | None:
        """The stored name, None where it has none."""
        return self._known("filename").filename

    @property
    def content_type(self) -> str | None:
        """The media type, see `FileInfo.content_type`; None where nobody said one."""
        return self._known("content_type").content_type

    @property
    def length(self) -> int:
        """The file's length in bytes."""
        return self._known("length").length

    @property
    def upload_date(self) -> datetime | None:
        """When the upload ended; aware, in UTC; None where another writer did not note it."""
        return self._known("upload_date").upload_date

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata as they are stored, read-only; `update_metadata` edits them."""
        return self._known("metadata").metadata

    @property
    def chunk_size(self) -> int:
        """The bytes of one chunk, but for the last."""
        return self._known("chunk_size").chunk_size

    @property
    def sha256(self) -> str | None:
        """The SHA-256 in hex, None where it was not computed."""
        return self._known("sha256").sha256

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110, 8.8.3), quotes included."""
        return self._known("etag").etag

    @property
    def width(self) -> int | None:
        """A picture's width in pixels; None where the file was not stored as a picture."""
        width: int | None = self._measured("width")
        return width

    @property
    def height(self) -> int | None:
        """A picture's height in pixels; None where the file was not stored as a picture."""
        height: int | None = self._measured("height")
        return height

    @property
    def format(self) -> str | None:
        """A picture's format as Pillow calls it ("JPEG"); None where the file was not stored as a picture."""
        name: str | None = self._measured("format")
        return name

    def _measured(self, measure: str) -> Any:
        info = self._known(measure)
        return info.metadata.get(measure, info.extra.get(measure))

    def _known(self, field: str) -> FileInfo:
        if self._info is None:
            raise InfoNotLoaded(field)
        return self._info

    # Inside

    def _point_to(self, id: object, info: FileInfo | None) -> None:
        self._id, self._info, self._content, self.outcome_unknown = id, info, None, False
        self._variants = {}

    def _store(self) -> Store:
        return store_for(self._options.bucket, self._options.db_alias)

    def _limits(self) -> Limits:
        return self._options.limits(None if self._attachment is None else self._attachment.field)

    def _readable(self) -> tuple[Store, object]:
        self._refuse_while_busy()
        if self._content is not None:
            raise UploadInProgress(
                "content was assigned here and is not stored yet: save the document first, or put() it"
            )
        if self._id is None:
            raise FileMissing(message="this file is empty: put() something first")
        return self._store(), self._id

    def _chunk_size_hint(self) -> int | None:
        return None if self._info is None else self._info.chunk_size

    def _loaded(self, id: object, session: Session | None = None) -> Callable[[FileInfo], None]:
        if (tx_log := transaction_log_of(session)) is not None:
            tx_log.enlist(self, self._info_hooks, "info")  # what comes may be taken back

        # Weakly, since a reader of this file keeps it: a writer that is dropped should be seen at once.
        this = weakref.ref(self)

        def loaded(info: FileInfo) -> None:
            file = this()
            if file is not None and file._id == id:
                file._info = info

        return loaded

    # In a transaction

    def _session(self, session: Session | None) -> Session | None:
        """The session of a call: the one given, else the one bound around it, where there is anything to ask it for."""
        if session is not None or bound_session(None) is None:
            return session
        concerned = self._id is not None or self._content is not None or self._takes_part()
        return self._store().session_for(None) if concerned else None

    def _takes_part(self) -> bool:
        return self._tx_log is not None and self._tx_log.open

    def _join(self, session: Session | None) -> None:
        """Take part in the transaction of this session, if it is in one of ours.

        Raises `UploadInProgress` in a call outside of the one that this file takes part in: it may yet be taken back.
        """
        tx_log = transaction_log_of(session)
        if self._takes_part() and self._tx_log is not tx_log:
            raise UploadInProgress(
                "this file takes part in a transaction that is not over: call this with its session=, or afterwards"
            )
        if tx_log is not None:
            self._tx_log = tx_log
            tx_log.enlist(self, self._hooks)

    def _hooks(self) -> Hooks:
        id, info, content, attachment = self._id, self._info, self._content, self._attachment
        standing = attachment.standing() if attachment is not None else Standing((id, info))

        def on_abort() -> None:
            wanted = content
            if content is not None and self._content is not content:  # it was read
                source = open_source(content)
                wanted = content if source.repeatable else Spent(source.what)
            self._point_to(id, info)
            self._content = wanted
            if self._attachment is not None:
                # To a place that it was given only since, it comes as what it is now.
                self._attachment.stand(standing if self._attachment is attachment else Standing((id, info)))

        def on_unknown() -> None:
            self.outcome_unknown = self._id != id
            if self._attachment is not None:
                self._attachment.outcome_unknown = True

        return Hooks(on_abort=on_abort, on_unknown=on_unknown)

    def _info_hooks(self) -> Hooks:
        id, info = self._id, self._info

        def on_abort() -> None:
            if self._id == id:
                self._info = info

        return Hooks(on_abort=on_abort)

    def _refuse_while_busy(self) -> None:
        if self._busy is not None:
            raise UploadInProgress(f"this file is {self._busy} at this moment; wait for it, or close() it, first")

    @contextmanager
    def _exclusive(self, doing: str) -> Iterator[Callable[[], None]]:
        """Nothing else happens to this file meanwhile; calling what is bound keeps it so past the block."""
        self._refuse_while_busy()
        self._busy = doing
        kept: list[bool] = []
        try:
            yield lambda: kept.append(True)
        finally:
            if not kept:
                self._busy = None
