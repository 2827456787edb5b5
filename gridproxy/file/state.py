"""FileState: what one file object knows without I/O, and the steps that change it.

`AsyncGridFile` has one as `state`. Fields, documents and adapters use it by these public names.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pymongo.errors import PyMongoError

from gridproxy.errors import BadSource, FileAlreadyStored, FileMissing, InfoNotLoaded, UploadInProgress, type_name
from gridproxy.gridfs.content.limits import Limits
from gridproxy.gridfs.download.download import Download, check_offset
from gridproxy.gridfs.download.reader import DownloadStream, Reader
from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import (
    Hooks,
    TransactionLog,
    is_foreign_transaction,
    transaction_log_of,
)
from gridproxy.gridfs.upload.sources import Spent, open_source
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.sessions import bound_session

from .attachment import Attachment, AttachmentState, FileRef, Proof
from .connection import is_overridden, store_for
from .options import FileOptions

_NO_VARIANTS: Mapping[str, Any] = MappingProxyType({})


class HasState(Protocol):
    """A file object: `AsyncGridFile`, which is above this module."""

    state: FileState

    if TYPE_CHECKING:

        def __init__(
            self, id: object = None, *, options: FileOptions | None = None, info: FileInfo | None = None
        ) -> None: ...


class FileState:
    """The id, the options and the last known record of one file, and the operation that is running on it.

    ```python
    assert file.state.ref == (file.id, file.info)
    ```
    """

    # Of every file that nothing was done with yet. Documents are loaded by the thousand.
    busy: str | None = None
    content: object | None = None  # assigned to a field, and stored by its document's next save
    attachment: Attachment | None = None
    # Whether the transaction that stored the file may have been aborted, so that a save has to look for the file.
    outcome_unknown: bool = False
    tx_log: TransactionLog | None = None  # of the last transaction that changed this file
    default_of: tuple[type, str] | None = None  # the field of a pydantic model whose default this file is
    variants: Mapping[str, Any] = _NO_VARIANTS  # the file objects of a picture's variants
    # The `Store.origin` that the record was loaded from. In another database this id is another file.
    home: object = None
    picture: object = None  # the picture that a variant must name, since the variant's id may be from outside
    reader: Reader | None = None
    writer: Writer | None = None

    def __init__(self, id: object, options: FileOptions, info: FileInfo | None = None) -> None:
        self.id: object = id
        self.options: FileOptions = options
        self.info: FileInfo | None = info

    @property
    def ref(self) -> FileRef:
        """The file's id and record at this moment."""
        return self.id, self.info

    def key(self) -> tuple[object, object, object]:
        """Return what two equal files have in common."""
        return self.id, self.options.bucket, self.options.db_alias

    def known(self, field: str) -> FileInfo:
        """Return the record. Raises `InfoNotLoaded` naming `field` if it was not loaded."""
        if self.info is None:
            raise InfoNotLoaded(field)
        return self.info

    def set_file(self, id: object, info: FileInfo | None) -> None:
        """Point to another file, at its start."""
        self.id, self.info, self.content, self.outcome_unknown = id, info, None, False
        self.variants = _NO_VARIANTS
        self.picture = None
        if info is None:
            self.home = None
        self.reader = None

    def store(self) -> Store:
        """Return the two collections that the file is in, at this moment. A variant has to name its picture there."""
        options = self.options
        if options.bucket is None or isinstance(options.bucket, str):
            store = store_for(options.bucket, options.db_alias, self.home, indexes=options.indexes)
        else:
            store = options.bucket.store
        return store if self.picture is None else store.only_variants_of(self.picture)

    def may_have(self, info: FileInfo) -> bool:
        """Return whether a record is that of this file: the one of a variant names its picture."""
        return self.picture is None or info.metadata.get("variant_of") == self.picture

    def limits(self) -> Limits:
        """Return the limits of the field that holds the file."""
        return self.options.limits(None if self.attachment is None else self.attachment.field)

    # Copies

    def to_copy(self) -> dict[str, Any]:
        """Return what a copy or a pickle keeps. Raises `BadSource` for assigned content that can be read only once."""
        if self.content is not None and not isinstance(self.content, bytes | os.PathLike):
            raise BadSource(
                f"content of type {type_name(self.content)} was assigned and can be read only once: "
                "save the document before you copy it"
            )
        return {
            "id": self.id,
            "options": self.options,
            "info": self.info,
            "home": self.home,
            "picture": self.picture,
            "content": self.content,
            "owned": None if self.attachment is None else self.attachment.owned,
        }

    @classmethod
    def from_copy(cls, copied: dict[str, Any]) -> FileState:
        """Return a new state of what `to_copy` gave."""
        state = FileState(copied["id"], copied["options"], copied["info"])
        state.content = copied["content"]
        # Pickles of earlier versions have neither.
        state.home, state.picture = copied.get("home"), copied.get("picture")
        if copied["owned"] is not None:
            # A copied model keeps a replaced file until it is saved, as the original does.
            state.attachment = Attachment(state.ref, None, "")
            state.attachment.claim(copied["owned"])
        return state

    # The document that holds the file

    def attach(self, owner: object, field: str, proof: Proof = Proof.NONE) -> None:
        """Bind the file to a document's field.

        A file has one owner. If it is bound to a second one, it is shared and never removed automatically.
        """
        attachment = self.attachment
        if attachment is None:
            self.attachment = Attachment((self.id, self.info), owner, field, proof)
        elif not attachment.accept(owner, field, proof, self.id):
            if attachment.is_orphaned():
                self.attachment = Attachment((self.id, self.info), owner, field, proof)
            else:
                attachment.shared = True

    def attach_unowned(self, proof: Proof = Proof.NONE) -> None:
        """Keep a replaced file until `finalize()`: the model has no save of its own, or `attach` names it later."""
        if self.attachment is None:
            self.attachment = Attachment((self.id, self.info), None, "", proof)

    @property
    def is_free(self) -> bool:
        """Whether no document that still exists holds this file."""
        return self.attachment is None or self.attachment.is_orphaned()

    # Reading

    def require_stored(self, store: Store | None = None) -> tuple[Store, object]:
        """Return the bucket (`store` if it is given) and the id of a file that can be read.

        Raises `UploadInProgress` while it is being written or has assigned content, `FileMissing` if it is empty.
        """
        self.check_idle()
        if self.content is not None:
            raise UploadInProgress("content was assigned here and is not stored yet: save the document, or put() it")
        if self.id is None:
            raise FileMissing(message="this file is empty: put() something first")
        return store or self.store(), self.id

    def overriding_store(self) -> Store | None:
        """Return the bucket if a `using` block around the caller decides it, else None."""
        named = self.options.bucket is None or isinstance(self.options.bucket, str)
        return self.store() if named and is_overridden(self.options.db_alias) else None

    @property
    def chunk_size_hint(self) -> int | None:
        """The chunk size in bytes, or None if the record is not known."""
        return None if self.info is None else self.info.chunk_size

    def on_info(self, store: Store, id: object, session: Session | None = None) -> Callable[[FileInfo], None]:
        """Return a callback that keeps the record of file `id` in `store`, if this is still that file."""
        if session is not None and (tx_log := transaction_log_of(session)) is not None:
            tx_log.enlist(self, self._info_hooks, "info")  # the transaction may be aborted
        # By a weak reference: a reader of this file holds the callback, and a dropped writer should warn at once.
        this, origin = weakref.ref(self), store.origin

        def keep(info: FileInfo) -> None:
            state = this()
            if state is not None and state.id == id:
                state.info = info
                state.home = origin

        return keep

    def positioned_reader(self, session: Session | None) -> Reader:
        """Return the reader that holds this file's position."""
        store, id = self.require_stored()
        reader = self.reader
        if reader is None or not reader.store.same_as(store):
            reader = self.reader = self.new_reader(store, id, session)
        elif reader.session is not session:
            reader = self.reader = self.new_reader(store, id, session, reader.tell())
        return reader

    def new_reader(self, store: Store, id: object, session: Session | None, position: int = 0) -> Reader:
        """Return an independent reader."""
        on_info = self.on_info(store, id, store.session_for(session))
        return Reader(store, id, position, chunk_size=self.chunk_size_hint, session=session, on_info=on_info)

    def stream(self, start: int = 0, stop: int | None = None, *, session: Session | None = None) -> DownloadStream:
        """Return a stream of the bytes `start` to `stop`, which has a position of its own."""
        store, id = self.require_stored()
        check_offset(start, "start")
        if stop is not None:
            check_offset(stop, "stop")
        on_info = self.on_info(store, id, store.session_for(session))
        return DownloadStream(
            Download(store, id, start, stop, chunk_size=self.chunk_size_hint, session=session, on_info=on_info)
        )

    def prime_reader(self, store: Store, session: Session | None, content: bytes) -> None:
        """Let the next read return `content`, the whole file, without a round trip."""
        assert self.info is not None, "the record was loaded before the content"
        self.reader = self.new_reader(store, self.id, session)
        self.reader.keep(self.info, content)

    # Writing

    def check_idle(self) -> None:
        """Raise `UploadInProgress` while the file is being written, replaced or deleted."""
        if self.busy is not None:
            raise UploadInProgress(f"this file is {self.busy} at this moment: wait for it, or close() it")

    @contextmanager
    def exclusive(self, doing: str) -> Iterator[Callable[[], None]]:
        """Refuse other changes of this file during the block. The bound function extends this past the block."""
        self.check_idle()
        self.busy = doing
        extended: list[bool] = []
        try:
            yield lambda: extended.append(True)
        finally:
            if not extended:
                self.busy = None

    async def replace_with(self, store: Store, info: FileInfo, session: Session | None, since: float) -> None:
        """Point to the new file, then remove the old one, or keep it until the document has been saved.

        `since` is when the upload of the new file began, for the log.
        """
        old = self.id
        self.set_file(info.id, info)
        self.home = store.origin
        through = store.session_for(session)
        if through is not None and is_foreign_transaction(through):
            self.outcome_unknown = True  # the caller may abort it, and the package does not learn of it
        if self.attachment is not None:
            self.attachment.own(info.id)
        if old is not None and old != info.id:
            log_event(Event.REPLACED, store, info.id, size=info.length, since=since, old_id=old)
        # A staged file can be published again under the same id.
        if old is None or old == info.id or self.options.on_replace == "keep":
            return
        if self.attachment is not None:
            self.attachment.mark_replaced(store, old)
            return
        try:
            await remove_file(store, old, session)
        except PyMongoError as error:
            error.add_note(f"The new file {info.id!r} is stored and in use. The old one {old!r} may be left.")
            raise

    async def remove(self, store: Store, id: object, session: Session | None) -> None:
        """Remove the stored file `id`. This file is empty afterwards."""
        await remove_file(store, id, session)
        self.set_file(None, None)

    def stored_already(self, call: str) -> FileAlreadyStored:
        """Return the error of a call that needs an empty file."""
        return FileAlreadyStored(
            self.id,
            message=f"{call}() on a field that holds the file {self.id!r}; that file was not changed. "
            "Use replace(), or new_file(replace=True)",
        )

    def end_writing(self, writer: Writer) -> None:
        """Let go of a writer that has ended."""
        if self.writer is writer and writer.finished:
            self.writer, self.busy = None, None

    # Transactions

    def session_for(self, session: Session | None) -> Session | None:
        """Return the session of a call: the given one, else the one that pymongo bound around it."""
        if session is not None or bound_session(None) is None:
            return session
        concerned = self.id is not None or self.content is not None or self.is_enlisted
        return self.store().session_for(None) if concerned else None

    @property
    def is_enlisted(self) -> bool:
        """Whether the file takes part in a transaction that is not over."""
        return self.tx_log is not None and self.tx_log.open

    def enlist(self, session: Session | None) -> None:
        """Take part in the transaction of this session, if it is one of this package.

        Raises `UploadInProgress` for a call outside the open transaction that the file takes part in.
        """
        if session is None and self.tx_log is None:
            return
        tx_log = transaction_log_of(session)
        if self.is_enlisted and self.tx_log is not tx_log:
            raise UploadInProgress(
                "this file takes part in a transaction that is not over: pass that session=, or call this afterwards"
            )
        if tx_log is not None:
            self.tx_log = tx_log
            tx_log.enlist(self, self._hooks)

    def restore_point(self) -> Callable[[], None]:
        """Return a function that makes this the file, and the assigned content, that it is now."""
        id, info, content, attachment = self.id, self.info, self.content, self.attachment
        outcome_unknown, home, picture = self.outcome_unknown, self.home, self.picture
        before = attachment.snapshot() if attachment is not None else AttachmentState((id, info))

        def restore() -> None:
            self.set_file(id, info)
            self.content, self.outcome_unknown = content, outcome_unknown
            self.home, self.picture = home, picture
            if self.attachment is not None:
                # An attachment that was made since starts from the restored file.
                self.attachment.restore(before if self.attachment is attachment else AttachmentState((id, info)))

        return restore

    def _hooks(self) -> Hooks:
        id, content, restore = self.id, self.content, self.restore_point()

        def on_abort() -> None:
            was_read = content is not None and self.content is not content
            restore()
            if was_read:
                source = open_source(content)
                self.content = content if source.repeatable else Spent(source.what)
            if self.writer is not None:
                self.end_writing(self.writer)

        def on_unknown() -> None:
            self.outcome_unknown = self.id != id
            if self.attachment is not None:
                self.attachment.outcome_unknown = True

        return Hooks(on_abort=on_abort, on_unknown=on_unknown)

    def _info_hooks(self) -> Hooks:
        id, info, home = self.id, self.info, self.home

        def on_abort() -> None:
            if self.id == id:
                self.info, self.home = info, home

        return Hooks(on_abort=on_abort)


def state_in(value: object) -> FileState | None:
    """Return the state of a file object, or None for any other value."""
    state = getattr(value, "state", None)
    return state if isinstance(state, FileState) else None
