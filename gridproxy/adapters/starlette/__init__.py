"""Files served (RFC 9110) and received by Starlette and FastAPI, and errors as they are told there (RFC 9457).

What serves is a plain ASGI application, too.
"""

from .receiving import RequestBody, exception_handlers, problem_response
from .response import GridFileResponse

__all__ = ["GridFileResponse", "RequestBody", "exception_handlers", "problem_response"]
