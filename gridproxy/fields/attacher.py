"""Attacher: what the files of a document and the document owe each other, on behalf of its ODM.

A save stores everything or nothing: assigned content is stored before the document, and removed again if the server
refuses the document. A replaced file is kept until the document has been saved, and removed only if the document
provably owns it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from bson.errors import BSONError
from pymongo.errors import ExecutionTimeout, OperationFailure, WriteConcernError

from gridproxy.errors import CommitUnknown, FileMissing, GridProxyError, OutcomeUnknown, UploadInProgress
from gridproxy.file.attachment import Attachment, FileRef
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.state import FileState
from gridproxy.gridfs.operations.delete import delete_after_failure, remove_file
from gridproxy.gridfs.operations.update import touch_record
from gridproxy.gridfs.store.collections import Session, Store
from gridproxy.gridfs.transactions.transaction_log import is_foreign_transaction
from gridproxy.runtime.client_state import Client
from gridproxy.runtime.session_lock import lock, lock_owner
from gridproxy.runtime.sessions import bound_session
from gridproxy.runtime.tasks import run_to_completion

from .prefetch import load_infos

T = TypeVar("T")

# A file of a document, with the name of the field that holds it.
HeldFile = tuple[str, AsyncGridFile]
# A file that a stored document points to: the options of its field, and its id.
StoredFile = tuple[FileOptions, object]

# Server errors that end an operation at an unknown point: interrupted, shutting down, not primary any more.
_INTERRUPTED = frozenset({91, 189, 10107, 11600, 11601, 11602, 13435, 13436})


class Attacher:
    """The files of one document: attaches them, stores their content, saves and deletes them with the document.

    Args:
        owner: The document. It must be possible to reference it weakly.
        files: Returns the files that the document holds at the moment of the call, each with its field's name.
        client: The client that the document is written with. A save or a deletion that is cancelled while no server of
            it is known ends at once, and without `client` after ten seconds.

    ```python
    class Animal:
        def __init__(self, collection):
            self.collection, self.photo = collection, AsyncGridFile(bucket=Bucket(collection.database))
            self.attacher = gridproxy.fields.Attacher(self, lambda: [("photo", self.photo)])

        async def save(self):
            await self.attacher.save(lambda: self.collection.insert_one({"photo": self.photo.id}))

    animal = Animal(client["zoo"]["animal"])
    animal.photo = gridproxy.fields.assign(animal.photo, b"a marmot", animal.photo.options)
    await animal.save()
    assert await animal.photo.read() == b"a marmot"
    ```
    """

    def __init__(self, owner: object, files: Callable[[], Iterable[HeldFile]], *, client: Client | None = None) -> None:
        self._owner = owner
        self._client = client
        self._files = files
        self._stored: list[tuple[Callable[[], None], Store, object]] = []
        self._written: list[tuple[FileState, FileRef]] | None = None
        self._applied = False

    def attach(self, session: Session | None = None) -> list[AsyncGridFile]:
        """Attach every file to the document, and let it take part in the transaction of `session`.

        Returns:
            The files.

        Raises:
            UploadInProgress: A file is being written, or takes part in another transaction.
        """
        held = list(self._files())
        refuse_open_files(held)
        bound = session is None and bound_session(None) is not None
        files = []
        for field, file in held:
            state = file.state
            if state.attachment is None or not state.attachment.belongs_to(self._owner, field):
                state.attach(self._owner, field)
            if bound or session is not None or state.tx_log is not None:
                state.enlist(state.session_for(session) if bound else session)
            files.append(file)
        return files

    def changed(self) -> bool:
        """Return whether a save would store content, or remove a replaced file."""
        return any(
            file.state.content is not None or (file.state.attachment is not None and file.state.attachment.has_replaced)
            for _, file in self._files()
        )

    async def store_content(
        self, session: Session | None = None, check: Callable[[], None] | None = None
    ) -> list[AsyncGridFile]:
        """Store all assigned content, and load the records that snapshots are made of.

        If this fails, what it stored is removed and the fields have their content again. `roll_back` does the same
        later, if the document could not be written.

        Args:
            session: The session that the document is going to be written in.
            check: Called after each file, because the document may have changed in the time.

        Returns:
            The files.

        Raises:
            UploadInProgress: As `attach`.
            FileMissing: A file was stored in a transaction that was not committed.
            GridProxyError: As `AsyncGridFile.replace` raises for the content.
        """
        self._stored = []
        try:
            return await self._store_content(session, check)
        except BaseException as error:
            await self.roll_back(session, error)
            raise

    async def _store_content(self, session: Session | None, check: Callable[[], None] | None) -> list[AsyncGridFile]:
        files = self.attach(session)
        if not any(map(_is_incomplete, files)):
            return files
        while (unstored := next((file for file in files if file.state.content is not None), None)) is not None:
            restore, store = unstored.state.restore_point(), unstored.state.store()
            content: Any = unstored.state.content  # it was checked when it was assigned
            info = await unstored.replace(content, session=session)
            self._stored.append((restore, store, info.id))
            if check is not None:
                check()
            files = self.attach(session)
        await _note_references(files, session)
        if any(file.state.outcome_unknown for file in files):
            await _confirm_stored(files, session)
            files = self.attach(session)
        if unknown := [file for file in files if file.state.options.store == "snapshot" and file.state.info is None]:
            # A file that is missing keeps its bare id.
            await load_infos(unknown, session)
            files = self.attach(session)
        return files

    async def store_more(self, session: Session | None) -> None:
        """Store content that was assigned while the document was about to be written, by a hook of its ODM."""
        await self._store_content(session, None)

    async def roll_back(self, session: Session | None, cause: BaseException) -> None:
        """Remove the content that was stored for a save that failed, and give it back to its fields.

        Content that can be read only once says so at the next save. A removal that fails is noted on `cause`.
        """
        stored, self._stored = self._stored, []
        for restore, _, _ in reversed(stored):
            restore()
        for _, store, id in reversed(stored):
            await delete_after_failure(store, [id], session, cause)

    async def save(
        self,
        write: Callable[[], Awaitable[T]],
        session: Session | None = None,
        *,
        refusals: tuple[type[Exception], ...] = (),
        observed: bool = False,
    ) -> T:
        """Store assigned content, save the document by its ODM's own `write`, then remove the replaced files.

        Saves of one document take turns. A cancelled save is completed before the cancellation is raised, because the
        server completes the write, too. If the server refused the write, the stored content is removed and the fields
        have it again. After any other error of `write` the document may have been written: old and new files stay.

        Args:
            write: Writes the document.
            session: The session that `write` uses.
            refusals: The errors by which the ODM says that nothing was written, besides those of pymongo and of this
                package.
            observed: Whether the adapter calls `note_sent` and `note_applied` itself.

        Returns:
            What `write` returned.

        Raises:
            UploadInProgress: As `attach`.
            FileMissing: As `store_content`.
            Exception: As `write` raises. No file is lost then.
        """
        async with lock_owner(self._owner):
            self._written, self._applied = None, False
            files = await self.store_content(session)
            if not observed:
                self.note_sent(files)
            return await run_to_completion(self._save(write, session, refusals), client=self._client)

    def note_sent(self, files: Iterable[AsyncGridFile] | None = None) -> None:
        """Note that the document is being sent, with the files that it points to at this moment."""
        held = [file for _, file in self._files()] if files is None else files
        self._written = [(state, (state.id, state.info)) for state in [file.state for file in held]]

    @property
    def may_have_written(self) -> bool:
        """Whether the document was sent, whatever became of it."""
        return self._written is not None

    def note_applied(self) -> None:
        """Note that the server has written the document, whatever follows."""
        self._applied = True

    async def _save(
        self,
        write: Callable[[], Awaitable[T]],
        session: Session | None,
        refusals: tuple[type[Exception], ...],
    ) -> T:
        try:
            async with lock(session or bound_session(None)):
                result = await write()
        except BaseException as error:
            if self._applied:
                await saved(self._written or (), session)
            elif self._written is None or is_refusal(error, refusals):
                await self.roll_back(session, error)
            else:
                mark_outcome_unknown(file.state for _, file in self._files())
            raise
        if self._written is not None:
            await saved(self._written, session)
        return result

    async def delete(
        self, write: Callable[[], Awaitable[bool | Sequence[StoredFile]]], session: Session | None = None
    ) -> None:
        """Delete the document by its ODM's own `write`, then the files of fields with `on_delete="delete"`.

        Args:
            write: Deletes the document, and returns whether there was one. An adapter that knows what was deleted
                returns the files that the stored document pointed to, as pairs of their field's options and their id.
            session: The session that `write` uses.

        Raises:
            UploadInProgress: As `attach`.
            Exception: As `write` raises. Every file stays then.
        """
        async with lock_owner(self._owner):
            states = [file.state for file in self.attach(session)]
            await run_to_completion(self._delete(states, write, session), client=self._client)

    async def _delete(
        self,
        states: list[FileState],
        write: Callable[[], Awaitable[bool | Sequence[StoredFile]]],
        session: Session | None,
    ) -> None:
        async with lock(session or bound_session(None)):
            deleted = await write()
        if isinstance(deleted, Sequence):
            await delete_files(states, deleted, session)
        elif deleted:
            await delete_files(states, (), session)


def refuse_open_files(files: Iterable[HeldFile]) -> None:
    """Raise `UploadInProgress` if a file of the document is being written: its field has no id yet."""
    for field, file in files:
        if file.state.busy is not None:
            raise UploadInProgress(f"{field}: this file is {file.state.busy}. close() or abort() it before saving")


def _is_incomplete(file: AsyncGridFile) -> bool:
    """Return whether I/O is needed before a document can be written with this file."""
    state = file.state
    return (
        state.content is not None
        or state.outcome_unknown
        or (state.id is not None and state.attachment is not None and state.attachment.referenced != state.id)
        or (state.info is None and state.id is not None and state.options.store == "snapshot")
    )


async def _note_references(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Note for the garbage collector that a document is about to point to files that it does not point to yet."""
    for file in files:
        state = file.state
        if state.id is not None and attachment_of(state).referenced != state.id:
            # A reference to a missing file may be saved, so the document can be repaired.
            with contextlib.suppress(FileMissing):
                await touch_record(state.store(), state.id, state.session_for(session), state.info)


