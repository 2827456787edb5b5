"""Files in GridFS for code that does not await: scripts, notebooks, Celery tasks, Django views.

One thread of each process runs the event loop of all blocking calls. It starts with the first call and ends with the
program.

```python
from gridproxy.sync import Client
```
"""

from .bucket import Bucket
from .client import Client
from .file import GridFile
from .moving import export_files, import_files, transfer
from .resumable import ResumableUpload
from .streams import DownloadStream, NewFile, Reader, Writer

__all__ = [
    "Bucket",
    "Client",
    "DownloadStream",
    "GridFile",
    "NewFile",
    "Reader",
    "ResumableUpload",
    "Writer",
    "export_files",
    "import_files",
    "transfer",
]
