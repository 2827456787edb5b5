"""What upkeep tells: a finding of `check`, and the report of `collect_garbage`; values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

FindingKind = Literal[
    "orphan",
    "missing",
    "short",
    "long",
    "surplus",
    "double",
    "unreadable",
    "expired",
    "unreferenced",
    "dangling",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    `id` is the file's id, in whatever form it was found: of the record, under which the chunks lie, or that a document
    points to. `reason` says in words what is wrong with it. `kind` is one of

    - "orphan": chunks without a file: an upload that was cut off, or one that is running at this moment (see `since`);
    - "missing", "short", "long", "double", "surplus": the file's chunks are not those that its record promises
      (surplus is a chunk past the end that is not empty; an empty one is legal);
    - "unreadable": a record or a chunk that is none of GridFS's;
    - "expired": its `expires_at` has passed;
    - "unreferenced": no document points to the file;
    - "dangling": the document `document` of `collection` points to no file, with its `path`.

    `chunks` and `bytes` say how much of it lies there, for an orphan and an expired or unreferenced file; else 0.
    `since` is when an orphan's youngest chunk was made, when an unreferenced file was uploaded, or the moment of
    expiry; aware, in UTC, None where that cannot be known. `collection`, `document` (its `_id`) and `path` are None but
    for a dangling one.
    """

    kind: FindingKind
    id: object
    reason: str
    chunks: int = 0
    bytes: int = 0
    since: datetime | None = None
    collection: str | None = None
    document: object = None
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.id!r}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """The same as a dict, without what does not apply; ids and moments as they are."""
        shown: dict[str, Any] = {"kind": self.kind, "id": self.id, "reason": self.reason}
        if self.kind in ("orphan", "expired", "unreferenced"):
            shown.update(chunks=self.chunks, bytes=self.bytes, since=self.since)
        if self.kind == "dangling":
            shown.update(collection=self.collection, document=self.document, path=self.path)
        return shown


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of something: `ids` are files, or ids under which chunks without a file lie, `chunks` and `bytes` what
    lies under them. Tallies can be added.
    """

    ids: int = 0
    chunks: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ids + other.ids, self.chunks + other.chunks, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageReport:
    """What `collect_garbage` removed, or would remove where `dry_run` is true; each a `Tally` of ids, chunks and bytes.

    By reason: `orphans` (chunks without a file), `expired` and `unreferenced` files. And what it left: `young` orphans,
    which may be running uploads; orphans of `unknown_age`, whose chunks have `_id`s that tell no time
    (`bucket.discard(id)` removes those); and `contested`, the ids under which a record appeared at the last moment,
    since what was staged long ago was published just then: `verify` tells whether such a file is whole.
    """

    dry_run: bool
    orphans: Tally = field(default_factory=Tally)
    expired: Tally = field(default_factory=Tally)
    unreferenced: Tally = field(default_factory=Tally)
    young: Tally = field(default_factory=Tally)
    unknown_age: Tally = field(default_factory=Tally)
    contested: tuple[object, ...] = ()

    @property
    def removed(self) -> Tally:
        """All that was removed, or would be; `ids` counts files and orphans' ids together."""
        return self.orphans + self.expired + self.unreferenced

    @property
    def files(self) -> int:
        """How many files were removed, or would be."""
        return self.expired.ids + self.unreferenced.ids

    @property
    def chunks(self) -> int:
        """How many chunks were removed, or would be."""
        return self.removed.chunks

    @property
    def bytes(self) -> int:
        """How many bytes were removed, or would be."""
        return self.removed.bytes

    @property
    def by_reason(self) -> Mapping[str, Tally]:
        """What was removed, or would be, under the kinds that `check` gives it."""
        return MappingProxyType({"orphan": self.orphans, "expired": self.expired, "unreferenced": self.unreferenced})

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts and numbers, under the same names; contested ids as they are."""
        parts = ("orphans", "expired", "unreferenced", "young", "unknown_age")
        tallies = {name: getattr(self, name) for name in parts}
        return {
            "dry_run": self.dry_run,
            "files": self.files,
            "chunks": self.chunks,
            "bytes": self.bytes,
            **{name: {"ids": each.ids, "chunks": each.chunks, "bytes": each.bytes} for name, each in tallies.items()},
            "contested": list(self.contested),
        }
