"""G7: the type that a field's `content_types` judged is the one that is stored and served."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Awaitable
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import AsyncGridFile, Bucket, ContentTypeRefused, FileOptions
from gridproxy.adapters.starlette import GridFileResponse
from gridproxy.fields import parse_input
from tests.observing import contents
from tests.web.asgi import Exchange

Database = AsyncDatabase[dict[str, Any]]


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "<script>alert(1)</script>")
    return buffer.getvalue()


# Containers, in which the first bytes leave open what they hold.
UNSURE = {
    "application/zip": a_zip(),
    "audio/ogg": b"OggS" + bytes(100),
    "application/ole-storage": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
    "video/webm": bytes.fromhex("1a45dfa3") + bytes(100),
}
OTHER_KEYS = ["contentType", "_contentType", "mimetype", "mime_type", "Content-Type", "type"]


def field(bucket: Bucket, *types: str) -> FileOptions:
    return FileOptions(bucket=bucket, content_types=types or ("*/*",))


async def served_type(file: AsyncGridFile) -> str:
    return (await Exchange().run(GridFileResponse(file))).fields["content-type"]


@pytest.mark.parametrize("content", UNSURE.values(), ids=UNSURE)
@pytest.mark.parametrize("key", OTHER_KEYS)
async def test_no_key_of_the_metadata_names_another_type(
    bucket: Bucket, database: Database, content: bytes, key: str
) -> None:
    options = field(bucket)
    works: list[Awaitable[object]] = [
        AsyncGridFile(options=options).put(content, metadata={key: "text/html"}),
        AsyncGridFile(options=options).put(content, content_type="", metadata={key: "text/html"}),
        AsyncGridFile(options=options).put(content, filename="a.bin", metadata={key: "text/html; charset=utf-8"}),
    ]
    for work in works:
        with pytest.raises(ContentTypeRefused):
            await work
    writing = AsyncGridFile(options=options)
    with pytest.raises(ContentTypeRefused):
        async with writing.new_file(metadata={key: "text/html"}):
            await writing.write(content)
    assert await contents(database) == (0, 0)
    staged = await bucket.stage(content, metadata={key: "text/html"})
    with pytest.raises(ContentTypeRefused):
        await AsyncGridFile(options=options).put(staged)
    await bucket.discard(staged)
    source = bucket.file((await bucket.upload(content, metadata={key: "text/html"})).id)
    with pytest.raises(ContentTypeRefused):
        await AsyncGridFile(options=options).put(source)
    assert await contents(database) == (1, 1)


@pytest.mark.parametrize("content", UNSURE.values(), ids=UNSURE)
async def test_the_type_that_was_judged_is_stored(bucket: Bucket, content: bytes) -> None:
    for types in (("*/*",), ("application/*", "audio/*", "video/*")):
        direct = AsyncGridFile(options=field(bucket, *types))
        await direct.put(content)
        staged = AsyncGridFile(options=field(bucket, *types))
        await staged.put(await bucket.stage(content))
        for file in (direct, staged):
            assert file.metadata["content_type"] == file.content_type
            assert await served_type(file) == file.content_type


@pytest.mark.parametrize("key", ["content_type", *OTHER_KEYS])
async def test_an_edit_or_a_copy_does_not_change_the_type_to_another(bucket: Bucket, key: str) -> None:
    file = AsyncGridFile(options=field(bucket, "application/zip", "text/*"))
    await file.put(UNSURE["application/zip"], filename="a.zip", place="Alps")
    for kind in ("text/html", "image/svg+xml", "text/javascript"):
        works: list[Awaitable[object]] = [
            file.update_metadata({key: kind}),
            file.copy(content_type=kind) if key == "content_type" else file.copy(metadata={key: kind}),
        ]
        for work in works:
            with pytest.raises(ContentTypeRefused):
                await work
    assert (await file.stat()).metadata.keys() == {"place", "content_type", "sha256"}
    assert await served_type(file) == "application/zip"
    assert (await file.copy(place="Tatra")).content_type == "application/zip"
    assert (await file.copy(metadata={"place": "Tatra"})).content_type == "application/zip"
    assert (await file.update_metadata(unset=["place"])).content_type == "application/zip"


async def test_a_type_cannot_be_removed_so_that_the_name_decides(bucket: Bucket) -> None:
    file = AsyncGridFile(options=field(bucket, "application/zip"))
    await file.put(UNSURE["application/zip"])
    await file.rename("page.html")
    assert await served_type(file) == "application/zip"
    with pytest.raises(ContentTypeRefused):
        await file.update_metadata(unset=["content_type"])
    copied = await file.copy(filename="other.html")
    assert await served_type(copied) == "application/zip"


async def test_a_type_that_the_content_confirms_can_be_set(bucket: Bucket) -> None:
    file = AsyncGridFile(options=field(bucket, "text/*"))
    await file.put(b"a marmot", filename="a.txt")
    assert (await file.update_metadata(content_type="text/markdown")).content_type == "text/markdown"
    assert (await file.update_metadata(contentType="text/markdown")).content_type == "text/markdown"
    free = bucket.file(file.id)
    assert (await free.update_metadata(content_type="text/html")).content_type == "text/html"


async def test_a_snapshot_from_outside_does_not_decide_what_is_served(bucket: Bucket) -> None:
    options = field(bucket, "application/zip")
    file = AsyncGridFile(options=options)
    info = await file.put(UNSURE["application/zip"])
    forged = {**info.snapshot(), "content_type": "text/html", "metadata": {"contentType": "text/html"}}
    held = parse_input(AsyncGridFile, forged, options)
    assert await served_type(held) == "application/zip"
    assert held.content_type == "application/zip"
    again = AsyncGridFile(options=options)
    await again.put(parse_input(AsyncGridFile, forged, options))
    assert again.content_type == "application/zip"