async def _confirm_stored(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Raise `FileMissing` for a file of a transaction that turned out to be aborted."""
    for file in files:
        if file.state.outcome_unknown:
            try:
                await file.stat(session=session)
            except FileMissing as error:
                error.add_note("The transaction that stored it was not committed: reload() the document.")
                raise
            # In the same transaction it is there, and the caller may still abort it.
            file.state.outcome_unknown = is_foreign_transaction(file.state.session_for(session))


async def saved(written: Sequence[tuple[FileState, FileRef]], session: Session | None) -> None:
    """Remove what was replaced, now that the document was written with these references."""
    alone = session is None and bound_session(None) is None
    for state, now in written:
        attachment = state.attachment
        assert attachment is not None, "every file of a document was attached to it"
        if not (alone and attachment.note_saved(now)):
            await attachment.saved(now, written, state.session_for(session))


def mark_outcome_unknown(states: Iterable[FileState]) -> None:
    """Keep old and new files, because the document may or may not have been written."""
    for state in states:
        attachment_of(state).outcome_unknown = True


async def delete_files(states: Sequence[FileState], stored: Sequence[StoredFile], session: Session | None) -> None:
    """Remove the files of a deleted document that it owned, of fields with `on_delete="delete"`.

    These are the files that this object provably owns, and those that the stored document pointed to (`stored`) and
    this object does not know: another client put them there. A file that was only assigned may be another document's.
    """
    known = [state.id for state in states]
    for state in states:
        attachment, id = attachment_of(state), state.id
        if state.options.on_delete != "delete" or attachment.shared:
            continue
        owned = attachment.owns(id)
        await saved([(state, state.ref)], session)
        if owned and id is not None:
            with state.exclusive("being deleted"):
                state.enlist(state.session_for(session))
                await run_to_completion(state.remove(state.store(), id, session))
    for options, id in stored:
        if options.on_delete == "delete" and id is not None and id not in known:
            await remove_file(FileState(id, options).store(), id, session)


def is_refusal(error: BaseException, refusals: tuple[type[Exception], ...] = ()) -> bool:
    """Return whether an error of a write says for certain that nothing was written."""
    if isinstance(error, (*refusals, BSONError)):
        return True
    if isinstance(error, GridProxyError):
        return not isinstance(error, OutcomeUnknown | CommitUnknown)
    if not isinstance(error, OperationFailure) or isinstance(error, WriteConcernError | ExecutionTimeout):
        return False
    return not error.has_error_label("RetryableWriteError") and error.code not in _INTERRUPTED


def attachment_of(state: FileState) -> Attachment:
    """Return the attachment of a document's file."""
    assert state.attachment is not None, "every file of a document was attached to it"
    return state.attachment
