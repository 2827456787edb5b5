"""Checks of assigning, replacing and copying files."""

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

from .helpers import Helper, expect, raising


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
            await helper.harness.save(document)
            expect("photo.read()", await (await helper.reload(document)).photo.read(), data)
            expect("the old file", await helper.read(old), None)
    expect("photo.filename", document.photo.filename, "marmot.jpg")


async def _assigned_reference(helper: Helper) -> None:
    """Check that assigning a file, an id or None changes the reference, and no file is deleted or stored."""
    document = await helper.saved(photo=b"old")
    old, other = document.photo.id, await helper.put(b"other")
    for value in (other, str(other), helper.file(other)):
        document.photo = value
        await helper.harness.save(document)
        expect("the stored field", (await helper.raw(document))["photo"], other)
        document.photo = None
        expect("bool(photo)", bool(document.photo), False)
        await helper.harness.save(document)
        expect("the stored field", (await helper.raw(document)).get("photo"), None)
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
    await helper.harness.save(document)
    expect("the document as others see it", await (await helper.reload(document)).photo.read(), b"third")
    expect("the three files", [await helper.read(id) for id in ids], [None, None, b"third"])


async def _replace_that_fails(helper: Helper) -> None:
    """Check that if the source of a replacement fails, the document keeps the old file and can be saved."""

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    document = await helper.saved(photo=b"old")
    with raising("the source's own error", ZeroDivisionError):
        await document.photo.replace(failing())
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"old")


async def _save_that_fails(helper: Helper) -> None:
    """Check that a failed save keeps the old and the new file, and a later successful save deletes the old one."""
    document, other = await helper.saved(photo=b"old"), await helper.saved()
    old, name = document.photo.id, document.name
    index = await helper.harness.collection.create_index("name", unique=True, name="contract_name")
    try:
        await document.photo.replace(b"new")
        document.name = other.name
        await _must_fail(helper, document)
    finally:
        await helper.harness.collection.drop_index(index)
    expect("the stored field", (await helper.raw(document))["photo"], old)
    expect("the old file", await helper.read(old), b"old")
    expect("the new file", await helper.read(document.photo.id), b"new")
    document.name = name
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"new")
    expect("the old file", await helper.read(old), None)


async def _must_fail(helper: Helper, document: Any) -> None:
    try:
        await helper.harness.save(document)
    except Exception:  # noqa: BLE001  # Each ODM has its own error for a duplicate key.
        return
    raise AssertionError("save() of a second document with the same unique name was expected to fail")


async def _revert(helper: Helper) -> None:
    """Check that revert() restores the file of the saved document and deletes the newer one."""
    document = await helper.saved(photo=b"old")
    old = document.photo.id
    await document.photo.replace(b"new")
    new = document.photo.id
    await document.photo.revert()
    expect("photo.id", document.photo.id, old)
    expect("the new file", await helper.read(new), None)
    await helper.harness.save(document)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"old")


async def _stale_save(helper: Helper) -> None:
    """Check that the second of two concurrent writers is refused, and the document keeps the file of the first."""
    document = await helper.saved(photo=b"old")
    one, two = await helper.reload(document), await helper.reload(document)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await helper.harness.save(one)
    refused = False
    try:
        await helper.harness.save(two)
    except Exception:  # noqa: BLE001  # Each ODM has its own error for this.
        refused = True
    expect("the second save was refused", refused, True)
    expect("the document as others see it", await (await helper.reload(document)).photo.read(), b"one")
    expect("the second writer's file", await helper.read(two.photo.id), b"two")


async def _two_writers(helper: Helper) -> None:
    """Check that after two concurrent writers, the document points to an existing file."""
    document = await helper.saved(photo=b"old")
    one, two = await helper.reload(document), await helper.reload(document)
    await one.photo.replace(b"one")
    await two.photo.replace(b"two")
    await helper.harness.save(one)
    try:
        await helper.harness.save(two)
    except Exception:  # noqa: BLE001  # Each ODM has its own error for this, or no error.
        winner = b"one"
    else:
        winner = b"two"
    expect("the document as others see it", await (await helper.reload(document)).photo.read(), winner)


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
    await helper.harness.save(copied)
    expect("photo.read()", await (await helper.reload(copied)).photo.read(), b"of the copy")
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
    await helper.harness.save(again)
    expect("photo.read()", await (await helper.reload(document)).photo.read(), b"new")
    expect("the old file after the save", await helper.read(old), None)


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
