"""Names of parametrized tests: the same in every process, so that pytest-xdist's workers agree on them."""

from __future__ import annotations

import re

__all__ = ["shown"]

_VARYING = re.compile(r" at 0x[0-9a-f]+|\b[0-9a-f]{24}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def shown(value: object) -> str:
    """Return the value's `repr` without addresses and without ids that change each time."""
    return _VARYING.sub("", repr(value))
