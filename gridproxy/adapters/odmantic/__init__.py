"""Files in ODMantic's models: mix `FileModel` in, and use `AsyncEngine` in the place of ODMantic's own."""

from .engine import AsyncEngine
from .model import FileModel
from .session import AsyncSession, AsyncTransaction

__all__ = ["AsyncEngine", "AsyncSession", "AsyncTransaction", "FileModel"]
