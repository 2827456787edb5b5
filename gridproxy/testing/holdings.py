"""What documents hold and owe: deleting, lists, shared files, snapshots, sessions, and what other code has written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from bson import ObjectId

from gridproxy.fields.prefetch import prefetch

from .trial import Trial, expect, raising


async def _deleted_document(trial: Trial) -> None:
    """The document's delete removes the files of fields that say so, and no other."""
    document = await trial.again(await trial.stored(photo=b"kept", attached=b"going"))
    kept, going = document.photo.id, document.attached.id
    await trial.harness.delete(document)
    expect("the document", await trial.harness.collection.count_documents({"_id": trial.harness.id_of(document)}), 0)
    expect("the file with on_delete='keep'", await trial.bytes_in(kept), b"kept")
    expect("the file with on_delete='delete'", await trial.bytes_in(going), None)


async def _document_that_is_gone(trial: Trial) -> None:
    """Where the document was gone already, its files stay: somebody else decided about them."""
    document = await trial.stored(attached=b"data")
    await trial.harness.collection.delete_one({"_id": trial.harness.id_of(document)})
    with suppress(Exception):  # some ODMs say that it is gone, some do not
        await trial.harness.delete(document)
    expect("the file", await trial.bytes_in(document.attached.id), b"data")


async def _unsaved_reference(trial: Trial) -> None:
    """A file that was only assigned and never saved is not the document's to delete."""
    document = await trial.stored(attached=b"its own")
    somebodys = await trial.put(b"somebody's")
    document.attached = somebodys
    await trial.harness.delete(document)
    expect("somebody's file", await trial.bytes_in(somebodys), b"somebody's")


async def _shared_file(trial: Trial) -> None:
    """One file in two documents is a shared one, and is never removed automatically."""
    one = await trial.stored(attached=b"shared")
    shared = one.attached.id
    two = await trial.stored(attached=one.attached)
    await trial.harness.delete(one)
    expect("the file after one's delete", await trial.bytes_in(shared), b"shared")
    await two.attached.replace(b"new")
    await trial.harness.save(two)
    expect("the file after two's replace", await trial.bytes_in(shared), b"shared")


async def _lists(trial: Trial) -> None:
    """Files in a list are stored, kept in order, replaced and let go of, each by itself."""
    document = await trial.stored(album=[b"a", b"b", b"c"])
    raw = (await trial.raw(document))["album"]
    expect("the stored list", raw, [file.id for file in document.album])
    document = await trial.again(document)
    expect("each read()", [await file.read() for file in document.album], [b"a", b"b", b"c"])
    await document.album[1].replace(b"B")
    document.album = [*list(document.album)[1:], b"d"]
    await trial.harness.save(document)
    expect("each read()", [await file.read() for file in (await trial.again(document)).album], [b"B", b"c", b"d"])
    expect("the one that was replaced", await trial.bytes_in(raw[1]), None)
    expect("the one that was taken out", await trial.bytes_in(raw[0]), b"a")


async def _file_in_two_fields(trial: Trial) -> None:
    """A file that another field of the document points to does not go."""
    document = await trial.stored(photo=b"old")
    old = document.photo.id
    document.album = [old]
    await trial.harness.save(document)
    await document.photo.replace(b"new")
    await trial.harness.save(document)
    expect("the file in the list", await (await trial.again(document)).album[0].read(), b"old")


async def _old_document(trial: Trial) -> None:
    """A document from before there was such a field has an empty file in it, and takes one."""
    document = await trial.loaded()
    expect("bool(photo)", bool(document.photo), False)
    expect("the list", list(document.album), [])
    await document.photo.put(b"data")
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"data")


async def _mongoengine(trial: Trial) -> None:
    """A document and a file that MongoEngine has written are read, and the file is replaced like any other."""
    id, database, data = ObjectId(), trial.harness.database, b"written by MongoEngine"
    await database["fs.chunks"].insert_one({"files_id": id, "n": 0, "data": data})
    await database["fs.files"].insert_one(
        {
            "_id": id,
            "filename": None,
            "contentType": "image/jpeg",
            "chunkSize": 255 * 1024,
            "length": len(data),
            "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "uploadDate": datetime(2014, 1, 2, tzinfo=UTC),
        }
    )
    document = await trial.loaded(_cls="Animal", photo=id)
    expect("photo.read()", await document.photo.read(), data)
    expect("photo.content_type", document.photo.content_type, "image/jpeg")
    await document.photo.replace(b"new")
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"new")
    expect("the old file", await trial.bytes_in(id), None)


