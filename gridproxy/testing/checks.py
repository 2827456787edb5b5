"""The checks of the contract, in the order of `CHECKS`. The docstring of each check is its promise."""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bson import ObjectId

from gridproxy.bucket import Bucket
from gridproxy.errors import ContentTypeRefused, FileMissing, FileRefused, InfoNotLoaded, TooLarge, UploadInProgress
from gridproxy.fields.prefetch import prefetch
from gridproxy.file.file import AsyncGridFile

from .helpers import Helper, expect, raising


async def _put_save_read(helper: Helper) -> None:
    """Check that the content and the metadata of a file can be read from the saved document."""
    document = helper.new()
    await document.photo.put(io.BytesIO(b"a marmot"), content_type="image/jpeg")
    photo = (await helper.save_and_reload(document)).photo
    expect("photo.read()", await photo.read(), b"a marmot")
    expect("photo.metadata['content_type']", photo.metadata["content_type"], "image/jpeg")


async def _new_file_write_close(helper: Helper) -> None:
    """Check that a file that is written in several steps can be read after close() and save."""
    document = helper.new()
    await document.photo.new_file()
    await document.photo.write("some_image_data")
    await document.photo.write("some_more_image_data")
    await document.photo.close()
    await helper.expect_saved_photo(document, b"some_image_datasome_more_image_data")


async def _new_file_as_a_context(helper: Helper) -> None:
    """Check that `async with new_file(replace=True)` accepts writes without await. The save deletes the old file."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    async with document.photo.new_file(replace=True):
        document.photo.write(b"some-data")
    expect("the old file before the save", await helper.read(old), b"old")
    await helper.expect_saved_photo(document, b"some-data")
    expect("the old file after the save", await helper.read(old), None)


async def _delete_the_file(helper: Helper) -> None:
    """Check that after delete(), the saved field is null and the loaded field is empty."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    await document.photo.delete()
    expect("the file", await helper.read(old), None)
    expect("the stored field", (await helper.save_and_get_raw(document)).get("photo"), None)
    expect("bool(photo)", bool((await helper.reload(document)).photo), False)


async def _replace_the_file(helper: Helper) -> None:
    """Check that after replace() and save, the document contains the new file."""
    document = await helper.saved(photo=b"old")
    await document.photo.replace(b"new", content_type="image/png")
    photo = (await helper.save_and_reload(document)).photo
    expect("photo.read()", await photo.read(), b"new")
    expect("photo.content_type", photo.content_type, "image/png")


async def _empty_field(helper: Helper) -> None:
    """Check that a field without a value contains an empty file, and documents do not share it."""
    one, two = helper.new(), await helper.saved()
    for photo in (one.photo, two.photo, (await helper.reload(two)).photo):
        expect("an AsyncGridFile", isinstance(photo, AsyncGridFile), True)
        expect("bool(photo)", bool(photo), False)
        with raising("read() of an empty file", FileMissing):
            await photo.read()
    expect("one file for two documents", one.photo is two.photo, False)
    expect("the stored field", (await helper.raw(two)).get("photo"), None)
    expect("the empty list", list((await helper.reload(two)).album), [])


async def _stored_field(helper: Helper) -> None:
    """Check that a document stores the file's ObjectId, and loading a document does not load the file's record."""
    document = await helper.saved(photo=b"data")
    raw = (await helper.raw(document))["photo"]
    expect("an ObjectId", isinstance(raw, ObjectId), True)
    expect("the stored id", raw, document.photo.id)
    photo = (await helper.reload(document)).photo
    expect("photo.id", photo.id, raw)
    with raising("photo.length before any I/O", InfoNotLoaded):
        _ = photo.length
    await photo.stat()
    expect("photo.length", photo.length, 4)


