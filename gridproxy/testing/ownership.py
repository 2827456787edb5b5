"""Checks of deleting, sharing, lists, snapshots, sessions, and of documents that other code has written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from bson import ObjectId

from gridproxy.fields.prefetch import prefetch

from .helpers import Helper, expect, raising


async def _deleted_document(helper: Helper) -> None:
    """Check that deleting a document deletes only the files of fields with on_delete="delete"."""
    document = await helper.reload(await helper.saved(photo=b"kept", attached=b"deleted"))
    kept, deleted = document.photo.id, document.attached.id
    await helper.harness.delete(document)
    expect("the document", await helper.harness.collection.count_documents({"_id": helper.harness.id_of(document)}), 0)
    expect("the file with on_delete='keep'", await helper.read(kept), b"kept")
    expect("the file with on_delete='delete'", await helper.read(deleted), None)


async def _document_that_is_gone(helper: Helper) -> None:
    """Check that deleting a document that does not exist any more keeps its files."""
    document = await helper.saved(attached=b"data")
    await helper.harness.collection.delete_one({"_id": helper.harness.id_of(document)})
    with suppress(Exception):  # Some ODMs raise an error for a missing document.
        await helper.harness.delete(document)
    expect("the file", await helper.read(document.attached.id), b"data")


async def _unsaved_reference(helper: Helper) -> None:
    """Check that deleting a document keeps a file that was assigned but never saved."""
    document = await helper.saved(attached=b"its own")
    other = await helper.put(b"other")
    document.attached = other
    await helper.harness.delete(document)
    expect("the other file", await helper.read(other), b"other")


async def _shared_file(helper: Helper) -> None:
    """Check that a file that two documents share is never deleted automatically."""
    one = await helper.saved(attached=b"shared")
    shared = one.attached.id
    two = await helper.saved(attached=one.attached)
    await helper.harness.delete(one)
    expect("the file after one's delete", await helper.read(shared), b"shared")
    await two.attached.replace(b"new")
    await helper.harness.save(two)
    expect("the file after two's replace", await helper.read(shared), b"shared")


async def _lists(helper: Helper) -> None:
    """Check that files in a list keep their order, and each can be replaced or removed from the list."""
    document = await helper.saved(album=[b"a", b"b", b"c"])
    raw = (await helper.raw(document))["album"]
    expect("the stored list", raw, [file.id for file in document.album])
    document = await helper.reload(document)
    expect("each read()", [await file.read() for file in document.album], [b"a", b"b", b"c"])
    await document.album[1].replace(b"B")
    document.album = [*list(document.album)[1:], b"d"]
    await helper.harness.save(document)
    expect("each read()", [await file.read() for file in (await helper.reload(document)).album], [b"B", b"c", b"d"])
    expect("the replaced file", await helper.read(raw[1]), None)
    expect("the file removed from the list", await helper.read(raw[0]), b"a")


async def _file_in_two_fields(helper: Helper) -> None:
    """Check that replacing a file keeps the old one if another field of the document points to it."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    document.album = [old]
    await helper.harness.save(document)
    await document.photo.replace(b"new")
    await helper.harness.save(document)
    expect("the file in the list", await (await helper.reload(document)).album[0].read(), b"old")


async def _old_document(helper: Helper) -> None:
    """Check that a document stored without the field has an empty file, and a file can be put there."""
    document = await helper.load_raw()
    expect("bool(photo)", bool(document.photo), False)
    expect("the list", list(document.album), [])
    await document.photo.put(b"data")
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"data")


async def _mongoengine(helper: Helper) -> None:
    """Check that a document and a file written by MongoEngine can be read, and the file can be replaced."""
    id, database, data = ObjectId(), helper.harness.database, b"written by MongoEngine"
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
    document = await helper.load_raw(_cls="Animal", photo=id)
    expect("photo.read()", await document.photo.read(), data)
    expect("photo.content_type", document.photo.content_type, "image/jpeg")
    await document.photo.replace(b"new")
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"new")
    expect("the old file", await helper.read(id), None)


