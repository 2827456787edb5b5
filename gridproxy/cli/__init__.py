"""The command line: ls, put, get, rm, stat, verify, check, gc, shard. Needs the extra `cli` (click and rich).

`gridproxy --help` and `gridproxy put --help` list the arguments, their units, and the exit codes. The entry point is
`gridproxy.__main__`.
"""

from .group import cli

__all__ = ["cli"]