async def _identity(helper: Helper) -> None:
    """Check that a save keeps the same file objects in the fields and lists."""
    document = helper.new()
    photo = document.photo
    await photo.put(b"data")
    document.album = [b"one", b"two"]
    await helper.harness.save(document)
    expect("photo is the same object", document.photo is photo, True)
    album = list(document.album)
    document.name = f"{document.name}, renamed"
    await helper.harness.save(document)
    expect("photo is the same object", document.photo is photo, True)
    expect("the list has the same objects", list(map(id, document.album)), list(map(id, album)))


async def _open_writer(helper: Helper) -> None:
    """Check that saving or deleting a document fails while a file is being written, and does not stop the writing."""
    document = await helper.saved(photo=b"old")
    before = await helper.raw(document)
    async with document.photo.new_file(replace=True):
        document.photo.write(b"new")
        document.name = "changed"
        with raising("save() while a file is being written", UploadInProgress):
            await helper.harness.save(document)
        with raising("delete() while a file is being written", UploadInProgress):
            await helper.harness.delete(document)
    expect("the stored document", await helper.raw(document), before)
    document.name = before["name"]
    await helper.expect_saved_photo(document, b"new")


async def _failed_writing(helper: Helper) -> None:
    """Check that if writing fails, the field and the document do not change."""

    async def writing() -> None:
        async with document.photo.new_file(replace=True):
            document.photo.write(b"half")
            raise ZeroDivisionError

    document = await helper.saved(photo=b"old")
    with raising("the body's own error", ZeroDivisionError):
        await writing()
    await helper.expect_saved_photo(document, b"old")


async def _assigned_content(helper: Helper) -> None:
    """Check that the save stores assigned content and deletes the old file."""
    document = await helper.saved(photo=b"in the constructor")
    expect("photo.read()", await document.photo.read(), b"in the constructor")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marmot.jpg"
        path.write_bytes(b"a path")
        for content, data in ((b"bytes", b"bytes"), (io.BytesIO(b"a file"), b"a file"), (path, b"a path")):
            old = document.photo.id
            document.photo = content
            expect("the stored field before the save", (await helper.raw(document))["photo"], old)
            await helper.expect_saved_photo(document, data)
            expect("the old file", await helper.read(old), None)
    expect("photo.filename", document.photo.filename, "marmot.jpg")


async def _assigned_reference(helper: Helper) -> None:
    """Check that assigning a file, an id or None changes the reference, and no file is deleted or stored."""
    document = await helper.saved(photo=b"old")
    old, other = document.photo.id, await helper.put(b"other")
    for value in (other, str(other), helper.file(other)):
        document.photo = value
        expect("the stored field", (await helper.save_and_get_raw(document))["photo"], other)
        document.photo = None
        expect("bool(photo)", bool(document.photo), False)
        expect("the stored field", (await helper.save_and_get_raw(document)).get("photo"), None)
    expect("the old file", await helper.read(old), b"old")
    expect("the other file", await helper.read(other), b"other")


async def _refused_values(helper: Helper) -> None:
    """Check that a value that is not a file is refused, and the field does not change."""
    document = await helper.saved(photo=b"data")
    photo = document.photo
    for value in (7, "no id", {"$gt": ""}, io.StringIO("text")):
        with raising(f"assigning {value!r}", ValueError, TypeError):
            document.photo = value
        with raising(f"the constructor's {value!r}", ValueError, TypeError):
            helper.new(photo=value)
    expect("photo is the same object", document.photo is photo, True)


async def _other_bucket(helper: Helper) -> None:
    """Check that a file of another bucket is refused, because its id does not exist in this one."""
    elsewhere = AsyncGridFile(bucket=Bucket(helper.harness.database, "contract_elsewhere"))
    await elsewhere.put(b"data")
    document = await helper.saved()
    with raising("assigning a file of another bucket", ValueError, TypeError):
        document.photo = elsewhere
    expect("bool(photo)", bool(document.photo), False)
    await elsewhere.delete()


