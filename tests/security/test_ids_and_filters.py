"""Ids and values from outside: whatever they are, they are values, and reach no file but their own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import bson
import pytest
from beanie import Document as BeanieDocument
from beanie import init_beanie
from beanie.operators import And, Eq, Not, Or
from bson import SON, Code, DBRef, Decimal128, MaxKey, MinKey, Regex
from bson.raw_bson import RawBSONDocument
from odmantic import Model
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from gridproxy import (
    AsyncGridFile,
    BadId,
    BadMetadata,
    BadOption,
    Bucket,
    FileMissing,
    GridProxyError,
    ValidationError,
    prefetch,
)
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.document import DictField, Document, FileField, StringField
from gridproxy.adapters.odmantic import AsyncEngine, FileModel
from tests.observing import contents

Database = AsyncDatabase[dict[str, Any]]

# What a query takes for an operator, a pattern or an alternative, and what could stand for every id.
HOSTILE = [
    {"$gt": ""},
    {"$ne": None},
    {"$exists": True},
    {"$in": ["victim"]},
    {"$regex": "."},
    {"$eq": "victim"},
    {"$where": "true"},
    {"$expr": True},
    {"$type": "string"},
    {"$not": {"$eq": 1}},
    {"a": {"$gt": ""}},
    SON([("$gt", "")]),
    RawBSONDocument(bson.encode({"$gt": ""})),
    Regex("."),
    Regex("^vic", "i"),
    ["victim"],
    ("victim",),
    [],
    {},
    MinKey(),
    MaxKey(),
    Code("true"),
    Decimal128("NaN"),
    float("nan"),
    True,
    "",
    "$_id",
    "victim\x00",
    "victim ",
]


@pytest.fixture
async def victim(bucket: Bucket) -> str:
    await bucket.upload(b"secret", id="victim", filename="victim.txt", metadata={"owner": 1})
    return "victim"


def a_file(bucket: Bucket, id: object) -> AsyncGridFile:
    return AsyncGridFile(id, bucket=bucket)


READING: dict[str, Callable[[Bucket, Any], Awaitable[object]]] = {
    "read": lambda bucket, id: bucket.read(id),
    "read_ranges": lambda bucket, id: bucket.read_ranges(id, [(0, 2)]),
    "stat": lambda bucket, id: bucket.stat(id),
    "verify": lambda bucket, id: bucket.verify(id),
    "copy": lambda bucket, id: bucket.copy(id),
    "rename": lambda bucket, id: bucket.rename(id, "taken over"),
    "update_metadata": lambda bucket, id: bucket.update_metadata(id, {"owner": 2}),
    "delete": lambda bucket, id: bucket.delete(id),
    "file.read": lambda bucket, id: a_file(bucket, id).read(),
    "file.stat": lambda bucket, id: a_file(bucket, id).stat(),
    "file.copy": lambda bucket, id: a_file(bucket, id).copy(),
    "file.rename": lambda bucket, id: a_file(bucket, id).rename("taken over"),
    "file.verify": lambda bucket, id: a_file(bucket, id).verify(),
}


@pytest.mark.parametrize("call", READING)
async def test_an_id_from_outside_reaches_no_other_file(
    bucket: Bucket, database: Database, victim: str, call: str
) -> None:
    for id in HOSTILE:
        with pytest.raises((FileMissing, BadId)):
            await READING[call](bucket, id)
    assert await contents(database) == (1, 1)
    assert (await bucket.verify(victim)).metadata["owner"] == 1
    assert (await bucket.stat(victim)).filename == "victim.txt"


async def test_many_ids_from_outside_reach_no_other_file(bucket: Bucket, database: Database, victim: str) -> None:
    for id in HOSTILE:
        await bucket.delete_many([id, "nothing"])
        await a_file(bucket, id).delete()
        await bucket.discard(id)
        for many in (bucket.stat_many, bucket.read_many):
            with suppress(BadId):
                assert await many([id, "nothing"]) == {}
            assert list(await many([victim])) == [victim]
        with suppress(BadId):
            await prefetch([{"photo": a_file(bucket, id)}], "photo", content=True)
        assert await a_file(bucket, id).exists() is False
    assert await contents(database) == (1, 1)
    await bucket.verify(victim)


async def test_a_new_id_from_outside_takes_nobodys_place(bucket: Bucket, database: Database, victim: str) -> None:
    """It becomes a file of its own, or is refused; either way its chunks are its own."""
    for at, id in enumerate(HOSTILE):
        try:
            await bucket.upload(b"mine %d" % at, id=id)
        except GridProxyError:
            continue
        assert await bucket.read(id) == b"mine %d" % at
        await bucket.delete(id)
    assert await contents(database) == (1, 1)
    assert await bucket.read(victim) == b"secret"


@pytest.mark.parametrize("id", [{"a": {"$gt": ""}}, {"a": [{"$in": []}]}, {"$gt": ""}], ids=repr)
async def test_an_operator_in_a_new_id_is_refused_before_anything_is_sent(
    bucket: Bucket, database: Database, victim: str, id: object
) -> None:
    """Servers refuse such a record (some do not), and would after its chunks."""
    works: list[Callable[[], Awaitable[object]]] = [
        lambda: bucket.upload(b"x", id=id),
        lambda: bucket.open_upload(id=id).start(),
        lambda: bucket.stage(b"x", id=id),
        lambda: bucket.copy(victim, new_id=id),
        lambda: AsyncGridFile(bucket=bucket).put(b"x", id=id),
        lambda: a_file(bucket, victim).replace(b"x", id=id),
    ]
    for work in works:
        with pytest.raises(BadId, match=r"its key '\$(gt|in)'"):
            await work()
    assert await contents(database) == (1, 1)


async def test_a_reference_is_no_id(bucket: Bucket, database: Database) -> None:
    with pytest.raises(BadId):
        await bucket.upload(b"x", id=DBRef("fs.files", "victim"))
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("name", [{"$gt": ""}, {"$ne": None}, Regex("."), ["victim.txt"], None, 1, b"victim.txt"])
async def test_a_name_is_a_str_and_nothing_else(bucket: Bucket, database: Database, victim: str, name: Any) -> None:
    works: list[Callable[[], Awaitable[object]]] = [
        lambda: bucket.by_name(name),
        lambda: bucket.rename_by_name(name, "x"),
        lambda: bucket.rename_by_name("victim.txt", name),
        lambda: bucket.delete_by_name(name),
        lambda: bucket.rename(victim, name),
    ]
    for work in works:
        with pytest.raises(BadOption):
            await work()
    assert (await bucket.stat(victim)).filename == "victim.txt"


@pytest.mark.parametrize("name", ["^victim", ".*", "/victim/", "$gt", "victim.tx"])
async def test_a_name_is_no_pattern(bucket: Bucket, database: Database, victim: str, name: str) -> None:
    for work in (bucket.by_name(name), bucket.delete_by_name(name), bucket.rename_by_name(name, "x")):
        with pytest.raises(FileMissing):
            await work
    assert await contents(database) == (1, 1)


@pytest.mark.parametrize(
    "value", ["$data", "$$ROOT", "$files_id", {"$gt": 1}, {"$literal": 1}, {"$add": [1, 2]}, "$$NOW"]
)
async def test_values_are_literals_where_a_server_computes(bucket: Bucket, victim: str, value: Any) -> None:
    """Copies and edits of metadata run as aggregations, in which '$' has a meaning."""
    info = await bucket.update_metadata(victim, {"note": value})
    assert info.metadata == {**info.metadata, "note": value, "owner": 1}
    copy = await bucket.copy(victim, filename=str(value), metadata={"note": value})
    assert (copy.filename, copy.metadata["note"]) == (str(value), value)
    if isinstance(value, str):
        copy = await bucket.copy(victim, new_id=value)
        assert copy.id == value
        assert await bucket.read(value) == b"secret"


@pytest.mark.parametrize("key", ["$set", "a.b", "", "sha256", "a\x00b", "$where"])
async def test_keys_of_metadata_that_would_be_operators_or_paths_are_refused(
    bucket: Bucket, victim: str, key: str
) -> None:
    works: list[Callable[[], Awaitable[object]]] = [
        lambda: bucket.update_metadata(victim, {key: 1}),
        lambda: bucket.update_metadata(victim, unset=[key]),
        lambda: bucket.upload(b"x", metadata={key: 1}),
    ]
    for work in works:
        with pytest.raises(BadMetadata):
            await work()


async def test_metadata_from_outside_name_nobody_elses_files(bucket: Bucket, database: Database, victim: str) -> None:
    """A picture's record names its variants, and whoever edits his own metadata can write anything there."""
    mine = await bucket.upload(
        b"mine", metadata={"thumbnail_id": victim, "variants": {"small": victim}, "variant_of": victim}
    )
    copy = await bucket.copy(mine.id)
    assert await contents(database) == (3, 3)
    await bucket.delete(mine.id)
    await bucket.delete_many([copy.id])
    assert await contents(database) == (1, 1)
    assert await bucket.read(victim) == b"secret"


