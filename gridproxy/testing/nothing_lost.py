"""Checks of what a document owns, and of saves that fail."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from gridproxy.errors import TooLarge

from .helpers import Helper, expect, raising


async def _assigned_id(helper: Helper) -> None:
    """Check that a file that was only assigned, or whose id was given, is not removed by another document's save."""
    owner = await helper.saved(photo=b"of the owner")
    id = owner.photo.id
    ways: list[tuple[str, Any]] = [
        ("an id", id),
        ("an id in hex", str(id)),
        ("a file", helper.file(id)),
        ("a copy of the owner's file", copy.copy(owner.photo)),
        ("the owner's file", owner.photo),
    ]
    for what, value in ways:
        for document in (helper.new(photo=value), helper.new()):
            if not document.photo:
                document.photo = value
            await document.photo.replace(b"another")
            await helper.harness.save(document)
            expect(f"the owner's file, after {what} was replaced", await helper.read(id), b"of the owner")
            expect("the new file", await (await helper.reload(document)).photo.read(), b"another")


async def _loaded_again(helper: Helper) -> None:
    """Check that a document owns the file that it is loaded with, and the content that was put through its field."""
    document = await helper.saved(photo=await helper.put(b"assigned"))
    first = document.photo.id
    document = await helper.reload(document)
    await document.photo.replace(b"second")
    await helper.harness.save(document)
    expect("the file that it was loaded with", await helper.read(first), None)
    second = document.photo.id
    await document.photo.replace(b"third")
    await helper.harness.save(document)
    expect("the file that was put before", await helper.read(second), None)


async def _refused_content(helper: Helper) -> None:
    """Check that a save stores no content if one of its contents is refused, and that it can be repeated."""
    before = await helper.count_files_and_chunks()
    document = helper.new(photo=b"fine", limited=b"x" * 1001)
    with raising("a save with content that is too large", TooLarge):
        await helper.harness.save(document)
    expect("files and chunks", await helper.count_files_and_chunks(), before)
    document.limited = b"small"
    await helper.harness.save(document)
    loaded = await helper.reload(document)
    expect("the contents", [await loaded.photo.read(), await loaded.limited.read()], [b"fine", b"small"])


async def _refused_document(helper: Helper) -> None:
    """Check that a save whose document the server refuses removes its content again, and can be repeated."""
    collection = helper.harness.collection
    index = await collection.create_index("name", unique=True)
    try:
        taken = await helper.saved(photo=b"the first")
        before = await helper.count_files_and_chunks()
        document = helper.harness.new(name=taken.name, photo=b"the second", album=[b"of the list"])
        with raising("a save with a name that is taken", Exception):
            await helper.harness.save(document)
        expect("files and chunks", await helper.count_files_and_chunks(), before)
        document.name = f"{taken.name}, another"
        await helper.harness.save(document)
        loaded = await helper.reload(document)
        contents = [await loaded.photo.read(), *[await each.read() for each in loaded.album]]
        expect("the contents", contents, [b"the second", b"of the list"])
        old = document.photo.id
        document.name, document.photo = taken.name, b"the third"
        with raising("a second save with a name that is taken", Exception):
            await helper.harness.save(document)
        expect("the old file", await helper.read(old), b"the second")
        await helper.harness.delete(document)
    finally:
        await collection.drop_index(index)


async def _saves_take_turns(helper: Helper) -> None:
    """Check that two saves of one document at once take turns, and store its content once."""
    before = await helper.count_files_and_chunks()
    document = helper.new(photo=b"once")
    await asyncio.gather(helper.harness.save(document), helper.harness.save(document))
    after = await helper.count_files_and_chunks()
    expect("files and chunks", after, (before[0] + 1, before[1] + 1))
    expect("the content", await (await helper.reload(document)).photo.read(), b"once")


async def _stale_delete(helper: Helper) -> None:
    """Check that a stale document's deletion removes the file that the stored document points to."""
    document = await helper.saved(attached=b"old")
    stale = await helper.reload(document)
    await document.attached.replace(b"new")
    await helper.harness.save(document)
    current = document.attached.id
    await helper.harness.delete(stale)
    expect("the current file", await helper.read(current), None)


async def _assigned_file_outlives(helper: Helper) -> None:
    """Check that the deletion of a document keeps a file that was only assigned to it."""
    document = helper.new()
    document.attached = await helper.put(b"of another document")
    id = document.attached.id
    await helper.harness.save(document)
    await helper.harness.delete(document)
    expect("the assigned file", await helper.read(id), b"of another document")


CHECKS = {
    "ownership: assigned files": _assigned_id,
    "ownership: loaded again": _loaded_again,
    "ownership: assigned, then deleted": _assigned_file_outlives,
    "saving: content that is refused": _refused_content,
    "saving: a document that is refused": _refused_document,
    "saving: two at once": _saves_take_turns,
    "deleting: a stale document": _stale_delete,
}