async def _snapshots(helper: Helper) -> None:
    """Check that a snapshot stores the record with the id, and that a field with only an id can be read too."""
    document = helper.new()
    await document.badge.put(b"data", filename="badge.png", colour="red")
    await helper.harness.save(document)
    raw = (await helper.raw(document))["badge"]
    if not isinstance(raw, Mapping):
        raise AssertionError(f"expected a sub-document in the stored field, got {raw!r}")
    shown = {key: raw[key] for key in ("_id", "filename", "length", "content_type")}
    wanted = {"_id": document.badge.id, "filename": "badge.png", "length": 4, "content_type": "image/png"}
    expect("the stored snapshot", shown, wanted)
    badge = (await helper.reload(document)).badge
    expect("the loaded snapshot", (badge.filename, badge.length, badge.metadata["colour"]), ("badge.png", 4, "red"))
    expect("badge.read()", await badge.read(), b"data")
    by_id = await helper.load_raw(badge=document.badge.id)
    expect("badge.read() by a bare id", await by_id.badge.read(), b"data")


async def _replaced_snapshot(helper: Helper) -> None:
    """Check that a file with a snapshot can be replaced and removed."""
    document = await helper.reload(await helper.saved(badge=b"old"))
    old = document.badge.id
    await document.badge.replace(b"newer")
    await helper.harness.save(document)
    expect("the stored length", (await helper.raw(document))["badge"]["length"], 5)
    expect("the old file", await helper.read(old), None)
    document.badge = None
    await helper.harness.save(document)
    expect("the stored field", (await helper.raw(document)).get("badge"), None)


async def _edited_snapshot(helper: Helper) -> None:
    """Check that the next save stores the changed record in the snapshot, including what `stat()` has loaded."""
    document = await helper.reload(await helper.saved(badge=b"data"))
    await document.badge.rename("renamed.png")
    await document.badge.update_metadata(colour="red")
    await helper.harness.save(document)
    raw = (await helper.raw(document))["badge"]
    expect("the stored snapshot", (raw["filename"], raw["metadata"]["colour"]), ("renamed.png", "red"))
    document = await helper.reload(document)
    await helper.file(document.badge.id).rename("elsewhere.png")
    await document.badge.stat()
    await helper.harness.save(document)
    expect("the stored filename", (await helper.raw(document))["badge"]["filename"], "elsewhere.png")


async def _prefetched(helper: Helper) -> None:
    """Check that `prefetch` loads the files of a document, including those in lists."""
    document = await helper.reload(await helper.saved(photo=b"photo", album=[b"one", b"two"]))
    await prefetch([document], "photo", "album", content=True)
    expect("the lengths", [file.length for file in (document.photo, *document.album)], [5, 3, 3])
    expect("photo.read()", await document.photo.read(), b"photo")


async def _aborted_session(helper: Helper) -> None:
    """Check that aborting a transaction restores the document and its files."""
    document = await helper.saved(photo=b"old", attached=b"attached")
    async with helper.harness.database.client.start_session() as session:
        await session.start_transaction()
        inside = await helper.harness.load(helper.harness.id_of(document), session)
        await inside.photo.replace(b"new", session=session)
        await helper.harness.save(inside, session)
        expect("the file as others see it", await helper.read(inside.photo.id), None)
        await helper.harness.delete(inside, session)
        await session.abort_transaction()
    again = await helper.reload(document)
    expect("photo.read()", await again.photo.read(), b"old")
    expect("attached.read()", await again.attached.read(), b"attached")


async def _committed_session(helper: Helper) -> None:
    """Check that changes in a transaction, including assigned content, become visible with its commit."""
    document = await helper.saved(photo=b"old")
    async with helper.harness.database.client.start_session() as session:
        await session.start_transaction()
        inside = await helper.harness.load(helper.harness.id_of(document), session)
        inside.photo = b"new"
        inside.album = [b"one"]
        await helper.harness.save(inside, session)
        expect("the document as others see it", await (await helper.reload(document)).photo.read(), b"old")
        await session.commit_transaction()
    again = await helper.reload(document)
    expect("photo.read()", await again.photo.read(), b"new")
    expect("album[0].read()", await again.album[0].read(), b"one")


async def _malformed(helper: Helper) -> None:
    """Check that a malformed snapshot or id is refused when it is passed to the document."""
    with raising("a snapshot without an id", ValueError, TypeError):
        helper.new(badge={"filename": "a"})
    with raising("half an id", ValueError, TypeError):
        helper.new(badge="0123")


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
