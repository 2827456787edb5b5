"""Variants: the smaller pictures that belong to a stored one, and how their records name each other.

A picture's record has the ids in its metadata (`thumbnail_id`, MongoEngine's own key, and `variants.<name>`), and each
variant's says `variant_of`: so whatever somebody writes into a record removes no file but its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What the metadata of a picture say of itself.
MEASURES = ("width", "height", "format")


def picture_keys() -> frozenset[str]:
    """The metadata keys that are written here, and cannot be given to a picture."""
    return frozenset({*MEASURES, "thumbnail_id", "variants", "variant_of"})


def thumbnail_id(metadata: Mapping[str, Any], extra: Mapping[str, Any]) -> object:
    """The thumbnail's id, None where there is none; `extra` has it where MongoEngine wrote the record."""
    return metadata.get("thumbnail_id", extra.get("thumbnail_id"))


def named_variants(metadata: Mapping[str, Any]) -> Mapping[str, object]:
    """The ids of the other variants by their names."""
    variants = metadata.get("variants")
    return variants if isinstance(variants, Mapping) else {}


def variant_ids(record: Mapping[str, Any]) -> list[object]:
    """The ids of all that belongs to the picture of this `files` document."""
    metadata = record.get("metadata")
    if not isinstance(metadata, Mapping):
        metadata = {}
    ids = [thumbnail_id(metadata, record), *named_variants(metadata).values()]
    return [id for id in ids if id is not None]
