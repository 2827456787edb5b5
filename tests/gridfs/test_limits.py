"""The limits of a field (size, types, validators) hold for every way to write, and a refusal stores nothing."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gridproxy import (
    AsyncGridFile,
    BadOption,
    Bucket,
    ContentTypeRefused,
    FileClosed,
    FileInfo,
    FileOptions,
    FileRefused,
    TooLarge,
)
from gridproxy.adapters.document import Document, FileField, ListField
from gridproxy.gridfs.content.sniffing import HEAD_BYTES

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
HTML = b"<!doctype html><script>alert(1)</script>"


async def put(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    await file.put(content, **named)


async def replace(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    await file.replace(content, **named)


async def stream(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    await file.put(pieces(), **named)


async def write(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    await file.new_file(**named)
    try:
        for at in range(0, len(content), 5):
            await file.write(content[at : at + 5])
        await file.close()
    finally:
        await file.abort()


async def write_unawaited(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    async with file.new_file(**named):
        file.write(content)


async def put_staged(file: AsyncGridFile, content: bytes, **named: Any) -> None:
    bucket = Bucket(file.state.store().database)
    staged = await bucket.stage(content, **named)
    try:
        await file.put(staged)
    except FileRefused:
        await bucket.discard(staged)
        raise


WAYS = [put, replace, stream, write, write_unawaited, put_staged]
Way = Callable[..., Awaitable[None]]
each_way = pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])


def limited(**options: Any) -> AsyncGridFile:
    return AsyncGridFile(options=FileOptions(**options))


@each_way
async def test_a_wrongly_declared_type_is_refused(way: Way, database: Database) -> None:
    file = limited(content_types="image/*")
    with pytest.raises(ContentTypeRefused, match=r"'marmot.png' is not a PNG image \(it looks like HTML\)") as caught:
        await way(file, HTML, filename="marmot.png")
    assert (caught.value.limit, caught.value.actual) == (("image/*",), "text/html")
    assert isinstance(caught.value, ValueError)
    assert not file
    assert await contents(database) == (0, 0)


@each_way
async def test_empty_content_is_named_in_the_error(way: Way, database: Database) -> None:
    file = limited(content_types=["image/*", "application/pdf"])
    with pytest.raises(ContentTypeRefused, match=r"'a.pdf' is not a PDF document \(it is empty\), "):
        await way(file, b"", filename="a.pdf")
    with pytest.raises(
        ContentTypeRefused,
        match=r"This is empty, which is not allowed here .allowed: images .image/\*., a PDF document., ",
    ):
        await way(file, b"")
    assert await contents(database) == (0, 0)
    await way(texts := limited(content_types="text/*"), b"", filename="a.txt")
    assert await texts.read() == b""


@each_way
async def test_content_within_all_limits_is_stored(way: Way, database: Database) -> None:
    file = limited(content_types=["image/png"], max_size=len(PNG), validators=lambda info, head: head == PNG)
    await way(file, PNG, filename="marmot.png")
    assert await file.read() == PNG
    assert file.content_type == "image/png"
    assert await contents(database) == (1, 1)


@each_way
async def test_one_byte_too_many_is_refused(way: Way, database: Database) -> None:
    file = limited(max_size=len(PNG) - 1)
    with pytest.raises(TooLarge) as caught:
        await way(file, PNG)
    assert (caught.value.limit, caught.value.field) == (len(PNG) - 1, None)
    assert await contents(database) == (0, 0)


@each_way
@pytest.mark.usefixtures("small_batches")
async def test_a_validator_is_called_before_anything_is_sent(way: Way, database: Database) -> None:
    seen: list[tuple[FileInfo, bytes, tuple[int, int]]] = []

    async def refuse(info: FileInfo, head: bytes) -> None:
        seen.append((info, head, await contents(database)))
        raise ValueError("no marmot in it")

    file = limited(validators=[refuse])
    with pytest.raises(FileRefused, match="no marmot in it, so nothing was stored") as caught:
        await way(file, b"a fox in the snow", filename="fox.txt", chunk_size=4)
    assert caught.value.limit == "refuse"
    [(info, head, stored)] = seen
    assert (info.filename, info.content_type, head) == ("fox.txt", "text/plain", b"a fox in the snow")
    if way is not put_staged:
        assert stored == (0, 0)
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize(
    ("validator", "expected", "match"),
    [
        (lambda info, head: False, FileRefused, "<lambda> refuses"),
        (lambda info, head: int(head), FileRefused, "invalid literal"),
        (lambda info, head: {}[head], KeyError, "content"),  # a bug in the validator is not a refusal
        (lambda info, head: asyncio.sleep(0, False), FileRefused, "refuses"),
    ],
)
async def test_how_a_validator_refuses(
    validator: Any, expected: type[Exception], match: str, database: Database
) -> None:
    file = limited(validators=validator)
    with pytest.raises(expected, match=match):
        await file.put(b"content")
    assert await contents(database) == (0, 0)


async def test_a_file_refused_error_of_a_validator_is_raised_unchanged() -> None:
    mine = FileRefused("too many marmots", limit=3, actual=4)

    class Counting:
        async def __call__(self, info: FileInfo, head: bytes) -> None:
            raise mine

    with pytest.raises(FileRefused) as caught:
        await limited(validators=[Counting()]).put(b"content")
    assert caught.value is mine


async def test_a_validator_without_a_name_is_named_by_its_class() -> None:
    class Never:
        def __call__(self, info: FileInfo, head: bytes) -> bool:
            return False

    with pytest.raises(FileRefused, match="Never refuses") as caught:
        await limited(validators=Never()).put(b"content")
    assert caught.value.limit == "Never"


async def test_validators_get_only_the_head_and_are_called_once(database: Database) -> None:
    heads = []
    file = limited(validators=lambda info, head: heads.append(head))
    content = bytes(range(256)) * 4 * 300
    async with file.new_file(chunk_size=40_000):
        for at in range(0, len(content), 50_000):
            await asyncio.gather(file.write(content[at : at + 25_000]), file.write(content[at + 25_000 : at + 50_000]))
    assert heads == [content[:HEAD_BYTES]]
    assert await file.read() == content


async def test_a_wrongly_declared_type_stops_a_long_upload_at_its_head(database: Database) -> None:
    yielded = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal yielded
        while True:
            yielded += 1
            yield HTML + b" " * 10_000

    with pytest.raises(ContentTypeRefused):
        await limited(content_types="image/*").put(endless(), filename="marmot.png")
    assert yielded <= HEAD_BYTES // 10_000 + 1
    assert await contents(database) == (0, 0)


async def test_a_refused_writer_refuses_all_further_calls(database: Database) -> None:
    file = limited(validators=lambda info, head: False)
    await file.new_file()
    with pytest.raises(FileRefused):
        await file.write(bytes(HEAD_BYTES))
    with pytest.raises(FileRefused):
        file.write(b"more")
    with pytest.raises(FileRefused):
        await file.close()
    assert file.closed
    assert not file
    assert await contents(database) == (0, 0)


async def test_a_cancelled_validator_is_called_again_and_a_cancelled_upload_stores_nothing(
    database: Database,
) -> None:
    asked = 0
    entered = asyncio.Event()

    async def slow(info: FileInfo, head: bytes) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            entered.set()
            await asyncio.Event().wait()

    file = limited(validators=slow)
    await file.new_file()
    first = asyncio.ensure_future(file.write(bytes(HEAD_BYTES)))
    await entered.wait()
    first.cancel()
    await asyncio.wait({first})
    await file.close()
    assert (asked, file.length) == (2, HEAD_BYTES)
    await file.delete()

    asked, entered = 0, asyncio.Event()
    putting = asyncio.ensure_future(file.put(b"content"))
    await entered.wait()
    putting.cancel()
    await asyncio.wait({putting})
    assert putting.cancelled()
    assert await contents(database) == (0, 0)


@each_way
async def test_max_size_bytes_are_accepted(way: Way, database: Database) -> None:
    file = limited(max_size=len(PNG))
    await way(file, PNG)
    assert await contents(database) == (1, 1)


async def test_a_failed_replace_leaves_the_old_file(database: Database) -> None:
    file = limited(content_types="image/*")
    await file.put(PNG)
    with pytest.raises(ContentTypeRefused):
        await file.replace(HTML)
    assert await file.read() == PNG
    assert await contents(database) == (1, 1)


async def test_an_undeclared_type_is_the_sniffed_one() -> None:
    file = limited(content_types="image/*")
    await file.put(PNG)
    assert (await file.stat()).content_type == "image/png"


async def test_a_discarded_staged_file_is_refused_as_closed(database: Database) -> None:
    bucket = Bucket(database)
    staged = await bucket.stage(PNG)
    await bucket.discard(staged)
    with pytest.raises(FileClosed):
        await limited(content_types="image/*").put(staged)


async def test_validators_get_the_head_of_staged_content(database: Database) -> None:
    heads = []
    content = PNG + bytes(HEAD_BYTES * 3)
    staged = await Bucket(database).stage(content, chunk_size=10_000)
    file = limited(validators=lambda info, head: heads.append(head), max_size=len(content))
    await file.put(staged)
    assert heads == [content[:HEAD_BYTES]]


def never(info: FileInfo, head: bytes) -> bool:
    return False


async def test_copies_and_pickles_of_a_file_keep_its_limits() -> None:
    file = pickle.loads(pickle.dumps(limited(validators=never, content_types="image/*")))
    with pytest.raises(FileRefused):
        await file.put(PNG)
    assert file.options == FileOptions(validators=[never], content_types=["image/*"])


@pytest.mark.parametrize("validators", [7, [never, "a name"], "a name"])
async def test_a_validator_that_is_not_callable_is_refused_at_declaration(validators: Any) -> None:
    with pytest.raises(BadOption, match="info, head"):
        FileOptions(validators=validators)


# In documents


class Post(Document):
    photo = FileField(content_types=["image/png"], max_size=1000)
    album = ListField(FileField(validators=never))


@pytest.mark.parametrize("way", [put, replace, stream, write, write_unawaited])
async def test_a_refusal_names_the_field_of_the_document(way: Way, database: Database) -> None:
    post = Post()
    with pytest.raises(ContentTypeRefused, match=r"^photo: ") as caught:
        await way(post.photo, HTML)
    assert caught.value.field == "photo"
    with pytest.raises(TooLarge, match=r"^photo: ") as large:
        await way(post.photo, PNG * 100)
    assert (large.value.field, large.value.limit) == ("photo", 1000)
    assert await contents(database) == (0, 0)


async def test_a_save_refuses_assigned_content_which_may_be_assigned_again(database: Database) -> None:
    post = Post(photo=HTML)
    with pytest.raises(ContentTypeRefused, match=r"^photo: "):
        await post.save()
    assert await Post.objects.count() == 0
    post.photo = PNG
    post.album.append(b"never")
    with pytest.raises(FileRefused, match=r"^album: never refuses"):
        await post.save()
    post.album.clear()
    await post.save()
    assert await contents(database) == (1, 1)
