"""Checks of the quickstart, and of the states of a file in a document."""

from __future__ import annotations

import io

from bson import ObjectId

from gridproxy.errors import FileMissing, InfoNotLoaded, UploadInProgress
from gridproxy.file.file import AsyncGridFile

from .helpers import Helper, expect, raising


async def _put_save_read(helper: Helper) -> None:
    """Check that the content and the metadata of a file can be read from the saved document."""
    document = helper.new()
    await document.photo.put(io.BytesIO(b"a marmot"), content_type="image/jpeg")
    await helper.harness.save(document)
    photo = (await helper.reload(document)).photo
    expect("photo.read()", await photo.read(), b"a marmot")
    expect("photo.metadata['content_type']", photo.metadata["content_type"], "image/jpeg")


async def _new_file_write_close(helper: Helper) -> None:
    """Check that a file that is written in several steps can be read after close() and save."""
    document = helper.new()
    await document.photo.new_file()
    await document.photo.write("some_image_data")
    await document.photo.write("some_more_image_data")
    await document.photo.close()
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"some_image_datasome_more_image_data")


async def _new_file_as_a_context(helper: Helper) -> None:
    """Check that `async with new_file(replace=True)` accepts writes without await. The save deletes the old file."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    async with document.photo.new_file(replace=True):
        document.photo.write(b"some-data")
    expect("the old file before the save", await helper.read(old), b"old")
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"some-data")
    expect("the old file after the save", await helper.read(old), None)


async def _delete_the_file(helper: Helper) -> None:
    """Check that after delete(), the saved field is null and the loaded field is empty."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    await document.photo.delete()
    expect("the file", await helper.read(old), None)
    await helper.harness.save(document)
    expect("the stored field", (await helper.raw(document)).get("photo"), None)
    expect("bool(photo)", bool((await helper.reload(document)).photo), False)


async def _replace_the_file(helper: Helper) -> None:
    """Check that after replace() and save, the document contains the new file."""
    document = await helper.saved(photo=b"old")
    await document.photo.replace(b"new", content_type="image/png")
    await helper.harness.save(document)
    photo = (await helper.reload(document)).photo
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
    expect(
        "the list has the same objects",
        [one is two for one, two in zip(document.album, album, strict=True)],
        [True] * 2,
    )


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
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"new")


async def _failed_writing(helper: Helper) -> None:
    """Check that if writing fails, the field and the document do not change."""

    async def writing() -> None:
        async with document.photo.new_file(replace=True):
            document.photo.write(b"half")
            raise ZeroDivisionError

    document = await helper.saved(photo=b"old")
    with raising("the body's own error", ZeroDivisionError):
        await writing()
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"old")


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
}
