"""Files of Django in GridFS: a storage for `STORAGES`, and a view that answers ranges.

```python
from gridproxy.adapters.django import GridFSStorage, GridFSView
```
"""

from .files import GridFSFile
from .storage import GridFSStorage, Links
from .views import GridFSView

__all__ = ["GridFSFile", "GridFSStorage", "GridFSView", "Links"]