# Documents


class Note(Document):
    text = StringField()
    more = DictField()
    file = FileField()


async def test_what_keywords_of_a_query_hold_is_a_value(bucket: Bucket, connected: None, victim: str) -> None:
    await Note(text="one", more={"a": 1}, file=await bucket.by_name("victim.txt")).save()
    for value in HOSTILE:
        for field in ("text", "more", "file", "id"):
            if (field, value) == ("file", "victim"):
                continue
            try:
                found = await Note.objects(**{field: value}).count()
                assert (field, value, found) == (field, value, 0)
                assert await Note.objects(**{field: value}).delete() == 0
            except (ValidationError, BadId, BadOption, OperationFailure):
                pass  # refused here, or by the server
    for field in ("text", "file"):
        with pytest.raises(ValidationError):
            Note.objects(**{field: {"$ne": None}})
    assert await Note.objects(more={"a": {"$gt": 0}}).count() == 0
    assert await Note.objects.count() == 1


@pytest.mark.parametrize("name", ["$where", "text.$gt", "__class__", "text__regex", "_id; drop"])
async def test_names_of_fields_are_known_ones(connected: None, name: str) -> None:
    with pytest.raises(ValidationError):
        Note.objects(**{name: 1})
    with pytest.raises(ValidationError):
        Note.objects.order_by(name)