async def _replace_then_save(helper: Helper) -> None:
    """Check that the save deletes the replaced file, and of several replacements only the last one is kept."""
    document = await helper.reload(await helper.saved(photo=b"old"))
    ids = [document.photo.id]
    for data in (b"second", b"third"):
        await document.photo.replace(data)
        ids.append(document.photo.id)
    expect("the document as others see it", await (await helper.reload(document)).photo.read(), b"old")
    expect("the document as others see it", await (await helper.save_and_reload(document)).photo.read(), b"third")
    expect("the three files", [await helper.read(id) for id in ids], [None, None, b"third"])


async def _replace_that_fails(helper: Helper) -> None:
    """Check that if the source of a replacement fails, the document keeps the old file and can be saved."""

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    document = await helper.saved(photo=b"old")
    with raising("the source's own error", ZeroDivisionError):
        await document.photo.replace(failing())
    await helper.expect_saved_photo(document, b"old")


async def _save_that_fails(helper: Helper) -> None:
    """Check that a failed save keeps the old and the new file, and a later successful save deletes the old one."""
    document, other = await helper.saved(photo=b"old"), await helper.saved()
    old, name = document.photo.id, document.name
    index = await helper.harness.collection.create_index("name", unique=True, name="contract_name")
    try:
        await document.photo.replace(b"new")
        document.name = other.name
        if await helper.try_to_save(document):
            raise AssertionError("save() of a second document with the same unique name was expected to fail")
    finally:
        await helper.harness.collection.drop_index(index)
    expect("the stored field", (await helper.raw(document))["photo"], old)
    expect("the old file", await helper.read(old), b"old")
    expect("the new file", await helper.read(document.photo.id), b"new")
    document.name = name
    await helper.expect_saved_photo(document, b"new")
    expect("the old file", await helper.read(old), None)


async def _revert(helper: Helper) -> None:
    """Check that revert() restores the file of the saved document and deletes the newer one."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    await document.photo.replace(b"new")
    new = document.photo.id
    await document.photo.revert()
    expect("photo.id", document.photo.id, old)
    expect("the new file", await helper.read(new), None)
    await helper.expect_saved_photo(document, b"old")


async def _second_writer(helper: Helper) -> Any:
    """Return an unsaved copy of a document with a replaced photo, after another copy was saved with the photo "one"."""
    document = await helper.saved(photo=b"old")
    one, two = await helper.reload(document), await helper.reload(document)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await helper.harness.save(one)
    return two


async def _stale_save(helper: Helper) -> None:
    """Check that the second of two concurrent writers is refused, and the document keeps the file of the first."""
    two = await _second_writer(helper)
    expect("the second save was refused", not await helper.try_to_save(two), True)
    expect("the document as others see it", await (await helper.reload(two)).photo.read(), b"one")
    expect("the second writer's file", await helper.read(two.photo.id), b"two")


async def _two_writers(helper: Helper) -> None:
    """Check that after two concurrent writers, the document points to an existing file."""
    two = await _second_writer(helper)
    winner = b"two" if await helper.try_to_save(two) else b"one"
    expect("the document as others see it", await (await helper.reload(two)).photo.read(), winner)


async def _deep_copies(helper: Helper) -> None:
    """Check that a deep copy has its own file objects with the same content, also while a file is being written."""
    document = await helper.saved(photo=b"old", album=[b"one"])
    old = document.photo.id
    async with document.photo.new_file(replace=True):
        document.photo.write(b"new")
        copied = copy.deepcopy(document)
        expect("one object for both", copied.photo is document.photo, False)
        expect("copied.photo.closed", copied.photo.closed, True)
        expect("copied.photo.read()", await copied.photo.read(), b"old")
        expect("copied.album[0].read()", await copied.album[0].read(), b"one")
    await document.photo.revert()
    await copied.photo.replace(b"of the copy")
    expect("the old file before the copy's save", await helper.read(old), b"old")
    await helper.expect_saved_photo(copied, b"of the copy")
    expect("the old file after the copy's save", await helper.read(old), None)


async def _pickles(helper: Helper) -> None:
    """Check that an unpickled document can read its files, and replacing one keeps the old file until the save."""
    document = await helper.saved(photo=b"old", badge=b"badge")
    again = pickle.loads(pickle.dumps(document))
    expect("photo.read()", await again.photo.read(), b"old")
    expect("badge.length", again.badge.length, 5)
    old = again.photo.id
    await again.photo.replace(b"new")
    expect("the old file before the save", await helper.read(old), b"old")
    await helper.expect_saved_photo(again, b"new")
    expect("the old file after the save", await helper.read(old), None)


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
    document = await helper.save_and_reload(document)
    expect("each read()", [await file.read() for file in document.album], [b"B", b"c", b"d"])
    expect("the replaced file", await helper.read(raw[1]), None)
    expect("the file removed from the list", await helper.read(raw[0]), b"a")


async def _file_in_two_fields(helper: Helper) -> None:
    """Check that replacing a file keeps the old one if another field of the document points to it."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    document.album = [old]
    await helper.harness.save(document)
    await document.photo.replace(b"new")
    expect("the file in the list", await (await helper.save_and_reload(document)).album[0].read(), b"old")


