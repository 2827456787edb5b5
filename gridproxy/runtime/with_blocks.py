"""Whether an exception ends a `with` block, for a file that something closes without passing the exception on."""

from __future__ import annotations

import dis
import inspect
import sys

_LEAVING_BLOCK = dis.opmap["WITH_EXCEPT_START"]


def error_that_ends_block(known: BaseException | None) -> BaseException | None:
    """Return the exception if the caller runs because one ended a `with` block.

    `io`, pandas and fsspec close a file then as after a success. `known` is an exception that was handled already when
    the file was opened.
    """
    error = sys.exception()
    if error is None or error is known:
        return None
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == _LEAVING_BLOCK:
            return error
        frame = frame.f_back
    return None
