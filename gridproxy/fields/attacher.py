"""What a file and the document that holds it owe each other.

A replaced file is kept until its document has been saved; assigned content is stored by that save; a file that two
documents share is never removed automatically.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

from pymongo.errors import DuplicateKeyError, PyMongoError

from gridproxy.errors import FileMissing, UploadInProgress
from gridproxy.file.attachment import Attachment, FileRef, attach
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.store.collections import Session
from gridproxy.runtime.session_lock import lock
from gridproxy.runtime.sessions import bound_session
from gridproxy.runtime.tasks import run_to_completion

from .prefetch import load_infos

T = TypeVar("T")


def refuse_open_files(files: Iterable[tuple[str, AsyncGridFile]]) -> None:
    """Raise `UploadInProgress` for a document of which a file is being written: what would its field point to?"""
    for field, file in files:
        if file._busy is not None:
            raise UploadInProgress(f"{field}: this file is {file._busy}; close() or abort() it before saving")


def join(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Let the files of a document take part in the transaction that it is written in.

    Raises `UploadInProgress` for one that takes part in another: the document would point to what may be taken back.
    """
    for file in files:
        file._join(file._session(session))


def unstored(files: Iterable[AsyncGridFile]) -> AsyncGridFile | None:
    """The first of the files whose assigned content is not stored yet."""
    return next((file for file in files if file._content is not None), None)


async def store_content(file: AsyncGridFile, session: Session | None) -> None:
    """Store what was assigned to a field, as a replace."""
    await file.replace(file._content, session=session)  # type: ignore[arg-type]  # checked when it was assigned


async def complete_snapshots(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Load the records that snapshots are made of, where they are not known: one query for each bucket.

    A file that is missing keeps its bare id.
    """
    await load_infos([file for file in files if file.options.store == "snapshot"], session)


async def confirm_stored(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Raise `FileMissing` for a file of a transaction that was not committed, where nobody knew that until now:

    A document must not point to it.
    """
    for file in files:
        if file.outcome_unknown:
            try:
                await file.stat(session=session)
            except FileMissing as error:
                error.add_note("The transaction that it was put in was not committed: reload() the document.")
                raise
            file.outcome_unknown = False


def references(files: Iterable[AsyncGridFile]) -> list[tuple[AsyncGridFile, FileRef]]:
    """What each file points to at this moment: taken before a document is written, for `saved` after it."""
    return [(file, (file.id, file.info)) for file in files]


async def saved(written: Iterable[tuple[AsyncGridFile, FileRef]], session: Session | None) -> None:
    """The document was written, with these references: let go of what it points to no more."""
    written = list(written)
    in_use = [now[0] for _, now in written]
    for file, now in written:
        await _attachment(file).saved(now, in_use, file._session(session))


def mark_outcome_unknown(written: Iterable[tuple[AsyncGridFile, FileRef]]) -> None:
    """The document may have been written, with these references, or not: neither old nor new files may go now."""
    for file, _ in written:
        _attachment(file).outcome_unknown = True


async def delete_files(files: Iterable[AsyncGridFile], stored: Collection[object], session: Session | None) -> None:
    """The document is gone: remove the files that are its alone, of those that it pointed to (`stored`) or that were
    put here since. What was only assigned and never saved may be somebody else's.
    """
    for file in files:
        attachment = _attachment(file)
        if attachment.shared:
            continue
        mine = file.id in stored or attachment.put_here(file.id)
        await saved(references([file]), session)
        if mine:
            await file.delete(session=session)


async def save_owner(
    owner: object,
    files: Callable[[], Iterable[tuple[str, AsyncGridFile]]],
    write: Callable[[], Awaitable[T]],
    session: Session | None,
) -> T:
    """Save a document by its ODM's own `write`: assigned content is stored before it, replaced files go after it.

    `files` gives the files that the document holds at the moment of the call, with their paths. Raises
    `UploadInProgress` while one of them is being written, `FileMissing` for one of a transaction whose commit got no
    answer and did not come true, and whatever `write` raises: nothing is lost then.
    """

    def attached() -> list[AsyncGridFile]:
        held = list(files())
        refuse_open_files(held)
        for path, file in held:
            attach(file, owner, path)
        join((file for _, file in held), session)
        return [file for _, file in held]

    while (file := unstored(attached())) is not None:
        await store_content(file, session)
    await confirm_stored(attached(), session)
    await complete_snapshots(attached(), session)
    # A cancelled write lands all the same, so it is seen to its end, and the old files' removal with it.
    return await run_to_completion(_save_owner(references(attached()), write, session))


async def _save_owner(
    written: list[tuple[AsyncGridFile, FileRef]], write: Callable[[], Awaitable[T]], session: Session | None
) -> T:
    try:
        async with lock(session or bound_session(None)):
            result = await write()
    except PyMongoError as error:
        if not isinstance(error, DuplicateKeyError):  # of a unique index: an answer
            mark_outcome_unknown(written)
        raise
    await saved(written, session)
    return result


async def delete_owner(
    files: Iterable[tuple[str, AsyncGridFile]], write: Callable[[], Awaitable[bool]], session: Session | None
) -> None:
    """Delete a document by its ODM's own `write`, which tells whether it is gone; then the files of its fields with
    `on_delete="delete"`. Raises `UploadInProgress`, and whatever `write` raises: every file stays then.
    """
    held = list(files)
    refuse_open_files(held)
    join((file for _, file in held), session)
    await run_to_completion(_delete_owner([file for _, file in held], write, session))


async def _delete_owner(
    files: list[AsyncGridFile], write: Callable[[], Awaitable[bool]], session: Session | None
) -> None:
    async with lock(session or bound_session(None)):
        deleted = await write()
    if deleted:
        going = [file for file in files if file.options.on_delete == "delete"]
        await delete_files(going, [file.id for file in going if _attachment(file).stored], session)


def _attachment(file: AsyncGridFile) -> Attachment:
    assert file._attachment is not None, "every file of a document was attached to it"
    return file._attachment