class Kept(FileDocument, BeanieDocument):
    file: AsyncGridFile = AsyncGridFile()
    album: list[AsyncGridFile] = []


class KeptModel(FileModel, Model):
    file: AsyncGridFile


OPERATORS: list[Any] = [{"$ne": None}, {"$exists": True}, {"$gt": ""}, SON([("$ne", 1)]), Regex("."), re.compile("vic")]


@pytest.mark.parametrize("value", OPERATORS, ids=repr)
async def test_beanie_compares_a_file_with_no_operator(
    bucket: Bucket, database: Database, connected: None, value: Any
) -> None:
    """G12: a value from a request in `Kept.file == value` matched, and could delete, every document."""
    await init_beanie(database, document_models=[Kept])
    file = bucket.file((await bucket.upload(b"secret")).id)
    await Kept(file=file, album=[file]).insert()
    for condition in (
        Kept.file == value,
        Kept.album == value,
        Eq("file._id", value),
        Or(Kept.file == value, Kept.file == None),  # noqa: E711  # an expression of Beanie
        And(Kept.file == value),
        {"$and": [Kept.file == value]},
        Not(Kept.file == value),
    ):
        for query in (
            Kept.find(condition).count,
            Kept.find(condition).delete,
            Kept.find_one(condition).delete,
            Kept.find(condition).to_list,
        ):
            with pytest.raises(ValidationError, match="compared with a file"):
                await query()
        with pytest.raises(ValidationError, match="compared with a file"):
            await Kept.find_one(condition)
    # Queries of the application itself, and values.
    assert await Kept.find({"file": {"$ne": None}}).count() == 1
    assert await Kept.find(Kept.file == file).count() == 1
    assert await Kept.find(Kept.file == None).count() == 0  # noqa: E711
    assert await Kept.find(Kept.file != None).count() == 1  # noqa: E711


@pytest.mark.parametrize("value", OPERATORS, ids=repr)
async def test_odmantic_compares_a_file_with_a_value(
    bucket: Bucket, database: Database, connected: None, value: Any
) -> None:
    engine = AsyncEngine(database.client, database.name)
    file = bucket.file((await bucket.upload(b"secret")).id)
    await engine.save(KeptModel(file=file))  # type: ignore[call-arg]  # ODMantic has a default id
    with suppress(OperationFailure):  # the server refuses it, which is as good
        assert await engine.count(KeptModel, KeptModel.file == value) == 0
    assert await engine.count(KeptModel, KeptModel.file == file) == 1
