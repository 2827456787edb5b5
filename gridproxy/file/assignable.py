"""The type of a field to which content is assigned, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .file import AsyncGridFile

if TYPE_CHECKING:
    from bson import ObjectId

    from gridproxy.gridfs.upload.sources import SourceLike

    class AssignableFile:
        """`AsyncGridFile`, with a second type for assignments. Both names are one class at run time."""

        def __get__(self, instance: object, owner: type[object] | None = None) -> AsyncGridFile: ...

        def __set__(self, instance: object, value: AsyncGridFile | SourceLike | ObjectId | None) -> None: ...

else:
    AssignableFile = AsyncGridFile
