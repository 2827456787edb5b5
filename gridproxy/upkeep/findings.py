"""The results of `check` and `collect_garbage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

FindingKind = Literal[
    "orphan", "missing", "short", "long", "surplus", "double", "unreadable", "expired", "unreferenced", "dangling"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem that `Bucket.check` found.

    `id` is the file's id, as the record, the chunks or a document contain it. `reason` describes the problem. `kind` is

    - "orphan": chunks without a file, from an interrupted or a running upload (see `since`)
    - "missing", "short", "long", "double", "surplus": the chunks do not match the record. A surplus chunk is one beyond
      the end that is not empty
    - "unreadable": a record or a chunk that does not follow the GridFS specification
    - "expired": `expires_at` has passed
    - "unreferenced": no document points to the file
    - "dangling": the document with the `_id` `document` in `collection` points to a missing file at `path`

    `chunks` and `bytes` are the size of an orphan or an expired or unreferenced file, otherwise 0. `since` is the
    creation time of an orphan's youngest chunk, the upload time of an unreferenced file, or the time of expiry. It is
    in UTC, and None if unknown. `collection`, `document` and `path` are None for other kinds than "dangling".

    ```python
    async for finding in gridproxy.Bucket(client["zoo"]).check(references=[("animals", "photo")]):
        print(finding.kind, finding.id, finding.reason)
    ```
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
        """Return the finding as a dict with the keys that apply to its kind. Ids and datetimes are not converted."""
        values: dict[str, Any] = {"kind": self.kind, "id": self.id, "reason": self.reason}
        if self.kind in ("orphan", "expired", "unreferenced"):
            values.update(chunks=self.chunks, bytes=self.bytes, since=self.since)
        if self.kind == "dangling":
            values.update(collection=self.collection, document=self.document, path=self.path)
        return values


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of files, or of ids with chunks but no file, with their chunks and bytes. Tallies can be added.

    ```python
    assert gridproxy.Tally(1, 2, 300) + gridproxy.Tally(1, 1, 50) == gridproxy.Tally(2, 3, 350)
    ```
    """

    ids: int = 0
    chunks: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ids + other.ids, self.chunks + other.chunks, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageReport:
    """What `Bucket.collect_garbage` deleted, or would delete if `dry_run` is true.

    The tallies `orphans` (chunks without a file), `expired` and `unreferenced` were deleted. `young` orphans were kept,
    because their uploads may be running. Orphans of `unknown_age` were kept, because the `_id`s of their chunks contain
    no time (`bucket.discard(id)` deletes them). `contested` are the ids of files that another client published while
    their chunks were being deleted. Verify these files.

    ```python
    report = await gridproxy.Bucket(client["zoo"]).collect_garbage(dry_run=True)
    print(report.files, report.bytes, report.young.ids)
    ```
    """

    dry_run: bool
    orphans: Tally = Tally()
    expired: Tally = Tally()
    unreferenced: Tally = Tally()
    young: Tally = Tally()
    unknown_age: Tally = Tally()
    contested: tuple[object, ...] = ()

    @property
    def removed(self) -> Tally:
        """Everything that was or would be deleted. `ids` counts both files and orphans."""
        return self.orphans + self.expired + self.unreferenced

    @property
    def files(self) -> int:
        """The number of files that were or would be deleted."""
        return self.expired.ids + self.unreferenced.ids

    @property
    def chunks(self) -> int:
        """The number of chunks that were or would be deleted."""
        return self.removed.chunks

    @property
    def bytes(self) -> int:
        """The number of bytes that were or would be deleted."""
        return self.removed.bytes

    @property
    def by_reason(self) -> Mapping[str, Tally]:
        """The tallies of `removed` by the kind of the finding that `check` reports."""
        return MappingProxyType({"orphan": self.orphans, "expired": self.expired, "unreferenced": self.unreferenced})

    def as_dict(self) -> dict[str, Any]:
        """Return the report as dicts and numbers. Contested ids are not converted."""
        parts = ("orphans", "expired", "unreferenced", "young", "unknown_age")
        totals = {"dry_run": self.dry_run, "files": self.files, "chunks": self.chunks, "bytes": self.bytes}
        tallies = {name: asdict(getattr(self, name)) for name in parts}
        return {**totals, **tallies, "contested": list(self.contested)}