async def _old_document(helper: Helper) -> None:
    """Check that a document stored without the field has an empty file, and a file can be put there."""
    document = await helper.load_raw()
    expect("bool(photo)", bool(document.photo), False)
    expect("the list", list(document.album), [])
    await document.photo.put(b"data")
    await helper.expect_saved_photo(document, b"data")


async def _mongoengine(helper: Helper) -> None:
    """Check that a document and a file written by MongoEngine can be read, and the file can be replaced."""
    id, database, data = ObjectId(), helper.harness.database, b"written by MongoEngine"
    await database["fs.chunks"].insert_one({"files_id": id, "n": 0, "data": data})
    record = {"_id": id, "filename": None, "contentType": "image/jpeg", "chunkSize": 255 * 1024, "length": len(data)}
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    await database["fs.files"].insert_one({**record, "md5": md5, "uploadDate": datetime(2014, 1, 2, tzinfo=UTC)})
    document = await helper.load_raw(_cls="Animal", photo=id)
    expect("photo.read()", await document.photo.read(), data)
    expect("photo.content_type", document.photo.content_type, "image/jpeg")
    await document.photo.replace(b"new")
    await helper.expect_saved_photo(document, b"new")
    expect("the old file", await helper.read(id), None)


async def _snapshots(helper: Helper) -> None:
    """Check that a snapshot stores the record with the id, and that a field with only an id can be read too."""
    document = helper.new()
    await document.badge.put(b"data", filename="badge.png", colour="red")
    raw = (await helper.save_and_get_raw(document))["badge"]
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
    expect("the stored length", (await helper.save_and_get_raw(document))["badge"]["length"], 5)
    expect("the old file", await helper.read(old), None)
    document.badge = None
    expect("the stored field", (await helper.save_and_get_raw(document)).get("badge"), None)


async def _edited_snapshot(helper: Helper) -> None:
    """Check that the next save stores the changed record in the snapshot, including what `stat()` has loaded."""
    document = await helper.reload(await helper.saved(badge=b"data"))
    await document.badge.rename("renamed.png")
    await document.badge.update_metadata(colour="red")
    raw = (await helper.save_and_get_raw(document))["badge"]
    expect("the stored snapshot", (raw["filename"], raw["metadata"]["colour"]), ("renamed.png", "red"))
    document = await helper.reload(document)
    await helper.file(document.badge.id).rename("elsewhere.png")
    await document.badge.stat()
    expect("the stored filename", (await helper.save_and_get_raw(document))["badge"]["filename"], "elsewhere.png")


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
    client = helper.harness.database.client
    async with client.start_session() as session, await session.start_transaction():
        inside = await helper.harness.load(helper.harness.id_of(document), session)
        inside.photo = b"new"
        inside.album = [b"one"]
        await helper.harness.save(inside, session)
        expect("the document as others see it", await (await helper.reload(document)).photo.read(), b"old")
    again = await helper.reload(document)
    expect("photo.read()", await again.photo.read(), b"new")
    expect("album[0].read()", await again.album[0].read(), b"one")


