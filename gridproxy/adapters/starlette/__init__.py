"""Serve (RFC 9110) and receive files with Starlette and FastAPI, and answer errors (RFC 9457).

`GridFileResponse` is also a plain ASGI application.

```python
from gridproxy.adapters.starlette import GridFileResponse, RequestBody, problem_response
```
"""

from .receiving import RequestBody, exception_handlers, problem_response
from .response import GridFileResponse

__all__ = ["GridFileResponse", "RequestBody", "exception_handlers", "problem_response"]
