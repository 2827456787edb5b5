"""Random and hostile pictures, snapshots, records, header fields and names end in a value or in a typed error.

For hours: `GRIDPROXY_FUZZ_SECONDS=7200 pytest tests/security/test_fuzz.py`. Each test gets that time, takes other
values each time, and prints how to have those again that failed.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import bson
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from bson import Binary, Decimal128, Int64, ObjectId, Regex
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadOption,
    BadSource,
    Bucket,
    CorruptFile,
    FileInfo,
    FileOptions,
    FileRefused,
    GridProxyError,
    ImageOptions,
)
from gridproxy.adapters.starlette import GridFileResponse
from gridproxy.cli.files import _own_name
from gridproxy.cli.running import Stop
from gridproxy.fields import from_stored, parse_input, stored_value
from gridproxy.file.values import stored_form
from gridproxy.http import MAX_RANGES, answer, content_disposition, describe, format_date
from tests.web.asgi import Exchange

SECONDS = float(os.environ.get("GRIDPROXY_FUZZ_SECONDS", "0"))
QUICK = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
ON_A_SERVER = settings(QUICK, max_examples=25)
TYPE = TypeAdapter(AsyncGridFile)
LINE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def fuzz(test: Callable[[Any], None], values: st.SearchStrategy[Any], quick: settings = QUICK) -> None:
    """Run a test with many values, and with `GRIDPROXY_FUZZ_SECONDS` as long as that."""
    quick(given(values)(test))()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        settings(quick, derandomize=False, max_examples=1000)(given(values)(test))()


def mostly(valid: st.SearchStrategy[Any], others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Choose valid values most of the time, so that other parts of the input are reached."""
    return st.integers(0, 9).flatmap(lambda number: others if number == 9 else valid)


# Values from outside

EDGES = [
    datetime(1, 1, 1),  # noqa: DTZ001  # BSON dates have no zone
    datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "",
            "\0",
            "\ud800",
            "$ne",
            "a.b",
            "../x",
            "--x",
            "text/html",
            "text/javascript",
            "image/png\r\nX: y",
            "a" * 70_000,
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "2026-01-01",
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -1, 0, 10**4000]),
    st.floats(),
    TEXTS,
    st.binary(max_size=40),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.sampled_from(EDGES),
    st.sampled_from([ObjectId(b"a" * 12), Int64(5), Decimal128("NaN"), Regex("."), re.compile("."), Binary(b"x", 128)]),
)
KEYS = st.one_of(
    TEXTS,
    st.sampled_from(
        ["_id", "content_type", "contentType", "sha256", "thumbnail_id", "variants", "variant_of", "width"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
DATES = (
    st.sampled_from([*EDGES, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z"]) | VALUES
)
SNAPSHOTS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {
            "_id": mostly(st.just(ObjectId(b"a" * 12)), SCALARS),
            "length": mostly(st.integers(0, 100), SCALARS),
            "chunk_size": mostly(st.integers(1, 100), SCALARS),
            "upload_date": DATES,
        },
        optional={
            "filename": VALUES,
            "content_type": VALUES,
            "metadata": st.dictionaries(KEYS, VALUES, max_size=5) | VALUES,
        },
    ),
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "length": mostly(st.integers(0, 100), VALUES),
        "chunkSize": mostly(st.integers(1, 100), VALUES),
        "uploadDate": DATES,
        "filename": VALUES,
        "metadata": st.dictionaries(KEYS, VALUES, max_size=5) | VALUES,
        "contentType": VALUES,
        "aliases": VALUES,
        "md5": VALUES,
        "expires_at": DATES,
        "thumbnail_id": VALUES,
        "width": VALUES,
    },
)


def check_info(info: FileInfo) -> None:
    """Look at all that is shown of a file."""
    assert re.fullmatch('"[0-9a-f]{32}"', info.etag)
    assert info.upload_date is None or info.upload_date.tzinfo is UTC
    assert info.chunk_count >= 0
    assert info.sha256 is None or len(info.sha256) == 64
    info.expired()
    for name, value in describe(info).items():
        assert LINE.fullmatch(value), (name, value)
    again = FileInfo.from_snapshot(info.snapshot())
    assert (again.content_type, again.length, again.upload_date) == (info.content_type, info.length, info.upload_date)


def check_message(error: Exception) -> None:
    assert len(str(error)) < 3000


def check_file(file: AsyncGridFile) -> None:
    assert len(repr(file)) < 2000
    assert file == copy.deepcopy(file)
    stored_value(file)
    if file.info is not None:
        check_info(file.info)
        for name in ("filename", "content_type", "length", "metadata", "width", "height", "format", "size"):
            getattr(file, name)
        for variant in (file.thumbnail, *list(file.variants.values())[:5]):
            assert variant.state.picture is not None or not variant


def test_a_snapshot_is_a_file_or_refused() -> None:
    options = FileOptions(store="snapshot")

    def work(value: Any) -> None:
        for make in (parse_input, from_stored):
            try:
                file = make(AsyncGridFile, value, options)
            except (BadId, BadSource) as error:
                check_message(error)
            else:
                if file.state.content is None:
                    check_file(file)
        stored_form(value, options)
        with suppress(PydanticValidationError):
            TYPE.validate_python(value)

    fuzz(work, SNAPSHOTS)


def test_json_of_a_snapshot_is_a_file_or_refused() -> None:
    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
        max_leaves=12,
    )

    def work(value: Any) -> None:
        import json as library

        text = library.dumps({"_id": "a" * 24, **value} if isinstance(value, dict) else value)
        try:
            file = TYPE.validate_json(text)
        except PydanticValidationError as error:
            message = error.errors()[0]["msg"]
            assert len(message) < 3000
        else:
            check_file(file)
            TYPE.dump_python(file, mode="json")

    fuzz(work, json)


def test_a_record_is_a_file_or_damaged() -> None:
    def work(record: Any) -> None:
        try:
            info = FileInfo.from_record({"_id": 1, **record})
        except CorruptFile as error:
            check_message(error)
        else:
            check_info(info)
            assert pickle.loads(pickle.dumps(info)).etag == info.etag

    fuzz(work, RECORDS)


# Header fields

MODIFIED = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
SERVED = FileInfo.from_record({"_id": 1, "length": 50, "chunkSize": 7, "uploadDate": MODIFIED})
PIECES = ["bytes=", "0-", "-5", "5-9", ",", " ", '"a"', "W/", "*", "9" * 30, format_date(MODIFIED), SERVED.etag, "-"]
FIELD = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
)
RANGES = mostly(st.sampled_from(["bytes=0-4", "bytes=-5", "bytes=5-", "bytes=0-1,3-4,3-9", "bytes=99-"]), FIELD)
CONDITIONS = mostly(st.sampled_from([format_date(MODIFIED), SERVED.etag, f"W/{SERVED.etag}", "*"]), FIELD)
FIELDS = st.fixed_dictionaries(
    {"range": RANGES},
    optional=dict.fromkeys(
        ("if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"), CONDITIONS
    ),
)


