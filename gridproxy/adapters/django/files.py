"""An open file of a storage."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any

from django.core.files.base import File

from gridproxy.sync import Reader, Writer


class GridFSFile(File):
    """An open file of a `GridFSStorage`. `storage.open(name)` returns it.

    A file that is written becomes visible when it is closed, and the older revisions of its name are removed then. If
    an exception ends the `with` block, the old file stays.

    ```py
    with storage.open("notes.txt", "w") as file:
        file.write("some text")
    ```
    """

    file: IO[Any]

    def __init__(
        self, name: str, mode: str, read: Callable[[], Reader], write: Callable[[], tuple[Writer, Callable[[], object]]]
    ) -> None:
        self._read = read
        self._write = write
        self._raw: Reader | Writer
        self._stored: Callable[[], object] | None = None
        super().__init__(self._opened(mode), name)
        self.mode: str = mode

    def _opened(self, mode: str) -> IO[Any]:
        if mode not in ("r", "rt", "rb", "w", "wt", "wb"):
            raise ValueError(f"a file in GridFS is opened with 'rb', 'r', 'wb' or 'w', not {mode!r}")
        if "r" in mode:
            self._raw = self._read()
        else:
            self._raw, self._stored = self._write()
        return self._raw if "b" in mode else io.TextIOWrapper(self._raw, "utf-8")

    def open(self, mode: str | None = None) -> GridFSFile:
        """Move to the start, or open the file again if it was closed.

        Args:
            mode: The mode of a file that is opened again. None for that of before.
        """
        if not self.closed and mode in (None, self.mode):
            self.seek(0)
        else:
            self.close()
            self.mode = mode or self.mode
            self.file = self._opened(self.mode)
        return self

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self._raw.info.length if isinstance(self._raw, Reader) else self._raw.tell()

    def close(self) -> None:
        """Close the file. A file that was written becomes visible, unless an exception ends the `with` block."""
        self.file.close()
        stored, self._stored = self._stored, None
        if stored is not None and self._raw.info is not None:
            stored()
