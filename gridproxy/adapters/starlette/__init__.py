"""Files served and received by Starlette and FastAPI; what serves is a plain ASGI application, too."""

from .receiving import RequestBody, exception_handlers, problem_response
from .response import GridFileResponse

__all__ = ["GridFileResponse", "RequestBody", "exception_handlers", "problem_response"]
