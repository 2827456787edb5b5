"""Serve (RFC 9110) and receive files with Starlette and FastAPI, and answer errors (RFC 9457).

`FilesApp` serves a whole bucket. It and `GridFileResponse` are plain ASGI applications.

```python
from gridproxy.adapters.starlette import FilesApp, GridFileResponse, RequestBody, SignedLinks, problem_response
```
"""

from gridproxy.runtime.extras import require_for_import

require_for_import("starlette", "starlette", "gridproxy.adapters.starlette")

from .authorize import Authorize, Grant
from .files_app import AppOptions, FilesApp
from .openapi import file_responses, upload_body
from .receiving import RequestBody, exception_handlers, problem_response
from .response import GridFileResponse
from .signed_links import SignedLinks

__all__ = [
    "AppOptions",
    "Authorize",
    "FilesApp",
    "Grant",
    "GridFileResponse",
    "RequestBody",
    "SignedLinks",
    "exception_handlers",
    "file_responses",
    "problem_response",
    "upload_body",
]
