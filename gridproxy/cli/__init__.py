"""gridproxy on the command line: ls, put, get, rm, stat, verify, check, gc. Needs the extra `cli` (click and rich).

`gridproxy --help`, and `gridproxy put --help`, tell what each command takes, in which units, and the exit codes.
`gridproxy.__main__` is where it starts.
"""

from .group import cli

__all__ = ["cli"]
