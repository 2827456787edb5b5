"""Files in Beanie's documents: mix `FileDocument` in."""

from .document import FileDocument
from .fields import NotInitialised

__all__ = ["FileDocument", "NotInitialised"]
