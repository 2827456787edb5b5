"""The log lines: one for what became of each file, with structured fields, and nothing that may be a secret."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect, OperationFailure

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileOptions, GridProxyError, OutcomeUnknown, TooLarge
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.store.collections import Store

SECRET = "pa55word"
Fields = dict[str, Any]


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Fields]]:
    """Return a function that returns the fields of the lines so far, without the prefix, and forgets them."""
    caplog.set_level(logging.INFO, "gridproxy")

    def taken() -> list[Fields]:
        found = []
        for record in caplog.records:
            fields = {key: value for key, value in vars(record).items() if key.startswith("gridfs_")}
            assert SECRET not in record.getMessage() + repr(fields)
            assert "\n" not in record.getMessage()
            assert all(isinstance(value, str | int | float) for value in fields.values())
            found.append({key.removeprefix("gridfs_"): value for key, value in fields.items()})
        caplog.clear()
        return found

    return taken


Events = Callable[[], list[Fields]]


def brief(fields: Fields) -> str:
    """Return a line's event and its fields except those that differ from run to run."""
    kept = {key: value for key, value in fields.items() if key not in ("event", "bucket", "id", "old_id", "ms")}
    return " ".join([fields["event"], *(f"{key}={value}" for key, value in kept.items())])


async def upload(bucket: Bucket) -> None:
    await bucket.upload(b"1234", filename=SECRET, metadata={"key": SECRET})


async def write(bucket: Bucket) -> None:
    async with bucket.open_upload(filename=SECRET) as writer:
        await writer.write(b"12345")


async def upload_many(bucket: Bucket) -> None:
    await bucket.upload_many({SECRET: b"1", "b": b"22"})


async def stage_and_publish(bucket: Bucket) -> None:
    await bucket.publish(await bucket.stage(b"123"))


async def copy(bucket: Bucket) -> None:
    await bucket.copy((await bucket.upload(b"12")).id)


