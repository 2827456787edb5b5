"""The chapter on GridFS, and the states that a file in a document goes through."""

from __future__ import annotations

import io

from bson import ObjectId

from gridproxy.errors import FileMissing, InfoNotLoaded, UploadInProgress
from gridproxy.file.file import AsyncGridFile

from .trial import Trial, expect, raising


async def _put_save_read(trial: Trial) -> None:
    """A file that is put is read again from the saved document, with its metadata."""
    document = trial.new()
    await document.photo.put(io.BytesIO(b"a marmot"), content_type="image/jpeg")
    await trial.harness.save(document)
    photo = (await trial.again(document)).photo
    expect("photo.read()", await photo.read(), b"a marmot")
    expect("photo.metadata['content_type']", photo.metadata["content_type"], "image/jpeg")


async def _new_file_write_close(trial: Trial) -> None:
    """A file that is written bit by bit is there after close() and save."""
    document = trial.new()
    await document.photo.new_file()
    await document.photo.write("some_image_data")
    await document.photo.write("some_more_image_data")
    await document.photo.close()
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"some_image_datasome_more_image_data")


async def _new_file_as_a_context(trial: Trial) -> None:
    """`async with new_file(replace=True)` takes un-awaited writes; the old file goes with the save."""
    document = await trial.stored(photo=b"old")
    old = document.photo.id
    async with document.photo.new_file(replace=True):
        document.photo.write(b"some-data")
    expect("the old file before the save", await trial.bytes_in(old), b"old")
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"some-data")
    expect("the old file after the save", await trial.bytes_in(old), None)


async def _delete_the_file(trial: Trial) -> None:
    """A deleted file leaves an empty field: null when saved, empty when loaded."""
    document = await trial.stored(photo=b"old")
    old = document.photo.id
    await document.photo.delete()
    expect("the file", await trial.bytes_in(old), None)
    await trial.harness.save(document)
    expect("the stored field", (await trial.raw(document)).get("photo"), None)
    expect("bool(photo)", bool((await trial.again(document)).photo), False)


async def _replace_the_file(trial: Trial) -> None:
    """A replaced file is the new one once the document was saved."""
    document = await trial.stored(photo=b"old")
    await document.photo.replace(b"new", content_type="image/png")
    await trial.harness.save(document)
    photo = (await trial.again(document)).photo
    expect("photo.read()", await photo.read(), b"new")
    expect("photo.content_type", photo.content_type, "image/png")


async def _empty_field(trial: Trial) -> None:
    """A field that nothing was given for holds an empty file, each document one of its own."""
    one, two = trial.new(), await trial.stored()
    for photo in (one.photo, two.photo, (await trial.again(two)).photo):
        expect("an AsyncGridFile", isinstance(photo, AsyncGridFile), True)
        expect("bool(photo)", bool(photo), False)
        with raising("read() of an empty file", FileMissing):
            await photo.read()
    expect("one file for two documents", one.photo is two.photo, False)
    expect("the stored field", (await trial.raw(two)).get("photo"), None)
    expect("the empty list", list((await trial.again(two)).album), [])


async def _stored_field(trial: Trial) -> None:
    """A document stores the file's ObjectId; loaded, its record is asked for only when it is needed."""
    document = await trial.stored(photo=b"data")
    raw = (await trial.raw(document))["photo"]
    expect("an ObjectId", isinstance(raw, ObjectId), True)
    expect("the stored id", raw, document.photo.id)
    photo = (await trial.again(document)).photo
    expect("photo.id", photo.id, raw)
    with raising("photo.length before any I/O", InfoNotLoaded):
        _ = photo.length
    await photo.stat()
    expect("photo.length", photo.length, 4)


async def _identity(trial: Trial) -> None:
    """The object in the field is the same one after a save, wherever it lies."""
    document = trial.new()
    photo = document.photo
    await photo.put(b"data")
    document.album = [b"one", b"two"]
    await trial.harness.save(document)
    expect("photo is the same object", document.photo is photo, True)
    album = list(document.album)
    document.name = f"{document.name}, renamed"
    await trial.harness.save(document)
    expect("photo is the same object", document.photo is photo, True)
    expect(
        "and so is each in the list", [one is two for one, two in zip(document.album, album, strict=True)], [True] * 2
    )


async def _open_writer(trial: Trial) -> None:
    """A document is not saved or deleted while a file of it is being written; the writing is not disturbed."""
    document = await trial.stored(photo=b"old")
    before = await trial.raw(document)
    async with document.photo.new_file(replace=True):
        document.photo.write(b"new")
        document.name = "changed"
        with raising("save() while a file is being written", UploadInProgress):
            await trial.harness.save(document)
        with raising("delete() while a file is being written", UploadInProgress):
            await trial.harness.delete(document)
    expect("the stored document", await trial.raw(document), before)
    document.name = before["name"]
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"new")


async def _failed_writing(trial: Trial) -> None:
    """A writing that fails leaves the field, and the document, as they were."""

    async def writing() -> None:
        async with document.photo.new_file(replace=True):
            document.photo.write(b"half")
            raise ZeroDivisionError

    document = await trial.stored(photo=b"old")
    with raising("the body's own error", ZeroDivisionError):
        await writing()
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"old")


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
