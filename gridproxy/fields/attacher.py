"""Attacher: what the files of a document and the document owe each other, on behalf of its ODM.

Assigned content is stored by the document's save. A replaced file is kept until the document has been saved. A file
that two documents share is never removed automatically.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from pymongo.errors import DuplicateKeyError, PyMongoError

from gridproxy.errors import FileMissing, UploadInProgress
from gridproxy.file.attachment import Attachment, FileRef
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.state import FileState
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session
from gridproxy.runtime.tasks import run_to_completion

from .prefetch import load_infos

T = TypeVar("T")

# A file of a document, with the name of the field that holds it.
HeldFile = tuple[str, AsyncGridFile]


class Attacher:
    """The files of one document: attaches them, stores their content, saves and deletes them with the document.

    Args:
        owner: The document. It must be possible to reference it weakly.
        files: Returns the files that the document holds at the moment of the call, each with its field's name.

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

    def __init__(self, owner: object, files: Callable[[], Iterable[HeldFile]]) -> None:
        self._owner = owner
        self._files = files

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
            state.attach(self._owner, field)
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
        files = self.attach(session)
        if not any(map(_is_incomplete, files)):
            return files
        while (unstored := next((file for file in files if file.state.content is not None), None)) is not None:
            content: Any = unstored.state.content  # it was checked when it was assigned
            await unstored.replace(content, session=session)
            if check is not None:
                check()
            files = self.attach(session)
        if any(file.state.outcome_unknown for file in files):
            await _confirm_stored(files, session)
            files = self.attach(session)
        if unknown := [file for file in files if file.state.options.store == "snapshot" and file.state.info is None]:
            # A file that is missing keeps its bare id.
            await load_infos(unknown, session)
            files = self.attach(session)
        return files

    async def save(self, write: Callable[[], Awaitable[T]], session: Session | None = None) -> T:
        """Store assigned content, save the document by its ODM's own `write`, then remove the replaced files.

        A cancelled save is completed before the cancellation is raised, because the server completes the write, too.

        Args:
            write: Writes the document.
            session: The session that `write` uses.

        Returns:
            What `write` returned.

        Raises:
            UploadInProgress: As `attach`.
            FileMissing: As `store_content`.
            Exception: As `write` raises. No file is lost then.
        """
        files = await self.store_content(session)
        return await run_to_completion(self._save(files, write, session))

    async def _save(self, files: list[AsyncGridFile], write: Callable[[], Awaitable[T]], session: Session | None) -> T:
        written = [(file.state, file.state.ref) for file in files]
        try:
            async with lock(session or bound_session(None)):
                result = await write()
        except PyMongoError as error:
            if not isinstance(error, DuplicateKeyError):  # that is an answer of the server
                mark_outcome_unknown(file.state for file in files)
            raise
        await saved(written, session)
        return result

    async def delete(self, write: Callable[[], Awaitable[bool]], session: Session | None = None) -> None:
        """Delete the document by its ODM's own `write`, then the files of fields with `on_delete="delete"`.

        Args:
            write: Deletes the document, and returns whether there was one.
            session: The session that `write` uses.

        Raises:
            UploadInProgress: As `attach`.
            Exception: As `write` raises. Every file stays then.
        """
        states = [file.state for file in self.attach(session)]
        await run_to_completion(self._delete(states, write, session))

    async def _delete(
        self, states: list[FileState], write: Callable[[], Awaitable[bool]], session: Session | None
    ) -> None:
        async with lock(session or bound_session(None)):
            deleted = await write()
        if deleted:
            deletable = [state for state in states if state.options.on_delete == "delete"]
            await delete_files(deletable, [state.id for state in deletable if attachment_of(state).stored], session)


def refuse_open_files(files: Iterable[HeldFile]) -> None:
    """Raise `UploadInProgress` if a file of the document is being written: its field has no id yet."""
    for field, file in files:
        if file.state.busy is not None:
            raise UploadInProgress(f"{field}: this file is {file.state.busy}; close() or abort() it before saving")


def _is_incomplete(file: AsyncGridFile) -> bool:
    """Return whether I/O is needed before a document can be written with this file."""
    state = file.state
    return (
        state.content is not None
        or state.outcome_unknown
        or (state.info is None and state.id is not None and state.options.store == "snapshot")
    )


async def _confirm_stored(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Raise `FileMissing` for a file of a transaction that turned out to be aborted."""
    for file in files:
        if file.state.outcome_unknown:
            try:
                await file.stat(session=session)
            except FileMissing as error:
                error.add_note("The transaction that stored it was not committed: reload() the document.")
                raise
            file.state.outcome_unknown = False


async def saved(written: Sequence[tuple[FileState, FileRef]], session: Session | None) -> None:
    """Remove what was replaced, now that the document was written with these references."""
    in_use = [now[0] for _, now in written]
    for state, now in written:
        await attachment_of(state).saved(now, in_use, state.session_for(session))


def mark_outcome_unknown(states: Iterable[FileState]) -> None:
    """Keep old and new files, because the document may or may not have been written."""
    for state in states:
        attachment_of(state).outcome_unknown = True


async def delete_files(states: Iterable[FileState], stored: Collection[object], session: Session | None) -> None:
    """Remove the files of a deleted document that no other document holds.

    These are files that the stored document pointed to (`stored`), and files that were put here since. A file that was
    only assigned may belong to another document.
    """
    for state in states:
        attachment = attachment_of(state)
        if attachment.shared:
            continue
        id = state.id
        owned = id in stored or attachment.is_new(id)
        await saved([(state, state.ref)], session)
        if owned and id is not None:
            with state.exclusive("being deleted"):
                state.enlist(state.session_for(session))
                await run_to_completion(state.remove(state.store(), id, session))


def attachment_of(state: FileState) -> Attachment:
    """Return the attachment of a document's file."""
    assert state.attachment is not None, "every file of a document was attached to it"
    return state.attachment
