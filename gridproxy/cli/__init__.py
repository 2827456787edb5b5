"""gridproxy on the command line: ls, put, get, rm, stat, verify, check, gc. Needs the extra `cli` (click and rich).

`gridproxy.__main__` is where it starts.
"""

from .group import cli

__all__ = ["cli"]
