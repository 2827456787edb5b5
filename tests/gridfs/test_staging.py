"""Staged bytes: no file until they are published, gone when they are discarded."""

from __future__ import annotations

import pytest

from gridproxy import BadOption, Bucket, FileAlreadyStored, FileClosed, FileMissing

from ..observing import Database, contents

DATA = bytes(range(256)) * 4  # 1024 bytes, which is 11 chunks of 100


async def test_staged_content_is_not_a_file_until_it_is_published(bucket: Bucket, database: Database) -> None:
    staged = await bucket.stage(DATA, filename="a.txt", metadata={"owner": 7}, id="a")
    assert await contents(database) == (0, 11)
    with pytest.raises(FileMissing):
        await bucket.stat("a")
    assert repr(staged) == f"<Staged 'a' in {database.name}.fs: 1024 bytes>"
    info = await bucket.publish(staged)
    assert info == staged.info == await bucket.stat("a")
    assert await bucket.publish(staged) == info, "it may be repeated"
    assert await contents(database) == (1, 11)
    assert await bucket.read("a") == DATA
    with pytest.raises(FileAlreadyStored, match="delete"):
        await bucket.discard(staged)
    assert await bucket.verify("a") == info


async def test_staged_content_can_be_uploaded_or_discarded(bucket: Bucket, database: Database) -> None:
    info = await bucket.upload(await bucket.stage(b"a", filename="a"))
    assert await bucket.read(info.id) == b"a"
    with pytest.raises(BadOption, match="give them to stage"):
        await bucket.upload(await bucket.stage(b"a", id="b"), filename="b")
    with pytest.raises(BadOption, match="cannot become a file of"):
        await Bucket(database, "other").upload(await bucket.stage(b"a", id="c"))
    await bucket.discard("b")
    await bucket.discard("c")

    staged = await bucket.stage(DATA)
    await bucket.discard(staged)
    await bucket.discard(staged)
    with pytest.raises(FileClosed, match="was discarded"):
        await bucket.publish(staged)
    assert await contents(database) == (1, 1)
    await bucket.discard("never there")
