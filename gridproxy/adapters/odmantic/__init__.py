"""Files in the models of ODMantic: mix in `FileModel`, and use `AsyncEngine` instead of `AIOEngine`."""

from gridproxy.runtime.extras import require_for_import

require_for_import("odmantic", "odmantic", "gridproxy.adapters.odmantic")

from .engine import AsyncEngine
from .model import FileModel
from .session import AsyncSession, AsyncTransaction

__all__ = ["AsyncEngine", "AsyncSession", "AsyncTransaction", "FileModel"]
