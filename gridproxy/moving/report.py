"""What became of the files that were transferred, exported or imported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gridproxy.runtime.progress import Progress, report


@dataclass(frozen=True, slots=True)
class UnmovedFile:
    """A file that stays where it was, with the reason in words.

    Attributes:
        id: The id of the file in its source.
        filename: Its name, or None.
        reason: Why it was not moved.

    ```python
    report = await gridproxy.transfer(bucket, gridproxy.Bucket(client["zoo"], "archive"))
    for file in report.failed:
        print(file.id, file.filename, file.reason)
    ```
    """

    id: object
    filename: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """What `transfer`, `export_files` or `import_files` did.

    Attributes:
        transferred: How many files were stored in the target.
        skipped: How many files were in the target already, whole and with the same record.
        removed: How many files were removed from the source.
        bytes: The bytes of the transferred files.
        different: Files that are in the target already and differ there. They were not changed.
        failed: Files that could not be moved, such as damaged ones. Nothing of them is left in the target.

    ```python
    report = await gridproxy.transfer(bucket, gridproxy.Bucket(client["zoo"], "archive"))
    assert report.ok, (report.different, report.failed)
    print(report.transferred, report.bytes)
    ```
    """

    transferred: int = 0
    skipped: int = 0
    removed: int = 0
    bytes: int = 0
    different: tuple[UnmovedFile, ...] = ()
    failed: tuple[UnmovedFile, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every file is in the target now."""
        return not self.different and not self.failed

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dict of numbers and lists. Ids are not converted."""
        return {
            **asdict(self),
            "different": list(map(asdict, self.different)),
            "failed": list(map(asdict, self.failed)),
        }


class Tallies:
    """The counts of a transfer that runs, and its progress in bytes."""

    def __init__(self, progress: Progress | None = None, total: int | None = None) -> None:
        self.transferred: int = 0
        self.skipped: int = 0
        self.removed: int = 0
        self.bytes: int = 0
        self._different: list[UnmovedFile] = []
        self._failed: list[UnmovedFile] = []
        self._progress = progress
        self._total = total
        self._done = 0  # bytes of files that are over
        self._partly: dict[int, int] = {}  # bytes of files that are being sent

    def add_different(self, file: UnmovedFile) -> None:
        """Note a file that differs in the target."""
        self._different.append(file)

    def add_failed(self, file: UnmovedFile) -> None:
        """Note a file that could not be moved."""
        self._failed.append(file)

    async def advance(self, size: int) -> None:
        """Report that files of `size` bytes are over, whatever became of them."""
        self._done += size
        await self._report()

    def of_one(self, key: int) -> Progress | None:
        """Return the progress callback for one large file, which `end_of` ends."""
        if self._progress is None:
            return None

        async def advance(done: int, _: int | None) -> None:
            self._partly[key] = done
            await self._report()

        return advance

    def end_of(self, key: int) -> None:
        """Forget the bytes of a large file that is over."""
        self._partly.pop(key, None)

    async def _report(self) -> None:
        done = self._done + sum(self._partly.values())
        await report(self._progress, done, None if self._total is None else max(done, self._total))

    def report(self) -> TransferReport:
        """Return the counts as they are now."""
        return TransferReport(
            transferred=self.transferred,
            skipped=self.skipped,
            removed=self.removed,
            bytes=self.bytes,
            different=tuple(self._different),
            failed=tuple(self._failed),
        )
