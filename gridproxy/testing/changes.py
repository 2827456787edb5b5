"""Assigning, replacing, copying: what a document's changes do to its files, and what they do not."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gridproxy.bucket import Bucket
from gridproxy.file.file import AsyncGridFile

from .trial import Trial, expect, raising


async def _assigned_content(trial: Trial) -> None:
    """Content that was assigned is stored by the save, as a replace."""
    document = await trial.stored(photo=b"in the constructor")
    expect("photo.read()", await document.photo.read(), b"in the constructor")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marmot.jpg"
        path.write_bytes(b"a path")
        for content, data in ((b"bytes", b"bytes"), (io.BytesIO(b"a file"), b"a file"), (path, b"a path")):
            old = document.photo.id
            document.photo = content
            expect("the stored field before the save", (await trial.raw(document))["photo"], old)
            await trial.harness.save(document)
            expect("photo.read()", await (await trial.again(document)).photo.read(), data)
            expect("the old file", await trial.bytes_in(old), None)
    expect("photo.filename", document.photo.filename, "marmot.jpg")


async def _assigned_reference(trial: Trial) -> None:
    """A file, an id or None moves the reference: nothing is removed, and nothing stored again."""
    document = await trial.stored(photo=b"old")
    old, other = document.photo.id, await trial.put(b"other")
    for value in (other, str(other), trial.file(other)):
        document.photo = value
        await trial.harness.save(document)
        expect("the stored field", (await trial.raw(document))["photo"], other)
        document.photo = None
        expect("bool(photo)", bool(document.photo), False)
        await trial.harness.save(document)
        expect("the stored field", (await trial.raw(document)).get("photo"), None)
    expect("the old file", await trial.bytes_in(old), b"old")
    expect("the other file", await trial.bytes_in(other), b"other")


async def _refused_values(trial: Trial) -> None:
    """What is no file is refused, and the field is as it was."""
    document = await trial.stored(photo=b"data")
    photo = document.photo
    for value in (7, "no id", {"$gt": ""}, io.StringIO("text")):
        with raising(f"assigning {value!r}", ValueError, TypeError):
            document.photo = value
        with raising(f"the constructor's {value!r}", ValueError, TypeError):
            trial.new(photo=value)
    expect("photo is the same object", document.photo is photo, True)


async def _other_bucket(trial: Trial) -> None:
    """A file of another bucket is refused: its id would point to nothing in this one."""
    elsewhere = AsyncGridFile(bucket=Bucket(trial.harness.database, "contract_elsewhere"))
    await elsewhere.put(b"data")
    document = await trial.stored()
    with raising("assigning a file of another bucket", ValueError, TypeError):
        document.photo = elsewhere
    expect("bool(photo)", bool(document.photo), False)
    await elsewhere.delete()


async def _replace_then_save(trial: Trial) -> None:
    """A replaced file stays until the save, and goes after it; of several replaces only the last one stays."""
    document = await trial.again(await trial.stored(photo=b"old"))
    ids = [document.photo.id]
    for data in (b"second", b"third"):
        await document.photo.replace(data)
        ids.append(document.photo.id)
    expect("the document as others see it", await (await trial.again(document)).photo.read(), b"old")
    await trial.harness.save(document)
    expect("the document as others see it", await (await trial.again(document)).photo.read(), b"third")
    expect("the three files", [await trial.bytes_in(id) for id in ids], [None, None, b"third"])


async def _replace_that_fails(trial: Trial) -> None:
    """A replace whose source fails leaves the old file, and the document can be saved with it."""

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    document = await trial.stored(photo=b"old")
    with raising("the source's own error", ZeroDivisionError):
        await document.photo.replace(failing())
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"old")


async def _save_that_fails(trial: Trial) -> None:
    """A save that fails leaves old and new file; a later one that succeeds removes the old one."""
    document, other = await trial.stored(photo=b"old"), await trial.stored()
    old, name = document.photo.id, document.name
    index = await trial.harness.collection.create_index("name", unique=True, name="contract_name")
    try:
        await document.photo.replace(b"new")
        document.name = other.name
        await _must_fail(trial, document)
    finally:
        await trial.harness.collection.drop_index(index)
    expect("the stored field", (await trial.raw(document))["photo"], old)
    expect("the old file", await trial.bytes_in(old), b"old")
    expect("the new file", await trial.bytes_in(document.photo.id), b"new")
    document.name = name
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"new")
    expect("the old file", await trial.bytes_in(old), None)


async def _must_fail(trial: Trial, document: Any) -> None:
    try:
        await trial.harness.save(document)
    except Exception:  # noqa: BLE001  # each ODM has an error of its own for a duplicate key
        return
    raise AssertionError("save() of a second document of one unique name was expected to fail")


async def _revert(trial: Trial) -> None:
    """revert() goes back to the file of the saved document, and removes what was put since."""
    document = await trial.stored(photo=b"old")
    old = document.photo.id
    await document.photo.replace(b"new")
    new = document.photo.id
    await document.photo.revert()
    expect("photo.id", document.photo.id, old)
    expect("the new file", await trial.bytes_in(new), None)
    await trial.harness.save(document)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"old")


async def _stale_save(trial: Trial) -> None:
    """Of two writers of one file field the second is refused; no file that the document points to is lost."""
    document = await trial.stored(photo=b"old")
    one, two = await trial.again(document), await trial.again(document)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await trial.harness.save(one)
    refused = False
    try:
        await trial.harness.save(two)
    except Exception:  # noqa: BLE001  # each ODM has an error of its own for that
        refused = True
    expect("the second save was refused", refused, True)
    expect("the document as others see it", await (await trial.again(document)).photo.read(), b"one")
    expect("the second writer's file", await trial.bytes_in(two.photo.id), b"two")


async def _two_writers(trial: Trial) -> None:
    """Whoever wins of two writers, the document points to a file that is there."""
    document = await trial.stored(photo=b"old")
    one, two = await trial.again(document), await trial.again(document)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await trial.harness.save(one)
    try:
        await trial.harness.save(two)
    except Exception:  # noqa: BLE001  # each ODM has an error of its own for that, or none
        winner = b"one"
    else:
        winner = b"two"
    expect("the document as others see it", await (await trial.again(document)).photo.read(), winner)


async def _deep_copies(trial: Trial) -> None:
    """A deep copy has files of its own that point to the same content, also while one is being written."""
    document = await trial.stored(photo=b"old", album=[b"one"])
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
    expect("the old file before the copy's save", await trial.bytes_in(old), b"old")
    await trial.harness.save(copied)
    expect("photo.read()", await (await trial.again(copied)).photo.read(), b"of the copy")
    expect("the old file after the copy's save", await trial.bytes_in(old), None)


async def _pickles(trial: Trial) -> None:
    """A document that was pickled reads its files, and replaces them as carefully as before."""
    document = await trial.stored(photo=b"old", badge=b"badge")
    again = pickle.loads(pickle.dumps(document))
    expect("photo.read()", await again.photo.read(), b"old")
    expect("badge.length", again.badge.length, 5)
    old = again.photo.id
    await again.photo.replace(b"new")
    expect("the old file before the save", await trial.bytes_in(old), b"old")
    await trial.harness.save(again)
    expect("photo.read()", await (await trial.again(document)).photo.read(), b"new")
    expect("the old file after the save", await trial.bytes_in(old), None)


CHECKS = {
    "assigning: content": _assigned_content,
    "assigning: a file, an id, None": _assigned_reference,
    "assigning: what is no file": _refused_values,
    "assigning: a file of another bucket": _other_bucket,
    "replacing: then a save": _replace_then_save,
    "replacing: a source that fails": _replace_that_fails,
    "replacing: a save that fails": _save_that_fails,
    "replacing: revert": _revert,
    "replacing: two writers, the document's file is there": _two_writers,
    "replacing: two writers, the second is refused": _stale_save,
    "copying: deepcopy": _deep_copies,
    "copying: pickle": _pickles,
}
