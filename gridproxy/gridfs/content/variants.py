"""How the record of a picture and the records of its smaller variants refer to each other.

A picture's metadata have the ids of its variants (`thumbnail_id`, which is MongoEngine's key, and `variants.<name>`).
Each variant's metadata have `variant_of`, so that a forged record cannot make gridproxy remove an unrelated file.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from gridproxy.gridfs.records.ids import id_key

MOST_VARIANTS = 100


def picture_keys() -> frozenset[str]:
    """Return the metadata keys that are reserved in the record of a picture."""
    return frozenset({"width", "height", "format", "thumbnail_id", "variants", "variant_of"})


def without_references(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata for another file with the same bytes: those of a picture without its variants."""
    references = {"thumbnail_id", "variants", "variant_of"} if _is_picture(metadata) else set()
    return {key: value for key, value in metadata.items() if key not in references}


def without_picture_keys(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata for a file with other bytes: those of a picture without what was measured and stored."""
    computed = picture_keys() if _is_picture(metadata) else ()
    return {key: value for key, value in metadata.items() if key not in computed}


def _is_picture(metadata: Mapping[str, Any]) -> bool:
    return {"width", "height", "format"} <= metadata.keys()


def thumbnail_id(metadata: Mapping[str, Any], extra: Mapping[str, Any]) -> object:
    """Return the thumbnail's id or None. MongoEngine stored it at the top level of the record, which is `extra`."""
    return metadata.get("thumbnail_id", extra.get("thumbnail_id"))


def named_variants(metadata: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the ids of the other variants by their names."""
    variants = metadata.get("variants")
    return variants if isinstance(variants, Mapping) else {}


def variant_ids(record: Mapping[str, Any]) -> list[object]:
    """Return the ids of the variants of the picture in this `files` document, each once, and at most `MOST_VARIANTS`.

    A client that edits metadata can name any number of files there, and each of them costs a round trip.
    """
    metadata = record.get("metadata")
    if not isinstance(metadata, Mapping):
        metadata = {}
    ids = [thumbnail_id(metadata, record), *named_variants(metadata).values()]
    found: dict[Hashable, object] = {}
    for id in ids:
        if id is not None and len(found) < MOST_VARIANTS:
            found.setdefault(id_key(id), id)
    return list(found.values())


def legacy_thumbnail() -> dict[str, Any]:
    """Return the query for a thumbnail of MongoEngine, which does not name its picture: see `is_legacy_thumbnail`."""
    absent = {"$exists": False}
    return {"width": {"$exists": True}, "thumbnail_id": absent, "filename": None, "metadata.variant_of": absent}


def is_legacy_thumbnail(record: Mapping[str, Any]) -> bool:
    """Return whether the `files` document is that of a thumbnail of MongoEngine.

    Other files are not: MongoEngine gives each picture a `thumbnail_id`, if only a null, and no other file a width.
    """
    metadata = record.get("metadata")
    named = isinstance(metadata, Mapping) and "variant_of" in metadata
    return "width" in record and "thumbnail_id" not in record and record.get("filename") is None and not named