def test_no_request_makes_an_answer_fail() -> None:
    def work(asked: Any) -> None:
        method, length, request = asked
        reply = answer(method, request, list(describe(SERVED).items()), length)
        assert reply.status in (200, 206, 304, 412, 416)
        assert all(0 <= start <= stop <= length for start, stop in reply.spans)
        assert len(reply.spans) <= MAX_RANGES
        assert sum(stop - start for start, stop in reply.spans) <= length
        assert all(LINE.fullmatch(value) for _, value in reply.fields)
        if "if-range" in request and reply.status == 206:
            assert request["if-range"] == SERVED.etag, "a date is weak"

    fuzz(
        work,
        st.tuples(st.sampled_from(["GET", "GET", "HEAD", "POST"]), st.integers(0, 100), FIELDS),
        settings(QUICK, max_examples=400),
    )


# Names


def test_a_name_is_one_field_and_one_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = st.sampled_from(
        ["/", "\\", "..", ".", "-", "--", "\0", "\n", "\x1b", "\u202e", "C:", "~", "*", "x", '"', "%2f"]
    )

    def work(name: Any) -> None:
        assert LINE.fullmatch(content_disposition("inline", name))
        info = FileInfo.from_record({"_id": ObjectId(b"a" * 12), "length": 0, "filename": name})
        try:
            local = _own_name(info)
        except (Stop, OSError):
            return
        assert (tmp_path / local).parent == tmp_path
        assert (tmp_path / local).resolve().parent == tmp_path.resolve()
        assert local[:1] not in ("-", ".", "")
        assert local.isprintable()

    fuzz(work, TEXTS | st.lists(parts, max_size=8).map("".join))


# On a server


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def bucket(mongodb_uri: str, portal: BlockingPortal) -> Iterator[Bucket]:
    name = f"gridproxy_test_{uuid.uuid4().hex}"

    async def connect() -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(mongodb_uri)

    client = portal.call(connect)
    yield Bucket(client[name])
    portal.call(client.close)
    with MongoClient[dict[str, Any]](mongodb_uri) as synchronous:
        synchronous.drop_database(name)


