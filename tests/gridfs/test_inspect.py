"""An inspector sees the whole content before the file is visible, and what it refuses is not stored."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from typing import Any

import pytest
from anyio.abc import ByteReceiveStream
from PIL import Image

from gridproxy import (
    AsyncGridFile,
    BadOption,
    Bucket,
    FileInfo,
    FileOptions,
    FileRefused,
    ImageOptions,
    TooLarge,
    wrap_field,
)
from gridproxy.adapters.document import Document, FileField
from gridproxy.file.connection import get_database

from ..observing import Database, contents

pytestmark = pytest.mark.usefixtures("connected")

CONTENT = bytes(range(256)) * 2000  # three chunks


class Seen:
    """An inspector that notes what it sees, and answers `verdict`."""

    def __init__(self, verdict: object = None) -> None:
        self.infos: list[FileInfo] = []
        self.contents: list[bytes] = []
        self.records: list[int] = []
        self.verdict = verdict

    async def __call__(self, info: FileInfo, stream: ByteReceiveStream) -> object:
        self.infos.append(info)
        self.contents.append(b"".join([block async for block in stream]))
        self.records.append((await contents(get_database(None)))[0])
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


async def put(file: AsyncGridFile) -> None:
    await file.put(CONTENT, filename="a.bin")


async def replace(file: AsyncGridFile) -> None:
    await file.replace(BytesIO(CONTENT), filename="a.bin")


async def stream(file: AsyncGridFile) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 100_000):
            yield CONTENT[at : at + 100_000]

    await file.put(pieces(), filename="a.bin")


async def write(file: AsyncGridFile) -> None:
    async with file.new_file(filename="a.bin"):
        await file.write(CONTENT)


async def put_staged(file: AsyncGridFile) -> None:
    bucket = Bucket(get_database(None))
    staged = await bucket.stage(CONTENT, filename="a.bin")
    try:
        await file.put(staged)
    except BaseException:
        await bucket.discard(staged)
        raise


WAYS = [put, replace, stream, write, put_staged]


@pytest.mark.parametrize("way", WAYS)
async def test_an_inspector_sees_the_whole_content_before_the_file_exists(
    way: Callable[[AsyncGridFile], Awaitable[None]], database: Database
) -> None:
    seen = Seen()
    file = AsyncGridFile(options=FileOptions(inspect=seen))
    await way(file)
    assert (seen.contents, seen.records) == ([CONTENT], [0])
    info = seen.infos[0]
    assert (info.id, info.filename, info.length) == (file.id, "a.bin", len(CONTENT))
    assert info.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert await file.read() == CONTENT


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("verdict", "raised", "reason"),
    [
        (False, FileRefused, "Seen refuses this content, so nothing was stored"),
        (ValueError("a virus"), FileRefused, "a virus, so nothing was stored"),
        (TooLarge(5), TooLarge, "5 bytes"),
        (RuntimeError("the scanner is away"), RuntimeError, "the scanner is away"),
    ],
)
async def test_what_an_inspector_refuses_is_removed(
    way: Callable[[AsyncGridFile], Awaitable[None]],
    verdict: object,
    raised: type[Exception],
    reason: str,
    database: Database,
) -> None:
    file = AsyncGridFile(options=FileOptions(inspect=Seen(verdict)))
    with pytest.raises(raised, match=reason):
        await way(file)
    assert not file
    assert await contents(database) == (0, 0)


async def test_a_cancelled_inspection_leaves_nothing(database: Database) -> None:
    begun = asyncio.Event()

    async def slow(info: FileInfo, stream: ByteReceiveStream) -> None:
        await stream.receive()
        begun.set()
        await asyncio.sleep(60)

    putting = asyncio.create_task(AsyncGridFile(options=FileOptions(inspect=slow)).put(CONTENT))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await contents(database) == (0, 0)


async def test_other_limits_come_first_and_a_part_may_be_enough(database: Database) -> None:
    heads: list[bytes] = []

    async def look(info: FileInfo, stream: ByteReceiveStream) -> bool:
        heads.append(await stream.receive(5))
        return True

    options = FileOptions(inspect=look, max_size=len(CONTENT), validators=lambda info, head: head != b"bad")
    for content, refused in ((CONTENT + b"1", TooLarge), (b"bad", FileRefused)):
        with pytest.raises(refused):
            await AsyncGridFile(options=options).put(content)
    await AsyncGridFile(options=options).put(CONTENT)
    assert heads == [CONTENT[:5]]
    assert (await contents(database))[0] == 1


async def test_the_upload_date_is_after_a_long_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector spares new files, so that there is time to save a document that points to one."""
    during: list[Any] = []

    async def look(info: FileInfo, stream: ByteReceiveStream) -> None:
        await asyncio.sleep(0.02)
        during.append(info.upload_date)

    info = await AsyncGridFile(options=FileOptions(inspect=look)).put(b"1")
    assert info.upload_date is not None
    assert info.upload_date > during[0]


async def test_an_inspector_sees_a_picture_as_it_is_stored_and_not_its_variants(database: Database) -> None:
    picture = BytesIO()
    Image.new("RGB", (100, 100), "red").save(picture, "BMP")
    options = {"image": ImageOptions(thumbnail_size=(10, 10), format="PNG")}
    seen = Seen()
    file = AsyncGridFile(options=FileOptions(inspect=seen, **options))  # type: ignore[arg-type]  # one option
    await file.put(picture.getvalue())
    assert seen.contents == [await file.read()]
    assert seen.infos[0].metadata["width"] == 100
    refusing = AsyncGridFile(options=FileOptions(inspect=Seen(False), **options))  # type: ignore[arg-type]
    with pytest.raises(FileRefused):
        await refusing.put(picture.getvalue())
    assert (await contents(database))[0] == 2


async def test_a_field_that_refuses_content_is_named(database: Database) -> None:
    class Owner(Document):
        photo = FileField(inspect=Seen(False))

    class User:
        avatar_id = None
        avatar = wrap_field("avatar_id", inspect=Seen(False))

    owner = Owner(photo=b"1")
    with pytest.raises(FileRefused, match="photo: "):
        await owner.save()
    with pytest.raises(FileRefused):
        await User().avatar.put(b"1")
    assert await contents(database) == (0, 0)


def not_async(info: FileInfo, stream: ByteReceiveStream) -> bool:
    return True


@pytest.mark.parametrize("inspect", [not_async, 7, "a name", len])
async def test_an_inspector_is_an_async_function(inspect: Any) -> None:
    with pytest.raises(BadOption, match="inspect is an async function"):
        FileOptions(inspect=inspect)
