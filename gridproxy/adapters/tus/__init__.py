"""Resumable uploads over HTTP with the tus protocol (https://tus.io), for tus-js-client, Uppy, tuspy and others.

```python
from gridproxy.adapters.tus import TusApp
```
"""

from gridproxy.runtime.extras import require_for_import

require_for_import("starlette", "starlette", "gridproxy.adapters.tus")

from .tus_app import TusApp

__all__ = ["TusApp"]
