"""Files in GridFS for pandas, Arrow, zarr, Dask and other tools that open URLs (fsspec).

`pandas.read_parquet("gridfs://data/t.parquet", storage_options={"uri": ..., "database": ...})` reads the file
`t.parquet` of the bucket `data`.

```python
from gridproxy.adapters.fsspec import GridFSFileSystem
```
"""

from gridproxy.runtime.extras import require_for_import

require_for_import("fsspec", "fsspec", "gridproxy.adapters.fsspec")

from .async_file import AsyncGridFSFile
from .file import GridFSFile
from .filesystem import GridFSFileSystem

__all__ = ["AsyncGridFSFile", "GridFSFile", "GridFSFileSystem"]