async def _malformed(helper: Helper) -> None:
    """Check that a malformed snapshot or id is refused when it is passed to the document."""
    with raising("a snapshot without an id", ValueError, TypeError):
        helper.new(badge={"filename": "a"})
    with raising("half an id", ValueError, TypeError):
        helper.new(badge="0123")


async def _too_large(helper: Helper) -> None:
    """Check that content above max_size is refused, put or assigned, and nothing is stored and the old file is kept."""
    document = await helper.saved(limited=b"the old")
    before = await helper.count_files_and_chunks()
    with raising("put of 1001 bytes", TooLarge):
        await document.limited.replace(b"a" * 1001)
    document.limited = b"b" * 1001
    try:
        await helper.harness.save(document)
    except FileRefused as refused:
        expect("the error's field", refused.field, "limited")
    else:
        raise AssertionError("a save of 1001 assigned bytes: expected FileRefused, but nothing was raised")
    expect("files and chunks", await helper.count_files_and_chunks(), before)
    document = await helper.reload(document)
    expect("read()", await document.limited.read(), b"the old")
    await document.limited.replace(b"c" * 1000)
    expect("the file of 1000 bytes", (await (await helper.save_and_reload(document)).limited.stat()).length, 1000)


async def _wrong_type(helper: Helper) -> None:
    """Check that content whose first bytes do not match its declared type is refused, and nothing is stored."""
    document = helper.new()
    before = await helper.count_files_and_chunks()
    with raising("put of a PNG that is declared as text", ContentTypeRefused):
        await document.limited.put(_png(4, 4), filename="notes.txt")
    expect("files and chunks", await helper.count_files_and_chunks(), before)
    expect("bool(limited)", bool(document.limited), False)


async def _picture(helper: Helper) -> None:
    """Check that a picture has a width, a height and a thumbnail, and replacing it replaces the thumbnail."""
    document = await helper.reload(await helper.saved(portrait=_png(32, 16)))
    await document.portrait.stat()
    expect("width and height", (document.portrait.width, document.portrait.height), (32, 16))
    thumbnail = document.portrait.thumbnail
    await thumbnail.stat()
    expect("width and height of the thumbnail", (thumbnail.width, thumbnail.height), (8, 8))
    old_ids = [document.portrait.id, thumbnail.id]
    await document.portrait.replace(_png(16, 16))
    await helper.harness.save(document)
    expect("the old ones", [await helper.read(id) for id in old_ids], [None, None])
    document = await helper.reload(document)
    await document.portrait.stat()
    expect("the new width", document.portrait.width, 16)
    expect("the new thumbnail exists", await document.portrait.thumbnail.exists(), True)


def _png(width: int, height: int) -> bytes:
    """Return a grey picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


CHECKS = {
    "chapter: put, save, read": _put_save_read,
    "chapter: new_file, write, close": _new_file_write_close,
    "chapter: async with new_file": _new_file_as_a_context,
    "chapter: delete": _delete_the_file,
    "chapter: replace": _replace_the_file,
    "states: empty": _empty_field,
    "states: stored": _stored_field,
    "states: the same object after a save": _identity,
    "states: being written": _open_writer,
    "states: a writing that failed": _failed_writing,
    "assigning: content": _assigned_content,
    "assigning: a file, an id, None": _assigned_reference,
    "assigning: what is not a file": _refused_values,
    "assigning: a file of another bucket": _other_bucket,
    "replacing: then a save": _replace_then_save,
    "replacing: a source that fails": _replace_that_fails,
    "replacing: a save that fails": _save_that_fails,
    "replacing: revert": _revert,
    "replacing: two writers, the document's file is there": _two_writers,
    "replacing: two writers, the second is refused": _stale_save,
    "copying: deepcopy": _deep_copies,
    "copying: pickle": _pickles,
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
    "limits: too large": _too_large,
    "limits: of another type": _wrong_type,
    "pictures: with their thumbnail": _picture,
}
