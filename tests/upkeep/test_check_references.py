"""`Bucket.check(references=...)`: files that no document points to, and documents that point to no file."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio.to_thread
import gridfs
import pytest
from bson import DBRef, ObjectId
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import BadOption, Bucket, Finding
from gridproxy.upkeep.document_paths import ids_at, parse_references

Database = AsyncDatabase[dict[str, Any]]

ANIMALS = [("animals", "photo")]


@pytest.fixture
def bucket(database: Database) -> Bucket:
    return Bucket(database)


async def found(bucket: Bucket, references: Any = ANIMALS, **options: Any) -> list[Finding]:
    return [finding async for finding in bucket.check(references=references, **options)]


async def kinds(bucket: Bucket, references: Any = ANIMALS, **options: Any) -> list[tuple[str, object]]:
    return [(finding.kind, finding.id) for finding in await found(bucket, references, **options)]


# Places of ids in a document


@pytest.mark.parametrize(
    ("document", "path", "ids"),
    [
        ({"photo": 1}, "photo", [1]),
        ({"photo": None}, "photo", []),
        ({}, "photo", []),
        ({"photo": {"_id": 1, "filename": "a", "metadata": {"x": 2}}}, "photo", [1]),
        ({"photo": {"_id": None}}, "photo", []),
        ({"photo": DBRef("fs.files", 1)}, "photo", [1]),
        ({"photos": [1, None, {"_id": 2}, [3]]}, "photos", [1, 2, 3]),
        ({"photos": {"front": 1, "back": {"_id": 2}, "rest": [3, 4], "none": None}}, "photos", [1, 2, 3, 4]),
        ({"a": {"b": {"c": 1}}}, "a.b.c", [1]),
        ({"a": [{"b": 1}, {"b": [2, 3]}, {"c": 9}, 9]}, "a.b", [1, 2, 3]),
        ({"a": [[{"b": 1}], [{"b": 2}]]}, "a.b", [1, 2]),
        ({"a": {"x": {"b": 1}, "y": {"b": 2}, "z": 9}}, "a.*.b", [1, 2]),
        ({"a": {"*": {"b": 1}, "y": {"b": 2}}}, "a.*.b", [1]),
        ({"a": [5, 6, 7]}, "a.1", [6]),
        ({"a": [5, 6, 7]}, "a.3", []),
        ({"a": {"1": 5}}, "a.1", [5]),
        ({"a": 1}, "a.b", []),
    ],
)
def test_every_id_at_the_end_of_a_path_is_found(document: dict[str, Any], path: str, ids: list[int]) -> None:
    assert list(ids_at(document, path.split("."))) == ids


@pytest.mark.parametrize(
    ("path", "field"), [("a.b", "a.b"), ("a.*.b", "a"), ("a.0.b", "a"), ("*.b", ""), ("a.b.*", "a.b")]
)
async def test_as_much_of_a_path_is_asked_for_as_a_query_can_name(database: Database, path: str, field: str) -> None:
    [reference] = parse_references(Bucket(database).store, [("animals", path)])
    assert reference.field == field
    assert reference.projection == ({field: 1} if field else None)


@pytest.mark.parametrize(
    "references",
    ["animals", {"animals": "photo"}, 7, ["animals.photo"], [("animals",)], [(7, "photo")], [("", "photo")]]
    + [[("animals", path)] for path in ("", "a..b", ".a", None)],
)
async def test_an_invalid_reference_is_refused_at_the_call(bucket: Bucket, references: Any) -> None:
    with pytest.raises(BadOption, match=r"reference"):
        bucket.check(references=references)


async def test_a_collection_of_another_client_is_refused(bucket: Bucket, mongodb_uri: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as other:
        with pytest.raises(BadOption, match="must have the same client"):
            bucket.check(references=[(other["zoo"]["animals"], "photo")])


# Both directions


async def test_files_and_documents_that_point_to_each_other_are_no_finding(bucket: Bucket, database: Database) -> None:
    ids = [info.id for info in await bucket.upload_many([b"x"] * 9)]
    info = await bucket.stat(ids[1])
    await database["animals"].insert_many(
        [
            {"photo": ids[0]},
            {"photo": info.snapshot()},
            {"photo": str(ids[2])},
            {"photo": None},
            {"name": "none"},
            {"photo": [ids[3], {"_id": ids[4]}]},
        ]
    )
    await database["zoos"].insert_one(
        {"rooms": [{"pictures": {"front": ids[5]}}, {"pictures": {}}], "plans": {"a": {"file": str(ids[6])}}}
    )
    await database["other"].insert_one({"by": {"deep": [{"x": [ids[7], ids[8]]}]}})
    references = [*ANIMALS, ("zoos", "rooms.pictures"), ("zoos", "plans.*.file"), (database["other"], "by.deep.x")]
    assert await found(bucket, references) == []
    assert sorted(await kinds(bucket)) == sorted(("unreferenced", id) for id in ids[5:])


async def test_a_file_that_no_document_points_to(bucket: Bucket, database: Database) -> None:
    kept, stray = await bucket.upload_many([b"kept", b"stray"])
    await database["animals"].insert_one({"photo": kept.id})
    [finding] = await found(bucket)
    assert (finding.kind, finding.id, finding.chunks, finding.bytes) == ("unreferenced", stray.id, 1, 5)
    assert finding.since == stray.upload_date
    assert finding.reason == "no document points to it"
    assert await found(bucket, older_than=timedelta(minutes=5)) == []


async def test_without_references_no_document_is_read(bucket: Bucket) -> None:
    await bucket.upload(b"stray")
    assert await found(bucket, None) == []
    assert await found(bucket, []) == []


async def test_a_document_that_points_to_no_file(bucket: Bucket, database: Database) -> None:
    gone = ObjectId()
    await database["animals"].insert_many(
        [{"_id": "a", "photo": gone}, {"_id": "b", "photo": str(gone)}, {"_id": "c", "photo": {"_id": gone}}]
    )
    findings = await found(bucket)
    assert [(finding.kind, finding.document, finding.id) for finding in findings] == [
        ("dangling", "a", gone),
        ("dangling", "b", str(gone)),
        ("dangling", "c", gone),
    ]
    assert findings[0].reason == "the file is missing, but 'photo' of 'a' in 'animals' points to it"
    assert findings[0].as_dict() == {
        "kind": "dangling",
        "id": gone,
        "reason": findings[0].reason,
        "collection": "animals",
        "document": "a",
        "path": "photo",
    }


async def test_ids_of_every_kind_find_their_files(bucket: Bucket, database: Database) -> None:
    ids: list[Any] = ["name", 7, 7.5, {"a": 1}, b"raw", "5f" * 12]
    for id in ids:
        await bucket.upload(b"x", id=id)
    # A mapping without `_id` would be read as a map, so this id is in a snapshot.
    await database["animals"].insert_many([{"photo": {"_id": id}} for id in ids])
    assert await found(bucket) == []


async def test_many_documents_and_files_in_small_pages(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridproxy.upkeep.bucket_scanner._DOCUMENTS_PER_PAGE", 3)
    monkeypatch.setattr("gridproxy.upkeep.document_paths.IDS_PER_QUERY", 2)
    monkeypatch.setattr("gridproxy.upkeep.document_paths._CANDIDATES", 4)
    ids = [info.id for info in await bucket.upload_many([b"x"] * 13)]
    gone = [ObjectId() for _ in range(5)]
    await database["animals"].insert_many([{"photo": id} for id in [*ids[:10], *gone]])
    expected = [("dangling", id) for id in gone] + [("unreferenced", id) for id in ids[10:]]
    assert await kinds(bucket) == expected


async def test_an_expired_file_is_not_unreferenced_too(bucket: Bucket) -> None:
    info = await bucket.upload(b"x", expires_after=-5)
    assert await kinds(bucket) == [("expired", info.id)]


async def test_an_unreadable_record_can_be_unreferenced(bucket: Bucket, database: Database) -> None:
    await database["fs.files"].insert_one({"_id": 1, "length": "x"})
    unreadable, stray = await found(bucket)
    assert (unreadable.kind, stray.kind, stray.chunks, stray.bytes, stray.since) == (
        "unreadable",
        "unreferenced",
        0,
        0,
        None,
    )


# A document that is saved during the check


async def test_a_document_that_was_saved_with_another_file_is_not_reported(
    bucket: Bucket, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridproxy.upkeep.bucket_scanner import BucketScanner

    old, new = [info.id for info in await bucket.upload_many([b"old", b"new"])]
    gone = ObjectId()
    await database["animals"].insert_many([{"_id": 1, "photo": old}, {"_id": 2, "photo": gone}])
    stored = BucketScanner.stored

    async def saved_before(self: BucketScanner, ids: Any) -> Any:
        if gone in list(ids):  # the documents were read by now
            await database["animals"].update_one({"_id": 1}, {"$set": {"photo": new}})
            await database["animals"].delete_one({"_id": 2})
            await bucket.delete_many([old])
        return await stored(self, ids)

    monkeypatch.setattr(BucketScanner, "stored", saved_before)
    assert await found(bucket) == []


# Files that point to files


async def test_a_picture_of_a_document_holds_its_thumbnails(bucket: Bucket, database: Database) -> None:
    thumbnail, small, large = [info.id for info in await bucket.upload_many([b"t", b"s", b"l"])]
    picture = await bucket.upload(
        b"p", metadata={"thumbnail_id": thumbnail, "variants": {"small": small, "large": str(large)}}
    )
    stray_thumbnail = (await bucket.upload(b"t2")).id
    stray = await bucket.upload(b"p2", metadata={"thumbnail_id": stray_thumbnail})
    await database["animals"].insert_one({"photo": picture.id})
    assert sorted(await kinds(bucket)) == sorted([("unreferenced", stray.id), ("unreferenced", stray_thumbnail)])
    await database["animals"].delete_many({})
    everything = [thumbnail, small, large, picture.id, stray.id, stray_thumbnail]
    assert sorted(await kinds(bucket)) == sorted(("unreferenced", id) for id in everything)


async def test_a_chain_of_files_hangs_on_its_first_and_a_ring_on_nothing(bucket: Bucket, database: Database) -> None:
    last = (await bucket.upload(b"last")).id
    middle = (await bucket.upload(b"middle", metadata={"thumbnail_id": last})).id
    first = (await bucket.upload(b"first", metadata={"thumbnail_id": middle})).id
    ring = ObjectId()
    await bucket.upload(b"ring", id=ring, metadata={"thumbnail_id": ring})
    await database["animals"].insert_one({"photo": first})
    assert await kinds(bucket) == [("unreferenced", ring)]


async def test_a_picture_without_its_thumbnail_is_dangling_and_other_metadata_are_not(
    bucket: Bucket, database: Database
) -> None:
    gone = ObjectId()
    picture = await bucket.upload(b"p", metadata={"thumbnail_id": gone, "variants": {"colour": "red", "size": 7}})
    await database["animals"].insert_one({"photo": picture.id})
    [finding] = await found(bucket)
    assert (finding.kind, finding.id, finding.document, finding.collection, finding.path) == (
        "dangling",
        gone,
        picture.id,
        "fs.files",
        "metadata.thumbnail_id",
    )


async def test_thumbnails_as_mongoengine_keeps_them_are_held_too(
    bucket: Bucket, mongodb_uri: str, database: Database
) -> None:
    def write() -> tuple[ObjectId, ObjectId]:
        with MongoClient[dict[str, Any]](mongodb_uri) as client:
            grid = gridfs.GridFS(client[database.name])
            thumbnail = grid.put(b"small")
            # `ImageGridFsProxy.put` stores further keywords at the top level of the record.
            return grid.put(b"large", width=10, height=10, format="PNG", thumbnail_id=thumbnail), thumbnail

    image, thumbnail = await anyio.to_thread.run_sync(write)
    await database["animals"].insert_one({"photo": image})
    assert await found(bucket) == []
    await database["animals"].delete_many({})
    assert sorted(await kinds(bucket)) == sorted([("unreferenced", image), ("unreferenced", thumbnail)])


async def test_progress_counts_documents_and_records(bucket: Bucket, database: Database) -> None:
    calls: list[tuple[int, int | None]] = []
    info = await bucket.upload(b"x")
    await database["animals"].insert_many([{"photo": info.id}] + [{"photo": None} for _ in range(4)])
    assert await found(bucket, progress=lambda done, total: calls.append((done, total))) == []
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] == 12