async def replace(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(b"old")
    await file.replace(b"newer")


async def rewrite(bucket: Bucket) -> None:
    file = AsyncGridFile(bucket=bucket)
    await file.put(b"old")
    async with file.new_file(replace=True):
        await file.write(b"newer")


async def delete(bucket: Bucket) -> None:
    await bucket.delete((await bucket.upload(b"1234")).id)
    await bucket.delete_many([info.id for info in await bucket.upload_many([b"1", b"22"])])


async def commit(bucket: Bucket) -> None:
    kept = await bucket.upload(b"kept")
    async with gridproxy.transaction(bucket.database.client) as tx:
        await bucket.upload(b"123", session=tx.session)
        await bucket.delete(kept.id, session=tx.session)


async def abort(bucket: Bucket) -> None:
    with pytest.raises(ZeroDivisionError):
        async with gridproxy.transaction(bucket.database.client) as tx:
            await bucket.upload(b"123", session=tx.session)
            raise ZeroDivisionError


async def failed_in_a_transaction(bucket: Bucket) -> None:
    with pytest.raises(ConnectionError):
        async with gridproxy.transaction(bucket.database.client) as tx:
            await bucket.upload(failing_source(), session=tx.session)


async def refused_by_size(bucket: Bucket) -> None:
    file = AsyncGridFile(options=FileOptions(bucket=bucket, max_size=3))
    with pytest.raises(GridProxyError):
        await file.put(f"{SECRET}.", filename=SECRET)


async def refused_by_id(bucket: Bucket) -> None:
    await bucket.upload(b"1", id=7)
    with pytest.raises(GridProxyError):
        await bucket.upload(b"22", id=7)
    with pytest.raises(GridProxyError):
        await bucket.open_upload(id=7)


async def failing_source() -> AsyncIterator[bytes]:
    yield bytes(300)
    raise ConnectionError(SECRET)


async def failed(bucket: Bucket) -> None:
    with pytest.raises(ConnectionError):
        await bucket.upload(failing_source())


async def failed_many(bucket: Bucket) -> None:
    with pytest.raises(ConnectionError):
        await bucket.upload_many([b"1", failing_source()])


async def failed_clean_up(bucket: Bucket) -> None:
    with patch.object(Store, "delete_chunks", side_effect=OperationFailure(SECRET)):
        await failed(bucket)


async def aborted(bucket: Bucket) -> None:
    writer = await bucket.open_upload()
    await writer.write(bytes(300))
    await writer.abort()
    await writer.abort()


async def unknown(bucket: Bucket) -> None:
    with (
        patch.object(Store, "insert_record", side_effect=AutoReconnect(SECRET)),
        patch("gridproxy.gridfs.upload.commit._PAUSE", 0),
        pytest.raises(OutcomeUnknown),
    ):
        await bucket.upload(bytes(300))


async def unknown_many(bucket: Bucket) -> None:
    with (
        patch.object(Store, "insert_small_files", side_effect=AutoReconnect(SECRET)),
        patch.object(Store, "insert_chunks", side_effect=AutoReconnect(SECRET)),
        patch("gridproxy.gridfs.upload.commit._PAUSE", 0),
        pytest.raises(OutcomeUnknown),
    ):
        await bucket.upload_many([b"1"])


async def read_from_the_primary(bucket: Bucket) -> None:
    info = await bucket.upload(bytes(200))
    chunks = await bucket.store.chunks.find({}).sort("n").to_list()
    with (
        patch.object(Store, "find_head", return_value=(await bucket.store.files.find_one({}), [])),
        patch.object(Store, "find_chunks", side_effect=[[], chunks]),
    ):
        assert await bucket.read(info.id) == bytes(200)


async def collect(bucket: Bucket) -> None:
    await bucket.upload(b"expired", expires_after=0)
    old = ObjectId.from_datetime(datetime.now(UTC) - timedelta(days=2))
    await bucket.store.chunks.insert_one({"_id": old, "files_id": 9, "n": 0, "data": b"orphan"})
    await bucket.collect_garbage()
    await bucket.collect_garbage(dry_run=False)


STORED = "stored bytes={}".format
SCENES: dict[str, tuple[Callable[[Bucket], Awaitable[None]], list[str]]] = {
    "upload": (upload, [STORED(4)]),
    "write": (write, [STORED(5)]),
    "upload_many": (upload_many, [STORED(1), STORED(2)]),
    "publish": (stage_and_publish, [STORED(3)]),
    "copy": (copy, [STORED(2), STORED(2)]),
    "replace": (replace, [STORED(3), STORED(5), "replaced bytes=5", "removed bytes=3"]),
    "new_file": (rewrite, [STORED(3), STORED(5), "replaced bytes=5", "removed bytes=3"]),
    "delete": (delete, [STORED(4), "removed bytes=4", STORED(1), STORED(2), "removed bytes=1", "removed bytes=2"]),
    "commit": (commit, [STORED(4), "stored bytes=3 transaction=True", "removed bytes=4 transaction=True"]),
    "abort": (
        abort,
        ["stored bytes=3 transaction=True", "rolled back bytes=3 error=ZeroDivisionError complete=True"],
    ),
    "failed in a transaction": (
        failed_in_a_transaction,
        ["rolled back bytes=300 error=ConnectionError complete=True"],
    ),
    "too large": (refused_by_size, ["refused bytes=0 error=TooLarge complete=True"]),
    "taken id": (
        refused_by_id,
        [STORED(1), *["refused bytes=0 error=FileAlreadyStored complete=True"] * 2],
    ),
    "failed": (failed, ["rolled back bytes=300 error=ConnectionError complete=True"]),
    "failed clean-up": (failed_clean_up, ["rolled back bytes=300 error=ConnectionError complete=False"]),
    "failed, many": (failed_many, ["rolled back bytes=1 error=ConnectionError complete=True"]),
    "aborted": (aborted, ["rolled back bytes=300 complete=True"]),
    "unknown": (unknown, ["outcome unknown bytes=300 error=OutcomeUnknown complete=False"]),
    "unknown, many": (unknown_many, ["outcome unknown bytes=1 error=OutcomeUnknown complete=False"]),
    "retried": (read_from_the_primary, [STORED(200), "retried on the primary bytes=200 found=True"]),
    "garbage": (
        collect,
        [
            STORED(7),
            "garbage removed bytes=7 reason=expired chunks=1",
            "garbage removed bytes=6 reason=orphans chunks=1",
        ],
    ),
}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("act", "expected"), SCENES.values(), ids=SCENES)
async def test_each_outcome_is_one_line(
    act: Callable[[Bucket], Awaitable[None]], expected: list[str], bucket: Bucket, events: Events
) -> None:
    await act(bucket)
    found = events()
    assert [brief(each) for each in found] == expected
    assert {each["bucket"] for each in found} == {f"{bucket.database.name}.fs"}
    assert all(each["id"] for each in found)
    assert all(0 <= each["ms"] < 60_000 for each in found)


@pytest.mark.parametrize(
    "id", ["a\nb", "long" * 1000, {"a": 1}, b"\x00", 7], ids=["lines", "long", "dict", "bytes", "int"]
)
async def test_an_id_of_any_type_is_one_short_line(id: Any, bucket: Bucket, events: Events) -> None:
    await bucket.upload(b"1", id=id)
    (found,) = events()
    assert len(str(found["id"])) < 1000
    if id in ("a\nb", 7):
        assert found["id"] == id


async def test_the_field_of_a_document_is_named(bucket: Bucket, events: Events) -> None:
    class Animal(Document):
        photo = FileField(bucket=bucket, max_size=3)

    animal = Animal()
    with pytest.raises(TooLarge):
        await animal.photo.put(b"1234")
    assert [each["field"] for each in events()] == ["photo"]


@pytest.mark.usefixtures("small_batches")
async def test_nothing_is_written_unless_the_application_logs(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("gridproxy")
    assert any(isinstance(each, logging.NullHandler) for each in logger.handlers)
    with patch.object(logger, "propagate", False):
        await unknown(bucket)  # a warning
        with patch.object(logger, "handlers", []):
            await unknown(bucket)
    assert capsys.readouterr().err.count("outcome unknown") == 1


async def test_an_upload_that_is_not_logged_makes_no_line(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gridproxy")
    with patch("gridproxy.runtime.events._plain") as plain:
        await upload(bucket)
        await delete(bucket)
    assert not plain.called
    assert caplog.records == []