def test_a_hostile_record_on_a_server_harms_no_other_file(bucket: Bucket, portal: BlockingPortal) -> None:
    async def look(record: Mapping[str, Any]) -> None:
        victim = await bucket.upload(b"victim", id="victim")
        try:
            with suppress(InvalidDocument, OverflowError, ValueError, OperationFailure, UnicodeError):
                raw = bson.encode({"_id": "planted", **record})
                await bucket.store.files.insert_one(RawBSONDocument(raw))
            file = bucket.file("planted")
            exchange = Exchange("GET", ("range", "bytes=1-"))
            for work in (
                file.stat(),
                file.read(),
                file.copy(),
                file.verify(),
                file.update_metadata(a=1),
                bucket.stat_many(["planted"]),
                exchange.run(GridFileResponse(file)),
                file.delete(),
            ):
                with suppress(GridProxyError, InvalidDocument, OverflowError):
                    async with asyncio.timeout(30):
                        await work
            assert await bucket.read("victim") == b"victim"
            assert await bucket.stat("victim") == victim
            _ = [each async for each in bucket.check()]
        finally:
            await bucket.store.files.delete_many({})
            await bucket.store.chunks.delete_many({})

    fuzz(lambda record: portal.call(look, record), RECORDS, ON_A_SERVER)


def test_an_id_a_name_or_metadata_are_stored_or_refused(bucket: Bucket, portal: BlockingPortal) -> None:
    async def store(given: Any) -> None:
        id, name, metadata, kind = given
        try:
            info = await bucket.upload(b"x", id=id, filename=name, metadata=metadata, content_type=kind)
        except (BadId, BadOption, OperationFailure) as error:
            check_message(error)
            assert await bucket.store.chunks.count_documents({}) == 0
        else:
            assert await bucket.read(info.id) == b"x"
            exchange = await Exchange().run(GridFileResponse(bucket.file(info.id)))
            assert exchange.status == 200
            assert all(LINE.fullmatch(value) for value in exchange.fields.values())
            await bucket.delete(info.id)
        assert await bucket.store.files.count_documents({}) == 0

    given = st.tuples(VALUES, TEXTS | VALUES, st.none() | st.dictionaries(KEYS, VALUES, max_size=4), TEXTS | st.none())
    fuzz(lambda value: portal.call(store, value), given, ON_A_SERVER)


# Pictures


def corpus() -> list[bytes]:
    """Return small pictures, and small files that claim to be much larger than they are."""
    found = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "JPEG2000", "PPM", "TGA"):
        buffer = BytesIO()
        with suppress(OSError, KeyError):  # a format that this Pillow cannot write
            Image.effect_noise((12, 9), 50).convert("RGB").save(buffer, kind)
            found.append(buffer.getvalue())
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        buffer = BytesIO()
        frames = [Image.new("RGB", (5, 4), (at, 0, 0)) for at in range(4)]
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        found.append(buffer.getvalue())

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    signature, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
    for width, height in ((2**31 - 1, 2**31 - 1), (100_000, 1), (0, 0), (30_000, 30_000)):
        head = chunk(b"IHDR", width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0")
        found.append(signature + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + end)
    head = chunk(b"IHDR", (5).to_bytes(4) + (5).to_bytes(4) + b"\x08\0\0\0\0")
    found.append(signature + head + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000))) + end)
    found.append(b"GIF89a" + (65_535).to_bytes(2, "little") * 2 + b"\x80\0\0" + bytes(6) + b";")
    found.append(b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6) + (b"," + bytes(9) + b"\x02\x02\x44\x01\0") * 50 + b";")
    found.append(b"BM" + bytes(16) + (2**30).to_bytes(4, "little") * 2 + bytes(40))
    found.append(b"II*\0\x08\0\0\0" + b"\0\0" + (8).to_bytes(4, "little"))  # a TIFF whose next page is this page
    found.append(b"P6 99999 99999 255\n")
    found.append(b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6)
    return found


CORPUS = corpus()
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4000), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("cut"), st.integers(0, 4000), st.just(b"")),
        st.tuples(st.just("insert"), st.integers(0, 4000), st.binary(min_size=1, max_size=40)),
    ),
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for what, place, data in changes:
        at = place % (len(content) + 1)
        if what == "cut":
            content = content[:at]
        elif what == "insert":
            content = content[:at] + data + content[at:]
        else:
            content = content[:at] + data + content[at + len(data) :]
    return content


def test_a_hostile_picture_is_stored_or_refused(bucket: Bucket, portal: BlockingPortal) -> None:
    options = FileOptions(bucket=bucket, image=ImageOptions(size=(8, 8), thumbnail_size=(4, 4)), max_size=1_000_000)

    async def put(given: Any) -> None:
        content, changes = given
        file = AsyncGridFile(options=options)
        try:
            async with asyncio.timeout(60):
                await file.put(changed(content, changes))
        except FileRefused:
            assert await bucket.store.chunks.count_documents({}) == 0
        else:
            with Image.open(BytesIO(await file.read())) as picture:
                picture.load()
            await file.delete()
        assert await bucket.store.files.count_documents({}) == 0

    for content in CORPUS:
        portal.call(put, (content, []))
    fuzz(
        lambda given: portal.call(put, given),
        st.tuples(st.sampled_from(CORPUS), CHANGES),
        settings(QUICK, max_examples=10),
    )
