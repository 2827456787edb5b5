"""Files in the documents of Beanie: mix in `FileDocument`."""

from .document import FileDocument
from .fields import NotInitialised

__all__ = ["FileDocument", "NotInitialised"]
