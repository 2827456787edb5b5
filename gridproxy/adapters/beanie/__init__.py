"""Files in the documents of Beanie: mix in `FileDocument`."""

from gridproxy.runtime.extras import require_for_import

require_for_import("beanie", "beanie", "gridproxy.adapters.beanie")

from .document import FileDocument
from .fields import NotInitialised

__all__ = ["FileDocument", "NotInitialised"]
