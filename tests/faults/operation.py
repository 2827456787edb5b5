"""One thing that users do with files: made ready, done, looked at afterwards, and done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gridproxy import Bucket

__all__ = ["LARGE", "OLD", "SMALL", "TWO", "Contents", "OfStored", "Operation", "Scene"]

# In chunks of 1024 bytes, two to a batch:
SMALL = b"one request" * 150  # a chunk and a half
LARGE = bytes(range(256)) * 14  # three chunks and a half: two batches
OLD = b"the old file" * 200
TWO = b"two"

# The contents of all files in a bucket, sorted.
Contents = tuple[bytes, ...]


@dataclass(frozen=True)
class Scene:
    """One bucket, seen through the link that breaks and past it; nobody else works in its database."""

    bucket: Bucket
    well: Bucket
    folder: Path


class Operation:
    """Made for one scene and one trial.

    `before` and `after` are what lies in the bucket, `between` what may while an error has cut the work short.
    `id` is the caller's id for the file that the work stores, where it stores one under such an id.
    """

    name: ClassVar[str]
    id: object = None
    before: ClassVar[Contents] = ()
    between: ClassVar[Sequence[Contents]] = ()
    after: ClassVar[Contents] = ()
    staged: ClassVar[tuple[int, int]] = (0, 0)  # ids with chunks and no record, before and after
    all_or_nothing: ClassVar[bool] = True  # an error means that nothing was done, unless it says otherwise
    documents: ClassVar[Sequence[str]] = ()  # the collections of them
    changes: ClassVar[bool] = True  # whether what was prepared is used up by one trial

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def prepare(self) -> None:
        """Store what the operation needs, past the link."""

    async def run(self) -> None:
        """Through the link."""
        raise NotImplementedError

    async def look(self, error: BaseException | None) -> None:
        """Whether the objects in the user's hands agree with what happened."""

    async def again(self, error: BaseException) -> None:
        """Do what the documentation says after this error. It has to succeed, whatever the operation left."""
        await self.run()


class OfStored(Operation):
    """Something that is done to a file that is there."""

    before: ClassVar[Contents] = (LARGE,)
    after: ClassVar[Contents] = (LARGE,)

    async def prepare(self) -> None:
        info = await self.scene.well.upload(LARGE, filename="old name", metadata={"a": 1})
        self.file = self.scene.bucket.file(info.id)
