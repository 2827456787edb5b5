"""What this machine, or the container, has."""

from __future__ import annotations

import contextlib
import functools
import os

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_USUAL = 4 * 1024**3


@functools.cache
def available_memory() -> int:
    """Return the bytes of memory of the machine, or of the container if it has less."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for name in _CGROUPS:
        with contextlib.suppress(OSError, ValueError), open(name, "rb") as file:
            found.append(int(file.read()))
    return min((each for each in found if each > 0), default=_USUAL)