async def _snapshots(trial: Trial) -> None:
    """A snapshot is stored beside the id, and tells of the file without asking the server; an id is read too."""
    document = trial.new()
    await document.badge.put(b"data", filename="badge.png", colour="red")
    await trial.harness.save(document)
    raw = (await trial.raw(document))["badge"]
    if not isinstance(raw, Mapping):
        raise AssertionError(f"a sub-document is stored: {raw!r} is none")
    shown = {key: raw[key] for key in ("_id", "filename", "length", "content_type")}
    wanted = {"_id": document.badge.id, "filename": "badge.png", "length": 4, "content_type": "image/png"}
    expect("the stored snapshot", shown, wanted)
    badge = (await trial.again(document)).badge
    expect("the loaded snapshot", (badge.filename, badge.length, badge.metadata["colour"]), ("badge.png", 4, "red"))
    expect("badge.read()", await badge.read(), b"data")
    by_id = await trial.loaded(badge=document.badge.id)
    expect("badge.read() by a bare id", await by_id.badge.read(), b"data")


async def _replaced_snapshot(trial: Trial) -> None:
    """A file with a snapshot is replaced and emptied like any other."""
    document = await trial.again(await trial.stored(badge=b"old"))
    old = document.badge.id
    await document.badge.replace(b"newer")
    await trial.harness.save(document)
    expect("the stored length", (await trial.raw(document))["badge"]["length"], 5)
    expect("the old file", await trial.bytes_in(old), None)
    document.badge = None
    await trial.harness.save(document)
    expect("the stored field", (await trial.raw(document)).get("badge"), None)


async def _edited_snapshot(trial: Trial) -> None:
    """What is done to a file's record through the document is in the snapshot that the next save stores; so is what a
    raw bucket did, once `stat()` has seen it.
    """
    document = await trial.again(await trial.stored(badge=b"data"))
    await document.badge.rename("renamed.png")
    await document.badge.update_metadata(colour="red")
    await trial.harness.save(document)
    raw = (await trial.raw(document))["badge"]
    expect("the stored snapshot", (raw["filename"], raw["metadata"]["colour"]), ("renamed.png", "red"))
    document = await trial.again(document)
    await trial.file(document.badge.id).rename("elsewhere.png")
    await document.badge.stat()
    await trial.harness.save(document)
    expect("the stored filename", (await trial.raw(document))["badge"]["filename"], "elsewhere.png")


async def _prefetched(trial: Trial) -> None:
    """`prefetch` finds the files of a loaded document, in lists too."""
    document = await trial.again(await trial.stored(photo=b"photo", album=[b"one", b"two"]))
    await prefetch([document], "photo", "album", content=True)
    expect("the lengths", [file.length for file in (document.photo, *document.album)], [5, 3, 3])
    expect("photo.read()", await document.photo.read(), b"photo")


async def _aborted_session(trial: Trial) -> None:
    """What was done in a transaction that is aborted was not done: the document and its file are the old ones."""
    document = await trial.stored(photo=b"old", attached=b"attached")
    async with trial.harness.database.client.start_session() as session:
        await session.start_transaction()
        inside = await trial.harness.load(trial.harness.id_of(document), session)
        await inside.photo.replace(b"new", session=session)
        await trial.harness.save(inside, session)
        expect("the file as others see it", await trial.bytes_in(inside.photo.id), None)
        await trial.harness.delete(inside, session)
        await session.abort_transaction()
    again = await trial.again(document)
    expect("photo.read()", await again.photo.read(), b"old")
    expect("attached.read()", await again.attached.read(), b"attached")


async def _committed_session(trial: Trial) -> None:
    """What was done in a transaction is seen after its commit, assigned content too."""
    document = await trial.stored(photo=b"old")
    async with trial.harness.database.client.start_session() as session:
        await session.start_transaction()
        inside = await trial.harness.load(trial.harness.id_of(document), session)
        inside.photo = b"new"
        inside.album = [b"one"]
        await trial.harness.save(inside, session)
        expect("the document as others see it", await (await trial.again(document)).photo.read(), b"old")
        await session.commit_transaction()
    again = await trial.again(document)
    expect("photo.read()", await again.photo.read(), b"new")
    expect("album[0].read()", await again.album[0].read(), b"one")


async def _malformed(trial: Trial) -> None:
    """A malformed snapshot or id is refused where it is given, and names itself."""
    with raising("a snapshot without an id", ValueError, TypeError):
        trial.new(badge={"filename": "a"})
    with raising("half an id", ValueError, TypeError):
        trial.new(badge="0123")


CHECKS = {
    "deleting: the document": _deleted_document,
    "deleting: a document that is gone": _document_that_is_gone,
    "deleting: a file that was only assigned": _unsaved_reference,
    "sharing: one file in two documents": _shared_file,
    "sharing: one file in two fields": _file_in_two_fields,
    "lists: of files": _lists,
    "old documents: without the field": _old_document,
    "old documents: of MongoEngine": _mongoengine,
    "snapshots: stored and loaded": _snapshots,
    "snapshots: replaced and emptied": _replaced_snapshot,
    "snapshots: in step with edits": _edited_snapshot,
    "snapshots: malformed": _malformed,
    "prefetch": _prefetched,
    "sessions: aborted": _aborted_session,
    "sessions: committed": _committed_session,
}
