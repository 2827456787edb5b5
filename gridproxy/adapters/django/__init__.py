"""Files of Django in GridFS: a storage for `STORAGES`, and a view that answers ranges.

```python
from gridproxy.adapters.django import GridFSStorage, GridFSView
```
"""

from gridproxy.runtime.extras import require_for_import

require_for_import("django", "django", "gridproxy.adapters.django")

from .files import GridFSFile
from .storage import GridFSStorage, Links
from .views import GridFSView

__all__ = ["GridFSFile", "GridFSStorage", "GridFSView", "Links"]
